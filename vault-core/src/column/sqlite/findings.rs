//! What is wrong with a table, or worth knowing, and only shows when statements are compiled or run.

use rusqlite::Connection;

use crate::column::{ColumnFinding, ColumnSpec};
use crate::database::sqlite::{failed, quoted};
use crate::error::{Error, Result};

use super::sql::{FENCE_NAMES, Sql};
use super::table::{Table, looking, wrong};

impl Table {
    /// Refuses rows that nothing identifies: pages would skip them in silence.
    pub(super) fn refuse_nulls(&self, connection: &Connection, spec: &ColumnSpec, sql: &Sql) -> Result<()> {
        let nulls = || connection.prepare_cached(&sql.has_nulls())?.query_row([], |row| row.get(0));
        if self.nullable && nulls().map_err(|error| looking(spec, &error))? {
            return Err(wrong(spec, "`row` is NULL in some rows, which nothing identifies"));
        }
        Ok(())
    }

    /// What is allowed and worth knowing; refuses what only shows when statements are compiled.
    pub(super) fn findings(&self, connection: &Connection, spec: &ColumnSpec, sql: &Sql) -> Result<Vec<ColumnFinding>> {
        self.refuse_nulls(connection, spec, sql)?;
        let mut findings = Vec::new();
        let mut find = |text: String| findings.push(ColumnFinding::new(text));
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
        .and_then(|mut statement| statement.query_row([spec.table.as_str(), FENCE_NAMES], |row| row.get(0)))
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
            && !name.starts_with(FENCE_NAMES)
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
