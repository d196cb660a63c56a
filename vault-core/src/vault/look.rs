//! What a look at keys and states sees, and what is loaded after it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use crate::error::{Error, Result};
use crate::follow::{Clock, SinceBoot};
use crate::key::MasterKey;
use crate::keyring::Keyring;
use crate::manifest::{KeyringSpec, MAIN, StateLocation, StoreLocation};
use crate::registry::{self, Registry};
use crate::sealer::Sealer;
use crate::stamp::Stamp;
use crate::time::Timestamp;

use super::loaded::Loaded;
use super::{AnyKeyring, Vault, store};

/// What is loaded, and what it was read from.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) loaded: Arc<Loaded>,
    seen: Seen,
    /// The process whose connections these are.
    process: u32,
}

/// What was there when it was read.
#[derive(Debug)]
struct Seen {
    registry: SeenRegistry,
    keyrings: BTreeMap<String, SeenKeyring>,
}

/// What the connection to the database of the store was made by.
#[derive(Debug)]
enum SeenRegistry {
    /// Nothing that can change.
    Same,
    /// The file of the database, by device and number: another may have taken its name.
    File(Option<(u64, u64)>),
    /// The files that the secret with the URL is in.
    Secret(Stamp),
}

#[derive(Clone, Debug)]
struct SeenKeyring {
    sources: Stamp,
    states: SeenStates,
}

#[derive(Clone, Debug)]
enum SeenStates {
    None,
    File(Stamp),
    Store(Option<String>),
}

/// How a vault follows changes of its keys: [`Vault::following`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Following {
    /// When the last look that succeeded was made.
    pub looked: Timestamp,
    /// How many looks were made.
    pub looks: u64,
    /// Why the looks since then failed, if any did. What was loaded before goes on to seal and open.
    pub failure: Option<Arc<String>>,
}

/// What was told of the looks.
#[derive(Debug, Default)]
pub(super) struct Report {
    looks: AtomicU64,
    looked: AtomicU64,
    failure: ArcSwapOption<String>,
    /// When others were told last; 0 if they are to be told at once.
    told: AtomicU64,
}

impl Report {
    pub(super) fn following(&self) -> Following {
        Following {
            looked: Timestamp(self.looked.load(Ordering::Relaxed)),
            looks: self.looks.load(Ordering::Relaxed),
            failure: self.failure.load_full(),
        }
    }

    pub(super) fn looked(&self, failure: Option<&Error>) {
        self.looks.fetch_add(1, Ordering::Relaxed);
        match failure {
            None => {
                self.looked.store(Timestamp::now().0, Ordering::Relaxed);
                if self.failure.swap(None).is_some() {
                    self.at_once();
                }
            }
            Some(error) => {
                if self.failure.swap(Some(Arc::new(error.to_string()))).is_none() {
                    self.at_once();
                }
            }
        }
    }

    /// The next look is told of, however short a time ago the last one was.
    pub(super) fn at_once(&self) {
        self.told.store(0, Ordering::Relaxed);
    }

