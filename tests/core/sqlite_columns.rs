//! Columns of SQLite databases, on real databases.

mod database;
mod fences;
mod reading;
mod runs;
mod structure;
mod writing;

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;
use tempfile::TempDir;
use vault_core::column::{
    Cell, Column, ColumnSpec, Fence, Page, Progress, Row, RowChange, RowKey, Run, Selection, SqliteColumn, Written,
};
use vault_core::{Access, Error, KeyId, Kind, SqliteDatabase, Timestamp};

const OLD: &str = "kaaaaaaaaaaaaaaaa";
const NEW: &str = "kbbbbbbbbbbbbbbbb";

/// A database of an application, and the application's own connection to it.
struct Application {
    directory: TempDir,
    connection: Connection,
}

impl Application {
    fn new(schema: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let connection = Connection::open(directory.path().join("app.db")).unwrap();
        connection.execute_batch(schema).unwrap();
        Self { directory, connection }
    }

    /// The table that most tests use.
    fn with_rows(rows: i64) -> Self {
        let application = Self::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, u TEXT)");
        application.connection.execute_batch("BEGIN").unwrap();
        for id in 1..=rows {
            application.insert(id, &token(OLD, id));
        }
        application.connection.execute_batch("COMMIT").unwrap();
        application
    }

    fn insert(&self, id: i64, value: &str) {
        self.connection.execute("INSERT INTO t (id, v) VALUES (?1, ?2)", (id, value)).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("app.db")
    }

    fn open(&self, access: Access) -> SqliteDatabase {
        SqliteDatabase::open(&self.path(), access).unwrap()
    }

    fn spec(&self) -> ColumnSpec {
        ColumnSpec::new("app.t", self.path(), "t", &["id"], "v")
    }

    fn column(&self) -> SqliteColumn {
        self.column_of(self.spec())
    }

    fn column_of(&self, spec: ColumnSpec) -> SqliteColumn {
        self.try_column(spec).unwrap()
    }

    fn try_column(&self, spec: ColumnSpec) -> Result<SqliteColumn, Error> {
        SqliteColumn::new(self.open(Access::Write), spec)
    }

    fn text(&self, sql: &str) -> String {
        self.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn number(&self, sql: &str) -> i64 {
        self.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Everything that `sqlite_master` says.
    fn schema(&self) -> String {
        self.text("SELECT coalesce(group_concat(quote(type) || quote(name) || quote(tbl_name) || rootpage || quote(sql)), '') FROM sqlite_master")
    }
}

/// A value that begins like a token under `kid`.
fn token(kid: &str, number: impl core::fmt::Display) -> String {
    format!("vs1.{kid}.payload-{number}")
}

fn kid(text: &str) -> KeyId {
    KeyId::parse(text).unwrap()
}

fn stale() -> Selection {
    Selection::Prefixes(vec![format!("vs1.{OLD}."), format!("vk1.{OLD}.")])
}

/// All rows, `limit` at a time.
fn read_all(column: &mut SqliteColumn, select: &Selection, limit: usize) -> Vec<Row> {
    read_filtered(column, select, false, limit)
}

fn read_filtered(column: &mut SqliteColumn, select: &Selection, filtered: bool, limit: usize) -> Vec<Row> {
    let columns = Arc::from(column.spec().context.columns());
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.key.clone());
        let page = column.read(&Page { select, filtered, columns: &columns, after: after.as_ref(), limit }).unwrap();
        assert!(page.len() <= limit);
        if page.is_empty() {
            return rows;
        }
        rows.extend(page);
    }
}

fn keys(rows: &[Row]) -> Vec<String> {
    rows.iter().map(|row| row.key.to_string()).collect()
}

/// The same value under the new key.
fn moved(row: &Row) -> RowChange {
    let old = core::str::from_utf8(row.value.as_bytes()).unwrap();
    RowChange { key: row.key.clone(), old: row.value.clone(), new: old.replace(OLD, NEW) }
}

fn new_run(target: &str) -> Run {
    Run {
        id: String::new(),
        job: "rotate".to_owned(),
        target: target.to_owned(),
        place: "a table".to_owned(),
        rows: 0,
        generation: 3,
        cursor: None,
        rewritten: 0,
        lost: 0,
        started: Timestamp(1_770_113_472),
        heartbeat: Timestamp(1_770_113_472),
    }
}

/// Writes in a run of its own.
fn write(column: &mut SqliteColumn, changes: &[RowChange]) -> Written {
    try_write(column, changes).unwrap()
}

fn try_write(column: &mut SqliteColumn, changes: &[RowChange]) -> Result<Written, Error> {
    let run = column.open_run(&new_run(NEW)).unwrap();
    let cursor = changes.last().map(|change| change.key.clone()).unwrap_or_default();
    column.write(
        changes,
        &Progress {
            run: &run.id,
            cursor: Some(&cursor),
            failed: &[],
            waits: false,
            guard: &|| Ok(()),
            beside: &|| false,
        },
    )
}

/// Rotates page by page until nothing stale is read, as an engine would.
fn rotate(column: &mut SqliteColumn, limit: usize) -> Written {
    let mut total = Written::default();
    let columns: Arc<[String]> = Arc::from([]);
    let mut after: Option<RowKey> = None;
    loop {
        let rows = column
            .read(&Page { select: &stale(), filtered: true, columns: &columns, after: after.as_ref(), limit })
            .unwrap();
        let Some(last) = rows.last() else { break };
        after = Some(last.key.clone());
        let written = write(column, &rows.iter().map(moved).collect::<Vec<_>>());
        total.rewritten += written.rewritten;
        total.lost += written.lost;
        total.failed.extend(written.failed);
    }
    column.close_run().unwrap();
    total
}
