//! What can go wrong, in one table for Rust, C, Python, Node and the command line.
//!
//! No variant and no message holds key text, secret bytes, a token, a URL with a password, or a
//! line of a file.

use std::io;
use std::path::PathBuf;

use crate::key::flaw::KeyTextError;
use crate::key::id::{KeyId, MalformedKeyId};
use crate::primitives::CannotSeal;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why an operation failed.
///
/// [`Error::kind`] is what a program branches on, the text is for the person who must act, and
/// [`Error::hint`] says what to do where the text alone does not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A store's content does not authenticate as a whole.
    #[error("{location} was altered or damaged: its MAC does not fit its content")]
    Altered {
        /// Which store.
        location: String,
    },

    /// A secret cannot be sealed: no primary key, a key that must not seal, or a broken clock or
    /// random source.
    #[error("cannot seal: {why}")]
    CannotSeal {
        /// The reason.
        why: &'static str,
    },

    /// The connection was lost before a database said whether it keeps a transaction.
    #[error("{location}: the connection was lost while it committed; whether it did is not known")]
    CommitUnknown {
        /// Which database.
        location: String,
    },

    /// A declaration in a configuration or state file is wrong.
    #[error("{place}: {reason}")]
    Config {
        /// Where.
        place: Place,
        /// What is wrong there, and what would be right.
        reason: String,
    },

    /// A token is authentic and belongs to another context.
    #[error("the token was sealed for another context")]
    ContextMismatch,

    /// Authentication failed: damage, forgery, or for legacy formats a wrong key.
    #[error("{what} does not authenticate: it is damaged, forged, or not under a loaded key")]
    Corrupt {
        /// What was being opened.
        what: &'static str,
    },

    /// A database refused, failed or does not look as declared.
    #[error("{action}: {reason}")]
    Database {
        /// What was being done, and on which table or file.
        action: String,
        /// The engine's code or our finding, without values.
        reason: String,
    },

    /// A file was replaced, and the directory entry may not survive a power loss.
    #[error("{}: written, but flushing its directory failed: {source}", path.display())]
    DurabilityUnknown {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// A file could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done, as in "read" or "replace".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// The key exists and is disabled.
    #[error("key {kid} is disabled")]
    KeyDisabled {
        /// The key.
        kid: KeyId,
    },

    /// The key was destroyed; its tombstone remains.
    #[error("key {kid} was destroyed{}", on_date(*.at))]
    KeyDestroyed {
        /// The key.
        kid: KeyId,
        /// When, in Unix seconds, where it is known.
        at: Option<u64>,
    },

    /// A key file or variable holds something that is not a key.
    #[error("{place}: {reason}")]
    KeyMalformed {
        /// Where it was found.
        place: String,
        /// Why it is refused.
        reason: KeyTextError,
    },

    /// No key where one is needed.
    #[error("no key found: {place}")]
    KeyMissing {
        /// Where it was looked for.
        place: String,
    },

    /// The keyring lists the key and its material was not found.
    #[error("key {kid} is listed and its material was not found")]
    KeyUnavailable {
        /// The key.
        kid: KeyId,
    },

    /// The text is not of the expected form.
    #[error("malformed {what}")]
    Malformed {
        /// What, and which rule it breaks.
        what: &'static str,
    },

    /// Nothing has this name.
    #[error("{what} not found")]
    NotFound {
        /// What was looked for.
        what: String,
    },

    /// There is no configuration here yet.
    #[error("no vault.toml found {place}")]
    NotInitialised {
        /// Where it was looked for.
        place: String,
    },

    /// A file or variable is longer than the limit.
    #[error("{place} is longer than {limit} bytes")]
    Oversized {
        /// Which one.
        place: String,
        /// The limit in bytes.
        limit: usize,
    },

    /// An application's preset refuses a secret, in the words of that application.
    #[error("{text}")]
    Preset {
        /// What the application says.
        text: String,
        /// The class that our own error has there.
        kind: Kind,
        /// What our own error says, and which preset it was.
        detail: String,
    },

    /// Refused because it could lose data.
    #[error("refused: {reason}")]
    Refused {
        /// What would be lost.
        reason: String,
        /// What to do instead.
        remedy: String,
    },

    /// Locked, interrupted or not yet possible: run it again.
    #[error("{reason}")]
    Temporary {
        /// What is in the way.
        reason: String,
        /// What has to happen before it is run again.
        remedy: String,
    },

    /// Longer than the limit.
    #[error("{what} is longer than {limit} bytes")]
    TooLarge {
        /// What is too long.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },

    /// The token names a key that the keyring does not list.
    #[error("no key {kid} in the keyring")]
    UnknownKey {
        /// The key that the token names.
        kid: KeyId,
    },

    /// A version, suite, key type or flag that this release does not know.
    #[error("unsupported {what}")]
    Unsupported {
        /// What is not known.
        what: &'static str,
    },
}

impl Error {
    /// The stable class of this error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Altered { .. } | Self::Corrupt { .. } => Kind::Corrupt,
            Self::CannotSeal { .. } => Kind::CannotSeal,
            Self::Config { .. } => Kind::Config,
            Self::ContextMismatch => Kind::ContextMismatch,
            Self::Database { .. } => Kind::Database,
            Self::CommitUnknown { .. } | Self::DurabilityUnknown { .. } => Kind::DurabilityUnknown,
            Self::Io { .. } => Kind::Io,
            Self::KeyDisabled { .. } => Kind::KeyDisabled,
            Self::KeyDestroyed { .. } => Kind::KeyDestroyed,
            Self::KeyMalformed { .. } => Kind::KeyMalformed,
            Self::KeyMissing { .. } => Kind::KeyMissing,
            Self::KeyUnavailable { .. } => Kind::KeyUnavailable,
            Self::Malformed { .. } => Kind::Malformed,
            Self::NotFound { .. } => Kind::NotFound,
            Self::NotInitialised { .. } => Kind::NotInitialised,
            Self::Refused { .. } => Kind::Refused,
            Self::Temporary { .. } => Kind::Temporary,
            Self::Preset { kind, .. } => *kind,
            Self::Oversized { .. } | Self::TooLarge { .. } => Kind::TooLarge,
            Self::UnknownKey { .. } => Kind::UnknownKey,
            Self::Unsupported { .. } => Kind::Unsupported,
        }
    }

    /// The class to send to a remote caller: every failure to open is [`Kind::OpenFailed`], so
    /// that nobody learns from an answer why a token was refused.
    #[must_use]
    pub fn public_code(&self) -> Kind {
        match self.kind() {
            Kind::ContextMismatch
            | Kind::Corrupt
            | Kind::KeyDestroyed
            | Kind::KeyDisabled
            | Kind::KeyUnavailable
            | Kind::Malformed
            | Kind::TooLarge
            | Kind::UnknownKey
            | Kind::Unsupported => Kind::OpenFailed,
            other => other,
        }
    }

    /// What to do, where the message does not say it already.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Preset { detail, .. } => Some(detail),
            Self::Refused { remedy, .. } | Self::Temporary { remedy, .. } => Some(remedy),
            Self::Altered { .. } => Some("restore it, from version control or from the backup beside it"),
            Self::UnknownKey { .. } => Some("mount the key that the token names; no other opens it"),
            Self::KeyUnavailable { .. } => Some("mount its file where a source of the keyring finds it"),
            Self::KeyDisabled { .. } => Some("`vault key enable` undoes this"),
            Self::NotInitialised { .. } => Some("name one with --config or VAULT_CORE_CONFIG, or write one"),
            Self::CommitUnknown { .. } => {
                Some("run the command again before anything is started: it finds what was moved, and moves the rest")
            }
            Self::DurabilityUnknown { .. } => Some("check the disk, then run the command again"),
            _ => None,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}

