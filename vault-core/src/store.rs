//! Tokens by name, where no application's database holds them (docs/FORMAT.md, "Stores").
//!
//! A store takes tokens and never plaintext, and only under the keyring's primary key. It keeps
//! the generation of the keyring that it was used with last, so that a keyring that was rolled
//! back is noticed.

#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod column;
mod file;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::column_spec::ColumnFinding;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::key::{KeyId, MasterKey};
use crate::keyring::Keyring;
use crate::name::{SecretName, Version};
use crate::time::Timestamp;
use crate::token::Token;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) use column::StoreColumn;
pub use file::FileStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

/// How many previous versions of a secret a store keeps unless it is told otherwise.
pub const DEFAULT_KEEP: u32 = 3;
/// Purpose of the context of a store's tokens unless another is given.
pub const STORE_ENTRY: &str = "store-entry";

/// Tokens by name and version.
///
/// What a call changes, it changes as a whole or not at all, whoever else writes at the same time
/// and wherever the process is killed. Readers never wait and never see half of a change. A store
/// may be shared between threads, and used after `fork()`.
///
/// Every call fails with [`Error::Database`] where the store is missing or cannot be read,
/// [`Error::Corrupt`] or [`Error::Config`] where it was altered, and [`Error::Refused`] where it
/// was used with a newer generation of the keyring than the one at hand.
pub trait Store: core::fmt::Debug + Send + Sync {
    /// Where it is, for people.
    fn location(&self) -> &str;

    /// Makes an empty store. One that exists stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if something else is there; [`Error::Io`] or [`Error::Database`].
    fn create(&self) -> Result<()>;

    /// Whether it exists.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] if that cannot be told.
    fn exists(&self) -> Result<bool>;

    /// Whether it is in order, and what people should know about it.
    ///
    /// # Errors
    ///
    /// As every call.
    fn check(&self) -> Result<Vec<ColumnFinding>>;

    /// One version of a secret; none if there is no such version.
    ///
    /// # Errors
    ///
    /// As every call.
    fn get(&self, name: &EntryName, version: Version) -> Result<Option<Entry>>;

    /// Every name, sorted.
    ///
    /// # Errors
    ///
    /// As every call.
    fn names(&self) -> Result<Vec<EntryName>>;

    /// The versions of a secret, the newest first.
    ///
    /// # Errors
    ///
    /// As every call.
    fn versions(&self, name: &EntryName) -> Result<Vec<Entry>>;

    /// Entries of all names and versions in the order of name, tenant and version, behind one of
    /// them or from the first; at most `limit`.
    ///
    /// # Errors
    ///
    /// As every call.
    fn page(&self, after: Option<&EntryKey>, limit: usize) -> Result<Vec<Entry>>;

    /// Makes each token the newest version of its secret, all of them or none. Returns their
    /// versions. Previous versions beyond those that the store keeps are removed.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if a token is not under the primary key; [`Error::Malformed`] for a
    /// tenant or purpose that no entry can have; [`Error::TooLarge`] if the store would exceed its
    /// limits; [`Error::Io`] or [`Error::Database`], and then nothing was changed;
    /// [`Error::DurabilityUnknown`], and then all was.
    fn put(&self, new: &[NewEntry<'_>]) -> Result<Vec<u64>>;

    /// Replaces tokens where they still are the ones that were read. Returns for each whether it
    /// was replaced. Versions and the rest of each entry stay.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn replace(&self, changes: &[Replacement]) -> Result<Vec<bool>>;

    /// Removes one version of a secret, or all. Returns how many were removed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Database`], and then nothing was changed;
    /// [`Error::DurabilityUnknown`], and then all was.
    fn remove(&self, name: &EntryName, version: Option<u64>) -> Result<u64>;

    /// Brings the store up to the keyring at hand: from now on no older generation of it is
    /// accepted. With `accept_rollback`, one that is older than what the store was used with is
    /// accepted this once.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn settle(&self, accept_rollback: bool) -> Result<()>;
}

/// What a secret is stored under: its name, and whose it is where that is given.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryName {
    name: SecretName,
    tenant: Option<String>,
}

impl EntryName {
    /// A secret of no tenant.
    #[must_use]
    pub fn new(name: SecretName) -> Self {
        Self { name, tenant: None }
    }

    /// A tenant's secret.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] for a tenant that is empty, has control characters, or more than 256
    /// bytes.
    pub fn of_tenant(name: SecretName, tenant: impl Into<String>) -> Result<Self> {
        Ok(Self { name, tenant: Some(label(tenant.into(), "tenant of a stored secret")?) })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &SecretName {
        &self.name
    }

    /// The tenant, where there is one.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// What a token of this name is bound to.
    #[must_use]
    pub fn context(&self, purpose: &str) -> Context {
        let context = Context::new(purpose).name(self.name.as_str());
        match &self.tenant {
            Some(tenant) => context.tenant(tenant),
            None => context,
        }
    }
}

impl core::fmt::Display for EntryName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match &self.tenant {
            Some(tenant) => write!(f, "{} of tenant {tenant}", self.name),
            None => self.name.fmt(f),
        }
    }
}

