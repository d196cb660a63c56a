//! The committed header is the one that the sources give.

use std::fs;
use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config};

/// In the order in which the header tells of them.
const SOURCES: [&str; 10] =
    ["status", "error", "buf", "context", "config", "handle", "token", "batch", "foreign", "secret"];

#[test]
fn it_is_generated() {
    let generated = generate();
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vault.h");
    fs::write(&made, &generated).unwrap();
    let committed = fs::read_to_string(root().join("include/vault.h")).unwrap_or_default();
    assert!(generated == committed, "include/vault.h is out of date: cp {} vault-ffi/include/", made.display());
}

fn generate() -> String {
    let root = root();
    let mut builder = Builder::new().with_config(Config::from_file(root.join("cbindgen.toml")).unwrap());
    for name in SOURCES {
        builder = builder.with_src(root.join("src").join(name).with_extension("rs"));
    }
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    let header = String::from_utf8(header).unwrap();
    // The rules are the first comment; Rust wants them named at each call.
    header.replace("//\n// # Safety\n//\n// The rules of the header.\n", "")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
