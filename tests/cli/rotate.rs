//! `rotate`, `migrate`, `reseal` and `status`.

use std::fs;
use std::path::Path;

use serde_json::Value;
use vault_core::foreign;
use vault_core::{Format, Sealer};

use crate::{App, FOREIGN, TOKENS, context, secret};

fn json(told: &str) -> Value {
    let value: Value = serde_json::from_str(told).unwrap();
    assert_eq!(value["schema_version"], 1);
    value
}

/// Every file of a directory with its content.
fn snapshot(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn rotate_alone_does_all_of_it() {
    let app = App::new(TOKENS, 500);
    let old = app.primary("main");
    let told = app.directory.vault("rotate --yes --retire --batch 60");
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.out.contains("500 rewritten") && told.out.contains("verified: nothing is stale"), "{}", told.out);
    assert!(
        told.err.contains("was generated") && told.err.contains("app.secrets: pass 1, 60 rows, 60 rewritten"),
        "{}",
        told.err
    );
    let new = app.primary("main");
    assert_ne!(new, old);
    assert!(app.values().iter().all(|(_, value)| value.starts_with(&format!("vs1.{new}."))));
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
    app.directory.vault("rotate --yes").ok();
    assert_ne!(app.primary("main"), new, "asked again, there is another key");
}

#[test]
fn rotate_alone_waits_for_the_other_processes() {
    let app = App::new(TOKENS, 20);
    app.configure(TOKENS, 3);
    let told = app.directory.vault("rotate --yes").fails(75);
    assert!(told.contains("waits as active") && told.contains("--all-nodes-loaded"), "{told}");
    let again = app.directory.vault("rotate --yes").fails(75);
    assert!(!again.contains("was generated"), "one key waits, and no second one is made: {again}");
    app.directory.vault("rotate --yes --all-nodes-loaded").ok();
    assert!(app.directory.vault("status").ok().contains("may go"));
}

#[test]
fn an_unlinked_application_is_rotated_while_it_is_stopped_and_then_moved_to_tokens() {
    let app = App::new(FOREIGN, 90);
    let refused = app.directory.vault("rotate --keyring text --yes").fails(23);
    assert!(refused.contains("stop every process") && refused.contains("--app-stopped"), "{refused}");
    assert_eq!(app.directory.vault("key list --keyring text").ok().lines().count(), 1, "and no key was made");

    let old = app.primary("text");
    let told = app.directory.vault("rotate --keyring text --app-stopped --yes");
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
        let opened = foreign::open(Format::FlowfileV1, &key, None, value.as_bytes()).unwrap();
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
            FOREIGN,
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
            assert!(matches!(ran.code, 0 | 23), "{line}: {ran:?}");
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
    assert!(app.directory.vault("status").ok().contains("open run of rotate"));
    app.directory.vault("rotate fence").fails(23);
    let would = app.directory.vault("rotate fence -n");
    assert!(would.code == 23 && would.out.contains("190 values under a key that was replaced"), "{would:?}");
    app.directory.vault("rotate verify").fails(23);
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

#[test]
fn a_late_writer_is_refused_by_the_fence() {
    let app = App::new(TOKENS, 5);
    let late = Sealer::from_key_file(app.directory.path("kek_1")).unwrap();
    app.directory.vault("rotate --yes").ok();
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
