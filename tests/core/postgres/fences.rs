//! Fences: late writers with an old key fail loudly, and others do not notice.

use vault_core::Error;
use vault_core::column::{Column, ColumnSpec, Fence};

use crate::server::Database;

use super::{NEW, OLD, column, column_of, kid, rotate, spec, token};

#[test]
fn a_fence_refuses_old_keys_and_nothing_else() {
    for (kind, of) in [
        ("text", "$1"),
        ("varchar(90)", "$1"),
        ("bytea", "convert_to($1, 'UTF8')"),
        ("jsonb", "jsonb_build_object('m', $1)"),
    ] {
        let database = Database::new();
        let value = |text: &str| of.replace("$1", &format!("'{text}'::text"));
        database.execute(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, v {kind}, u text); INSERT INTO t VALUES (1, {}, ''), (2, NULL, ''), (3, {}, '')",
            value(&token(OLD, 1)),
            value("a legacy value")
        ));
        let mut spec = spec(&database);
        spec.member = (kind == "jsonb").then(|| "m".to_owned());
        let mut column = column_of(&database, spec);
        let refused = column.fence(&Fence::against(&[kid(OLD)])).unwrap_err();
        assert!(refused.to_string().contains("column app.t holds 1 values"), "{refused}");
        assert!(column.fenced().unwrap().is_empty());
        rotate(&mut column, 10);
        column.fence(&Fence::against(&[kid(OLD)])).unwrap();
        assert_eq!(column.fenced().unwrap(), [kid(OLD)], "{kind}");
        let mut application = database.connect();
        for prefix in ["vs1", "vk1"] {
            let old = value(&format!("{prefix}.{OLD}.late"));
            for statement in
                [format!("INSERT INTO t VALUES (9, {old}, '')"), format!("UPDATE t SET v = {old} WHERE id = 2")]
            {
                let error = application.batch_execute(&statement).unwrap_err();
                assert_eq!(error.code().unwrap().code(), "23514", "{kind}");
            }
        }
        application
            .batch_execute(&format!(
                "INSERT INTO t VALUES (9, {}, ''); UPDATE t SET u = 'x'; UPDATE t SET v = NULL WHERE id = 1; INSERT INTO t VALUES (10, {}, '')",
                value(&token(NEW, 9)),
                value("another legacy value")
            ))
            .unwrap();
        column.prove_fence().unwrap();
        column.fence(&Fence::against(&[kid(OLD), kid(NEW)])).unwrap_err();
        application.batch_execute("DELETE FROM t WHERE id = 9").unwrap();
        column.fence(&Fence::against(&[kid(OLD), kid(NEW)])).unwrap();
        assert_eq!(column.fenced().unwrap(), [kid(OLD), kid(NEW)]);
        column.unfence().unwrap();
        column.unfence().unwrap();
        application.batch_execute(&format!("INSERT INTO t VALUES (11, {}, '')", value(&token(OLD, 9)))).unwrap();
    }
}

/// A row that slipped in between the count and the fence is found by the database itself.
#[test]
fn the_database_proves_a_fence() {
    let database = super::application(0);
    let mut column = column(&database);
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
    let constraint = super::text(
        &database,
        "SELECT conname::text FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'c'",
    );
    let definition = super::text(
        &database,
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' AND conrelid = 't'::regclass",
    );
    database.execute(&format!(
        "ALTER TABLE t DROP CONSTRAINT {constraint}; INSERT INTO t VALUES (1, '{}'); ALTER TABLE t ADD CONSTRAINT {constraint} {definition}",
        token(OLD, 1)
    ));
    let error = column.prove_fence().unwrap_err();
    assert!(matches!(&error, Error::Refused { reason, .. } if reason.contains("says its fence")), "{error}");
    database.execute("DELETE FROM t");
    column.prove_fence().unwrap();
    assert!(
        super::text(
            &database,
            "SELECT convalidated::text FROM pg_constraint WHERE contype = 'c' AND conrelid = 't'::regclass"
        ) == "true"
    );
}

#[test]
fn a_fence_does_not_wait_for_ever() {
    let database = super::application(0);
    let mut column = column(&database);
    let mut other = database.connect();
    let mut reading = other.transaction().unwrap();
    reading.batch_execute("SELECT * FROM t").unwrap();
    assert!(matches!(column.fence(&Fence::against(&[kid(OLD)])), Err(Error::Temporary { .. })));
    reading.rollback().unwrap();
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
}

/// What was proved stays so, the table is not locked, and nobody has to be its owner.
#[test]
fn a_fence_that_stands_is_not_put_up_again() {
    let database = super::application(0);
    let mut column = column(&database);
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
    column.prove_fence().unwrap();
    let mut other = database.connect();
    let mut reading = other.transaction().unwrap();
    reading.batch_execute("SELECT * FROM t").unwrap();
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
    let validated =
        "SELECT count(*) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'c' AND convalidated";
    assert_eq!(super::number(&database, validated), 1);
}

