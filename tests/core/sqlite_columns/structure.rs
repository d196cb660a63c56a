use vault_core::column::ContextTemplate;

use super::*;

fn refusal(schema: &str, row: &[&str], value: &str) -> String {
    let application = Application::new(schema);
    let error = application.try_column(ColumnSpec::new("c", application.path(), "t", row, value)).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{schema}: {error}");
    error.to_string()
}

#[test]
fn what_is_not_there_is_refused() {
    assert!(refusal("CREATE TABLE s (id INTEGER PRIMARY KEY, v)", &["id"], "v").contains("no such table"));
    assert!(refusal("CREATE TABLE t (id INTEGER PRIMARY KEY, w)", &["id"], "v").contains("no column v"));
    assert!(refusal("CREATE TABLE t (id INTEGER PRIMARY KEY, v)", &["key"], "v").contains("no column key"));
    assert!(refusal("CREATE TABLE t (id INTEGER PRIMARY KEY, v)", &[], "v").contains("`row`"));
}

#[test]
fn what_holds_no_rows_of_its_own_is_refused() {
    assert!(
        refusal("CREATE TABLE s (id INTEGER PRIMARY KEY, v); CREATE VIEW t AS SELECT * FROM s", &["id"], "v")
            .contains("view")
    );
    assert!(refusal("CREATE VIRTUAL TABLE t USING fts5(v)", &["rowid"], "v").contains("virtual"));
    assert!(
        refusal("CREATE TABLE t (id INTEGER PRIMARY KEY, w TEXT, v TEXT AS (w) STORED)", &["id"], "v")
            .contains("generated")
    );
    assert!(
        refusal("CREATE TABLE t (id INTEGER PRIMARY KEY, w TEXT, v TEXT AS (w))", &["id"], "v").contains("generated")
    );
}

#[test]
fn a_row_that_is_not_unique_is_refused() {
    for (schema, row) in [
        ("CREATE TABLE t (id INTEGER NOT NULL, v TEXT)", vec!["id"]),
        ("CREATE TABLE t (id INTEGER NOT NULL, v TEXT); CREATE INDEX i ON t (id)", vec!["id"]),
        ("CREATE TABLE t (id INTEGER NOT NULL, v TEXT); CREATE UNIQUE INDEX i ON t (id) WHERE v IS NULL", vec!["id"]),
        ("CREATE TABLE t (id INTEGER NOT NULL, v TEXT); CREATE UNIQUE INDEX i ON t (id + 0)", vec!["id"]),
        ("CREATE TABLE t (a INT NOT NULL, b INT NOT NULL, v TEXT, PRIMARY KEY (a, b))", vec!["a"]),
        ("CREATE TABLE t (a INTEGER PRIMARY KEY, b INT NOT NULL, v TEXT)", vec!["b"]),
        ("CREATE TABLE t (a INT NOT NULL, b INT NOT NULL, v TEXT, PRIMARY KEY (a, b))", vec!["a", "a"]),
        ("CREATE TABLE t (a TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID", vec!["rowid"]),
        ("CREATE TABLE t (rowid TEXT, v TEXT)", vec!["rowid"]),
    ] {
        refusal(schema, &row, "v");
    }
}

#[test]
fn a_row_that_may_be_null_is_refused_once_it_is() {
    let schema = "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT); INSERT INTO t VALUES ('a', 'x')";
    let application = Application::new(schema);
    let mut column = application.column();
    assert_eq!(read_all(&mut column, &Selection::All, 10).len(), 1);

    application.connection.execute_batch("INSERT INTO t VALUES (NULL, 'y')").unwrap();
    let page = Page { select: &Selection::All, filtered: false, columns: &Arc::from([]), after: None, limit: 10 };
    assert_eq!(column.read(&page).unwrap_err().kind(), Kind::Refused, "the row would be skipped in silence");
    assert!(column.check().is_err());
    assert!(application.try_column(application.spec()).is_err());
}