impl From<MalformedKeyId> for Error {
    fn from(_: MalformedKeyId) -> Self {
        Self::Malformed { what: MalformedKeyId::WHAT }
    }
}

impl From<CannotSeal> for Error {
    fn from(CannotSeal(why): CannotSeal) -> Self {
        Self::CannotSeal { why }
    }
}

/// A place in a file that people write.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Line and column, both from 1, where they are known.
    pub at: Option<(usize, usize)>,
}

impl Place {
    /// The file as a whole.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), at: None }
    }

    /// A line and column in the file, both from 1.
    pub fn at(path: impl Into<PathBuf>, line: usize, column: usize) -> Self {
        Self { path: path.into(), at: Some((line, column)) }
    }
}

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.at {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// The classes of error, the same in every language. Numbers are never reused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
#[repr(u32)]
pub enum Kind {
    /// Anything without a class of its own.
    Unclassified = 1,
    /// A command was used wrongly.
    Usage = 2,
    /// The user said no.
    Aborted = 3,
    /// `init` where something exists already.
    AlreadyInitialised = 4,
    /// [`Error::NotInitialised`].
    NotInitialised = 5,
    /// [`Error::NotFound`].
    NotFound = 6,
    /// [`Error::Malformed`].
    Malformed = 7,
    /// [`Error::Unsupported`].
    Unsupported = 8,
    /// [`Error::TooLarge`] and [`Error::Oversized`].
    TooLarge = 9,
    /// [`Error::Corrupt`] and [`Error::Altered`].
    Corrupt = 10,
    /// [`Error::ContextMismatch`].
    ContextMismatch = 11,
    /// Any failure to open, as a remote caller sees it: [`Error::public_code`].
    OpenFailed = 12,
    /// [`Error::CannotSeal`].
    CannotSeal = 13,
    /// A check or scan found something.
    Findings = 14,
    /// [`Error::Config`].
    Config = 15,
    /// [`Error::Io`].
    Io = 16,
    /// [`Error::Database`].
    Database = 17,
    /// [`Error::KeyMissing`].
    KeyMissing = 18,
    /// [`Error::KeyMalformed`].
    KeyMalformed = 19,
    /// [`Error::UnknownKey`].
    UnknownKey = 20,
    /// [`Error::KeyUnavailable`].
    KeyUnavailable = 21,
    /// The doctor found failures.
    DoctorFailures = 22,
    /// [`Error::KeyDisabled`].
    KeyDisabled = 23,
    /// [`Error::KeyDestroyed`].
    KeyDestroyed = 24,
    /// [`Error::Refused`].
    Refused = 25,
    /// [`Error::DurabilityUnknown`].
    DurabilityUnknown = 26,
    /// [`Error::Temporary`].
    Temporary = 27,
}

impl Kind {
    /// The stable name: `key-missing`, `context-mismatch` and so on.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unclassified => "unclassified",
            Self::Usage => "usage",
            Self::Aborted => "aborted",
            Self::AlreadyInitialised => "already-initialised",
            Self::NotInitialised => "not-initialised",
            Self::NotFound => "not-found",
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::TooLarge => "too-large",
            Self::Corrupt => "corrupt",
            Self::ContextMismatch => "context-mismatch",
            Self::OpenFailed => "open-failed",
            Self::CannotSeal => "cannot-seal",
            Self::Findings => "findings",
            Self::Config => "config",
            Self::Io => "io",
            Self::Database => "database",
            Self::KeyMissing => "key-missing",
            Self::KeyMalformed => "key-malformed",
            Self::UnknownKey => "unknown-key",
            Self::KeyUnavailable => "key-unavailable",
            Self::DoctorFailures => "doctor-failures",
            Self::KeyDisabled => "key-disabled",
            Self::KeyDestroyed => "key-destroyed",
            Self::Refused => "refused",
            Self::DurabilityUnknown => "durability-unknown",
            Self::Temporary => "temporary",
        }
    }

    /// The exit status of a command that ends with this kind.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Unclassified => 1,
            Self::Usage => 2,
            Self::Aborted => 3,
            Self::AlreadyInitialised => 5,
            Self::NotInitialised => 6,
            Self::NotFound => 10,
            Self::Malformed
            | Self::Unsupported
            | Self::TooLarge
            | Self::Corrupt
            | Self::ContextMismatch
            | Self::OpenFailed => 11,
            Self::CannotSeal => 12,
            Self::Findings => 14,
            Self::Config => 16,
            Self::Io => 18,
            Self::Database => 19,
            Self::KeyMissing | Self::KeyMalformed | Self::UnknownKey | Self::KeyUnavailable => 20,
            Self::DoctorFailures => 21,
            Self::KeyDisabled | Self::KeyDestroyed => 22,
            Self::Refused => 23,
            Self::DurabilityUnknown => 24,
            Self::Temporary => 75,
        }
    }
}

impl core::fmt::Display for Kind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

fn on_date(at: Option<u64>) -> String {
    match at {
        Some(at) => format!(" on {}", crate::time::Timestamp(at).date()),
        None => String::new(),
    }
}
