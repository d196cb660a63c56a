//! What a table is made of, and whether it can be worked on without losing a row.

use rusqlite::{Connection, OptionalExtension};

use crate::column::ColumnSpec;
use crate::database::sqlite::failed;
use crate::error::{Error, Result};

/// What is known of a table that can be worked on.
pub(super) struct Table {
    /// The columns of the row key, in the order of the index that keeps them unique.
    pub(super) keys: Vec<Key>,
    /// Whether a key could be NULL, which nothing identifies.
    pub(super) nullable: bool,
    /// Whether the column keeps text and blobs as they are.
    pub(super) exact: bool,
    pub(super) generated: Vec<String>,
    /// Whether the key is a rowid without a column of its own.
    pub(super) bare_rowid: bool,
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

pub(super) fn looking(spec: &ColumnSpec, error: &rusqlite::Error) -> Error {
    failed(format!("look at table {}", spec.table), error)
}

pub(super) fn wrong(spec: &ColumnSpec, reason: &str) -> Error {
    Error::Refused {
        reason: format!("column {}, table {}: {reason}", spec.name, spec.table),
        remedy: "correct the [[column]] in vault.toml".to_owned(),
    }
}
