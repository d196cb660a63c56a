//! The committed headers are the ones that the sources give.

use std::fs;
use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config};

/// In the order in which the header tells of them.
const SOURCES: [&str; 10] =
    ["status", "error", "buf", "context", "config", "handle", "token", "batch", "legacy", "secret"];

#[test]
fn it_is_generated() {
    compare(&root(), "vault.h", &SOURCES);
}

#[test]
fn that_of_the_testing_library_is_generated() {
    compare(&root().join("testing"), "vault_testing.h", &["lib"]);
}

fn compare(package: &Path, name: &str, sources: &[&str]) {
    let mut builder = Builder::new().with_config(Config::from_file(package.join("cbindgen.toml")).unwrap());
    for source in sources {
        builder = builder.with_src(package.join("src").join(source).with_extension("rs"));
    }
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    // The rules are the first comment; Rust wants them named at each call.
    let rules = "//\n// # Safety\n//\n// The rules of the header.\n";
    let generated = String::from_utf8(header).unwrap().replace(rules, "");
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&made, &generated).unwrap();
    let committed = package.join("include").join(name);
    let same = fs::read_to_string(&committed).is_ok_and(|committed| committed == generated);
    assert!(same, "out of date: cp {} {}", made.display(), committed.display());
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