    /// Whether others are to be told now, by whoever asks.
    pub(super) fn is_due(&self) -> bool {
        let (now, told) = (SinceBoot.now(), self.told.load(Ordering::Relaxed));
        let due = told == 0 || now.wrapping_sub(told) >= TELL_EVERY;
        due && self.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Current {
    /// Nothing, before the first look.
    pub(super) fn nothing() -> Self {
        let loaded = Loaded { keyrings: BTreeMap::new(), sealer: None, registry: None, store: None };
        let seen = Seen { registry: SeenRegistry::Same, keyrings: BTreeMap::new() };
        Self { loaded: Arc::new(loaded), seen, process: std::process::id() }
    }

    /// Whether this process made the connections.
    pub(super) fn is_own(&self) -> bool {
        self.process == std::process::id()
    }
}

impl Vault {
    /// Looks at everything that the loaded keyrings depend on, and reads what has changed; with `all`, reads
    /// all of it. Returns what is loaded then, which is the same as before where nothing is different.
    pub(super) fn look(&self, before: &Current, all: bool) -> Result<Current> {
        let known = &before.loaded;
        let mut seen = Seen { registry: self.seen_registry(), keyrings: BTreeMap::new() };
        let registry = match self.manifest.store() {
            None => None,
            Some(_) if before.seen.registry.still_holds(&seen.registry, all) => known.registry.clone(),
            Some(spec) => registry::open(spec, &self.keys, known.registry.as_ref())?,
        };
        let mut keyrings = BTreeMap::new();
        for spec in self.manifest.keyrings() {
            let now = self.seen_keyring(spec, registry.as_deref())?;
            let unchanged = !all && before.seen.keyrings.get(&spec.name).is_some_and(|seen| seen.still_holds(&now));
            let keyring = match known.keyrings.get(&spec.name) {
                Some(known) if unchanged => known.clone(),
                known => {
                    let read = self.read(spec, registry.as_deref(), known)?;
                    known.map_or(Ok(()), |known| not_backwards(spec, known, &read))?;
                    read
                }
            };
            keyrings.insert(spec.name.clone(), keyring);
            seen.keyrings.insert(spec.name.clone(), now);
        }
        let is_same = |name: &str| match (known.keyrings.get(name), keyrings.get(name)) {
            (Some(before), Some(now)) => before.is_same(now),
            (before, now) => before.is_none() && now.is_none(),
        };
        let same_registry = registry.as_ref().map(Arc::as_ptr) == known.registry.as_ref().map(Arc::as_ptr);
        let loaded = if same_registry && keyrings.keys().all(|name| is_same(name)) {
            Arc::clone(known)
        } else {
            let sealer = match keyrings.get(MAIN) {
                Some(AnyKeyring::Kek(main)) => Some(self.sealer_of(main.clone())),
                _ => None,
            };
            let store = match &known.store {
                Some(store) if same_registry && is_same(MAIN) => Some(Arc::clone(store)),
                _ => store::open_declared(&self.manifest, &self.keys, sealer.as_ref(), registry.as_ref())?,
            };
            Arc::new(Loaded { keyrings, sealer, registry, store })
        };
        Ok(Current { loaded, seen, process: before.process })
    }

    /// The same keys, with connections of this process. What another process opened may not be used here,
    /// and locks of it may be held for ever; the same goes for a look that hangs.
    pub(super) fn reconnected(&self, before: &Current) -> Result<Current> {
        let Loaded { keyrings, sealer, .. } = &*before.loaded;
        let seen = Seen { registry: self.seen_registry(), keyrings: before.seen.keyrings.clone() };
        let registry = self.manifest.store().map_or(Ok(None), |spec| registry::open(spec, &self.keys, None))?;
        let store = store::open_declared(&self.manifest, &self.keys, sealer.as_ref(), registry.as_ref())?;
        let loaded = Loaded { keyrings: keyrings.clone(), sealer: sealer.clone(), registry, store };
        if before.loaded.registry.is_some() {
            // Closing the parent's connections would disturb the parent. Keyrings have none, and are wiped.
            core::mem::forget((before.loaded.registry.clone(), before.loaded.store.clone()));
        }
        Ok(Current { loaded: Arc::new(loaded), seen, process: std::process::id() })
    }

    fn sealer_of(&self, main: Keyring<MasterKey>) -> Sealer {
        let sealer = Sealer::new(main).with_limit(self.limit);
        if self.padded { sealer.with_padding() } else { sealer }
    }

    fn seen_registry(&self) -> SeenRegistry {
        match self.manifest.store().map(|store| &store.location) {
            Some(StoreLocation::Sqlite(path)) => SeenRegistry::File(identity(path)),
            Some(StoreLocation::Secret(name)) => SeenRegistry::Secret(Stamp::of(self.keys.secret_files(name))),
            Some(StoreLocation::File(_) | StoreLocation::Postgres(_)) | None => SeenRegistry::Same,
        }
    }

    fn seen_keyring(&self, spec: &KeyringSpec, registry: Option<&dyn Registry>) -> Result<SeenKeyring> {
        let sources = Stamp::of(self.keys.key_files(spec)?);
        let states = match (&spec.state, registry) {
            (Some(StateLocation::File(path)), _) => SeenStates::File(Stamp::of(vec![path.clone()])),
            (Some(StateLocation::Store), Some(registry)) => SeenStates::Store(registry.states(&spec.name)?),
            _ => SeenStates::None,
        };
        Ok(SeenKeyring { sources, states })
    }
}

impl SeenRegistry {
    /// Whether the connection goes where one that is made now would go. With `all`, a URL that may have
    /// changed is read again.
    fn still_holds(&self, now: &Self, all: bool) -> bool {
        match (self, now) {
            (Self::File(before), Self::File(now)) => before == now,
            (Self::Secret(before), Self::Secret(now)) => !all && before.still_holds(now),
            // One that was never opened is nothing, whatever it would be.
            _ => false,
        }
    }
}

impl SeenKeyring {
    fn still_holds(&self, now: &Self) -> bool {
        let states = match (&self.states, &now.states) {
            (SeenStates::None, SeenStates::None) => true,
            (SeenStates::File(before), SeenStates::File(now)) => before.still_holds(now),
            (SeenStates::Store(before), SeenStates::Store(now)) => before == now,
            _ => false,
        };
        states && self.sources.still_holds(&now.sources)
    }
}

/// Refuses states that are older than the ones that are loaded: an old file that came back, or was put
/// back, would have the process seal under a key that was replaced.
fn not_backwards(spec: &KeyringSpec, loaded: &AnyKeyring, read: &AnyKeyring) -> Result<()> {
    if read.generation() >= loaded.generation() {
        return Ok(());
    }
    Err(Error::Refused {
        reason: format!(
            "the states of keyring {} have generation {}, and this process has loaded generation {}",
            spec.name,
            read.generation(),
            loaded.generation()
        ),
        remedy: "redeploy the newest states; a process that is to go back is started again".to_owned(),
    })
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;

    path.metadata().ok().map(|found| (found.dev(), found.ino()))
}

/// How often others are told of looks that found nothing new, in nanoseconds.
const TELL_EVERY: u64 = 5_000_000_000;

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::follow::Turn;
    use crate::vault::Config;

    use super::*;

    /// The derivation of a key text takes longer than all the rest of a look.
    #[test]
    fn what_did_not_change_is_not_derived_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(
            path("vault.toml"),
            "version = 1\n[keyring.main]\nsources = [\"file:kek\"]\n[keyring.text]\nkind = \"text\"\n\
             sources = [\"file:text\"]\n",
        )
        .unwrap();
        fs::write(path("kek"), MasterKey::generate().unwrap().text().expose_secret()).unwrap();
        fs::write(path("text"), "a password\n").unwrap();
        let vault = Vault::load(Config::from_file(path("vault.toml")).unwrap()).unwrap();
        let before = vault.loaded();
        vault.refresh().unwrap();
        assert!(Arc::ptr_eq(&before, &vault.loaded()));
        // Written again as it was, with another line break.
        fs::write(path("text"), "a password\r\n").unwrap();
        vault.refresh().unwrap();
        assert!(Arc::ptr_eq(&before, &vault.loaded()));
        fs::write(path("kek"), MasterKey::generate().unwrap().text().expose_secret()).unwrap();
        vault.refresh().unwrap();
        let after = vault.loaded();
        let same = |name: &str| before.keyrings[name].is_same(&after.keyrings[name]);
        assert!(same("text") && !same("main"));
    }

    /// A look that hangs, or is another process's, may have locked what it uses.
    #[test]
    fn a_look_that_is_taken_over_connects_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(
            path("vault.toml"),
            "version = 1\n[keyring.main]\nsources = [\"file:kek\"]\n[store]\nurl = \"file:store.toml\"\n",
        )
        .unwrap();
        fs::write(path("kek"), MasterKey::generate().unwrap().text().expose_secret()).unwrap();
        let vault = Vault::load(Config::from_file(path("vault.toml")).unwrap()).unwrap();
        let before = vault.loaded();
        vault.look_and_keep(Turn::Next, false).unwrap();
        assert!(Arc::ptr_eq(&before, &vault.loaded()));
        vault.look_and_keep(Turn::TakenOver, false).unwrap();
        let after = vault.loaded();
        assert!(!Arc::ptr_eq(before.store.as_ref().unwrap(), after.store.as_ref().unwrap()));
        assert!(before.keyrings["main"].is_same(&after.keyrings["main"]));
    }
}
