//! A store in a PostgreSQL database, in a schema of ours.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::column_spec::ColumnFinding;
use crate::database::PostgresUrl;
use crate::database::postgres::{Client, Patience, SharedConnection, batch, execute, get, query};
use crate::error::{Error, Result};
use crate::hex;
use crate::key::{KeyId, MasterKey};
use crate::keyring::Keyring;
use crate::name::{SecretName, Version};
use crate::primitives;
use crate::time::Timestamp;
use crate::token::{HARD_LIMIT, KID_IN_SQL, Token};

use super::{DEFAULT_KEEP, Entry, EntryKey, EntryName, Guard, NewEntry, Replacement, Store};

const FORMAT: &str = "vault-store/1";

/// An absent tenant is an empty text here, which no tenant is. Names are ordered by their bytes.
const SCHEMA: &str = "
    CREATE TABLE vault_core.store (
        format text NOT NULL,
        store_id text NOT NULL,
        generation bigint NOT NULL,
        keyring_generation bigint NOT NULL
    );
    CREATE TABLE vault_core.store_secret (
        name text COLLATE \"C\" NOT NULL,
        tenant text COLLATE \"C\" NOT NULL,
        version bigint NOT NULL,
        purpose text NOT NULL,
        token text NOT NULL,
        created bigint NOT NULL,
        updated bigint NOT NULL,
        PRIMARY KEY (name, tenant, version)
    )";

const SELECT: &str = "SELECT name, tenant, version, purpose, token, created, updated FROM vault_core.store_secret";

/// A store in a PostgreSQL database, for many secrets, writers and machines.
///
/// It is two tables in the schema `vault_core`. Whoever can write them can remove secrets or put
/// older tokens of them back; a [`FileStore`] notices that. It blocks, and is not to be used on a
/// thread of an async runtime.
///
/// [`FileStore`]: super::FileStore
pub struct PostgresStore {
    connection: SharedConnection,
    guard: Guard,
}

impl PostgresStore {
    /// The store in the database at `url`, which need not exist yet. Connects when it is used.
    #[must_use]
    pub fn new(url: PostgresUrl, keyring: Keyring<MasterKey>) -> Self {
        Self::connected_by(SharedConnection::new(url), keyring)
    }

    /// The same, by a connection that others use, too.
    pub(crate) fn connected_by(connection: SharedConnection, keyring: Keyring<MasterKey>) -> Self {
        let location = format!("store {}", connection.url());
        Self { connection, guard: Guard { keyring, location, keep: DEFAULT_KEEP } }
    }

    /// Keeps so many previous versions of each secret.
    #[must_use]
    pub fn with_keep(mut self, keep: u32) -> Self {
        self.guard.keep = keep;
        self
    }

    fn action(&self) -> String {
        format!("use {}", self.guard.location)
    }