#[test]
fn unique_rows_are_accepted() {
    for (schema, row) in [
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", vec!["ID"]),
        ("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)", vec!["id"]),
        ("CREATE TABLE t (id INTEGER NOT NULL UNIQUE, v TEXT)", vec!["id"]),
        ("CREATE TABLE t (a INT, b INT, v TEXT, PRIMARY KEY (b, a)) WITHOUT ROWID", vec!["a", "b"]),
        (
            "CREATE TABLE t (a INT NOT NULL, b INT NOT NULL, v TEXT); CREATE UNIQUE INDEX i ON t (b DESC, a)",
            vec!["a", "b"],
        ),
        ("CREATE TABLE t (v TEXT)", vec!["rowid"]),
        ("CREATE TABLE t (v TEXT)", vec!["_ROWID_"]),
        ("CREATE TABLE t (id ANY PRIMARY KEY NOT NULL, v TEXT) STRICT", vec!["id"]),
    ] {
        let application = Application::new(schema);
        let mut column = application.column_of(ColumnSpec::new("c", application.path(), "T", &row, "V"));
        column.check().unwrap();
        assert!(read_all(&mut column, &Selection::All, 10).is_empty());
    }
}

#[test]
fn a_row_made_of_the_value_is_refused() {
    refusal("CREATE TABLE t (v TEXT PRIMARY KEY)", &["v"], "v");
}

#[test]
fn a_member_of_what_is_not_json_is_refused() {
    let schema =
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'a'), (2, x'7b7d'), (3, 4), (4, NULL)";
    let application = Application::new(schema);
    let mut member = application.spec();
    member.member = Some("x".to_owned());
    assert_eq!(application.try_column(member.clone()).unwrap_err().kind(), Kind::Refused);

    // One document that is not JSON is a finding, and the row fails.
    application.connection.execute_batch("INSERT INTO t VALUES (5, '{}')").unwrap();
    let findings = application.column_of(member).check().unwrap();
    assert!(findings.iter().any(|finding| finding.to_string().contains("3 rows")), "{findings:?}");
}

#[test]
fn triggers_that_an_update_fires_are_findings() {
    let application = Application::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, u TEXT); CREATE TABLE log (x);
         CREATE TRIGGER every_update AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (1); END;
         CREATE TRIGGER of_value BEFORE UPDATE OF v ON t BEGIN SELECT 1; END;
         CREATE TRIGGER of_another AFTER UPDATE OF u ON t BEGIN SELECT 1; END;
         CREATE TRIGGER inserts AFTER INSERT ON t BEGIN SELECT 1; END;
         CREATE TRIGGER follows AFTER INSERT ON log BEGIN DELETE FROM log; END;",
    );
    let mut column = application.column();
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
    let findings: String = column.check().unwrap().iter().map(ToString::to_string).collect();
    for name in ["every_update", "of_value", "follows"] {
        assert!(findings.contains(name), "{findings}");
    }
    for name in ["of_another", "inserts", "fence"] {
        assert!(!findings.contains(name), "{findings}");
    }
}

#[test]
fn a_table_that_only_the_application_can_update_is_refused() {
    let application = Application::with_rows(1);
    application
        .connection
        .execute_batch("CREATE TRIGGER x AFTER UPDATE ON t BEGIN SELECT only_in_the_application(NEW.v); END")
        .unwrap();
    let error = application.try_column(application.spec()).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("only the application"), "{error}");
}

#[test]
fn a_condition_that_is_no_sql_is_refused() {
    let application = Application::with_rows(1);
    for filter in ["id = ", "no_such_column = 1", "id = ?1", "id = :id"] {
        let mut spec = application.spec();
        spec.filter = Some(filter.to_owned());
        let error = application.try_column(spec).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().contains("filter"), "{error}");
    }
}

#[test]
fn contexts_name_columns_that_exist() {
    let application = Application::with_rows(1);
    let mut spec = application.spec();
    spec.context = ContextTemplate::default().with("tenant", "{owner}").unwrap();
    assert_eq!(application.try_column(spec.clone()).unwrap_err().kind(), Kind::Refused);
    spec.context = ContextTemplate::default().with("tenant", "{u}").unwrap();
    let findings = application.column_of(spec.clone()).check().unwrap();
    assert!(findings.iter().any(|finding| finding.to_string().contains("made of u")), "{findings:?}");
    spec.context = ContextTemplate::default().with("tenant", "{ID}").unwrap();
    let findings = application.column_of(spec).check().unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn findings_tell_what_moves_with_a_row() {
    let application = Application::new("CREATE TABLE t (v TEXT, w TEXT AS (length(v)) STORED)");
    let findings =
        application.column_of(ColumnSpec::new("c", application.path(), "t", &["rowid"], "v")).check().unwrap();
    let text: String = findings.iter().map(ToString::to_string).collect();
    assert!(text.contains("generated") && text.contains("VACUUM"), "{text}");
}
