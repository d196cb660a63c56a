//! Every command that the documents show is run as it stands there.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Directory;

/// The blocks of a language in a document of the repository.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let text = fs::read_to_string(path).unwrap();
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{language}") {
            blocks.push(lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect());
        }
    }
    blocks
}

/// Runs a shell block in a directory where `vault` is on the path.
fn run(block: &str, directory: &Directory) {
    let path = format!("{}:/usr/bin:/bin", crate::binary().parent().unwrap().display());
    let ran = crate::finish(
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", block])
            .current_dir(directory.home.path())
            .env_clear()
            .env("PATH", path),
        b"",
    );
    assert_eq!(ran.code, 0, "{block}\n{}{}", ran.out, ran.err);
}

#[test]
fn the_commands_of_the_readme_work_in_their_order() {
    let directory = Directory::new();
    let sections: Vec<String> = blocks("README.md", "sh")
        .into_iter()
        .filter(|block| block.contains("vault ") && !block.contains("cargo"))
        .collect();
    assert!(sections.len() >= 2, "{} blocks", sections.len());
    let config = blocks("README.md", "toml").into_iter().find(|table| table.starts_with("version = 1"));
    directory.write("vault.toml", config.unwrap());
    // The database that the example rotates, as the application left it.
    let connection = rusqlite::Connection::open(directory.path("flowfile_catalog.db")).unwrap();
    connection
        .execute_batch("CREATE TABLE secrets (id INTEGER PRIMARY KEY, name VARCHAR, encrypted_value TEXT, iv VARCHAR, user_id INTEGER)")
        .unwrap();
    for block in sections {
        run(&block, &directory);
    }
}

#[test]
fn the_demonstration_shows_the_whole_job() {
    let directory = Directory::new();
    let told = directory.vault("demo --values 2000 --dir kept --keep").ok();
    for expected in [
        "2000 secrets of 50 users",
        "values that open under the new key alone: 2000 of 2000",
        "values that open under the old key: 0 of 2000",
        "values that open as vs1: 2000 of 2000",
        "the rotator was killed 3 times",
        "verified: nothing is stale",
        "0 failures",
        "values that open under the new key alone, each the last one written: 2000 of 2000",
        "values that the old key opens: 0 of 2000",
        "ratio",
        "What an operator would have typed",
        "vault rotate verify",
        "kept: ",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    assert!(directory.path("kept/vault.toml").exists());
    directory.vault("demo --values 2000 --dir kept").fails(18);
    directory.vault("demo --values 5").fails(2);
}
