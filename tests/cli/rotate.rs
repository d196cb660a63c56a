//! `rotate`, `migrate`, `reseal` and `status`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;

use serde_json::Value;
use vault_core::legacy;
use vault_core::{Format, Sealer};

use crate::{App, LEGACY, TOKENS, context, secret, snapshot};

fn json(told: &str) -> Value {
    let value: Value = serde_json::from_str(told).unwrap();
    assert_eq!(value["schema_version"], 1);
    value
}

#[test]
fn rotate_alone_does_all_of_it() {
    let app = App::new(TOKENS, 500);
    let old = app.primary("main");
    let told = app.directory.vault("rotate --new-key --backup safe --yes --batch 60");
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.out.contains("500 rewritten") && told.out.contains("verified: nothing is stale"), "{}", told.out);
    assert!(
        told.err.contains("was generated") && told.err.contains("app.secrets: pass 1, 60 rows, 60 rewritten"),
        "{}",
        told.err
    );
    let new = app.primary("main");
    assert_ne!(new, old);
    let backup = app.directory.path("safe");
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = Sealer::from_key_file(&backup).unwrap();
    for (id, value) in app.values() {
        assert_eq!(kept.open(&context(id), &value.parse().unwrap()).unwrap().expose_secret(), secret(id).as_bytes());
    }
    assert!(app.directory.vault("key list").ok().contains("decrypt-only"));
    app.directory.vault("rotate --retire").fails(23);
    app.directory.vault("rotate --yes --retire").ok();
    assert_eq!(app.primary("main"), new, "and no third key is made");
    let keys = app.directory.vault("key list").ok();
    assert!(keys.contains(&format!("{old}  disabled")), "{keys}");
    let status = json(&app.directory.vault("status --json --deep").ok());
    assert_eq!(status["columns"][0]["by"][0]["values"], 500);
    assert_eq!(status["columns"][0]["fenced"][0], old);
    let left: u64 = app
        .connect()
        .query_row("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name LIKE 'vault%'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(left, 0, "our own tables are gone");
}

/// A lost terminal, somebody tired, two people: a command that has finished does nothing more.
#[test]
fn a_rotation_that_is_typed_again_does_nothing() {
    let app = App::new(TOKENS, 20);
    let told = app.directory.vault("rotate --yes").ok();
    assert!(told.starts_with(&format!("nothing is to be done: key {} seals", app.primary("main"))), "{told}");
    let new = app.add("main");
    app.directory.vault("rotate --yes").ok();
    assert_eq!(app.primary("main"), new);
    let before = snapshot(app.directory.home.path());
    for line in ["rotate --yes", "rotate --yes --deep", "rotate", "rotate -n"] {
        let told = app.directory.vault(line).ok();
        assert!(told.contains(&format!("key {new} seals since 20")) && told.contains("--new-key"), "{line}: {told}");
        assert!(snapshot(app.directory.home.path()) == before, "{line} changed something");
    }
    app.directory.vault("rotate --yes --retire").ok();
    let before = snapshot(app.directory.home.path());
    app.directory.vault("rotate --yes --retire").ok();
    assert!(snapshot(app.directory.home.path()) == before);
}

/// The text of a new key is kept before anything depends on it.
#[test]
fn no_key_is_made_whose_text_nobody_keeps() {
    let app = App::new(TOKENS, 5);
    let old = app.primary("main");
    let before = snapshot(app.directory.home.path());
    assert!(app.directory.vault("rotate --new-key --yes").fails(2).contains("--backup FILE"));
    app.directory.write("safe", "another key");
    app.directory.vault("rotate --new-key --backup safe --yes").fails(18);
    app.directory.vault("rotate --new-key --backup safe -n").fails(18);
    fs::remove_file(app.directory.path("safe")).unwrap();
    app.directory.vault("rotate --backup safe --yes").fails(2);
    assert!(snapshot(app.directory.home.path()) == before, "and nothing was made");

    // A place that cannot be written is found out when the key is there, and waits.
    app.directory.vault("rotate --new-key --backup nowhere/safe --yes").fails(18);
    assert_eq!(app.primary("main"), old);
    app.directory.vault("rotate --new-key --backup safe --yes").ok();
    assert_ne!(app.primary("main"), old);
    assert_eq!(app.directory.vault("key list").ok().lines().count(), 2, "it went on with the key that waited");
    app.directory.vault("rotate --new-key --backup safe --yes").fails(18);
    assert_eq!(app.directory.vault("key list").ok().lines().count(), 2, "typed again, it makes none");
}

