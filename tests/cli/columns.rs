//! What commands say of columns: the same in every one of them, the true number, and nothing that a
//! terminal obeys.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rusqlite::Connection;
use serde_json::Value;
use vault_core::Sealer;

use crate::{App, Directory, Ran, TOKENS, context};

/// The commands that look at columns and change nothing.
const LOOKS: [&str; 4] = ["status", "status --deep", "doctor", "rotate verify -n"];

fn all(app: &App, code: i32, words: &[&str]) {
    for line in LOOKS {
        let ran = app.directory.vault(line);
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        let said = format!("{}{}", ran.out, ran.err);
        for word in words {
            assert!(said.contains(word), "{line} does not say {word}: {said}");
        }
    }
}

/// A token as a process makes it that holds the first key only.
fn late(app: &App, id: u64) -> String {
    Sealer::from_key_file(app.directory.path("kek_1")).unwrap().seal(&context(id), b"late").unwrap().to_string()
}

#[test]
fn status_doctor_and_verify_say_the_same() {
    let app = App::new(TOKENS, 12);
    let token = late(&app, 3);
    app.directory.vault("rotate --new-key --without-backup --yes").ok();
    all(&app, 0, &[]);

    let new = app.add("main");
    assert_eq!(app.directory.vault("status").code, 14, "a key waits to be promoted");
    app.directory.vault(&format!("key promote {new} --yes")).ok();
    all(&app, 14, &["12 values are stale", "`vault rotate run` moves them"]);
    app.directory.vault("rotate run").ok();
    assert_eq!(app.directory.vault("status").code, 14, "a run is open");
    app.directory.vault("rotate fence").ok();
    app.directory.vault("rotate verify").ok();
    all(&app, 0, &[]);

    app.connect().execute("UPDATE secrets SET v = 'damaged' WHERE id = 5", []).unwrap();
    all(&app, 23, &["1 values do not open"]);
    app.connect().execute("DELETE FROM secrets WHERE id = 5", []).unwrap();

    // What names a disabled key is counted the same by its first characters and by opening it.
    app.directory.vault("rotate --retire --yes").ok();
    app.lose_fences();
    app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = 3", [&token]).unwrap();
    let first = token[4..21].to_owned();
    all(
        &app,
        23,
        &[
            &format!("1 values do not open: they name key {first}, which is disabled"),
            &format!("`vault key enable {first}`"),
        ],
    );
    let told = |line: &str| {
        let said: Value = serde_json::from_str(&app.directory.vault(line).out).unwrap();
        let column = said["columns"][0].clone();
        let values =
            said["keys"].as_array().unwrap().iter().find(|key| key["kid"] == first.as_str()).unwrap()["values"].clone();
        (column["values"].clone(), column["failed"].clone(), column["stale"].clone(), column["by"].clone(), values)
    };
    assert_eq!(told("status --json"), told("status --deep --json"));
    assert_eq!(told("status --json").4, 1);
    let listed = app.directory.vault("rotate verify").err;
    assert!(
        listed.contains("row 3: key") && listed.contains(&format!("`vault key enable {first}` opens it again")),
        "{listed}"
    );
    fs::rename(app.directory.path("kek_1"), app.directory.path("away")).unwrap();
    let refused = app.directory.vault(&format!("key destroy {first} --yes")).fails(23);
    fs::rename(app.directory.path("away"), app.directory.path("kek_1")).unwrap();
    assert!(refused.contains(&format!("run `vault key enable {first}` and `vault rotate run`")), "{refused}");
    app.directory.vault(&format!("key enable {first} --yes")).ok();
    app.directory.vault("rotate run").ok();
}

