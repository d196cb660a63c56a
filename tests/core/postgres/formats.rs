//! Values that applications store on PostgreSQL in formats of their own: rotated while these are
//! stopped, moved to tokens while old and new versions run side by side, and back.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use vault_core::legacy::{open, seal};
use vault_core::rotate::{End, Job, RunOptions};
use vault_core::{Access, Error, Format, Scope, Token};

use super::application::{App, context, secret, stopped};
use crate::server::server;

const FLOWFILE: &str = "reads = [\"flowfile-v1\"]\nwrites = \"flowfile-v1\"\nkeyring = \"text\"\n";

#[test]
fn a_legacy_column_is_rotated_only_while_its_application_is_stopped() {
    let app = App::new(FLOWFILE);
    app.fill_legacy(60);
    let before = app.values();
    app.promote_new("text");
    let refused = app.run(&Job::Rotate, &RunOptions::default()).unwrap_err();
    assert!(matches!(&refused, Error::Refused { remedy, .. } if remedy.contains("--app-stopped")), "{refused}");
    assert_eq!(app.values(), before);
    let summary = app.run(&Job::Rotate, &stopped()).unwrap();
    assert_eq!((summary.rewritten, summary.stale, summary.end), (60, 0, End::Clean));
    let (old, new) = (app.text_key("text_1"), app.text_key("text_2"));
    let moved = app.values();
    for (id, value) in &moved {
        let opened = open(Format::FlowfileV1, &new, None, value.as_bytes()).unwrap();
        assert_eq!(opened.expose_secret(), secret(*id).as_bytes());
        assert!(open(Format::FlowfileV1, &old, None, value.as_bytes()).is_err());
    }
    assert_eq!(app.run(&Job::Rotate, &stopped()).unwrap().rewritten, 0);
    assert_eq!(app.values(), moved, "applied twice equals once");
}

/// One row that does not open, and nothing is changed anywhere.
#[test]
fn an_exclusive_run_keeps_everything_or_nothing() {
    let app = App::new(FLOWFILE);
    app.fill_legacy(30);
    app.promote_new("text");
    app.database.execute("UPDATE secrets SET v = '$ffsec$1$3$damaged' WHERE id = 17");
    let before = app.values();
    let summary = app.run(&Job::Rotate, &stopped()).unwrap();
    assert!(summary.undone && summary.end == End::Stale, "{summary:?}");
    assert_eq!(app.values(), before);
    app.database.execute("DELETE FROM secrets WHERE id = 17");
    // An application that was not stopped is told by its own lock.
    let mut client = app.database.connect();
    let mut held = client.transaction().unwrap();
    held.batch_execute("UPDATE secrets SET counter = 1 WHERE id = 3").unwrap();
    assert!(matches!(app.run(&Job::Rotate, &stopped()), Err(Error::Temporary { .. })));
    held.rollback().unwrap();
    assert_eq!(app.run(&Job::Rotate, &stopped()).unwrap().end, End::Clean);
}

/// The connection ends while the server commits: nobody is told that nothing was changed.
#[test]
fn a_commit_without_an_answer_is_told_as_that() {
    let app = App::new(FLOWFILE);
    app.promote_new("text");
    app.run(&Job::Rotate, &stopped()).unwrap();
    app.fill_legacy(30);
    let between = cutting_off_the_answer_to_a_commit();
    let host = between.path().display();
    app.configure(&format!("postgresql://postgres@/{}?host={host}&port=5432", app.database.name), FLOWFILE);
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    let unfinished = rotation.run(&Job::Rotate, &stopped(), &mut |_| core::ops::ControlFlow::Continue(())).unwrap_err();
    assert_eq!(unfinished.error.kind().exit_code(), 24, "{}", unfinished.error);
    assert!(unfinished.error.hint().unwrap().contains("before anything is started"));
    let summary = &unfinished.summaries[0];
    assert!(!summary.undone && summary.end == End::Stopped, "{summary:?}");
    app.configure(&app.database.url(), FLOWFILE);
    assert_eq!(app.run(&Job::Rotate, &stopped()).unwrap().end, End::Clean);
}