#[test]
fn two_rotations_at_once_make_one_key() {
    for round in 0..3 {
        let app = App::new(TOKENS, 200);
        let ended: Vec<_> = thread::scope(|scope| {
            let type_it = || app.directory.vault("rotate --new-key --without-backup --yes --batch 10");
            let typed: Vec<_> = (0..2).map(|_| scope.spawn(type_it)).collect();
            typed.into_iter().map(|typed| typed.join().unwrap()).collect()
        });
        assert!(ended.iter().all(|ran| matches!(ran.code, 0 | 75)), "round {round}: {ended:?}");
        let ran = app.directory.vault("rotate --yes");
        assert_eq!(ran.code, 0, "round {round}: {ran:?}\n{ended:?}");
        let keys = app.directory.vault("key list").ok();
        // Both finished, one after the other: then each was asked for a key of its own.
        let made = ended.iter().filter(|ran| ran.err.contains("was generated")).count();
        assert_eq!(keys.lines().count(), 1 + made, "round {round}: {keys}\n{ended:?}");
        assert!(!keys.contains("active") && !keys.contains("not found"), "{keys}");
        let left = fs::read_dir(app.directory.home.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with(".vault-new-")).collect();
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
}

#[test]
fn rotate_alone_waits_for_the_other_processes() {
    let app = App::new(TOKENS, 20);
    app.configure(TOKENS, 3);
    let told = app.directory.vault("rotate --new-key --without-backup --yes").fails(75);
    assert!(
        told.contains("no process has said that it holds keyring main") && told.contains("--all-nodes-loaded"),
        "{told}"
    );
    let again = app.directory.vault("rotate --yes").fails(75);
    assert!(!again.contains("was generated"), "one key waits, and no second one is made: {again}");
    app.directory.vault(&format!("key promote {} --yes --all-nodes-loaded", kid_in(&app, "active"))).ok();
    app.directory.vault("rotate run").ok();
    // A process that still seals under the old key would fail every write.
    assert!(app.directory.vault("rotate fence").fails(75).contains("no process has said"));
    // The run waits to be verified.
    let status = app.directory.vault("status");
    assert!(status.code == 14 && !status.out.contains("fenced against"), "{status:?}");
    app.directory.vault("rotate --yes --all-nodes-loaded").ok();
    assert!(app.directory.vault("status").out.contains("may go"));
    assert!(app.directory.vault("rotate fence --drop").fails(75).contains("no process has said"));
    assert!(app.directory.vault("status").ok().contains("fenced against"));
    let old = app.directory.vault("rotate --yes --retire").fails(75);
    assert!(old.contains("no process has said") && old.contains("--all-nodes-loaded"), "{old}");
    app.directory.vault("rotate --yes --retire --all-nodes-loaded").ok();
    assert!(app.directory.vault("key list").ok().contains("disabled"));
}

fn kid_in(app: &App, state: &str) -> String {
    let told = json(&app.directory.vault("key list --json").ok());
    let key = told["keys"].as_array().unwrap().iter().find(|key| key["state"] == state).unwrap();
    key["kid"].as_str().unwrap().to_owned()
}

#[test]
fn a_stopped_application_is_retired_in_one_go() {
    let app = App::new(LEGACY, 20);
    app.configure(LEGACY, 3);
    let old = app.primary("text");
    // Down to the last step, though nobody reads the first report.
    let line = "rotate --keyring text --app-stopped --new-key --without-backup --yes --retire";
    assert_eq!(app.directory.vault_unread(line).code, 0);
    let keys = app.directory.vault("key list --keyring text").ok();
    assert!(keys.contains(&format!("{old}  disabled")), "{keys}");
}

/// What the column is said to hold in clear is under no key.
#[test]
fn plain_text_that_is_declared_does_not_end_a_rotation() {
    let declared = "reads = [\"flowfile-v1\", \"flowfile-legacy-master\", \"plaintext\"]\nwrites = \"flowfile-v1\"\nkeyring = \"text\"\n";
    let app = App::new(declared, 6);
    app.connect().execute("INSERT INTO secrets VALUES (7, 1, 'n', '123456789:a bot')", []).unwrap();
    let old = app.primary("text");
    app.directory.vault("rotate --keyring text --app-stopped --new-key --without-backup --yes").ok();
    assert_ne!(app.primary("text"), old);
    assert_eq!(app.values().pop().unwrap().1, "123456789:a bot");
    let status = json(&app.directory.vault("status --json --deep").ok());
    assert_eq!((&status["columns"][0]["unmigrated"], &status["columns"][0]["stale"]), (&1.into(), &0.into()));
    // Where it is not declared, it is a row that does not open.
    app.configure(LEGACY, 1);
    app.directory.vault("rotate run --keyring text --app-stopped").fails(23);
}

/// Who is said to be stopped is looked for.
#[test]
fn whoever_has_the_database_open_is_not_stopped() {
    let app = App::new(LEGACY, 6);
    app.add("text");
    let database = app.directory.path("app.db");
    let mut holder = Command::new("sleep")
        .arg("600")
        .stdin(fs::OpenOptions::new().read(true).write(true).open(&database).unwrap())
        .spawn()
        .unwrap();
    let before = app.values();
    for line in [
        "rotate --keyring text --app-stopped --yes",
        "rotate --keyring text --app-stopped -n",
        "rotate run --keyring text --app-stopped",
        "rotate plan --keyring text --app-stopped",
    ] {
        let told = app.directory.vault(line).fails(23);
        let named = format!("process {} (sleep)", holder.id());
        assert!(told.contains(&named) && told.contains("--despite-sessions"), "{line}: {told}");
        assert_eq!(app.values(), before);
    }
    app.directory.vault("rotate --keyring text --app-stopped --despite-sessions --yes").ok();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let told = app.directory.vault("rotate --keyring text --app-stopped --new-key --without-backup --yes");
    assert!(told.err.contains("`vault rotate run --keyring text --app-stopped`, which makes no key"), "{told:?}");
    told.ok();
}

#[test]
fn nothing_is_generated_before_somebody_said_yes() {
    let app = App::new(TOKENS, 5);
    let before = snapshot(app.directory.home.path());
    let told = app.directory.vault("rotate --new-key --without-backup").fails(23);
    assert!(told.contains("nobody is there to ask: generate a key") && told.contains("add --yes"), "{told}");
    assert!(snapshot(app.directory.home.path()) == before);
    let new = app.add("main");
    assert!(app.directory.vault("rotate").fails(23).contains(&format!("seal under key {new} from now on")));
    assert_ne!(app.primary("main"), new);
}

#[test]
fn a_dry_run_says_what_the_whole_sequence_would_do_and_ends_as_it_would() {
    let app = App::new(TOKENS, 40);
    let steps = |line: &str, code: i32| {
        let before = snapshot(app.directory.home.path());
        let ran = app.directory.vault(&format!("{line} --json"));
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        assert!(snapshot(app.directory.home.path()) == before, "{line} changed something");
        let told = json(&ran.out);
        assert_eq!(told["dry_run"], true);
        told["steps"].as_array().unwrap().iter().map(|step| step.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let fence_and_verify = ["fence column app.secrets", "verify"];
    let fresh = ["generate a key", "promote that key", "rewrite 40 values"];
    let line = "rotate --new-key --without-backup -n";
    assert_eq!(steps(line, 0), [&fresh[..], &fence_and_verify].concat());
    let disable = [format!("disable key {}", app.primary("main"))];
    let all = [&fresh[..], &fence_and_verify, &disable.each_ref().map(String::as_str)].concat();
    assert_eq!(steps(&format!("{line} --retire"), 0), all);
    let told = app.directory.vault(line).ok();
    assert!(told.starts_with("would generate a key\nwould promote that key\nwould rewrite 40 values\n"), "{told}");

    let new = app.add("main");
    let planned = json(&app.directory.vault("rotate plan --json").ok());
    assert_eq!(planned["columns"][0]["rewritten"], 40, "what the promotion leaves to be rewritten");
    let promote = [format!("promote key {new}"), "rewrite 40 values".to_owned()];
    assert_eq!(steps("rotate -n", 0)[..2], promote);
    app.configure(TOKENS, 3);
    assert_eq!(steps("rotate -n", 75)[..2], promote);
    assert_eq!(steps("rotate -n --all-nodes-loaded", 0)[..2], promote);
    app.configure(TOKENS, 1);

    let old = app.primary("main");
    app.directory.vault(&format!("key promote {new} --yes")).ok();
    app.directory.vault("rotate run --batch 10 --until 2020-01-01T00:00:00Z").fails(75);
    assert_eq!(steps("rotate -n", 0)[0], "rewrite 30 values");
    assert_eq!(steps("rotate -n --retire", 0).last().unwrap(), &format!("disable key {old}"));
    app.connect().execute("UPDATE secrets SET v = 'damaged' WHERE id = 33", []).unwrap();
    steps("rotate -n", 23);
    assert!(app.directory.vault("rotate -n").fails(23).contains("app.secrets, row 33"));
}

#[test]
fn a_plan_of_what_would_be_refused_is_refused() {
    let app = App::new(LEGACY, 6);
    for line in ["rotate plan --keyring text", "rotate run -n --keyring text", "migrate app.secrets --to vs1 -n"] {
        let ran = app.directory.vault(line);
        assert!(ran.out.contains("6 rows"), "{line}: {ran:?}");
        assert!(ran.fails(23).contains("--app-stopped"), "{line}");
    }
    app.directory.vault("rotate plan --keyring text --app-stopped").ok();
    assert!(app.directory.vault("rotate -n --keyring text --new-key").fails(23).contains("--app-stopped"));
    assert!(
        app.directory.vault("rotate -n --keyring text --app-stopped --new-key").ok().contains("would rewrite 6 values")
    );
}

/// A promotion would leave the run without a way to its target.
#[test]
fn an_open_run_is_finished_before_the_next_key_is_promoted() {
    let app = App::new(TOKENS, 30);
    let second = app.add("main");
    app.directory.vault(&format!("key promote {second} --yes")).ok();
    app.directory.vault("rotate run --batch 10 --until 2020-01-01T00:00:00Z").fails(75);
    app.directory.vault("key generate --out third").ok();
    app.directory.vault("key add third --label 3").ok();
    let told = app.directory.vault("rotate -n").ok();
    assert!(told.contains("verify\nwould promote key "), "what is open comes first: {told}");
    let told = app.directory.vault("rotate --yes").ok();
    assert_eq!(told.matches("verified: nothing is stale").count(), 2, "{told}");
    let third = app.primary("main");
    assert_ne!(third, second);
    assert!(app.values().iter().all(|(_, value)| value.starts_with(&format!("vs1.{third}."))));
}

#[test]
fn an_unlinked_application_is_rotated_while_it_is_stopped_and_then_moved_to_tokens() {
    let app = App::new(LEGACY, 90);
    let refused = app.directory.vault("rotate --keyring text --new-key --without-backup --yes").fails(23);
    assert!(refused.contains("stop every process") && refused.contains("--app-stopped"), "{refused}");
    assert_eq!(app.directory.vault("key list --keyring text").ok().lines().count(), 1, "and no key was made");

    let old = app.primary("text");
    let told = app.directory.vault("rotate --keyring text --app-stopped --new-key --without-backup --yes");
    assert!(
        told.code == 0 && told.err.contains("was generated"),
        "{told:?}\n{}",
        app.directory.vault("key list --keyring text").ok()
    );
    let new = app.primary("text");
    assert_ne!(new, old);
    let file =
        fs::read_dir(app.directory.home.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let file = file.filter(|name| name.starts_with("text_") && name != "text_1").collect::<Vec<_>>().remove(0);
    let key = app.text_key(&file);
    for (id, value) in app.values() {
        let opened = legacy::open(Format::FlowfileV1, &key, None, value.as_bytes()).unwrap();
        assert_eq!(opened.expose_secret(), secret(id).as_bytes());
    }
    app.directory.vault(&format!("key disable {old} --keyring text --yes")).ok();

    let wrong = app.directory.vault("migrate app.secrets --to vs1").fails(23);
    assert!(wrong.contains("set `writes = \"vs1\"`"), "{wrong}");
    app.configure(TOKENS, 1);
    let moved = json(&app.directory.vault("migrate app.secrets --to vs1 --json").ok());
    assert_eq!(moved["columns"][0]["rewritten"], 90);
    let sealer = Sealer::from_key_file(app.directory.path("kek_1")).unwrap();
    for (id, value) in app.values() {
        assert_eq!(sealer.open(&context(id), &value.parse().unwrap()).unwrap().expose_secret(), secret(id).as_bytes());
    }
    app.directory.vault("migrate app.secrets --to plaintext").fails(2);
    app.directory.vault("migrate nothing --to vs1").fails(10);
}

#[test]
fn a_dry_run_changes_no_byte_of_any_file() {
    for (column, lines) in [
        (
            TOKENS,
            &[
                "rotate -n",
                "rotate plan",
                "rotate run -n",
                "rotate fence -n",
                "rotate verify -n",
                "rotate abort -n",
                "status",
                "status --deep",
                "reseal app.secrets --old-context name=x -n",
            ][..],
        ),
        (
            LEGACY,
            &["rotate --keyring text --app-stopped -n", "migrate app.secrets --to vs1 --app-stopped -n", "status"][..],
        ),
    ] {
        let app = App::new(column, 30);
        let keyring = if column == TOKENS { "main" } else { "text" };
        let new = app.add(keyring);
        app.directory.vault(&format!("key promote {new} --keyring {keyring} --yes")).ok();
        let before = snapshot(app.directory.home.path());
        for line in lines.iter().map(|line| (*line).to_owned()).chain([
            format!("key disable {new} --keyring {keyring} -n"),
            format!("key add new_{keyring} --keyring {keyring} -n"),
        ]) {
            let ran = app.directory.vault(&line);
            assert!(matches!(ran.code, 0 | 14 | 23), "{line}: {ran:?}");
            assert!(snapshot(app.directory.home.path()) == before, "{line} changed something");
        }
    }
}

#[test]
fn a_run_tells_how_it_ended() {
    let app = App::new(TOKENS, 200);
    let new = app.add("main");
    app.directory.vault(&format!("key promote {new} --yes")).ok();
    let stopped = app.directory.vault("rotate run --batch 10 --until 2020-01-01T00:00:00Z");
    assert_eq!(stopped.code, 75, "{stopped:?}");
    assert!(app.directory.vault("rotate status").ok().contains("10 rewritten"));
    let status = app.directory.vault("status");
    assert!(status.code == 14 && status.out.contains("open run of rotate"), "{status:?}");
    app.directory.vault("rotate fence").fails(23);
    let would = app.directory.vault("rotate fence -n");
    assert!(would.code == 23 && would.out.contains("190 values under a key that was replaced"), "{would:?}");
    app.directory.vault("rotate verify").fails(14);
    let blocker = app.connect();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    app.directory.vault("rotate run").fails(75);
    blocker.execute_batch("ROLLBACK").unwrap();
    app.connect().execute("UPDATE secrets SET v = replace(v, '.AQ', '.AA') WHERE id = 150", []).unwrap();
    let stale = app.directory.vault("rotate run");
    assert_eq!(stale.code, 23, "{stale:?}");
    assert!(stale.err.contains("row 150"), "{}", stale.err);
    assert!(app.directory.vault("rotate status").ok().contains("app.secrets, row 150: "));
    app.connect().execute("DELETE FROM secrets WHERE id = 150", []).unwrap();
    app.directory.vault("rotate run").ok();
    app.directory.vault("rotate abort").ok();
    app.directory.vault("rotate verify").ok();
    assert!(app.directory.vault("rotate run --until nonsense").fails(2).contains("--until"));
}

/// One exclusive transaction neither waits nor paces itself: others stand still meanwhile.
#[test]
fn what_cannot_be_done_is_refused_before_anything_changes() {
    let app = App::new(LEGACY, 3);
    let before = snapshot(app.directory.home.path());
    for line in [
        "rotate --keyring text --app-stopped --yes --rows-per-second 5",
        "rotate --keyring text --app-stopped --yes --pause-file pause",
        "rotate run --keyring text --app-stopped --pause-file pause",
        "rotate --keyring text --app-stopped --yes --until soon",
        "rotate --keyring text --app-stopped --yes --until +1é",
        "migrate app.secrets --to vs1 --app-stopped --rows-per-second 5",
    ] {
        app.directory.vault(line).fails(2);
        assert!(snapshot(app.directory.home.path()) == before, "{line} changed something");
    }
}

#[test]
fn a_column_is_rotated_under_its_own_keyring() {
    let app = App::new(LEGACY, 30);
    let (main, text) = (app.primary("main"), app.primary("text"));
    let disagree = app.directory.vault("rotate --column app.secrets --keyring main --app-stopped --yes").fails(2);
    assert!(disagree.contains("written under keyring text, not main"), "{disagree}");
    app.directory.vault("rotate plan --column app.secrets --keyring main").fails(2);
    app.directory.vault("rotate --column app.secrets --app-stopped --new-key --without-backup --yes").ok();
    assert_eq!(app.primary("main"), main, "a keyring that the column does not use stays as it is");
    assert_ne!(app.primary("text"), text);
    app.directory.vault("rotate verify --column app.secrets --keyring text").ok();
    assert!(app.directory.vault("rotate plan --keyring nope").fails(16).contains("[keyring.nope]"));
}

#[test]
fn what_a_promotion_makes_stale_elsewhere_is_told() {
    let app = App::new(TOKENS, 20);
    app.connect().execute_batch("CREATE TABLE more AS SELECT * FROM secrets WHERE id <= 6").unwrap();
    app.connect().execute_batch("CREATE UNIQUE INDEX more_id ON more (id)").unwrap();
    let config = fs::read_to_string(app.directory.path("vault.toml")).unwrap();
    let (_, column) = config.split_once("[[column]]").unwrap();
    let more = column.replace("app.secrets", "app.more").replace("table = \"secrets\"", "table = \"more\"");
    app.directory.write("vault.toml", format!("{config}[[column]]{more}"));
    let told = app.directory.vault("rotate --column app.secrets --new-key --without-backup --yes");
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.err.contains("6 values of other columns under keyring main become stale"), "{}", told.err);
    app.directory.vault("rotate verify").fails(14);
    app.directory.vault("rotate run --keyring main").ok();
    app.directory.vault("rotate verify").ok();
}

/// Whoever reads what a command says decides neither what it does nor how it ends.
#[test]
fn a_reader_that_goes_away_changes_nothing_but_the_output() {
    let app = App::new(TOKENS, 50);
    assert_eq!(app.directory.vault_unread("rotate --new-key --without-backup --yes").code, 0);
    let new = app.primary("main");
    assert!(app.values().iter().all(|(_, value)| value.starts_with(&format!("vs1.{new}."))));
    assert!(app.directory.vault("status").ok().contains("fenced against"), "and the steps after the first report");

    app.connect().execute("UPDATE secrets SET v = 'damaged' WHERE id = 7", []).unwrap();
    app.directory.vault_unread("rotate verify").fails(23);
    app.directory.vault_unread("rotate fence --column nothing").fails(10);
    assert_eq!(app.directory.vault_unread("status --watch").code, 0, "it has nobody to tell more");
}

#[test]
fn a_late_writer_is_refused_by_the_fence() {
    let app = App::new(TOKENS, 5);
    let late = Sealer::from_key_file(app.directory.path("kek_1")).unwrap();
    app.directory.vault("rotate --new-key --without-backup --yes").ok();
    assert!(app.directory.vault("rotate fence --drop -n").ok().contains("would go: app.secrets"));
    let token = late.seal(&context(1), b"late").unwrap().to_string();
    let written = app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = 1", [token]);
    assert!(written.unwrap_err().to_string().contains("is being retired"));
}

#[test]
fn a_changed_context_is_resealed() {
    let app = App::new(TOKENS, 12);
    let config = fs::read_to_string(app.directory.path("vault.toml")).unwrap();
    app.directory.write("vault.toml", config.replace("name = \"{name}\", purpose", "name = \"{id}\", purpose"));
    app.directory.vault("reseal app.secrets --old-context tenant={user_id} --old-context name={name} --old-context purpose=user-secret").ok();
    let sealer = Sealer::from_key_file(app.directory.path("kek_1")).unwrap();
    for (id, value) in app.values() {
        let now = vault_core::Context::new("user-secret").tenant((id % 7).to_string()).name(id.to_string());
        assert_eq!(sealer.open(&now, &value.parse().unwrap()).unwrap().expose_secret(), secret(id).as_bytes());
    }
    app.directory.vault("reseal app.secrets --old-context owner=x").fails(2);
}

#[test]
fn errors_are_objects_where_asked() {
    let app = App::new(TOKENS, 1);
    let told = app.directory.vault("key promote kaaaaaaaaaaaaaaaa --yes --json").fails(20);
    let told = json(&told);
    assert_eq!(told["error"]["kind"], "unknown-key");
}