/// What identifies an entry.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryKey {
    /// Name and tenant.
    pub name: EntryName,
    /// The version, from 1.
    pub version: u64,
}

/// One version of a stored secret.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Name, tenant and version.
    pub key: EntryKey,
    /// Purpose of the context that the token is bound to.
    pub purpose: String,
    /// The sealed secret.
    pub token: Token,
    /// When this version was set.
    pub created: Timestamp,
    /// When its token was replaced last, by a rotation.
    pub updated: Timestamp,
}

impl Entry {
    /// What the token is bound to.
    #[must_use]
    pub fn context(&self) -> Context {
        self.key.name.context(&self.purpose)
    }
}

/// A token that is to become the newest version of a secret.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a> {
    /// Name and tenant.
    pub name: &'a EntryName,
    /// Purpose of the context that the token is bound to.
    pub purpose: &'a str,
    /// The sealed secret.
    pub token: &'a Token,
}

/// A token that is to take the place of another.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// Which entry.
    pub key: EntryKey,
    /// What was read.
    pub old: Token,
    /// What it becomes.
    pub new: Token,
}

/// A text that people give and files show.
fn label(text: String, what: &'static str) -> Result<String> {
    if text.is_empty() || text.len() > MAX_LABEL || text.chars().any(char::is_control) {
        return Err(Error::Malformed { what });
    }
    Ok(text)
}

/// What the stores share: the keys, and the rules about which may be used.
#[derive(Clone, Debug)]
struct Guard {
    keyring: Keyring<MasterKey>,
    location: String,
    keep: u32,
}

impl Guard {
    /// Refuses a keyring that is older than the one that the store was used with.
    fn check_pin(&self, pin: u64) -> Result<()> {
        let generation = self.keyring.generation();
        if pin <= generation {
            return Ok(());
        }
        let now = match generation {
            0 => "there is no state file now".to_owned(),
            _ => format!("the state file has {generation} now"),
        };
        Err(Error::Refused {
            reason: format!("{} was used with generation {pin} of its keyring, and {now}", self.location),
            remedy: "redeploy the newest state file; `vault rotate run --accept-rollback` accepts the older one"
                .to_owned(),
        })
    }

    /// Refuses a new token that a rotation would have to move again. Writers that still have the
    /// old primary key fail here.
    fn check_token(&self, token: &Token) -> Result<()> {
        if token.kid() == self.keyring.primary()?.kid() {
            return Ok(());
        }
        Err(Error::Refused {
            reason: format!("a token under key {} was to be stored, and another key is primary", token.kid()),
            remedy: "rewrap it, or load the keyring again and seal anew".to_owned(),
        })
    }

    fn check_new(&self, new: &[NewEntry<'_>]) -> Result<()> {
        for entry in new {
            self.check_token(entry.token)?;
            label(entry.purpose.to_owned(), "purpose of a stored secret")?;
        }
        Ok(())
    }

    /// What cannot be opened with the keys at hand, of so many entries under each key.
    fn unreadable(&self, entries: &BTreeMap<KeyId, u64>) -> Vec<ColumnFinding> {
        let told = entries.iter().filter_map(|(kid, count)| {
            let error = self.keyring.opening(*kid).err()?;
            Some(ColumnFinding::new(format!("{}: {count} values under key {kid} do not open: {error}", self.location)))
        });
        told.collect()
    }

    /// Whether there is something at the store's path.
    fn exists(&self, path: &Path) -> Result<bool> {
        match path.symlink_metadata() {
            Ok(_) => Ok(true),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.unreachable(source.to_string())),
        }
    }

    /// The store is missing or cannot be read.
    fn unreachable(&self, reason: impl Into<String>) -> Error {
        Error::Database { action: format!("read {}", self.location), reason: reason.into() }
    }
}

/// Which of the versions of one secret is meant; they are sorted from the oldest.
fn pick(versions: &[Entry], version: Version) -> Option<&Entry> {
    match version {
        Version::Current => versions.last(),
        Version::Previous => versions.iter().rev().nth(1),
        Version::Number(number) => versions.iter().find(|entry| entry.key.version == number),
    }
}

/// Longest tenant or purpose, in bytes.
const MAX_LABEL: usize = 256;

/// The name of the store among columns.
pub(crate) const NAME: &str = "store";
