//! A store in one TOML file, with one line for each secret.

mod document;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use crate::column_spec::ColumnFinding;
use crate::error::{Error, Place, Result};
use crate::file::{self, Lock};
use crate::key::MasterKey;
use crate::keyring::{KeyState, Keyring};
use crate::name::Version;
use crate::primitives;
use crate::time::Timestamp;

use super::{DEFAULT_KEEP, Entry, EntryKey, EntryName, Guard, NewEntry, Replacement, Store, pick};

use document::Document;

/// Longest file, in bytes.
const MAX_FILE: usize = 64 << 20;
/// Most entries, counting versions.
const MAX_ENTRIES: usize = 100_000;

/// A store in one TOML file: reviewable, and written whole.
///
/// Readers take no lock. Writers lock `<file>.lock`, read the file again, write a new one beside
/// it and rename it; the file before is kept as `<file>.bak`. A MAC under the primary key covers
/// all entries, so that one that is removed, added, swapped or taken from an older file is
/// noticed; an older file as a whole is not, unless the keyring was rotated since.
///
/// At most 100,000 entries and 64 MiB.
#[derive(Clone, Debug)]
pub struct FileStore {
    path: PathBuf,
    guard: Guard,
}

impl FileStore {
    /// The store at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, keyring: Keyring<MasterKey>) -> Self {
        let path = path.into();
        let location = format!("store {}", path.display());
        Self { path, guard: Guard { keyring, location, keep: DEFAULT_KEEP } }
    }

    /// Keeps so many previous versions of each secret.
    #[must_use]
    pub fn with_keep(mut self, keep: u32) -> Self {
        self.guard.keep = keep;
        self
    }

    /// The content, after its MAC was checked.
    fn load(&self) -> Result<Document> {
        let document = self.read()?;
        // What was altered is not believed about generations; what is under a key that is not
        // there may well be of a newer one.
        let authentic = match self.check_mac(&document) {
            Err(altered @ Error::Altered { .. }) => return Err(altered),
            other => other,
        };
        self.guard.check_pin(document.keyring_generation)?;
        let kid = document.mac_kid;
        let keyring = &self.guard.keyring;
        if kid != keyring.primary_kid() {
            // Between a promotion and the next write of the store, and never later.
            let replaced = keyring.keys().any(|key| key.kid == kid && key.state == KeyState::DecryptOnly);
            if replaced && document.keyring_generation + 1 != keyring.generation() {
                return Err(Error::Refused {
                    reason: format!(
                        "{} was written last under key {kid}, which was replaced since: it is an older file",
                        self.guard.location
                    ),
                    remedy: "restore the newest; `vault rotate run --accept-rollback` accepts this one".to_owned(),
                });
            }
        }
        authentic.map(|()| document)
    }

    fn read(&self) -> Result<Document> {
        let content = file::read(&self.path, MAX_FILE).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                self.guard.unreachable("it does not exist; `vault init --store-only` makes an empty one")
            }
            Error::Io { source, .. } => self.guard.unreachable(source.to_string()),
            other => other,
        })?;
        let text = core::str::from_utf8(content.expose_secret())
            .map_err(|_| Error::Config { place: Place::file(&self.path), reason: "it is not UTF-8 text".to_owned() })?;
        Document::parse(text, &self.path)
    }

    fn check_mac(&self, document: &Document) -> Result<()> {
        let key = self.guard.keyring.opening(document.mac_kid)?;
        if primitives::equal(&document.mac, &document.mac_under(key)) {
            return Ok(());
        }
        Err(Error::Altered { location: self.guard.location.clone() })
    }

    /// Changes the content under the lock. What `work` says was not changed is not written.
    fn change<T>(
        &self,
        load: impl FnOnce() -> Result<Document>,
        work: impl FnOnce(&mut Document) -> Result<T>,
    ) -> Result<T> {
        let _lock = Lock::of(&self.path)?;
        let mut document = load()?;
        let before = document.clone();
        let done = work(&mut document)?;
        if document != before {
            self.write(document)?;
        }
        Ok(done)
    }

    fn write(&self, mut document: Document) -> Result<()> {
        if document.entries.len() > MAX_ENTRIES {
            return Err(Error::TooLarge { what: "list of entries in the store", limit: MAX_ENTRIES });
        }
        let key = self.guard.keyring.primary()?;
        document.generation += 1;
        document.mac_kid = key.kid();
        document.mac = document.mac_under(key);
        let text = document.render();
        if text.len() > MAX_FILE {
            return Err(Error::TooLarge { what: "file of the store", limit: MAX_FILE });
        }
        if Document::parse(&text, &self.path)? != document {
            return Err(Error::Malformed { what: "store: it would not read back as it is" });
        }
        file::replace(&self.path, text.as_bytes(), 0o600)
    }
}

