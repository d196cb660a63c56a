//! Columns of SQLite databases.

mod check;
mod fence;
mod runs;

use std::sync::Arc;

use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, TransactionBehavior, params_from_iter};

use crate::database::sqlite::{SqliteDatabase, failed, literal, quoted, reason};
use crate::error::{Error, Result};
use crate::key::KeyId;

use super::{
    Cell, Column, ColumnSpec, Finding, Page, Progress, Row, RowChange, RowKey, Run, Selection, Survey, Written,
};

/// Bytes of values after which a page ends, so that long values do not fill the memory.
const PAGE_BYTES: usize = 8 << 20;

/// A column of an SQLite database.
pub struct SqliteColumn {
    database: SqliteDatabase,
    spec: ColumnSpec,
    sql: Sql,
    /// Triggers of the application may ignore or rewrite an update.
    triggers: bool,
}

/// The parts of statements that depend on the declaration only.
struct Sql {
    table: String,
    column: String,
    /// The value: the column, or the member of its JSON object.
    value: String,
    /// The first 22 characters of the value, also of a blob.
    prefix: String,
    /// The columns of the row key, and the same for comparing and ordering: as bytes.
    keys: Vec<String>,
    ordered: Vec<String>,
    filter: String,
    update: String,
    probe: String,
}

impl SqliteColumn {
    /// A column of an open database.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] or [`Error::Database`] if the table is not as declared.
    pub fn new(database: SqliteDatabase, spec: ColumnSpec) -> Result<Self> {
        let (sql, triggers) = {
            let connection = database.lock();
            check::table(&connection, &spec)?;
            (Sql::new(&connection, &spec)?, check::has_triggers(&connection, &spec)?)
        };
        Ok(Self { database, spec, sql, triggers })
    }

    fn action(&self, what: &str) -> String {
        format!("{what} column {}", self.spec.name)
    }

    /// Runs `work` in a transaction of its own, or inside the exclusive one.
    fn transact<T>(&self, what: &str, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut connection = self.database.lock();
        let fail = |error: rusqlite::Error| failed(self.action(what), &error);
        if connection.is_autocommit() {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
            let done = work(&transaction)?;
            transaction.commit().map_err(fail)?;
            return Ok(done);
        }
        let savepoint = connection.savepoint().map_err(fail)?;
        let done = work(&savepoint)?;
        savepoint.commit().map_err(fail)?;
        Ok(done)
    }

    fn execute(&self, what: &str, sql: &str) -> Result<()> {
        self.database.lock().execute_batch(sql).map_err(|error| failed(self.action(what), &error))
    }

    /// Replaces one value where it still is what was read; whether it was.
    fn replace(&self, connection: &Connection, change: &RowChange) -> Result<Replaced, rusqlite::Error> {
        let new = match change.old {
            Cell::Blob(_) => ValueRef::Blob(change.new.as_bytes()),
            _ => ValueRef::Text(change.new.as_bytes()),
        };
        let new = ToSqlOutput::Borrowed(new);
        let mut values: Vec<&dyn ToSql> = vec![&new, &change.old];
        for cell in change.key.cells() {
            values.push(cell);
        }
        let changed = connection.prepare_cached(&self.sql.update)?.execute(&*values)?;
        if !self.triggers {
            return Ok(if changed == 1 { Replaced::Yes } else { Replaced::Lost });
        }
        // A trigger may have ignored the update or written something else.
        let mut values: Vec<&dyn ToSql> = vec![&new, &change.old];
        for cell in change.key.cells() {
            values.push(cell);
        }
        let now: Option<(bool, bool)> = connection
            .prepare_cached(&self.sql.probe)?
            .query(&*values)?
            .next()?
            .map(|row| Ok::<_, rusqlite::Error>((row.get(0)?, row.get(1)?)))
            .transpose()?;
        Ok(match now {
            Some((true, _)) if changed == 1 => Replaced::Yes,
            Some((_, true)) => Replaced::Refused,
            Some(_) if changed == 1 => Replaced::Refused,
            _ => Replaced::Lost,
        })
    }

