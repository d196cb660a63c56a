//! Statements on one column, and cells on their way in and out.

use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};

use crate::column::{Cell, ColumnSpec, Page, Selection};
use crate::database::sqlite::{literal, quoted};
use crate::token::{MAGICS, PREFIX};

use super::table::Table;

/// The parts of statements that depend on the declaration and on the table's structure.
///
/// Names are qualified throughout: SQLite takes a quoted name that it does not know for a text.
pub(super) struct Sql {
    pub(super) table: String,
    /// The column, without its table.
    pub(super) column: String,
    /// The value: the column, or the member of its JSON object.
    pub(super) value: String,
    /// The first 22 characters of the value, also of a blob.
    pub(super) prefix: String,
    pub(super) filter: String,
    pub(super) update: String,
    /// Whether the row holds `?1`, and whether it still holds `?2`.
    pub(super) probe: String,
    keys: Vec<String>,
    /// The places of key columns in the row key, and how they are compared: in the order of the
    /// index, and with its collations, so that pages follow it and no two keys are equal.
    order: Vec<(usize, String)>,
    has_member: bool,
}

impl Sql {
    pub(super) fn new(spec: &ColumnSpec, table: &Table) -> Self {
        let name = quoted(&spec.table);
        let qualified = |column: &str| format!("{name}.{}", quoted(column));
        let column = quoted(&spec.value);
        let full = qualified(&spec.value);
        let value = value_of(spec, &full);
        let order: Vec<_> = table
            .keys
            .iter()
            .map(|key| {
                let collation = key.collation.map(|name| format!(" COLLATE {name}")).unwrap_or_default();
                (key.place, format!("{}{collation}", qualified(&key.name)))
            })
            .collect();
        let which =
            order.iter().map(|(place, key)| format!("{key} = ?{}", place + 3)).collect::<Vec<_>>().join(" AND ");
        // Text never equals a blob, and no collation of the column's makes two values equal.
        let holds = |mark: &str| format!("({value} COLLATE BINARY = {mark} AND typeof({value}) = typeof({mark}))");
        let set = match &spec.member {
            None => "?1".to_owned(),
            Some(member) => format!("json_set({full}, {}, ?1)", literal(&path(member))),
        };
        Self {
            update: format!("UPDATE main.{name} SET {column} = {set} WHERE {which} AND {}", holds("?2")),
            probe: format!("SELECT {} IS TRUE, {} IS TRUE FROM main.{name} WHERE {which}", holds("?1"), holds("?2")),
            prefix: prefix_of(&value),
            // The line break ends a comment.
            filter: match spec.filter.as_deref().map(str::trim) {
                None | Some("") => String::new(),
                Some(filter) => format!(" AND ({filter}\n)"),
            },
            table: format!("main.{name}"),
            column,
            value,
            keys: spec.row.iter().map(|name| qualified(name)).collect(),
            order,
            has_member: spec.member.is_some(),
        }
    }

    pub(super) fn select(&self, table: &str, page: &Page<'_>) -> (String, Vec<Value>) {
        let mut values: Vec<Value> = Vec::new();
        let mut mark = |value: Value| {
            values.push(value);
            format!("?{}", values.len())
        };
        let mut columns = vec![format!("{} AS vault_value", self.value)];
        columns.extend(self.keys.iter().enumerate().map(|(at, key)| format!("{key} AS vault_key_{at}")));
        columns.extend(
            page.columns
                .iter()
                .enumerate()
                .map(|(at, name)| format!("{}.{} AS vault_cell_{at}", quoted(table), quoted(name))),
        );
        let mut list = |prefixes: &[String]| {
            let marks: Vec<_> = prefixes.iter().map(|prefix| mark(Value::Text(prefix.clone()))).collect();
            marks.join(", ")
        };
        let wanted = match page.select {
            Selection::All => format!("octet_length({}) > 0", self.value),
            Selection::Except(prefixes) => {
                format!("octet_length({}) > 0 AND {} NOT IN ({})", self.value, self.prefix, list(prefixes))
            }
            Selection::Prefixes(prefixes) => {
                // Nobody knows what a document holds that cannot be read.
                let unreadable =
                    if self.has_member { format!(" OR {} = {UNREADABLE_SQL}", self.value) } else { String::new() };
                format!("({} IN ({}){unreadable})", self.prefix, list(prefixes))
            }
        };
        let order = self.order.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join(", ");
        let behind = page.after.map(|after| {
            let marks: Vec<_> = self
                .order
                .iter()
                .map(|(place, _)| mark(after.cells().get(*place).cloned().map_or(Value::Null, Value::from)))
                .collect();
            format!(" AND ({order}) > ({})", marks.join(", "))
        });
        // A page of no rows would look like the end.
        let limit = mark(Value::Integer(i64::try_from(page.limit.max(1)).unwrap_or(i64::MAX)));
        let statement = format!(
            "SELECT {columns} FROM {table} WHERE {wanted}{filter}{behind} ORDER BY {order} LIMIT {limit}",
            columns = columns.join(", "),
            table = self.table,
            filter = if page.filtered { &self.filter } else { "" },
            behind = behind.unwrap_or_default(),
        );
        (statement, values)
    }

