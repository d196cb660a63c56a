//! Whole rotations on PostgreSQL: beside writers, by several workers, through a pooler, by a role
//! with no more privileges than it takes.

use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use vault_core::rotate::{End, Job, RunOptions};
use vault_core::{Access, Error, Scope, Token};

use crate::server::{Pooler, role};

use super::application::{App, TOKENS, batches_of, context, run, secret};
use super::number;

#[test]
fn tokens_are_rewrapped_fenced_and_proved() {
    let app = App::new(TOKENS);
    app.fill_tokens(1_234);
    let before = app.values();
    let old = app.vault().sealer().unwrap().primary().unwrap();
    let new = app.promote_new("main");
    let summary = app.run(&Job::Rotate, &batches_of(100)).unwrap();
    assert_eq!((summary.rewritten, summary.stale, summary.failed.len(), summary.end), (1_234, 0, 0, End::Clean));
    for ((_, old), (_, now)) in before.iter().zip(app.values()) {
        assert_eq!(old[87..], now[87..], "the payload is untouched");
        assert!(now.starts_with(&format!("vs1.{new}.")));
    }
    app.all_open();
    let again = app.run(&Job::Rotate, &RunOptions::default()).unwrap();
    assert_eq!((again.rewritten, again.end), (0, End::Clean), "applied twice equals once");

    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::UsesKeyring("main"), Access::Write).unwrap();
    assert_eq!(rotation.fence(None).unwrap(), ["c"]);
    let verification = rotation.verify().unwrap();
    assert!(verification.is_clean() && rotation.runs().unwrap().is_empty());
    let validated =
        "SELECT count(*) FROM pg_constraint WHERE conrelid = 'secrets'::regclass AND contype = 'c' AND convalidated";
    assert_eq!(number(&app.database, validated), 1, "the database proved it");
    drop(rotation);
    crate::disable(&vault, "main", verification.retired(old).unwrap()).unwrap();
    let late = app.database.connect().execute("UPDATE secrets SET v = $1 WHERE id = 1", &[&before[0].1]).unwrap_err();
    assert_eq!(late.code().unwrap().code(), "23514");
    app.all_open();
}

/// A key does not go while a value is under it, even one that came late.
#[test]
fn a_key_that_is_needed_stays() {
    let app = App::new(TOKENS);
    app.fill_tokens(20);
    let before = app.values();
    let old = app.vault().sealer().unwrap().primary().unwrap();
    app.promote_new("main");
    app.run(&Job::Rotate, &RunOptions::default()).unwrap();
    app.database.connect().execute("UPDATE secrets SET v = $1 WHERE id = 7", &[&before[6].1]).unwrap();
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::UsesKeyring("main"), Access::Write).unwrap();
    assert!(rotation.fence(None).unwrap_err().to_string().contains("column c holds 1 values"));
    let refused = rotation.verify().unwrap().retired(old).unwrap_err();
    assert!(refused.to_string().contains("column c holds 1 values under key"), "{refused}");
    assert_eq!(refused.kind().exit_code(), 23);
    assert_eq!(rotation.stale().unwrap()[0].1, Some(1), "told by the index");
}

