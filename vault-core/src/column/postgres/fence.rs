//! Constraints that refuse values under keys that were replaced.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::column::ColumnSpec;
use crate::database::postgres::{Client, batch, failed, get, literal, query, quoted};
use crate::error::{Error, Result};
use crate::hex;
use crate::key::KeyId;
use crate::primitives;

use super::sql::Sql;
use super::table::Table;

/// The rows that keep a fence away: it would also refuse unrelated work on them.
pub(super) fn obstacle(client: &mut Client, spec: &ColumnSpec, sql: &Sql, kids: &[KeyId]) -> Result<Option<Error>> {
    let stale = count(client, spec, sql, kids)?;
    if stale == 0 {
        return Ok(None);
    }
    Ok(Some(Error::Refused {
        reason: format!("column {} holds {stale} values under a key that was replaced", spec.name),
        remedy: "run `vault rotate run`, then fence".to_owned(),
    }))
}

/// Values under `kids`, by the index on what values begin with where there is one.
pub(super) fn count(client: &mut Client, spec: &ColumnSpec, sql: &Sql, kids: &[KeyId]) -> Result<u64> {
    let prefixes: Vec<String> = kids.iter().flat_map(KeyId::prefixes).collect();
    let prefixes = sql.prefixes(&prefixes);
    let statement = format!("SELECT count(*) FROM {} WHERE {} OPERATOR(pg_catalog.=) ANY ($1)", sql.path, sql.prefix);
    let rows = query(client, &action("look for stale values of", spec), &statement, &[prefixes.parameter()])?;
    let rows = rows.first().map_or(Ok(0), |row| get::<i64>(row, 0))?;
    Ok(u64::try_from(rows).unwrap_or_default())
}

pub(super) fn put_up(client: &mut Client, spec: &ColumnSpec, table: &Table, sql: &Sql, kids: &[KeyId]) -> Result<()> {
    if let Some(obstacle) = obstacle(client, spec, sql, kids)? {
        return Err(obstacle);
    }
    let mut wanted = kids.to_vec();
    wanted.sort();
    wanted.dedup();
    if find(client, spec, table)? == wanted {
        // It stays proved, the table is not locked, and nobody has to be its owner.
        return Ok(());
    }
    take_down(client, spec, table)?;
    if kids.is_empty() {
        return Ok(());
    }
    let prefixes: Vec<_> = kids.iter().flat_map(KeyId::prefixes).map(|prefix| literal(&prefix)).collect();
    // Not validated: no row is read while the table is locked. Verification validates it.
    let statement = format!(
        "ALTER TABLE {} ADD CONSTRAINT {} CHECK ({} OPERATOR(pg_catalog.<>) ALL (ARRAY[{}])) NOT VALID",
        table.path,
        quoted(&name(spec)),
        sql.prefix_bare,
        prefixes.join(", ")
    );
    batch(client, &action("fence", spec), &statement)
}

/// The keys that the constraint names.
pub(super) fn find(client: &mut Client, spec: &ColumnSpec, table: &Table) -> Result<Vec<KeyId>> {
    let Some((definition, _)) = definition(client, spec, table)? else { return Ok(Vec::new()) };
    let mut kids: Vec<KeyId> =
        definition.split("'vs1.").skip(1).filter_map(|rest| KeyId::parse(rest.get(..17)?).ok()).collect();
    kids.sort();
    kids.dedup();
    Ok(kids)
}

/// Has the database itself prove that no row is beyond the fence.
pub(super) fn validate(client: &mut Client, spec: &ColumnSpec, table: &Table) -> Result<()> {
    let Some((_, false)) = definition(client, spec, table)? else { return Ok(()) };
    let statement = format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", table.path, quoted(&name(spec)));
    client.batch_execute(&statement).map_err(|error| match error.code() {
        Some(&SqlState::CHECK_VIOLATION) => Error::Refused {
            reason: format!("column {} holds values under a key that was replaced, says its fence", spec.name),
            remedy: "run `vault rotate run`, then verify".to_owned(),
        },
        _ => failed(action("validate the fence of", spec), &error),
    })
}

pub(super) fn take_down(client: &mut Client, spec: &ColumnSpec, table: &Table) -> Result<()> {
    if definition(client, spec, table)?.is_none() {
        return Ok(());
    }
    let statement = format!("ALTER TABLE {} DROP CONSTRAINT {}", table.path, quoted(&name(spec)));
    batch(client, &action("take the fence down of", spec), &statement)
}

/// The constraint as the database writes it, and whether every row is known to keep it.
fn definition(client: &mut Client, spec: &ColumnSpec, table: &Table) -> Result<Option<(String, bool)>> {
    let rows = query(
        client,
        &action("look at the fence of", spec),
        "SELECT pg_catalog.pg_get_constraintdef(oid), convalidated FROM pg_catalog.pg_constraint
         WHERE conrelid = $1 AND conname = $2 AND contype = 'c'",
        &[(&table.oid, Type::OID), (&name(spec), Type::TEXT)],
    )?;
    rows.first().map(|row| Ok((get(row, 0)?, get(row, 1)?))).transpose()
}

/// The constraint's name: one for each place of a table that holds values.
fn name(spec: &ColumnSpec) -> String {
    let place = format!("{}\0{}", spec.value, spec.member.as_deref().unwrap_or_default());
    let hash = primitives::sha256(place.as_bytes());
    format!("vault_core_fence_{}", hex::encode(hash.get(..8).unwrap_or_default()))
}

fn action(what: &str, spec: &ColumnSpec) -> String {
    format!("{what} column {}", spec.name)
}
