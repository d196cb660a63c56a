use super::*;

#[test]
fn whatever_does_not_begin_so_is_selected() {
    let application = Application::with_rows(2);
    application
        .connection
        .execute_batch(&format!(
            "INSERT INTO t (id, v) VALUES (3, NULL), (4, ''), (5, 'vs1.{OLD}'), (6, x'ff'), (7, 'vs2.x'), (8, 'x'), (9, 7);
             INSERT INTO t (id, v) SELECT 10, CAST(v AS BLOB) FROM t WHERE id = 1"
        ))
        .unwrap();
    let select = Selection::Except(vec![format!("vs1.{OLD}."), format!("vk1.{OLD}.")]);
    assert_eq!(keys(&read_all(&mut application.column(), &select, 2)), ["5", "6", "7", "8", "9"]);
}

/// Every key, in the order of the database's own index.
fn paged(schema: &str, inserts: &[&str], row: &[&str]) -> Vec<Vec<String>> {
    let application = Application::new(schema);
    for values in inserts {
        application.connection.execute_batch(&format!("INSERT INTO t VALUES ({values}, '{}')", token(OLD, 0))).unwrap();
    }
    let mut column = application.column_of(ColumnSpec::new("c", application.path(), "t", row, "v"));
    (1..=inserts.len() + 1)
        .map(|limit| {
            let rows = read_all(&mut column, &stale(), limit);
            for row in &rows {
                assert_eq!(RowKey::parse(&row.key.to_text()).as_ref(), Some(&row.key));
            }
            keys(&rows)
        })
        .collect()
}

fn assert_paged(schema: &str, inserts: &[&str], row: &[&str], expected: &[&str]) {
    for found in paged(schema, inserts, row) {
        assert_eq!(found, expected, "{schema}");
    }
}

#[test]
fn keys_are_paged_in_their_own_type_and_order() {
    let numbers = ["99", "9", "100", "10", "-1"];
    for kind in
        ["INTEGER PRIMARY KEY", "INT PRIMARY KEY NOT NULL", "NUMERIC PRIMARY KEY NOT NULL", "PRIMARY KEY NOT NULL"]
    {
        assert_paged(
            &format!("CREATE TABLE t (id {kind}, v TEXT)"),
            &numbers,
            &["id"],
            &["-1", "9", "10", "99", "100"],
        );
    }
    let texts = ["'99'", "'9'", "'100'", "'10'", "'ä'", "''"];
    for kind in
        ["TEXT PRIMARY KEY NOT NULL", "VARCHAR(9) UNIQUE NOT NULL", "PRIMARY KEY NOT NULL", "BLOB PRIMARY KEY NOT NULL"]
    {
        assert_paged(
            &format!("CREATE TABLE t (id {kind}, v TEXT)"),
            &texts,
            &["id"],
            &["", "10", "100", "9", "99", "ä"],
        );
    }
    assert_paged(
        "CREATE TABLE t (id REAL PRIMARY KEY NOT NULL, v TEXT)",
        &["1.5", "-0.25", "9e99", "2"],
        &["id"],
        &["-0.25", "1.5", "2", &format!("{}", 9e99_f64)],
    );
    assert_paged(
        "CREATE TABLE t (id PRIMARY KEY NOT NULL, v TEXT) WITHOUT ROWID",
        &["x'09'", "x'0a'", "x''", "'text'", "1.5", "2", "x'ff00'"],
        &["id"],
        &["1.5", "2", "text", "x''", "x'09'", "x'0a'", "x'ff00'"],
    );
}

#[test]
fn composite_keys_are_paged_by_row_comparison() {
    let rows = ["10, 'b'", "9, 'z'", "9, '10'", "9, '9'", "10, 'a'", "100, ''"];
    for tail in ["", " WITHOUT ROWID"] {
        assert_paged(
            &format!("CREATE TABLE t (a INTEGER NOT NULL, b TEXT NOT NULL, v TEXT, PRIMARY KEY (a, b)){tail}"),
            &rows,
            &["a", "b"],
            &["9, 10", "9, 9", "9, z", "10, a", "10, b", "100, "],
        );
    }
    // The order is the index's, the key is as declared.
    assert_paged(
        "CREATE TABLE t (a INTEGER NOT NULL, b TEXT NOT NULL, v TEXT, PRIMARY KEY (b, a))",
        &rows,
        &["a", "b"],
        &["100, ", "9, 10", "9, 9", "10, a", "10, b", "9, z"],
    );
}

