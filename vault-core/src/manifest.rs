//! `vault.toml`: what an operator declares.

mod preset;
mod reader;
mod schema;
mod secrets;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::column_spec::ColumnSpec;
use crate::database::PostgresUrl;
use crate::error::{Error, Place, Result};
use crate::file;
use crate::follow::DEFAULT_FOLLOW;
use crate::format::Format;
use crate::glob;
use crate::key::Trim;
use crate::keyring::KeyringKind;
use crate::name::SecretName;
use crate::os_keyring::OsKeyringItem;
use crate::toml_text;

use reader::Reader;

pub use preset::Preset;
use secrets::parts_of;
pub(crate) use secrets::{Piece, pieces};
pub use secrets::{SecretKind, SecretSpec};

/// The keyring that seals tokens unless a column names another.
pub(crate) const MAIN: &str = "main";

/// A `vault.toml`, checked: a value of this type has no contradictions in it.
#[derive(Clone, Debug)]
pub struct Manifest {
    path: PathBuf,
    app: Option<String>,
    nodes: Option<u32>,
    follow: Duration,
    preset: Preset,
    stack: Option<String>,
    store: Option<StoreSpec>,
    keyrings: BTreeMap<String, KeyringSpec>,
    secrets: BTreeMap<SecretName, SecretSpec>,
    columns: Vec<ColumnSpec>,
}

impl Manifest {
    /// Reads a `vault.toml`, with the changes of a profile where one is named.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::TooLarge`], or as [`parse`](Self::parse).
    pub fn load(path: &Path, profile: Option<&str>) -> Result<Self> {
        let content = file::read(path, MAX_FILE)?;
        let text = core::str::from_utf8(content.expose_secret())
            .map_err(|_| Error::Config { place: Place::file(path), reason: "it is not UTF-8 text".to_owned() })?;
        let path = path.canonicalize().map_err(|source| Error::io("find", path, source))?;
        Self::parse(text, &path, profile)
    }

    /// Reads the text of a `vault.toml` that is at `path`: paths in it are relative to its
    /// directory.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with line and column, and never with what stands there.
    pub fn parse(text: &str, path: &Path, profile: Option<&str>) -> Result<Self> {
        let raw = toml_text::parse(path, text)?;
        Reader { path, text }.manifest(&raw, profile)
    }

    /// What takes the place of a `vault.toml` for the one key in a file.
    pub(crate) fn of_key_file(path: &Path, kind: KeyringKind, trim: Trim) -> Self {
        let keyring = KeyringSpec {
            name: MAIN.to_owned(),
            kind,
            sources: vec![KeySource::File(path.to_owned())],
            state: None,
            min_generation: 0,
            trim,
            declared_in: path.to_owned(),
        };
        Self {
            path: path.to_owned(),
            app: None,
            nodes: None,
            follow: DEFAULT_FOLLOW,
            preset: Preset::Strict,
            stack: None,
            store: None,
            keyrings: BTreeMap::from([(MAIN.to_owned(), keyring)]),
            secrets: BTreeMap::new(),
            columns: Vec::new(),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The application that it is for.
    #[must_use]
    pub fn app(&self) -> Option<&str> {
        self.app.as_deref()
    }

    /// How many processes hold the keys, where that is declared.
    #[must_use]
    pub fn nodes(&self) -> Option<u32> {
        self.nodes
    }

    /// How old the last look at keys and their states may be before a vault seals.
    #[must_use]
    pub fn follow(&self) -> Duration {
        self.follow
    }

    /// By whose rules secrets are found that name no preset of their own.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.preset
    }

    /// What the names of mounted secrets may begin with: `raqeem_production` of
    /// `/run/secrets/raqeem_production_database_url`.
    #[must_use]
    pub fn stack(&self) -> Option<&str> {
        self.stack.as_deref()
    }

    /// The store, where one is declared.
    #[must_use]
    pub fn store(&self) -> Option<&StoreSpec> {
        self.store.as_ref()
    }

    /// All keyrings.
    pub fn keyrings(&self) -> impl Iterator<Item = &KeyringSpec> {
        self.keyrings.values()
    }

    /// A keyring by name.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it is not declared.
    pub fn keyring(&self, name: &str) -> Result<&KeyringSpec> {
        self.keyrings.get(name).ok_or_else(|| {
            let known: Vec<_> = self.keyrings.keys().map(String::as_str).collect();
            self.wrong(format!("no [keyring.{name}] is declared; declared are: {}", known.join(", ")))
        })
    }

    /// The keyring of a format's keys in a column.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if none of that kind is declared for it.
    pub fn keyring_for(&self, column: &ColumnSpec, format: Format) -> Result<&KeyringSpec> {
        self.pick(column, format).map_err(|reason| self.wrong(format!("column {}: {reason}", column.name)))
    }

    /// All columns.
    #[must_use]
    pub fn columns(&self) -> &[ColumnSpec] {
        &self.columns
    }

    /// A column by name.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it is not declared.
    pub fn column(&self, name: &str) -> Result<&ColumnSpec> {
        self.columns
            .iter()
            .find(|column| column.name == name)
            .ok_or_else(|| Error::NotFound { what: format!("column {name}") })
    }

    /// The declared secrets, as the profile changes them.
    pub fn secrets(&self) -> impl Iterator<Item = (&SecretName, &SecretSpec)> {
        self.secrets.iter()
    }

    /// The secrets that keyrings take their keys from.
    pub(crate) fn keys_in_secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.keyrings.values().flat_map(|keyring| &keyring.sources).filter_map(|source| match source {
            KeySource::Secret(name) => Some(name),
            KeySource::File(_) | KeySource::OsKeyring(_) => None,
        })
    }

