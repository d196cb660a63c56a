//! Columns of SQLite databases: any table, any row key, and nothing else touched.

use std::sync::Arc;

use rusqlite::{Connection, params};
use vault_core::column::{
    Cell, Column, ColumnSpec, Fence, Page, Progress, Row, RowChange, Run, Selection, SqliteColumn,
};
use vault_core::{Access, Error, Format, KeyId, Manifest, SqliteDatabase, Timestamp};

/// A database with a table, and a column declared over it.
struct Table {
    directory: tempfile::TempDir,
    declared: String,
}

impl Table {
    fn new(schema: &str, declared: &str) -> Self {
        let table = Self { directory: tempfile::tempdir().unwrap(), declared: declared.to_owned() };
        table.connect().execute_batch(schema).unwrap();
        table
    }

    fn connect(&self) -> Connection {
        Connection::open(self.directory.path().join("app.db")).unwrap()
    }

    fn spec(&self) -> ColumnSpec {
        let text = format!(
            "version = 1\n[keyring.main]\nsources = [\"file:kek\"]\n[[column]]\nname = \"c\"\ndatabase = \"sqlite:app.db\"\nreads = [\"vs1\"]\nwrites = \"vs1\"\n{}\n{}\n",
            self.declared,
            if self.declared.contains("context") { "" } else { "context = {}" }
        );
        let manifest = Manifest::parse(&text, &self.directory.path().join("vault.toml"), None).unwrap();
        manifest.column("c").unwrap().clone()
    }

    fn column(&self) -> vault_core::Result<SqliteColumn> {
        let database = SqliteDatabase::open(&self.directory.path().join("app.db"), Access::Write)?;
        SqliteColumn::new(database, self.spec())
    }

    fn open(&self) -> SqliteColumn {
        self.column().unwrap()
    }
}

fn pages(column: &mut dyn Column, select: &Selection, filtered: bool, limit: usize) -> Vec<Row> {
    let columns: Arc<[String]> = column.spec().context.columns().into();
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.key.clone());
        let page = column.read(&Page { select, filtered, columns: &columns, after: after.as_ref(), limit }).unwrap();
        if page.is_empty() {
            return rows;
        }
        assert!(page.len() <= limit);
        rows.extend(page);
    }
}

fn new_run() -> Run {
    let now = Timestamp::now();
    Run {
        id: String::new(),
        job: "rotate".to_owned(),
        target: "vs1 k".to_owned(),
        place: "main.t".to_owned(),
        rows: 0,
        generation: 1,
        cursor: None,
        rewritten: 0,
        lost: 0,
        started: now,
        heartbeat: now,
    }
}

/// Replaces every value by itself and a mark, as a run does.
fn mark_all(column: &mut dyn Column) -> vault_core::column::Written {
    let rows = pages(column, &Selection::All, true, 3);
    let run = column.open_run(&new_run()).unwrap();
    let changes: Vec<RowChange> = rows
        .into_iter()
        .map(|row| RowChange {
            new: format!("{}+", String::from_utf8_lossy(row.value.as_bytes())),
            key: row.key,
            old: row.value,
        })
        .collect();
    let cursor = changes.last().unwrap().key.clone();
    column
        .write(
            &changes,
            &Progress {
                run: &run.id,
                cursor: Some(&cursor),
                failed: &[],
                waits: false,
                guard: &|| Ok(()),
                beside: &|| false,
            },
        )
        .unwrap()
}

const SIMPLE: &str = "table = \"t\"\nrow = [\"id\"]\nvalue = \"v\"";

