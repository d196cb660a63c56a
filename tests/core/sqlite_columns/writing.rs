use std::thread;

use super::*;

fn changes(column: &mut SqliteColumn) -> Vec<RowChange> {
    read_all(column, &stale(), 1_000).iter().map(moved).collect()
}

#[test]
fn a_value_that_changed_meanwhile_is_left_alone() {
    let application = Application::with_rows(4);
    let mut column = application.column();
    let changes = changes(&mut column);
    application
        .connection
        .execute_batch(
            "UPDATE t SET v = 'user''s' WHERE id = 1; DELETE FROM t WHERE id = 2;
             UPDATE t SET v = CAST(v AS BLOB) WHERE id = 3",
        )
        .unwrap();
    let written = write(&mut column, &changes);
    assert_eq!((written.rewritten, written.lost, written.failed.len()), (1, 3, 0));
    assert_eq!(application.text("SELECT v FROM t WHERE id = 1"), "user's");
    assert_eq!(application.number("SELECT count(*) FROM t"), 3);
    assert_eq!(application.number(&format!("SELECT v = CAST('{}' AS BLOB) FROM t WHERE id = 3", token(OLD, 3))), 1);
    assert_eq!(application.text("SELECT v FROM t WHERE id = 4"), token(NEW, 4));
}

#[test]
fn values_that_differ_in_case_only_are_different() {
    let application = Application::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT COLLATE NOCASE)");
    application.insert(1, &token(OLD, "x"));
    let mut column = application.column();
    let changes = changes(&mut column);
    application.connection.execute_batch("UPDATE t SET v = replace(v, '-x', '-X')").unwrap();
    assert_eq!(write(&mut column, &changes).lost, 1);
    assert_eq!(application.text("SELECT v FROM t"), token(OLD, "X"));
}

#[test]
fn classes_are_kept() {
    for declared in ["", "TEXT", "BLOB", "VARCHAR(10)", "NUMERIC", "INTEGER"] {
        let application = Application::new(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared})"));
        application.insert(1, &token(OLD, 1));
        application.connection.execute("INSERT INTO t VALUES (2, ?1)", [token(OLD, 2).as_bytes()]).unwrap();
        let mut column = application.column();
        assert_eq!(rotate(&mut column, 10).rewritten, 2, "{declared}");
        assert_eq!(application.text("SELECT group_concat(typeof(v) || length(v)) FROM t"), "text31,blob31");
        assert!(read_all(&mut column, &stale(), 10).is_empty());
    }
}

#[test]
fn only_the_value_is_set() {
    let application = Application::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, updated_at TEXT DEFAULT 'then', name TEXT);
         CREATE TRIGGER x AFTER UPDATE OF name ON t BEGIN UPDATE t SET updated_at = 'now' WHERE id = NEW.id; END",
    );
    application.insert(1, &token(OLD, 1));
    assert_eq!(rotate(&mut application.column(), 10).rewritten, 1);
    assert_eq!(application.text("SELECT updated_at || quote(name) FROM t"), "thenNULL");
}

/// Who sees what becomes of rows 1 to 3 when a trigger acts on row 2.
fn with_trigger(trigger: &str) -> (Application, Written) {
    let application = Application::with_rows(3);
    let mut column = application.column();
    // The trigger comes after the column was looked at.
    application.connection.execute_batch(&format!("CREATE TRIGGER x {trigger}")).unwrap();
    let changes = changes(&mut column);
    let written = write(&mut column, &changes);
    let failures = column.failures().unwrap();
    assert_eq!(written.failed, failures, "failed rows are recorded");
    (application, written)
}

#[test]
fn rows_that_a_trigger_keeps_are_failed() {
    for trigger in [
        "BEFORE UPDATE ON t WHEN NEW.id = 2 BEGIN SELECT RAISE(IGNORE); END",
        "BEFORE UPDATE ON t WHEN NEW.id = 2 BEGIN SELECT RAISE(ABORT, 'no'); END",
        "BEFORE UPDATE OF v ON t WHEN NEW.id = 2 BEGIN SELECT RAISE(FAIL, 'no'); END",
        "AFTER UPDATE ON t WHEN NEW.id = 2 BEGIN SELECT RAISE(FAIL, 'no'); END",
        "AFTER UPDATE ON t WHEN NEW.id = 2 BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
        "AFTER UPDATE ON t WHEN NEW.id = 2 BEGIN SELECT json('{'); END",
        "AFTER UPDATE ON t WHEN NEW.id = 2 BEGIN UPDATE t SET v = OLD.v WHERE id = 2; END",
        "AFTER UPDATE ON t WHEN NEW.id = 2 BEGIN UPDATE t SET v = 'mine' WHERE id = 2; END",
        "AFTER UPDATE ON t WHEN NEW.id = 2 BEGIN UPDATE t SET v = CAST(v AS BLOB) WHERE id = 2; END",
        "AFTER UPDATE ON t WHEN NEW.id = 2 BEGIN DELETE FROM t WHERE id = 2; END",
    ] {
        let (application, written) = with_trigger(trigger);
        assert_eq!((written.rewritten, written.lost, written.failed.len()), (2, 0, 1), "{trigger}");
        assert_eq!(written.failed[0].0.to_string(), "2");
        let expected = [token(NEW, 1), token(OLD, 2), token(NEW, 3)].join(",");
        assert_eq!(application.text("SELECT group_concat(v) FROM t"), expected, "{trigger}");
    }
}

