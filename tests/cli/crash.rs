//! Commands killed at every file-system call that they make: afterwards everything opens, and the
//! same command typed again finishes.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use vault_core::{Config, Vault};

use crate::{App, TOKENS, context, secret};

/// The calls that read, write, create, rename, lock or flush files.
const CALLS: [&str; 20] = [
    "openat",
    "openat2",
    "read",
    "pread64",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fchmod",
    "fchown",
    "fcntl",
    "flock",
    "rename",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "newfstatat",
];

/// Those of them that leave another state of a directory behind.
const CHANGES: [&str; 7] = ["write", "fsync", "fchmod", "rename", "renameat2", "linkat", "unlink"];

const ROWS: u64 = 12;

#[test]
fn key_add_survives_a_kill_at_every_call() {
    let app = tokens_only();
    app.directory.vault("key generate --out new").ok();
    campaign(&app, "key add new --label 2", |app| {
        assert_eq!(app.directory.vault("key add new --label 2").code, 0);
        let told = app.directory.vault("key list").ok();
        assert!(told.contains("active") && !told.contains("not found"), "{told}");
    });
}

#[test]
fn key_promote_survives_a_kill_at_every_call() {
    let app = tokens_only();
    let new = app.add("main");
    let line = format!("key promote {new} --yes");
    campaign(&app, &line, |app| {
        assert_eq!(app.directory.vault(&line).code, 0);
        assert_eq!(app.primary("main"), new);
    });
}

#[test]
fn rotate_run_survives_a_kill_at_every_call() {
    let app = tokens_only();
    let new = app.add("main");
    app.directory.vault(&format!("key promote {new} --yes")).ok();
    campaign(&app, "rotate run --batch 5", |app| {
        assert_eq!(app.directory.vault("rotate run --batch 5").code, 0);
        assert!(app.values().iter().all(|(_, value)| value.starts_with(&format!("vs1.{new}."))));
        assert_eq!(app.directory.vault("rotate verify").code, 0);
    });
}

#[test]
fn rotate_alone_survives_a_kill_at_every_call() {
    let app = tokens_only();
    campaign_at(&app, "rotate --new-key --without-backup --yes", &CHANGES, |app| {
        assert_eq!(app.directory.vault("rotate --new-key --without-backup --yes").code, 0);
        let listed = app.directory.vault("key list").ok();
        assert!(!listed.contains("not found") && !listed.contains("active"), "{listed}");
        let new = app.primary("main");
        assert!(app.values().iter().all(|(_, value)| value.starts_with(&format!("vs1.{new}."))));
        for file in fs::read_dir(app.directory.home.path()).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let copied =
                name.strip_prefix(".vault-").is_some_and(|rest| listed.lines().any(|key| rest.ends_with(&key[..17])));
            assert!(!copied && !name.contains("generated"), "{name} is a second copy of a key");
        }
    });
}

/// Only master keys: deriving ids of key texts would make every run slow.
fn tokens_only() -> App {
    let app = App::new(TOKENS, ROWS);
    let config = fs::read_to_string(app.directory.path("vault.toml")).unwrap();
    let text = config.find("[keyring.text]").unwrap()..config.find("[[column]]").unwrap();
    let mut config = config.clone().replace(&config[text], "").replace("reads_keyring = \"text\"\n", "");
    config = config.replace(", \"flowfile-v1\", \"flowfile-legacy-master\"", "");
    app.directory.write("vault.toml", config);
    app
}

/// Kills `line` at the first, second, third … of each call, each time in a copy of the directory.
fn campaign(app: &App, line: &str, finishes: impl Fn(&App)) {
    campaign_at(app, line, &CALLS, finishes);
}

fn campaign_at(app: &App, line: &str, calls: &[&str], finishes: impl Fn(&App)) {
    let template = app.directory.home.path();
    let mut kills = 0;
    for call in calls {
        for number in 1.. {
            let copy = App { directory: crate::Directory::new() };
            copy_all(template, copy.directory.home.path());
            if !killed(&copy, line, call, number) {
                break;
            }
            kills += 1;
            everything_opens(&copy, &format!("{line}, killed at {call} {number}"));
            finishes(&copy);
            everything_opens(&copy, &format!("{line}, again after a kill at {call} {number}"));
        }
    }
    // Shown with --nocapture.
    let _ = writeln!(std::io::stdout(), "{line}: {kills} kill points, no failure");
    assert!(kills > 30, "{kills} kill points: does strace see the calls?");
}

/// Whether the command was killed before it ended.
fn killed(app: &App, line: &str, call: &str, number: u32) -> bool {
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("inject={call}:signal=KILL:when={number}"))
        .arg(crate::binary())
        .args(line.split(' '))
        .current_dir(app.directory.home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("strace is installed");
    // strace ends as its tracee does: by the signal, or with its exit status.
    match status.code() {
        None => true,
        Some(137) => true,
        Some(0) => false,
        Some(code) => panic!("{line}, {call} {number}: exit status {code}"),
    }
}

/// With the keys that are there now, whatever the interrupted command left, every value opens.
fn everything_opens(app: &App, when: &str) {
    let vault = Config::from_file(app.directory.path("vault.toml"))
        .and_then(Vault::load)
        .unwrap_or_else(|error| panic!("{when}: {error}"));
    let values = app.values();
    assert_eq!(values.len() as u64, ROWS, "{when}");
    for (id, value) in values {
        let opened = value
            .parse()
            .and_then(|token| vault.open(&context(id), &token))
            .unwrap_or_else(|error| panic!("{when}, row {id}: {error}"));
        assert_eq!(opened.expose_secret(), secret(id).as_bytes(), "{when}");
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