/// A directory with a socket that passes on what client and server say, until a transaction that
/// updated something is committed: the client does not hear how that ended.
fn cutting_off_the_answer_to_a_commit() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join(".s.PGSQL.5432")).unwrap();
    let server = server().path(&format!(".s.PGSQL.{}", server().port));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), UnixStream::connect(&server).unwrap());
            let answers = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || pass_on(answers.0, answers.1, |_| true));
            thread::spawn(move || {
                let mut updated = false;
                pass_on(client, server, |said| {
                    let says = |word: &[u8]| said.windows(word.len()).any(|part| part == word);
                    updated |= says(b"UPDATE ");
                    !(updated && says(b"COMMIT\0"))
                });
            });
        }
    });
    directory
}

/// Passes on what one side says while `goes_on` says so, and hangs up. What ends it is passed on, too.
fn pass_on(mut from: UnixStream, mut to: UnixStream, mut goes_on: impl FnMut(&[u8]) -> bool) {
    let mut said = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut said) {
        let goes_on = goes_on(&said[..length]);
        if !goes_on {
            // Before the server can answer.
            let _ = from.shutdown(Shutdown::Both);
        }
        if to.write_all(&said[..length]).is_err() || !goes_on {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Write);
}

/// Three formats and plain text in one column of text, and in a member of a document.
#[test]
fn mixed_values_become_tokens_and_go_back() {
    for (kind, member) in [("text", ""), ("jsonb", "member = \"refresh_token\"\n")] {
        let reads = "reads = [\"social-v1\", \"social-gcm16\", \"plaintext\"]\n";
        let declared = |writes: &str, linked: bool| {
            format!(
                "{member}{reads}writes = \"{writes}\"\nkeyring = \"{}\"\nreads_keyring = \"{}\"\nlinked = {linked}\n",
                if writes == "vs1" { "main" } else { "text" },
                if writes == "vs1" { "text" } else { "main" },
            )
            .replace("reads = [", if writes == "vs1" { "reads = [\"vs1\", " } else { "reads = [" })
        };
        let app = App::new(&declared("social-v1", true));
        let key = app.text_key("text_1");
        app.database.execute("DROP INDEX secrets_left_idx");
        app.fill(60, |id| match id % 4 {
            0 => secret(id),
            1 => seal(Format::SocialGcm16, &key, None, secret(id).as_bytes()).unwrap(),
            _ => seal(Format::SocialV1, &key, None, secret(id).as_bytes()).unwrap(),
        });
        if kind == "jsonb" {
            app.database.execute(
                "ALTER TABLE secrets ALTER v TYPE jsonb USING jsonb_build_object('scope', 'all', 'refresh_token', v)",
            );
        }
        let read = || -> Vec<(u64, String)> {
            let sql = if kind == "jsonb" {
                "SELECT id, v ->> 'refresh_token' FROM secrets ORDER BY id"
            } else {
                "SELECT id, v FROM secrets ORDER BY id"
            };
            let rows = app.database.connect().query(sql, &[]).unwrap();
            rows.iter().map(|row| (u64::try_from(row.get::<_, i64>(0)).unwrap(), row.get(1))).collect()
        };
        let refused = app.run(&Job::Migrate(Format::Vs1), &RunOptions::default()).unwrap_err();
        assert!(matches!(refused, Error::Refused { .. }), "applications go on writing the old format");

        app.configure(&app.database.url(), &declared("vs1", true));
        // The old version reads both, and goes on writing its own format beside the migration.
        thread::scope(|scope| {
            let old_version = scope.spawn(|| {
                let mut client = app.database.connect();
                for id in [5_u64, 30, 59] {
                    let value = seal(Format::SocialV1, &app.text_key("text_1"), None, secret(id).as_bytes()).unwrap();
                    let number = i64::try_from(id).unwrap();
                    let sql = if kind == "jsonb" {
                        "UPDATE secrets SET v = v || jsonb_build_object('refresh_token', $1::text), counter = counter + 1 WHERE id = $2"
                    } else {
                        "UPDATE secrets SET v = $1, counter = counter + 1 WHERE id = $2"
                    };
                    client.execute(sql, &[&value, &number]).unwrap();
                }
            });
            let summary = app.run(&Job::Migrate(Format::Vs1), &super::application::batches_of(7)).unwrap();
            assert!(matches!(summary.end, End::Clean | End::Locked), "{summary:?}");
            old_version.join().unwrap();
        });
        assert_eq!(app.run(&Job::Migrate(Format::Vs1), &RunOptions::default()).unwrap().end, End::Clean);
        let vault = app.vault();
        for (id, value) in read() {
            let opened = vault.open(&context(id), &value.parse::<Token>().unwrap()).unwrap();
            assert_eq!(opened.expose_secret(), secret(id).as_bytes(), "{kind} {id}");
        }
        vault.rotation(Scope::Column("c"), Access::Write).unwrap().abort().unwrap();

        app.configure(&app.database.url(), &declared("social-v1", true).replace("reads = [", "reads = [\"vs1\", "));
        assert_eq!(app.run(&Job::Migrate(Format::SocialV1), &RunOptions::default()).unwrap().end, End::Clean);
        for (id, value) in read() {
            let opened = open(Format::SocialV1, &key, None, value.as_bytes()).unwrap();
            assert_eq!(opened.expose_secret(), secret(id).as_bytes());
        }
        if kind == "jsonb" {
            assert_eq!(super::number(&app.database, "SELECT count(*) FROM secrets WHERE v ->> 'scope' = 'all'"), 60);
        }
    }
}