#[test]
fn what_a_trigger_does_besides_is_its_own_affair() {
    let (application, written) =
        with_trigger("AFTER UPDATE OF v ON t BEGIN UPDATE t SET u = 'seen' WHERE id = NEW.id; END");
    assert_eq!((written.rewritten, written.failed.len()), (3, 0));
    assert_eq!(application.text("SELECT group_concat(u) FROM t"), "seen,seen,seen");
}

#[test]
fn constraints_fail_single_rows() {
    let application = Application::with_rows(5);
    application
        .connection
        .execute_batch(&format!("INSERT INTO t VALUES (9, '{}', NULL); CREATE UNIQUE INDEX i ON t (v)", token(NEW, 3)))
        .unwrap();
    let mut column = application.column();
    let changes = changes(&mut column);
    let written = write(&mut column, &changes);
    assert_eq!((written.rewritten, written.lost), (4, 0));
    assert_eq!(written.failed[0].0.to_string(), "3");
    assert!(written.failed[0].1.contains("SQLITE_CONSTRAINT_UNIQUE"), "{}", written.failed[0].1);
}

#[test]
fn a_rollback_by_a_trigger_ends_the_exclusive_transaction() {
    let application = Application::with_rows(3);
    application
        .connection
        .execute_batch("CREATE TRIGGER x BEFORE UPDATE ON t WHEN NEW.id = 2 BEGIN SELECT RAISE(ROLLBACK, 'no'); END")
        .unwrap();
    let mut column = application.column();
    let changes = changes(&mut column);
    column.begin_exclusive().unwrap();
    assert_eq!(try_write(&mut column, &changes).unwrap_err().kind(), Kind::Database);
    column.rollback().unwrap();
    assert_eq!(column.survey().unwrap().tokens, [(format!("vs1.{OLD}."), 3)]);
    assert_eq!(application.number("SELECT count(*) FROM sqlite_master"), 2);
}

#[test]
fn the_guard_is_asked_inside_the_transaction_and_undoes_it() {
    let application = Application::with_rows(3);
    let mut column = application.column();
    let changes = changes(&mut column);
    let run = column.open_run(&new_run(NEW)).unwrap();
    let other = Connection::open(application.path()).unwrap();
    for exclusive in [false, true] {
        if exclusive {
            column.begin_exclusive().unwrap();
        }
        let guard = || {
            assert!(other.execute_batch("BEGIN IMMEDIATE").is_err(), "nobody else can write");
            Err(Error::Temporary { reason: "changed".to_owned(), remedy: "again".to_owned() })
        };
        let progress = Progress {
            run: &run.id,
            cursor: Some(&changes[2].key),
            failed: &[],
            waits: false,
            guard: &guard,
            beside: &|| false,
        };
        assert_eq!(column.write(&changes, &progress).unwrap_err().kind(), Kind::Temporary);
        if exclusive {
            column.commit().unwrap();
        }
        assert_eq!(application.number(&format!("SELECT count(*) FROM t WHERE v GLOB 'vs1.{NEW}.*'")), 0);
        assert_eq!(column.run().unwrap().unwrap(), run);
    }
}

#[test]
fn immutable_columns_are_never_written() {
    let application = Application::with_rows(1);
    let mut spec = application.spec();
    spec.immutable = true;
    let mut column = application.column_of(spec);
    let changes = changes(&mut column);
    assert_eq!(try_write(&mut column, &changes).unwrap_err().kind(), Kind::Refused);
    assert_eq!(application.text("SELECT v FROM t"), token(OLD, 1));
}

#[test]
fn members_are_compared_and_set_alone() {
    let application = Application::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)");
    for id in 1..=3 {
        application.insert(id, &format!("{{\"x\": \"{}\", \"n\": 1}}", token(OLD, id)));
    }
    let mut spec = application.spec();
    spec.member = Some("x".to_owned());
    let mut column = application.column_of(spec);
    let changes = changes(&mut column);
    application
        .connection
        .execute_batch(
            "UPDATE t SET v = json_set(v, '$.n', 2) WHERE id = 1; UPDATE t SET v = json_set(v, '$.x', 'user''s') WHERE id = 2;
             UPDATE t SET v = '{\"x\": ' WHERE id = 3",
        )
        .unwrap();
    let written = write(&mut column, &changes);
    assert_eq!((written.rewritten, written.lost, written.failed.len()), (1, 2, 0));
    assert_eq!(application.number("SELECT v ->> 'n' FROM t WHERE id = 1"), 2);
    assert_eq!(application.text("SELECT v ->> 'x' FROM t WHERE id = 1"), token(NEW, 1));
    assert_eq!(application.text("SELECT v ->> 'x' FROM t WHERE id = 2"), "user's");
    assert_eq!(application.text("SELECT v FROM t WHERE id = 3"), "{\"x\": ");
}

