//! Whether a table can be worked on without losing a row.

use rusqlite::{Connection, OptionalExtension};

use crate::column::{ColumnSpec, Finding};
use crate::database::sqlite::{failed, quoted};
use crate::error::{Error, Result};

use super::fence;
use super::sql::Sql;

/// What is known of a table that can be worked on.
pub(super) struct Table {
    /// The columns of the row key, in the order of the index that keeps them unique.
    pub(super) keys: Vec<Key>,
    /// Whether a key could be NULL, which nothing identifies.
    pub(super) nullable: bool,
    /// Whether the column keeps text and blobs as they are.
    pub(super) exact: bool,
    generated: Vec<String>,
    /// Whether the key is a rowid without a column of its own.
    bare_rowid: bool,
}

/// A column of the row key.
pub(super) struct Key {
    pub(super) name: String,
    /// Its place in `row`.
    pub(super) place: usize,
    /// How the index compares it; none for the rowid.
    pub(super) collation: Option<&'static str>,
}

impl Table {
    /// Looks at the table, and refuses what could not be rotated safely.
    pub(super) fn new(connection: &Connection, spec: &ColumnSpec) -> Result<Self> {
        let (kind, without_rowid): (String, bool) = connection
            .query_row("SELECT type, wr FROM pragma_table_list(?1) WHERE schema = 'main'", [&spec.table], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
            .map_err(|error| looking(spec, &error))?
            .ok_or_else(|| wrong(spec, "the database has no such table"))?;
        if kind != "table" {
            return Err(wrong(spec, &format!("it is a {kind}; name the table that holds the rows")));
        }
        let columns = columns(connection, spec)?;
        let find = |name: &str| columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        let has_rowid =
            |name: &str| is_rowid(name) && !without_rowid && !columns.iter().any(|column| is_rowid(&column.name));
        for name in spec.row.iter().chain(&spec.context.columns()).chain([&spec.value]) {
            if find(name).is_none() && without_rowid && is_rowid(name) {
                return Err(wrong(spec, "it has no rowid; name its primary key in `row`"));
            }
            if find(name).is_none() && !has_rowid(name) {
                return Err(wrong(spec, &format!("it has no column {name}")));
            }
        }
        let Some(value) = find(&spec.value) else {
            return Err(wrong(spec, "the rowid holds no values"));
        };
        if value.generated {
            return Err(wrong(spec, &format!("column {} is generated", spec.value)));
        }
        if spec.row.iter().any(|name| name.eq_ignore_ascii_case(&spec.value)) {
            return Err(wrong(spec, "`row` contains the value, which changes"));
        }
        let bare_rowid = matches!(spec.row.as_slice(), [name] if find(name).is_none());
        let keys = match spec.row.as_slice() {
            [name] if bare_rowid || !without_rowid && is_rowid_alias(connection, spec, &columns, name)? => {
                Some(vec![Key { name: name.clone(), place: 0, collation: None }])
            }
            _ => unique_index(connection, spec)?,
        };
        let keys = keys.ok_or_else(|| {
            wrong(spec, "`row` is not unique: name the columns of its primary key, or of a unique index over exactly these columns")
        })?;
        let nullable = |key: &Key| {
            key.collation.is_some()
                && find(&key.name).is_some_and(|column| !(column.not_null || without_rowid && column.primary))
        };
        Ok(Self {
            nullable: keys.iter().any(nullable),
            exact: value.keeps_classes(),
            generated: columns.iter().filter(|column| column.generated).map(|column| column.name.clone()).collect(),
            bare_rowid,
            keys,
        })
    }

    /// Refuses rows that nothing identifies: pages would skip them in silence.
    pub(super) fn refuse_nulls(&self, connection: &Connection, spec: &ColumnSpec, sql: &Sql) -> Result<()> {
        let nulls = || connection.prepare_cached(&sql.has_nulls())?.query_row([], |row| row.get(0));
        if self.nullable && nulls().map_err(|error| looking(spec, &error))? {
            return Err(wrong(spec, "`row` is NULL in some rows, which nothing identifies"));
        }
        Ok(())
    }

    /// What is allowed and worth knowing; refuses what only shows when statements are compiled.
    pub(super) fn findings(&self, connection: &Connection, spec: &ColumnSpec, sql: &Sql) -> Result<Vec<Finding>> {
        self.refuse_nulls(connection, spec, sql)?;
        let mut findings = Vec::new();
        let mut find = |text: String| findings.push(Finding::new(text));
        for trigger in fired_triggers(connection, spec, sql)? {
            find(format!("trigger {trigger} fires for every row that is written, and may refuse or alter it"));
        }
        if !sql.filter.is_empty() {
            connection
                .prepare(&format!("SELECT 1 FROM {} WHERE TRUE{}", sql.table, sql.filter))
                .ok()
                .filter(|statement| statement.parameter_count() == 0)
                .ok_or_else(|| wrong(spec, "`filter` is no SQL condition on its columns"))?;
        }
        if spec.member.is_some() {
            let no_json = unreadable_documents(connection, spec, sql)?;
            if no_json > 0 {
                find(format!("{no_json} rows of table {} hold no JSON text and will be listed as failed", spec.table));
            }
        }
        if self.bare_rowid {
            find(format!(
                "table {} has no column for its rowid: VACUUM may change it, do not run it meanwhile",
                spec.table
            ));
        }
        if !self.generated.is_empty() {
            find(format!(
                "table {} has generated columns ({}), which follow the value if they are made of it",
                spec.table,
                self.generated.join(", ")
            ));
        }
        findings.extend(spec.findings(str::eq_ignore_ascii_case));
        Ok(findings)
    }
}

/// Whether the table has triggers that are not ours.
pub(super) fn has_triggers(connection: &Connection, spec: &ColumnSpec) -> Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM main.sqlite_master WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE
             AND substr(name, 1, length(?2)) <> ?2)",
        )
        .and_then(|mut statement| statement.query_row([spec.table.as_str(), fence::NAMES], |row| row.get(0)))
        .map_err(|error| looking(spec, &error))
}

