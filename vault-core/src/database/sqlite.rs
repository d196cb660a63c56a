//! SQLite: connections that change nothing about a database but what they are told to.

use core::time::Duration;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

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
        let action = || format!("open {}", path.display());
        // Also keeps SQLite from taking an empty or special name for a new database.
        let path = path.canonicalize().map_err(|error| Error::Database {
            action: action(),
            reason: match error.kind() {
                io::ErrorKind::NotFound => "it does not exist".to_owned(),
                kind => kind.to_string(),
            },
        })?;
        let mode = match access {
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
        };
        let connection = Connection::open_with_flags(&path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .and_then(|connection| {
                connection.busy_timeout(BUSY_TIMEOUT)?;
                connection.set_prepared_statement_cache_capacity(64);
                match access {
                    Access::Read => {
                        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
                    }
                    Access::Write => {
                        connection.execute_batch("PRAGMA secure_delete = ON; PRAGMA synchronous = FULL;")?;
                    }
                }
                // The first statement that reads the file tells whether it is a database.
                connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
                Ok(connection)
            })
            .map_err(|error| failed(action(), &error))?;
        Ok(Self { path: path.display().to_string().into(), connection: Arc::new(Mutex::new(connection)) })
    }

    /// Its path, the same for all ways to write it.
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

/// The class of an error and the engine's name for it, without values.
pub(crate) fn reason(error: &rusqlite::Error) -> String {
    let text = match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => "it may not be opened",
        Some(ErrorCode::ConstraintViolation) => "a constraint or a trigger refused it",
        Some(ErrorCode::DatabaseCorrupt) => "the database is damaged",
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::NotADatabase) => "it is not an SQLite database, or an encrypted one",
        Some(ErrorCode::PermissionDenied) => "permission denied",
        Some(ErrorCode::ReadOnly) => "it is read-only",
        Some(ErrorCode::SystemIoFailure) => "the disk failed",
        Some(ErrorCode::TooBig) => "a value is too long",
        Some(_) => "the statement failed",
        None => return "a value has an unexpected type".to_owned(),
    };
    format!("{text} ({})", name(error.sqlite_error().map_or(0, |error| error.extended_code)))
}

/// An identifier in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in quotes.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The engine's name of an extended result code, or its number.
fn name(code: i32) -> String {
    let known = NAMES
        .iter()
        .find(|(known, _)| *known == code)
        .or_else(|| NAMES.iter().find(|(known, _)| *known == code & 0xff));
    match known {
        Some((known, name)) if *known == code => (*name).to_owned(),
        Some((_, name)) => format!("{name}, code {code}"),
        None => format!("SQLite code {code}"),
    }
}

const NAMES: [(i32, &str); 27] = [
    (ffi::SQLITE_ABORT_ROLLBACK, "SQLITE_ABORT_ROLLBACK"),
    (ffi::SQLITE_AUTH, "SQLITE_AUTH"),
    (ffi::SQLITE_CANTOPEN, "SQLITE_CANTOPEN"),
    (ffi::SQLITE_CONSTRAINT, "SQLITE_CONSTRAINT"),
    (ffi::SQLITE_CONSTRAINT_CHECK, "SQLITE_CONSTRAINT_CHECK"),
    (ffi::SQLITE_CONSTRAINT_DATATYPE, "SQLITE_CONSTRAINT_DATATYPE"),
    (ffi::SQLITE_CONSTRAINT_FOREIGNKEY, "SQLITE_CONSTRAINT_FOREIGNKEY"),
    (ffi::SQLITE_CONSTRAINT_NOTNULL, "SQLITE_CONSTRAINT_NOTNULL"),
    (ffi::SQLITE_CONSTRAINT_PRIMARYKEY, "SQLITE_CONSTRAINT_PRIMARYKEY"),
    (ffi::SQLITE_CONSTRAINT_TRIGGER, "SQLITE_CONSTRAINT_TRIGGER"),
    (ffi::SQLITE_CONSTRAINT_UNIQUE, "SQLITE_CONSTRAINT_UNIQUE"),
    (ffi::SQLITE_CORRUPT, "SQLITE_CORRUPT"),
    (ffi::SQLITE_ERROR, "SQLITE_ERROR"),
    (ffi::SQLITE_FULL, "SQLITE_FULL"),
    (ffi::SQLITE_INTERRUPT, "SQLITE_INTERRUPT"),
    (ffi::SQLITE_IOERR, "SQLITE_IOERR"),
    (ffi::SQLITE_MISMATCH, "SQLITE_MISMATCH"),
    (ffi::SQLITE_MISUSE, "SQLITE_MISUSE"),
    (ffi::SQLITE_NOMEM, "SQLITE_NOMEM"),
    (ffi::SQLITE_NOTADB, "SQLITE_NOTADB"),
    (ffi::SQLITE_PERM, "SQLITE_PERM"),
    (ffi::SQLITE_PROTOCOL, "SQLITE_PROTOCOL"),
    (ffi::SQLITE_READONLY, "SQLITE_READONLY"),
    (ffi::SQLITE_READONLY_CANTLOCK, "SQLITE_READONLY_CANTLOCK"),
    (ffi::SQLITE_READONLY_ROLLBACK, "SQLITE_READONLY_ROLLBACK"),
    (ffi::SQLITE_SCHEMA, "SQLITE_SCHEMA"),
    (ffi::SQLITE_TOOBIG, "SQLITE_TOOBIG"),
];
