//! Triggers that refuse values under keys that were replaced.

use rusqlite::{Connection, OptionalExtension};

use crate::column::{ColumnSpec, Fence};
use crate::database::sqlite::{failed, quoted};
use crate::error::{Error, Result};
use crate::hex;
use crate::key::KeyId;
use crate::primitives;
use crate::token::KID_IN_SQL;

use super::sql::{FENCE_NAMES, Sql, UNREADABLE_SQL, prefix_of, value_of};

/// The rows that keep a fence away: it would also refuse unrelated work on them.
pub(super) fn obstacle(connection: &Connection, spec: &ColumnSpec, sql: &Sql, kids: &[KeyId]) -> Result<Option<Error>> {
    let Sql { table, value, prefix, .. } = sql;
    let count = |condition: &str| {
        connection
            .query_row(&format!("SELECT count(*) FROM {table} WHERE {condition}"), [], |row| row.get::<_, u64>(0))
            .map_err(|error| failed(format!("look for what a fence of column {} refuses", spec.name), &error))
    };
    let stale = count(&format!("{prefix} IN ({})", prefixes(kids)))?;
    let unreadable = if spec.member.is_some() { count(&format!("{value} = {UNREADABLE_SQL}"))? } else { 0 };
    let (what, remedy) = match (stale, unreadable) {
        (0, 0) => return Ok(None),
        (0, rows) => (
            format!("{rows} documents that are no JSON object, or whose member is no text or there twice"),
            "repair or remove these documents, then fence",
        ),
        (rows, _) => (format!("{rows} values under a key that was replaced"), "run `vault rotate run`, then fence"),
    };
    let reason = format!("column {} holds {what}", spec.name);
    Ok(Some(Error::Refused { reason, remedy: remedy.to_owned() }))
}

pub(super) fn put_up(connection: &Connection, spec: &ColumnSpec, sql: &Sql, fence: &Fence) -> Result<()> {
    if let Some(obstacle) = obstacle(connection, spec, sql, &fence.kids)? {
        return Err(obstacle);
    }
    if !fence.kids.is_empty() && find(connection, spec, sql)?.covers(fence) {
        return Ok(());
    }
    take_down(connection, spec)?;
    if fence.kids.is_empty() {
        return Ok(());
    }
    let [insert, update] = triggers(spec, sql, fence);
    connection
        .execute_batch(&format!("CREATE TRIGGER main.{insert}; CREATE TRIGGER main.{update};"))
        .map_err(|error| failed(format!("fence column {}", spec.name), &error))
}

/// The two triggers, behind the words that create them.
fn triggers(spec: &ColumnSpec, sql: &Sql, fence: &Fence) -> [String; 2] {
    let (column, prefixes) = (&sql.column, prefixes(&fence.kids));
    let [new, old] = ["NEW", "OLD"].map(|row| value_of(spec, &format!("{row}.{column}")));
    let prefix = prefix_of(&new);
    let is_old = format!("{prefix} IN ({prefixes})");
    let changes = format!("({new} COLLATE BINARY IS NOT {old} OR typeof({new}) <> typeof({old}))");
    let raise: String = fence
        .kids
        .iter()
        .map(|kid| {
            format!(" WHEN '{kid}' THEN RAISE(ABORT, 'vault: key {kid} is being retired and takes no new values; load the current keyring')")
        })
        .collect();
    let body = format!("BEGIN /* {} */ SELECT CASE substr({prefix}, {KID_IN_SQL}){raise} END; END", fence.mark());
    let [insert, update] = names(spec).map(|name| quoted(&name));
    let table = quoted(&spec.table);
    [
        format!("{insert} BEFORE INSERT ON {table} WHEN {is_old} {body}"),
        format!("{update} BEFORE UPDATE OF {column} ON {table} WHEN {changes} AND {is_old} {body}"),
    ]
}

/// What values under `kids` begin with, as a list of texts.
fn prefixes(kids: &[KeyId]) -> String {
    let prefixes: Vec<_> = kids.iter().flat_map(KeyId::prefixes).map(|prefix| format!("'{prefix}'")).collect();
    prefixes.join(", ")
}

/// The fence that stands, if both triggers are word for word what the mark in the first demands.
pub(super) fn find(connection: &Connection, spec: &ColumnSpec, sql: &Sql) -> Result<Fence> {
    let text = |name: &String| -> Result<Option<String>> {
        connection
            .query_row(
                "SELECT sql FROM main.sqlite_master WHERE type = 'trigger' AND name = ?1 AND tbl_name = ?2 COLLATE NOCASE",
                [name, &spec.table],
                |row| row.get(0),
            )
            .optional()
            .map_err(|error| failed(format!("look at the fence of column {}", spec.name), &error))
    };
    let [insert, update] = names(spec);
    let (Some(insert), Some(update)) = (text(&insert)?, text(&update)?) else { return Ok(Fence::default()) };
    let mark = insert.split_once("/* ").and_then(|(_, rest)| rest.split_once(" */"));
    let Some(fence) = mark.and_then(|(mark, _)| Fence::parse(mark)) else { return Ok(Fence::default()) };
    let wanted = triggers(spec, sql, &fence).map(|trigger| format!("CREATE TRIGGER {trigger}"));
    Ok(if wanted == [insert, update] { fence } else { Fence::default() })
}

/// Whether there is anything to take down.
pub(super) fn exists(connection: &Connection, spec: &ColumnSpec) -> Result<bool> {
    connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM main.sqlite_master WHERE type = 'trigger' AND name IN (?1, ?2))",
            names(spec),
            |row| row.get(0),
        )
        .map_err(|error| failed(format!("look at the fence of column {}", spec.name), &error))
}

pub(super) fn take_down(connection: &Connection, spec: &ColumnSpec) -> Result<()> {
    let [insert, update] = names(spec).map(|name| quoted(&name));
    connection
        .execute_batch(&format!("DROP TRIGGER IF EXISTS main.{insert}; DROP TRIGGER IF EXISTS main.{update};"))
        .map_err(|error| failed(format!("take the fence of column {} down", spec.name), &error))
}

/// The triggers' names: one pair for each place that holds values, whatever the column is called.
/// SQLite tells tables and columns apart without case, JSON members with it.
fn names(spec: &ColumnSpec) -> [String; 2] {
    let place = format!(
        "{}\0{}\0{}",
        spec.table.to_ascii_lowercase(),
        spec.value.to_ascii_lowercase(),
        spec.member.as_deref().unwrap_or_default()
    );
    let hash = primitives::sha256(place.as_bytes());
    let id = hex::encode(hash.get(..8).unwrap_or_default());
    [format!("{FENCE_NAMES}{id}_insert"), format!("{FENCE_NAMES}{id}_update")]
}
