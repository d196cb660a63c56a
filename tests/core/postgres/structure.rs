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
    let both = refusal(&database, ColumnSpec::new("c", "", "odd.name", &["id"], "v"));
    assert!(both.contains("several tables could be meant") && both.contains("\"public\".\"odd.name\""), "{both}");
    database.execute("DROP TABLE odd.name");
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

/// Whoever may make a schema could put a table in front of the application's own.
#[test]
fn a_name_that_two_schemas_of_the_search_path_have_is_refused() {
    let database = super::application(3);
    database.execute("CREATE SCHEMA postgres; CREATE TABLE postgres.t (id int PRIMARY KEY, v text)");
    let of = |table: &str| ColumnSpec::new("c", "", table, &["id"], "v");
    let told = refusal(&database, of("t"));
    assert!(told.contains("several tables could be meant by t"), "{told}");
    assert!(told.contains("\"postgres\".\"t\"") && told.contains("\"public\".\"t\""), "{told}");
    let column = column_of(&database, of("public.t"));
    assert!(column.place().starts_with("\"public\".\"t\" (oid "), "{}", column.place());
    database.execute("DROP TABLE postgres.t; CREATE VIEW postgres.t AS SELECT 1 AS id");
    assert!(refusal(&database, of("t")).contains("several tables"), "a view is as good");
    database.execute("DROP VIEW postgres.t");
    column_of(&database, of("t"));
}

/// The flag of the catalog stays when the last table that inherits is dropped.
#[test]
fn inheritance_is_what_is_there_now() {
    let database = super::application(1);
    database.execute("CREATE TABLE child () INHERITS (t)");
    assert!(refusal(&database, spec(&database)).contains("inherit"));
    database.execute("DROP TABLE child");
    column_of(&database, spec(&database));
}

#[test]
fn a_published_table_without_identity_is_an_obstacle() {
    let database = Database::new();
    database.execute("CREATE TABLE t (id int NOT NULL UNIQUE, v text); INSERT INTO t VALUES (1, 'x')");
    assert!(!findings(&database, spec(&database)).contains("identity"));
    let told = |sql: &str| {
        database.execute(sql);
        let error = database.connect().batch_execute("UPDATE t SET v = 'y'").err();
        let told = findings(&database, spec(&database)).contains("has no replica identity");
        assert_eq!(error.is_some(), told, "{sql}");
        told
    };
    assert!(told("CREATE PUBLICATION p FOR TABLE t"));
    assert!(!told("ALTER TABLE t REPLICA IDENTITY USING INDEX t_id_key"));
    assert!(told("ALTER TABLE t REPLICA IDENTITY NOTHING"));
    assert!(!told("ALTER TABLE t REPLICA IDENTITY FULL"));
    assert!(told("ALTER TABLE t REPLICA IDENTITY DEFAULT"));
    assert!(!told("ALTER PUBLICATION p SET (publish = 'insert')"));
    assert!(told("CREATE PUBLICATION q FOR ALL TABLES"));
    assert!(!told("ALTER TABLE t ADD PRIMARY KEY (id)"));
    let partitioned = Database::new();
    partitioned.execute(
        "CREATE TABLE t (id int NOT NULL UNIQUE, v text) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (9); INSERT INTO t VALUES (1, 'x');
         CREATE PUBLICATION p FOR TABLE t WITH (publish_via_partition_root = true)",
    );
    assert_eq!(
        partitioned.connect().batch_execute("UPDATE t SET v = 'y'").is_err(),
        findings(&partitioned, spec(&partitioned)).contains("has no replica identity")
    );
}

