//! What a program in C or C++ does right and wrong, and what the library exports.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::c;

#[test]
fn it_holds_in_c99() {
    run("abi", c::Language::C99);
}

#[test]
fn it_holds_in_cpp() {
    run("abi-cpp", c::Language::Cpp);
}

#[test]
fn freed_buffers_are_zero() {
    let program = c::compile("wiped", &c::tests().join("ffi/wiped.c"), c::Language::C99);
    let directory = texts();
    let output = c::command(&program).arg(directory.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_example_of_the_readme_runs() {
    let readme = fs::read_to_string(c::tests().join("../README.md")).unwrap();
    let example = readme.split("```c\n").nth(1).unwrap().split("```").next().unwrap();
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme.c");
    fs::write(&source, example).unwrap();
    for (name, language) in [("readme", c::Language::C99), ("readme-cpp", c::Language::Cpp)] {
        let program = c::compile(name, &source, language);
        let output =
            c::command(&program).arg(c::tests().join("conformance/fixtures/texts/keys/kek_1")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, b"correct horse\n");
    }
}

#[test]
fn the_example_of_the_integration_page_runs() {
    let page = fs::read_to_string(c::tests().join("../docs/INTEGRATION.md")).unwrap();
    let part = |language: &str| page.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap();
    let directory = tempfile::tempdir().unwrap();
    for name in ["keys", "secrets"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let key = c::tests().join("conformance/fixtures/texts/keys/kek_1");
    fs::copy(key, directory.path().join("keys/vault_kek_1")).unwrap();
    fs::write(directory.path().join("secrets/database_url"), "postgresql://app@db/app\n").unwrap();
    let manifest = directory.path().join("vault.toml");
    fs::write(&manifest, part("toml")).unwrap();
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("integration.c");
    fs::write(&source, part("c")).unwrap();
    let program = c::compile("integration", &source, c::Language::C99);
    let output = c::command(&program).env("VAULT_CORE_CONFIG", &manifest).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "found as declared\ncorrect horse\ncontext-mismatch\n");
}

#[test]
fn it_exports_what_the_header_lists() {
    let header = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/vault.h")).unwrap();
    let code = header.lines().filter(|line| !line.starts_with("//") && !line.starts_with(" *"));
    let called = |line: &str| Some(line.split_once('(')?.0.rsplit([' ', '*']).next()?.to_owned());
    let listed: BTreeSet<_> = code.filter_map(called).filter(|name| name.starts_with("vault_")).collect();
    let output =
        Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(c::library()).output().unwrap();
    let exported = String::from_utf8(output.stdout).unwrap();
    let exported: BTreeSet<_> = exported.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect();
    assert!(listed.len() > 40, "{}", listed.len());
    assert_eq!(exported, listed);
}

fn run(name: &str, language: c::Language) {
    let program = c::compile(name, &c::tests().join("ffi/abi.c"), language);
    let directory = texts();
    let output = c::command(&program).arg(directory.path()).arg("100").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"abi: 1000 calls in the loop\n");
}

/// A copy of the fixture, because a vault writes locks and heartbeats beside its files.
fn texts() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let fixture = c::tests().join("conformance/fixtures/texts/.");
    assert!(Command::new("cp").arg("-r").arg(fixture).arg(directory.path()).status().unwrap().success());
    directory
}