/// The triggers, not ours, that the engine compiles into an update of the value: those of other
/// columns are not among them, those that follow from a trigger are.
fn fired_triggers(connection: &Connection, spec: &ColumnSpec, sql: &Sql) -> Result<Vec<String>> {
    let compile = |error: rusqlite::Error| match failed("", &error) {
        busy @ Error::Temporary { .. } => busy,
        _ => wrong(
            spec,
            "the value cannot be set: a trigger, an index or a constraint needs what only the application defines",
        ),
    };
    let mut statement = connection.prepare(&format!("EXPLAIN {}", sql.update)).map_err(compile)?;
    let mut steps = statement.raw_query();
    let mut names = Vec::new();
    while let Some(step) = steps.next().map_err(|error| looking(spec, &error))? {
        let text: Option<String> = step.get("p4").unwrap_or_default();
        if let Some(name) = text.as_deref().and_then(|text| text.strip_prefix("-- TRIGGER "))
            && !name.starts_with(fence::NAMES)
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// How many rows hold no JSON text; refused where all do.
fn unreadable_documents(connection: &Connection, spec: &ColumnSpec, sql: &Sql) -> Result<u64> {
    let column = format!("{}.{}", quoted(&spec.table), sql.column);
    let (documents, readable): (u64, u64) = connection
        .query_row(
            &format!(
                "SELECT count({column}), count(CASE WHEN typeof({column}) = 'text' AND json_valid({column}) THEN 1 END) FROM {}",
                sql.table
            ),
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .map_err(|error| looking(spec, &error))?;
    if documents > 0 && readable == 0 {
        return Err(wrong(spec, &format!("column {} holds no JSON text, so it has no `member`", spec.value)));
    }
    Ok(documents - readable)
}

struct Declared {
    name: String,
    kind: String,
    not_null: bool,
    primary: bool,
    generated: bool,
}

impl Declared {
    /// Whether the affinity is TEXT or BLOB (sqlite.org/datatype3.html, 3.1).
    fn keeps_classes(&self) -> bool {
        let kind = self.kind.to_ascii_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| kind.contains(part));
        !has(&["INT"]) && (kind.is_empty() || has(&["CHAR", "CLOB", "TEXT", "BLOB"]))
    }
}

fn columns(connection: &Connection, spec: &ColumnSpec) -> Result<Vec<Declared>> {
    let list = || -> rusqlite::Result<Vec<Declared>> {
        let mut statement = connection.prepare_cached(
            "SELECT name, type, \"notnull\", pk > 0, hidden >= 2 FROM pragma_table_xinfo(?1, 'main')",
        )?;
        let rows = statement.query_map([&spec.table], |row| {
            Ok(Declared {
                name: row.get(0)?,
                kind: row.get(1)?,
                not_null: row.get(2)?,
                primary: row.get(3)?,
                generated: row.get(4)?,
            })
        })?;
        rows.collect()
    };
    list().map_err(|error| looking(spec, &error))
}

/// Whether a column is the INTEGER PRIMARY KEY, the only primary key without an index.
fn is_rowid_alias(connection: &Connection, spec: &ColumnSpec, columns: &[Declared], name: &str) -> Result<bool> {
    let mut primary = columns.iter().filter(|column| column.primary);
    let alone = primary.next().is_some_and(|column| column.name.eq_ignore_ascii_case(name)) && primary.next().is_none();
    let index: bool = connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1, 'main') WHERE origin = 'pk')",
            [&spec.table],
            |row| row.get(0),
        )
        .map_err(|error| looking(spec, &error))?;
    Ok(alone && !index)
}