    fn reading<T>(&self, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<T> {
        self.transact("", true, work)
    }

    /// Changes the store, while nobody else does: what is read is what is changed.
    fn writing<T>(&self, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<T> {
        self.transact(" FOR UPDATE", true, |client| {
            let done = work(client)?;
            execute(client, &self.action(), "UPDATE vault_core.store SET generation = generation + 1", &[])?;
            Ok(done)
        })
    }

    fn transact<T>(&self, lock: &str, pinned: bool, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<T> {
        self.connection.database()?.transact(Patience::Short, |client| {
            if !is_there(client, &self.action())? {
                return Err(self.guard.unreachable("it does not exist; `vault init --store-only` makes an empty one"));
            }
            let pin = self.pin(client, lock)?.ok_or_else(|| self.guard.unreachable("it is no store"))?;
            if pinned {
                self.guard.check_pin(pin)?;
            }
            work(client)
        })
    }

    /// The generation that the store is pinned at; none if this is no store.
    fn pin(&self, client: &mut Client, lock: &str) -> Result<Option<u64>> {
        let statement = format!("SELECT keyring_generation FROM vault_core.store WHERE format = $1{lock}");
        let rows = query(client, &self.action(), &statement, &[(&FORMAT, Type::TEXT)])?;
        rows.first().map(|row| number(row, 0)).transpose()
    }

    /// Refuses a keyring that has nothing to do with the store: what was put with it would be lost
    /// as soon as the right one is back.
    fn check_keyring(&self, client: &mut Client) -> Result<()> {
        let Some(first) = self.entries(client, "ORDER BY name, tenant, version LIMIT 1", &[])?.pop() else {
            return Ok(());
        };
        let kid = first.token.kid();
        if self.guard.keyring.keys().any(|key| key.kid == kid) { Ok(()) } else { Err(Error::UnknownKey { kid }) }
    }

    fn entries(
        &self,
        client: &mut Client,
        rest: &str,
        parameters: &[crate::database::postgres::Parameter<'_>],
    ) -> Result<Vec<Entry>> {
        query(client, &self.action(), &format!("{SELECT} {rest}"), parameters)?.iter().map(entry).collect()
    }
}

impl Store for PostgresStore {
    fn location(&self) -> &str {
        &self.guard.location
    }

    fn create(&self) -> Result<()> {
        let id = primitives::random()?;
        let action = format!("create {}", self.guard.location);
        self.connection.database()?.transact(Patience::Short, |client| {
            batch(client, &action, "SELECT pg_advisory_xact_lock(8243124871204818)")?;
            let schema =
                query(client, &action, "SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'vault_core'", &[])?;
            if schema.is_empty() {
                batch(client, &action, "CREATE SCHEMA vault_core")?;
            }
            if is_there(client, &action)? {
                let pin = self.pin(client, "")?.ok_or_else(|| Error::Refused {
                    reason: format!("the tables of {} are something else", self.guard.location),
                    remedy: "name another database".to_owned(),
                })?;
                return self.guard.check_pin(pin);
            }
            batch(client, &action, SCHEMA)?;
            execute(
                client,
                &action,
                "INSERT INTO vault_core.store VALUES ($1, $2, 0, $3)",
                &[
                    (&FORMAT, Type::TEXT),
                    (&hex::encode(id.get(..16).unwrap_or_default()), Type::TEXT),
                    (&signed(self.guard.keyring.generation()), Type::INT8),
                ],
            )
            .map(drop)
        })
    }

    fn exists(&self) -> Result<bool> {
        self.connection.database()?.transact(Patience::Short, |client| is_there(client, &self.action()))
    }

    fn check(&self) -> Result<Vec<ColumnFinding>> {
        let under = self.reading(|client| {
            let rows = query(
                client,
                &self.action(),
                &format!("SELECT substr(token, {KID_IN_SQL}), count(*) FROM vault_core.store_secret GROUP BY 1"),
                &[],
            )?;
            rows.iter().map(|row| Ok((KeyId::parse(get(row, 0)?)?, number(row, 1)?))).collect::<Result<_>>()
        })?;
        Ok(self.guard.unreadable(&under))
    }

    fn get(&self, name: &EntryName, version: Version) -> Result<Option<Entry>> {
        let (number, skip) = match version {
            Version::Current => (None, 0),
            Version::Previous => (None, 1),
            Version::Number(number) => (Some(signed(number)), 0),
        };
        let found = self.reading(|client| {
            self.entries(
                client,
                &format!(
                    "WHERE name = $1 AND tenant = $2 AND ($3 IS NULL OR version = $3) ORDER BY version DESC LIMIT 1 OFFSET {skip}"
                ),
                &[(&name.name().as_str(), Type::TEXT), (&tenant(name), Type::TEXT), (&number, Type::INT8)],
            )
        })?;
        Ok(found.into_iter().next())
    }

    fn names(&self) -> Result<Vec<EntryName>> {
        self.reading(|client| {
            let rows = query(
                client,
                &self.action(),
                "SELECT DISTINCT name, tenant FROM vault_core.store_secret ORDER BY name, tenant",
                &[],
            )?;
            rows.iter().map(|row| entry_name(get(row, 0)?, get(row, 1)?)).collect()
        })
    }

    fn versions(&self, name: &EntryName) -> Result<Vec<Entry>> {
        self.reading(|client| {
            self.entries(
                client,
                "WHERE name = $1 AND tenant = $2 ORDER BY version DESC",
                &[(&name.name().as_str(), Type::TEXT), (&tenant(name), Type::TEXT)],
            )
        })
    }

    fn page(&self, after: Option<&EntryKey>, limit: usize) -> Result<Vec<Entry>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.reading(|client| match after {
            None => self.entries(client, "ORDER BY name, tenant, version LIMIT $1", &[(&limit, Type::INT8)]),
            Some(key) => self.entries(
                client,
                "WHERE (name, tenant, version) > ($1, $2, $3) ORDER BY name, tenant, version LIMIT $4",
                &[
                    (&key.name.name().as_str(), Type::TEXT),
                    (&tenant(&key.name), Type::TEXT),
                    (&signed(key.version), Type::INT8),
                    (&limit, Type::INT8),
                ],
            ),
        })
    }

    fn put(&self, new: &[NewEntry<'_>]) -> Result<Vec<u64>> {
        self.guard.check_new(new)?;
        let now = signed(Timestamp::now().0);
        let action = self.action();
        self.writing(|client| {
            self.check_keyring(client)?;
            let mut versions = Vec::with_capacity(new.len());
            for entry in new {
                let (name, owner) = (entry.name.name().as_str(), tenant(entry.name));
                let rows = query(
                    client,
                    &action,
                    "INSERT INTO vault_core.store_secret
                     SELECT $1, $2, coalesce(max(version), 0) + 1, $3, $4, $5, $5 FROM vault_core.store_secret
                     WHERE name = $1 AND tenant = $2
                     RETURNING version",
                    &[
                        (&name, Type::TEXT),
                        (&owner, Type::TEXT),
                        (&entry.purpose, Type::TEXT),
                        (&entry.token.to_string(), Type::TEXT),
                        (&now, Type::INT8),
                    ],
                )?;
                versions.push(rows.first().map_or(Ok(0), |row| number(row, 0))?);
                execute(
                    client,
                    &action,
                    "DELETE FROM vault_core.store_secret WHERE name = $1 AND tenant = $2 AND version <= (
                         SELECT version FROM vault_core.store_secret WHERE name = $1 AND tenant = $2
                         ORDER BY version DESC LIMIT 1 OFFSET $3)",
                    &[(&name, Type::TEXT), (&owner, Type::TEXT), (&(i64::from(self.guard.keep) + 1), Type::INT8)],
                )?;
            }
            Ok(versions)
        })
    }

    fn replace(&self, changes: &[Replacement]) -> Result<Vec<bool>> {
        changes.iter().try_for_each(|change| self.guard.check_token(&change.new))?;
        let now = signed(Timestamp::now().0);
        let action = self.action();
        self.writing(|client| {
            let replaced = changes.iter().map(|change| {
                let EntryKey { name, version } = &change.key;
                let replaced = execute(
                    client,
                    &action,
                    "UPDATE vault_core.store_secret SET token = $5, updated = $6
                     WHERE name = $1 AND tenant = $2 AND version = $3 AND token = $4",
                    &[
                        (&name.name().as_str(), Type::TEXT),
                        (&tenant(name), Type::TEXT),
                        (&signed(*version), Type::INT8),
                        (&change.old.to_string(), Type::TEXT),
                        (&change.new.to_string(), Type::TEXT),
                        (&now, Type::INT8),
                    ],
                );
                Ok(replaced? == 1)
            });
            replaced.collect()
        })
    }

    fn remove(&self, name: &EntryName, version: Option<u64>) -> Result<u64> {
        self.writing(|client| {
            execute(
                client,
                &self.action(),
                "DELETE FROM vault_core.store_secret WHERE name = $1 AND tenant = $2 AND ($3 IS NULL OR version = $3)",
                &[(&name.name().as_str(), Type::TEXT), (&tenant(name), Type::TEXT), (&version.map(signed), Type::INT8)],
            )
        })
    }

    fn settle(&self, accept_rollback: bool) -> Result<()> {
        let generation = signed(self.guard.keyring.generation());
        self.transact(" FOR UPDATE", !accept_rollback, |client| {
            execute(
                client,
                &self.action(),
                "UPDATE vault_core.store SET keyring_generation = $1, generation = generation + 1 WHERE keyring_generation <> $1",
                &[(&generation, Type::INT8)],
            )
            .map(drop)
        })
    }
}

impl core::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PostgresStore").field("url", self.connection.url()).finish_non_exhaustive()
    }
}

fn is_there(client: &mut Client, action: &str) -> Result<bool> {
    let rows = query(
        client,
        action,
        "SELECT count(*) > 0 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'vault_core' AND c.relname IN ('store', 'store_secret')",
        &[],
    )?;
    rows.first().map_or(Ok(false), |row| get(row, 0))
}

fn tenant(name: &EntryName) -> &str {
    name.tenant().unwrap_or_default()
}

fn entry_name(name: &str, tenant: &str) -> Result<EntryName> {
    let name = SecretName::parse(name)?;
    if tenant.is_empty() { Ok(EntryName::new(name)) } else { EntryName::of_tenant(name, tenant) }
}

/// A row of [`SELECT`].
fn entry(row: &Row) -> Result<Entry> {
    Ok(Entry {
        key: EntryKey { name: entry_name(get(row, 0)?, get(row, 1)?)?, version: number(row, 2)? },
        purpose: get(row, 3)?,
        token: Token::parse(get(row, 4)?, HARD_LIMIT)?,
        created: Timestamp(number(row, 5)?),
        updated: Timestamp(number(row, 6)?),
    })
}

fn number(row: &Row, at: usize) -> Result<u64> {
    Ok(u64::try_from(get::<i64>(row, at)?).unwrap_or_default())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
