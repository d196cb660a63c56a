//! Columns of PostgreSQL databases.

mod fence;
mod others;
mod replicas;
mod runs;
mod sql;
mod table;
mod write;

use core::ops::ControlFlow;
use core::time::Duration;
use std::sync::Arc;

use tokio_postgres::Row as SqlRow;
use tokio_postgres::error::SqlState;

use crate::database::postgres::{Client, Patience, PostgresDatabase, failed, get, query};
use crate::error::{Error, Result};
use crate::hex;
use crate::key::KeyId;
use crate::primitives;

use super::{
    Column, ColumnFinding, ColumnSpec, Fence, Page, Progress, Row, RowChange, RowKey, Run, Selection, Session, Survey,
    Written,
};

use replicas::Replicas;
use sql::{Sql, Value};
use table::{CellKind, Table, looking, wrong};
use write::Manner;

/// A column of a PostgreSQL database.
pub struct PostgresColumn {
    database: PostgresDatabase,
    spec: ColumnSpec,
    table: Table,
    sql: Sql,
    /// By which the record of a run tells those apart that share its work.
    worker: String,
    /// Rows of a page whose values fill the memory that a page may take.
    most: usize,
    /// Batches to come in which others are expected to hold rows.
    among: u32,
    replicas: Replicas,
}

impl PostgresColumn {
    /// A column of a database that was connected to.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] or [`Error::Database`] if the table is not as declared.
    pub fn new(database: PostgresDatabase, spec: ColumnSpec) -> Result<Self> {
        let (table, sql) = look(&database, &spec)?;
        let among = if table.partitioned { AMONG } else { 0 };
        let worker = hex::encode(primitives::random()?.get(..8).unwrap_or_default());
        Ok(Self { database, spec, table, sql, worker, most: usize::MAX, among, replicas: Replicas::default() })
    }

    fn action(&self, what: &str) -> String {
        format!("{what} column {}", self.spec.name)
    }

    /// Whether there is any row of a page. Mostly there is none that is not current, and to see that in
    /// the order of the table takes less than half of the time that it takes in the order of the key.
    fn has_any(&self, client: &mut Client, page: &Page<'_>) -> Result<bool> {
        let (statement, values) = self.sql.any(page);
        let parameters: Vec<_> = values.iter().map(Value::parameter).collect();
        let answer = query(client, &self.action("read"), &statement, &parameters)?;
        answer.first().map_or(Ok(false), |row| get(row, 0))
    }

    fn row(&self, found: &SqlRow, columns: &Arc<[String]>, kinds: &[CellKind]) -> Result<Row> {
        let cells = kinds.iter().enumerate().map(|(at, kind)| self.sql.cell(*kind, found, at));
        let (key, value) = (self.sql.row_key(found)?, self.sql.value_cell(found)?);
        Ok(Row::new(key, value, Arc::clone(columns), cells.collect::<Result<_>>()?))
    }

    fn asking<T>(&self, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<T> {
        self.database.transact(Patience::Endless, work)
    }
}

/// The table as it is now, and the statements for it.
fn look(database: &PostgresDatabase, spec: &ColumnSpec) -> Result<(Table, Sql)> {
    database.transact(Patience::Endless, |client| {
        let table = Table::new(client, spec)?;
        let sql = Sql::new(spec, &table);
        if !sql.filter.is_empty() {
            // Inside parentheses and outside of any: so it closes none that it did not open.
            let alone = spec.filter.as_deref().unwrap_or_default();
            let statement =
                format!("SELECT CASE WHEN {alone}\n THEN 1 END FROM {} WHERE TRUE{} LIMIT 0", sql.path, sql.filter);
            client.query_typed(&statement, &[]).map_err(|error| match failed(looking(spec), &error) {
                other @ Error::Temporary { .. } => other,
                _ => wrong(spec, "`filter` is no SQL condition on its columns"),
            })?;
        }
        Ok((table, sql))
    })
}

impl core::fmt::Debug for PostgresColumn {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PostgresColumn").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

impl Column for PostgresColumn {
    fn spec(&self) -> &ColumnSpec {
        &self.spec
    }

