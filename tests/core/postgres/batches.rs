//! Batches: what is written, beside whom, and what becomes of rows that cannot be.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::thread;
use std::time::Instant;

use vault_core::Error;
use vault_core::column::{Cell, Column, Fence, Progress, RowKey};

use crate::server::Database;

use super::{
    NEW, OLD, PROGRESS, column, moved, new_run, number, read_all, rotate, stale, text, token, try_write, write,
};

#[test]
fn a_batch_writes_only_what_still_is_what_was_read() {
    let database = super::application(6);
    let mut column = column(&database);
    let changes: Vec<_> = read_all(&mut column, &stale(), true, 10).iter().map(moved).collect();
    database.execute(
        "UPDATE t SET v = 'vs1.other' WHERE id = 2; DELETE FROM t WHERE id = 4; UPDATE t SET u = 'x' WHERE id = 5",
    );
    let written = write(&mut column, &changes);
    assert_eq!((written.rewritten, written.lost, written.failed.len()), (4, 2, 0));
    assert_eq!(text(&database, "SELECT v FROM t WHERE id = 2"), "vs1.other");
    assert_eq!(text(&database, "SELECT v || u FROM t WHERE id = 5"), token(NEW, 5) + "x");
    let run = column.run().unwrap().unwrap();
    assert_eq!((run.rewritten, run.lost, run.cursor.unwrap().to_string()), (4, 2, "6".to_owned()));
    assert_eq!(write(&mut column, &changes).rewritten, 0, "applied twice equals once");
}

/// Another worker's rows are passed over and not waited for; a deep run waits.
#[test]
fn rows_that_others_hold_are_passed_over() {
    let database = super::application(5);
    let mut column = column(&database);
    let changes: Vec<_> = read_all(&mut column, &stale(), true, 10).iter().map(moved).collect();
    let mut other = database.connect();
    let mut held = other.transaction().unwrap();
    held.batch_execute("SELECT FROM t WHERE id IN (2, 3) FOR UPDATE").unwrap();
    let written = write(&mut column, &changes);
    assert_eq!((written.rewritten, written.lost), (3, 2));
    // The best of three, as other processes may hold up one; each on a connection that has met nobody yet.
    let times = (0..3).map(|_| {
        let mut column = super::column(&database);
        let run = column.open_run(&new_run(NEW)).unwrap();
        let progress = Progress { run: &run.id, ..PROGRESS };
        let began = Instant::now();
        assert_eq!(column.write(&changes, &progress).unwrap().lost, 5);
        began.elapsed()
    });
    assert!(times.min().unwrap() < Duration::from_secs(1), "rows that others hold are waited for");
    let error = try_write(&mut column, &changes, true).unwrap_err();
    assert!(matches!(error, Error::Temporary { .. }), "{error}");
    thread::scope(|scope| {
        scope.spawn(|| {
            let waits = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE datname = current_database() AND NOT granted";
            let began = Instant::now();
            while number(&database, waits) == 0 && began.elapsed() < Duration::from_secs(60) {
                thread::sleep(Duration::from_millis(5));
            }
            held.rollback().unwrap();
        });
        assert_eq!(try_write(&mut column, &changes, true).unwrap().rewritten, 2);
    });
}

/// A foreign key's lock on a row is in nobody's way.
#[test]
fn a_row_that_is_referred_to_is_not_held() {
    let database = super::application(3);
    database.execute("CREATE TABLE child (t bigint REFERENCES t)");
    let mut column = column(&database);
    let mut other = database.connect();
    let mut inserting = other.transaction().unwrap();
    inserting.batch_execute("INSERT INTO child VALUES (1), (2)").unwrap();
    assert_eq!(rotate(&mut column, 10).rewritten, 3);
}

#[test]
fn a_trigger_that_raises_fails_its_rows_alone() {
    let database = super::application(30);
    database.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.id % 10 = 3 THEN RAISE EXCEPTION 'vs1 secret %', NEW.v; END IF; RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    let mut column = column(&database);
    let changes: Vec<_> = read_all(&mut column, &stale(), true, 100).iter().map(moved).collect();
    let written = write(&mut column, &changes);
    assert_eq!((written.rewritten, written.lost, written.failed.len()), (27, 0, 3));
    assert_eq!(written.failed[0].1, "a trigger refused it (SQLSTATE P0001)", "and nothing of the row");
    let listed = column.failures().unwrap();
    assert_eq!(listed.len(), 3);
    database.execute("DROP TRIGGER refuse ON t");
    assert_eq!(write(&mut column, &changes).rewritten, 3);
    assert!(column.failures().unwrap().is_empty(), "what was written is no longer listed");
}