#[test]
fn all_kinds_of_keys_find_their_row() {
    for (schema, row) in [
        ("CREATE TABLE t (k REAL PRIMARY KEY NOT NULL, v TEXT)", vec!["k"]),
        ("CREATE TABLE t (k BLOB PRIMARY KEY NOT NULL, v TEXT) WITHOUT ROWID", vec!["k"]),
        ("CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v TEXT)", vec!["k"]),
        ("CREATE TABLE t (k INT NOT NULL UNIQUE, v TEXT)", vec!["k"]),
        ("CREATE TABLE t (k TEXT NOT NULL, v TEXT, l TEXT DEFAULT '1', PRIMARY KEY (l, k))", vec!["k", "l"]),
    ] {
        let application = Application::new(schema);
        for k in [9, 10, 99, 100] {
            application.connection.execute("INSERT INTO t (k, v) VALUES (?1, ?2)", (k, token(OLD, k))).unwrap();
        }
        application.connection.execute("INSERT INTO t (k, v) VALUES (1.25, ?1)", [token(OLD, "real")]).unwrap();
        let mut column = application.column_of(ColumnSpec::new("c", application.path(), "t", &row, "v"));
        for limit in [2, 10] {
            assert_eq!(rotate(&mut column, limit).rewritten, 5, "{schema}");
            application.connection.execute_batch(&format!("UPDATE t SET v = replace(v, '{NEW}', '{OLD}')")).unwrap();
        }
    }
}

#[test]
fn keys_that_an_index_holds_apart_are_not_mixed_up() {
    let application = Application::new(
        "CREATE TABLE t (id TEXT COLLATE NOCASE NOT NULL, v TEXT); CREATE UNIQUE INDEX i ON t (id COLLATE BINARY)",
    );
    for id in ["a", "A"] {
        application.connection.execute("INSERT INTO t VALUES (?1, ?2)", (id, token(OLD, "same"))).unwrap();
    }
    let mut column = application.column();
    let changes = changes(&mut column);
    assert_eq!(write(&mut column, &changes[..1]).rewritten, 1);
    assert_eq!(application.text("SELECT group_concat(v) FROM t WHERE id = 'A' COLLATE BINARY"), token(NEW, "same"));
    assert_eq!(application.text("SELECT group_concat(v) FROM t WHERE id = 'a' COLLATE BINARY"), token(OLD, "same"));
}

#[test]
fn writers_and_rotators_at_the_same_time_lose_nothing() {
    for mode in ["delete", "wal"] {
        let application = Application::with_rows(300);
        application.text(&format!("PRAGMA journal_mode = {mode}"));
        application.connection.execute_batch("PRAGMA synchronous = OFF").unwrap();
        let path = application.path();
        let writer = thread::spawn(move || {
            let connection = Connection::open(path).unwrap();
            connection.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
            connection.execute_batch("PRAGMA synchronous = OFF").unwrap();
            for round in 0..60 {
                let id = 1 + round * 37 % 300;
                connection.execute("UPDATE t SET v = ?2 WHERE id = ?1", (id, format!("vs1.{OLD}.user-{id}"))).unwrap();
            }
        });
        let rotators: Vec<_> = (0..2)
            .map(|_| {
                let mut column = application.column();
                thread::spawn(move || {
                    let run = column.open_run(&new_run(NEW)).unwrap();
                    let mut total = Written::default();
                    for _ in 0..6 {
                        for chunk in changes(&mut column).chunks(20) {
                            let cursor = chunk[chunk.len() - 1].key.clone();
                            let written = column
                                .write(
                                    chunk,
                                    &Progress {
                                        run: &run.id,
                                        cursor: Some(&cursor),
                                        failed: &[],
                                        waits: false,
                                        guard: &|| Ok(()),
                                        beside: &|| false,
                                    },
                                )
                                .unwrap();
                            total.rewritten += written.rewritten;
                            total.lost += written.lost;
                            total.failed.extend(written.failed);
                        }
                    }
                    (run.id, total)
                })
            })
            .collect();
        writer.join().unwrap();
        let totals: Vec<_> = rotators.into_iter().map(|rotator| rotator.join().unwrap()).collect();
        assert_eq!(totals[0].0, totals[1].0, "they share the run");
        assert!(totals.iter().all(|(_, total)| total.failed.is_empty()));
        let mut column = application.column();
        let run = column.run().unwrap().unwrap();
        assert_eq!(run.rewritten, totals.iter().map(|(_, total)| total.rewritten).sum::<u64>());
        assert_eq!(run.lost, totals.iter().map(|(_, total)| total.lost).sum::<u64>());
        rotate(&mut column, 100);
        // What the user wrote last is there, under the new key, in every row that he wrote to.
        for round in 0..60 {
            let id = 1 + round * 37 % 300;
            assert_eq!(application.text(&format!("SELECT v FROM t WHERE id = {id}")), format!("vs1.{NEW}.user-{id}"));
        }
        assert_eq!(application.number(&format!("SELECT count(*) FROM t WHERE v GLOB 'vs1.{NEW}.*'")), 300);
    }
}
