//! Sealed secrets under rotating master keys.
//!
//! A secret is sealed under a fresh data key, the data key is wrapped under a master key, and both
//! are bound to a context. The result is a text, the token, that an application keeps in its own
//! database. The master key can be changed across the rows of that database while the application
//! runs, and nothing is lost wherever that is interrupted.
//!
//! ```text
//! source ──► key ──► keyring ──► sealer ──► token ──► column of an application's database
//! (file,     (id)    (states)    (seal,     (vs1.…)   (rotation: rewrap in batches,
//!  secret)                        open,                compare-and-swap)
//!                                 rewrap)
//! ```
//!
//! # The smallest use
//!
//! 1. Make a key: `vault key generate --out vault_kek`.
//! 2. Load it: [`Sealer::from_key_file`].
//! 3. Say what the secret belongs to: [`Context`].
//! 4. Seal it, keep the token, and open it again: [`Sealer::seal`], [`Sealer::open`].
//!
//! With a `vault.toml`, `Vault` holds keyrings of several keys, finds deployment secrets by name
//! and gives the `rotate::Rotation` over the columns that are declared there.
//!
//! # Features
//!
//! - `ring` (default): payload cipher from ring; `rustcrypto`: the
//!   same bytes without ring. One of them is needed, and where both are on, ring is used.
//! - `vault` (default): `vault.toml`, with keyrings of several keys, secrets by name and a store in a
//!   file; with it `formats`: the formats that other applications store today.
//! - `sqlite`, `postgres`: columns and stores in databases, and their rotation. `postgres` blocks,
//!   on an async runtime of its own: call it with `spawn_blocking` from a thread of another.
//!
//! # What it does not do
//!
//! No global state, no background thread, no async outside `postgres`, no change to the process that links it. No
//! call takes a data key, a nonce or randomness. Memory is wiped and not locked: swap and a
//! debugger of the same user see what the process sees.
#![forbid(unsafe_code)]

#[cfg(not(any(feature = "ring", feature = "rustcrypto")))]
compile_error!("vault-core needs the feature `ring` or the feature `rustcrypto`");

#[cfg(feature = "vault")]
pub mod check;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub mod column;
#[cfg(all(feature = "vault", not(any(feature = "postgres", feature = "sqlite"))))]
pub mod column {
    //! Declarations of columns; what works on them needs the feature of their database.

    pub use crate::column_spec::{ColumnFinding, ColumnSpec, ContextTemplate};
}
#[cfg(feature = "vault")]
mod column_spec;
mod context;
mod database;
#[cfg(feature = "vault")]
pub mod dotenv;
mod envelope;
mod error;
mod file;
#[cfg(feature = "vault")]
mod follow;
mod format;
#[cfg(feature = "vault")]
mod generate;
#[cfg(feature = "vault")]
mod glob;
mod hex;
mod key;
mod keyring;
#[cfg(feature = "formats")]
pub mod legacy;
#[cfg(feature = "vault")]
pub mod lifecycle;
#[cfg(feature = "vault")]
mod manifest;
#[cfg(feature = "vault")]
mod name;
#[cfg(feature = "vault")]
mod os_keyring;
#[cfg(feature = "vault")]
mod permissions;
mod primitives;
#[cfg(feature = "vault")]
mod registry;
#[cfg(feature = "vault")]
mod resolver;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub mod rotate;
mod sealer;
mod secret;
#[cfg(feature = "vault")]
mod stamp;
#[cfg(feature = "vault")]
mod store;
mod time;
mod token;
mod toml_text;
#[cfg(feature = "vault")]
mod vault;

pub use context::{Context, ContextHash, MAX_ENCODING, MAX_FIELD, MAX_FIELDS};
pub use database::Access;
#[cfg(feature = "postgres")]
pub use database::postgres::PostgresDatabase;
#[cfg(feature = "sqlite")]
pub use database::sqlite::SqliteDatabase;
#[cfg(feature = "vault")]
pub use database::{DatabaseLocation, PostgresUrl, sqlite_path};
pub use error::{Error, Kind, Place, Result};
pub use file::{append_to, create_directory, create_file};
pub use format::Format;
#[cfg(feature = "vault")]
pub use generate::Generate;
#[cfg(feature = "formats")]
pub use key::TextKey;
pub use key::{KeyFormat, KeyId, KeyTextError, MAX_KEY_TEXT, MalformedKeyId, MasterKey, Trim, Weakness};
#[cfg(feature = "vault")]
pub use keyring::{Change, Followed, Retired};
pub use keyring::{Found, KeyRecord, KeyState, KeyView, Keyring, KeyringKind, KeyringState, Material};
#[cfg(feature = "vault")]
pub use manifest::{
    KeySource, KeyringSpec, Manifest, Preset, SecretKind, SecretSpec, StateLocation, StoreLocation, StoreSpec,
};
#[cfg(feature = "vault")]
pub use name::{SecretName, Version};
#[cfg(feature = "vault")]
pub use os_keyring::{OsKeyring, OsKeyringItem};
#[cfg(feature = "vault")]
pub use permissions::{Allowed, Permissions, replaced_by_strangers};
#[cfg(feature = "vault")]
pub use registry::{Heartbeat, Presence};
#[cfg(feature = "vault")]
pub use resolver::{Explanation, Note, Resolved, Resolver, Shadowed, Source, read_file};
pub use sealer::Sealer;
pub use secret::SecretBytes;
#[cfg(feature = "postgres")]
pub use store::PostgresStore;
#[cfg(feature = "sqlite")]
pub use store::SqliteStore;
#[cfg(feature = "vault")]
pub use store::{DEFAULT_KEEP, Entry, EntryKey, EntryName, FileStore, NewEntry, Replacement, STORE_ENTRY, Store};
pub use time::Timestamp;
pub use token::{DEFAULT_LIMIT, HARD_LIMIT, Inspection, Token, WrappedKey};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use vault::Scope;
#[cfg(feature = "vault")]
pub use vault::{AnyKeyring, Config, Following, Vault};

/// The examples of the README are compiled and run with the others.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../../README.md")]
mod readme {}