    fn write_rows(
        &self,
        connection: &Connection,
        changes: &[RowChange],
        one_by_one: bool,
    ) -> Result<Written, rusqlite::Error> {
        let mut written = Written::default();
        for change in changes {
            let replaced = if one_by_one {
                connection.execute_batch("SAVEPOINT vault_core_row")?;
                let replaced = self.replace(connection, change);
                let end = if matches!(replaced, Ok(Replaced::Refused) | Err(_)) {
                    "ROLLBACK TO vault_core_row; RELEASE vault_core_row"
                } else {
                    "RELEASE vault_core_row"
                };
                connection.execute_batch(end)?;
                replaced
            } else {
                self.replace(connection, change)
            };
            match replaced {
                Ok(Replaced::Yes) => written.rewritten += 1,
                Ok(Replaced::Lost) => written.lost += 1,
                Ok(Replaced::Refused) if one_by_one => {
                    written.failed.push((change.key.clone(), "a trigger ignored or altered the update".to_owned()));
                }
                Ok(Replaced::Refused) => return self.again_one_by_one(connection, changes),
                Err(error) if one_by_one => written.failed.push((change.key.clone(), reason(&error))),
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    fn again_one_by_one(&self, connection: &Connection, changes: &[RowChange]) -> Result<Written, rusqlite::Error> {
        connection.execute_batch("ROLLBACK TO vault_core_batch")?;
        self.write_rows(connection, changes, true)
    }
}

enum Replaced {
    Lost,
    Refused,
    Yes,
}

impl Column for SqliteColumn {
    fn spec(&self) -> &ColumnSpec {
        &self.spec
    }

    fn database(&self) -> &str {
        self.database.path()
    }

    fn check(&mut self) -> Result<Vec<Finding>> {
        check::findings(&self.database.lock(), &self.spec)
    }

    fn survey(&mut self) -> Result<Survey> {
        let Sql { table, value, prefix, .. } = &self.sql;
        let statement = format!(
            "SELECT CASE WHEN {value} IS NULL OR length({value}) = 0 THEN 'empty'
                         WHEN substr({prefix}, 1, 4) IN ('vs1.', 'vk1.') THEN {prefix}
                         ELSE 'other' END AS kind, count(*)
             FROM {table} GROUP BY kind"
        );
        let mut survey = Survey::default();
        let mut count = || -> rusqlite::Result<()> {
            let connection = self.database.lock();
            let mut statement = connection.prepare(&statement)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (kind, rows): (String, u64) = (row.get(0)?, row.get(1)?);
                match kind.as_str() {
                    "empty" => survey.empty = rows,
                    "other" => survey.other = rows,
                    _ => survey.tokens.push((kind, rows)),
                }
            }
            Ok(())
        };
        let counted = count();
        counted.map_err(|error| failed(self.action("count"), &error))?;
        Ok(survey)
    }

    fn read(&mut self, page: &Page<'_>) -> Result<Vec<Row>> {
        let (statement, values) = self.sql.select(page);
        let read = |connection: &Connection| -> rusqlite::Result<Vec<Row>> {
            let mut statement = connection.prepare_cached(&statement)?;
            let mut found = statement.query(params_from_iter(values))?;
            let (mut rows, mut bytes) = (Vec::with_capacity(page.limit), 0);
            while let Some(row) = found.next()? {
                let cell = |at: usize| row.get_ref(at).map(Cell::from);
                let value = cell(0)?;
                bytes += value.as_bytes().len();
                let keys = (1..=self.sql.keys.len()).map(cell).collect::<rusqlite::Result<_>>()?;
                let first = 1 + self.sql.keys.len();
                let cells = (first..first + page.columns.len()).map(cell).collect::<rusqlite::Result<_>>()?;
                rows.push(Row::new(RowKey::new(keys), value, Arc::clone(page.columns), cells));
                if bytes >= PAGE_BYTES {
                    break;
                }
            }
            Ok(rows)
        };
        read(&self.database.lock()).map_err(|error| failed(self.action("read"), &error))
    }

    fn write(&mut self, changes: &[RowChange], progress: &Progress<'_>) -> Result<Written> {
        if self.spec.immutable {
            return Err(Error::Refused {
                reason: format!("column {} is immutable", self.spec.name),
                remedy: "keep its keys; nothing is ever written there".to_owned(),
            });
        }
        self.transact("write", |connection| {
            let fail = |error: rusqlite::Error| failed(self.action("write"), &error);
            connection.execute_batch("SAVEPOINT vault_core_batch").map_err(fail)?;
            let written = match self.write_rows(connection, changes, false) {
                // A full disk is no fault of a row, and a lock is none either.
                Err(error) if is_fault_of_a_row(&error) => self.again_one_by_one(connection, changes),
                other => other,
            }
            .map_err(fail)?;
            connection.execute_batch("RELEASE vault_core_batch").map_err(fail)?;
            runs::record(connection, &self.spec.name, progress, &written)?;
            Ok(written)
        })
    }

    fn begin_exclusive(&mut self) -> Result<()> {
        self.execute("lock the database of", "BEGIN EXCLUSIVE")
    }

    fn commit(&mut self) -> Result<()> {
        self.execute("commit the changes of", "COMMIT")
    }

    fn rollback(&mut self) -> Result<()> {
        // Some failures have ended the transaction already.
        if self.database.lock().is_autocommit() { Ok(()) } else { self.execute("undo the changes of", "ROLLBACK") }
    }

    fn run(&mut self) -> Result<Option<Run>> {
        runs::find(&self.database.lock(), &self.spec.name)
    }

    fn open_run(&mut self, run: &Run) -> Result<Run> {
        self.transact("record a run over", |connection| runs::open(connection, &self.spec.name, run))
    }

    fn close_run(&mut self) -> Result<()> {
        if !runs::exist(&self.database.lock())? {
            return Ok(());
        }
        self.transact("forget the run over", |connection| runs::close(connection, &self.spec.name))
    }

    fn fence(&mut self, kids: &[KeyId]) -> Result<()> {
        self.transact("fence", |connection| fence::put_up(connection, &self.spec, &self.sql, kids))
    }

    fn fenced(&mut self) -> Result<Vec<KeyId>> {
        fence::find(&self.database.lock(), &self.spec)
    }

    fn unfence(&mut self) -> Result<()> {
        if self.fenced()?.is_empty() {
            return Ok(());
        }
        self.transact("take the fence down of", |connection| fence::take_down(connection, &self.spec))
    }

    fn finish(&mut self) -> Result<()> {
        let connection = self.database.lock();
        let fail = |error: rusqlite::Error| failed(self.action("tidy up"), &error);
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(fail)?;
        if mode.eq_ignore_ascii_case("wal") {
            // Readers may hold the log; the next checkpoint takes what this one leaves.
            match connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
                Ok(()) => {}
                Err(error) if matches!(failed("", &error), Error::Temporary { .. }) => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(())
    }
}

impl Sql {
    fn new(connection: &Connection, spec: &ColumnSpec) -> Result<Self> {
        let table = quoted(&spec.table);
        let column = quoted(&spec.value);
        let value = value_of(spec, &column);
        let keys: Vec<String> = spec.row.iter().map(|name| quoted(name)).collect();
        let mut ordered = Vec::new();
        for name in &spec.row {
            // Another collation could hold different keys for equal, and rows would be skipped.
            let collation = if check::is_integer(connection, spec, name)? { "" } else { " COLLATE BINARY" };
            ordered.push(format!("{}{collation}", quoted(name)));
        }
        let which = ordered
            .iter()
            .enumerate()
            .map(|(at, key)| format!("{key} = ?{}", at + 3))
            .collect::<Vec<_>>()
            .join(" AND ");
        let set = match &spec.member {
            None => "?1".to_owned(),
            Some(member) => format!("json_set({column}, {}, ?1)", literal(&path(member))),
        };
        Ok(Self {
            update: format!("UPDATE {table} SET {column} = {set} WHERE {which} AND {value} = ?2 COLLATE BINARY"),
            probe: format!(
                "SELECT {value} = ?1 COLLATE BINARY, {value} = ?2 COLLATE BINARY FROM {table} WHERE {which}"
            ),
            prefix: format!("CAST(substr({value}, 1, 22) AS TEXT)"),
            filter: spec.filter.as_ref().map(|filter| format!(" AND ({filter})")).unwrap_or_default(),
            table,
            column,
            value,
            keys,
            ordered,
        })
    }

    fn select(&self, page: &Page<'_>) -> (String, Vec<Value>) {
        let mut values: Vec<Value> = Vec::new();
        let mut mark = |value: Value| {
            values.push(value);
            format!("?{}", values.len())
        };
        let mut columns = vec![format!("{} AS vault_value", self.value)];
        columns.extend(self.keys.iter().enumerate().map(|(at, key)| format!("{key} AS vault_key_{at}")));
        columns
            .extend(page.columns.iter().enumerate().map(|(at, name)| format!("{} AS vault_cell_{at}", quoted(name))));
        let wanted = match page.select {
            Selection::All => format!("{value} IS NOT NULL AND length({value}) > 0", value = self.value),
            Selection::Prefixes(prefixes) => {
                let marks: Vec<_> = prefixes.iter().map(|prefix| mark(Value::Text(prefix.clone()))).collect();
                format!("{} IN ({})", self.prefix, marks.join(", "))
            }
        };
        let behind = page.after.map(|after| {
            let marks: Vec<_> = after.cells().iter().map(|cell| mark(cell.clone().into())).collect();
            format!(" AND ({}) > ({})", self.ordered.join(", "), marks.join(", "))
        });
        let limit = mark(Value::Integer(i64::try_from(page.limit).unwrap_or(i64::MAX)));
        let statement = format!(
            "SELECT {columns} FROM {table} AS vault_table WHERE {wanted}{filter}{behind} ORDER BY {order} LIMIT {limit}",
            columns = columns.join(", "),
            table = self.table,
            filter = if page.filtered { &self.filter } else { "" },
            behind = behind.unwrap_or_default(),
            order = self.ordered.iter().map(|key| format!("vault_table.{key}")).collect::<Vec<_>>().join(", "),
        );
        (statement, values)
    }
}

/// The value in a column of that name: the column, or the member of its JSON object.
fn value_of(spec: &ColumnSpec, column: &str) -> String {
    match &spec.member {
        None => column.to_owned(),
        // What is no JSON gives a value in no format, so that the row is listed.
        Some(member) => format!(
            "(CASE WHEN {column} IS NULL THEN NULL WHEN json_valid({column}) THEN json_extract({column}, {}) ELSE x'ff' END)",
            literal(&path(member))
        ),
    }
}

/// The path of a JSON member.
fn path(member: &str) -> String {
    format!("$.\"{member}\"")
}

fn is_fault_of_a_row(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;

    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig | ErrorCode::Unknown)
    )
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => match core::str::from_utf8(text) {
                Ok(text) => Self::Text(text.to_owned()),
                Err(_) => Self::Blob(text.to_vec()),
            },
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
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
