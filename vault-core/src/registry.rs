//! What processes share in the database of a store: the states of keyrings, and who has read them.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "postgres")]
use crate::database::{PostgresUrl, postgres::SharedConnection};
use crate::error::{Error, Result};
use crate::file::Lock;
use crate::key::KeyId;
use crate::keyring::{KeyringState, States, rendered};
use crate::manifest::{StoreLocation, StoreSpec};
use crate::resolver::Resolver;

/// The tables of a registry.
pub(crate) trait Registry: core::fmt::Debug + Send + Sync {
    /// Which database, for people.
    fn location(&self) -> &str;

    /// The connection that it uses, and the store of the same URL with it.
    #[cfg(feature = "postgres")]
    fn connection(&self) -> Option<&SharedConnection> {
        None
    }

    /// The text of a keyring's states, if there are any.
    fn states(&self, keyring: &str) -> Result<Option<String>>;

    /// Puts a text in the place of the one of generation `before`, which is 0 for none. Tells whether
    /// that was the one that is there.
    fn replace_states(&self, keyring: &str, before: u64, generation: u64, text: &str) -> Result<bool>;

    /// Tells that a process has read a keyring. What was not told again for a day is forgotten.
    fn beat(&self, keyring: &str, heartbeat: &Heartbeat) -> Result<()>;

    /// What processes told.
    fn heartbeats(&self, keyring: &str) -> Result<Vec<Heartbeat>>;
}

/// What a process tells of a keyring that it has read.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Heartbeat {
    /// The process, and behind a slash which of its vaults.
    pub node: String,
    /// The keys with which it opens.
    pub kids: Vec<KeyId>,
    /// The generation of the states that it has read.
    pub generation: u64,
    /// How often it told.
    pub beats: u64,
}

impl Heartbeat {
    /// The process: its machine's name, its number, and when it began.
    #[must_use]
    pub fn process(&self) -> &str {
        self.node.rsplit_once('/').map_or(&self.node, |(process, _)| process)
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    fn kids_as_text(&self) -> String {
        self.kids.iter().map(KeyId::as_str).collect::<Vec<_>>().join(" ")
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    fn of_texts(node: String, kids: &str, generation: u64, beats: u64) -> Result<Self> {
        let kids = kids.split_whitespace().map(KeyId::parse).collect::<Result<_, _>>()?;
        Ok(Self { node, kids, generation, beats })
    }
}

/// The registry of a store that is in a database: `before`, with its connection, where the store is
/// where it was.
pub(crate) fn open(
    spec: &StoreSpec,
    resolver: &Resolver,
    before: Option<&Arc<dyn Registry>>,
) -> Result<Option<Arc<dyn Registry>>> {
    let _ = (resolver, before);
    match &spec.location {
        StoreLocation::File(_) => Ok(None),
        #[cfg(feature = "sqlite")]
        StoreLocation::Sqlite(path) => Ok(Some(Arc::new(sqlite::SqliteRegistry::new(path)))),
        #[cfg(feature = "postgres")]
        StoreLocation::Postgres(url) => Ok(Some(on_server(url.clone(), before))),
        #[cfg(feature = "postgres")]
        StoreLocation::Secret(name) => Ok(Some(on_server(resolver.postgres_url(name)?, before))),
        #[allow(unreachable_patterns, reason = "which engines there are depends on the features")]
        _ => Ok(None),
    }
}

#[cfg(feature = "postgres")]
fn on_server(url: PostgresUrl, before: Option<&Arc<dyn Registry>>) -> Arc<dyn Registry> {
    match before {
        Some(before) if before.connection().is_some_and(|connection| *connection.url() == url) => Arc::clone(before),
        _ => Arc::new(postgres::PostgresRegistry::new(url)),
    }
}

/// The states of one keyring in a registry.
pub(crate) struct RegisteredStates<'a> {
    pub(crate) registry: &'a dyn Registry,
    pub(crate) keyring: &'a str,
}

impl States for RegisteredStates<'_> {
    fn read(&self) -> Result<Option<KeyringState>> {
        let text = self.registry.states(self.keyring)?;
        text.map(|text| KeyringState::parse(&text, Path::new(self.registry.location()))).transpose()
    }

    fn lock(&self) -> Result<Option<Lock>> {
        Ok(None)
    }

    fn write(&self, before: u64, next: &KeyringState) -> Result<()> {
        let text = rendered(next, Path::new(self.registry.location()))?;
        if self.registry.replace_states(self.keyring, before, next.generation(), &text)? {
            return Ok(());
        }
        Err(Error::Temporary {
            reason: format!("the states of keyring {} were changed by somebody else", self.keyring),
            remedy: "run the command again".to_owned(),
        })
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn no_store(location: &str) -> Error {
    Error::Database {
        action: format!("use the registry of {location}"),
        reason: "it is no store; `vault init --store-only` makes an empty one".to_owned(),
    }
}

/// How long a silent process is remembered, in seconds.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
const REMEMBERED: i64 = 86_400;