/// Four workers, one target, and an application that writes all the while, at times under the old
/// key: no value is lost, no write of the application is undone. Who has written a batch waits for
/// somebody else who has.
#[test]
fn workers_share_a_run_beside_an_application() {
    let app = App::new(TOKENS);
    app.fill_tokens(3_000);
    let before = app.vault();
    app.promote_new("main");
    let (done, writes, shared) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        let vault = app.vault();
        let mut rotation = vault.rotation(Scope::Column("c"), Access::Write)?;
        let mut has_written = false;
        let summaries = rotation.run(&Job::Rotate, &batches_of(100), &mut |step| {
            if step.rewritten > 0 && !has_written {
                has_written = true;
                shared.fetch_add(1, Ordering::Relaxed);
                let began = Instant::now();
                while shared.load(Ordering::Relaxed) < 2 && began.elapsed() < Duration::from_secs(60) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            ControlFlow::Continue(())
        });
        Ok::<_, Error>(summaries?.remove(0))
    };
    // Each writer has rows of its own.
    let last = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for writer in 0..3_u64 {
            let (app, before, done, writes, last) = (&app, &before, &done, &writes, &last);
            scope.spawn(move || {
                let current = app.vault();
                let mut client = app.database.connect();
                let mut round = writer;
                while !done.load(Ordering::Relaxed) {
                    let id = (round * 37) % 3_000 + 1;
                    let vault = if round % 5 == 0 { before } else { &current };
                    let value = format!("{}changed by {writer} {round}", secret(id));
                    let token = vault.seal(&context(id), value.as_bytes()).unwrap().to_string();
                    let number = i64::try_from(id).unwrap();
                    client
                        .execute("UPDATE secrets SET v = $1, counter = counter + 1 WHERE id = $2", &[&token, &number])
                        .unwrap();
                    writes.fetch_add(1, Ordering::Relaxed);
                    last.lock().unwrap().insert(id, value);
                    round += 3;
                }
            });
        }
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        let summaries: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        let rewritten: Vec<u64> = summaries.into_iter().map(|summary| summary.unwrap().unwrap().rewritten).collect();
        assert!(rewritten.iter().filter(|rows| **rows > 0).count() >= 2, "the work is shared: {rewritten:?}");
        let untouched = 3_000 - u64::try_from(last.lock().unwrap().len()).unwrap();
        assert!(rewritten.iter().sum::<u64>() >= untouched, "{rewritten:?} of {untouched} that nobody else wrote");
    });
    let counted = number(&app.database, "SELECT sum(counter)::int8 FROM secrets");
    assert_eq!(u64::try_from(counted).unwrap(), writes.load(Ordering::Relaxed));
    let (vault, values) = (app.vault(), app.values());
    for (id, written) in last.lock().unwrap().iter() {
        let (_, value) = &values[usize::try_from(*id).unwrap() - 1];
        let opened = vault.open(&context(*id), &value.parse::<Token>().unwrap()).unwrap();
        assert_eq!(opened.expose_secret(), written.as_bytes(), "what was written last stays");
    }
    assert_eq!(app.run(&Job::Rotate, &RunOptions::default()).unwrap().end, End::Clean);
    let kid = app.vault().sealer().unwrap().primary().unwrap();
    assert!(app.values().iter().all(|(_, value)| value.starts_with(&format!("vs1.{kid}."))));
    app.all_open();
}

/// A row that somebody holds does not stop the others, and is told.
#[test]
fn rows_that_stay_locked_are_told() {
    let app = App::new(TOKENS);
    app.fill_tokens(50);
    app.promote_new("main");
    let mut client = app.database.connect();
    let mut held = client.transaction().unwrap();
    held.batch_execute("UPDATE secrets SET counter = 1 WHERE id = 9").unwrap();
    let summary = app.run(&Job::Rotate, &batches_of(10)).unwrap();
    assert_eq!((summary.rewritten, summary.stale, summary.end), (49, 1, End::Locked));
    held.commit().unwrap();
    assert_eq!(app.run(&Job::Rotate, &batches_of(10)).unwrap().end, End::Clean);
}

/// What each row of a deep rotation was sealed with before is nowhere.
#[test]
fn a_deep_rotation_waits_for_rows() {
    let app = App::new(TOKENS);
    app.fill_tokens(40);
    let before = app.values();
    let mut client = app.database.connect();
    let mut held = client.transaction().unwrap();
    held.batch_execute("UPDATE secrets SET counter = 1 WHERE id = 9").unwrap();
    let error = app.run(&Job::RotateDeep, &batches_of(10)).unwrap_err();
    assert!(matches!(error, Error::Temporary { .. }), "{error}");
    held.commit().unwrap();
    assert_eq!(app.run(&Job::RotateDeep, &batches_of(10)).unwrap().end, End::Clean);
    assert!(before.iter().zip(app.values()).all(|((_, old), (_, now))| old[87..] != now[87..]));
    app.all_open();
}

#[test]
fn a_run_that_is_stopped_goes_on_where_it_was() {
    let app = App::new(TOKENS);
    app.fill_tokens(300);
    app.promote_new("main");
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    let mut steps = 0;
    let stopped = rotation.run(&Job::Rotate, &batches_of(10), &mut |_| {
        steps += 1;
        if steps == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(stopped.unwrap()[0].end, End::Stopped);
    let (_, open) = rotation.runs().unwrap().remove(0);
    assert_eq!((open.rewritten, open.cursor.unwrap().to_string()), (30, "30".to_owned()));
    let other = app.vault();
    let mut other = other.rotation(Scope::Column("c"), Access::Write).unwrap();
    let summary = run(&mut other, &Job::Rotate, &batches_of(10)).unwrap();
    assert_eq!((summary.rewritten, summary.end), (270, End::Clean));
    app.all_open();
}

#[test]
fn a_pooler_in_transaction_mode_is_no_obstacle() {
    let app = App::new(TOKENS);
    app.fill_tokens(500);
    let pooler = Pooler::new();
    app.configure(&pooler.url(&app.database.name), TOKENS);
    app.promote_new("main");
    // What some session keeps must not be missed, or be in the way.
    let others: Vec<_> = (0..3)
        .map(|_| {
            let mut config = postgres::Config::new();
            config.host_path(pooler.directory.path()).port(pooler.port).user("postgres").dbname(&app.database.name);
            let mut client = config.connect(postgres::NoTls).unwrap();
            client.batch_execute("SET row_security = on; SET search_path = pg_catalog; SELECT pg_sleep(0.05)").unwrap();
            client
        })
        .collect();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..3).map(|_| scope.spawn(|| app.run(&Job::Rotate, &batches_of(20)).unwrap())).collect();
        for worker in workers {
            assert_eq!(worker.join().unwrap().end, End::Clean);
        }
    });
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    rotation.fence(None).unwrap();
    assert!(rotation.verify().unwrap().is_clean());
    app.all_open();
    drop(others);
}

