//! A registry in the PostgreSQL database of a store.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::database::PostgresUrl;
use crate::database::postgres::{Client, Patience, SharedConnection, batch, execute, get, query};
use crate::error::Result;

use super::{Heartbeat, REMEMBERED, Registry, no_store};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS vault_core.keyring (
        keyring text COLLATE \"C\" NOT NULL PRIMARY KEY,
        generation bigint NOT NULL,
        states text NOT NULL
    );
    CREATE TABLE IF NOT EXISTS vault_core.node (
        keyring text COLLATE \"C\" NOT NULL,
        node text COLLATE \"C\" NOT NULL,
        kids text NOT NULL,
        generation bigint NOT NULL,
        beats bigint NOT NULL,
        seen timestamptz NOT NULL,
        PRIMARY KEY (keyring, node)
    )";

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
    fn reading<T: Default>(&self, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<T> {
        self.connection.database()?.transact(Patience::Short, |client| {
            if is_there(client, &self.action(), "node")? { work(client) } else { Ok(T::default()) }
        })
    }

    fn writing<T>(&self, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<T> {
        self.connection.database()?.transact(Patience::Short, |client| {
            // Who may only write rows makes no tables.
            if !is_there(client, &self.action(), "node")? {
                // What is no store yet may become one, and is not touched before.
                if !is_there(client, &self.action(), "store")? {
                    return Err(no_store(&self.location));
                }
                batch(client, &self.action(), SCHEMA)?;
            }
            work(client)
        })
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
        self.reading(|client| {
            let sql = "SELECT states FROM vault_core.keyring WHERE keyring = $1";
            let rows = query(client, &self.action(), sql, &[(&keyring, Type::TEXT)])?;
            rows.first().map(|row| get(row, 0)).transpose()
        })
    }

    fn replace_states(&self, keyring: &str, before: u64, generation: u64, text: &str) -> Result<bool> {
        let (before, generation) = (signed(before), signed(generation));
        self.writing(|client| {
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
        let (kids, generation) = (heartbeat.kids_as_text(), signed(heartbeat.generation));
        self.writing(|client| {
            execute(
                client,
                &self.action(),
                "INSERT INTO vault_core.node VALUES ($1, $2, $3, $4, 1, now()) ON CONFLICT (keyring, node) DO UPDATE \
                 SET kids = excluded.kids, generation = excluded.generation, beats = node.beats + 1, seen = now()",
                &[
                    (&keyring, Type::TEXT),
                    (&heartbeat.node, Type::TEXT),
                    (&kids, Type::TEXT),
                    (&generation, Type::INT8),
                ],
            )?;
            let forget = format!("DELETE FROM vault_core.node WHERE seen < now() - interval '{REMEMBERED} seconds'");
            execute(client, &self.action(), &forget, &[])?;
            Ok(())
        })
    }

    fn heartbeats(&self, keyring: &str) -> Result<Vec<Heartbeat>> {
        self.reading(|client| {
            let sql = "SELECT node, kids, generation, beats FROM vault_core.node WHERE keyring = $1 ORDER BY node";
            let rows = query(client, &self.action(), sql, &[(&keyring, Type::TEXT)])?;
            rows.iter()
                .map(|row| Heartbeat::of_texts(get(row, 0)?, get(row, 1)?, number(row, 2)?, number(row, 3)?))
                .collect()
        })
    }
}

fn is_there(client: &mut Client, action: &str, table: &str) -> Result<bool> {
    let table = format!("vault_core.{table}");
    let rows = query(client, action, "SELECT to_regclass($1) IS NOT NULL", &[(&table, Type::TEXT)])?;
    rows.first().map_or(Ok(false), |row| get(row, 0))
}

fn number(row: &Row, at: usize) -> Result<u64> {
    Ok(u64::try_from(get::<i64>(row, at)?).unwrap_or_default())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
