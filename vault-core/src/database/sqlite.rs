//! SQLite: connections that change nothing about a database but what they are told to.

use core::time::Duration;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::{Error, Result};

use super::Access;

/// How long a statement waits for somebody else's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to an application's database, shared by the columns that are in it.
#[derive(Clone)]
pub struct SqliteDatabase {
    path: Arc<str>,
    connection: Arc<Mutex<Connection>>,
}

impl SqliteDatabase {
    /// Opens a database that exists. Its journal mode and everything else that it keeps stay as
    /// they are; only this connection is told to wait for locks, to flush commits and to
    /// overwrite what it deletes.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] if it does not exist, is no SQLite database or may not be opened.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        let mode = match access {
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
        };
        let action = || format!("open {}", path.display());
        let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .and_then(|connection| {
                connection.busy_timeout(BUSY_TIMEOUT)?;
                connection.set_prepared_statement_cache_capacity(64);
                // The first statement that reads the file tells whether it is a database.
                connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
                if access == Access::Write {
                    connection.execute_batch("PRAGMA secure_delete = ON; PRAGMA synchronous = FULL;")?;
                }
                Ok(connection)
            })
            .map_err(|error| failed(action(), &error))?;
        Ok(Self { path: path.display().to_string().into(), connection: Arc::new(Mutex::new(connection)) })
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic of another thread left the connection itself in order.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl core::fmt::Debug for SqliteDatabase {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("SqliteDatabase").field(&self.path).finish()
    }
}

/// An error of the engine in our words: its messages may quote values.
pub(crate) fn failed(action: impl Into<String>, error: &rusqlite::Error) -> Error {
    let action = action.into();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Temporary {
            reason: format!("{action}: the database is locked by somebody else"),
            remedy: "run the command again when it is free".to_owned(),
        },
        _ => Error::Database { action, reason: reason(error) },
    }
}

/// The class of an error, without values.
pub(crate) fn reason(error: &rusqlite::Error) -> String {
    let text = match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => "it does not exist, or may not be opened",
        Some(ErrorCode::ConstraintViolation) => "a constraint or a trigger refused it",
        Some(ErrorCode::DatabaseCorrupt) => "the database is damaged",
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::NotADatabase) => "it is not an SQLite database, or an encrypted one",
        Some(ErrorCode::PermissionDenied) => "permission denied",
        Some(ErrorCode::ReadOnly) => "it is read-only",
        Some(ErrorCode::SystemIoFailure) => "the disk failed",
        Some(ErrorCode::TooBig) => "a value is too long",
        Some(code) => return format!("SQLite reports {code:?}"),
        None => "a value has an unexpected type",
    };
    text.to_owned()
}

/// An identifier in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in quotes.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