    fn database(&self) -> &str {
        self.database.name()
    }

    fn place(&self) -> String {
        format!("{} (oid {})", self.table.path, self.table.oid)
    }

    fn check(&mut self) -> Result<Vec<ColumnFinding>> {
        (self.table, self.sql) = look(&self.database, &self.spec)?;
        let writes = self.database.writes();
        let mut findings = self.asking(|client| {
            let mut findings = self.table.findings(client, &self.spec, &self.sql.prefix_index, writes)?;
            findings.extend(replicas::finding(client)?.filter(|_| !self.spec.immutable));
            Ok(findings)
        })?;
        findings.extend(self.spec.findings(|a, b| a == b));
        Ok(findings)
    }

    fn survey(&mut self) -> Result<Survey> {
        let rows = self.asking(|client| query(client, &self.action("count"), &self.sql.survey(), &[]))?;
        let mut survey = Survey::default();
        for row in &rows {
            let (kind, rows): (String, i64) = (get(row, 0)?, get(row, 1)?);
            let rows = u64::try_from(rows).unwrap_or_default();
            match kind.as_str() {
                "empty" => survey.empty = rows,
                "other" => survey.other = rows,
                _ => survey.tokens.push((kind, rows)),
            }
        }
        Ok(survey)
    }

    fn count_under(&mut self, kids: &[KeyId]) -> Result<Option<u64>> {
        self.asking(|client| fence::count(client, &self.spec, &self.sql, kids)).map(Some)
    }

    fn capacity(&self) -> Option<usize> {
        self.table.capacity
    }

    fn replica_lag(&mut self) -> Result<Option<Duration>> {
        self.database.transact(Patience::Short, |client| self.replicas.lag(client)).map(Some)
    }

