use std::fs;
use std::time::Instant;

use super::*;

#[test]
fn nothing_is_created_where_no_database_is() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("missing.db");
    for access in [Access::Read, Access::Write] {
        let error = SqliteDatabase::open(&path, access).unwrap_err();
        assert_eq!(error.kind(), Kind::Database);
        assert!(error.to_string().contains("missing.db"), "{error}");
    }
    assert!(fs::read_dir(directory.path()).unwrap().next().is_none());
    for name in ["", ":memory:", "file::memory:"] {
        assert!(SqliteDatabase::open(name.as_ref(), Access::Write).is_err(), "{name:?}");
    }
}

#[test]
fn what_is_no_database_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("text.db");
    fs::write(&path, "not a database, but long enough to be taken for one ".repeat(20)).unwrap();
    let error = SqliteDatabase::open(&path, Access::Write).unwrap_err();
    assert_eq!(error.kind(), Kind::Database);
    assert!(error.to_string().contains("SQLITE_NOTADB"), "{error}");
}

#[test]
fn one_file_is_one_database_however_its_path_is_written() {
    let application = Application::with_rows(1);
    let detour = application.directory.path().join(".").join("app.db");
    let other = SqliteDatabase::open(&detour, Access::Read).unwrap();
    assert_eq!(other.path(), application.open(Access::Read).path());
}

#[test]
fn the_journal_mode_and_the_schema_stay() {
    for mode in ["delete", "truncate", "persist", "wal"] {
        let application = Application::with_rows(20);
        application.text(&format!("PRAGMA journal_mode = {mode}"));
        application
            .connection
            .execute_batch(
                "PRAGMA user_version = 7; PRAGMA application_id = 99;
                 CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO a VALUES (41);
                 CREATE INDEX i ON t (CAST(substr(v, 1, 22) AS TEXT)); CREATE VIEW w AS SELECT 1",
            )
            .unwrap();
        let before = application.schema();

        let mut column = application.column();
        column.check().unwrap();
        assert_eq!(rotate(&mut column, 7).rewritten, 20);
        column.fence(&Fence::against(&[kid(OLD)])).unwrap();
        column.unfence().unwrap();
        column.finish().unwrap();
        drop(column);

        assert_eq!(application.schema(), before);
        assert_eq!(application.text("PRAGMA journal_mode"), mode);
        assert_eq!(application.number("PRAGMA user_version"), 7);
        assert_eq!(application.number("PRAGMA application_id"), 99);
        assert_eq!(application.number("SELECT seq FROM sqlite_sequence"), 41);
        assert_eq!(application.text("PRAGMA integrity_check"), "ok");
    }
}

#[test]
fn finish_empties_a_write_ahead_log_and_makes_none() {
    let application = Application::with_rows(20);
    let log = application.directory.path().join("app.db-wal");
    application.column().finish().unwrap();
    assert!(!log.exists());

    application.text("PRAGMA journal_mode = wal");
    let mut column = application.column();
    rotate(&mut column, 100);
    assert!(fs::metadata(&log).unwrap().len() > 0);
    column.finish().unwrap();
    assert_eq!(fs::metadata(&log).unwrap().len(), 0);
}

#[test]
fn a_reader_does_not_stop_finish() {
    let application = Application::with_rows(20);
    application.text("PRAGMA journal_mode = wal");
    let mut column = application.column();
    application.connection.execute_batch("BEGIN").unwrap();
    application.number("SELECT count(*) FROM t");
    rotate(&mut column, 100);
    column.finish().unwrap();
    application.connection.execute_batch("COMMIT").unwrap();
}

#[test]
fn replaced_values_are_overwritten_in_the_file() {
    // Otherwise the application's own inserts leave copies behind when they split pages.
    let application = Application::new("PRAGMA secure_delete = ON; CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)");
    for id in 1..=50 {
        // Long enough for overflow pages, which an update frees.
        application.insert(id, &format!("{}{}", token(OLD, id), "x".repeat(9_000)));
    }
    let mut column = application.column();
    // Of another length, so that the cell moves.
    let changes: Vec<_> = read_all(&mut column, &stale(), 100)
        .iter()
        .map(|row| RowChange { new: format!("vs1.{NEW}.short"), ..moved(row) })
        .collect();
    assert_eq!(write(&mut column, &changes).rewritten, 50);
    column.close_run().unwrap();
    drop(column);

    let file = fs::read(application.path()).unwrap();
    for remains in [OLD.as_bytes(), &[b'x'; 50]] {
        assert!(!file.windows(remains.len()).any(|window| window == remains));
    }
}

