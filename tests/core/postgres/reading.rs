//! Pages: every row once, whatever identifies it.

use std::sync::Arc;

use vault_core::column::{Cell, Column, ColumnSpec, ContextTemplate, Page, Selection};

use crate::server::Database;

use super::{NEW, OLD, column, column_of, keys, read_all, rotate, spec, stale, text, texts, token};

/// A key captured as text by `ORDER BY` would come as 1, 10, 11, and skip the rest.
#[test]
fn pages_visit_every_row_once_and_in_order() {
    let database = super::application(250);
    let mut column = column(&database);
    let expected: Vec<String> = (1..=250).map(|id| id.to_string()).collect();
    for limit in [1, 7, 100, 250, 1_000] {
        assert_eq!(keys(&read_all(&mut column, &stale(), true, limit)), expected, "{limit}");
    }
    let by_name = Database::new();
    by_name.execute("CREATE TABLE t (vault_key_0 int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'x' FROM generate_series(1, 30) n");
    let mut column = column_of(&by_name, ColumnSpec::new("c", "", "t", &["vault_key_0"], "v"));
    assert_eq!(keys(&read_all(&mut column, &Selection::All, true, 4)), expected[..30]);
}

/// Rows are identified, paged, written and resumed by keys of any type.
#[test]
fn any_row_key_will_do() {
    for (columns, key, row) in [
        ("id smallint", "n", vec!["id"]),
        ("id bigint", "n * 3000000000", vec!["id"]),
        ("id uuid", "md5(n::text)::uuid", vec!["id"]),
        ("id text", "CASE n % 3 WHEN 0 THEN 'ä' WHEN 1 THEN 'A\"''\\' ELSE '' END || n", vec!["id"]),
        ("id varchar(20) COLLATE \"de_DE_test\"", "'k' || n", vec!["id"]),
        ("id text COLLATE \"C\"", "'k' || n", vec!["id"]),
        ("id char(8)", "'k' || n", vec!["id"]),
        ("id numeric", "n / 7.0", vec!["id"]),
        ("id double precision", "n / 7.0::float8", vec!["id"]),
        ("id timestamptz", "now() + n * interval '1.000001 s'", vec!["id"]),
        ("id date", "date '2020-01-01' + n::int", vec!["id"]),
        ("id bytea", "decode(md5(n::text), 'hex')", vec!["id"]),
        ("id inet", "'10.0.0.0'::inet + n", vec!["id"]),
        ("id mood", "('m' || n)::mood", vec!["id"]),
        ("id positive", "n", vec!["id"]),
        ("a int, b text", "n % 5, 'b' || n", vec!["b", "a"]),
        (
            "a uuid, b date, c boolean",
            "md5((n % 3)::text)::uuid, date '2020-01-01' + n::int, n % 2 = 0",
            vec!["a", "b", "c"],
        ),
        ("\"Odd \"\"Name\"\"\" int, \"select\" text", "n, 'x'", vec!["Odd \"Name\"", "select"]),
    ] {
        let database = Database::new();
        let names: Vec<String> = row.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
        let mut sorted = names.clone();
        sorted.sort();
        let moods = (1..=40).map(|n| format!("'m{n}'")).collect::<Vec<_>>().join(", ");
        database.execute(&format!(
            "CREATE COLLATION \"de_DE_test\" (provider = icu, locale = 'de');
             CREATE TYPE mood AS ENUM ({moods}); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
             CREATE TABLE \"T t\" ({columns}, \"V v\" text, PRIMARY KEY ({}));
             INSERT INTO \"T t\" SELECT {key}, 'vs1.{OLD}.payload-' || n FROM generate_series(1, 40) n",
            sorted.join(", ")
        ));
        let mut column = column_of(&database, ColumnSpec::new("c", "", "T t", &row, "V v"));
        let whole = read_all(&mut column, &stale(), true, 100);
        let pages = read_all(&mut column, &stale(), true, 3);
        assert_eq!(keys(&pages), keys(&whole), "{columns}");
        let mut once = keys(&pages);
        once.sort();
        once.dedup();
        assert_eq!(once.len(), 40, "{columns}");
        let written = rotate(&mut column, 7);
        assert_eq!((written.rewritten, written.lost, written.failed.len()), (40, 0, 0), "{columns}");
        let left =
            super::number(&database, &format!("SELECT count(*) FROM \"T t\" WHERE \"V v\" NOT LIKE 'vs1.{NEW}.%'"));
        assert_eq!(left, 0, "{columns}");
    }
}