    fn read(&mut self, page: &Page<'_>) -> Result<Vec<Row>> {
        // A page of no rows would look like the end.
        let limit = page.limit.max(1).min(self.most.max(1));
        let (statement, values) = self.sql.select(&self.table, page, limit);
        let kinds: Vec<_> = page.columns.iter().map(|name| self.table.cell(name)).collect();
        let (rows, cut) = self.asking(|client| {
            if matches!(page.select, Selection::Except(_)) && page.after.is_none() && !self.has_any(client, page)? {
                return Ok((Vec::new(), false));
            }
            let (mut rows, mut bytes) = (Vec::new(), 0);
            let mut failure = None;
            let parameters: Vec<_> = values.iter().map(Value::parameter).collect();
            let asked = client.query_each(&statement, &parameters, |found| {
                match self.row(found, page.columns, &kinds) {
                    Ok(row) => {
                        bytes += row.len();
                        rows.push(row);
                    }
                    Err(error) => failure = Some(error),
                }
                if failure.is_some() || bytes >= PAGE_BYTES {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            asked.map_err(|error| failed(self.action("read"), &error))?;
            failure.map_or(Ok((rows, bytes >= PAGE_BYTES)), Err)
        })?;
        // What the server sends beyond is thrown away, so less is asked for.
        if cut {
            self.most = rows.len().max(1);
        } else if rows.len() == limit {
            self.most = self.most.saturating_mul(2);
        }
        Ok(rows)
    }

    fn write(&mut self, changes: &[RowChange], progress: &Progress<'_>) -> Result<Written> {
        if self.spec.immutable {
            return Err(Error::Refused {
                reason: format!("column {} is immutable", self.spec.name),
                remedy: "keep its keys; nothing is ever written there".to_owned(),
            });
        }
        let manner = match self.among {
            _ if progress.waits => Manner::Patient,
            0 => Manner::Alone,
            _ => Manner::Among,
        };
        let exclusive = self.database.is_exclusive();
        let record = |client: &mut Client, written: &Written| {
            runs::record(client, &self.spec.name, &self.worker, progress, changes, written, &self.sql.triggers)
        };
        let (written, hindered) =
            self.database.transact_behind(Patience::Short, write::opening(manner, exclusive), |client| {
                let written = write::write(client, &self.spec, &self.sql, changes, manner, progress.beside, &record)?;
                if exclusive {
                    write::settle(client, &self.spec)?;
                }
                (progress.guard)()?;
                Ok(written)
            })?;
        self.among = if hindered { AMONG } else { self.among.saturating_sub(1) };
        Ok(written)
    }

    fn begin_exclusive(&mut self) -> Result<()> {
        self.database.begin_exclusive()
    }

    fn commit(&mut self) -> Result<()> {
        self.database.end_exclusive(true)
    }

    fn rollback(&mut self) -> Result<()> {
        self.database.end_exclusive(false)
    }

    fn run(&mut self) -> Result<Option<Run>> {
        self.asking(|client| runs::find(client, &self.spec))
    }

    fn open_run(&mut self, run: &Run) -> Result<Run> {
        let lock = self.database.is_exclusive();
        self.asking(|client| {
            if lock {
                // Others may read, and nobody writes beside it.
                let statement = format!("LOCK TABLE {} IN EXCLUSIVE MODE", self.table.path);
                client.batch_execute(&statement).map_err(|error| match error.code() {
                    Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::Refused {
                        reason: format!("column {}: the role may not lock table {}", self.spec.name, self.spec.table),
                        remedy: format!("GRANT UPDATE ON {} TO the role of the URL", self.table.path),
                    },
                    _ => failed(self.action("lock the table of"), &error),
                })?;
            }
            runs::open(client, &self.spec, &self.table.path, run, &self.worker)
        })
    }

    fn close_run(&mut self) -> Result<()> {
        if !self.asking(runs::exist)? {
            return Ok(());
        }
        self.asking(|client| runs::close(client, &self.spec.name))
    }

    fn list_failures(&mut self, run: &str, failed: &[(RowKey, String)]) -> Result<()> {
        if failed.is_empty() && self.failures()?.is_empty() {
            return Ok(());
        }
        self.asking(|client| runs::list_failures(client, &self.spec.name, run, failed))
    }

    fn failures(&mut self) -> Result<Vec<(RowKey, String)>> {
        self.asking(|client| runs::failures(client, &self.spec.name))
    }

    fn fence_obstacle(&mut self, kids: &[KeyId]) -> Result<Option<Error>> {
        self.asking(|client| fence::obstacle(client, &self.spec, &self.sql, kids))
    }

    fn fence(&mut self, fence: &Fence) -> Result<()> {
        self.asking(|client| fence::put_up(client, &self.spec, &self.table, &self.sql, fence))
    }

    fn standing_fence(&mut self) -> Result<Fence> {
        self.asking(|client| fence::find(client, &self.spec, &self.table))
    }

    fn prove_fence(&mut self) -> Result<()> {
        self.asking(|client| fence::validate(client, &self.spec, &self.table))
    }

    fn unfence(&mut self) -> Result<()> {
        self.asking(|client| fence::take_down(client, &self.spec, &self.table))
    }

    fn sessions(&mut self) -> Result<Vec<Session>> {
        self.asking(|client| others::sessions(client, self.database.name(), &self.spec, &self.table))
    }

    fn fence_refusal(&mut self) -> Result<Option<Error>> {
        self.asking(|client| others::owner(client, &self.spec, &self.table))
    }

    fn await_writers(&mut self, patience: Duration) -> Result<bool> {
        others::await_open(&self.database, &self.spec, patience).map(|()| true)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// For how many batches somebody who was met is expected to be there.
const AMONG: u32 = 16;
/// Bytes after which a page ends, so that long values do not fill the memory.
const PAGE_BYTES: usize = 4 << 20;