#[test]
fn collations_skip_no_row() {
    let texts = ["'a'", "'B'", "'A'", "'b'", "'a '"];
    // The column compares without case, its index with it.
    for found in paged(
        "CREATE TABLE t (id TEXT COLLATE NOCASE NOT NULL, v TEXT); CREATE UNIQUE INDEX i ON t (id COLLATE BINARY)",
        &texts,
        &["id"],
    ) {
        assert_eq!(found, ["A", "B", "a", "a ", "b"]);
    }
    for found in paged(
        "CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v TEXT)",
        &["'b'", "'A'", "'c'", "'B2'"],
        &["id"],
    ) {
        assert_eq!(found, ["A", "b", "B2", "c"]);
    }
    for found in paged(
        "CREATE TABLE t (a TEXT COLLATE NOCASE NOT NULL, b TEXT COLLATE RTRIM NOT NULL, v TEXT);
         CREATE UNIQUE INDEX i ON t (a COLLATE BINARY, b COLLATE BINARY)",
        &["'x', 'a'", "'X', 'a'", "'x', 'a '", "'X', 'a '"],
        &["a", "b"],
    ) {
        assert_eq!(found, ["X, a", "X, a ", "x, a", "x, a "]);
    }
}

#[test]
fn pages_follow_the_index_of_the_key() {
    // Anything but the index would sort the whole table for each page, and search it for each row.
    let application = Application::new("CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v TEXT)");
    application
        .connection
        .execute_batch(&format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
             INSERT INTO t SELECT 'Key-' || i, '{}' || i FROM n",
            token(OLD, "")
        ))
        .unwrap();
    let began = processor_seconds();
    let mut column = application.column();
    assert_eq!(rotate(&mut column, 100).rewritten, 5_000);
    let took = processor_seconds() - began;
    assert!(took < 5, "{took} s");
}

/// What this thread used, in which no waiting for the disk or for other processes is.
fn processor_seconds() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    // The name in parentheses may have spaces; utime and stime are 11 fields behind it (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>() / 100
}

#[test]
fn names_that_need_quoting_work() {
    for name in
        ["select", "with space", "quo\"te", "quo'te", "Größe 🔑", "a.b", "vault_value", "kind", "[x]", "`y`", "%s", "1"]
    {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        for value in ["v", "from", "va\"lue", "wért x"] {
            let value_quoted = format!("\"{}\"", value.replace('"', "\"\""));
            let application = Application::new(&format!(
                "CREATE TABLE {quoted} ({quoted} INTEGER PRIMARY KEY, {value_quoted} TEXT, \"kind\u{1}\" TEXT);
                 INSERT INTO {quoted} VALUES (1, '{}', 'x'), (2, '{}', 'y')",
                token(OLD, 1),
                token(NEW, 2)
            ));
            let mut column = application.column_of(ColumnSpec::new("c", application.path(), name, &[name], value));
            column.check().unwrap();
            assert_eq!(column.survey().unwrap().tokens.len(), 2, "{name} {value}");
            assert_eq!(rotate(&mut column, 1).rewritten, 1);
            column.fence(&Fence::against(&[kid(OLD)])).unwrap();
            let insert = format!("INSERT INTO {quoted} ({value_quoted}) VALUES ('{}')", token(OLD, 1));
            assert!(application.connection.execute_batch(&insert).is_err());
            column.unfence().unwrap();
            application.connection.execute_batch(&insert).unwrap();
        }
    }
}

