//! Columns of SQLite databases.

mod fence;
mod findings;
mod runs;
mod sql;
mod table;
mod write;

use std::sync::Arc;
use std::thread;

use rusqlite::{Connection, TransactionBehavior, params_from_iter};

use crate::database::sqlite::{SqliteDatabase, failed};
use crate::error::{Error, Result};
use crate::key::KeyId;

use super::{
    Cell, Column, ColumnFinding, ColumnSpec, Fence, Page, Progress, Row, RowChange, RowKey, Run, Session, Survey,
    Written,
};

use sql::Sql;
use table::Table;
use write::Stop;

/// Bytes after which a page ends, so that long values do not fill the memory.
const PAGE_BYTES: usize = 8 << 20;

/// A column of an SQLite database.
pub struct SqliteColumn {
    database: SqliteDatabase,
    spec: ColumnSpec,
    table: Table,
    sql: Sql,
}

impl SqliteColumn {
    /// A column of an open database.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] or [`Error::Database`] if the table is not as declared.
    pub fn new(database: SqliteDatabase, spec: ColumnSpec) -> Result<Self> {
        let (table, sql) = {
            let connection = database.lock();
            let table = Table::new(&connection, &spec)?;
            let sql = Sql::new(&spec, &table);
            table.findings(&connection, &spec, &sql)?;
            (table, sql)
        };
        Ok(Self { database, spec, table, sql })
    }

    fn action(&self, what: &str) -> String {
        format!("{what} column {}", self.spec.name)
    }

    /// Runs `work` in a transaction of its own, or inside the exclusive one.
    fn transact<T, E: From<Error>>(&self, what: &str, work: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        let mut connection = self.database.lock();
        let fail = |error: rusqlite::Error| failed(self.action(what), &error);
        if connection.is_autocommit() {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
            let done = work(&transaction)?;
            transaction.commit().map_err(fail)?;
            return Ok(done);
        }
        let savepoint = connection.savepoint().map_err(fail)?;
        let done = work(&savepoint)?;
        savepoint.commit().map_err(fail)?;
        Ok(done)
    }

    fn execute(&self, what: &str, sql: &str) -> Result<()> {
        self.database.lock().execute_batch(sql).map_err(|error| failed(self.action(what), &error))
    }

    fn read_row(&self, row: &rusqlite::Row<'_>, page: &Page<'_>) -> rusqlite::Result<Option<Row>> {
        let keys = self.spec.row.len();
        let value = sql::value_cell(row.get_ref(0)?);
        let mut key = Vec::with_capacity(keys);
        for at in 1..=keys {
            let Some(cell) = sql::cell(row.get_ref(at)?) else { return Ok(None) };
            key.push(cell);
        }
        let mut cells = Vec::with_capacity(page.columns.len());
        for at in 1 + keys..1 + keys + page.columns.len() {
            // Bytes are no part of a context, and neither is text that is not UTF-8.
            cells.push(sql::cell(row.get_ref(at)?).unwrap_or(Cell::Blob(Vec::new())));
        }
        Ok(Some(Row::new(RowKey::new(key), value, Arc::clone(page.columns), cells)))
    }

    fn write_batch(&mut self, changes: &[RowChange], progress: &Progress<'_>) -> Result<Written> {
        let alone = self.database.lock().is_autocommit();
        let mut refused = Vec::new();
        loop {
            let written = self.transact("write", |connection| -> Result<Written, Stop> {
                let written = write::batch(connection, &self.spec, &self.sql, self.table.exact, changes, &refused)?;
                runs::record(connection, &self.spec.name, progress, changes, &written)?;
                (progress.guard)()?;
                Ok(written)
            });
            match written {
                Ok(written) => return Ok(written),
                Err(Stop::Failed(error)) => return Err(error),
                // Once more without that row.
                Err(Stop::RolledBack(at, reason)) if alone => refused.push((at, reason)),
                Err(Stop::RolledBack(_, reason)) => {
                    return Err(Error::Database {
                        action: self.action("write"),
                        reason: format!("a trigger rolled the whole transaction back: {reason}"),
                    });
                }
            }
        }
    }
}

impl core::fmt::Debug for SqliteColumn {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SqliteColumn").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

impl Column for SqliteColumn {
    fn spec(&self) -> &ColumnSpec {
        &self.spec
    }

    fn database(&self) -> &str {
        self.database.path()
    }

    fn place(&self) -> String {
        // SQLite tells tables apart without case.
        format!("main.{}", self.spec.table.to_ascii_lowercase())
    }

    fn check(&mut self) -> Result<Vec<ColumnFinding>> {
        let connection = self.database.lock();
        self.table = Table::new(&connection, &self.spec)?;
        self.sql = Sql::new(&self.spec, &self.table);
        self.table.findings(&connection, &self.spec, &self.sql)
    }

    fn survey(&mut self) -> Result<Survey> {
        let statement = self.sql.survey();
        let count = |connection: &Connection| -> rusqlite::Result<Survey> {
            let mut survey = Survey::default();
            let mut statement = connection.prepare_cached(&statement)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (kind, rows): (String, u64) = (row.get(0)?, row.get(1)?);
                match kind.as_str() {
                    "empty" => survey.empty = rows,
                    "other" => survey.other = rows,
                    _ => survey.tokens.push((kind, rows)),
                }
            }
            Ok(survey)
        };
        count(&self.database.lock()).map_err(|error| failed(self.action("count"), &error))
    }

