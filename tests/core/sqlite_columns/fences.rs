use super::*;

fn refused(application: &Application, sql: &str) -> String {
    application.connection.execute_batch(sql).unwrap_err().to_string()
}

#[test]
fn values_under_a_fenced_key_are_refused_whatever_their_class() {
    let application = Application::with_rows(2);
    let mut column = application.column();
    rotate(&mut column, 10);
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
    assert_eq!(column.fenced().unwrap(), [kid(OLD)]);
    for value in
        [format!("'{}'", token(OLD, 1)), format!("'vk1.{OLD}.x'"), format!("CAST('{}' AS BLOB)", token(OLD, 1))]
    {
        for sql in [
            format!("INSERT INTO t (v) VALUES ({value})"),
            format!("UPDATE t SET v = {value} WHERE id = 1"),
            format!("INSERT OR REPLACE INTO t (id, v) VALUES (1, {value})"),
            format!("INSERT INTO t (id, v) VALUES (1, 'x') ON CONFLICT DO UPDATE SET v = {value}"),
            format!("INSERT OR IGNORE INTO t (v) VALUES ({value})"),
        ] {
            let message = refused(&application, &sql);
            assert!(
                message.contains("vault: ") && message.contains(OLD) && message.contains("is being retired"),
                "{message}"
            );
        }
    }
    application
        .connection
        .execute_batch(&format!(
            "INSERT INTO t (v) VALUES ('{}'), (NULL), (''), (7), (x'00'), ('vs1.{OLD}'); UPDATE t SET u = 1; UPDATE t SET v = v",
            token(NEW, 5)
        ))
        .unwrap();
}

#[test]
fn a_stale_row_keeps_the_fence_away_and_the_filter_does_not_hide_it() {
    let application = Application::with_rows(3);
    let mut spec = application.spec();
    spec.filter = Some("id < 3".to_owned());
    let mut column = application.column_of(spec);
    rotate(&mut column, 10);
    let before = application.schema();
    let error = column.fence(&Fence::against(&[kid(OLD)])).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains('1'), "{error}");
    assert_eq!(application.schema(), before);
    application
        .connection
        .execute_batch("UPDATE t SET v = CAST(replace(v, 'vs1', 'vk1') AS BLOB) WHERE id = 3")
        .unwrap();
    assert_eq!(column.fence(&Fence::against(&[kid(OLD)])).unwrap_err().kind(), Kind::Refused);
    application.connection.execute_batch("DELETE FROM t WHERE id = 3").unwrap();
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
}

/// The dry run and the real thing ask the same.
#[test]
fn an_obstacle_is_told_with_what_helps_against_it() {
    let application = Application::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)");
    application.insert(1, "no json");
    application.insert(2, &format!("{{\"x\": \"{}\"}}", token(OLD, 2)));
    let mut spec = application.spec();
    spec.member = Some("x".to_owned());
    let mut column = application.column_of(spec);
    for (what, remedy, cure) in [
        ("1 values", "rotate run", "DELETE FROM t WHERE id = 2"),
        ("1 documents", "repair or remove", "DELETE FROM t WHERE id = 1"),
    ] {
        let obstacle = column.fence_obstacle(&[kid(OLD)]).unwrap().unwrap();
        assert!(obstacle.to_string().contains(what), "{obstacle}");
        assert!(obstacle.hint().unwrap().contains(remedy), "{obstacle:?}");
        assert_eq!(column.fence(&Fence::against(&[kid(OLD)])).unwrap_err().to_string(), obstacle.to_string());
        application.connection.execute_batch(cure).unwrap();
    }
    assert!(column.fence_obstacle(&[kid(OLD)]).unwrap().is_none());
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
}

#[test]
fn other_columns_of_a_stale_row_can_be_changed() {
    let application = Application::with_rows(1);
    let mut column = application.column();
    rotate(&mut column, 10);
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
    // A row that was restored while the triggers were away.
    let triggers = application.text("SELECT group_concat(sql, ';') || ';' FROM sqlite_master WHERE type = 'trigger'");
    column.unfence().unwrap();
    application.insert(7, &token(OLD, 7));
    application.connection.execute_batch(&triggers.replace(" END;", " END; ")).unwrap();
    application.connection.execute_batch("UPDATE t SET u = 'x', v = v WHERE id = 7").unwrap();
    refused(&application, "UPDATE t SET v = v || 'x' WHERE id = 7");
    refused(&application, "UPDATE t SET v = CAST(v AS BLOB) WHERE id = 7");
    application.connection.execute_batch(&format!("UPDATE t SET v = '{}' WHERE id = 7", token(NEW, 7))).unwrap();
}

#[test]
fn a_fence_replaces_the_one_before() {
    let application = Application::with_rows(0);
    let mut column = application.column();
    let empty = application.schema();
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
    let first = application.schema();
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
    assert_eq!(application.number("SELECT count(*) FROM sqlite_master WHERE name GLOB 'vault_core_fence_*'"), 2);
    column.fence(&Fence::against(&[kid(NEW), kid("kcccccccccccccccc")])).unwrap();
    assert_eq!(column.fenced().unwrap(), [kid(NEW), kid("kcccccccccccccccc")]);
    application.insert(1, &token(OLD, 1));
    assert!(
        refused(&application, &format!("INSERT INTO t (v) VALUES ('{}')", token("kcccccccccccccccc", 1)))
            .contains("kcccccccccccccccc")
    );
    assert!(column.fence(&Fence::against(&[kid(OLD)])).is_err());
    assert_eq!(
        column.fenced().unwrap(),
        [kid(NEW), kid("kcccccccccccccccc")],
        "a fence that is refused leaves the one before"
    );
    application.connection.execute_batch("DELETE FROM t").unwrap();
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
    assert_eq!(application.schema().len(), first.len());
    column.unfence().unwrap();
    column.unfence().unwrap();
    assert!(column.fenced().unwrap().is_empty());
    assert_eq!(application.schema(), empty);
    column.fence(&Fence::against(&[])).unwrap();
    assert_eq!(application.schema(), empty, "nothing to refuse, no triggers");
}

