//! A store in an SQLite database of its own.

use core::time::Duration;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use crate::column_spec::ColumnFinding;
use crate::database::Access;
use crate::database::sqlite::{SqliteDatabase, failed};
use crate::error::{Error, Result};
use crate::file;
use crate::hex;
use crate::key::{KeyId, MasterKey};
use crate::keyring::Keyring;
use crate::name::{SecretName, Version};
use crate::primitives;
use crate::time::Timestamp;
use crate::token::{HARD_LIMIT, KID_IN_SQL, Token};

use super::{DEFAULT_KEEP, Entry, EntryKey, EntryName, Guard, NewEntry, Replacement, Store};

const FORMAT: &str = "vault-store/1";

/// How long a change waits for others. SQLite gives nobody a turn by order of arrival, so where many
/// processes change a store, one may wait for long.
const PATIENCE: Duration = Duration::from_secs(30);

/// An absent tenant is an empty text here, which no tenant is.
const SCHEMA: &str = "
    CREATE TABLE vault_store (
        format TEXT NOT NULL,
        store_id TEXT NOT NULL,
        generation INTEGER NOT NULL,
        keyring_generation INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE vault_store_secret (
        name TEXT NOT NULL,
        tenant TEXT NOT NULL,
        version INTEGER NOT NULL,
        purpose TEXT NOT NULL,
        token TEXT NOT NULL,
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        PRIMARY KEY (name, tenant, version)
    ) STRICT, WITHOUT ROWID;";

const SELECT: &str = "SELECT name, tenant, version, purpose, token, created, updated FROM vault_store_secret";

/// A store in an SQLite database of its own: for many secrets, and many writers.
///
/// It is in WAL mode, every commit is flushed, and what is deleted is overwritten. Whoever can
/// write the file can remove secrets or put older tokens of them back; a [`FileStore`] notices
/// that.
///
/// [`FileStore`]: super::FileStore
pub struct SqliteStore {
    path: PathBuf,
    guard: Guard,
    /// The open database and the process that opened it: SQLite's connections do not survive a
    /// fork.
    open: Mutex<Option<(u32, SqliteDatabase)>>,
}

impl SqliteStore {
    /// The store at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, keyring: Keyring<MasterKey>) -> Self {
        let path = path.into();
        let location = format!("store {}", path.display());
        Self { path, guard: Guard { keyring, location, keep: DEFAULT_KEEP }, open: Mutex::new(None) }
    }

    /// Keeps so many previous versions of each secret.
    #[must_use]
    pub fn with_keep(mut self, keep: u32) -> Self {
        self.guard.keep = keep;
        self
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
        let database = self.connect()?;
        *open = Some((process, database.clone()));
        Ok(database)
    }

    fn connect(&self) -> Result<SqliteDatabase> {
        if !self.exists()? {
            return Err(self.guard.unreachable("it does not exist; `vault init --store-only` makes an empty one"));
        }
        if file::is_mount(&self.path) {
            return Err(Error::Refused {
                reason: format!(
                    "{} is mounted as a single file, and SQLite keeps what was written last beside it, where nobody else finds it",
                    self.guard.location
                ),
                remedy: "mount its directory".to_owned(),
            });
        }
        let database = SqliteDatabase::open(&self.path, Access::Write).map_err(|error| {
            match rustix::fs::access(file::directory_of(&self.path), rustix::fs::Access::WRITE_OK) {
                Ok(()) => error,
                Err(errno) => self.guard.unreachable(format!(
                    "SQLite must write its directory even to read it ({}); a store in a file can be read there",
                    io::Error::from(errno)
                )),
            }
        })?;
        let patient = database.lock().busy_timeout(PATIENCE);
        patient.map_err(|error| failed(format!("use {}", self.guard.location), &error))?;
        Ok(database)
    }

    /// Reads in one transaction, so that what it sees is of one moment.
    fn reading<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        self.transact(TransactionBehavior::Deferred, work, true)
    }

    fn writing<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        self.transact(
            TransactionBehavior::Immediate,
            |connection| {
                let done = work(connection)?;
                connection.execute("UPDATE vault_store SET generation = generation + 1", [])?;
                Ok(done)
            },
            true,
        )
    }

    /// Refuses a keyring that has nothing to do with the store: what was put with it would be lost
    /// as soon as the right one is back. A store in a file has its MAC for that.
    fn check_keyring(&self) -> Result<()> {
        let first = self.reading(|connection| {
            connection
                .prepare_cached(&format!("{SELECT} ORDER BY name, tenant, version LIMIT 1"))?
                .query_row([], entry)
                .optional()
        })?;
        let Some(first) = first.transpose()? else { return Ok(()) };
        let kid = first.token.kid();
        if self.guard.keyring.keys().any(|key| key.kid == kid) { Ok(()) } else { Err(Error::UnknownKey { kid }) }
    }

    /// Puts what was written into the database itself and empties the log, as far as nobody else
    /// is using that: until then they hold what was removed.
    fn forget(&self) {
        let Ok(database) = self.database() else { return };
        let connection = database.lock();
        // The change itself is made by now. What is in use is not waited for, and like what fails
        // is left to the next checkpoint.
        let _ = connection.busy_timeout(Duration::ZERO);
        let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        let _ = connection.busy_timeout(PATIENCE);
    }

    fn transact<T>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
        pinned: bool,
    ) -> Result<T> {
        let database = self.database()?;
        let mut connection = database.lock();
        let fail = |error: rusqlite::Error| failed(format!("use {}", self.guard.location), &error);
        let transaction = connection.transaction_with_behavior(behavior).map_err(fail)?;
        let pin = pin(&transaction).map_err(fail)?.ok_or_else(|| self.guard.unreachable("it is no store"))?;
        if pinned {
            self.guard.check_pin(pin)?;
        }
        let done = work(&transaction).map_err(fail)?;
        transaction.commit().map_err(fail)?;
        Ok(done)
    }
}