    /// Counts values by what they begin with.
    pub(super) fn survey(&self) -> String {
        let Self { table, value, prefix, .. } = self;
        let magics = MAGICS.map(|magic| format!("'{magic}'")).join(", ");
        format!(
            "SELECT CASE WHEN {value} IS NULL OR octet_length({value}) = 0 THEN 'empty'
                         WHEN {prefix} GLOB '{TOKEN}' THEN {prefix}
                         WHEN substr({prefix}, 1, 4) IN ({magics}) THEN substr({prefix}, 1, 4)
                         ELSE 'other' END, count(*)
             FROM {table} GROUP BY 1 ORDER BY 1",
            TOKEN = format_args!("v[sk]1.[a-z]{}.", "[a-z2-7]".repeat(16)),
        )
    }

    /// Whether some row has no key.
    pub(super) fn has_nulls(&self) -> String {
        let nulls = self.keys.iter().map(|key| format!("{key} IS NULL")).collect::<Vec<_>>().join(" OR ");
        format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {nulls})", self.table)
    }
}

/// The value in a column that is called so: the column, or the member of its JSON object.
///
/// Nothing is there where the column is NULL, the document is `null`, or the object has no such
/// member or one that is null. What an application could read in another way is unreadable: a
/// document that is no object, a member that is no text, and one that is there twice, of which
/// SQLite takes the first and the readers of applications the last.
pub(super) fn value_of(spec: &ColumnSpec, column: &str) -> String {
    let Some(member) = &spec.member else { return column.to_owned() };
    let path = literal(&path(member));
    format!(
        "(CASE WHEN {column} IS NULL THEN NULL
               WHEN typeof({column}) <> 'text' OR NOT json_valid({column}) THEN {UNREADABLE_SQL}
               WHEN json_type({column}) = 'null' THEN NULL
               WHEN json_type({column}) <> 'object' THEN {UNREADABLE_SQL}
               WHEN json_type({column}, {path}) IS NULL THEN NULL
               WHEN json_type(json_remove({column}, {path}), {path}) IS NOT NULL THEN {UNREADABLE_SQL}
               WHEN json_type({column}, {path}) = 'null' THEN NULL
               WHEN json_type({column}, {path}) = 'text' THEN json_extract({column}, {path})
               ELSE {UNREADABLE_SQL} END)"
    )
}

/// The first 22 characters of a value, also of a blob.
pub(super) fn prefix_of(value: &str) -> String {
    format!("CAST(substr({value}, 1, {PREFIX}) AS TEXT)")
}

/// A value as a cell. What cannot be a sealed value becomes [`UNREADABLE`].
pub(super) fn value_cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
        ValueRef::Text(text) => match core::str::from_utf8(text) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => Cell::Blob(UNREADABLE.to_vec()),
        },
        ValueRef::Integer(_) | ValueRef::Real(_) => Cell::Blob(UNREADABLE.to_vec()),
    }
}

/// Whether a value can be compared with what the row holds now, and replaced.
pub(super) fn is_replaceable(cell: &Cell, member: bool) -> bool {
    match cell {
        Cell::Text(_) => true,
        Cell::Blob(bytes) => !member && bytes != UNREADABLE,
        _ => false,
    }
}

/// Any cell but a value; none for text that is not UTF-8, which no cell holds.
pub(super) fn cell(value: ValueRef<'_>) -> Option<Cell> {
    Some(match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Real(number) => Cell::Real(number),
        ValueRef::Text(text) => Cell::Text(core::str::from_utf8(text).ok()?.to_owned()),
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
    })
}

impl From<Cell> for Value {
    fn from(cell: Cell) -> Self {
        match cell {
            Cell::Blob(bytes) => Self::Blob(bytes),
            Cell::Integer(number) => Self::Integer(number),
            Cell::Null => Self::Null,
            Cell::Real(number) => Self::Real(number),
            Cell::Text(text) => Self::Text(text),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Blob(bytes) => ValueRef::Blob(bytes),
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Null => ValueRef::Null,
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// The path of a JSON member, its name written as JSON does.
fn path(member: &str) -> String {
    format!("$.{}", serde_json::Value::from(member))
}

/// What is read in place of a number, of text that is not UTF-8, and of a document that cannot be
/// looked into. No format begins so and it is not plain text: the row is listed.
const UNREADABLE: &[u8] = &[0xff];
pub(super) const UNREADABLE_SQL: &str = "x'ff'";

/// What the names of all fences begin with.
pub(super) const FENCE_NAMES: &str = "vault_core_fence_";