#[test]
fn rows_of_every_kind_of_key_are_each_read_once_and_written() {
    let cases = [
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", "row = [\"id\"]", "VALUES (?1, ?2)"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", "row = [\"rowid\"]", "VALUES (?1, ?2)"),
        ("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)", "row = [\"id\"]", "VALUES (CAST(?1 AS TEXT), ?2)"),
        ("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID", "row = [\"id\"]", "VALUES ('k' || ?1, ?2)"),
        ("CREATE TABLE t (id BLOB UNIQUE NOT NULL, v TEXT)", "row = [\"id\"]", "VALUES (CAST(?1 AS BLOB), ?2)"),
        ("CREATE TABLE t (id REAL UNIQUE NOT NULL, v TEXT)", "row = [\"id\"]", "VALUES (?1 / 8.0, ?2)"),
        (
            "CREATE TABLE t (id UNIQUE NOT NULL, v TEXT)",
            "row = [\"id\"]",
            "VALUES (CASE ?1 % 3 WHEN 0 THEN ?1 WHEN 1 THEN 't' || ?1 ELSE CAST(?1 AS BLOB) END, ?2)",
        ),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)", "row = [\"id\"]", "VALUES (?1, CAST(?2 AS BLOB))"),
        (
            "CREATE TABLE t (id TEXT COLLATE NOCASE, v TEXT); CREATE UNIQUE INDEX i ON t (id COLLATE BINARY)",
            "row = [\"id\"]",
            "VALUES (CASE ?1 % 2 WHEN 0 THEN 'k' ELSE 'K' END || (?1 / 2), ?2)",
        ),
    ];
    for (schema, row, values) in cases {
        let table = Table::new(schema, &format!("table = \"t\"\n{row}\nvalue = \"v\""));
        let connection = table.connect();
        for number in 0..120 {
            connection
                .execute(&format!("INSERT INTO t (id, v) {values}"), params![number, format!("value {number}")])
                .unwrap();
        }
        let mut column = table.open();
        for limit in [1, 7, 1_000] {
            let mut values: Vec<_> = pages(&mut column, &Selection::All, true, limit)
                .iter()
                .map(|row| row.value.as_bytes().to_vec())
                .collect();
            values.sort();
            values.dedup();
            assert_eq!(values.len(), 120, "{schema}, {limit} at a time");
        }
        let written = mark_all(&mut column);
        assert_eq!((written.rewritten, written.lost), (120, 0), "{schema}");
        let marked: u64 = connection
            .query_row("SELECT count(*) FROM t WHERE CAST(v AS TEXT) LIKE 'value %+'", [], |row| row.get(0))
            .unwrap();
        let class: String =
            connection.query_row("SELECT group_concat(DISTINCT typeof(v)) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(marked, 120, "{schema}");
        assert_eq!(class, if schema.contains("v BLOB") { "blob" } else { "text" }, "the class of a value is kept");
    }
}

#[test]
fn names_are_quoted_and_keys_may_have_parts() {
    let table = Table::new(
        r#"CREATE TABLE "or""der" ("select" TEXT, "group by" INTEGER, "é 'x'" TEXT, PRIMARY KEY ("select", "group by"));"#,
        "table = 'or\"der'\nrow = [\"select\", \"group by\"]\nvalue = \"é 'x'\"\ncontext = { tenant = \"{group by}\" }",
    );
    let connection = table.connect();
    for number in 0..99 {
        connection
            .execute(
                r#"INSERT INTO "or""der" VALUES (?1, ?2, ?3)"#,
                params![format!("k{}", number % 9), number, format!("value {number}")],
            )
            .unwrap();
    }
    let mut column = table.open();
    assert_eq!(pages(&mut column, &Selection::All, true, 10).len(), 99);
    assert_eq!(mark_all(&mut column).rewritten, 99);
}

#[test]
fn members_of_json_are_replaced_and_their_neighbours_are_not() {
    let table = Table::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)",
        "table = \"t\"\nrow = [\"id\"]\nvalue = \"v\"\nmember = \"v.é x\"",
    );
    let connection = table.connect();
    connection
        .execute_batch(
            r#"INSERT INTO t VALUES (1, '{"v.é x":"one","n":1.50}'), (2, '{"n":2}'), (3, NULL), (4, '{"v.é x":null}'), (5, 'no json'),
               (6, '{"v.é x":"six","v":{"é x":"other"}}'), (7, '{"v.é x":7}')"#,
        )
        .unwrap();
    let mut column = table.open();
    let rows = pages(&mut column, &Selection::All, true, 2);
    let keys: Vec<String> = rows.iter().map(|row| row.key.to_string()).collect();
    assert_eq!(keys, ["1", "5", "6", "7"], "what is no JSON, or no text, is seen and not passed over");
    let run = column.open_run(&new_run()).unwrap();
    let change =
        |row: &Row| RowChange { key: row.key.clone(), old: row.value.clone(), new: "new \"value\"".to_owned() };
    let written = column
        .write(
            &[change(&rows[0]), change(&rows[2])],
            &Progress {
                run: &run.id,
                cursor: Some(&rows[2].key),
                failed: &[],
                waits: false,
                guard: &|| Ok(()),
                beside: &|| false,
            },
        )
        .unwrap();
    assert_eq!(written.rewritten, 2);
    let read =
        |id: u32| connection.query_row("SELECT v FROM t WHERE id = ?1", [id], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(read(1), r#"{"v.é x":"new \"value\"","n":1.50}"#);
    assert_eq!(read(6), r#"{"v.é x":"new \"value\"","v":{"é x":"other"}}"#);
}

#[test]
fn only_what_was_read_is_replaced() {
    let table = Table::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT COLLATE NOCASE)", SIMPLE);
    let connection = table.connect();
    connection.execute_batch("INSERT INTO t VALUES (1, 'abc'), (2, 'def'), (3, 'ghi'), (4, 'jkl')").unwrap();
    let mut column = table.open();
    let rows = pages(&mut column, &Selection::All, true, 10);
    let run = column.open_run(&new_run()).unwrap();
    // Another writer: a new value, a value that differs in case only, another class, and a removal.
    connection
        .execute_batch("UPDATE t SET v = 'new' WHERE id = 1; UPDATE t SET v = 'DEF' WHERE id = 2; UPDATE t SET v = CAST('ghi' AS BLOB) WHERE id = 3; DELETE FROM t WHERE id = 4;")
        .unwrap();
    let changes: Vec<_> = rows
        .iter()
        .map(|row| RowChange { key: row.key.clone(), old: row.value.clone(), new: "lost".to_owned() })
        .collect();
    let written = column
        .write(
            &changes,
            &Progress {
                run: &run.id,
                cursor: Some(&rows[3].key),
                failed: &[],
                waits: false,
                guard: &|| Ok(()),
                beside: &|| false,
            },
        )
        .unwrap();
    assert_eq!((written.rewritten, written.lost), (0, 4));
    let left: u64 = connection.query_row("SELECT count(*) FROM t WHERE v = 'lost'", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_trigger_that_refuses_ignores_or_alters_is_told_row_by_row() {
    let table = Table::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, n INTEGER DEFAULT 0);
         CREATE TRIGGER refuses BEFORE UPDATE ON t WHEN OLD.id = 2 BEGIN SELECT RAISE(ABORT, 'no'); END;
         CREATE TRIGGER ignores BEFORE UPDATE ON t WHEN OLD.id = 3 BEGIN SELECT RAISE(IGNORE); END;
         CREATE TRIGGER alters AFTER UPDATE OF v ON t WHEN OLD.id = 4 BEGIN UPDATE t SET v = 'altered' WHERE id = 4; END;
         CREATE TRIGGER counts AFTER UPDATE OF v ON t WHEN OLD.id = 5 BEGIN UPDATE t SET n = n + 1 WHERE id = 5; END;
         INSERT INTO t (id, v) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e'), (6, 'f');",
        SIMPLE,
    );
    let mut column = table.open();
    assert_eq!(column.check().unwrap().iter().filter(|finding| finding.to_string().contains("trigger")).count(), 4);
    let written = mark_all(&mut column);
    assert_eq!(written.rewritten, 3);
    let failed: Vec<String> = written.failed.iter().map(|(key, _)| key.to_string()).collect();
    assert_eq!(failed, ["2", "3", "4"]);
    let connection = table.connect();
    let values: String = connection
        .query_row("SELECT group_concat(v) FROM (SELECT v FROM t ORDER BY id)", [], |row| row.get(0))
        .unwrap();
    assert_eq!(values, "a+,b,c,d,e+,f+", "a row that failed is as it was");
    let told: u64 =
        connection.query_row("SELECT count(*) FROM vault_core_rotation_failure", [], |row| row.get(0)).unwrap();
    assert_eq!(told, 3);
}

#[test]
fn tables_that_could_lose_a_row_are_refused() {
    for (schema, declared, reason) in [
        ("CREATE TABLE t (id INTEGER, v TEXT)", SIMPLE, "not unique"),
        ("CREATE TABLE t (id INTEGER, v TEXT); CREATE UNIQUE INDEX i ON t (id) WHERE id > 1", SIMPLE, "not unique"),
        ("CREATE TABLE t (id INTEGER, v TEXT); CREATE UNIQUE INDEX i ON t (abs(id))", SIMPLE, "not unique"),
        ("CREATE TABLE t (id INTEGER, o INTEGER, v TEXT, PRIMARY KEY (id, o))", SIMPLE, "not unique"),
        ("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (NULL, 'x')", SIMPLE, "NULL in some rows"),
        ("CREATE TABLE u (id INTEGER PRIMARY KEY, v TEXT)", SIMPLE, "no such table"),
        ("CREATE TABLE u (id INTEGER PRIMARY KEY, v TEXT); CREATE VIEW t AS SELECT * FROM u", SIMPLE, "a view"),
        ("CREATE VIRTUAL TABLE t USING fts5 (id, v)", SIMPLE, "virtual"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY)", SIMPLE, "no column v"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, v TEXT AS (a))", SIMPLE, "generated"),
        (
            "CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID",
            "table = \"t\"\nrow = [\"rowid\"]\nvalue = \"v\"",
            "no rowid",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)",
            "table = \"t\"\nrow = [\"id\"]\nvalue = \"v\"\ncontext = { name = \"{x}\" }",
            "no column x",
        ),
    ] {
        let error = Table::new(schema, declared).column().err().unwrap_or_else(|| panic!("accepted: {schema}"));
        assert!(matches!(&error, Error::Refused { .. }) && error.to_string().contains(reason), "{schema}: {error}");
    }
    let table = Table::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", SIMPLE);
    std::fs::remove_file(table.directory.path().join("app.db")).unwrap();
    assert!(matches!(table.column(), Err(Error::Database { .. })), "a database is never created");
    assert!(!table.directory.path().join("app.db").exists());
    std::fs::write(table.directory.path().join("app.db"), "this is no database, though it is long enough to be one")
        .unwrap();
    assert!(table.column().err().unwrap().to_string().contains("not an SQLite database"));
}