impl Store for SqliteStore {
    fn location(&self) -> &str {
        &self.guard.location
    }

    fn create(&self) -> Result<()> {
        let path = self.path.as_path();
        match file::write_new(path, b"", 0o600) {
            // An interrupted run may have left an empty one.
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create", path, source));
            }
            _ => {}
        }
        let id = primitives::random()?;
        let generation = self.guard.keyring.generation();
        let fail = |error: rusqlite::Error| failed(format!("create {}", self.guard.location), &error);
        let database = self.database()?;
        let mut connection = database.lock();
        let tables = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, u64>(0))
        };
        if tables(&connection).map_err(fail)? == 0 {
            connection.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        match pin(&transaction).map_err(fail)? {
            Some(pin) => return self.guard.check_pin(pin),
            None if tables(&transaction).map_err(fail)? > 0 => {
                return Err(Error::Refused {
                    reason: format!("{} is another database", path.display()),
                    remedy: "name a file that does not exist".to_owned(),
                });
            }
            None => {}
        }
        transaction.execute_batch(SCHEMA).map_err(fail)?;
        transaction
            .execute(
                "INSERT INTO vault_store VALUES (?1, ?2, 0, ?3)",
                params![FORMAT, hex::encode(id.get(..16).unwrap_or_default()), generation],
            )
            .map_err(fail)?;
        transaction.commit().map_err(fail)?;
        drop(connection);
        file::flush_directory(path)
    }

    fn exists(&self) -> Result<bool> {
        self.guard.exists(&self.path)
    }

    fn check(&self) -> Result<Vec<ColumnFinding>> {
        let told: String =
            self.reading(|connection| connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)))?;
        if told != "ok" {
            return Err(self.guard.unreachable("the database is damaged (integrity_check); restore it from a backup"));
        }
        let under = self.reading(|connection| {
            let mut statement = connection
                .prepare(&format!("SELECT substr(token, {KID_IN_SQL}), count(*) FROM vault_store_secret GROUP BY 1"))?;
            let under = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
            under.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let under = under.into_iter().map(|(kid, count)| Ok((KeyId::parse(&kid)?, count)));
        Ok(self.guard.unreadable(&under.collect::<Result<_>>()?))
    }

    fn get(&self, name: &EntryName, version: Version) -> Result<Option<Entry>> {
        let (condition, number, skip) = match version {
            Version::Current => ("", 0, 0),
            Version::Previous => ("", 0, 1),
            Version::Number(number) => (" AND version = ?3", number, 0),
        };
        self.reading(|connection| {
            let sql = format!(
                "{SELECT} WHERE name = ?1 AND tenant = ?2{condition} AND ?3 = ?3 ORDER BY version DESC LIMIT 1 OFFSET {skip}"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            statement.query_row(params![name.name().as_str(), tenant(name), number], entry).optional()
        })?
        .transpose()
    }

    fn names(&self) -> Result<Vec<EntryName>> {
        self.reading(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT DISTINCT name, tenant FROM vault_store_secret ORDER BY name, tenant")?;
            let names = statement.query_map([], |row| Ok(entry_name(&row.get::<_, String>(0)?, row.get(1)?)))?;
            names.collect::<rusqlite::Result<Vec<_>>>()
        })?
        .into_iter()
        .collect()
    }

    fn versions(&self, name: &EntryName) -> Result<Vec<Entry>> {
        self.reading(|connection| {
            let mut statement = connection
                .prepare_cached(&format!("{SELECT} WHERE name = ?1 AND tenant = ?2 ORDER BY version DESC"))?;
            let entries = statement.query_map(params![name.name().as_str(), tenant(name)], entry)?;
            entries.collect::<rusqlite::Result<Vec<_>>>()
        })?
        .into_iter()
        .collect()
    }

    fn page(&self, after: Option<&EntryKey>, limit: usize) -> Result<Vec<Entry>> {
        self.reading(|connection| {
            let condition = if after.is_some() {
                "WHERE (name, tenant, version) > (?1, ?2, ?3)"
            } else {
                "WHERE ?1 = ?1 AND ?2 = ?2 AND ?3 = ?3"
            };
            let sql = format!("{SELECT} {condition} ORDER BY name, tenant, version LIMIT ?4");
            let (name, owner, version) = match after {
                Some(key) => (key.name.name().as_str(), tenant(&key.name), key.version),
                None => ("", "", 0),
            };
            let mut statement = connection.prepare_cached(&sql)?;
            let entries = statement.query_map(params![name, owner, version, limit], entry)?;
            entries.collect::<rusqlite::Result<Vec<_>>>()
        })?
        .into_iter()
        .collect()
    }

    fn put(&self, new: &[NewEntry<'_>]) -> Result<Vec<u64>> {
        self.guard.check_new(new)?;
        self.check_keyring()?;
        let now = Timestamp::now().0;
        self.writing(|connection| {
            let mut versions = Vec::with_capacity(new.len());
            for entry in new {
                let (name, owner) = (entry.name.name().as_str(), tenant(entry.name));
                let version: u64 = connection
                    .prepare_cached(
                        "INSERT INTO vault_store_secret
                         SELECT ?1, ?2, coalesce(max(version), 0) + 1, ?3, ?4, ?5, ?5 FROM vault_store_secret
                         WHERE name = ?1 AND tenant = ?2
                         RETURNING version",
                    )?
                    .query_row(params![name, owner, entry.purpose, entry.token.to_string(), now], |row| row.get(0))?;
                connection
                    .prepare_cached(
                        "DELETE FROM vault_store_secret WHERE name = ?1 AND tenant = ?2 AND version <= (
                             SELECT version FROM vault_store_secret WHERE name = ?1 AND tenant = ?2
                             ORDER BY version DESC LIMIT 1 OFFSET ?3)",
                    )?
                    .execute(params![name, owner, u64::from(self.guard.keep) + 1])?;
                versions.push(version);
            }
            Ok(versions)
        })
    }

    fn replace(&self, changes: &[Replacement]) -> Result<Vec<bool>> {
        changes.iter().try_for_each(|change| self.guard.check_token(&change.new))?;
        let now = Timestamp::now().0;
        self.writing(|connection| {
            let mut statement = connection.prepare_cached(
                "UPDATE vault_store_secret SET token = ?5, updated = ?6
                 WHERE name = ?1 AND tenant = ?2 AND version = ?3 AND token = ?4",
            )?;
            let replaced = changes.iter().map(|change| {
                let EntryKey { name, version } = &change.key;
                let (old, new) = (change.old.to_string(), change.new.to_string());
                Ok(statement.execute(params![name.name().as_str(), tenant(name), version, old, new, now])? == 1)
            });
            replaced.collect()
        })
        .inspect(|_| self.forget())
    }

    fn remove(&self, name: &EntryName, version: Option<u64>) -> Result<u64> {
        let removed = self.writing(|connection| {
            connection.execute(
                "DELETE FROM vault_store_secret WHERE name = ?1 AND tenant = ?2 AND (?3 IS NULL OR version = ?3)",
                params![name.name().as_str(), tenant(name), version],
            )
        })?;
        self.forget();
        Ok(u64::try_from(removed).unwrap_or(u64::MAX))
    }

    fn settle(&self, accept_rollback: bool) -> Result<()> {
        let generation = self.guard.keyring.generation();
        self.transact(
            TransactionBehavior::Immediate,
            |connection| {
                connection.execute(
                    "UPDATE vault_store SET keyring_generation = ?1, generation = generation + 1 WHERE keyring_generation <> ?1",
                    [generation],
                )
            },
            !accept_rollback,
        )
        .map(drop)
    }
}

