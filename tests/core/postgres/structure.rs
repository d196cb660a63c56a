//! What is refused about a table, and what is told.

use vault_core::Error;
use vault_core::column::{Column, ColumnSpec};

use crate::server::{Database, role};

use super::{column_of, spec, try_column};

fn findings(database: &Database, spec: ColumnSpec) -> String {
    let found = column_of(database, spec).check().unwrap();
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn refusal(database: &Database, spec: ColumnSpec) -> String {
    match try_column(database, spec).map(|mut column| column.check()) {
        Err(error @ Error::Refused { .. }) | Ok(Err(error @ Error::Refused { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn tables_that_cannot_be_worked_on_are_refused() {
    let database = Database::new();
    database.execute(
        "CREATE TABLE plain (id int, v text);
         CREATE TABLE nullable (id int UNIQUE, v text);
         CREATE TABLE partial (id int NOT NULL, v text); CREATE UNIQUE INDEX ON partial (id) WHERE id > 3;
         CREATE TABLE late (id int NOT NULL UNIQUE DEFERRABLE, v text);
         CREATE TABLE expression (id text NOT NULL, v text); CREATE UNIQUE INDEX ON expression (lower(id));
         CREATE VIEW seen AS SELECT * FROM plain;
         CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE child () INHERITS (parent);
         CREATE TABLE ruled (id int PRIMARY KEY, v text); CREATE RULE r AS ON UPDATE TO ruled DO INSTEAD NOTHING;
         CREATE TABLE numbers (id int PRIMARY KEY, v int);
         CREATE TABLE made (id int PRIMARY KEY, w text, v text GENERATED ALWAYS AS (w || 'x') STORED);
         CREATE TABLE old (id int PRIMARY KEY, v json);
         CREATE TABLE documents (id int PRIMARY KEY, v jsonb);",
    );
    let of = |table: &str| ColumnSpec::new("c", "", table, &["id"], "v");
    for (table, reason) in [
        ("missing", "no such table"),
        ("plain", "not unique"),
        ("nullable", "may be NULL"),
        ("partial", "not unique"),
        ("late", "not unique"),
        ("expression", "not unique"),
        ("seen", "it is a view"),
        ("parent", "inherit"),
        ("ruled", "a rule"),
        ("numbers", "of type integer"),
        ("made", "is generated"),
        ("old", "holds documents"),
        ("documents", "holds documents"),
    ] {
        let told = refusal(&database, of(table));
        assert!(told.contains(reason), "{table}: {told}");
    }
    let mut member = of("old");
    member.member = Some("x".to_owned());
    assert!(refusal(&database, member.clone()).contains("type json"));
    member.immutable = true;
    column_of(&database, member);
    let mut filtered = of("documents");
    filtered.member = Some("x".to_owned());
    for filter in ["no_such_column = 1", "id = $1", "true) OR (true", "1; SELECT 1"] {
        filtered.filter = Some(filter.to_owned());
        assert!(try_column(&database, filtered.clone()).is_err(), "{filter}");
    }
    filtered.filter = Some("id > 1 -- all".to_owned());
    column_of(&database, filtered);
}

#[test]
fn what_people_should_know_is_told() {
    let database = super::application(3);
    let told = findings(&database, spec(&database));
    assert!(told.contains("CREATE INDEX CONCURRENTLY ON \"public\".\"t\" ((pg_catalog.left(\"v\", 22)))"), "{told}");
    assert!(told.contains("no context is declared"));
    database.execute(
        "CREATE INDEX ON t (left(v, 22));
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER on_value BEFORE UPDATE OF v ON t FOR EACH ROW EXECUTE FUNCTION f();
         CREATE TRIGGER on_other BEFORE UPDATE OF u ON t FOR EACH ROW EXECUTE FUNCTION f();
         CREATE TRIGGER on_insert BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();",
    );
    let told = findings(&database, spec(&database));
    assert!(told.contains("trigger on_value") && !told.contains("on_other") && !told.contains("on_insert"), "{told}");
    assert!(!told.contains("CREATE INDEX"), "{told}");
    let bytes = Database::new();
    bytes.execute("CREATE TABLE t (id int PRIMARY KEY, v bytea); CREATE INDEX ON t (substr(v, 1, 22))");
    assert!(!findings(&bytes, spec(&bytes)).contains("CREATE INDEX"));
    let other = Database::new();
    other.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v varchar(90), v2 varchar(90)); CREATE INDEX ON t (left(v2, 22))",
    );
    assert!(findings(&other, spec(&other)).contains("CREATE INDEX"));
    other.execute("CREATE INDEX ON t (left(v, 22)) WHERE v2 IS NULL");
    assert!(findings(&other, spec(&other)).contains("CREATE INDEX"), "of some rows");
    other.execute("CREATE INDEX ON t (left(v, 22))");
    assert!(!findings(&other, spec(&other)).contains("CREATE INDEX"));
}

#[test]
fn tables_are_found_in_their_schema() {
    let database = Database::new();
    database.execute(
        "CREATE SCHEMA \"My App\"; CREATE TABLE \"My App\".t (id int PRIMARY KEY, v text);
         CREATE TABLE \"odd.name\" (id int PRIMARY KEY, v text);
         CREATE SCHEMA odd; CREATE TABLE odd.name (id int PRIMARY KEY); CREATE TABLE odd.other (id int PRIMARY KEY, v text)",
    );
    assert!(refusal(&database, ColumnSpec::new("c", "", "t", &["id"], "v")).contains("no such table"));
    column_of(&database, ColumnSpec::new("c", "", "My App.t", &["id"], "v"));
    column_of(&database, ColumnSpec::new("c", "", "odd.other", &["id"], "v"));
    column_of(&database, ColumnSpec::new("c", "", "odd.name", &["id"], "v"));
    // As Prisma says it.
    let url = super::url(&format!("{}&schema=My%20App", database.url()));
    let opened = vault_core::PostgresDatabase::open(&url, vault_core::Access::Write).unwrap();
    let spec = ColumnSpec::new("c", url, "t", &["id"], "v");
    vault_core::column::PostgresColumn::new(opened, spec).unwrap();
}

/// A policy would hide rows from every count.
#[test]
fn row_level_security_is_an_error_and_hides_nothing() {
    let database = super::application(4);
    role("limited", "");
    database.execute(
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (id > 2);
         GRANT SELECT, UPDATE ON t TO limited",
    );
    let opened =
        vault_core::PostgresDatabase::open(&super::url(&database.url_as("limited")), vault_core::Access::Write);
    let mut column = vault_core::column::PostgresColumn::new(opened.unwrap(), spec(&database)).unwrap();
    let error = column.survey().unwrap_err();
    assert!(error.to_string().contains("row-level security"), "{error}");
    assert_eq!(column_of(&database, spec(&database)).survey().unwrap().tokens[0].1, 4);
}

#[test]
fn a_role_that_may_not_update_is_told_before() {
    let database = super::application(4);
    role("reader", "");
    database.execute("GRANT SELECT ON t TO reader; GRANT UPDATE (u) ON t TO reader");
    let opened = |access| vault_core::PostgresDatabase::open(&super::url(&database.url_as("reader")), access).unwrap();
    let column = |access| vault_core::column::PostgresColumn::new(opened(access), spec(&database)).unwrap();
    let error = column(vault_core::Access::Write).check().unwrap_err();
    assert!(error.hint().unwrap().contains("GRANT UPDATE (\"v\") ON \"public\".\"t\""), "{error}");
    let found = column(vault_core::Access::Read).check().unwrap();
    assert!(found.iter().any(|finding| finding.to_string().contains("may not update column v")));
}