#[test]
fn filters_and_prefixes_choose_rows_also_of_blobs() {
    let table = Table::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v, keep INTEGER)",
        "table = \"t\"\nrow = [\"id\"]\nvalue = \"v\"\nfilter = \"keep = 1 OR keep = 2\"",
    );
    let prefix = "vs1.kaaaaaaaaaaaaaaaa.";
    let connection = table.connect();
    for (id, value) in [
        (1, format!("{prefix}x")),
        (2, format!("{prefix}y")),
        (3, "vs1.kbbbbbbbbbbbbbbbb.x".to_owned()),
        (4, String::new()),
    ] {
        connection.execute("INSERT INTO t VALUES (?1, ?2, ?1)", params![id, value]).unwrap();
    }
    connection
        .execute("INSERT INTO t VALUES (5, CAST(?1 AS BLOB), 1), (6, NULL, 1), (7, 'other', 1)", [format!("{prefix}z")])
        .unwrap();
    let mut column = table.open();
    let select = Selection::Prefixes(vec![prefix.to_owned()]);
    let ids = |rows: Vec<Row>| rows.iter().map(|row| row.key.to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(ids(pages(&mut column, &select, false, 2)), "1 2 5");
    assert_eq!(ids(pages(&mut column, &select, true, 2)), "1 2 5");
    assert_eq!(ids(pages(&mut column, &Selection::All, true, 2)), "1 2 5 7");
    assert_eq!(ids(pages(&mut column, &Selection::All, false, 2)), "1 2 3 5 7");
    let survey = column.survey().unwrap();
    assert_eq!((survey.other, survey.empty), (1, 2));
    assert_eq!(survey.tokens, [(prefix.to_owned(), 3), ("vs1.kbbbbbbbbbbbbbbbb.".to_owned(), 1)]);
}