#[test]
fn the_rowid_identifies_rows_too() {
    for name in ["rowid", "oid", "_rowid_"] {
        let application = Application::new("CREATE TABLE t (v TEXT)");
        for id in [9, 10, 100] {
            application.connection.execute("INSERT INTO t (rowid, v) VALUES (?1, ?2)", (id, token(OLD, id))).unwrap();
        }
        let mut column = application.column_of(ColumnSpec::new("c", application.path(), "t", &[name], "v"));
        assert_eq!(keys(&read_all(&mut column, &stale(), 1)), ["9", "10", "100"]);
        assert_eq!(rotate(&mut column, 2).rewritten, 3);
    }
    // A column of that name hides it.
    assert_paged("CREATE TABLE t (rowid TEXT UNIQUE NOT NULL, v TEXT)", &["'b'", "'a'"], &["rowid"], &["a", "b"]);
}

#[test]
fn text_and_blobs_are_read_in_their_class() {
    let application = Application::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    let text = token(OLD, 1);
    application.insert(1, &text);
    application.connection.execute("INSERT INTO t VALUES (2, ?1)", [text.as_bytes()]).unwrap();
    application.insert(3, &text.replace("vs1", "vk1"));
    application.insert(4, &token(NEW, 1));
    application
        .connection
        .execute_batch("INSERT INTO t VALUES (5, NULL), (6, ''), (7, x''), (8, 'vs1.kaaaa'), (9, x'00ff')")
        .unwrap();
    let mut column = application.column();
    let rows = read_all(&mut column, &stale(), 10);
    assert_eq!(keys(&rows), ["1", "2", "3"]);
    assert!(matches!(&rows[0].value, Cell::Text(value) if *value == text));
    assert!(matches!(&rows[1].value, Cell::Blob(value) if value == text.as_bytes()));
    assert_eq!(keys(&read_all(&mut column, &Selection::All, 2)), ["1", "2", "3", "4", "8", "9"]);
}

#[test]
fn what_is_neither_text_nor_a_blob_is_listed_and_never_written() {
    let application = Application::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    application
        .connection
        .execute_batch(
            "INSERT INTO t VALUES (1, 1234), (2, 1.5), (3, CAST(x'c3' AS TEXT)), (4, CAST(x'0061' AS TEXT)), (5, 0)",
        )
        .unwrap();
    let mut column = application.column();
    let rows = read_all(&mut column, &Selection::All, 2);
    assert_eq!(keys(&rows), ["1", "2", "3", "4", "5"]);
    for row in &rows[..3] {
        assert!(core::str::from_utf8(row.value.as_bytes()).is_err(), "no format, and not plain text, fits it");
    }
    let changes: Vec<_> = rows
        .iter()
        .map(|row| RowChange { key: row.key.clone(), old: row.value.clone(), new: "new".to_owned() })
        .collect();
    let written = write(&mut column, &changes);
    assert_eq!((written.rewritten, written.lost, written.failed.len()), (1, 0, 4));
    let now = application.text("SELECT group_concat(typeof(v) || hex(v)) FROM t");
    assert_eq!(now, "integer31323334,real312E35,textC3,text6E6577,integer30");

    // Nor where a caller gives a number for the old value.
    let change = RowChange { key: rows[0].key.clone(), old: Cell::Integer(1234), new: "new".to_owned() };
    assert_eq!(write(&mut column, &[change]).failed.len(), 1);
    assert_eq!(application.number("SELECT v FROM t WHERE id = 1"), 1234);
    assert_eq!(column.survey().unwrap().other, 5);
}

#[test]
fn a_key_that_is_no_text_stops_the_scan() {
    let application = Application::new("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, v TEXT)");
    application
        .connection
        .execute_batch("INSERT INTO t VALUES ('a', 'x'), (CAST(x'62ff' AS TEXT), 'x'), ('c', 'x')")
        .unwrap();
    let mut column = application.column();
    let page = Page { select: &Selection::All, filtered: false, columns: &Arc::from([]), after: None, limit: 2 };
    let error = column.read(&page).unwrap_err();
    assert_eq!(error.kind(), Kind::Database, "as a blob, it would sort behind all text and hide the rows between");
    assert!(error.to_string().contains("UTF-8"), "{error}");
}