    fn read(&mut self, page: &Page<'_>) -> Result<Vec<Row>> {
        let (statement, values) = self.sql.select(&self.spec.table, page);
        let connection = self.database.lock();
        if page.after.is_none() {
            self.table.refuse_nulls(&connection, &self.spec, &self.sql)?;
        }
        let read = || -> rusqlite::Result<Option<Vec<Row>>> {
            let mut statement = connection.prepare_cached(&statement)?;
            let mut found = statement.query(params_from_iter(values))?;
            let (mut rows, mut bytes) = (Vec::new(), 0);
            while let Some(row) = found.next()? {
                let Some(row) = self.read_row(row, page)? else { return Ok(None) };
                bytes += row.len();
                rows.push(row);
                if bytes >= PAGE_BYTES {
                    break;
                }
            }
            Ok(Some(rows))
        };
        // Read as bytes, such a key would sort behind all text, and what is between be skipped.
        read().map_err(|error| failed(self.action("read"), &error))?.ok_or_else(|| Error::Database {
            action: self.action("read"),
            reason: "a row key is text that is not UTF-8; repair it".to_owned(),
        })
    }

    fn write(&mut self, changes: &[RowChange], progress: &Progress<'_>) -> Result<Written> {
        if self.spec.immutable {
            return Err(Error::Refused {
                reason: format!("column {} is immutable", self.spec.name),
                remedy: "keep its keys; nothing is ever written there".to_owned(),
            });
        }
        // The database works on this thread. Where there is no other, the work waits.
        thread::scope(|scope| {
            let _ = thread::Builder::new().spawn_scoped(scope, || while (progress.beside)() {});
            self.write_batch(changes, progress)
        })
    }

    fn begin_exclusive(&mut self) -> Result<()> {
        self.execute("lock the database of", "BEGIN EXCLUSIVE")
    }

    fn commit(&mut self) -> Result<()> {
        self.execute("commit the changes of", "COMMIT")
    }

    fn rollback(&mut self) -> Result<()> {
        // Some failures have ended the transaction already.
        let ended = self.database.lock().is_autocommit();
        if ended { Ok(()) } else { self.execute("undo the changes of", "ROLLBACK") }
    }

    fn run(&mut self) -> Result<Option<Run>> {
        runs::find(&self.database.lock(), &self.spec)
    }

    fn open_run(&mut self, run: &Run) -> Result<Run> {
        self.transact("record a run over", |connection| runs::open(connection, &self.spec, &self.sql.table, run))
    }

    fn close_run(&mut self) -> Result<()> {
        if !runs::exist(&self.database.lock())? {
            return Ok(());
        }
        self.transact("forget the run over", |connection| runs::close(connection, &self.spec.name))
    }

    fn list_failures(&mut self, run: &str, failed: &[(RowKey, String)]) -> Result<()> {
        if failed.is_empty() && self.failures()?.is_empty() {
            return Ok(());
        }
        self.transact("list the failed rows of", |connection| {
            runs::list_failures(connection, &self.spec.name, run, failed)
        })
    }

    fn failures(&mut self) -> Result<Vec<(RowKey, String)>> {
        runs::failures(&self.database.lock(), &self.spec.name)
    }

    fn fence_obstacle(&mut self, kids: &[KeyId]) -> Result<Option<Error>> {
        fence::obstacle(&self.database.lock(), &self.spec, &self.sql, kids)
    }

    fn fence(&mut self, fence: &Fence) -> Result<()> {
        self.transact("fence", |connection| fence::put_up(connection, &self.spec, &self.sql, fence))
    }

    fn standing_fence(&mut self) -> Result<Fence> {
        fence::find(&self.database.lock(), &self.spec, &self.sql)
    }

    fn unfence(&mut self) -> Result<()> {
        if !fence::exists(&self.database.lock(), &self.spec)? {
            return Ok(());
        }
        self.transact("take the fence down of", |connection| fence::take_down(connection, &self.spec))
    }

    fn sessions(&mut self) -> Result<Vec<Session>> {
        Ok(super::session::of_file(self.database.path()))
    }

    fn finish(&mut self) -> Result<()> {
        let connection = self.database.lock();
        let fail = |error: rusqlite::Error| failed(self.action("tidy up"), &error);
        let mode: String = connection.query_row("PRAGMA main.journal_mode", [], |row| row.get(0)).map_err(fail)?;
        if !mode.eq_ignore_ascii_case("wal") || connection.is_readonly("main").map_err(fail)? {
            return Ok(());
        }
        // Readers may hold the log; the next checkpoint takes what this one leaves.
        match connection.query_row("PRAGMA main.wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            Err(error) if !matches!(failed("", &error), Error::Temporary { .. }) => Err(fail(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::{ContextTemplate, Selection};
    use crate::context::Context;
    use crate::database::Access;

    #[test]
    fn contexts_are_made_of_the_cells_of_their_row() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("app.db");
        Connection::open(&path)
            .unwrap()
            .execute_batch(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, \"the name\");
                 INSERT INTO t VALUES (9, 'x', 'ä'), (10, 'x', NULL), (11, 'x', 1.5), (12, 'x', x'41'), (13, 'x', CAST(x'ff' AS TEXT))",
            )
            .unwrap();
        let mut spec = ColumnSpec::new("c", &path, "t", &["id"], "v");
        spec.context = ContextTemplate::default()
            .with("tenant", "{rowid}")
            .and_then(|context| context.with("name", "{the name}"))
            .unwrap();
        let columns = spec.context.columns().into();
        let mut column = SqliteColumn::new(SqliteDatabase::open(&path, Access::Read).unwrap(), spec.clone()).unwrap();
        let page = Page { select: &Selection::All, filtered: true, columns: &columns, after: None, limit: 10 };
        let rows = column.read(&page).unwrap();
        let contexts: Vec<_> = rows.iter().map(|row| row.context(&spec.context).ok()).collect();
        let bare = Context::none();
        let expected = [Some(bare.clone().tenant("9").name("ä")), Some(bare.tenant("10")), None, None, None];
        assert_eq!(contexts, expected);
    }
}