    /// The secrets that it takes to open the store, which therefore cannot be in it: those that its
    /// keyring and its URL are in, and what these are composed of.
    pub(crate) fn needed_by_store(&self) -> BTreeSet<SecretName> {
        let Some(store) = &self.store else { return BTreeSet::new() };
        let url = match &store.location {
            StoreLocation::Secret(name) => Some(name),
            _ => None,
        };
        // Every keyring is loaded before the store is opened.
        let mut waiting: Vec<SecretName> = self.keys_in_secrets().chain(url).cloned().collect();
        let mut needed = BTreeSet::new();
        while let Some(name) = waiting.pop() {
            let composed = self.secrets.get(&name).and_then(|spec| spec.composed.as_deref());
            waiting.extend(composed.and_then(|composed| parts_of(composed).ok()).unwrap_or_default());
            needed.insert(name);
        }
        needed
    }

    /// The keyring, or which field has to name one.
    fn pick(&self, column: &ColumnSpec, format: Format) -> Result<&KeyringSpec, &'static str> {
        let (kind, reason) = match format {
            Format::Plaintext => return Err("plain text has no keys"),
            Format::Vs1 => (
                KeyringKind::Kek,
                "\"vs1\" needs a keyring of kind \"kek\": declare [keyring.main], or name one in `keyring` of a column that writes it or in `reads_keyring`",
            ),
            _ => (
                KeyringKind::Text,
                "a legacy format needs a keyring of kind \"text\": name it in `keyring` of a column that writes it or in `reads_keyring`",
            ),
        };
        let main = (kind == KeyringKind::Kek).then_some(MAIN);
        [Some(column.keyring.as_str()), column.reads_keyring.as_deref(), main]
            .into_iter()
            .flatten()
            .filter_map(|name| self.keyrings.get(name))
            .find(|keyring| keyring.kind == kind)
            .ok_or(reason)
    }

    fn wrong(&self, reason: String) -> Error {
        Error::Config { place: Place::file(&self.path), reason }
    }
}

/// A declared keyring.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyringSpec {
    /// Its name.
    pub name: String,
    /// What its keys are.
    pub kind: KeyringKind,
    /// Where its keys are looked for.
    pub sources: Vec<KeySource>,
    /// Where its states are; without any, it has exactly one key.
    pub state: Option<StateLocation>,
    /// Least generation that is accepted of the state file.
    pub min_generation: u64,
    /// What is removed from key texts, by the formats of the columns that use them.
    pub trim: Trim,
    /// The file that declares it, for errors.
    pub(crate) declared_in: PathBuf,
}

impl KeyringSpec {
    /// Where the key in `file` goes so that a source finds it: under its own name where a pattern
    /// matches that, else under the pattern's name with `stem` for the `*`, else where a named
    /// file is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if no source takes another file.
    pub fn destination(&self, file: &Path, stem: &str) -> Result<PathBuf> {
        let files = || {
            self.sources.iter().filter_map(|source| match source {
                KeySource::File(path) => Some(path),
                KeySource::OsKeyring(_) | KeySource::Secret(_) => None,
            })
        };
        let patterns = || files().filter(|path| glob::is_pattern(path));
        if let Some(name) = file.file_name()
            && let Some(pattern) = patterns().find(|pattern| glob::matches(pattern, name))
        {
            return Ok(pattern.with_file_name(name));
        }
        for pattern in patterns() {
            let made =
                pattern.file_name().unwrap_or_default().to_string_lossy().replacen('*', stem, 1).replace('*', "");
            if !made.contains(['?', '/', '\0']) && glob::matches(pattern, made.as_ref()) {
                return Ok(pattern.with_file_name(made));
            }
        }
        // A link that leads nowhere is not a free place.
        let missing =
            |path: &&PathBuf| path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        files().filter(|path| !glob::is_pattern(path)).find(missing).cloned().ok_or_else(|| Error::Config {
            place: Place::file(&self.declared_in),
            reason: format!(
                "no source of [keyring.{}] takes another key file; add one with a pattern, like \"file:/run/secrets/vault_kek_*\"",
                self.name
            ),
        })
    }
}

/// Where keys are looked for.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KeySource {
    /// A file, or with `*` or `?` in its name all that match.
    File(PathBuf),
    /// An item of the operating system's keyring.
    OsKeyring(OsKeyringItem),
    /// A secret, resolved by name and never from the store.
    Secret(SecretName),
}

/// A declared store. Its tokens are under the keyring `main`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct StoreSpec {
    /// Where it is.
    pub location: StoreLocation,
    /// How many previous versions of each secret it keeps.
    pub keep: u32,
}

/// Where the states of a keyring are.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum StateLocation {
    /// A state file.
    File(PathBuf),
    /// The database of the store, under the keyring's name.
    Store,
}

impl StateLocation {
    /// The state file, where it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Store => None,
        }
    }
}

/// Where a store is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum StoreLocation {
    /// A TOML file.
    File(PathBuf),
    /// A PostgreSQL server.
    Postgres(PostgresUrl),
    /// A secret that holds the URL of a PostgreSQL server.
    Secret(SecretName),
    /// An SQLite database.
    Sqlite(PathBuf),
}

/// Longest `vault.toml`, in bytes.
const MAX_FILE: usize = 1 << 20;
