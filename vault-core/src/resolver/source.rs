//! What is told of a secret that was found.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::key::KeyId;
use crate::manifest::Preset;
use crate::name::SecretName;
use crate::os_keyring::OsKeyringItem;
use crate::secret::SecretBytes;

/// A source. In which order they are asked is in the rules of each preset.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Lookup {
    Credential,
    Declared,
    EnvironmentFile,
    Mount,
    NamedFile,
    OsKeyring,
    StackMount,
    Store,
    Variable,
}

/// A secret and where it was found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resolved {
    /// The exact bytes, but for what the secret's preset removes: one trailing line break of text
    /// where none is named.
    pub value: SecretBytes,
    /// Where it was found.
    pub source: Source,
    /// What people should know about it.
    pub notes: Vec<Note>,
}

/// Where a secret was found.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// Other secrets, as `composed` in `vault.toml` says.
    Composed {
        /// Each, and where it was found.
        parts: Vec<(SecretName, Source)>,
    },
    /// A credential of systemd.
    Credential(PathBuf),
    /// The file that `vault.toml` names.
    Declared(PathBuf),
    /// `default` in `vault.toml`, because no source has it.
    Default,
    /// A line of an environment file.
    EnvironmentFile(PathBuf),
    /// The primary key of a keyring.
    Keyring {
        /// Which keyring.
        keyring: String,
        /// Which key.
        kid: KeyId,
    },
    /// A file where secrets are mounted.
    Mount(PathBuf),
    /// The file that a variable names.
    Named {
        /// The file.
        path: PathBuf,
        /// The variable.
        variable: String,
    },
    /// An item of the operating system's keyring.
    OsKeyring(OsKeyringItem),
    /// The store of `vault.toml`.
    Store {
        /// Which store.
        location: String,
        /// Which version of the secret.
        version: u64,
    },
    /// An environment variable itself.
    Variable(String),
}

impl Source {
    /// The stable name of such a source: `store`, `variable` and so on.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Composed { .. } => "composed",
            Self::Credential(_) => "credential",
            Self::Declared(_) => "declared",
            Self::Default => "default",
            Self::EnvironmentFile(_) => "environment-file",
            Self::Keyring { .. } => "keyring",
            Self::Mount(_) => "mount",
            Self::Named { .. } => "named",
            Self::OsKeyring(_) => "os-keyring",
            Self::Store { .. } => "store",
            Self::Variable(_) => "variable",
        }
    }

    /// The file, unless it is none.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Credential(path)
            | Self::Declared(path)
            | Self::EnvironmentFile(path)
            | Self::Mount(path)
            | Self::Named { path, .. } => Some(path),
            Self::Composed { .. }
            | Self::Default
            | Self::Keyring { .. }
            | Self::OsKeyring(_)
            | Self::Store { .. }
            | Self::Variable(_) => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Composed { parts } if parts.is_empty() => f.write_str("composed of no secret"),
            Self::Composed { parts } => {
                for (at, (name, source)) in parts.iter().enumerate() {
                    write!(f, "{}{name} ({source})", if at == 0 { "composed of " } else { ", " })?;
                }
                Ok(())
            }
            Self::Credential(path) | Self::Declared(path) | Self::Mount(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("`default` in vault.toml"),
            Self::Keyring { keyring, kid } => write!(f, "keyring {keyring}, primary key {kid}"),
            Self::EnvironmentFile(path) => write!(f, "environment file {}", path.display()),
            Self::Named { path, variable } => write!(f, "file {}, named by {variable}", path.display()),
            Self::OsKeyring(item) => item.fmt(f),
            Self::Store { location, version } => write!(f, "{location}, version {version}"),
            Self::Variable(name) => write!(f, "environment {name}"),
        }
    }
}

/// What people should know about a secret that was found.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// No source has it, and `default` in `vault.toml` takes its place.
    Default,
    /// It is empty, which the preset's application takes as a value, or which is no error because
    /// it need not exist.
    Empty,
    /// A file or a variable has the name in another spelling, and is not read.
    OtherSpelling(String),
    /// A source exists and cannot be read, and the preset's application looks further.
    PassedOver(String),
    /// Its bytes are no UTF-8, and the preset's application puts U+FFFD in their place.
    Replaced,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("no source has it, so it is the default that vault.toml states; set it"),
            Self::Empty => f.write_str("it is empty"),
            Self::OtherSpelling(place) => write!(f, "{place} has its name in another spelling, and is not read"),
            Self::PassedOver(reason) => write!(f, "the application passes over what it cannot read: {reason}"),
            Self::Replaced => f.write_str("it is not UTF-8, and the application replaces what it cannot read"),
        }
    }
}

/// Where a secret comes from, and what that keeps from being used.
#[derive(Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// By whose rules.
    pub preset: Preset,
    /// The source that wins.
    pub source: Source,
    /// Everything else that has it or cannot tell, in the order in which it would be asked; then
    /// what the preset's application never asks.
    pub shadowed: Vec<Shadowed>,
    /// What people should know about the value.
    pub notes: Vec<Note>,
}

/// A source that is not used.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Shadowed {
    /// It has the secret.
    Has(Source),
    /// It exists and cannot be read; the text says where and why.
    Unreadable(String),
}

impl fmt::Display for Shadowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Has(source) => source.fmt(f),
            Self::Unreadable(reason) => write!(f, "what cannot be read: {reason}"),
        }
    }
}

pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound)
}