#[test]
fn members_are_read_where_they_are_text() {
    for member in [
        "refresh_token",
        "with space",
        "a.b",
        "quo\"te",
        "back\\slash",
        "Schlüssel 🔑",
        "it's",
        "$",
        "[0]",
        "a\"].b",
        "",
        "tab\tx",
    ] {
        let application = Application::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)");
        let document = |value: serde_json::Value| serde_json::json!({ member: value, "other": 1.50 }).to_string();
        for (id, text) in [
            (1, document(token(OLD, "ä\"\\").into())),
            (2, document(token(NEW, 1).into())),
            (3, document(serde_json::Value::Null)),
            (4, "{\"other\": 1}".to_owned()),
            (5, document("".into())),
        ] {
            application.insert(id, &text);
        }
        application.connection.execute_batch("INSERT INTO t VALUES (6, NULL)").unwrap();
        let mut spec = application.spec();
        spec.member = Some(member.to_owned());
        let mut column = application.column_of(spec);
        let rows = read_all(&mut column, &stale(), 10);
        assert_eq!(keys(&rows), ["1"], "{member}");
        assert!(matches!(&rows[0].value, Cell::Text(value) if *value == token(OLD, "ä\"\\")));
        assert_eq!(keys(&read_all(&mut column, &Selection::All, 10)), ["1", "2"]);
        let survey = column.survey().unwrap();
        assert_eq!((survey.tokens.len(), survey.other, survey.empty), (2, 0, 4));

        assert_eq!(rotate(&mut column, 10).rewritten, 1, "{member}");
        let read: serde_json::Value = serde_json::from_str(&application.text("SELECT v FROM t WHERE id = 1")).unwrap();
        assert_eq!(read, serde_json::json!({ member: token(NEW, "ä\"\\"), "other": 1.50 }));
        assert!(application.text("SELECT v FROM t WHERE id = 1").contains("1.5"));

        column.fence(&Fence::against(&[kid(OLD)])).unwrap();
        let insert = |text: &str| application.connection.execute("INSERT INTO t (v) VALUES (?1)", [text]);
        assert!(insert(&document(token(OLD, 1).into())).is_err());
        insert(&document(token(NEW, 1).into())).unwrap();
        insert("no JSON").unwrap();
        insert("{}").unwrap();
    }
}

#[test]
fn documents_that_are_no_json_are_listed_not_lost() {
    let application = Application::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    application.insert(1, &format!("{{\"x\": \"{}\"", token(OLD, 1)));
    application.insert(2, &format!("{{\"x\": \"{}\"}}", token(OLD, 2)));
    application.insert(3, "{\"x\": 1234}");
    application.insert(4, &format!("{{\"x\": {{\"y\": \"{}\"}}}}", token(OLD, 2)));
    application
        .connection
        .execute("INSERT INTO t VALUES (5, ?1)", [format!("{{\"x\": \"{}\"}}", token(OLD, 5)).as_bytes()])
        .unwrap();
    let mut spec = application.spec();
    spec.member = Some("x".to_owned());
    let mut column = application.column_of(spec);
    for select in [Selection::All, stale()] {
        let rows = read_all(&mut column, &select, 1);
        assert_eq!(keys(&rows), ["1", "2", "3", "4", "5"]);
        assert_eq!(rows.iter().filter(|row| core::str::from_utf8(row.value.as_bytes()).is_err()).count(), 4);
    }
    let survey = column.survey().unwrap();
    assert_eq!((survey.tokens.len(), survey.other), (1, 4));
    let changes: Vec<_> = read_all(&mut column, &Selection::All, 10)
        .into_iter()
        .map(|row| RowChange { key: row.key, old: row.value, new: "new".to_owned() })
        .collect();
    let written = write(&mut column, &changes);
    assert_eq!((written.rewritten, written.failed.len()), (1, 4));
    assert_eq!(
        column.fence(&Fence::against(&[kid(OLD)])).unwrap_err().kind(),
        Kind::Refused,
        "nobody knows what these documents hold"
    );
}