/// Bytes that two columns of one table hold, of which one may never be updated.
#[test]
fn columns_of_bytes_keep_what_may_not_change() {
    let app = App::new(FLOWFILE);
    let key = app.text_key("text_1");
    app.database.execute(
        "CREATE TABLE consent_records (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), ip_address_encrypted bytea);
         CREATE TABLE audit_logs (id bigserial PRIMARY KEY, metadata_encrypted bytea);
         CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'UPDATE operations are prohibited'; END $$;
         CREATE TRIGGER forbid BEFORE UPDATE ON audit_logs FOR EACH ROW EXECUTE FUNCTION forbid()",
    );
    let mut client = app.database.connect();
    for number in 0..20 {
        let ip = seal(Format::FaceColumn, &key, None, format!("203.0.113.{number}").as_bytes()).unwrap();
        let note = seal(Format::FaceJson, &key, None, b"{\"note\": \"x\"}").unwrap();
        client.execute("INSERT INTO consent_records (ip_address_encrypted) VALUES ($1)", &[&ip.as_bytes()]).unwrap();
        client.execute("INSERT INTO audit_logs (metadata_encrypted) VALUES ($1)", &[&note.as_bytes()]).unwrap();
    }
    let text = format!(
        "version = 1\n[vault]\nnodes = 1\n[keyring.text]\nkind = \"text\"\nsources = [\"file:text_*\"]\nstate = \"text.keyring.toml\"\n\
         [[column]]\nname = \"consent\"\ndatabase = \"{url}\"\ntable = \"consent_records\"\nrow = [\"id\"]\nvalue = \"ip_address_encrypted\"\n\
         reads = [\"face-column\"]\nwrites = \"face-column\"\nkeyring = \"text\"\ncontext = {{}}\n\
         [[column]]\nname = \"audit\"\ndatabase = \"{url}\"\ntable = \"audit_logs\"\nrow = [\"id\"]\nvalue = \"metadata_encrypted\"\n\
         reads = [\"face-json\"]\nwrites = \"face-json\"\nkeyring = \"text\"\nimmutable = true\ncontext = {{}}\n",
        url = app.database.url()
    );
    fs::write(app.path("vault.toml"), text).unwrap();
    let old = app.vault().keyring("text").unwrap().primary_kid();
    app.promote_new("text");
    let new = app.text_key("text_2");
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Keyring("text"), Access::Write).unwrap();
    let summaries = rotation.run(&Job::Rotate, &stopped(), &mut |_| core::ops::ControlFlow::Continue(())).unwrap();
    assert_eq!(
        summaries.iter().map(|summary| (summary.rewritten, summary.end)).collect::<Vec<_>>(),
        [(20, End::Clean), (0, End::Pinned)]
    );
    for row in client.query("SELECT ip_address_encrypted FROM consent_records", &[]).unwrap() {
        let value: Vec<u8> = row.get(0);
        assert!(open(Format::FaceColumn, &new, None, &value).unwrap().expose_secret().starts_with(b"203.0.113."));
    }
    let verification = vault.rotation(Scope::UsesKeyring("text"), Access::Write).unwrap().verify().unwrap();
    assert!(verification.is_clean(), "pinned rows are no failure");
    let refused = verification.retired(old).unwrap_err().to_string();
    assert!(refused.contains("column audit holds 20 values") && refused.contains("may never be updated"), "{refused}");
}
