//! Batches: compare-and-swap of many rows in one statement.

use tokio_postgres::types::Type;

use crate::column::{ColumnSpec, RowChange, Written};
use crate::database::postgres::{Client, Parameter, batch, failed, get, is_fault_of_row, is_held, reason};
use crate::error::Result;

use super::sql::{Sql, Value};
use super::table::Kind;

/// How rows that others hold are dealt with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Manner {
    /// Nobody is expected to hold any: they are waited for a moment, then passed over.
    Alone,
    /// They are passed over.
    Among,
    /// They are waited for.
    Patient,
}

/// What a transaction begins with that a batch is written in; beside an exclusive one, nobody holds rows.
pub(super) fn opening(manner: Manner, exclusive: bool) -> &'static str {
    match manner {
        Manner::Alone if !exclusive => "SAVEPOINT vault_core_batch; SET LOCAL lock_timeout = '20ms'",
        _ => "SAVEPOINT vault_core_batch",
    }
}

/// Writes `changes` inside the open transaction, behind its [`opening`], and has them recorded. Rows
/// that are passed over are counted as lost. Tells whether others were in the way, too.
///
/// While the server writes, `beside` does other work. `record` answers whether triggers may have altered what was written.
pub(super) fn write(
    client: &mut Client,
    spec: &ColumnSpec,
    sql: &Sql,
    changes: &[RowChange],
    manner: Manner,
    beside: &dyn Fn() -> bool,
    record: &dyn Fn(&mut Client, &Written) -> Result<bool>,
) -> Result<(Written, bool)> {
    let action = format!("write column {}", spec.name);
    let mut written = Written::default();
    let (fit, unfit): (Vec<&RowChange>, Vec<_>) = changes.iter().partition(|change| sql.is_replaceable(&change.old));
    for change in unfit {
        written.failed.push((change.key.clone(), "the value is neither text nor bytes".to_owned()));
    }
    let batch = Batch {
        sql,
        action: &action,
        beside,
        update: if manner == Manner::Patient { &sql.patient_update } else { &sql.update },
    };
    let mut hindered = false;
    if manner == Manner::Alone && !fit.is_empty() {
        if let Some(rewritten) = batch.quick(client, &fit)? {
            let mut quick = Written { rewritten, lost: count(fit.len()).saturating_sub(rewritten), ..written.clone() };
            batch.tell_apart(client, &fit, &mut quick, 0)?;
            if !record(client, &quick)? {
                let hindered = quick.lost > 0;
                return Ok((quick, hindered));
            }
        }
        batch.command(client, "ROLLBACK TO SAVEPOINT vault_core_batch")?;
        hindered = true;
    }
    if !fit.is_empty() {
        let unfit = written.failed.len();
        hindered |= batch.careful(client, &fit, &mut written)?;
        let refused = count(written.failed.len() - unfit);
        batch.tell_apart(client, &fit, &mut written, refused)?;
    }
    record(client, &written)?;
    Ok((written, hindered))
}

/// Ends what a batch began in a transaction that further batches follow in: one inside the other,
/// thousands of them would slow down every look at a row.
pub(super) fn settle(client: &mut Client, spec: &ColumnSpec) -> Result<()> {
    let action = format!("write column {}", spec.name);
    batch(client, &action, "RELEASE SAVEPOINT vault_core_batch")
}

struct Batch<'a> {
    sql: &'a Sql,
    action: &'a str,
    beside: &'a dyn Fn() -> bool,
    update: &'a str,
}

enum Attempt {
    /// So many were replaced; the others changed meanwhile or are held by others.
    Done { rewritten: u64, triggers: bool },
    /// A row was refused, or does not hold what was written to it: nothing may stay.
    Refused(String),
}

