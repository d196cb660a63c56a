//! Every command that the documents show is run as it stands there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, params};
use vault_core::legacy::{self, LegacyKey};
use vault_core::{Config, Context, Format, Sealer, TextKey, Trim, Vault};

use crate::Directory;

/// The blocks of a language in a document of the repository.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    blocks_of(&fs::read_to_string(path).unwrap(), language)
}

pub(crate) fn blocks_of(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{language}") {
            blocks.push(lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect());
        }
    }
    blocks
}

/// The part of a document under a heading of the second level.
pub(crate) fn part(document: &str, heading: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let text = fs::read_to_string(path).unwrap();
    let parts = text.split("\n## ");
    parts.filter(|part| part.starts_with(&format!("{heading}\n"))).map(str::to_owned).next().unwrap()
}

/// The blocks of a language in each section of the third level.
pub(crate) fn sections(part: &str, language: &str) -> Vec<(String, Vec<String>)> {
    let sections = part.split("\n### ").skip(1);
    sections
        .map(|section| (section.lines().next().unwrap().to_owned(), blocks_of(section, language)))
        .filter(|(_, blocks)| !blocks.is_empty())
        .collect()
}

/// Runs a shell block in a directory where `vault` is on the path.
pub(crate) fn run(block: &str, directory: &Directory) -> String {
    let path = format!("{}:/usr/bin:/bin", crate::binary().parent().unwrap().display());
    let ran = crate::finish(
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", block])
            .current_dir(directory.home.path())
            .env_clear()
            .env("SAFE", directory.path("safe"))
            .env("PATH", path),
        b"",
    );
    assert_eq!(ran.code, 0, "{block}\n{}{}", ran.out, ran.err);
    ran.out
}

/// The application of the runbook, which follows the changes of its keys by itself. Returns how often it
/// sealed.
fn run_notes(config: PathBuf, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let vault = Vault::load(Config::from_file(config).unwrap()).unwrap();
        let context = Context::new("user-secret").tenant("1");
        let mut seals = 0;
        while !stop.load(Ordering::SeqCst) {
            let token = vault.seal(&context, b"secret").unwrap();
            vault.open(&context, &token).unwrap();
            seals += 1;
            thread::sleep(Duration::from_millis(50));
        }
        seals
    })
}

/// The runbook of one host: every section, in its order, on one database.
#[test]
fn the_runbook_of_one_host_works_in_its_order() {
    let directory = Directory::new();
    let part = part("docs/OPERATIONS.md", "One host");
    directory.write("vault.toml", blocks_of(&part, "toml").remove(0));
    fs::create_dir(directory.path("safe")).unwrap();
    let mut told = Vec::new();
    let (stop, mut application) = (Arc::new(AtomicBool::new(false)), None);
    for (heading, blocks) in sections(&part, "sh") {
        let out: String = blocks.iter().map(|block| run(block, &directory)).collect();
        if heading == "A first key" {
            let sealer = Sealer::from_key_file(directory.path("keys/vault_kek_1")).unwrap();
            let connection = Connection::open(directory.path("notes.db")).unwrap();
            connection
                .execute_batch("CREATE TABLE secrets (id INTEGER PRIMARY KEY, user_id INTEGER, value TEXT)")
                .unwrap();
            for id in 1..=40 {
                let context = Context::new("user-secret").tenant((id % 7).to_string());
                let token = sealer.seal(&context, crate::secret(id).as_bytes()).unwrap().to_string();
                connection.execute("INSERT INTO secrets VALUES (?1, ?2, ?3)", params![id, id % 7, token]).unwrap();
            }
            fs::copy(directory.path("notes.db"), directory.path("backup.db")).unwrap();
            application = Some(run_notes(directory.path("vault.toml"), &stop));
        }
        told.push((heading, out));
    }
    stop.store(true, Ordering::SeqCst);
    assert!(application.unwrap().join().unwrap() > 5, "it ran all the time");
    let headings: Vec<_> = told.iter().map(|(heading, _)| heading.as_str()).collect();
    let expected = [
        "A first key",
        "A new key",
        "Back to the old key",
        "The replaced key goes",
        "A leaked key",
        "A backup comes back",
    ];
    assert_eq!(headings, expected);
    let primary = |heading: &str| told.iter().find(|(found, _)| found == heading).unwrap().1.clone();
    assert!(primary("The replaced key goes").contains("disabled"));
    assert!(primary("A backup comes back").contains("40 rewritten"));
    let vault = Vault::load(Config::from_file(directory.path("vault.toml")).unwrap()).unwrap();
    let connection = Connection::open(directory.path("notes.db")).unwrap();
    let mut values = connection.prepare("SELECT id, value FROM secrets").unwrap();
    let values = values.query_map([], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?))).unwrap();
    let opened = values.map(|value| {
        let (id, value) = value.unwrap();
        let context = Context::new("user-secret").tenant((id % 7).to_string());
        let opened = vault.sealer().unwrap().open(&context, &value.parse().unwrap()).unwrap();
        assert_eq!(opened.expose_secret(), crate::secret(id).as_bytes());
    });
    assert_eq!(opened.count(), 40);
    assert_eq!(fs::read_dir(directory.path("safe")).unwrap().count(), 3);
}

#[test]
fn the_way_from_an_own_format_works_in_its_order() {
    let directory = Directory::new();
    let part = part("docs/OPERATIONS.md", "From an application's own format to tokens");
    directory.write("vault.toml", blocks_of(&part, "toml").remove(0));
    fs::create_dir(directory.path("keys")).unwrap();
    directory.vault("key generate --out keys/flowfile_master_key_1").ok();
    let key = fs::read(directory.path("keys/flowfile_master_key_1")).unwrap();
    let key = LegacyKey::new(TextKey::parse(&key, Trim::Python).unwrap());
    let connection = Connection::open(directory.path("flowfile_catalog.db")).unwrap();
    connection
        .execute_batch("CREATE TABLE secrets (id INTEGER PRIMARY KEY, name VARCHAR, encrypted_value TEXT, iv VARCHAR, user_id INTEGER)")
        .unwrap();
    for id in 1..=40_u64 {
        let format = if id % 3 == 0 { Format::FlowfileLegacyMaster } else { Format::FlowfileV1 };
        let tenant = (id % 7).to_string();
        let value = legacy::seal(format, &key, Some(&tenant), crate::secret(id).as_bytes()).unwrap();
        connection
            .execute("INSERT INTO secrets VALUES (?1, ?2, ?3, '', ?4)", params![id, format!("n{id}"), value, id % 7])
            .unwrap();
    }
    let told: Vec<_> = sections(&part, "sh")
        .into_iter()
        .map(|(_, blocks)| blocks.iter().map(|block| run(block, &directory)).collect::<String>())
        .collect();
    assert_eq!(told.len(), 3);
    assert!(told[0].contains("40 rewritten") && told[2].contains("nothing is stale"), "{told:?}");
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
    let connection = Connection::open(directory.path("flowfile_catalog.db")).unwrap();
    connection
        .execute_batch("CREATE TABLE secrets (id INTEGER PRIMARY KEY, name VARCHAR, encrypted_value TEXT, iv VARCHAR, user_id INTEGER)")
        .unwrap();
    // The application is stopped.
    drop(connection);
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
