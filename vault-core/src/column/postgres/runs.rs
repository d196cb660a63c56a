//! The tables that runs are recorded in. They exist while a run is open, in a schema of their own,
//! which stays. Each worker of a run has a row of its own: no batch waits for that of another.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::column::{ColumnSpec, Progress, RowChange, RowKey, Run, Written, of_one_line};
use crate::database::postgres::{Client, batch, execute, failed, get, query, quoted, refuse_additions};
use crate::error::{Error, Result};
use crate::hex;
use crate::primitives;
use crate::time::Timestamp;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS vault_core.rotation (
    column_name text NOT NULL PRIMARY KEY,
    run_id      text NOT NULL UNIQUE,
    job         text NOT NULL,
    target      text NOT NULL,
    place       text NOT NULL,
    row_count   bigint NOT NULL,
    generation  bigint NOT NULL,
    started     bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS vault_core.rotation_worker (
    run_id      text NOT NULL,
    worker      text NOT NULL,
    cursor      text,
    rewritten   bigint NOT NULL,
    lost        bigint NOT NULL,
    heartbeat   bigint NOT NULL,
    PRIMARY KEY (run_id, worker)
) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS vault_core.rotation_failure (
    column_name text NOT NULL,
    row_key     text NOT NULL,
    reason      text NOT NULL
)";

/// Whoever makes or removes the tables waits for others who do, until the end of the transaction.
const TURN: &str = "SELECT pg_advisory_xact_lock(8243124871204817)";

/// The tables, in the order of [`SCHEMA`].
const TABLES: &str = "vault_core.rotation, vault_core.rotation_worker, vault_core.rotation_failure";

pub(super) fn exist(client: &mut Client) -> Result<bool> {
    let rows = query(
        client,
        ACTION,
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                        WHERE n.nspname = 'vault_core' AND c.relname = 'rotation_failure' AND c.relkind = 'r')",
        &[],
    )?;
    rows.first().map_or(Ok(false), |row| get(row, 0))
}

pub(super) fn find(client: &mut Client, spec: &ColumnSpec) -> Result<Option<Run>> {
    if !exist(client)? {
        return Ok(None);
    }
    let found = client.query_typed_opt(
        "SELECT r.run_id, r.job, r.target, r.generation, r.started,
                (SELECT w.cursor FROM vault_core.rotation_worker w WHERE w.run_id = r.run_id AND w.cursor IS NOT NULL
                 ORDER BY w.heartbeat DESC LIMIT 1),
                coalesce(sum(w.rewritten), 0)::int8, coalesce(sum(w.lost), 0)::int8, coalesce(max(w.heartbeat), r.started), r.place, r.row_count
         FROM vault_core.rotation r LEFT JOIN vault_core.rotation_worker w USING (run_id)
         WHERE r.column_name = $1 GROUP BY r.column_name",
        &[(&spec.name, Type::TEXT)],
    );
    let row = match found {
        Ok(Some(row)) => row,
        Ok(None) => return Ok(None),
        // Removed since they were seen.
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(failed(ACTION, &error)),
    };
    let number = |at: usize| get::<i64>(&row, at).map(|number| u64::try_from(number).unwrap_or_default());
    // A cursor that cannot be read, or of another declaration, costs a scan, and no more.
    let cursor: Option<String> = get(&row, 5)?;
    let cursor = cursor.as_deref().and_then(RowKey::parse).filter(|cursor| cursor.cells().len() == spec.row.len());
    Ok(Some(Run {
        id: get(&row, 0)?,
        job: of_one_line(get(&row, 1)?),
        target: of_one_line(get(&row, 2)?),
        place: of_one_line(get(&row, 9)?),
        rows: number(10)?,
        generation: number(3)?,
        started: Timestamp(number(4)?),
        cursor,
        rewritten: number(6)?,
        lost: number(7)?,
        heartbeat: Timestamp(number(8)?),
    }))
}

