//! Statements on one column, and cells on their way in and out.

use tokio_postgres::Row as SqlRow;
use tokio_postgres::types::{ToSql, Type};

use crate::column::{Cell, ColumnSpec, Page, RowKey, Selection};
use crate::database::postgres::{Parameter, get, literal, quoted};
use crate::error::Result;
use crate::token::{MAGICS, PREFIX};

use super::table::{CellKind, Kind, Table};

/// The parts of statements that depend on the declaration and on the table's structure.
///
/// Output columns have names of ours and ordering names the table's columns: a cast that has the
/// name of a column would be ordered by, as text. Functions, and operators on what is not exactly of
/// a type of the server's own, are named with their schema: the search path is the application's, for
/// its triggers, and whoever may create a function there could give it arguments that fit better.
pub(super) struct Sql {
    pub(super) path: String,
    /// The value: the column, or the member of its document.
    pub(super) value: String,
    /// The first 22 characters of the value, of the type that an index has.
    pub(super) prefix: String,
    /// The same as text.
    pub(super) prefix_text: String,
    /// The same in a constraint, which partitions take over under their own names.
    pub(super) prefix_bare: String,
    /// The same of the type that an index has.
    pub(super) prefix_index: String,
    /// Whether the document is one that has no members and is not null either; nothing where there
    /// is no document.
    odd: Option<String>,
    pub(super) filter: String,
    /// Replaces values where they still are what was read; waits for nobody for long.
    pub(super) quick_update: String,
    /// The same, passing over rows that others hold.
    pub(super) update: String,
    /// The same, waiting for these.
    pub(super) patient_update: String,
    /// How many rows hold what was written.
    pub(super) probe: String,
    /// How many rows hold what was written, and how many still what was read.
    pub(super) fate: String,
    /// Whether an update of the table fires triggers.
    pub(super) triggers: String,
    pub(super) kind: Kind,
    keys: Vec<KeyPart>,
    order: String,
    columns: String,
}

struct KeyPart {
    /// Its place in the row key.
    place: usize,
    cell: CellKind,
    column: String,
    cast: String,
    /// The schema of the operators that its type is ordered by, in quotes.
    operators: String,
}

impl Sql {
    pub(super) fn new(spec: &ColumnSpec, table: &Table) -> Self {
        let name = &table.name;
        let qualified = |column: &str| format!("{name}.{}", quoted(column));
        let full = qualified(&spec.value);
        let value = value_of(spec, &full);
        let (prefix, prefix_text) = prefix_of(table, &value);
        let (prefix_index, prefix_bare) = prefix_of(table, &value_of(spec, &quoted(&spec.value)));
        let document = |part: &str| format!("{}({part})", table.typeof_document);
        let odd =
            spec.member.as_ref().map(|_| format!("coalesce({} NOT IN ('null', 'object'), false)", document(&full)));
        let keys: Vec<KeyPart> = table
            .keys
            .iter()
            .map(|key| KeyPart {
                place: key.place,
                cell: key.cell,
                column: qualified(&key.name),
                cast: key.cast.clone(),
                operators: quoted(&key.operators),
            })
            .collect();
        let order = keys.iter().map(|key| key.column.as_str()).collect::<Vec<_>>().join(", ");
        let column_list = {
            let mut places: Vec<&KeyPart> = keys.iter().collect();
            places.sort_by_key(|key| key.place);
            let cells = places.iter().enumerate().map(|(at, key)| match key.cell {
                CellKind::Integer => format!("{}::int8 AS vault_key_{at}", key.column),
                CellKind::Shown | CellKind::Text => format!("{}::text AS vault_key_{at}", key.column),
            });
            cells.collect::<Vec<_>>().join(", ")
        };
        let shown = match (&spec.member, table.value) {
            (Some(member), _) => {
                let member = document(&format!("{full} OPERATOR(pg_catalog.->) {}", literal(member)));
                format!(
                    "{value} AS vault_value, {} OR coalesce({member} NOT IN ('null', 'string'), false) AS vault_odd",
                    odd.as_deref().unwrap_or("false")
                )
            }
            (None, Kind::Bytes) => format!("{value}::bytea AS vault_value, false AS vault_odd"),
            (None, _) => format!("{value}::text AS vault_value, false AS vault_odd"),
        };
        let mut sql = Self {
            path: table.path.clone(),
            value,
            prefix,
            prefix_text,
            prefix_bare,
            prefix_index,
            odd,
            // The line break ends a comment.
            filter: match spec.filter.as_deref().map(str::trim) {
                None | Some("") => String::new(),
                Some(filter) => format!(" AND ({filter}\n)"),
            },
            quick_update: String::new(),
            update: String::new(),
            patient_update: String::new(),
            probe: String::new(),
            fate: String::new(),
            triggers: triggers_of(table),
            kind: table.value,
            keys,
            order,
            columns: format!("{shown}, {column_list}"),
        };
        sql.quick_update = sql.quick_update_of(spec, table);
        sql.update = sql.update_of(spec, table, " SKIP LOCKED");
        sql.patient_update = sql.update_of(spec, table, "");
        sql.probe = format!(
            "SELECT count(*) FROM {} JOIN {} ON {} WHERE {}",
            sql.unnest(),
            table.path,
            sql.which("vault_new"),
            sql.holds("vault_new.new")
        );
        sql.fate = format!(
            "SELECT count(*) FILTER (WHERE {}), count(*) FILTER (WHERE {}) FROM {} JOIN {} ON {}",
            sql.holds("vault_new.new"),
            sql.holds("vault_new.old"),
            sql.unnest(),
            table.path,
            sql.which("vault_new")
        );
        sql
    }

