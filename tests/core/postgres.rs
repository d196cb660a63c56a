//! Columns and connections of PostgreSQL, on a real server.

mod application;
mod batches;
mod certificates;
mod connection;
mod fences;
mod formats;
mod reading;
mod rotating;
mod shadows;
mod structure;
mod vectors;

use std::sync::Arc;

use vault_core::column::{
    Column, ColumnSpec, Page, PostgresColumn, Progress, Row, RowChange, RowKey, Run, Selection, Written,
};
use vault_core::{Access, Error, KeyId, PostgresDatabase, PostgresUrl, Timestamp};

use crate::server::Database;

const OLD: &str = "kaaaaaaaaaaaaaaaa";
const NEW: &str = "kbbbbbbbbbbbbbbbb";

/// An application with a table of `rows` tokens under the old key.
fn application(rows: i64) -> Database {
    let database = Database::new();
    database.execute(&format!(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text, u text);
         INSERT INTO t SELECT n, 'vs1.{OLD}.payload-' || n FROM generate_series(1, {rows}) n"
    ));
    database
}

fn url(text: &str) -> PostgresUrl {
    PostgresUrl::parse(text).unwrap()
}

fn open(database: &Database, access: Access) -> PostgresDatabase {
    PostgresDatabase::open(&url(&database.url()), access).unwrap()
}

fn spec(database: &Database) -> ColumnSpec {
    ColumnSpec::new("app.t", url(&database.url()), "t", &["id"], "v")
}

fn column(database: &Database) -> PostgresColumn {
    column_of(database, spec(database))
}

fn column_of(database: &Database, spec: ColumnSpec) -> PostgresColumn {
    try_column(database, spec).unwrap()
}

fn try_column(database: &Database, spec: ColumnSpec) -> Result<PostgresColumn, Error> {
    PostgresColumn::new(open(database, Access::Write), spec)
}

/// A number that the application reads.
fn number(database: &Database, sql: &str) -> i64 {
    database.connect().query_one(sql, &[]).unwrap().get(0)
}

fn text(database: &Database, sql: &str) -> String {
    database.connect().query_one(sql, &[]).unwrap().get(0)
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

fn keys(rows: &[Row]) -> Vec<String> {
    rows.iter().map(|row| row.key.to_string()).collect()
}

/// All rows, `limit` at a time.
fn read_all(column: &mut PostgresColumn, select: &Selection, filtered: bool, limit: usize) -> Vec<Row> {
    let columns = Arc::from(column.spec().context.columns());
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.key.clone());
        // A cursor is kept as a text.
        let after = after.map(|key| RowKey::parse(&key.to_text()).unwrap());
        let page = column.read(&Page { select, filtered, columns: &columns, after: after.as_ref(), limit }).unwrap();
        assert!(page.len() <= limit);
        if page.is_empty() {
            return rows;
        }
        rows.extend(page);
    }
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

/// A batch beside which nothing else is to do.
const PROGRESS: Progress<'static> =
    Progress { run: "", cursor: None, failed: &[], waits: false, guard: &|| Ok(()), beside: &|| false };

/// Writes in a run of its own.
fn write(column: &mut PostgresColumn, changes: &[RowChange]) -> Written {
    try_write(column, changes, false).unwrap()
}

fn try_write(column: &mut PostgresColumn, changes: &[RowChange], waits: bool) -> Result<Written, Error> {
    let run = column.open_run(&new_run(NEW)).unwrap();
    let cursor = changes.last().map(|change| change.key.clone()).unwrap_or_default();
    column.write(changes, &Progress { run: &run.id, cursor: Some(&cursor), waits, ..PROGRESS })
}

/// Rotates page by page until nothing stale is read, as an engine would.
fn rotate(column: &mut PostgresColumn, limit: usize) -> Written {
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

fn texts(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| core::str::from_utf8(row.value.as_bytes()).unwrap()).collect()
}
