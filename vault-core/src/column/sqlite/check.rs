//! Whether a table can be worked on without losing a row.

use rusqlite::{Connection, OptionalExtension};

use crate::column::{ColumnSpec, Finding};
use crate::database::sqlite::{failed, quoted};
use crate::error::{Error, Result};

/// Refuses what could not be rotated safely.
pub(super) fn table(connection: &Connection, spec: &ColumnSpec) -> Result<()> {
    let fail = |error: rusqlite::Error| failed(format!("look at table {}", spec.table), &error);
    let found: Option<(String, Option<String>)> = connection
        .query_row(
            "SELECT type, sql FROM sqlite_master WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view')",
            [&spec.table],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
        .map_err(fail)?;
    let Some((kind, sql)) = found else {
        return Err(wrong(spec, "the database has no such table"));
    };
    let sql = sql.unwrap_or_default();
    if kind == "view" || sql.get(..14).is_some_and(|start| start.eq_ignore_ascii_case("CREATE VIRTUAL")) {
        return Err(wrong(spec, "it is a view or a virtual table; name the table that holds the rows"));
    }
    let columns = columns(connection, spec)?;
    let find = |name: &String| columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
    for name in spec.context.columns().iter().chain([&spec.value]) {
        if find(name).is_none() {
            return Err(wrong(spec, &format!("it has no column {name}")));
        }
    }
    if find(&spec.value).is_some_and(|column| column.generated) {
        return Err(wrong(spec, &format!("column {} is generated", spec.value)));
    }
    if is_rowid(&spec.row) && !columns.iter().any(|column| is_rowid(core::slice::from_ref(&column.name))) {
        if sql.to_ascii_uppercase().contains("WITHOUT ROWID") {
            return Err(wrong(spec, "it has no rowid; name its primary key in `row`"));
        }
        return Ok(());
    }
    let missing = spec.row.iter().find(|name| find(name).is_none());
    if let Some(name) = missing {
        return Err(wrong(spec, &format!("it has no column {name}")));
    }
    if !is_unique(connection, spec, &columns)? {
        return Err(wrong(
            spec,
            "`row` is not unique: name the columns of its primary key, or of a unique index over exactly these columns",
        ));
    }
    let nulls: bool = connection
        .query_row(
            &format!(
                "SELECT EXISTS (SELECT 1 FROM {} WHERE {})",
                quoted(&spec.table),
                spec.row.iter().map(|name| format!("{} IS NULL", quoted(name))).collect::<Vec<_>>().join(" OR ")
            ),
            [],
            |row| row.get(0),
        )
        .map_err(fail)?;
    if nulls {
        return Err(wrong(spec, "`row` is NULL in some rows, which nothing identifies"));
    }
    Ok(())
}

/// What is allowed and worth knowing.
pub(super) fn findings(connection: &Connection, spec: &ColumnSpec) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for trigger in triggers(connection, spec)? {
        findings.push(Finding::new(format!(
            "trigger {trigger} of table {} sees, and may refuse, every update",
            spec.table
        )));
    }
    if spec.context.is_empty() {
        findings.push(Finding::new("no context is declared: a token opens in whatever row it is moved to"));
    }
    let outside: Vec<_> = spec.context.columns().into_iter().filter(|name| !spec.row.contains(name)).collect();
    if !outside.is_empty() {
        findings.push(Finding::new(format!(
            "the context is made of {}, which `row` does not contain: where one of them changes, the token no longer opens",
            outside.join(", ")
        )));
    }
    if let Some(format) =
        spec.reads.iter().find(|format| !format.authenticated() && **format != crate::format::Format::Vs1)
    {
        findings.push(Finding::new(format!(
            "{format} has no authentication: a migration takes what a writer of the database put there as genuine"
        )));
    }
    Ok(findings)
}

pub(super) fn has_triggers(connection: &Connection, spec: &ColumnSpec) -> Result<bool> {
    Ok(!triggers(connection, spec)?.is_empty())
}

/// Whether a column of the row key compares as a number.
pub(super) fn is_integer(connection: &Connection, spec: &ColumnSpec, name: &str) -> Result<bool> {
    let declared = columns(connection, spec)?.into_iter().find(|column| column.name.eq_ignore_ascii_case(name));
    Ok(declared.map_or_else(|| is_rowid(&[name.to_owned()]), |column| column.kind.to_ascii_uppercase().contains("INT")))
}

struct Declared {
    name: String,
    kind: String,
    primary: u32,
    generated: bool,
}

fn columns(connection: &Connection, spec: &ColumnSpec) -> Result<Vec<Declared>> {
    let list = || -> rusqlite::Result<Vec<Declared>> {
        let mut statement = connection.prepare_cached("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1)")?;
        let rows = statement.query_map([&spec.table], |row| {
            Ok(Declared {
                name: row.get(0)?,
                kind: row.get(1)?,
                primary: row.get(2)?,
                generated: row.get::<_, u32>(3)? >= 2,
            })
        })?;
        rows.collect()
    };
    list().map_err(|error| failed(format!("look at table {}", spec.table), &error))
}

/// Whether the primary key or a full unique index has exactly the columns of `row`.
fn is_unique(connection: &Connection, spec: &ColumnSpec, columns: &[Declared]) -> Result<bool> {
    let same = |mut found: Vec<String>| {
        let mut wanted: Vec<String> = spec.row.iter().map(|name| name.to_ascii_lowercase()).collect();
        found.iter_mut().for_each(|name| name.make_ascii_lowercase());
        wanted.sort();
        found.sort();
        found == wanted
    };
    if same(columns.iter().filter(|column| column.primary > 0).map(|column| column.name.clone()).collect()) {
        return Ok(true);
    }
    let list = || -> rusqlite::Result<bool> {
        let mut indexes =
            connection.prepare("SELECT name FROM pragma_index_list(?1) WHERE \"unique\" = 1 AND partial = 0")?;
        let names = indexes.query_map([&spec.table], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        for name in names {
            let mut index = connection.prepare_cached("SELECT coalesce(name, '') FROM pragma_index_info(?1)")?;
            let found = index.query_map([&name], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
            if same(found) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    list().map_err(|error| failed(format!("look at the indexes of table {}", spec.table), &error))
}

/// Triggers of the table that are not ours.
fn triggers(connection: &Connection, spec: &ColumnSpec) -> Result<Vec<String>> {
    let list = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare_cached(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE
             AND name NOT LIKE 'vault\\_core\\_fence\\_%' ESCAPE '\\' ORDER BY name",
        )?;
        statement.query_map([&spec.table], |row| row.get(0))?.collect()
    };
    list().map_err(|error| failed(format!("look at the triggers of table {}", spec.table), &error))
}

fn is_rowid(row: &[String]) -> bool {
    matches!(row, [name] if ["rowid", "oid", "_rowid_"].iter().any(|alias| name.eq_ignore_ascii_case(alias)))
}

fn wrong(spec: &ColumnSpec, reason: &str) -> Error {
    Error::Refused {
        reason: format!("column {}, table {}: {reason}", spec.name, spec.table),
        remedy: "correct the [[column]] in vault.toml".to_owned(),
    }
}