/// The advice is the expression that the statements use, and none is given where none helps.
#[test]
fn the_index_that_is_advised_is_the_one_that_is_used() {
    for (kind, member) in [("text", None), ("varchar(99)", None), ("bytea", None), ("jsonb", Some("m"))] {
        let database = Database::new();
        database.execute(&format!("CREATE TABLE t (id int PRIMARY KEY, v {kind})"));
        let mut spec = spec(&database);
        spec.member = member.map(str::to_owned);
        let told = findings(&database, spec.clone());
        let advice = told.lines().find_map(|line| line.split_once(": CREATE INDEX")).unwrap().1;
        database.execute(&format!("CREATE INDEX{}", advice.replace(" CONCURRENTLY", "")));
        assert!(!findings(&database, spec.clone()).contains("CREATE INDEX"), "{kind}: {advice}");
        let mut client = database.connect();
        client.batch_execute("SET enable_seqscan = off").unwrap();
        let value = match kind {
            "bytea" => "substr(v, 1, 22) = ANY (ARRAY['x'::bytea])",
            "jsonb" => "left(v ->> 'm', 22) = ANY (ARRAY['x'])",
            _ => "left(v, 22) = ANY (ARRAY['x'])",
        };
        let rows = client.query(&format!("EXPLAIN SELECT count(*) FROM t WHERE {value}"), &[]).unwrap();
        assert!(rows.iter().any(|row| row.get::<_, String>(0).contains("Index")), "{kind}");
    }
    let database = Database::new();
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)");
    let mut legacy = spec(&database);
    legacy.writes = vault_core::Format::FlowfileV1;
    legacy.reads = vec![vault_core::Format::FlowfileV1];
    assert!(!findings(&database, legacy).contains("CREATE INDEX"));
}

/// What others hang on the tables of ours would run with the rights of whoever writes them.
#[test]
fn tables_of_ours_with_additions_are_refused() {
    for (table, addition) in [
        ("rotation", "CREATE TRIGGER x BEFORE DELETE ON vault_core.rotation FOR EACH ROW EXECUTE FUNCTION evil()"),
        ("rotation_worker", "CREATE TRIGGER x AFTER UPDATE ON vault_core.rotation_worker EXECUTE FUNCTION evil()"),
        ("rotation", "CREATE RULE x AS ON DELETE TO vault_core.rotation DO ALSO SELECT evil_value()"),
        ("rotation_failure", "ALTER TABLE vault_core.rotation_failure ADD CHECK (evil_value() IS NOT NULL)"),
        ("rotation_failure", "ALTER TABLE vault_core.rotation_failure ADD COLUMN x text DEFAULT evil_value()"),
        ("rotation_worker", "CREATE INDEX ON vault_core.rotation_worker (evil_of(run_id))"),
        ("rotation", "ALTER TABLE vault_core.rotation ENABLE ROW LEVEL SECURITY"),
        ("rotation", "CREATE TABLE heir () INHERITS (vault_core.rotation)"),
    ] {
        let database = super::application(2);
        let mut column = column_of(&database, spec(&database));
        column.open_run(&super::new_run(super::NEW)).unwrap();
        database.execute(
            "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
             CREATE FUNCTION evil_value() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN 'x'; END $$;
             CREATE FUNCTION evil_of(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$",
        );
        database.execute(addition);
        for refused in [
            column.close_run(),
            column.open_run(&super::new_run(super::NEW)).map(drop),
            column.list_failures("x", &[(vault_core::column::RowKey::default(), "y".to_owned())]),
        ] {
            let told = refused.unwrap_err().to_string();
            assert!(told.contains(&format!("vault_core.\"{table}\" has")), "{addition}: {told}");
        }
    }
}

#[test]
fn the_record_of_another_role_is_not_written() {
    let database = super::application(2);
    role("record_owner", "");
    role("record_other", "");
    database.execute(
        "CREATE SCHEMA vault_core; GRANT ALL ON SCHEMA vault_core TO record_owner, record_other;
         GRANT SELECT, UPDATE ON t TO record_owner, record_other",
    );
    let column_by = |role: &str| {
        let url = super::url(&database.url_as(role));
        let opened = vault_core::PostgresDatabase::open(&url, vault_core::Access::Write).unwrap();
        vault_core::column::PostgresColumn::new(opened, ColumnSpec::new("c", url, "t", &["id"], "v")).unwrap()
    };
    column_by("record_owner").open_run(&super::new_run(super::NEW)).unwrap();
    database.execute("GRANT ALL ON ALL TABLES IN SCHEMA vault_core TO record_other");
    let mut other = column_by("record_other");
    for refused in [other.open_run(&super::new_run(super::NEW)).map(drop), other.close_run()] {
        assert!(refused.unwrap_err().to_string().contains("belongs to \"record_owner\""));
    }
    database.execute("GRANT record_owner TO record_other");
    let mut member = column_by("record_other");
    assert!(member.open_run(&super::new_run(super::NEW)).is_err(), "batches are for the owner");
    member.close_run().unwrap();
    database.execute("REVOKE record_owner FROM record_other");
}