/// As Alembic and Django do it on SQLite.
#[test]
fn a_fence_that_a_rebuilt_table_lost_is_reported() {
    let app = App::new(TOKENS, 4);
    let (old, token) = (app.primary("main"), late(&app, 1));
    app.directory.vault("rotate --new-key --without-backup --yes").ok();
    app.directory.vault("rotate --retire --yes").ok();
    all(&app, 0, &[]);
    app.connect()
        .execute_batch(
            "BEGIN; CREATE TABLE n (id INTEGER PRIMARY KEY, user_id INTEGER, name TEXT, v TEXT, more TEXT);
             INSERT INTO n SELECT id, user_id, name, v, NULL FROM secrets; DROP TABLE secrets;
             ALTER TABLE n RENAME TO secrets; COMMIT",
        )
        .unwrap();
    all(&app, 14, &[&format!("not fenced against {old}"), "`vault rotate fence`"]);
    app.directory.vault("rotate fence").ok();
    all(&app, 0, &[]);
    app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = 1", [&token]).unwrap_err();
}

/// Anybody may have kept the file, and it holds no secret: who has a leaked key puts it back.
#[test]
fn an_older_state_file_is_noticed() {
    let app = App::new(TOKENS, 4);
    let state = app.directory.path("main.keyring.toml");
    let old = app.primary("main");
    app.add("main");
    let before_promotion = fs::read(&state).unwrap();
    app.directory.vault("rotate --yes").ok();
    let before_disabling = fs::read(&state).unwrap();
    app.directory.vault("rotate --retire --yes").ok();
    let newest = fs::read(&state).unwrap();
    let new = app.primary("main");

    fs::write(&state, &before_promotion).unwrap();
    all(&app, 23, &[&format!("fenced against key {old}, which the states call primary"), "STOP"]);
    for line in ["rotate run", "rotate verify", &format!("key disable {new} --yes")] {
        let told = app.directory.vault(line).fails(23);
        assert!(told.contains("older than the fence") && told.contains("STOP"), "{line}: {told}");
    }
    assert_eq!(app.directory.vault("rotate plan").code, 23);

    fs::write(&state, &before_disabling).unwrap();
    all(&app, 23, &["put up under generation", "STOP"]);
    fs::write(&state, &newest).unwrap();
    all(&app, 0, &[]);
}

#[test]
fn all_rows_that_failed_are_counted_and_a_thousand_are_listed() {
    let app = App::new(TOKENS, 3);
    let connection = app.connect();
    connection.execute_batch("BEGIN").unwrap();
    for id in 100..1_302 {
        connection.execute("INSERT INTO secrets (id, v) VALUES (?1, 'vs1.x')", [id]).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    for line in ["rotate run", "rotate plan"] {
        let told = app.directory.vault(line);
        assert!(told.code == 23 && told.out.contains(" 1202 failed"), "{told:?}");
        let told: Value = serde_json::from_str(&app.directory.vault(&format!("{line} --json")).out).unwrap();
        let column = &told["columns"][0];
        assert_eq!(column["failed_rows"], 1_202, "{line}");
        assert_eq!(column["failed"].as_array().unwrap().len(), 1_000, "{line}");
    }
    all(&app, 23, &["1202 values do not open"]);
}

/// Whoever may write rows, or the tables of a run, chooses what an operator's terminal is sent.
#[test]
fn nothing_that_a_database_or_a_state_file_holds_reaches_a_terminal() {
    const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}evil\nnotes: verified: nothing is stale\r\u{9b}31m\u{7f}";
    let directory = Directory::new();
    directory.write(
        "vault.toml",
        "version = 1\n[vault]\nnodes = 1\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"main.keyring.toml\"\n\
         [[column]]\nname = \"notes\"\ndatabase = \"sqlite:notes.db\"\ntable = \"t\"\nrow = [\"id\"]\nvalue = \"v\"\n\
         reads = [\"vs1\"]\nwrites = \"vs1\"\nlinked = true\ncontext = { tenant = \"{id}\", purpose = \"p\" }\n",
    );
    directory.vault("key generate --out kek_1").ok();
    let connection = Connection::open(directory.path("notes.db")).unwrap();
    connection.execute_batch("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, v TEXT)").unwrap();
    connection.execute("INSERT INTO t VALUES (?1, 'garbage')", [EVIL]).unwrap();
    let name = EVIL.replace('"', "");
    connection.execute_batch(&format!("CREATE TRIGGER \"{name}\" AFTER UPDATE ON t BEGIN SELECT 1; END")).unwrap();
    directory.write("new", "");
    fs::remove_file(directory.path("new")).unwrap();
    directory.vault("key generate --out new").ok();
    let mut add = crate::command(directory.home.path(), &["key", "add", "new", "--label", EVIL]);
    let mut ran: Vec<Ran> = vec![crate::finish(&mut add, b"")];
    for line in ["rotate run", "rotate status"] {
        ran.push(directory.vault(line));
    }
    connection.execute("UPDATE vault_core_rotation SET job = ?1, target = ?1", [EVIL]).unwrap();
    connection.execute("UPDATE vault_core_rotation_failure SET reason = ?1", [EVIL]).unwrap();
    for line in [
        "status",
        "status --deep",
        "doctor",
        "key list",
        "rotate status",
        "rotate plan",
        "rotate run",
        "rotate verify",
        "rotate",
    ] {
        ran.push(directory.vault(line));
        ran.push(directory.vault(&format!("{line} --json")));
    }
    for Ran { out, err, .. } in &ran {
        for text in [out, err] {
            let raw = text.chars().find(|c| c.is_control() && *c != '\n' || ('\u{202a}'..='\u{202e}').contains(c));
            assert_eq!(raw, None, "{text:?}");
            assert!(!text.lines().any(|line| line.starts_with("notes: verified")), "a line is forged: {text}");
        }
    }
    assert!(ran.iter().filter(|ran| format!("{}{}", ran.out, ran.err).contains("u{202e}")).count() > 8);
}