#[test]
fn a_fence_refuses_old_keys_and_nothing_else() {
    let table = Table::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v, n INTEGER)", SIMPLE);
    let connection = table.connect();
    let kid = |letter: char| KeyId::parse(&format!("k{}", letter.to_string().repeat(16))).unwrap();
    let token = |letter: char| format!("vs1.{}.rest", kid(letter));
    connection.execute("INSERT INTO t VALUES (1, ?1, 0)", [token('a')]).unwrap();
    let mut column = table.open();
    let refused = column.fence(&Fence::against(&[kid('a')])).unwrap_err();
    assert!(refused.to_string().contains("1 values"), "{refused}");
    assert_eq!(column.fenced().unwrap(), []);

    connection.execute("UPDATE t SET v = ?1", [token('b')]).unwrap();
    column.fence(&Fence::against(&[kid('a'), kid('c')])).unwrap();
    assert_eq!(column.fenced().unwrap(), [kid('a'), kid('c')]);
    let try_to = |sql: &str, value: String| connection.execute(sql, [value]).is_ok();
    assert!(!try_to("INSERT INTO t (v) VALUES (?1)", token('a')));
    assert!(!try_to("INSERT INTO t (v) VALUES (CAST(?1 AS BLOB))", token('a')), "a blob does not slip past");
    assert!(!try_to("UPDATE t SET v = ?1", token('c')));
    assert!(!try_to("UPDATE t SET v = ?1", token('a').replace("vs1", "vk1")));
    assert!(try_to("UPDATE t SET v = ?1", token('d')));
    assert!(try_to("INSERT INTO t (v) VALUES (?1)", "plain".to_owned()));
    // A stale row that came from a backup can still be worked on otherwise.
    column.unfence().unwrap();
    connection.execute("INSERT INTO t VALUES (9, ?1, 0)", [token('a')]).unwrap();
    connection.execute("UPDATE t SET v = ?1 WHERE id = 9", [token('e')]).unwrap();
    column.fence(&Fence::against(&[kid('a')])).unwrap();
    assert!(try_to("UPDATE t SET n = n + 1 WHERE v <> ?1", String::new()));
    column.unfence().unwrap();
    let left: u64 = connection
        .query_row("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn runs_are_joined_refused_and_forgotten() {
    let table = Table::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT); INSERT INTO t (v) VALUES ('x')",
        SIMPLE,
    );
    let schema = || -> String {
        table
            .connect()
            .query_row("SELECT group_concat(name || coalesce(sql, '')) FROM sqlite_master", [], |row| row.get(0))
            .unwrap()
    };
    let before = schema();
    let (mut one, mut two) = (table.open(), table.open());
    let run = one.open_run(&new_run()).unwrap();
    assert_eq!(two.open_run(&new_run()).unwrap().id, run.id, "the same job and target is joined");
    let other = Run { target: "vs1 other".to_owned(), ..new_run() };
    assert!(matches!(two.open_run(&other), Err(Error::Refused { .. })));
    two.close_run().unwrap();
    assert_eq!(schema(), before, "our own tables go with the last run");
    let row = pages(&mut one, &Selection::All, true, 1).remove(0);
    let change = RowChange { key: row.key.clone(), old: row.value, new: "y".to_owned() };
    let forgotten = one
        .write(
            &[change],
            &Progress {
                run: &run.id,
                cursor: Some(&row.key),
                failed: &[],
                waits: false,
                guard: &|| Ok(()),
                beside: &|| false,
            },
        )
        .unwrap_err();
    assert!(matches!(forgotten, Error::Temporary { .. }), "{forgotten}");
    let value: String = table.connect().query_row("SELECT v FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(value, "x", "a batch without its record is not written");
}