#[test]
fn triggers_that_swallow_or_alter_are_noticed() {
    for (when, body, reason) in [
        ("BEFORE", "IF NEW.id = 3 THEN RETURN NULL; END IF; RETURN NEW;", "a trigger ignored the update"),
        ("BEFORE", "IF NEW.id = 3 THEN NEW.v := NEW.v || 'x'; END IF; RETURN NEW;", "altered it"),
        ("BEFORE", "IF NEW.id = 3 THEN NEW.v := OLD.v; END IF; RETURN NEW;", "altered it"),
        (
            "AFTER",
            "IF NEW.id = 3 AND pg_trigger_depth() = 1 THEN UPDATE t SET v = OLD.v WHERE id = 3; END IF; RETURN NULL;",
            "altered it",
        ),
    ] {
        let database = super::application(5);
        database.execute(&format!(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
             CREATE TRIGGER f {when} UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()"
        ));
        let mut column = column(&database);
        let changes: Vec<_> = read_all(&mut column, &stale(), true, 100).iter().map(moved).collect();
        let written = write(&mut column, &changes);
        assert_eq!((written.rewritten, written.failed.len()), (4, 1), "{body}");
        assert!(written.failed[0].1.contains(reason), "{body}: {}", written.failed[0].1);
        assert_eq!(text(&database, "SELECT v FROM t WHERE id = 3"), token(OLD, 3), "{body}");
        assert_eq!(number(&database, &format!("SELECT count(*) FROM t WHERE v LIKE 'vs1.{NEW}.%'")), 4);
    }
}

/// What a deferred trigger would only say at the end of the transaction.
#[test]
fn deferred_triggers_are_asked_before_the_end() {
    let database = super::application(5);
    database.execute(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.id = 3 THEN RAISE 'no'; END IF; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER f AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION f()",
    );
    let mut column = column(&database);
    let changes: Vec<_> = read_all(&mut column, &stale(), true, 100).iter().map(moved).collect();
    let written = write(&mut column, &changes);
    assert_eq!((written.rewritten, written.failed.len()), (4, 1));
}

#[test]
fn constraints_and_lengths_fail_their_rows_alone() {
    let database = super::application(5);
    database.execute(&format!(
        "ALTER TABLE t ADD CHECK (id <> 2 OR v LIKE 'vs1.{OLD}%'); ALTER TABLE t ALTER v TYPE varchar(40)"
    ));
    let mut column = column(&database);
    let mut changes: Vec<_> = read_all(&mut column, &stale(), true, 100).iter().map(moved).collect();
    changes[4].new = "x".repeat(41);
    let written = write(&mut column, &changes);
    let reasons: Vec<_> = written.failed.iter().map(|(row, reason)| format!("{row}: {reason}")).collect();
    assert_eq!(
        reasons,
        ["2: a constraint refused it (SQLSTATE 23514)", "5: the new value is longer than the column (SQLSTATE 22001)"]
    );
    assert_eq!(written.rewritten, 3);
}

#[test]
fn partitions_are_one_table() {
    let database = Database::new();
    database.execute(&format!(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (50); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (50) TO (200);
         INSERT INTO t SELECT n, 'vs1.{OLD}.payload-' || n FROM generate_series(1, 100) n;
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = 60 THEN RETURN NULL; END IF; RETURN NEW; END $$;
         CREATE TRIGGER f BEFORE UPDATE ON t2 FOR EACH ROW EXECUTE FUNCTION f()"
    ));
    let mut column = column(&database);
    assert!(column.check().unwrap().iter().any(|finding| finding.to_string().contains("trigger f")));
    let written = rotate(&mut column, 30);
    assert_eq!((written.rewritten, written.failed.len()), (99, 1));
    database.execute("DROP TRIGGER f ON t2");
    assert_eq!(rotate(&mut column, 30).rewritten, 1);
    column.fence(&Fence::against(&[super::kid(OLD)])).unwrap();
    column.prove_fence().unwrap();
    assert!(
        database.connect().batch_execute(&format!("INSERT INTO t VALUES (70000, ''), (150, 'vs1.{OLD}.x')")).is_err()
    );
}