impl core::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The generation that the store is pinned at; none if this is no store.
fn pin(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let is_store: bool = connection.query_row(
        "SELECT count(*) = 2 FROM sqlite_schema WHERE type = 'table' AND name IN ('vault_store', 'vault_store_secret')",
        [],
        |row| row.get(0),
    )?;
    if !is_store {
        return Ok(None);
    }
    connection
        .query_row("SELECT keyring_generation FROM vault_store WHERE format = ?1", [FORMAT], |row| row.get(0))
        .optional()
}

fn tenant(name: &EntryName) -> &str {
    name.tenant().unwrap_or_default()
}

fn entry_name(name: &str, tenant: String) -> Result<EntryName> {
    let name = SecretName::parse(name)?;
    if tenant.is_empty() { Ok(EntryName::new(name)) } else { EntryName::of_tenant(name, tenant) }
}

/// A row of [`SELECT`]. What is no entry is an error of ours inside the engine's result.
fn entry(row: &Row<'_>) -> rusqlite::Result<Result<Entry>> {
    let (name, tenant, version): (String, String, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (purpose, token): (String, String) = (row.get(3)?, row.get(4)?);
    let (created, updated) = (Timestamp(row.get(5)?), Timestamp(row.get(6)?));
    Ok((|| {
        let key = EntryKey { name: entry_name(&name, tenant)?, version };
        Ok(Entry { key, purpose, token: Token::parse(&token, HARD_LIMIT)?, created, updated })
    })())
}