/// The key is in the safe, or gone: what needs it says so, and everything else goes on.
#[test]
fn a_lost_key_that_nothing_needs_is_a_finding_and_can_be_disabled() {
    let app = App::new(TOKENS, 4);
    let (old, token) = (app.primary("main"), late(&app, 2));
    app.directory.vault("rotate --new-key --without-backup --yes").ok();
    fs::rename(app.directory.path("kek_1"), app.directory.path("away")).unwrap();
    app.directory.vault("status").ok();
    let told = app.directory.vault("doctor").ok();
    assert!(told.contains(&format!("key {old} is listed as decrypt-only and was not found")), "{told}");
    let listed = app.directory.vault("key list").ok();
    assert!(listed.contains(&format!("{old}  decrypt-only")) && listed.contains("not found"), "{listed}");
    // An application does not start: its values may need the key.
    let config = vault_core::Config::from_file(app.directory.path("vault.toml")).unwrap();
    let error = vault_core::Vault::load(config).unwrap_err();
    assert_eq!(error.kind(), vault_core::Kind::KeyUnavailable);

    app.lose_fences();
    app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = 2", [&token]).unwrap();
    all(&app, 23, &[&format!("1 values do not open: they name key {old}, which was not found")]);
    app.directory.vault(&format!("key disable {old} --yes")).fails(23);
    app.connect().execute("DELETE FROM secrets WHERE id = 2", []).unwrap();
    app.directory.vault(&format!("key disable {old} --yes")).ok();
    app.directory.vault("status").ok();
    let config = vault_core::Config::from_file(app.directory.path("vault.toml")).unwrap();
    vault_core::Vault::load(config).unwrap();
}