/// What stands in a database is what docs/FORMAT.md says.
#[test]
fn a_fence_is_written_as_its_vector() {
    let vector: serde_json::Value = serde_json::from_str(include_str!("../../vectors/columns/fences.json")).unwrap();
    let database = Database::new();
    database.execute("CREATE TABLE secrets (id int PRIMARY KEY, value text)");
    let mut column = column_of(&database, ColumnSpec::new("c", "", "secrets", &["id"], "value"));
    let kids: Vec<_> = vector["kids"].as_array().unwrap().iter().map(|of| kid(of.as_str().unwrap())).collect();
    let fence = Fence::against(&kids).of(vector["keyring"].as_str(), vector["generation"].as_u64().unwrap());
    column.fence(&fence).unwrap();
    assert_eq!(column.standing_fence().unwrap(), fence);
    let of = |what: &str| {
        super::text(
            &database,
            &format!("SELECT {what} FROM pg_constraint WHERE contype = 'c' AND conrelid = 'secrets'::regclass"),
        )
    };
    let written = |name: &str| vector["postgresql"][name].as_str().unwrap().to_owned();
    assert_eq!(of("conname::text"), written("constraint"));
    assert_eq!(of("pg_get_constraintdef(oid)"), format!("{} NOT VALID", written("definition")));
    assert_eq!(of("obj_description(oid, 'pg_constraint')"), written("comment"));
}

#[test]
fn a_fence_counts_only_as_it_was_written() {
    let database = super::application(0);
    let mut column = column(&database);
    column.fence(&Fence::against(&[kid(OLD)]).of(None, 3)).unwrap();
    column.prove_fence().unwrap();
    assert_eq!(column.fenced().unwrap(), [kid(OLD)], "proved or not");
    let of = |what: &str| {
        super::text(
            &database,
            &format!("SELECT {what} FROM pg_constraint WHERE contype = 'c' AND conrelid = 't'::regclass"),
        )
    };
    let (name, definition, comment) =
        (of("conname::text"), of("pg_get_constraintdef(oid)"), of("obj_description(oid, 'pg_constraint')"));
    let again = |definition: &str, comment: &str| {
        database.execute(&format!(
            "ALTER TABLE t DROP CONSTRAINT {name}; ALTER TABLE t ADD CONSTRAINT {name} {definition};
             COMMENT ON CONSTRAINT {name} ON t IS '{comment}'"
        ));
    };
    again(&definition, &comment);
    assert_eq!(column.fenced().unwrap(), [kid(OLD)], "as a restored dump has it");
    for (definition, comment) in [
        (definition.as_str(), ""),
        (definition.as_str(), comment.replace("v1", "v2").as_str()),
        (
            definition.as_str(),
            comment.replace(OLD, NEW).replace(&comment[comment.len() - 16..], "0123456789abcdef").as_str(),
        ),
        (definition.replace("vs1", "vs2").as_str(), comment.as_str()),
        (definition.replace("<> ALL", "= ANY").as_str(), comment.as_str()),
        (format!("{definition} NO INHERIT").as_str(), comment.as_str()),
        ("CHECK (true)", comment.as_str()),
    ] {
        again(definition, comment);
        assert!(column.fenced().unwrap().is_empty(), "{definition} {comment}");
    }
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
    assert_eq!(column.fenced().unwrap(), [kid(OLD)], "what is no fence is replaced by one");
}

/// A newer generation is written beside a fence that stands, and the fence stays proved.
#[test]
fn a_fence_tells_of_newer_states_and_stays_proved() {
    let database = super::application(0);
    let mut column = column(&database);
    let id = "0f6c1c1e0a7b4f1f9a3e5d2c7b8a9012";
    let fence = |generation| Fence::against(&[kid(OLD)]).of(Some(id), generation);
    column.fence(&fence(3)).unwrap();
    column.prove_fence().unwrap();
    column.fence(&fence(5)).unwrap();
    assert_eq!(column.standing_fence().unwrap().generation, 5);
    column.fence(&fence(4)).unwrap();
    assert_eq!(column.standing_fence().unwrap().generation, 5, "it never goes back");
    let validated =
        "SELECT count(*) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'c' AND convalidated";
    assert_eq!(super::number(&database, validated), 1);
}

/// Whoever owns a table can give it any constraint, so such a fence proves nothing to a role that does
/// not act for the owner.
#[test]
fn a_fence_on_a_table_of_somebody_else_is_told_apart() {
    let database = super::application(0);
    crate::server::role("fence_stranger", "");
    crate::server::role("fence_reader", "");
    database.execute("ALTER TABLE t OWNER TO fence_stranger; GRANT SELECT, UPDATE ON t TO fence_reader");
    column(&database).fence(&Fence::against(&[kid(OLD)])).unwrap();
    let standing = |database: &Database| {
        let url = super::url(&database.url_as("fence_reader"));
        let opened = vault_core::PostgresDatabase::open(&url, vault_core::Access::Write).unwrap();
        let mut column =
            vault_core::column::PostgresColumn::new(opened, ColumnSpec::new("c", url, "t", &["id"], "v")).unwrap();
        (column.standing_fence().unwrap(), column.fence_refusal().unwrap())
    };
    let (fence, refusal) = standing(&database);
    assert!(fence.is_of_others && fence.kids == [kid(OLD)]);
    assert!(refusal.unwrap().to_string().contains("only the owner of table t can fence column c"));
    database.execute("GRANT fence_stranger TO fence_reader");
    let (fence, refusal) = standing(&database);
    assert!(!fence.is_of_others && refusal.is_none());
    database.execute("REVOKE fence_stranger FROM fence_reader");
}
