//! A registry in the PostgreSQL database of a store.

use tokio_postgres::types::Type;

use crate::database::PostgresUrl;
use crate::database::postgres::{Client, Patience, SharedConnection, batch, execute, get, query, refuse_additions};
use crate::error::Result;

use super::{Heartbeat, REMEMBERED, Registry, no_store};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS vault_core.keyring (
        keyring text COLLATE \"C\" NOT NULL PRIMARY KEY,
        generation bigint NOT NULL,
        states text NOT NULL
    );
    CREATE TABLE IF NOT EXISTS vault_core.process (
        keyring text COLLATE \"C\" NOT NULL,
        process text COLLATE \"C\" NOT NULL,
        heartbeat text NOT NULL,
        seen timestamptz NOT NULL,
        PRIMARY KEY (keyring, process)
    )";

/// Processes that make the tables take turns: two that make one at once are an error of the server.
const TURN: &str = "SELECT pg_advisory_xact_lock(8243124871204819)";

#[derive(Debug)]
pub(super) struct PostgresRegistry {
    connection: SharedConnection,
    location: String,
}

impl PostgresRegistry {
    pub(super) fn new(url: PostgresUrl) -> Self {
        let location = format!("store {url}");
        Self { connection: SharedConnection::new(url), location }
    }

    fn action(&self) -> String {
        format!("use the registry of {}", self.location)
    }

    /// What was never written has nothing to say.
    fn reading<T: Default>(&self, table: &str, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<T> {
        self.connection.database()?.transact(Patience::Short, |client| {
            if is_there(client, &self.action(), table)? { work(client) } else { Ok(T::default()) }
        })
    }

    fn writing<T>(&self, table: &str, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<T> {
        self.connection.database()?.transact(Patience::Short, |client| {
            // Who may only write rows makes no tables.
            if !is_there(client, &self.action(), table)? {
                // What is no store yet may become one, and is not touched before.
                if !is_there(client, &self.action(), "store")? {
                    return Err(no_store(&self.location));
                }
                batch(client, &self.action(), TURN)?;
                batch(client, &self.action(), SCHEMA)?;
            }
            work(client)
        })
    }

    /// Refuses tables to which somebody added what would run with the rights of whoever writes them.
    fn refuse_altered(&self, client: &mut Client) -> Result<()> {
        batch(client, &self.action(), "LOCK TABLE vault_core.keyring IN ROW EXCLUSIVE MODE")?;
        refuse_additions(client, &self.action(), &["keyring"])
    }
}

impl Registry for PostgresRegistry {
    fn location(&self) -> &str {
        &self.location
    }

    fn connection(&self) -> Option<&SharedConnection> {
        Some(&self.connection)
    }

    fn states(&self, keyring: &str) -> Result<Option<String>> {
        self.reading("keyring", |client| {
            let sql = "SELECT states FROM vault_core.keyring WHERE keyring = $1";
            let rows = query(client, &self.action(), sql, &[(&keyring, Type::TEXT)])?;
            rows.first().map(|row| get(row, 0)).transpose()
        })
    }

    fn replace_states(&self, keyring: &str, before: u64, generation: u64, text: &str) -> Result<bool> {
        let (before, generation) = (signed(before), signed(generation));
        self.writing("keyring", |client| {
            self.refuse_altered(client)?;
            let written = if before == 0 {
                execute(
                    client,
                    &self.action(),
                    "INSERT INTO vault_core.keyring VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                    &[(&keyring, Type::TEXT), (&generation, Type::INT8), (&text, Type::TEXT)],
                )?
            } else {
                execute(
                    client,
                    &self.action(),
                    "UPDATE vault_core.keyring SET generation = $2, states = $3 WHERE keyring = $1 AND generation = $4",
                    &[(&keyring, Type::TEXT), (&generation, Type::INT8), (&text, Type::TEXT), (&before, Type::INT8)],
                )?
            };
            Ok(written == 1)
        })
    }

    fn beat(&self, keyring: &str, heartbeat: &Heartbeat) -> Result<()> {
        let (process, text) = (heartbeat.id(), heartbeat.render());
        self.writing("process", |client| {
            execute(
                client,
                &self.action(),
                "INSERT INTO vault_core.process VALUES ($1, $2, $3, now()) ON CONFLICT (keyring, process) DO UPDATE \
                 SET heartbeat = excluded.heartbeat, seen = now()",
                &[(&keyring, Type::TEXT), (&process, Type::TEXT), (&text, Type::TEXT)],
            )?;
            let forget = format!("DELETE FROM vault_core.process WHERE seen < now() - interval '{REMEMBERED} seconds'");
            execute(client, &self.action(), &forget, &[])?;
            Ok(())
        })
    }

    fn heartbeats(&self, keyring: &str) -> Result<Vec<Heartbeat>> {
        self.reading("process", |client| {
            let sql = format!(
                "SELECT process, heartbeat FROM vault_core.process \
                 WHERE keyring = $1 AND seen >= now() - interval '{REMEMBERED} seconds' ORDER BY process"
            );
            let rows = query(client, &self.action(), &sql, &[(&keyring, Type::TEXT)])?;
            rows.iter().map(|row| Ok(Heartbeat::told(&get::<String>(row, 0)?, &get::<String>(row, 1)?))).collect()
        })
    }
}

fn is_there(client: &mut Client, action: &str, table: &str) -> Result<bool> {
    let table = format!("vault_core.{table}");
    let rows = query(client, action, "SELECT to_regclass($1) IS NOT NULL", &[(&table, Type::TEXT)])?;
    rows.first().map_or(Ok(false), |row| get(row, 0))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
