//! Fences: late writers with an old key fail loudly, and others do not notice.

use vault_core::Error;
use vault_core::column::Column;

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
        let refused = column.fence(&[kid(OLD)]).unwrap_err();
        assert!(refused.to_string().contains("column app.t holds 1 values"), "{refused}");
        assert!(column.fenced().unwrap().is_empty());
        rotate(&mut column, 10);
        column.fence(&[kid(OLD)]).unwrap();
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
        column.fence(&[kid(OLD), kid(NEW)]).unwrap_err();
        application.batch_execute("DELETE FROM t WHERE id = 9").unwrap();
        column.fence(&[kid(OLD), kid(NEW)]).unwrap();
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
    column.fence(&[kid(OLD)]).unwrap();
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
    assert!(matches!(column.fence(&[kid(OLD)]), Err(Error::Temporary { .. })));
    reading.rollback().unwrap();
    column.fence(&[kid(OLD)]).unwrap();
}

/// What was proved stays so, the table is not locked, and nobody has to be its owner.
#[test]
fn a_fence_that_stands_is_not_put_up_again() {
    let database = super::application(0);
    let mut column = column(&database);
    column.fence(&[kid(OLD)]).unwrap();
    column.prove_fence().unwrap();
    let mut other = database.connect();
    let mut reading = other.transaction().unwrap();
    reading.batch_execute("SELECT * FROM t").unwrap();
    column.fence(&[kid(OLD)]).unwrap();
    let validated =
        "SELECT count(*) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'c' AND convalidated";
    assert_eq!(super::number(&database, validated), 1);
}