    /// The batch where nobody is in the way: `$1` and following are arrays of key cells, then what
    /// was read and what is new.
    fn quick_update_of(&self, spec: &ColumnSpec, table: &Table) -> String {
        format!(
            "UPDATE {path} SET {set} FROM {new} WHERE {which} AND {old}",
            path = self.path,
            set = self.set(spec, table, "vault_new.new"),
            new = self.unnest(),
            which = self.which("vault_new"),
            old = self.holds("vault_new.old"),
        )
    }

    /// The batch that locks its rows first. Answers how many were held, updated, and updated to what
    /// was asked for, and whether triggers may have altered them since.
    fn update_of(&self, spec: &ColumnSpec, table: &Table, locked: &str) -> String {
        // By the key and not by the place: to see that takes a privilege on the whole table.
        format!(
            "WITH vault_held AS MATERIALIZED (
                SELECT vault_new.* FROM {unnest} JOIN {path} ON {which} WHERE {old} FOR NO KEY UPDATE OF {name}{locked}
             ), vault_done AS (
                UPDATE {path} SET {set} FROM vault_held WHERE {held} RETURNING {new} AS exact
             )
             SELECT (SELECT count(*) FROM vault_held), count(*), count(*) FILTER (WHERE exact), {triggers} FROM vault_done",
            name = table.name,
            unnest = self.unnest(),
            path = self.path,
            which = self.which("vault_new"),
            held = self.which("vault_held"),
            old = self.holds("vault_new.old"),
            set = self.set(spec, table, "vault_held.new"),
            new = self.holds("vault_held.new"),
            triggers = self.triggers,
        )
    }

    /// What an update sets.
    fn set(&self, spec: &ColumnSpec, table: &Table, new: &str) -> String {
        let column = quoted(&spec.value);
        match &spec.member {
            None => format!("{column} = {new}"),
            // Of the document as it is now, never of one that was read.
            Some(member) => format!(
                "{column} = pg_catalog.jsonb_set({}.{column}, ARRAY[{}], pg_catalog.to_jsonb({new}), false)",
                table.name,
                literal(member)
            ),
        }
    }

    fn unnest(&self) -> String {
        let keys = self.keys.len();
        let kind = match self.kind {
            Kind::Bytes => "bytea",
            Kind::Member | Kind::Text => "text",
        };
        let arrays = self.keys.iter().enumerate().map(|(at, key)| match key.cell {
            CellKind::Integer => format!("${}::int8[]", at + 1),
            CellKind::Shown | CellKind::Text => format!("${}::text[]", at + 1),
        });
        let arrays = arrays.collect::<Vec<_>>().join(", ");
        let names = (0..keys).map(|at| format!("k{at}")).collect::<Vec<_>>().join(", ");
        // Of several arrays, without a schema it is the server's own.
        format!(
            "unnest({arrays}, ${old}::{kind}[], ${new}::{kind}[]) AS vault_new({names}, old, new)",
            old = keys + 1,
            new = keys + 2,
        )
    }

    /// Whether the row is the one whose key `of` has.
    fn which(&self, of: &str) -> String {
        let keys = self.keys.iter().enumerate().map(|(at, key)| {
            let KeyPart { column, operators, cast, .. } = key;
            format!("{column} OPERATOR({operators}.=) {of}.k{at}{cast}")
        });
        keys.collect::<Vec<_>>().join(" AND ")
    }

    /// Whether the row is behind the one whose key is at `marks`, in the order of the key.
    fn behind(&self, marks: &[String]) -> String {
        let parts: Vec<(&KeyPart, &String)> = self.keys.iter().zip(marks).collect();
        let schema = self.keys.first().map(|key| &key.operators);
        if let Some(schema) = schema.filter(|schema| self.keys.iter().all(|key| key.operators == **schema)) {
            return format!("({}) OPERATOR({schema}.>) ({})", self.order, marks.join(", "));
        }
        // No comparison of whole rows takes operators of several schemas.
        parts.iter().rfold(String::new(), |rest, (key, mark)| {
            let KeyPart { column, operators, .. } = key;
            let greater = format!("{column} OPERATOR({operators}.>) {mark}");
            if rest.is_empty() {
                return greater;
            }
            format!("({greater} OR {column} OPERATOR({operators}.=) {mark} AND {rest})")
        })
    }

    /// Whether the row holds `what`, byte by byte.
    fn holds(&self, what: &str) -> String {
        match self.kind {
            Kind::Bytes => format!("{} OPERATOR(pg_catalog.=) {what}", self.value),
            Kind::Member | Kind::Text => format!("{} COLLATE \"C\" OPERATOR(pg_catalog.=) {what}", self.value),
        }
    }

    /// The statement of a page, and the values of its parameters.
    pub(super) fn select(&self, table: &Table, page: &Page<'_>, limit: usize) -> (String, Vec<Value>) {
        let mut values = Vec::new();
        let mut mark = |value: Value| {
            values.push(value);
            format!("${}", values.len())
        };
        let mut columns = self.columns.clone();
        for (at, name) in page.columns.iter().enumerate() {
            let column = format!("{}.{}", table.name, quoted(name));
            let cell = match table.cell(name) {
                CellKind::Integer => format!("{column}::int8"),
                CellKind::Shown => format!("({column} IS NOT NULL)"),
                CellKind::Text => format!("{column}::text"),
            };
            columns.push_str(&format!(", {cell} AS vault_cell_{at}"));
        }
        let wanted = self.wanted(page, &mut mark);
        let behind = page.after.map(|after| {
            let marks: Vec<_> = self
                .keys
                .iter()
                .map(|key| {
                    let cell = after.cells().get(key.place);
                    let value = match (key.cell, cell) {
                        (CellKind::Integer, Some(Cell::Integer(number))) => Value::Integer(Some(*number)),
                        (CellKind::Integer, _) => Value::Integer(None),
                        (_, Some(Cell::Text(text))) => Value::Text(Some(text.clone())),
                        (_, Some(Cell::Integer(number))) => Value::Text(Some(number.to_string())),
                        _ => Value::Text(None),
                    };
                    format!("{}{}", mark(value), key.cast)
                })
                .collect();
            format!(" AND {}", self.behind(&marks))
        });
        let statement = format!(
            "SELECT {columns} FROM {path} WHERE {wanted}{behind} ORDER BY {order} LIMIT {limit}",
            path = self.path,
            behind = behind.unwrap_or_default(),
            order = self.order,
        );
        (statement, values)
    }

    /// The statement that answers whether the table has any row of a page, and its parameters.
    pub(super) fn any(&self, page: &Page<'_>) -> (String, Vec<Value>) {
        let mut values = Vec::new();
        let wanted = self.wanted(page, &mut |value| {
            values.push(value);
            format!("${}", values.len())
        });
        (format!("SELECT EXISTS (SELECT FROM {} WHERE {wanted})", self.path), values)
    }

    /// The condition on the rows of a page.
    fn wanted(&self, page: &Page<'_>, mark: &mut dyn FnMut(Value) -> String) -> String {
        let Self { value, prefix, odd, .. } = self;
        // Nobody knows what a document holds that cannot be looked into.
        let or_odd = odd.as_ref().map(|odd| format!(" OR {odd}")).unwrap_or_default();
        let wanted = match page.select {
            Selection::All => format!("(pg_catalog.octet_length({value}) > 0{or_odd})"),
            Selection::Except(prefixes) => {
                let list = mark(self.prefixes(prefixes));
                format!(
                    "(pg_catalog.octet_length({value}) > 0 AND {prefix} OPERATOR(pg_catalog.<>) ALL ({list}){or_odd})"
                )
            }
            Selection::Prefixes(prefixes) => {
                format!("{prefix} OPERATOR(pg_catalog.=) ANY ({})", mark(self.prefixes(prefixes)))
            }
        };
        format!("{wanted}{}", if page.filtered { &self.filter } else { "" })
    }

    /// What values begin with, as an array of the type of the prefix.
    pub(super) fn prefixes(&self, prefixes: &[String]) -> Value {
        match self.kind {
            Kind::Bytes => Value::ManyBytes(prefixes.iter().map(|prefix| prefix.clone().into_bytes()).collect()),
            Kind::Member | Kind::Text => Value::ManyTexts(prefixes.iter().cloned().map(Some).collect()),
        }
    }

    /// Counts values by what they begin with.
    pub(super) fn survey(&self) -> String {
        let Self { path, value, prefix_text, odd, .. } = self;
        let magics = MAGICS.map(|magic| format!("'{magic}'")).join(", ");
        let odd = odd.as_ref().map(|odd| format!("WHEN {odd} THEN 'other' ")).unwrap_or_default();
        format!(
            "SELECT CASE {odd}WHEN {value} IS NULL OR pg_catalog.octet_length({value}) = 0 THEN 'empty'
                         WHEN pg_catalog.left({prefix_text}, 4) NOT IN ({magics}) THEN 'other'
                         WHEN {prefix_text} ~ '^v[sk]1[.][a-z][a-z2-7]{{16}}[.]$' THEN {prefix_text}
                         ELSE pg_catalog.left({prefix_text}, 4) END AS vault_kind, count(*)
             FROM {path} GROUP BY 1 ORDER BY 1"
        )
    }

    /// The cells of the row keys, column by column in the order of [`update`](Self::update).
    pub(super) fn key_arrays(&self, keys: &[&RowKey]) -> Vec<Value> {
        let column = |part: &KeyPart| match part.cell {
            CellKind::Integer => Value::ManyIntegers(
                keys.iter()
                    .map(|key| match key.cells().get(part.place) {
                        Some(Cell::Integer(number)) => Some(*number),
                        _ => None,
                    })
                    .collect(),
            ),
            CellKind::Shown | CellKind::Text => Value::ManyTexts(
                keys.iter()
                    .map(|key| match key.cells().get(part.place) {
                        Some(Cell::Text(text)) => Some(text.clone()),
                        _ => None,
                    })
                    .collect(),
            ),
        };
        self.keys.iter().map(column).collect()
    }

    /// The row key of a row of [`select`](Self::select).
    pub(super) fn row_key(&self, row: &SqlRow) -> Result<RowKey> {
        let mut parts: Vec<&KeyPart> = self.keys.iter().collect();
        parts.sort_by_key(|part| part.place);
        let cells = parts.iter().enumerate().map(|(at, part)| match part.cell {
            CellKind::Integer => Ok(Cell::Integer(get(row, 2 + at)?)),
            CellKind::Shown | CellKind::Text => Ok(Cell::Text(get(row, 2 + at)?)),
        });
        cells.collect::<Result<_>>().map(RowKey::new)
    }

    /// The value of a row of [`select`](Self::select). What cannot be a sealed value becomes
    /// [`UNREADABLE`].
    pub(super) fn value_cell(&self, row: &SqlRow) -> Result<Cell> {
        if get(row, 1)? {
            return Ok(Cell::Blob(UNREADABLE.to_vec()));
        }
        Ok(match self.kind {
            Kind::Bytes => get::<Option<Vec<u8>>>(row, 0)?.map_or(Cell::Null, Cell::Blob),
            Kind::Member | Kind::Text => get::<Option<String>>(row, 0)?.map_or(Cell::Null, Cell::Text),
        })
    }

    /// A cell of a context.
    pub(super) fn cell(&self, kind: CellKind, row: &SqlRow, at: usize) -> Result<Cell> {
        let at = 2 + self.keys.len() + at;
        Ok(match kind {
            CellKind::Integer => get::<Option<i64>>(row, at)?.map_or(Cell::Null, Cell::Integer),
            CellKind::Text => get::<Option<String>>(row, at)?.map_or(Cell::Null, Cell::Text),
            // Other types are no part of a context.
            CellKind::Shown => {
                if get(row, at)? {
                    Cell::Blob(Vec::new())
                } else {
                    Cell::Null
                }
            }
        })
    }

    /// Whether a value can be compared with what the row holds now, and replaced.
    pub(super) fn is_replaceable(&self, cell: &Cell) -> bool {
        match (self.kind, cell) {
            (Kind::Bytes, Cell::Blob(bytes)) => bytes != UNREADABLE,
            (Kind::Member | Kind::Text, Cell::Text(_)) => true,
            _ => false,
        }
    }
}

