//! Batches: compare-and-swap of many rows in one statement.

use postgres::Client;
use postgres::types::{ToSql, Type};

use crate::column::{ColumnSpec, RowChange, Written};
use crate::database::postgres::{Parameter, batch, failed, get, is_fault_of_row, reason};
use crate::error::Result;

use super::sql::{Sql, Value};
use super::table::Kind;

/// Writes `changes` inside the open transaction. Rows that somebody else has locked are passed over
/// and counted as lost, unless they are waited for.
pub(super) fn write(
    client: &mut Client,
    spec: &ColumnSpec,
    sql: &Sql,
    changes: &[RowChange],
    patient: bool,
) -> Result<Written> {
    let action = format!("write column {}", spec.name);
    let mut written = Written::default();
    let (fit, unfit): (Vec<&RowChange>, Vec<_>) = changes.iter().partition(|change| sql.is_replaceable(&change.old));
    for change in unfit {
        written.failed.push((change.key.clone(), "the value is neither text nor bytes".to_owned()));
    }
    if fit.is_empty() {
        return Ok(written);
    }
    let batch = Batch { sql, action: &action, update: if patient { &sql.patient_update } else { &sql.update } };
    batch.savepoint(client, "SAVEPOINT vault_core_batch")?;
    match batch.attempt(client, &fit)? {
        Attempt::Done { rewritten } => {
            written.rewritten = rewritten;
            written.lost = count(fit.len()).saturating_sub(rewritten);
        }
        Attempt::Refused(_) => {
            batch.savepoint(client, "ROLLBACK TO SAVEPOINT vault_core_batch")?;
            batch.one_by_one(client, &fit, &mut written)?;
        }
    }
    Ok(written)
}

struct Batch<'a> {
    sql: &'a Sql,
    action: &'a str,
    update: &'a str,
}

enum Attempt {
    /// So many were replaced; the others changed meanwhile or are held by others.
    Done { rewritten: u64 },
    /// A row was refused, or does not hold what was written to it: nothing may stay.
    Refused(String),
}

impl Batch<'_> {
    /// Writes rows in one statement.
    fn attempt(&self, client: &mut Client, changes: &[&RowChange]) -> Result<Attempt> {
        let keys = self.sql.key_arrays(&changes.iter().map(|change| &change.key).collect::<Vec<_>>());
        let mut parameters: Vec<Parameter<'_>> = keys.iter().map(Value::parameter).collect();
        let old: Vec<&[u8]> = changes.iter().map(|change| change.old.as_bytes()).collect();
        let new: Vec<&[u8]> = changes.iter().map(|change| change.new.as_bytes()).collect();
        let (old_texts, new_texts) = (texts(&old), texts(&new));
        let pairs: [(&(dyn ToSql + Sync), Type); 2] = match self.sql.kind {
            Kind::Bytes => [(&old, Type::BYTEA_ARRAY), (&new, Type::BYTEA_ARRAY)],
            Kind::Member | Kind::Text => [(&old_texts, Type::TEXT_ARRAY), (&new_texts, Type::TEXT_ARRAY)],
        };
        parameters.extend(pairs);
        let row = match client.query_typed_one(self.update, &parameters) {
            Ok(row) => row,
            Err(error) if is_fault_of_row(&error) => return Ok(Attempt::Refused(reason(&error))),
            Err(error) => return Err(failed(self.action, &error)),
        };
        let (held, done, exact): (i64, i64, i64) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
        if done < held {
            return Ok(Attempt::Refused("a trigger ignored the update".to_owned()));
        }
        if exact < done {
            return Ok(Attempt::Refused(ALTERED.to_owned()));
        }
        let triggers: bool = get(&row, 3)?;
        if triggers && done > 0 {
            // What would only be told by COMMIT is told now.
            match client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE") {
                Err(error) if is_fault_of_row(&error) => return Ok(Attempt::Refused(reason(&error))),
                other => other.map_err(|error| failed(self.action, &error))?,
            }
            let row = client.query_typed_one(&self.sql.probe, &parameters);
            let now: i64 = get(&row.map_err(|error| failed(self.action, &error))?, 0)?;
            // A row that held the new value before is no alteration, so there may be more.
            if now < done {
                return Ok(Attempt::Refused(ALTERED.to_owned()));
            }
        }
        Ok(Attempt::Done { rewritten: u64::try_from(done).unwrap_or_default() })
    }

    fn one_by_one(&self, client: &mut Client, changes: &[&RowChange], written: &mut Written) -> Result<()> {
        for change in changes {
            self.savepoint(client, "SAVEPOINT vault_core_row")?;
            match self.attempt(client, core::slice::from_ref(change))? {
                Attempt::Done { rewritten: 0 } => written.lost += 1,
                Attempt::Done { .. } => written.rewritten += 1,
                Attempt::Refused(reason) => {
                    self.savepoint(client, "ROLLBACK TO SAVEPOINT vault_core_row")?;
                    written.failed.push((change.key.clone(), reason));
                }
            }
            self.savepoint(client, "RELEASE SAVEPOINT vault_core_row")?;
        }
        Ok(())
    }

    fn savepoint(&self, client: &mut Client, statement: &str) -> Result<()> {
        batch(client, self.action, statement)
    }
}

/// The same bytes as texts, which values of text columns are.
fn texts<'a>(values: &[&'a [u8]]) -> Vec<&'a str> {
    values.iter().map(|value| core::str::from_utf8(value).unwrap_or_default()).collect()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

const ALTERED: &str = "the row does not hold what was written to it: a trigger altered it";