/// The columns of `row` in the order of a full unique index over exactly these columns.
fn unique_index(connection: &Connection, spec: &ColumnSpec) -> Result<Option<Vec<Key>>> {
    let find = || -> rusqlite::Result<Option<Vec<Key>>> {
        let mut indexes = connection.prepare_cached(
            "SELECT name FROM pragma_index_list(?1, 'main') WHERE \"unique\" AND NOT partial ORDER BY seq",
        )?;
        let names = indexes.query_map([&spec.table], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        for name in names {
            let mut index = connection.prepare_cached(
                "SELECT coalesce(name, ''), coll FROM pragma_index_xinfo(?1, 'main') WHERE \"key\" ORDER BY seqno",
            )?;
            let found = index
                .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<Vec<(String, String)>>>()?;
            let keys: Option<Vec<Key>> = found.iter().map(|(name, collation)| key(spec, name, collation)).collect();
            if let Some(keys) = keys.filter(|keys| keys.len() == spec.row.len()) {
                return Ok(Some(keys));
            }
        }
        Ok(None)
    };
    find().map_err(|error| looking(spec, &error))
}

fn key(spec: &ColumnSpec, name: &str, collation: &str) -> Option<Key> {
    let place = spec.row.iter().position(|key| key.eq_ignore_ascii_case(name))?;
    // A collation of the application's own is not known here. What it tells apart differs by its
    // bytes, so comparing these finds every row, and only takes longer.
    let known = ["BINARY", "NOCASE", "RTRIM"].into_iter().find(|known| collation.eq_ignore_ascii_case(known));
    Some(Key { name: name.to_owned(), place, collation: Some(known.unwrap_or("BINARY")) })
}

fn is_rowid(name: &str) -> bool {
    ["rowid", "oid", "_rowid_"].iter().any(|alias| name.eq_ignore_ascii_case(alias))
}

fn looking(spec: &ColumnSpec, error: &rusqlite::Error) -> Error {
    failed(format!("look at table {}", spec.table), error)
}

fn wrong(spec: &ColumnSpec, reason: &str) -> Error {
    Error::Refused {
        reason: format!("column {}, table {}: {reason}", spec.name, spec.table),
        remedy: "correct the [[column]] in vault.toml".to_owned(),
    }
}