/// Whether an update of the table fires triggers, as an expression.
fn triggers_of(table: &Table) -> String {
    if table.partitioned {
        return "true".to_owned();
    }
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = '{}'::oid AND NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgtype::int4 & 16 <> 0)",
        table.oid
    )
}

/// The value in a column that is called so: the column, or the member of its document.
fn value_of(spec: &ColumnSpec, column: &str) -> String {
    match &spec.member {
        None => column.to_owned(),
        Some(member) => format!("({column} OPERATOR(pg_catalog.->>) {})", literal(member)),
    }
}

/// The first 22 characters of a value, of the type that an index has, and as text.
fn prefix_of(table: &Table, value: &str) -> (String, String) {
    let exact = if table.loose { " COLLATE \"C\"" } else { "" };
    match table.value {
        Kind::Bytes => {
            let prefix = format!("pg_catalog.substr({value}, 1, {PREFIX})");
            let text = format!("pg_catalog.encode({prefix}, 'escape')");
            (prefix, text)
        }
        Kind::Member | Kind::Text => {
            let prefix = format!("pg_catalog.left({value}{exact}, {PREFIX})");
            (prefix.clone(), prefix)
        }
    }
}

/// A parameter.
#[derive(Debug)]
pub(super) enum Value {
    Integer(Option<i64>),
    ManyBytes(Vec<Vec<u8>>),
    ManyIntegers(Vec<Option<i64>>),
    ManyTexts(Vec<Option<String>>),
    Text(Option<String>),
}

impl Value {
    pub(super) fn parameter(&self) -> Parameter<'_> {
        let (value, kind): (&(dyn ToSql + Sync), Type) = match self {
            Self::Integer(value) => (value, Type::INT8),
            Self::ManyBytes(value) => (value, Type::BYTEA_ARRAY),
            Self::ManyIntegers(value) => (value, Type::INT8_ARRAY),
            Self::ManyTexts(value) => (value, Type::TEXT_ARRAY),
            Self::Text(value) => (value, Type::TEXT),
        };
        (value, kind)
    }
}

/// What is read in place of a document that cannot be looked into, and of a member that is not text.
/// No format begins so and it is not plain text: the row is listed.
const UNREADABLE: &[u8] = &[0xff];
