//! A registry in the SQLite database of a store.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::database::Access;
use crate::database::sqlite::{SqliteDatabase, failed};
use crate::error::{Error, Result};

use super::{Heartbeat, REMEMBERED, Registry, no_store};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS vault_keyring (
        keyring TEXT NOT NULL PRIMARY KEY,
        generation INTEGER NOT NULL,
        states TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS vault_process (
        keyring TEXT NOT NULL,
        process TEXT NOT NULL,
        heartbeat TEXT NOT NULL,
        seen INTEGER NOT NULL,
        PRIMARY KEY (keyring, process)
    ) STRICT, WITHOUT ROWID;";

#[derive(Debug)]
pub(super) struct SqliteRegistry {
    path: PathBuf,
    location: String,
    /// The open database and the process that opened it: SQLite's connections do not survive a
    /// fork.
    open: Mutex<Option<(u32, SqliteDatabase)>>,
}

impl SqliteRegistry {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), location: format!("store {}", path.display()), open: Mutex::new(None) }
    }

    fn database(&self) -> Result<SqliteDatabase> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        match open.take() {
            Some((owner, database)) if owner == process => {
                *open = Some((owner, database.clone()));
                return Ok(database);
            }
            // To close what the parent opened would disturb the parent.
            Some(inherited) => core::mem::forget(inherited),
            None => {}
        }
        let database = SqliteDatabase::open(&self.path, Access::Write)?;
        *open = Some((process, database.clone()));
        Ok(database)
    }

    fn fail(&self, error: &rusqlite::Error) -> Error {
        failed(format!("use the registry of {}", self.location), error)
    }

    /// What was never written has nothing to say.
    fn reading<T: Default>(&self, table: &str, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        if !self.path.exists() {
            return Ok(T::default());
        }
        let database = self.database()?;
        let connection = database.lock();
        let there = is_there(&connection, table).map_err(|error| self.fail(&error))?;
        if there { work(&connection).map_err(|error| self.fail(&error)) } else { Ok(T::default()) }
    }

    fn writing<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let database = self.database()?;
        let mut connection = database.lock();
        let write = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // What is no store yet may become one, and is not touched before.
            if !is_there(&transaction, "vault_store")? {
                return Ok(None);
            }
            transaction.execute_batch(SCHEMA)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(Some(done))
        };
        write().map_err(|error| self.fail(&error))?.ok_or_else(|| no_store(&self.location))
    }
}

impl Registry for SqliteRegistry {
    fn location(&self) -> &str {
        &self.location
    }

    fn states(&self, keyring: &str) -> Result<Option<String>> {
        self.reading("vault_keyring", |connection| {
            connection
                .prepare_cached("SELECT states FROM vault_keyring WHERE keyring = ?1")?
                .query_row([keyring], |row| row.get(0))
                .optional()
        })
    }

    fn replace_states(&self, keyring: &str, before: u64, generation: u64, text: &str) -> Result<bool> {
        self.writing(|connection| {
            let now = "(SELECT coalesce(max(generation), 0) FROM vault_keyring WHERE keyring = ?1)";
            let written = connection.execute(
                &format!("INSERT INTO vault_keyring SELECT ?1, ?2, ?3 WHERE {now} = ?4 \
                          ON CONFLICT (keyring) DO UPDATE SET generation = excluded.generation, states = excluded.states"),
                params![keyring, generation, text, before],
            )?;
            Ok(written == 1)
        })
    }

    fn beat(&self, keyring: &str, heartbeat: &Heartbeat) -> Result<()> {
        self.writing(|connection| {
            connection.execute(
                "INSERT INTO vault_process VALUES (?1, ?2, ?3, unixepoch()) ON CONFLICT (keyring, process) DO UPDATE \
                 SET heartbeat = excluded.heartbeat, seen = excluded.seen",
                params![keyring, heartbeat.id(), heartbeat.render()],
            )?;
            connection.execute("DELETE FROM vault_process WHERE seen < unixepoch() - ?1", [REMEMBERED])?;
            Ok(())
        })
    }

    fn heartbeats(&self, keyring: &str) -> Result<Vec<Heartbeat>> {
        let rows: Vec<(String, String)> = self.reading("vault_process", |connection| {
            connection
                .prepare_cached(
                    "SELECT process, heartbeat FROM vault_process \
                     WHERE keyring = ?1 AND seen >= unixepoch() - ?2 ORDER BY process",
                )?
                .query_map(params![keyring, REMEMBERED], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })?;
        Ok(rows.iter().map(|(process, text)| Heartbeat::told(process, text)).collect())
    }
}

/// Whether there is a table, by a statement: what the connection remembers of the schema may be older than
/// what another process has made.
fn is_there(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ?1)";
    connection.prepare_cached(sql)?.query_row([table], |row| row.get(0))
}