impl Batch<'_> {
    /// Writes rows in one statement that holds none before; none where somebody or something was in
    /// the way.
    fn quick(&self, client: &mut Client, changes: &[&RowChange]) -> Result<Option<u64>> {
        let arrays = Arrays::new(self.sql, changes);
        match client.execute_typed(&self.sql.quick_update, &arrays.parameters(self.sql), self.beside) {
            Ok(rewritten) => Ok(Some(rewritten)),
            Err(error) if is_fault_of_row(&error) || is_held(&error) => Ok(None),
            Err(error) => Err(failed(self.action, &error)),
        }
    }

    /// Writes rows in one statement, or where one of them is refused row by row. Tells whether others
    /// were in the way.
    fn careful(&self, client: &mut Client, changes: &[&RowChange], written: &mut Written) -> Result<bool> {
        if let Attempt::Done { rewritten, triggers } = self.attempt(client, changes)? {
            written.rewritten = rewritten;
            written.lost = count(changes.len()).saturating_sub(rewritten);
            return Ok(triggers || written.lost > 0);
        }
        self.command(client, "ROLLBACK TO SAVEPOINT vault_core_batch")?;
        self.one_by_one(client, changes, written)?;
        Ok(true)
    }

    /// Writes rows in one statement that locks them first, and looks at them again where triggers may
    /// have altered them.
    fn attempt(&self, client: &mut Client, changes: &[&RowChange]) -> Result<Attempt> {
        let arrays = Arrays::new(self.sql, changes);
        let parameters = arrays.parameters(self.sql);
        let row = match client.query_typed_one_beside(self.update, &parameters, self.beside) {
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
        Ok(Attempt::Done { rewritten: u64::try_from(done).unwrap_or_default(), triggers })
    }

    /// Tells rows that others moved, and those that they hold, from those that they changed. `refused`
    /// rows are what was read, too.
    fn tell_apart(
        &self,
        client: &mut Client,
        changes: &[&RowChange],
        written: &mut Written,
        refused: u64,
    ) -> Result<()> {
        if written.lost == 0 {
            return Ok(());
        }
        let arrays = Arrays::new(self.sql, changes);
        let row = client.query_typed_one(&self.sql.fate, &arrays.parameters(self.sql));
        let row = row.map_err(|error| failed(self.action, &error))?;
        let number = |at: usize| get::<i64>(&row, at).map(|number| u64::try_from(number).unwrap_or_default());
        written.moved = number(0)?.saturating_sub(written.rewritten).min(written.lost);
        written.held = number(1)?.saturating_sub(refused).min(written.lost - written.moved);
        Ok(())
    }

    fn one_by_one(&self, client: &mut Client, changes: &[&RowChange], written: &mut Written) -> Result<()> {
        for change in changes {
            self.command(client, "SAVEPOINT vault_core_row")?;
            match self.attempt(client, core::slice::from_ref(change))? {
                Attempt::Done { rewritten: 0, .. } => written.lost += 1,
                Attempt::Done { .. } => written.rewritten += 1,
                Attempt::Refused(reason) => {
                    self.command(client, "ROLLBACK TO SAVEPOINT vault_core_row")?;
                    written.failed.push((change.key.clone(), reason));
                }
            }
            self.command(client, "RELEASE SAVEPOINT vault_core_row")?;
        }
        Ok(())
    }

    fn command(&self, client: &mut Client, statement: &str) -> Result<()> {
        batch(client, self.action, statement)
    }
}

/// The parameters of a batch.
struct Arrays<'a> {
    keys: Vec<Value>,
    old: Vec<&'a [u8]>,
    new: Vec<&'a [u8]>,
    old_texts: Vec<&'a str>,
    new_texts: Vec<&'a str>,
}

impl<'a> Arrays<'a> {
    fn new(sql: &Sql, changes: &[&'a RowChange]) -> Self {
        let keys = sql.key_arrays(&changes.iter().map(|change| &change.key).collect::<Vec<_>>());
        let old: Vec<&[u8]> = changes.iter().map(|change| change.old.as_bytes()).collect();
        let new: Vec<&[u8]> = changes.iter().map(|change| change.new.as_bytes()).collect();
        Self { keys, old_texts: texts(&old), new_texts: texts(&new), old, new }
    }

    fn parameters(&self, sql: &Sql) -> Vec<Parameter<'_>> {
        let mut parameters: Vec<Parameter<'_>> = self.keys.iter().map(Value::parameter).collect();
        let pairs: [Parameter<'_>; 2] = match sql.kind {
            Kind::Bytes => [(&self.old, Type::BYTEA_ARRAY), (&self.new, Type::BYTEA_ARRAY)],
            Kind::Member | Kind::Text => [(&self.old_texts, Type::TEXT_ARRAY), (&self.new_texts, Type::TEXT_ARRAY)],
        };
        parameters.extend(pairs);
        parameters
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