impl Store for FileStore {
    fn location(&self) -> &str {
        &self.guard.location
    }

    fn create(&self) -> Result<()> {
        let _lock = Lock::of(&self.path)?;
        if self.exists()? {
            return self.load().map(drop);
        }
        self.write(Document::empty(self.guard.keyring.primary()?.kid(), self.guard.keyring.generation())?)
    }

    fn exists(&self) -> Result<bool> {
        self.guard.exists(&self.path)
    }

    fn check(&self) -> Result<Vec<ColumnFinding>> {
        let mut under = BTreeMap::new();
        self.load()?.entries.values().for_each(|entry| *under.entry(entry.token.kid()).or_default() += 1);
        Ok(self.guard.unreadable(&under))
    }

    fn get(&self, name: &EntryName, version: Version) -> Result<Option<Entry>> {
        let document = self.load()?;
        Ok(pick(&document.versions(name), version).cloned())
    }

    fn names(&self) -> Result<Vec<EntryName>> {
        let mut names: Vec<EntryName> = self.load()?.entries.into_keys().map(|key| key.name).collect();
        names.dedup();
        Ok(names)
    }

    fn versions(&self, name: &EntryName) -> Result<Vec<Entry>> {
        let mut versions = self.load()?.versions(name);
        versions.reverse();
        Ok(versions)
    }

    fn page(&self, after: Option<&EntryKey>, limit: usize) -> Result<Vec<Entry>> {
        let document = self.load()?;
        let behind = document.entries.into_values().skip_while(|entry| after.is_some_and(|after| entry.key <= *after));
        Ok(behind.take(limit).collect())
    }

    fn put(&self, new: &[NewEntry<'_>]) -> Result<Vec<u64>> {
        self.guard.check_new(new)?;
        self.change(
            || self.load(),
            |document| {
                let now = Timestamp::now();
                Ok(new.iter().map(|entry| document.put(entry, now, self.guard.keep)).collect())
            },
        )
    }

    fn replace(&self, changes: &[Replacement]) -> Result<Vec<bool>> {
        changes.iter().try_for_each(|change| self.guard.check_token(&change.new))?;
        self.change(
            || self.load(),
            |document| {
                let now = Timestamp::now();
                Ok(changes.iter().map(|change| document.replace(change, now)).collect())
            },
        )
    }

    fn remove(&self, name: &EntryName, version: Option<u64>) -> Result<u64> {
        self.change(
            || self.load(),
            |document| {
                let before = document.entries.len();
                document
                    .entries
                    .retain(|key, _| key.name != *name || version.is_some_and(|number| key.version != number));
                Ok(u64::try_from(before - document.entries.len()).unwrap_or(u64::MAX))
            },
        )
    }

    fn settle(&self, accept_rollback: bool) -> Result<()> {
        let keyring = &self.guard.keyring;
        // Where nothing is to be done, a store that cannot be written is as good.
        if self
            .load()
            .is_ok_and(|now| (now.mac_kid, now.keyring_generation) == (keyring.primary_kid(), keyring.generation()))
        {
            return Ok(());
        }
        let load = || {
            if !accept_rollback {
                return self.load();
            }
            let document = self.read()?;
            self.check_mac(&document)?;
            Ok(document)
        };
        self.change(load, |document| {
            // The MAC itself is made when the content is written.
            document.mac_kid = keyring.primary_kid();
            document.keyring_generation = keyring.generation();
            Ok(())
        })
    }
}