#[test]
fn the_filter_is_for_pages_only() {
    let application = Application::with_rows(4);
    application.connection.execute_batch("UPDATE t SET u = 'it''s' WHERE id IN (2, 4)").unwrap();
    for filter in ["u = 'it''s'", "id = 2 OR id = 4", "t.u IS NOT NULL -- comment", "id % 2 = 0 /* x */"] {
        let mut spec = application.spec();
        spec.filter = Some(filter.to_owned());
        let mut column = application.column_of(spec);
        assert_eq!(keys(&read_filtered(&mut column, &stale(), true, 1)), ["2", "4"], "{filter}");
        assert_eq!(keys(&read_filtered(&mut column, &stale(), false, 3)), ["1", "2", "3", "4"]);
        assert_eq!(column.survey().unwrap().tokens, [(format!("vs1.{OLD}."), 4)]);
    }
    let mut spec = application.spec();
    spec.filter = Some(" ".to_owned());
    assert_eq!(read_filtered(&mut application.column_of(spec), &stale(), true, 3).len(), 4);
}

#[test]
fn columns_that_sound_like_ours_are_not_mixed_up() {
    let application = Application::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, kind TEXT, vault_kind TEXT, vault_value TEXT, vault_key_0 INTEGER, vault_cell_0 TEXT)",
    );
    for id in 1..=6 {
        application
            .connection
            .execute(
                "INSERT INTO t VALUES (?1, ?2, ?1, ?1, ?1, -?1, ?1)",
                (id, if id < 4 { token(OLD, id) } else { String::new() }),
            )
            .unwrap();
    }
    let mut column = application.column();
    assert_eq!(keys(&read_all(&mut column, &stale(), 2)), ["1", "2", "3"]);
    let survey = column.survey().unwrap();
    assert_eq!((survey.tokens, survey.empty, survey.other), (vec![(format!("vs1.{OLD}."), 3)], 3, 0));
}

#[test]
fn survey_counts_every_row_once() {
    let application = Application::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    for (id, value) in [
        token(OLD, 1),
        token(OLD, 2),
        token(NEW, 1),
        token(OLD, 1).replace("vs1", "vk1"),
        "plain".to_owned(),
        String::new(),
    ]
    .into_iter()
    .enumerate()
    {
        application.connection.execute("INSERT INTO t VALUES (?1, ?2)", (2 * id, &value)).unwrap();
        application.connection.execute("INSERT INTO t VALUES (?1, ?2)", (2 * id + 1, value.as_bytes())).unwrap();
    }
    application
        .connection
        .execute_batch("INSERT INTO t (v) VALUES (NULL), (7), ('vs1.'), ('vs1.short'), (x'7673312eff'), (CAST(x'7673312eff' AS TEXT)), ('vs2.x'), (CAST(x'00' AS TEXT))")
        .unwrap();
    let mut survey = application.column().survey().unwrap();
    survey.tokens.sort();
    let counted =
        [("vk1.kaaaaaaaaaaaaaaaa.", 2), ("vs1.", 4), ("vs1.kaaaaaaaaaaaaaaaa.", 4), ("vs1.kbbbbbbbbbbbbbbbb.", 2)];
    assert_eq!(survey.tokens, counted.map(|(prefix, rows)| (prefix.to_owned(), rows)));
    assert_eq!((survey.empty, survey.other), (3, 5));
    assert_eq!(application.column().survey().unwrap(), application.column().survey().unwrap());
}

#[test]
fn pages_end_early_where_values_are_long() {
    let application = Application::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)");
    let mut long = token(OLD, "").into_bytes();
    long.resize(10 << 20, b'x');
    for id in 1..=4 {
        application.connection.execute("INSERT INTO t VALUES (?1, ?2)", (id, &long)).unwrap();
    }
    let mut column = application.column();
    let page = Page { select: &stale(), filtered: false, columns: &Arc::from([]), after: None, limit: usize::MAX };
    assert!(column.read(&page).unwrap().len() <= 2);
    assert_eq!(read_all(&mut column, &stale(), 500).len(), 4);
    assert_eq!(rotate(&mut column, 500).rewritten, 4);
    assert_eq!(application.number("SELECT sum(length(v)) FROM t WHERE typeof(v) = 'blob'"), 4 * (10 << 20));
}

