//! What processes share: the states of keyrings in the database of a store, and who holds which keys.

mod files;
mod heartbeat;
mod machine;
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
use crate::keyring::{KeyringState, States, rendered};
use crate::manifest::{StoreLocation, StoreSpec};
use crate::resolver::Resolver;

pub(crate) use files::HeartbeatFiles;
pub use heartbeat::Heartbeat;
pub(crate) use heartbeat::plain;
pub use machine::Presence;
pub(crate) use machine::Whereabouts;

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

    /// Puts a process's heartbeat in the place of its last one. Those of a day ago are forgotten.
    fn beat(&self, keyring: &str, heartbeat: &Heartbeat) -> Result<()>;

    /// What processes said within a day.
    fn heartbeats(&self, keyring: &str) -> Result<Vec<Heartbeat>>;
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
const REMEMBERED: u64 = 86_400;