#[test]
fn looking_changes_nothing_and_writing_is_refused() {
    for mode in ["delete", "wal"] {
        let application = Application::with_rows(5);
        application.text(&format!("PRAGMA journal_mode = {mode}"));
        let file = fs::read(application.path()).unwrap();
        let mut column = SqliteColumn::new(application.open(Access::Read), application.spec()).unwrap();
        column.check().unwrap();
        assert_eq!(read_all(&mut column, &stale(), 2).len(), 5);
        assert_eq!(column.survey().unwrap().tokens.len(), 1);
        assert!(column.run().unwrap().is_none());
        assert!(column.fenced().unwrap().is_empty());
        assert!(column.failures().unwrap().is_empty());
        column.close_run().unwrap();
        column.unfence().unwrap();
        let error = column.open_run(&new_run(NEW)).unwrap_err();
        assert_eq!(error.kind(), Kind::Database);
        assert!(error.to_string().contains("read-only"), "{error}");
        assert_eq!(
            column.fence(&Fence::against(&[kid(OLD)])).unwrap_err().kind(),
            Kind::Refused,
            "stale rows come first"
        );
        drop(column);
        assert_eq!(fs::read(application.path()).unwrap(), file);
    }
}

#[test]
fn somebody_elses_lock_is_waited_for_and_then_reported() {
    let application = Application::with_rows(2);
    let mut column = application.column();
    column.open_run(&new_run(NEW)).unwrap();
    application.connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let began = Instant::now();
    let error = column.open_run(&new_run(NEW)).unwrap_err();
    assert_eq!(error.kind(), Kind::Temporary);
    assert!(error.hint().is_some());
    assert!(began.elapsed().as_secs() >= 4, "{:?}", began.elapsed());
    application.connection.execute_batch("COMMIT").unwrap();
    assert_eq!(rotate(&mut column, 10).rewritten, 2);
}

#[test]
fn columns_of_one_database_share_an_exclusive_transaction() {
    let application = Application::with_rows(3);
    application.connection.execute_batch("UPDATE t SET u = v").unwrap();
    let database = application.open(Access::Write);
    let mut first = SqliteColumn::new(database.clone(), application.spec()).unwrap();
    let mut second =
        SqliteColumn::new(database, ColumnSpec::new("app.u", application.path(), "t", &["id"], "u")).unwrap();
    assert_eq!(first.database(), second.database());
    let stale_left = || application.number(&format!("SELECT count(*) FROM t WHERE v || u GLOB '*{OLD}*'"));

    first.begin_exclusive().unwrap();
    assert_eq!(rotate(&mut first, 10).rewritten, 3);
    assert_eq!(rotate(&mut second, 10).rewritten, 3);
    second.rollback().unwrap();
    first.rollback().unwrap();
    assert_eq!(stale_left(), 3);

    first.begin_exclusive().unwrap();
    assert_eq!(rotate(&mut first, 10).rewritten, 3);
    assert_eq!(rotate(&mut second, 10).rewritten, 3);
    assert!(application.connection.execute_batch("PRAGMA busy_timeout = 0; UPDATE t SET u = 'mine'").is_err());
    second.commit().unwrap();
    assert_eq!(stale_left(), 0);
    assert_eq!(application.number("SELECT count(*) FROM sqlite_master"), 1);
}

#[test]
fn errors_quote_neither_values_nor_statements() {
    let application = Application::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT CHECK (v NOT GLOB '*bbbb*'));
         CREATE TRIGGER x BEFORE UPDATE ON t WHEN NEW.id = 2 BEGIN SELECT RAISE(ABORT, 'sensitive-words'); END",
    );
    application.insert(1, &token(OLD, "secret-1"));
    application.insert(2, &token(OLD, "secret-2"));
    let mut column = application.column();
    let written = rotate(&mut column, 10);
    assert_eq!(written.failed.len(), 2);
    for (_, reason) in written.failed {
        assert!(reason.contains("SQLITE_CONSTRAINT_"), "{reason}");
        for leaked in ["secret", "sensitive", "GLOB", "UPDATE"] {
            assert!(!reason.contains(leaked), "{reason}");
        }
    }
}