#[test]
fn an_empty_table_has_nothing_to_do() {
    let application = Application::with_rows(0);
    let mut column = application.column();
    assert!(read_all(&mut column, &Selection::All, 10).is_empty());
    assert_eq!(column.survey().unwrap(), Default::default());
    assert_eq!(rotate(&mut column, 10).rewritten, 0);
    column.fence(&Fence::against(&[kid(OLD)])).unwrap();
}

#[test]
fn large_tables_are_read_page_by_page() {
    let application = Application::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)");
    application
        .connection
        .execute_batch(&format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
             INSERT INTO t SELECT i, '{}' || i FROM n",
            token(OLD, "")
        ))
        .unwrap();
    let mut column = application.column();
    assert_eq!(rotate(&mut column, 500).rewritten, 100_000);
    assert_eq!(column.survey().unwrap().tokens, [(format!("vs1.{NEW}."), 100_000)]);
}

/// What an application may read otherwise, or cannot read at all, is listed and never counted as nothing.
#[test]
fn documents_that_an_application_reads_otherwise_are_listed() {
    let token = token(OLD, 1);
    let quoted = serde_json::json!(serde_json::json!({ "token": token }).to_string()).to_string();
    let strange = [
        quoted,
        format!("[{{\"token\": \"{token}\"}}]"),
        format!("\"{token}\""),
        token.clone(),
        "5".to_owned(),
        "true".to_owned(),
        "[]".to_owned(),
        "{".to_owned(),
        format!("{{\"token\": \"x\", \"token\": \"{token}\"}}"),
        format!("{{\"token\": null, \"token\": \"{token}\"}}"),
        format!("{{\"token\": \"x\", \"to\\u006ben\": \"{token}\"}}"),
        format!("{{\"to\\u006ben\": \"x\", \"token\": \"{token}\"}}"),
        format!("{{\"token\": [\"{token}\"]}}"),
        format!("{{\"token\": {{\"token\": \"{token}\"}}}}"),
        "{\"token\": 7}".to_owned(),
        format!("{{'token': '{token}'}}"),
    ];
    let nothing = ["null", "{}", "{\"token\": null}", "{\"token\": \"\"}", "{\"other\": 1}"];
    let application = Application::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)");
    application.insert(1, &format!("{{\"other\": [1, 2], \"to\\u006ben\": \"{token}\"}}"));
    for (id, document) in (10..).zip(&strange) {
        application.insert(id, document);
    }
    for (id, document) in (100..).zip(nothing) {
        application.insert(id, document);
    }
    application.connection.execute_batch("INSERT INTO t VALUES (200, NULL), (201, x'7b7d')").unwrap();
    let mut spec = application.spec();
    spec.member = Some("token".to_owned());
    let mut column = application.column_of(spec);
    let survey = column.survey().unwrap();
    let listed = u64::try_from(strange.len()).unwrap() + 1;
    assert_eq!((survey.tokens.len(), survey.other, survey.empty), (1, listed, 6));
    let rows = read_all(&mut column, &Selection::Except(vec![format!("vs1.{NEW}.")]), 3);
    assert_eq!(rows.len(), strange.len() + 2);
    for row in &rows {
        let is_token = row.key.to_string() == "1";
        assert_eq!(row.value == Cell::Text(token.clone()), is_token, "{}", row.key);
        assert!(is_token || row.value == Cell::Blob(vec![0xff]), "{}", row.key);
    }
    assert_eq!(write(&mut column, &rows.iter().map(moved).take(1).collect::<Vec<_>>()).rewritten, 1);
    let written: serde_json::Value = serde_json::from_str(&application.text("SELECT v FROM t WHERE id = 1")).unwrap();
    assert!(written["token"].as_str().unwrap().starts_with(&format!("vs1.{NEW}.")), "{written}");
}