#[test]
fn values_of_every_type_are_read_and_written() {
    for (kind, value, member) in [
        ("text", "$1", None),
        ("varchar(100)", "$1", None),
        ("text COLLATE \"C\"", "$1", None),
        ("text COLLATE loose", "$1", None),
        ("bytea", "convert_to($1, 'UTF8')", None),
        ("secret_text", "$1", None),
        ("jsonb", "jsonb_build_object('o''dd \\ m', $1, 'z', 1, 'a', '[1, 2]'::jsonb)", Some("o'dd \\ m")),
    ] {
        let database = Database::new();
        let value = value.replace("$1", &format!("('vs1.{OLD}.payload-' || n)"));
        database.execute(&format!(
            "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             CREATE DOMAIN secret_text AS text CHECK (VALUE <> '');
             CREATE TABLE t (id int PRIMARY KEY, v {kind});
             INSERT INTO t SELECT n, {value} FROM generate_series(1, 20) n;
             INSERT INTO t VALUES (100, NULL)"
        ));
        let mut spec = spec(&database);
        spec.member = member.map(str::to_owned);
        let mut column = column_of(&database, spec);
        let survey = column.survey().unwrap();
        assert_eq!((survey.tokens.as_slice(), survey.empty), ([(format!("vs1.{OLD}."), 20)].as_slice(), 1), "{kind}");
        assert_eq!(column.count_under(&[super::kid(OLD)]).unwrap(), Some(20));
        let rows = read_all(&mut column, &stale(), true, 6);
        assert_eq!(texts(&rows)[..2], [token(OLD, 1), token(OLD, 2)], "{kind}");
        assert_eq!(matches!(rows[0].value, Cell::Blob(_)), kind == "bytea");
        assert_eq!(rotate(&mut column, 6).rewritten, 20, "{kind}");
        let all = read_all(&mut column, &Selection::All, true, 6);
        assert_eq!(texts(&all)[19], token(NEW, 20));
        let none = Selection::Except(vec![format!("vs1.{NEW}.")]);
        assert!(read_all(&mut column, &none, true, 6).is_empty());
        if member.is_some() {
            let rest = text(&database, "SELECT (v - 'o''dd \\ m')::text FROM t WHERE id = 1");
            assert_eq!(rest, r#"{"a": [1, 2], "z": 1}"#);
        }
    }
}

/// What a document holds that is no text is listed, and never taken for a token or for nothing.
#[test]
fn members_that_are_no_text_are_listed() {
    let database = Database::new();
    database.execute(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, v jsonb);
         INSERT INTO t VALUES (1, '{{\"x\": \"vs1.{OLD}.p\"}}'), (2, '{{\"x\": 5}}'), (3, '{{\"x\": {{\"y\": \"vs1.{OLD}.p\"}}}}'),
            (4, '{{\"x\": null}}'), (5, '{{}}'), (6, '[\"x\"]'), (7, '\"x\"'), (8, NULL), (9, '{{\"x\": \"\"}}'), (10, 'null'),
            (11, '[{{\"x\": \"vs1.{OLD}.p\"}}]'), (12, 'true')"
    ));
    let mut spec = spec(&database);
    spec.member = Some("x".to_owned());
    let mut column = column_of(&database, spec);
    let rows = read_all(&mut column, &Selection::Except(vec![format!("vs1.{NEW}.")]), false, 2);
    assert_eq!(keys(&rows), ["1", "2", "3", "6", "7", "11", "12"]);
    assert!(rows[1..].iter().all(|row| row.value == Cell::Blob(vec![0xff])));
    assert_eq!(keys(&read_all(&mut column, &Selection::All, false, 2)), keys(&rows));
    let survey = column.survey().unwrap();
    assert_eq!((survey.tokens[0].1, survey.other, survey.empty), (1, 6, 5));
    let change =
        vault_core::column::RowChange { key: rows[1].key.clone(), old: rows[1].value.clone(), new: "x".to_owned() };
    assert_eq!(super::write(&mut column, &[change]).failed.len(), 1);
}

#[test]
fn a_filter_keeps_rows_from_pages_and_not_from_counts() {
    let database = super::application(20);
    database.execute("UPDATE t SET u = 'kept' WHERE id > 15");
    let mut spec = spec(&database);
    spec.filter = Some("u IS NULL -- 'kept'".to_owned());
    let mut column = column_of(&database, spec);
    assert_eq!(read_all(&mut column, &stale(), true, 4).len(), 15);
    assert_eq!(read_all(&mut column, &stale(), false, 4).len(), 20);
    assert_eq!(column.survey().unwrap().tokens[0].1, 20);
    assert_eq!(column.count_under(&[super::kid(OLD)]).unwrap(), Some(20));
}

#[test]
fn cells_of_contexts_are_text_numbers_and_uuids() {
    let database = Database::new();
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, a uuid, b bigint, c varchar(9), d numeric);
         INSERT INTO t VALUES (1, 'x', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', -5, 'ä ', NULL), (2, 'x', NULL, NULL, NULL, 1.5)",
    );
    let mut spec = spec(&database);
    spec.context =
        ContextTemplate::default().with("name", "{a}/{b}/{c}").and_then(|c| c.with("tenant", "{d}")).unwrap();
    let mut column = column_of(&database, spec.clone());
    let columns: Arc<[String]> = spec.context.columns().into();
    let page = Page { select: &Selection::All, filtered: true, columns: &columns, after: None, limit: 10 };
    let rows = column.read(&page).unwrap();
    assert!(format!("{:?}", rows[0]).contains("redacted"));
    assert_eq!(rows.len(), 2);
}

/// What the server sends is not kept beyond what a page may take, and every row is met.
#[test]
fn long_values_make_short_pages() {
    let database = Database::new();
    database.execute(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, v text);
         INSERT INTO t SELECT n, 'vs1.{OLD}.' || repeat('x', 1000000) || n FROM generate_series(1, 24) n"
    ));
    let mut column = column(&database);
    let columns: Arc<[String]> = Arc::from([]);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = Page { select: &stale(), filtered: true, columns: &columns, after: after.as_ref(), limit: 500 };
        let rows = column.read(&page).unwrap();
        let Some(last) = rows.last() else { break };
        assert!(rows.iter().map(|row| row.value.as_bytes().len()).sum::<usize>() <= 6_000_000);
        after = Some(last.key.clone());
        seen.extend(keys(&rows));
    }
    assert_eq!(seen, (1..=24).map(|id| id.to_string()).collect::<Vec<_>>());
}
