//! The tables that runs are recorded in. They exist while a run is open.

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, Transaction, params};

use crate::column::{ColumnSpec, Progress, RowChange, RowKey, Run, Written, of_one_line};
use crate::database::sqlite::failed;
use crate::error::{Error, Result};
use crate::hex;
use crate::primitives;
use crate::time::Timestamp;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS main.vault_core_rotation (
    column_name TEXT NOT NULL PRIMARY KEY,
    run_id      TEXT NOT NULL,
    job         TEXT NOT NULL,
    target      TEXT NOT NULL,
    place       TEXT NOT NULL,
    row_count   INTEGER NOT NULL,
    generation  INTEGER NOT NULL,
    cursor      TEXT,
    rewritten   INTEGER NOT NULL,
    lost        INTEGER NOT NULL,
    started     INTEGER NOT NULL,
    heartbeat   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS main.vault_core_rotation_failure (
    column_name TEXT NOT NULL,
    row_key     TEXT NOT NULL,
    reason      TEXT NOT NULL,
    PRIMARY KEY (column_name, row_key)
) WITHOUT ROWID;
";

pub(super) fn exist(connection: &Connection) -> Result<bool> {
    connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name = 'vault_core_rotation')",
            [],
            |row| row.get(0),
        )
        .map_err(fail)
}

pub(super) fn find(connection: &Connection, spec: &ColumnSpec) -> Result<Option<Run>> {
    let _snapshot = snapshot(connection)?;
    if !exist(connection)? {
        return Ok(None);
    }
    let run = connection
        .query_row(
            "SELECT run_id, job, target, place, row_count, generation, cursor, rewritten, lost, started, heartbeat
             FROM main.vault_core_rotation WHERE column_name = ?1",
            [&spec.name],
            read,
        )
        .optional()
        .map_err(fail)?;
    // A cursor of another declaration costs a scan, and no more.
    let fits = |cursor: &RowKey| cursor.cells().len() == spec.row.len();
    Ok(run.map(|run| Run { cursor: run.cursor.filter(fits), ..run }))
}

pub(super) fn open(connection: &Connection, spec: &ColumnSpec, table: &str, new: &Run) -> Result<Run> {
    let column = &spec.name;
    connection.execute_batch(SCHEMA).map_err(fail)?;
    if let Some(run) = find(connection, spec)? {
        run.refuse_other(column, new)?;
        return Ok(run);
    }
    let id = primitives::random()?;
    let rows = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).map_err(fail)?;
    let run = Run { id: hex::encode(id.get(..8).unwrap_or_default()), rows, ..new.clone() };
    connection
        .execute(
            "INSERT INTO main.vault_core_rotation VALUES (?1, ?2, ?3, ?4, ?7, ?8, ?5, NULL, 0, 0, ?6, ?6)",
            params![column, run.id, run.job, run.target, run.generation, run.started.0, run.place, run.rows],
        )
        .map_err(fail)?;
    Ok(run)
}

/// Records a batch in the transaction that writes it.
pub(super) fn record(
    connection: &Connection,
    column: &str,
    progress: &Progress<'_>,
    changes: &[RowChange],
    written: &Written,
) -> Result<()> {
    let recorded = connection
        .prepare_cached(
            "UPDATE main.vault_core_rotation
             SET cursor = coalesce(?3, cursor), rewritten = rewritten + ?4, lost = lost + ?5, heartbeat = ?6
             WHERE column_name = ?1 AND run_id = ?2",
        )
        .and_then(|mut update| {
            update.execute(params![
                column,
                progress.run,
                progress.cursor.map(RowKey::to_text),
                written.rewritten,
                written.lost,
                Timestamp::now().0
            ])
        });
    match recorded {
        Ok(1) => {}
        // The table is gone with the run.
        Ok(_) | Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error { extended_code: 1, .. }, _)) => {
            return Err(Error::Temporary {
                reason: format!("the run over column {column} was forgotten or finished by somebody else"),
                remedy: "run the command again".to_owned(),
            });
        }
        Err(error) => return Err(fail(error)),
    }
    let failures = "SELECT EXISTS (SELECT 1 FROM main.vault_core_rotation_failure WHERE column_name = ?1)";
    let failed_before: bool = connection
        .prepare_cached(failures)
        .and_then(|mut found| found.query_row([column], |row| row.get(0)))
        .map_err(fail)?;
    if failed_before {
        // What fails again is listed again.
        for change in changes {
            connection
                .prepare_cached("DELETE FROM main.vault_core_rotation_failure WHERE column_name = ?1 AND row_key = ?2")
                .and_then(|mut delete| delete.execute([column, &change.key.to_text()]))
                .map_err(fail)?;
        }
    }
    insert_failures(connection, column, &mut progress.failed.iter().chain(&written.failed)).map_err(fail)
}

