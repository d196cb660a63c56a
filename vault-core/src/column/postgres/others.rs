//! Other sessions of the database, and what they have begun.

use core::time::Duration;
use std::thread;
use std::time::Instant;

use tokio_postgres::types::Type;

use crate::column::{ColumnSpec, Session};
use crate::database::postgres::{Client, Patience, PostgresDatabase, get, query};
use crate::error::{Error, Result};

use super::table::Table;

/// Sessions of others that have touched the table, or may: whose role may read or write it. A session of this
/// process has its name, and is none of others. Without `pg_read_all_stats` the address is not shown.
pub(super) fn sessions(client: &mut Client, database: &str, spec: &ColumnSpec, table: &Table) -> Result<Vec<Session>> {
    let rows = query(
        client,
        &action("look for sessions that use", spec),
        "SELECT a.pid, coalesce(a.application_name, ''), coalesce(pg_catalog.host(a.client_addr), 'a local socket')
         FROM pg_catalog.pg_stat_activity a
         WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
           AND coalesce(a.backend_type, 'client backend') = 'client backend'
           AND a.application_name IS DISTINCT FROM pg_catalog.current_setting('application_name')
           AND (EXISTS (SELECT 1 FROM pg_catalog.pg_locks l
                        WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.relation = $1)
                OR pg_catalog.has_table_privilege(a.usesysid, $1, 'SELECT, INSERT, UPDATE')
                OR pg_catalog.has_any_column_privilege(a.usesysid, $1, 'SELECT, INSERT, UPDATE'))
         ORDER BY a.pid",
        &[(&table.oid, Type::OID)],
    )?;
    let session = |row| {
        let pid = u32::try_from(get::<i32>(row, 0)?).unwrap_or_default();
        Ok(Session { database: database.to_owned(), pid, program: get(row, 1)?, address: Some(get(row, 2)?) })
    };
    rows.iter().map(session).collect()
}

/// What keeps a fence away, whatever the rows are: it is for the owner of the table.
pub(super) fn owner(client: &mut Client, spec: &ColumnSpec, table: &Table) -> Result<Option<Error>> {
    let rows = query(
        client,
        &action("look at the owner of", spec),
        "SELECT pg_catalog.pg_has_role(relowner, 'USAGE'), pg_catalog.pg_get_userbyid(relowner)::text
         FROM pg_catalog.pg_class WHERE oid = $1",
        &[(&table.oid, Type::OID)],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(if get(row, 0)? {
        None
    } else {
        Some(Error::Refused {
            reason: format!("only the owner of table {} can fence column {}", spec.table, spec.name),
            remedy: format!(
                "connect as {}, or do the steps one by one: `vault rotate run`, and as the owner `vault rotate fence`",
                get::<String>(row, 1)?
            ),
        })
    })
}

/// Waits until no transaction of others is open that is open now.
pub(super) fn await_open(database: &PostgresDatabase, spec: &ColumnSpec, patience: Duration) -> Result<()> {
    let start = Instant::now();
    let before = open(database, spec)?;
    loop {
        let now = open(database, spec)?;
        let left: Vec<_> = now.iter().filter(|transaction| before.contains(transaction)).collect();
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() >= patience {
            let names: Vec<_> = left.iter().map(|(_, who)| who.as_str()).collect();
            return Err(Error::Temporary {
                reason: format!(
                    "transactions that are open since before the last change of keys may still write to column {}: {}",
                    spec.name,
                    names.join(", ")
                ),
                remedy: "let them end, or end them with pg_terminate_backend, and run the command again".to_owned(),
            });
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The transactions of others in this database, and whose they are. Everybody may see these.
fn open(database: &PostgresDatabase, spec: &ColumnSpec) -> Result<Vec<(String, String)>> {
    database.transact(Patience::Short, |client| {
        let rows = query(
            client,
            &action("look for open transactions beside", spec),
            "SELECT l.virtualtransaction,
                    pg_catalog.format('session %s (%s)', a.pid, coalesce(nullif(a.application_name, ''), '?'))
             FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
             WHERE l.locktype = 'virtualxid' AND l.granted AND l.mode = 'ExclusiveLock'
               AND a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
               AND coalesce(a.backend_type, 'client backend') = 'client backend'",
            &[],
        )?;
        rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
    })
}

fn action(what: &str, spec: &ColumnSpec) -> String {
    format!("{what} column {}", spec.name)
}