/// Joins the open run as `worker`, or opens one.
pub(super) fn open(client: &mut Client, spec: &ColumnSpec, table: &str, new: &Run, worker: &str) -> Result<Run> {
    batch(client, ACTION, TURN)?;
    let schema = query(client, ACTION, "SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'vault_core'", &[])?;
    if schema.is_empty() {
        batch(client, ACTION, "CREATE SCHEMA vault_core")?;
    }
    if exist(client)? {
        refuse_altered(client, true)?;
    } else {
        batch(client, ACTION, SCHEMA)?;
    }
    let run = match find(client, spec)? {
        Some(run) => {
            run.refuse_other(&spec.name, new)?;
            run
        }
        None => {
            let id = primitives::random()?;
            let rows = query(client, ACTION, &format!("SELECT count(*) FROM {table}"), &[])?;
            let rows = rows.first().map_or(Ok(0), |row| get::<i64>(row, 0))?;
            let id = hex::encode(id.get(..8).unwrap_or_default());
            let run = Run { id, rows: u64::try_from(rows).unwrap_or_default(), ..new.clone() };
            execute(
                client,
                ACTION,
                "INSERT INTO vault_core.rotation VALUES ($1, $2, $3, $4, $7, $8, $5, $6)",
                &[
                    (&spec.name, Type::TEXT),
                    (&run.id, Type::TEXT),
                    (&run.job, Type::TEXT),
                    (&run.target, Type::TEXT),
                    (&signed(run.generation), Type::INT8),
                    (&signed(run.started.0), Type::INT8),
                    (&run.place, Type::TEXT),
                    (&rows, Type::INT8),
                ],
            )?;
            run
        }
    };
    execute(
        client,
        ACTION,
        "INSERT INTO vault_core.rotation_worker VALUES ($1, $2, NULL, 0, 0, $3) ON CONFLICT DO NOTHING",
        &[(&run.id, Type::TEXT), (&worker, Type::TEXT), (&signed(Timestamp::now().0), Type::INT8)],
    )?;
    Ok(run)
}

/// Records a batch in the transaction that writes it, and answers what the condition `asked` is then:
/// one message less than to ask by itself.
pub(super) fn record(
    client: &mut Client,
    column: &str,
    worker: &str,
    progress: &Progress<'_>,
    changes: &[RowChange],
    written: &Written,
    asked: &str,
) -> Result<bool> {
    let statement = format!(
        "UPDATE vault_core.rotation_worker
         SET cursor = coalesce($3, cursor), rewritten = rewritten + $4, lost = lost + $5, heartbeat = $6
         WHERE run_id = $1 AND worker = $2
         RETURNING EXISTS (SELECT FROM vault_core.rotation_failure WHERE column_name = $7), {asked}"
    );
    let recorded = client.query_typed_opt(
        &statement,
        &[
            (&progress.run, Type::TEXT),
            (&worker, Type::TEXT),
            (&progress.cursor.map(RowKey::to_text), Type::TEXT),
            (&signed(written.rewritten), Type::INT8),
            (&signed(written.lost), Type::INT8),
            (&signed(Timestamp::now().0), Type::INT8),
            (&column, Type::TEXT),
        ],
    );
    let (failed_before, answer): (bool, bool) = match recorded {
        Ok(Some(row)) => (get(&row, 0)?, get(&row, 1)?),
        Err(error) if !is_gone(&error) => return Err(failed(ACTION, &error)),
        // The row is gone with the run, or the table is.
        Ok(None) | Err(_) => {
            return Err(Error::Temporary {
                reason: format!("the run over column {column} was forgotten or finished by somebody else"),
                remedy: "run the command again".to_owned(),
            });
        }
    };
    let failures: Vec<_> = progress.failed.iter().chain(&written.failed).cloned().collect();
    if failed_before {
        // What fails again is listed again.
        let keys: Vec<String> = changes
            .iter()
            .map(|change| &change.key)
            .chain(failures.iter().map(|(key, _)| key))
            .map(RowKey::to_text)
            .collect();
        execute(
            client,
            ACTION,
            "DELETE FROM vault_core.rotation_failure WHERE column_name = $1 AND row_key = ANY ($2)",
            &[(&column, Type::TEXT), (&keys, Type::TEXT_ARRAY)],
        )?;
    }
    insert_failures(client, column, &failures)?;
    Ok(answer)
}

