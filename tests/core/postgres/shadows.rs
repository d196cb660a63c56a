//! Functions, operators and types that others made, in schemas that are looked at before or after the
//! server's own.

use vault_core::column::{Column, ColumnSpec, Fence, Selection};

use crate::server::Database;

use super::{NEW, OLD, column_of, keys, kid, read_all, rotate, stale};

/// What fits the arguments of a rotation better than what the server has, and raises.
const TRAPS: &str = "
    CREATE FUNCTION public.left(varchar, int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE FUNCTION public.octet_length(varchar) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE FUNCTION public.to_jsonb(text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE FUNCTION public.has_database_privilege(name, text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE FUNCTION member(jsonb, jsonb) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE FUNCTION part(jsonb, jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE FUNCTION bits(int2, int4) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE FUNCTION same(varchar, text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE FUNCTION same(oid, int4) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE FUNCTION same(oid, regclass) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE FUNCTION same(mood, mood) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE OPERATOR public.->> (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = member);
    CREATE OPERATOR public.-> (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = part);
    CREATE OPERATOR public.& (LEFTARG = int2, RIGHTARG = int4, FUNCTION = bits);
    CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = text, FUNCTION = same);
    CREATE OPERATOR public.<> (LEFTARG = varchar, RIGHTARG = text, FUNCTION = same);
    CREATE OPERATOR public.> (LEFTARG = varchar, RIGHTARG = text, FUNCTION = same);
    CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = int4, FUNCTION = same);
    CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = same);
    CREATE OPERATOR public.= (LEFTARG = mood, RIGHTARG = mood, FUNCTION = same);
    CREATE OPERATOR public.> (LEFTARG = mood, RIGHTARG = mood, FUNCTION = same);";

#[test]
fn functions_and_operators_of_others_are_not_called() {
    for (kind, value, member) in [
        ("varchar(100)", "$1", None),
        ("text", "$1", None),
        ("bytea", "convert_to($1, 'UTF8')", None),
        ("jsonb", "jsonb_build_object('m', $1)", Some("m")),
    ] {
        for (key, of) in [("varchar(20)", "'k' || n"), ("mood", "('m' || n)::mood"), ("bigint", "n")] {
            let database = Database::new();
            let moods = (1..=20).map(|n| format!("'m{n}'")).collect::<Vec<_>>().join(", ");
            let value = value.replace("$1", &format!("('vs1.{OLD}.payload-' || n)"));
            database.execute(&format!(
                "CREATE TYPE mood AS ENUM ({moods}); CREATE TABLE t (id {key} PRIMARY KEY, v {kind});
                 INSERT INTO t SELECT {of}, {value} FROM generate_series(1, 20) n;
                 CREATE TABLE log (n int); CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql
                     AS $$ BEGIN INSERT INTO log VALUES (1); RETURN NEW; END $$;"
            ));
            database.execute(TRAPS);
            let mut spec = ColumnSpec::new("c", "", "t", &["id"], "v");
            spec.member = member.map(str::to_owned);
            let mut column = column_of(&database, spec);
            column.check().unwrap();
            assert_eq!(column.survey().unwrap().tokens, [(format!("vs1.{OLD}."), 20)], "{kind} {key}");
            assert_eq!(keys(&read_all(&mut column, &Selection::All, true, 3)).len(), 20);
            // With a trigger, by the statement that holds rows first; its own path is the application's.
            database.execute("CREATE TRIGGER noted BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION noted()");
            let some = read_all(&mut column, &stale(), true, 3).iter().take(5).map(super::moved).collect::<Vec<_>>();
            let written = super::write(&mut column, &some);
            assert_eq!((written.rewritten, written.failed.len()), (5, 0), "{kind} {key}: {:?}", written.failed);
            assert_eq!(super::number(&database, "SELECT count(*) FROM log"), 5);
            database.execute("DROP TRIGGER noted ON t");
            let written = rotate(&mut column, 7);
            assert_eq!((written.rewritten, written.failed.len()), (15, 0), "{kind} {key}: {:?}", written.failed);
            assert_eq!(column.count_under(&[kid(OLD)]).unwrap(), Some(0));
            let none = Selection::Except(vec![format!("vs1.{NEW}.")]);
            assert!(read_all(&mut column, &none, true, 3).is_empty());
            column.fence(&Fence::against(&[kid(OLD)])).unwrap();
            column.prove_fence().unwrap();
        }
    }
}

/// A type that is not on the search path is ordered and compared by its own operators: by those of
/// text, pages would pass over rows.
#[test]
fn keys_of_an_extension_are_paged_by_its_own_order() {
    for (columns, key, row) in [
        ("id ext.citext", "CASE n % 2 WHEN 0 THEN 'k' ELSE 'K' END || lpad(n::text, 3, '0')", vec!["id"]),
        (
            "a int, b ext.citext",
            "n % 3, CASE n % 2 WHEN 0 THEN 'k' ELSE 'K' END || lpad(n::text, 3, '0')",
            vec!["a", "b"],
        ),
        (
            "a ext.citext, b int",
            "CASE n % 4 WHEN 0 THEN 'x' WHEN 1 THEN 'Y' WHEN 2 THEN 'y' ELSE 'Z' END, n",
            vec!["a", "b"],
        ),
    ] {
        let database = Database::new();
        database.execute(&format!(
            "CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
             CREATE TABLE t ({columns}, v text, PRIMARY KEY ({}));
             INSERT INTO t SELECT {key}, 'vs1.{OLD}.payload-' || n FROM generate_series(1, 40) n",
            row.join(", ")
        ));
        let mut column = column_of(&database, ColumnSpec::new("c", "", "t", &row, "v"));
        let whole = keys(&read_all(&mut column, &stale(), true, 100));
        assert_eq!(whole.len(), 40);
        for limit in [1, 3, 7] {
            assert_eq!(keys(&read_all(&mut column, &stale(), true, limit)), whole, "{columns}");
        }
        assert_eq!(rotate(&mut column, 7).rewritten, 40, "{columns}");
    }
}

#[test]
fn a_table_may_be_called_anything() {
    for name in ["u", "held", "done", "new", "old", "place"] {
        let database = Database::new();
        database.execute(&format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, v text); INSERT INTO {name} SELECT n, 'vs1.{OLD}.p-' || n FROM generate_series(1, 9) n;
             CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
             CREATE TRIGGER f BEFORE UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION f()"
        ));
        let mut column = column_of(&database, ColumnSpec::new("c", "", name, &["id"], "v"));
        let written = rotate(&mut column, 4);
        assert_eq!((written.rewritten, written.failed.len()), (9, 0), "{name}");
    }
}

/// How values are shown is part of no key.
#[test]
fn keys_read_back_whatever_a_role_prefers() {
    let database = Database::new();
    database.execute(&format!(
        "CREATE TABLE t (a float8, b date, c interval, v text, PRIMARY KEY (a, b, c));
         INSERT INTO t SELECT n / 7.0::float8, date '2020-01-01' + n * 5, n * interval '1.5 days', 'vs1.{OLD}.p-' || n FROM generate_series(1, 30) n;
         ALTER DATABASE {} SET extra_float_digits = -3; ALTER DATABASE {} SET datestyle = 'SQL, DMY';
         ALTER DATABASE {} SET intervalstyle = 'sql_standard'; ALTER DATABASE {} SET default_transaction_isolation = 'serializable';
         ALTER DATABASE {} SET default_transaction_read_only = on; ALTER DATABASE {} SET standard_conforming_strings = off",
        database.name, database.name, database.name, database.name, database.name, database.name
    ));
    let mut column = column_of(&database, ColumnSpec::new("c", "", "t", &["a", "b", "c"], "v"));
    let written = rotate(&mut column, 7);
    assert_eq!((written.rewritten, written.lost, written.failed.len()), (30, 0, 0));
}
