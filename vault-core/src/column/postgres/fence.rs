//! Constraints that refuse values under keys that were replaced.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::column::{ColumnSpec, Fence};
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

pub(super) fn put_up(client: &mut Client, spec: &ColumnSpec, table: &Table, sql: &Sql, fence: &Fence) -> Result<()> {
    if let Some(obstacle) = obstacle(client, spec, sql, &fence.kids)? {
        return Err(obstacle);
    }
    let standing = standing(client, spec, table)?;
    if let Some(Standing { fence: Some(standing), is_owner, .. }) = &standing
        && standing.kids == fence.kids
        && !fence.kids.is_empty()
    {
        // It stays proved, and the table is not locked. Who is no owner leaves its mark as it is.
        return if standing.covers(fence) || !is_owner { Ok(()) } else { mark(client, spec, table, fence) };
    }
    take_down(client, spec, table)?;
    if fence.kids.is_empty() {
        return Ok(());
    }
    let prefixes: Vec<_> = fence.kids.iter().flat_map(KeyId::prefixes).map(|prefix| literal(&prefix)).collect();
    // Not validated: no row is read while the table is locked. Verification validates it.
    let statement = format!(
        "ALTER TABLE {} ADD CONSTRAINT {} CHECK ({} OPERATOR(pg_catalog.<>) ALL (ARRAY[{}])) NOT VALID",
        table.path,
        quoted(&name(spec)),
        sql.prefix_bare,
        prefixes.join(", ")
    );
    batch(client, &action("fence", spec), &statement)?;
    mark(client, spec, table, fence)
}

/// Writes beside the constraint what it refuses, and how the server writes it: a constraint of that
/// name that somebody else makes is told from it.
fn mark(client: &mut Client, spec: &ColumnSpec, table: &Table, fence: &Fence) -> Result<()> {
    let Some(Standing { definition, .. }) = standing(client, spec, table)? else { return Ok(()) };
    let comment = format!("{}{DEFINITION}{}", fence.mark(), digest(&definition));
    let statement = format!("COMMENT ON CONSTRAINT {} ON {} IS {}", quoted(&name(spec)), table.path, literal(&comment));
    batch(client, &action("fence", spec), &statement)
}

/// The fence that stands, if it is what its mark demands.
pub(super) fn find(client: &mut Client, spec: &ColumnSpec, table: &Table) -> Result<Fence> {
    let standing = standing(client, spec, table)?;
    Ok(standing.and_then(|Standing { fence, .. }| fence).unwrap_or_default())
}

/// Has the database itself prove that no row is beyond the fence.
pub(super) fn validate(client: &mut Client, spec: &ColumnSpec, table: &Table) -> Result<()> {
    let Some(Standing { validated: false, .. }) = standing(client, spec, table)? else { return Ok(()) };
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
    if standing(client, spec, table)?.is_none() {
        return Ok(());
    }
    let statement = format!("ALTER TABLE {} DROP CONSTRAINT {}", table.path, quoted(&name(spec)));
    batch(client, &action("take the fence down of", spec), &statement)
}

/// The constraint as it is found.
struct Standing {
    /// As the server writes it, whether it was validated or not.
    definition: String,
    /// Whether every row is known to keep it.
    validated: bool,
    /// What it refuses; none where it is not as it was written.
    fence: Option<Fence>,
    /// Whether the role may change it.
    is_owner: bool,
}

fn standing(client: &mut Client, spec: &ColumnSpec, table: &Table) -> Result<Option<Standing>> {
    let rows = query(
        client,
        &action("look at the fence of", spec),
        "SELECT pg_catalog.pg_get_constraintdef(k.oid), k.convalidated,
                coalesce(pg_catalog.obj_description(k.oid, 'pg_constraint'), ''),
                pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE'),
                pg_catalog.pg_has_role(current_user, c.relowner, 'MEMBER') OR o.rolsuper OR c.relowner = d.datdba
         FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
         JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
         JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
         WHERE k.conrelid = $1 AND k.conname = $2 AND k.contype = 'c'",
        &[(&table.oid, Type::OID), (&name(spec), Type::TEXT)],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (definition, comment): (String, String) = (get(row, 0)?, get(row, 2)?);
    let definition = definition.trim_end_matches(" NOT VALID").to_owned();
    let marked = comment.split_once(DEFINITION).filter(|(_, known)| *known == digest(&definition));
    let fence = marked.and_then(|(mark, _)| Fence::parse(mark));
    let is_of_others = !get::<bool>(row, 4)?;
    Ok(Some(Standing {
        validated: get(row, 1)?,
        fence: fence.map(|fence| Fence { is_of_others, ..fence }),
        is_owner: get(row, 3)?,
        definition,
    }))
}

/// What tells a definition from others.
fn digest(definition: &str) -> String {
    hex::encode(primitives::sha256(definition.as_bytes()).get(..8).unwrap_or_default())
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

/// What stands between the mark of a fence and the digest of its definition.
const DEFINITION: &str = " definition ";
