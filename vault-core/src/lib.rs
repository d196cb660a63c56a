//! Sealed secrets under rotating master keys.
#![forbid(unsafe_code)]

#[cfg(not(any(feature = "ring", feature = "rustcrypto")))]
compile_error!("vault-core needs the feature `ring` or the feature `rustcrypto`");

pub mod column;
mod context;
mod database;
mod envelope;
mod error;
mod file;
#[cfg(feature = "foreign")]
pub mod foreign;
mod format;
mod glob;
mod key;
mod keyring;
mod manifest;
mod name;
mod primitives;
mod resolver;
#[cfg(feature = "foreign")]
pub mod rotate;
mod sealer;
mod secret;
mod time;
mod token;
#[cfg(all(feature = "foreign", feature = "sqlite"))]
mod vault;

pub use context::Context;
#[cfg(feature = "sqlite")]
pub use database::sqlite::SqliteDatabase;
pub use database::Access;
pub use error::{Error, Kind, Place, Result};
pub use format::Format;
pub use key::{KeyFormat, KeyId, KeyTextError, MasterKey, TextKey, Trim, Weakness};
pub use keyring::{Change, Found, KeyRecord, KeyState, KeyView, Keyring, KeyringKind, KeyringState, Material, Retired};
pub use manifest::{KeySource, KeyringSpec, Manifest, SecretKind, SecretSpec, StoreLocation};
pub use name::SecretName;
pub use resolver::{Resolved, Resolver, Source, read_file};
pub use sealer::Sealer;
pub use secret::SecretBytes;
pub use time::Timestamp;
pub use token::{DEFAULT_LIMIT, HARD_LIMIT, Inspection, Token, WrappedKey};
#[cfg(all(feature = "foreign", feature = "sqlite"))]
pub use vault::{AnyKeyring, Config, Scope, Vault};