#[test]
fn the_guard_undoes_a_batch() {
    let database = super::application(5);
    let mut column = column(&database);
    let changes: Vec<_> = read_all(&mut column, &stale(), true, 100).iter().map(moved).collect();
    let run = column.open_run(&new_run(NEW)).unwrap();
    let guard = || Err(Error::Temporary { reason: "the keyring was changed".to_owned(), remedy: String::new() });
    let progress = Progress { run: &run.id, cursor: Some(&changes[4].key), guard: &guard, ..PROGRESS };
    assert!(matches!(column.write(&changes, &progress), Err(Error::Temporary { .. })));
    assert_eq!(number(&database, &format!("SELECT count(*) FROM t WHERE v LIKE 'vs1.{OLD}.%'")), 5);
    assert!(column.run().unwrap().unwrap().cursor.is_none());
}

/// A batch waits for the server, here for somebody's lock: time for other work, as long as there is any.
#[test]
fn other_work_is_done_while_the_server_writes() {
    let database = super::application(5);
    let mut column = column(&database);
    let changes: Vec<_> = read_all(&mut column, &stale(), true, 100).iter().map(moved).collect();
    let run = column.open_run(&new_run(NEW)).unwrap();
    let mut other = database.connect();
    let mut held = other.transaction().unwrap();
    held.execute("SELECT FROM t WHERE id = 3 FOR UPDATE", &[]).unwrap();
    let calls = AtomicUsize::new(0);
    let beside = || calls.fetch_add(1, Ordering::Relaxed) < 9;
    let progress = Progress { run: &run.id, beside: &beside, ..PROGRESS };
    let written = column.write(&changes, &progress).unwrap();
    assert_eq!((written.rewritten, written.lost), (4, 1));
    // As often as there is time, and once more by the statement that passes over the row.
    let calls = calls.into_inner();
    assert!((1..=11).contains(&calls), "{calls}");
}

/// However rows are locked and looked at again.
#[test]
fn other_work_is_done_beside_careful_batches() {
    let database = super::application(5);
    let mut column = column(&database);
    let changes: Vec<_> = read_all(&mut column, &stale(), true, 100).iter().map(moved).collect();
    let run = column.open_run(&new_run(NEW)).unwrap();
    let mut other = database.connect();
    let mut held = other.transaction().unwrap();
    held.execute("SELECT FROM t WHERE id = 3 FOR UPDATE", &[]).unwrap();
    let calls = AtomicUsize::new(0);
    let beside = || calls.fetch_add(1, Ordering::Relaxed) < 9;
    let progress = Progress { run: &run.id, waits: true, beside: &beside, ..PROGRESS };
    assert!(matches!(column.write(&changes, &progress), Err(Error::Temporary { .. })), "it waits for the row");
    assert_eq!(calls.into_inner(), 10);
}

/// Records of runs: joined by the same target, refused for another, and gone with the last.
#[test]
fn runs_are_joined_and_forgotten() {
    let database = super::application(5);
    let (mut first, mut second) = (column(&database), column(&database));
    let run = first.open_run(&new_run(NEW)).unwrap();
    assert_eq!(second.open_run(&new_run(NEW)).unwrap().id, run.id);
    assert!(matches!(second.open_run(&new_run("other")), Err(Error::Refused { .. })));
    let failed = vec![(RowKey::parse("[\"i9\"]").unwrap(), "why".to_owned())];
    first.list_failures(&run.id, &failed).unwrap();
    assert_eq!(second.failures().unwrap(), failed);
    let changes: Vec<_> = read_all(&mut first, &stale(), true, 100).iter().map(moved).collect();
    for (column, part) in [(&mut first, &changes[..2]), (&mut second, &changes[2..])] {
        let progress = Progress { run: &run.id, cursor: Some(&part[0].key), ..PROGRESS };
        column.write(part, &progress).unwrap();
    }
    assert_eq!(first.run().unwrap().unwrap().rewritten, 5, "of both workers");
    second.close_run().unwrap();
    assert!(first.run().unwrap().is_none());
    assert_eq!(
        number(
            &database,
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'vault_core'"
        ),
        0
    );
    let progress = Progress { run: &run.id, ..PROGRESS };
    let error = first.write(&changes, &progress).unwrap_err();
    assert!(matches!(&error, Error::Temporary { reason, .. } if reason.contains("forgotten")), "{error}");
    // A run of another column keeps the tables.
    first.open_run(&new_run(NEW)).unwrap();
    database.execute("CREATE TABLE other (id int PRIMARY KEY, v text)");
    let other = vault_core::column::ColumnSpec::new("other", "", "other", &["id"], "v");
    let mut other = super::column_of(&database, other);
    other.open_run(&new_run("elsewhere")).unwrap();
    first.close_run().unwrap();
    assert!(other.run().unwrap().is_some());
}