/// The privileges that docs/OPERATIONS.md grants are enough, and fewer are not.
#[test]
fn a_role_needs_no_more_than_it_is_granted() {
    let app = App::new(TOKENS);
    app.fill_tokens(100);
    role("vault_rotate", "");
    role("vault_status", "");
    role("app_owner", "");
    app.database.execute(
        "ALTER TABLE secrets OWNER TO app_owner;
         REVOKE CREATE ON SCHEMA public FROM public",
    );
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
    let page = std::fs::read_to_string(page).unwrap();
    let grants: Vec<&str> = page.split("```sql\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert_eq!(grants.len(), 6, "the last ones are for other purposes");
    grants
        .iter()
        .take(3)
        .flat_map(|block| block.split_inclusive(";\n"))
        .for_each(|statement| app.database.execute(statement));
    app.promote_new("main");
    app.configure(&app.database.url_as("vault_rotate"), TOKENS);
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    // Beside an application that holds a row, too.
    let mut client = app.database.connect();
    let mut held = client.transaction().unwrap();
    held.batch_execute("UPDATE secrets SET counter = 1 WHERE id = 9").unwrap();
    let summary = run(&mut rotation, &Job::Rotate, &batches_of(30)).unwrap();
    assert_eq!((summary.rewritten, summary.end), (99, End::Locked));
    held.commit().unwrap();
    assert_eq!(run(&mut rotation, &Job::Rotate, &batches_of(30)).unwrap().end, End::Clean);
    let error = run(&mut rotation, &Job::Rotate, &super::application::stopped()).unwrap_err();
    assert_eq!(error.hint(), Some("GRANT UPDATE ON \"public\".\"secrets\" TO the role of the URL"), "{error}");
    let error = rotation.fence(None).unwrap_err();
    assert!(error.to_string().contains("lacks a privilege"), "a fence is the owner's: {error}");
    app.configure(&app.database.url_as("vault_status"), TOKENS);
    let status = app.vault();
    let mut status = status.rotation(Scope::Column("c"), Access::Read).unwrap();
    assert_eq!(status.count(false).unwrap()[0].stale, 0);
    assert_eq!(status.runs().unwrap().len(), 1);
    let vault = app.vault();
    let written = vault.rotation(Scope::Column("c"), Access::Write).unwrap().run(
        &Job::Rotate,
        &RunOptions::default(),
        &mut |_| ControlFlow::Continue(()),
    );
    assert!(written.is_err());
    assert!(rotation.verify().unwrap().is_clean());
    // The owner's part, who is no superuser.
    app.configure(&app.database.url_as("vault_rotate"), TOKENS);
    app.run(&Job::Rotate, &RunOptions::default()).unwrap();
    assert!(grants[4].contains("TO app_owner;"));
    app.database.execute(grants[4]);
    app.configure(&app.database.url_as("app_owner"), TOKENS);
    let vault = app.vault();
    let mut owner = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    owner.fence(None).unwrap();
    assert!(owner.verify().unwrap().is_clean());
    assert!(owner.runs().unwrap().is_empty());
    // A fence that was proved is no matter for the others.
    assert!(rotation.verify().unwrap().is_clean());
    app.all_open();
}

/// The server goes away in the middle of a run: what was committed stays, the rest is done later.
#[test]
fn a_lost_server_costs_a_batch() {
    let app = App::new(TOKENS);
    app.fill_tokens(200);
    app.promote_new("main");
    let vault = app.vault();
    let mut rotation = vault.rotation(Scope::Column("c"), Access::Write).unwrap();
    let mut steps = 0;
    let result = rotation.run(&Job::Rotate, &batches_of(10), &mut |_| {
        steps += 1;
        if steps == 5 {
            number(
                &app.database,
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'vault' AND datname = current_database()",
            );
        }
        ControlFlow::Continue(())
    });
    let summary = match result {
        // Between transactions, it is not even noticed.
        Ok(mut summaries) => summaries.remove(0),
        Err(_) => run(&mut rotation, &Job::Rotate, &batches_of(10)).unwrap(),
    };
    assert_eq!(summary.end, End::Clean);
    app.all_open();
    let kid = app.vault().sealer().unwrap().primary().unwrap();
    assert!(app.values().iter().all(|(_, value)| value.parse::<Token>().unwrap().kid() == kid));
}
