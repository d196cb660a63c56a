use core::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;

#[test]
fn a_run_is_recorded_with_its_batches() {
    let application = Application::with_rows(5);
    let before = application.schema();
    let mut column = application.column();
    assert!(column.run().unwrap().is_none());
    let run = column.open_run(&new_run(NEW)).unwrap();
    assert_eq!(run.id.len(), 16);
    assert_eq!((run.generation, run.cursor.clone(), run.started), (3, None, Timestamp(1_770_113_472)));

    let changes: Vec<_> = read_all(&mut column, &stale(), 10).iter().map(moved).collect();
    let failed = [(RowKey::parse("[\"i4\"]").unwrap(), "corrupt".to_owned())];
    let calls = AtomicUsize::new(0);
    column
        .write(
            &changes[..2],
            &Progress {
                run: &run.id,
                cursor: Some(&changes[1].key),
                failed: &[],
                waits: false,
                guard: &|| Ok(()),
                beside: &|| calls.fetch_add(1, Ordering::Relaxed) < 9,
            },
        )
        .unwrap();
    assert_eq!(calls.into_inner(), 10, "other work is done beside it, as long as there is any");
    column
        .write(
            &changes[2..3],
            &Progress {
                run: &run.id,
                cursor: Some(&changes[3].key),
                failed: &failed,
                waits: false,
                guard: &|| Ok(()),
                beside: &|| false,
            },
        )
        .unwrap();
    let found = application.column().run().unwrap().unwrap();
    assert_eq!((found.id.clone(), found.rewritten, found.lost), (run.id.clone(), 3, 0));
    assert_eq!(found.cursor.as_ref(), Some(&changes[3].key));
    assert!(found.heartbeat > found.started);
    assert_eq!(column.failures().unwrap(), failed);

    // What was repaired since is failed no more.
    column
        .write(
            &changes[3..],
            &Progress {
                run: &run.id,
                cursor: Some(&changes[4].key),
                failed: &[],
                waits: false,
                guard: &|| Ok(()),
                beside: &|| false,
            },
        )
        .unwrap();
    assert!(column.failures().unwrap().is_empty());
    column.close_run().unwrap();
    assert_eq!(application.schema(), before);
    column.close_run().unwrap();
}

#[test]
fn the_same_target_joins_and_another_is_refused() {
    let application = Application::with_rows(1);
    let run = application.column().open_run(&new_run(NEW)).unwrap();
    let mut second = application.column();
    assert_eq!(second.open_run(&new_run(NEW)).unwrap(), run);
    let error = second.open_run(&new_run(OLD)).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.hint().unwrap().contains("abort"), "{error}");
    let migration = Run { job: "migrate".to_owned(), ..new_run(NEW) };
    assert_eq!(second.open_run(&migration).unwrap_err().kind(), Kind::Refused);
    second.close_run().unwrap();
    assert_ne!(second.open_run(&new_run(OLD)).unwrap().id, run.id);
}

#[test]
fn a_run_that_was_closed_takes_its_workers_along() {
    let application = Application::with_rows(2);
    let mut worker = application.column();
    let run = worker.open_run(&new_run(NEW)).unwrap();
    let changes: Vec<_> = read_all(&mut worker, &stale(), 10).iter().map(moved).collect();
    let mut other = application.column();
    for reopen in [false, true] {
        other.close_run().unwrap();
        if reopen {
            other.open_run(&new_run(NEW)).unwrap();
        }
        let progress = Progress {
            run: &run.id,
            cursor: Some(&changes[0].key),
            failed: &[],
            waits: false,
            guard: &|| Ok(()),
            beside: &|| false,
        };
        assert_eq!(worker.write(&changes, &progress).unwrap_err().kind(), Kind::Temporary);
        assert_eq!(worker.survey().unwrap().tokens, [(format!("vs1.{OLD}."), 2)], "nothing of the batch was written");
    }
}

#[test]
fn the_tables_stay_while_another_column_has_a_run() {
    let application = Application::with_rows(1);
    let before = application.schema();
    let mut first = application.column();
    let mut second = application.column_of(ColumnSpec::new("app.u", application.path(), "t", &["id"], "u"));
    first.open_run(&new_run(NEW)).unwrap();
    second.open_run(&new_run(OLD)).unwrap();
    first.close_run().unwrap();
    assert!(first.run().unwrap().is_none());
    assert_eq!(second.run().unwrap().unwrap().target, OLD);
    second.close_run().unwrap();
    assert_eq!(application.schema(), before);
}

#[test]
fn a_run_and_its_tables_disappear_with_a_rollback() {
    let application = Application::with_rows(1);
    let before = application.schema();
    let mut column = application.column();
    column.begin_exclusive().unwrap();
    column.open_run(&new_run(NEW)).unwrap();
    column.rollback().unwrap();
    assert_eq!(application.schema(), before);
    assert!(column.run().unwrap().is_none());
}

#[test]
fn a_cursor_of_another_declaration_is_no_cursor() {
    let application =
        Application::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, k TEXT NOT NULL, UNIQUE (id, k))");
    application.connection.execute("INSERT INTO t VALUES (1, ?1, 'x')", [token(OLD, 1)]).unwrap();
    let mut column = application.column();
    assert_eq!(write_one(&mut column), 1);
    assert!(column.run().unwrap().unwrap().cursor.is_some());
    let mut wider = application.column_of(ColumnSpec::new("app.t", application.path(), "t", &["id", "k"], "v"));
    assert!(wider.run().unwrap().unwrap().cursor.is_none());
    assert!(wider.open_run(&new_run(NEW)).unwrap().cursor.is_none());
    application.connection.execute_batch("UPDATE vault_core_rotation SET cursor = 'nonsense'").unwrap();
    assert!(column.run().unwrap().unwrap().cursor.is_none());
}

fn write_one(column: &mut SqliteColumn) -> u64 {
    let changes: Vec<_> = read_all(column, &stale(), 1).iter().map(moved).collect();
    write(column, &changes).rewritten
}

/// Who looks at the moment at which the last run ends, and its tables go, is told of no run.
#[test]
fn a_run_may_end_while_others_look() {
    let application = Application::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)");
    let (mut working, mut looking) = (application.column(), application.column());
    thread::scope(|scope| {
        let work = scope.spawn(move || {
            for _ in 0..300 {
                working.open_run(&new_run(NEW)).unwrap();
                working.close_run().unwrap();
            }
        });
        while !work.is_finished() {
            looking.run().unwrap();
            looking.failures().unwrap();
        }
    });
}