#[test]
fn many_make_the_first_record_at_once() {
    let database = super::application(5);
    thread::scope(|scope| {
        let runs: Vec<_> =
            (0..6).map(|_| scope.spawn(|| column(&database).open_run(&new_run(NEW)).unwrap().id)).collect();
        let ids: std::collections::BTreeSet<_> = runs.into_iter().map(|run| run.join().unwrap()).collect();
        assert_eq!(ids.len(), 1);
    });
}

/// Everything of the exclusive transaction, or nothing; nobody writes beside it, and all may read.
#[test]
fn an_exclusive_run_is_one_transaction() {
    let database = super::application(5);
    let mut column = column(&database);
    let changes: Vec<_> = read_all(&mut column, &stale(), true, 100).iter().map(moved).collect();
    for keep in [false, true] {
        column.begin_exclusive().unwrap();
        assert_eq!(write(&mut column, &changes).rewritten, 5);
        let mut application = database.connect();
        assert_eq!(number(&database, &format!("SELECT count(*) FROM t WHERE v LIKE 'vs1.{OLD}.%'")), 5);
        let refused = application.batch_execute("SET lock_timeout = '100ms'; INSERT INTO t VALUES (50, 'late')");
        assert_eq!(refused.unwrap_err().code().unwrap().code(), "55P03");
        if keep {
            column.commit().unwrap();
        } else {
            column.rollback().unwrap();
        }
        let moved = number(&database, &format!("SELECT count(*) FROM t WHERE v LIKE 'vs1.{NEW}.%'"));
        assert_eq!(moved, if keep { 5 } else { 0 });
    }
}

/// Batches of one transaction follow each other, and are not one inside the other.
#[test]
fn batches_of_an_exclusive_run_leave_nothing_open() {
    let database = super::application(40);
    let mut column = column(&database);
    let changes: Vec<_> = read_all(&mut column, &stale(), true, 100).iter().map(moved).collect();
    column.begin_exclusive().unwrap();
    for part in changes.chunks(4) {
        assert_eq!(write(&mut column, part).rewritten, 4);
    }
    // A transaction inside another one has a number of its own as long as it is open.
    let open = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE a.application_name = 'vault' AND a.datname = current_database() AND l.locktype = 'transactionid'";
    assert_eq!(number(&database, open), 1);
    column.commit().unwrap();
}

#[test]
fn an_exclusive_run_does_not_survive_its_connection() {
    let database = super::application(5);
    let mut column = column(&database);
    let changes: Vec<_> = read_all(&mut column, &stale(), true, 100).iter().map(moved).collect();
    column.begin_exclusive().unwrap();
    write(&mut column, &changes[..3]);
    number(
        &database,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'vault' AND datname = current_database()",
    );
    assert!(column.open_run(&new_run(NEW)).is_err());
    let progress = PROGRESS;
    assert!(column.write(&changes[3..], &progress).is_err(), "the rest is not written on another connection");
    assert!(column.commit().is_err());
    column.rollback().unwrap();
    assert_eq!(number(&database, &format!("SELECT count(*) FROM t WHERE v LIKE 'vs1.{OLD}.%'")), 5);
    assert!(matches!(changes[0].old, Cell::Text(_)));
}

#[test]
fn an_immutable_column_is_never_written() {
    let database = super::application(2);
    let mut spec = super::spec(&database);
    spec.immutable = true;
    let mut column = super::column_of(&database, spec);
    let changes: Vec<_> = read_all(&mut column, &stale(), true, 100).iter().map(moved).collect();
    assert!(matches!(try_write(&mut column, &changes, false), Err(Error::Refused { .. })));
}