/// Lists `failed` in place of what was listed before, if the run is still open.
pub(super) fn list_failures(
    connection: &Connection,
    column: &str,
    run: &str,
    failed: &[(RowKey, String)],
) -> Result<()> {
    if !exist(connection)? {
        return Ok(());
    }
    let replace = || -> rusqlite::Result<()> {
        let open = "SELECT EXISTS (SELECT 1 FROM main.vault_core_rotation WHERE column_name = ?1 AND run_id = ?2)";
        if connection.query_row(open, [column, run], |row| row.get(0))? {
            connection.execute("DELETE FROM main.vault_core_rotation_failure WHERE column_name = ?1", [column])?;
            insert_failures(connection, column, &mut failed.iter())?;
        }
        Ok(())
    };
    replace().map_err(fail)
}

fn insert_failures(
    connection: &Connection,
    column: &str,
    failed: &mut dyn Iterator<Item = &(RowKey, String)>,
) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT OR REPLACE INTO main.vault_core_rotation_failure VALUES (?1, ?2, ?3)")?;
    for (key, reason) in failed {
        insert.execute(params![column, key.to_text(), reason])?;
    }
    Ok(())
}

/// The rows that failed when they were met last, in the order of their keys' texts.
pub(super) fn failures(connection: &Connection, column: &str) -> Result<Vec<(RowKey, String)>> {
    let _snapshot = snapshot(connection)?;
    if !exist(connection)? {
        return Ok(Vec::new());
    }
    let list = || -> rusqlite::Result<Vec<(RowKey, String)>> {
        let mut statement = connection.prepare_cached(
            "SELECT row_key, reason FROM main.vault_core_rotation_failure WHERE column_name = ?1 ORDER BY row_key",
        )?;
        let rows = statement.query_map([column], |row| {
            Ok((RowKey::parse(&row.get::<_, String>(0)?).unwrap_or_default(), of_one_line(&row.get::<_, String>(1)?)))
        })?;
        rows.collect()
    };
    list().map_err(fail)
}

pub(super) fn close(connection: &Connection, column: &str) -> Result<()> {
    if !exist(connection)? {
        return Ok(());
    }
    let forget = || -> rusqlite::Result<()> {
        connection.execute("DELETE FROM main.vault_core_rotation_failure WHERE column_name = ?1", [column])?;
        connection.execute("DELETE FROM main.vault_core_rotation WHERE column_name = ?1", [column])?;
        let left: bool =
            connection.query_row("SELECT EXISTS (SELECT 1 FROM main.vault_core_rotation)", [], |row| row.get(0))?;
        if !left {
            connection
                .execute_batch("DROP TABLE main.vault_core_rotation; DROP TABLE main.vault_core_rotation_failure;")?;
        }
        Ok(())
    };
    forget().map_err(fail)
}

/// A transaction, if there is none yet, so that tables that exist are there when they are read: a run that
/// ends takes them along.
fn snapshot(connection: &Connection) -> Result<Option<Transaction<'_>>> {
    connection.is_autocommit().then(|| connection.unchecked_transaction()).transpose().map_err(fail)
}

fn read(row: &SqlRow<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: row.get(0)?,
        job: of_one_line(&row.get::<_, String>(1)?),
        target: of_one_line(&row.get::<_, String>(2)?),
        place: of_one_line(&row.get::<_, String>(3)?),
        rows: row.get(4)?,
        generation: row.get(5)?,
        // A cursor that cannot be read costs a scan, and no more.
        cursor: row.get::<_, Option<String>>(6)?.as_deref().and_then(RowKey::parse),
        rewritten: row.get(7)?,
        lost: row.get(8)?,
        started: Timestamp(row.get(9)?),
        heartbeat: Timestamp(row.get(10)?),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
fn fail(error: rusqlite::Error) -> Error {
    failed("use the tables of the open runs", &error)
}
