//! Connections to databases, shared by columns and stores.

#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
#[cfg(feature = "vault")]
#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "what only a connection asks for"))]
pub(crate) mod url;

#[cfg(feature = "vault")]
use std::path::{Path, PathBuf};

#[cfg(feature = "vault")]
use crate::name::SecretName;

#[cfg(feature = "vault")]
pub use url::{PostgresUrl, sqlite_path};

/// Where an application's database is.
#[cfg(feature = "vault")]
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum DatabaseLocation {
    /// A PostgreSQL server.
    Postgres(PostgresUrl),
    /// A secret that holds the URL of a PostgreSQL server.
    Secret(SecretName),
    /// A file of SQLite.
    Sqlite(PathBuf),
}

#[cfg(feature = "vault")]
impl From<PathBuf> for DatabaseLocation {
    fn from(path: PathBuf) -> Self {
        Self::Sqlite(path)
    }
}

#[cfg(feature = "vault")]
impl From<&Path> for DatabaseLocation {
    fn from(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }
}

#[cfg(feature = "vault")]
impl From<&PathBuf> for DatabaseLocation {
    fn from(path: &PathBuf) -> Self {
        Self::Sqlite(path.clone())
    }
}

#[cfg(feature = "vault")]
impl From<&str> for DatabaseLocation {
    fn from(path: &str) -> Self {
        Self::Sqlite(path.into())
    }
}

#[cfg(feature = "vault")]
impl From<PostgresUrl> for DatabaseLocation {
    fn from(url: PostgresUrl) -> Self {
        Self::Postgres(url)
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Access {
    /// Looking only: nothing is changed, and the database may be read-only.
    Read,
    /// Looking and changing.
    Write,
}
