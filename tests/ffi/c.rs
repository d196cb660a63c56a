//! Programs in C and C++ that are linked with the library that was just built.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Copy)]
pub(crate) enum Language {
    C99,
    Cpp,
}

/// Compiles a program of this language, without a warning.
pub(crate) fn compile(name: &str, source: &Path, language: Language) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (compiler, options): (_, &[&str]) = match language {
        Language::C99 => ("cc", &["-std=c99", "-x", "c"]),
        Language::Cpp => ("c++", &["-std=c++11", "-x", "c++"]),
    };
    let status = Command::new(compiler)
        .args(options)
        .args(["-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"))
        .arg(source)
        .args(["-x", "none"])
        .arg(library())
        .args(["-lpthread", "-o"])
        .arg(&program)
        .status()
        .unwrap();
    assert!(status.success(), "{compiler} {}", source.display());
    program
}

/// Runs such a program.
pub(crate) fn command(program: &Path) -> Command {
    // The name by which programs find an installed library.
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lib");
    fs::create_dir_all(&directory).unwrap();
    match symlink(library(), directory.join("libvault.so.0")) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => panic!("{error}"),
        _ => {}
    }
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", directory);
    command
}

/// The directory of all tests.
pub(crate) fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests")
}

/// The library that this test was built with, beside it.
pub(crate) fn library() -> PathBuf {
    env::current_exe().unwrap().with_file_name("libvault_ffi.so")
}