#[test]
fn a_database_keeps_its_journal_mode_and_old_values_do_not_stay_in_its_pages() {
    for mode in ["delete", "wal"] {
        let table = Table::new(
            &format!("PRAGMA secure_delete = ON; PRAGMA journal_mode = {mode}; CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);
                      WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
                      INSERT INTO t SELECT i, 'an old value that must go, number ' || i FROM n"),
            SIMPLE,
        );
        let mut column = table.open();
        let rows = pages(&mut column, &Selection::All, true, 100);
        let run = column.open_run(&new_run()).unwrap();
        let changes: Vec<_> = rows
            .iter()
            .map(|row| RowChange { key: row.key.clone(), old: row.value.clone(), new: "n".to_owned() })
            .collect();
        column
            .write(
                &changes,
                &Progress {
                    run: &run.id,
                    cursor: Some(&rows[499].key),
                    failed: &[],
                    waits: false,
                    guard: &|| Ok(()),
                    beside: &|| false,
                },
            )
            .unwrap();
        column.close_run().unwrap();
        column.finish().unwrap();
        let now: String = table.connect().query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(now, mode);
        for file in ["app.db", "app.db-wal", "app.db-journal"] {
            let content = std::fs::read(table.directory.path().join(file)).unwrap_or_default();
            let found = content.windows(20).filter(|window| window.starts_with(b"an old value that mu")).count();
            assert_eq!(found, 0, "{mode}: {file}");
        }
    }
}

#[test]
fn a_locked_database_is_told_as_temporary() {
    let table = Table::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'x')", SIMPLE);
    let mut column = table.open();
    let blocker = table.connect();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(column.begin_exclusive(), Err(Error::Temporary { .. })));
    blocker.execute_batch("COMMIT").unwrap();
    column.begin_exclusive().unwrap();
    column.rollback().unwrap();
}

