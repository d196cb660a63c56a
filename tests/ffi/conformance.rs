//! The cases that every language runs, through the C ABI from C.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::c;
use crate::conformance_list::{Flat, run_all};

#[test]
fn every_case_in_c() {
    let runner = c::compile("runner", &c::tests().join("conformance/runner.c"), c::Language::C99);
    let counts = run_all("c", |case, directory| Some(run(&runner, case, directory)));
    assert_eq!(counts.len(), 15);
    assert!(counts.values().all(|count| *count >= 20), "{counts:?}");
}

#[test]
fn the_runner_is_cpp_too() {
    c::compile("runner-cpp", &c::tests().join("conformance/runner.c"), c::Language::Cpp);
}

fn run(runner: &Path, case: &Flat, directory: &Path) -> Flat {
    let mut given = String::new();
    let place = ("directory".to_owned(), directory.to_str().unwrap().as_bytes().to_vec());
    for (path, value) in case.iter().filter(|(path, _)| !path.starts_with("expect.")).chain([(&place.0, &place.1)]) {
        given.push_str(path);
        given.push(' ');
        given.extend(value.iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]));
        given.push('\n');
    }
    given.push('\n');
    // A file, because a pipe could fill on both sides.
    let input = directory.join("case");
    fs::File::create(&input).unwrap().write_all(given.as_bytes()).unwrap();
    let output = c::command(runner).stdin(fs::File::open(&input).unwrap()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{:?}", case.get("name").map(|name| String::from_utf8_lossy(name)));
    let lines = String::from_utf8(output.stdout).unwrap();
    let entry = |line: &str| line.split_once(' ').map(|(path, hex)| (path.to_owned(), bytes(hex)));
    lines.lines().filter_map(entry).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