/// Lists `failures` in place of what was listed before, if the run is still open.
pub(super) fn list_failures(client: &mut Client, column: &str, run: &str, failures: &[(RowKey, String)]) -> Result<()> {
    if !exist(client)? {
        return Ok(());
    }
    refuse_altered(client, false)?;
    let open = query(
        client,
        ACTION,
        "SELECT FROM vault_core.rotation WHERE column_name = $1 AND run_id = $2 FOR UPDATE",
        &[(&column, Type::TEXT), (&run, Type::TEXT)],
    )?;
    if open.is_empty() {
        return Ok(());
    }
    execute(
        client,
        ACTION,
        "DELETE FROM vault_core.rotation_failure WHERE column_name = $1",
        &[(&column, Type::TEXT)],
    )?;
    insert_failures(client, column, failures)
}

fn insert_failures(client: &mut Client, column: &str, failures: &[(RowKey, String)]) -> Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = failures.iter().map(|(key, _)| key.to_text()).collect();
    let reasons: Vec<&str> = failures.iter().map(|(_, reason)| reason.as_str()).collect();
    execute(
        client,
        ACTION,
        "INSERT INTO vault_core.rotation_failure SELECT $1, u.row_key, u.reason FROM unnest($2, $3) AS u(row_key, reason)",
        &[(&column, Type::TEXT), (&keys, Type::TEXT_ARRAY), (&reasons, Type::TEXT_ARRAY)],
    )
    .map(drop)
}

/// The rows that failed when they were met last, in the order of their keys' texts.
pub(super) fn failures(client: &mut Client, column: &str) -> Result<Vec<(RowKey, String)>> {
    if !exist(client)? {
        return Ok(Vec::new());
    }
    let rows = query(
        client,
        ACTION,
        "SELECT row_key, reason FROM vault_core.rotation_failure WHERE column_name = $1 ORDER BY row_key COLLATE \"C\"",
        &[(&column, Type::TEXT)],
    )?;
    rows.iter()
        .map(|row| Ok((RowKey::parse(&get::<String>(row, 0)?).unwrap_or_default(), of_one_line(get(row, 1)?))))
        .collect()
}

pub(super) fn close(client: &mut Client, column: &str) -> Result<()> {
    batch(client, ACTION, TURN)?;
    if !exist(client)? {
        return Ok(());
    }
    refuse_altered(client, false)?;
    for statement in [
        "DELETE FROM vault_core.rotation_worker w USING vault_core.rotation r WHERE r.column_name = $1 AND w.run_id = r.run_id",
        "DELETE FROM vault_core.rotation_failure WHERE column_name = $1",
        "DELETE FROM vault_core.rotation WHERE column_name = $1",
    ] {
        execute(client, ACTION, statement, &[(&column, Type::TEXT)])?;
    }
    if query(client, ACTION, "SELECT FROM vault_core.rotation LIMIT 1", &[])?.is_empty() {
        batch(client, ACTION, &format!("DROP TABLE {TABLES}"))?;
    }
    Ok(())
}

/// Refuses tables that are not as they were made, before anything is written to them: what others hung
/// on them would run with the rights of this role. They stay as they are until the transaction ends.
/// With `own`, they have to be of the role itself, because batches are recorded in them later on.
fn refuse_altered(client: &mut Client, own: bool) -> Result<()> {
    // Whoever would add something waits.
    batch(client, ACTION, &format!("LOCK TABLE {TABLES} IN ROW EXCLUSIVE MODE"))?;
    refuse_additions(client, ACTION, &["rotation", "rotation_worker", "rotation_failure"])?;
    let rows = query(
        client,
        ACTION,
        "SELECT pg_catalog.pg_get_userbyid(c.relowner)::text
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'vault_core' AND c.relname IN ('rotation', 'rotation_worker', 'rotation_failure')
           AND c.relowner <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
           AND ($1 OR NOT pg_catalog.pg_has_role(current_user, c.relowner, 'MEMBER'))
         ORDER BY 1 LIMIT 1",
        &[(&own, Type::BOOL)],
    )?;
    let Some(row) = rows.first() else { return Ok(()) };
    Err(Error::Refused {
        reason: format!(
            "the record of the open runs in schema vault_core belongs to {}",
            quoted(&get::<String>(row, 0)?)
        ),
        remedy: "connect as that role, or finish the run as it; a member of it may verify, and forget the run"
            .to_owned(),
    })
}

fn is_gone(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_TABLE)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

const ACTION: &str = "use the tables of the open runs in schema vault_core";
