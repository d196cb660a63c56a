//! Batches: compare-and-swap of many rows in one transaction.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension};

use crate::column::{Cell, ColumnSpec, RowChange, Written};
use crate::database::sqlite::{failed, reason};
use crate::error::Error;

use super::findings;
use super::sql::{Sql, is_replaceable};

/// Why a batch was not written.
pub(super) enum Stop {
    Failed(Error),
    /// A trigger ended the whole transaction at this change.
    RolledBack(usize, String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Writes `changes`, but for those that ended the transaction before: `refused`, by place.
pub(super) fn batch(
    connection: &Connection,
    spec: &ColumnSpec,
    sql: &Sql,
    exact: bool,
    changes: &[RowChange],
    refused: &[(usize, String)],
) -> Result<Written, Stop> {
    let fail = |error: rusqlite::Error| Stop::Failed(failed(format!("write column {}", spec.name), &error));
    let triggers = findings::has_triggers(connection, spec)?;
    let mut batch = Batch {
        connection,
        update: connection.prepare_cached(&sql.update).map_err(fail)?,
        probe: &sql.probe,
        altered: triggers || !exact,
        member: spec.member.is_some(),
        refused,
    };
    connection.execute_batch("SAVEPOINT vault_core_batch").map_err(fail)?;
    let written = match batch.all(changes) {
        Err(Interruption::Row) => {
            connection.execute_batch("ROLLBACK TO vault_core_batch").map_err(fail)?;
            batch.one_by_one(changes)
        }
        other => other,
    };
    match written {
        Ok(written) => {
            connection.execute_batch("RELEASE vault_core_batch").map_err(fail)?;
            Ok(written)
        }
        Err(Interruption::Database(error)) => Err(fail(error)),
        Err(Interruption::RolledBack(at, reason)) => Err(Stop::RolledBack(at, reason)),
        // Does not happen row by row.
        Err(Interruption::Row) => Err(fail(rusqlite::Error::QueryReturnedNoRows)),
    }
}

struct Batch<'a> {
    connection: &'a Connection,
    update: CachedStatement<'a>,
    /// Tells what became of an update.
    probe: &'a str,
    /// Whether a trigger or a conversion may have altered it.
    altered: bool,
    member: bool,
    refused: &'a [(usize, String)],
}

enum Replaced {
    Lost,
    /// Somebody else wrote the same.
    Moved,
    Refused(String),
    Yes,
}

enum Interruption {
    Database(rusqlite::Error),
    RolledBack(usize, String),
    /// A row failed, and what it left behind has to be undone.
    Row,
}

impl Batch<'_> {
    /// The fast way, until a row fails.
    fn all(&mut self, changes: &[RowChange]) -> Result<Written, Interruption> {
        let mut written = Written::default();
        for (at, change) in changes.iter().enumerate() {
            if let Some(reason) = self.refusal(at, change) {
                written.failed.push((change.key.clone(), reason));
                continue;
            }
            match self.replace(at, change)? {
                Replaced::Yes => written.rewritten += 1,
                Replaced::Lost => written.lost += 1,
                Replaced::Moved => written.add_moved(),
                Replaced::Refused(_) => return Err(Interruption::Row),
            }
        }
        Ok(written)
    }

    fn one_by_one(&mut self, changes: &[RowChange]) -> Result<Written, Interruption> {
        let mut written = Written::default();
        for (at, change) in changes.iter().enumerate() {
            if let Some(reason) = self.refusal(at, change) {
                written.failed.push((change.key.clone(), reason));
                continue;
            }
            self.savepoint("SAVEPOINT vault_core_row")?;
            match self.replace(at, change)? {
                Replaced::Yes => written.rewritten += 1,
                Replaced::Lost => written.lost += 1,
                Replaced::Moved => written.add_moved(),
                Replaced::Refused(reason) => {
                    self.savepoint("ROLLBACK TO vault_core_row")?;
                    written.failed.push((change.key.clone(), reason));
                }
            }
            self.savepoint("RELEASE vault_core_row")?;
        }
        Ok(written)
    }

    /// Why a change is not even tried.
    fn refusal(&self, at: usize, change: &RowChange) -> Option<String> {
        if !is_replaceable(&change.old, self.member) {
            return Some("the value is neither text nor bytes".to_owned());
        }
        self.refused.iter().find(|(place, _)| *place == at).map(|(_, reason)| reason.clone())
    }

    /// Replaces one value where it still is what was read.
    fn replace(&mut self, at: usize, change: &RowChange) -> Result<Replaced, Interruption> {
        let new = ToSqlOutput::Borrowed(match change.old {
            Cell::Blob(_) => ValueRef::Blob(change.new.as_bytes()),
            _ => ValueRef::Text(change.new.as_bytes()),
        });
        let mut values: Vec<&dyn ToSql> = Vec::with_capacity(2 + change.key.cells().len());
        values.push(&new);
        values.push(&change.old);
        for cell in change.key.cells() {
            values.push(cell);
        }
        let changed = match self.update.execute(&*values) {
            Ok(changed) => changed,
            // Some failures, and some triggers, end the transaction itself.
            Err(error) if self.connection.is_autocommit() && is_fault_of_row(&error) => {
                return Err(Interruption::RolledBack(at, reason(&error)));
            }
            Err(error) if is_fault_of_row(&error) => return Ok(Replaced::Refused(reason(&error))),
            Err(error) => return Err(Interruption::Database(error)),
        };
        if changed == 1 && !self.altered {
            return Ok(Replaced::Yes);
        }
        let now: Option<(bool, bool)> = self
            .connection
            .prepare_cached(self.probe)
            .and_then(|mut probe| probe.query_row(&*values, |row| Ok((row.get(0)?, row.get(1)?))).optional())
            .map_err(Interruption::Database)?;
        Ok(match (changed, now) {
            (1, Some((true, _))) => Replaced::Yes,
            (0, Some((true, _))) => Replaced::Moved,
            (0, Some((_, true))) => Replaced::Refused("a trigger ignored the update".to_owned()),
            (0, _) => Replaced::Lost,
            _ => Replaced::Refused(
                "the row does not hold what was written to it: a trigger or a conversion altered it".to_owned(),
            ),
        })
    }

    fn savepoint(&self, statement: &str) -> Result<(), Interruption> {
        self.connection
            .prepare_cached(statement)
            .and_then(|mut statement| statement.execute([]))
            .map(drop)
            .map_err(Interruption::Database)
    }
}

/// A full disk is no fault of a row, and a lock is none either.
fn is_fault_of_row(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::ConstraintViolation
                | ErrorCode::OperationAborted
                | ErrorCode::TooBig
                | ErrorCode::TypeMismatch
                | ErrorCode::Unknown
        )
    )
}