#[test]
fn long_values_come_in_short_pages() {
    let table = Table::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6) INSERT INTO t SELECT i, zeroblob(10000000) FROM n",
        SIMPLE,
    );
    let mut column = table.open();
    let page = Page { select: &Selection::All, filtered: true, columns: &Arc::from([]), after: None, limit: 500 };
    assert_eq!(column.read(&page).unwrap().len(), 1);
    assert_eq!(pages(&mut column, &Selection::All, true, 500).len(), 6);
}

#[test]
fn an_immutable_column_is_never_written() {
    let table = Table::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'x')",
        "table = \"t\"\nrow = [\"id\"]\nvalue = \"v\"\nimmutable = true",
    );
    let mut column = table.open();
    assert_eq!(column.spec().writes, Format::Vs1);
    let row = pages(&mut column, &Selection::All, true, 1).remove(0);
    assert_eq!(row.value, Cell::Text("x".to_owned()));
    let change = RowChange { key: row.key.clone(), old: row.value, new: "y".to_owned() };
    assert!(matches!(
        column.write(
            &[change],
            &Progress {
                run: "",
                cursor: Some(&row.key),
                failed: &[],
                waits: false,
                guard: &|| Ok(()),
                beside: &|| false
            }
        ),
        Err(Error::Refused { .. })
    ));
}