#[test]
fn columns_of_one_table_have_fences_of_their_own() {
    let application = Application::with_rows(0);
    let mut columns: Vec<_> = [("a", None), ("b", Some("X")), ("c", Some("x")), ("d", Some("y"))]
        .into_iter()
        .map(|(name, member)| {
            let value = if member.is_some() { "u" } else { "v" };
            let mut spec = ColumnSpec::new(name, application.path(), "t", &["id"], value);
            spec.member = member.map(ToOwned::to_owned);
            application.column_of(spec)
        })
        .collect();
    for (column, key) in columns.iter_mut().zip([OLD, NEW, "kcccccccccccccccc", "kdddddddddddddddd"]) {
        column.fence(&Fence::against(&[kid(key)])).unwrap();
    }
    assert_eq!(application.number("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'"), 8);
    for (column, key) in columns.iter_mut().zip([OLD, NEW, "kcccccccccccccccc", "kdddddddddddddddd"]) {
        assert_eq!(column.fenced().unwrap(), [kid(key)]);
    }
    columns[1].unfence().unwrap();
    assert_eq!(columns[2].fenced().unwrap(), [kid("kcccccccccccccccc")]);
    let document =
        |key: &str| format!("INSERT INTO t (u) VALUES ('{{\"X\": \"{0}\", \"y\": \"{0}\"}}')", token(key, 1));
    application.connection.execute_batch(&document(NEW)).unwrap();
    refused(&application, &document("kdddddddddddddddd"));
}

#[test]
fn half_a_fence_is_none() {
    let application = Application::with_rows(0);
    let mut column = application.column();
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
    let update = application.text("SELECT name FROM sqlite_master WHERE name GLOB 'vault_core_fence_*_update'");
    application.connection.execute_batch(&format!("DROP TRIGGER {update}")).unwrap();
    assert!(column.fenced().unwrap().is_empty());
    column.unfence().unwrap();
    assert_eq!(application.number("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'"), 0);
}

#[test]
fn a_fence_also_stops_a_rotation_back() {
    let application = Application::with_rows(0);
    application.insert(1, &token(OLD, 1));
    let mut column = application.column();
    column.fence(&Fence::against(&[kid(NEW)])).unwrap();
    let written = rotate(&mut column, 10);
    assert_eq!((written.rewritten, written.failed.len()), (0, 1));
    assert!(written.failed[0].1.contains("SQLITE_CONSTRAINT_TRIGGER"));
}

/// What stands in a database is what docs/FORMAT.md says.
#[test]
fn a_fence_is_written_as_its_vector() {
    let vector: serde_json::Value = serde_json::from_str(include_str!("../../vectors/columns/fences.json")).unwrap();
    let application = Application::new("CREATE TABLE secrets (id INTEGER PRIMARY KEY, value TEXT)");
    let mut column = application.column_of(ColumnSpec::new("c", application.path(), "secrets", &["id"], "value"));
    let kids: Vec<_> = vector["kids"].as_array().unwrap().iter().map(|of| kid(of.as_str().unwrap())).collect();
    let fence = Fence::against(&kids).of(vector["keyring"].as_str(), vector["generation"].as_u64().unwrap());
    column.fence(&fence).unwrap();
    assert_eq!(column.standing_fence().unwrap(), fence);
    for which in ["insert", "update"] {
        let sql = format!("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name GLOB '*_{which}'");
        assert_eq!(application.text(&sql), vector["sqlite"][which].as_str().unwrap());
    }
}

#[test]
fn a_fence_counts_only_as_it_was_written() {
    let application = Application::with_rows(0);
    let mut column = application.column();
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
    let written: Vec<(String, String)> = {
        let mut triggers = application
            .connection
            .prepare("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
            .unwrap();
        let rows = triggers.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    };
    for (name, sql) in &written {
        for (from, to) in [
            ("BEFORE", "AFTER"),
            ("RAISE(ABORT, ", "coalesce(NULL, "),
            ("vs1.", "vs2."),
            (" IN (", " NOT IN ("),
            ("/* vault-fence v1", "/* vault-fence v2"),
            ("BEGIN /*", "BEGIN SELECT 1; /*"),
        ] {
            let altered = sql.replace(from, to);
            assert_ne!(&altered, sql);
            application.connection.execute_batch(&format!("DROP TRIGGER {name}; {altered}")).unwrap();
            assert!(column.fenced().unwrap().is_empty(), "{altered}");
            application.connection.execute_batch(&format!("DROP TRIGGER {name}; {sql}")).unwrap();
            assert_eq!(column.fenced().unwrap(), [kid(OLD)]);
        }
    }
    // As a restored dump has it, and on a table that was extended.
    application.connection.execute_batch("ALTER TABLE t ADD COLUMN more TEXT").unwrap();
    assert_eq!(column.fenced().unwrap(), [kid(OLD)]);
    // As a migration tool does it that rebuilds tables.
    application
        .connection
        .execute_batch("CREATE TABLE n AS SELECT * FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t")
        .unwrap();
    assert!(column.fenced().unwrap().is_empty());
}