/// Which key is primary is nowhere else: no command guesses, and none makes an old key primary.
#[test]
fn a_lost_state_file_stops_every_command_and_its_copy_is_named() {
    let app = App::new(TOKENS, 4);
    let state = app.directory.path("main.keyring.toml");
    let old = app.primary("main");
    app.directory.vault("rotate --new-key --without-backup --yes").ok();
    let newest = fs::read(&state).unwrap();
    fs::remove_file(&state).unwrap();
    fs::write(app.directory.path("third"), vault_core::MasterKey::generate().unwrap().text().expose_secret()).unwrap();
    let refused = |copy: &str| {
        for line in [
            "status",
            "doctor",
            "rotate --yes",
            "rotate run",
            "key list",
            "key add third",
            &format!("key promote {old} --yes"),
            "seal --no-context",
        ] {
            let ran = app.directory.vault_with(line, b"x");
            assert_ne!(ran.code, 0, "{line}");
            let said = format!("{}{}", ran.out, ran.err);
            for word in ["main.keyring.toml is missing", copy, "STOP"] {
                assert!(said.contains(word), "{line} does not say {word}: {said}");
            }
            assert!(!state.exists(), "{line} made states");
        }
    };
    refused("main.keyring.toml.bak is the one before the last change");
    // Also where the sources find one key only.
    let mut new_key = fs::read_dir(app.directory.home.path()).unwrap().map(|entry| entry.unwrap().path());
    let new_key = new_key.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("kek_k")).unwrap();
    let away = app.directory.path("away");
    fs::rename(&new_key, &away).unwrap();
    refused("main.keyring.toml.bak is the one before the last change");
    fs::rename(&away, &new_key).unwrap();
    let copy = app.directory.path("main.keyring.toml.bak");
    let before = fs::read(&copy).unwrap();
    fs::remove_file(&copy).unwrap();
    refused("there is no");

    // The copy is too old: what the columns are fenced against says so.
    fs::write(&state, before).unwrap();
    all(&app, 23, &["older than the fence", "STOP"]);
    fs::write(&state, newest).unwrap();
    all(&app, 0, &[]);
}

/// Between `key add` and `key promote`, a plan is for what follows.
#[test]
fn a_plan_is_of_what_the_rotation_will_do() {
    let app = App::new(TOKENS, 9);
    let plan = || app.directory.vault("rotate plan");
    assert!(plan().ok().contains("9 rows, 0 to rewrite") || plan().ok().contains("0 to rewrite"));
    let new = app.add("main");
    let told = plan();
    assert!(
        told.err.contains(&format!("key {new} waits to be promoted; this is what follows its promotion")),
        "{told:?}"
    );
    assert!(told.ok().contains("9 rows, 9 to rewrite"));
    assert_ne!(app.primary("main"), new);
    app.directory.vault(&format!("key promote {new} --yes")).ok();
    assert!(plan().ok().contains("9 rows, 9 to rewrite"));
    app.directory.vault("rotate run").ok();
    assert!(plan().ok().contains("0 to rewrite"));
}

/// Both read the states under the lock: no change of one is lost to the other.
#[test]
fn two_commands_that_change_states_take_turns() {
    let app = App::new(TOKENS, 1);
    let home = app.directory.home.path();
    app.add("main");
    let state = app.directory.path("main.keyring.toml");
    let lock = app.directory.path("main.keyring.toml.lock");
    let before = fs::read(&state).unwrap();
    for name in ["a", "b"] {
        app.directory.vault(&format!("key generate --out next_{name}")).ok();
    }
    // Held as a command holds it.
    let mut holder = Command::new("flock");
    holder.arg(&lock).args(["sh", "-c", "echo held; read _"]);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "held\n");
    let add = |name: &str| {
        let words = ["key", "add", &format!("next_{name}"), "--label", name];
        crate::command(home, &words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let commands = [add("a"), add("b")];
    for command in &commands {
        let at_lock = || {
            let files = fs::read_dir(format!("/proc/{}/fd", command.id()));
            files.is_ok_and(|files| {
                files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|path| path == lock))
            })
        };
        crate::until("the command did not open the lock", at_lock);
    }
    assert!(fs::read(&state).unwrap() == before, "the lock is held, and the states were changed");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    for command in commands {
        let output = command.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let listed = app.directory.vault("key list").ok();
    for label in ["  a  ", "  b  "] {
        assert!(listed.contains(label), "{listed}");
    }
}
