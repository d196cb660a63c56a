//! Triggers that refuse values under keys that were replaced.

use rusqlite::{Connection, OptionalExtension};

use crate::column::ColumnSpec;
use crate::database::sqlite::{failed, quoted};
use crate::error::{Error, Result};
use crate::key::KeyId;
use crate::primitives;

use super::{Sql, value_of};

pub(super) fn put_up(connection: &Connection, spec: &ColumnSpec, sql: &Sql, kids: &[KeyId]) -> Result<()> {
    let fail = |error: rusqlite::Error| failed(format!("fence column {}", spec.name), &error);
    let prefixes: Vec<String> =
        kids.iter().flat_map(|kid| [format!("'vs1.{kid}.'"), format!("'vk1.{kid}.'")]).collect();
    let prefixes = prefixes.join(", ");
    let Sql { table, column, prefix, .. } = sql;
    let stale: u64 = connection
        .query_row(&format!("SELECT count(*) FROM {table} WHERE {prefix} IN ({prefixes})"), [], |row| row.get(0))
        .map_err(fail)?;
    if stale > 0 {
        // A fence would also refuse unrelated work on these rows.
        return Err(Error::Refused {
            reason: format!("column {} holds {stale} values under a key that was replaced", spec.name),
            remedy: "run `vault rotate run`, then fence".to_owned(),
        });
    }
    take_down(connection, spec)?;
    let [insert, update] = names(spec);
    let [new, old] = ["NEW", "OLD"].map(|row| value_of(spec, &format!("{row}.{column}")));
    let refuse = "SELECT RAISE(ABORT, 'vault: the key of this value was replaced; reload the keyring')";
    let is_old = format!("CAST(substr({new}, 1, 22) AS TEXT) IN ({prefixes})");
    connection
        .execute_batch(&format!(
            "CREATE TRIGGER {insert} BEFORE INSERT ON {table} WHEN {is_old} BEGIN {refuse}; END;
             CREATE TRIGGER {update} BEFORE UPDATE OF {column} ON {table} WHEN {new} IS NOT {old} AND {is_old} BEGIN {refuse}; END;",
            insert = quoted(&insert),
            update = quoted(&update),
        ))
        .map_err(fail)
}

/// The keys that the triggers name.
pub(super) fn find(connection: &Connection, spec: &ColumnSpec) -> Result<Vec<KeyId>> {
    let [insert, _] = names(spec);
    let sql: Option<String> = connection
        .query_row("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?1", [insert], |row| row.get(0))
        .optional()
        .map_err(|error| failed(format!("look at the fence of column {}", spec.name), &error))?;
    let sql = sql.unwrap_or_default();
    let kids = sql.split("'vs1.").skip(1).filter_map(|rest| KeyId::parse(rest.get(..17)?).ok());
    Ok(kids.collect())
}

pub(super) fn take_down(connection: &Connection, spec: &ColumnSpec) -> Result<()> {
    let [insert, update] = names(spec).map(|name| quoted(&name));
    connection
        .execute_batch(&format!("DROP TRIGGER IF EXISTS {insert}; DROP TRIGGER IF EXISTS {update};"))
        .map_err(|error| failed(format!("take the fence of column {} down", spec.name), &error))
}

/// The triggers' names: one pair for each place that holds values, whatever the column is called.
fn names(spec: &ColumnSpec) -> [String; 2] {
    let place = format!("{}\0{}\0{}", spec.table, spec.value, spec.member.as_deref().unwrap_or_default());
    let hash = primitives::sha256(place.to_ascii_lowercase().as_bytes());
    let id = primitives::hex(hash.get(..8).unwrap_or_default());
    [format!("vault_core_fence_{id}_insert"), format!("vault_core_fence_{id}_update")]
}
