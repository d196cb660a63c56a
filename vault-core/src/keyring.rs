//! Keys that serve one purpose, and their states (docs/FORMAT.md, "Keyring").

#[cfg(feature = "vault")]
mod change;
#[cfg(feature = "vault")]
mod followed;
#[cfg(feature = "vault")]
mod place;
#[cfg(feature = "vault")]
mod retired;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::key::{KeyId, KeyTextError, MasterKey};
use crate::primitives;
use crate::time::Timestamp;

#[cfg(feature = "vault")]
pub(crate) use change::{NewKey, add, change, check, check_addition, hidden};
#[cfg(feature = "vault")]
pub use followed::Followed;
#[cfg(feature = "vault")]
pub(crate) use place::{StateFile, States, rendered};
#[cfg(feature = "vault")]
pub use retired::Retired;
#[cfg(feature = "vault")]
pub use state::Change;
#[cfg(feature = "formats")]
pub(crate) use state::mac as state_mac;
pub use state::{KeyRecord, KeyState, KeyringKind, KeyringState};

/// A key that a keyring can hold: [`MasterKey`] or `LegacyKey`.
pub trait Material: sealed::Sealed + Send + Sync {
    /// The key's id.
    fn kid(&self) -> KeyId;

    /// Why nothing new is sealed under the key, if it is weak or published.
    fn flaw(&self) -> Option<KeyTextError>;
}

pub(crate) mod sealed {
    use super::KeyringKind;

    /// What only this crate may ask of a key.
    pub trait Sealed {
        /// The kind of keyring that holds such keys.
        const KIND: KeyringKind;

        /// The MAC of a state file under the key.
        fn mac(&self, canonical: &[u8]) -> [u8; 32];

        /// The exact text.
        fn exact_text(&self) -> &[u8];
    }
}

/// A key that a source had, and where.
#[derive(Debug)]
pub struct Found<K> {
    /// The key.
    pub key: K,
    /// Where it was found, for people.
    pub place: String,
}

/// One key of a keyring, as far as it may be shown.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyView {
    /// Its id.
    pub kid: KeyId,
    /// Its state.
    pub state: KeyState,
    /// The name that people gave it.
    pub label: Option<String>,
    /// Where its material was found; none if it was not.
    pub place: Option<String>,
    /// When it was added.
    pub created: Option<Timestamp>,
    /// When it last became primary.
    pub promoted: Option<Timestamp>,
    /// When it last ceased to be.
    pub demoted: Option<Timestamp>,
    /// When it was last disabled.
    pub disabled: Option<Timestamp>,
    /// When it was destroyed.
    pub destroyed: Option<Timestamp>,
    /// Why it never seals, if it is weak or published.
    pub flaw: Option<KeyTextError>,
}

/// Keys and their states. Exactly one key is primary.
///
/// A keyring never changes; when its state file does, it is loaded again. Clones share their keys,
/// which are wiped with the last of them.
pub struct Keyring<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    keys: BTreeMap<KeyId, Entry<K>>,
    primary: KeyId,
    state: Option<KeyringState>,
}

struct Entry<K> {
    key: Option<Arc<K>>,
    place: Option<String>,
    record: KeyRecord,
}

impl<K: Material> Keyring<K> {
    /// A keyring of one key, which is primary.
    #[must_use]
    pub fn single(key: K) -> Self {
        Self::without_state(Found { key: Arc::new(key), place: "given by the program".to_owned() })
    }

    /// A keyring of all keys that its sources had, in the states that `state` gives them. Without
    /// a state file exactly one key may be found, and it is primary.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMissing`] if nothing was found; [`Error::KeyUnavailable`] if the material of a
    /// primary or decrypt-only key was not; [`Error::Refused`] if several keys were found without
    /// a state file, a found key is not listed or is destroyed, two keys share an id, the
    /// generation is below `min_generation`, or the state file does not carry a valid MAC under
    /// every key that was found.
    pub fn load(found: Vec<Found<K>>, state: Option<KeyringState>, min_generation: u64) -> Result<Self> {
        let shared = |Found { key, place }| Found { key: Arc::new(key), place };
        Self::of_shared(found.into_iter().map(shared).collect(), state, min_generation, None)?.with_all_keys()
    }

    /// This keyring, unless the material of a key is missing that opens.
    ///
    /// # Errors
    ///
    /// [`Error::KeyUnavailable`].
    pub(crate) fn with_all_keys(self) -> Result<Self> {
        let missing = self.keys().find(|key| key.state == KeyState::DecryptOnly && key.place.is_none());
        match missing.map(|key| key.kid) {
            Some(kid) => Err(Error::KeyUnavailable { kid }),
            None => Ok(self),
        }
    }

    /// As [`load`](Self::load), of keys that others may hold, too, and also without the material of decrypt-only keys. `lost` is the
    /// refusal of several keys without states.
    pub(crate) fn of_shared(
        found: Vec<Found<Arc<K>>>,
        state: Option<KeyringState>,
        min_generation: u64,
        lost: Option<Error>,
    ) -> Result<Self> {
        let found = distinct(found)?;
        let Some(state) = state else {
            if min_generation > 0 {
                return Err(refused(
                    "the keyring has no state file, and min_generation asks for one".to_owned(),
                    "restore the state file",
                ));
            }
            let mut found = found.into_iter();
            return match (found.next(), found.next()) {
                (Some((_, only)), None) => Ok(Self::without_state(only)),
                (None, _) => Err(Error::KeyMissing { place: "none of the keyring's sources has a key".to_owned() }),
                _ => Err(lost.unwrap_or_else(|| {
                    refused(
                        "several keys were found and no state file says which is primary".to_owned(),
                        "STOP where values exist, and declare the `state` that says it; where there are none, keep one key where the sources find it, and add the others with `vault key add`",
                    )
                })),
            };
        };
        if state.kind() != K::KIND {
            return Err(refused(
                "the state file is of a keyring of another kind".to_owned(),
                "check `kind` and `state` in vault.toml",
            ));
        }
        if state.generation() < min_generation {
            return Err(refused(
                format!(
                    "the states of the keyring have generation {}, and min_generation asks for at least {min_generation}",
                    state.generation()
                ),
                "redeploy the newest state file; where a backup of their database came back and is meant to, lower min_generation",
            ));
        }
        for (kid, found) in &found {
            match state.keys().get(kid).map(|record| record.state) {
                None => {
                    return Err(refused(
                        format!("the key {kid} was found ({}) and the state file does not list it", found.place),
                        "check the mount; a new key is added with `vault key add`",
                    ));
                }
                Some(KeyState::Destroyed) => {
                    return Err(refused(
                        format!("the key {kid} is destroyed and was found ({})", found.place),
                        "unmount it",
                    ));
                }
                Some(_) => {}
            }
        }
        state.check_macs(found.values().map(|found| &*found.key))?;
        let mut found: BTreeMap<_, _> = found.into_iter().collect();
        let mut keys = BTreeMap::new();
        for (kid, record) in state.keys() {
            let (key, place) = match found.remove(kid) {
                Some(found) => (Some(found.key), Some(found.place)),
                None if record.state == KeyState::Primary => {
                    return Err(Error::KeyUnavailable { kid: *kid });
                }
                None => (None, None),
            };
            keys.insert(*kid, Entry { key, place, record: record.clone() });
        }
        Ok(Self { inner: Arc::new(Inner { keys, primary: state.primary(), state: Some(state) }) })
    }

    /// The keyring as it would be after the promotion of a key that is loaded.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn as_if_promoted(&self, kid: KeyId) -> Option<Self> {
        let Inner { keys, state, .. } = &*self.inner;
        keys.get(&kid)?.key.as_ref()?;
        let promoted = |(known, Entry { key, place, record }): (&KeyId, &Entry<K>)| {
            let state = match record.state {
                _ if *known == kid => KeyState::Primary,
                KeyState::Primary => KeyState::DecryptOnly,
                other => other,
            };
            let record = KeyRecord { state, ..record.clone() };
            (*known, Entry { key: key.clone(), place: place.clone(), record })
        };
        let keys = keys.iter().map(promoted).collect();
        Some(Self { inner: Arc::new(Inner { keys, primary: kid, state: state.clone() }) })
    }

    fn without_state(found: Found<Arc<K>>) -> Self {
        let primary = found.key.kid();
        let record = KeyRecord::new(KeyState::Primary);
        let entry = Entry { key: Some(found.key), place: Some(found.place), record };
        Self { inner: Arc::new(Inner { keys: BTreeMap::from([(primary, entry)]), primary, state: None }) }
    }

    /// The state file's content; none where there is no state file.
    #[must_use]
    pub fn state(&self) -> Option<&KeyringState> {
        self.inner.state.as_ref()
    }

    /// How often the state file was written; 0 without one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.state().map_or(0, KeyringState::generation)
    }

    /// The random name that the state file gives it; none without one.
    #[must_use]
    pub fn keyring_id(&self) -> Option<&str> {
        self.state().map(KeyringState::keyring_id)
    }

    /// Every key, in the order of ids.
    pub fn keys(&self) -> impl Iterator<Item = KeyView> + '_ {
        self.inner.keys.iter().map(|(kid, entry)| KeyView {
            kid: *kid,
            state: entry.record.state,
            label: entry.record.label.clone(),
            place: entry.place.clone(),
            created: entry.record.created,
            promoted: entry.record.promoted,
            demoted: entry.record.demoted,
            disabled: entry.record.disabled,
            destroyed: entry.record.destroyed,
            flaw: entry.key.as_ref().and_then(|key| key.flaw()),
        })
    }

    /// The id of the primary key, whether it may seal or not.
    #[must_use]
    pub fn primary_kid(&self) -> KeyId {
        self.inner.primary
    }

    /// The key that seals.
    ///
    /// # Errors
    ///
    /// [`Error::CannotSeal`] if it is weak or published.
    pub fn primary(&self) -> Result<&Arc<K>> {
        let key = self.opening(self.inner.primary)?;
        match key.flaw() {
            Some(_) => {
                Err(Error::CannotSeal { why: "the primary key is weak or published; add another key and promote it" })
            }
            None => Ok(key),
        }
    }

    /// The key that a value names, if it may open.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownKey`], [`Error::KeyUnavailable`], [`Error::KeyDisabled`] or
    /// [`Error::KeyDestroyed`].
    pub fn opening(&self, kid: KeyId) -> Result<&Arc<K>> {
        let entry = self.inner.keys.get(&kid).ok_or(Error::UnknownKey { kid })?;
        match entry.record.state {
            KeyState::Disabled => Err(Error::KeyDisabled { kid }),
            KeyState::Destroyed => Err(Error::KeyDestroyed { kid, at: entry.record.destroyed.map(|time| time.0) }),
            _ => entry.key.as_ref().ok_or(Error::KeyUnavailable { kid }),
        }
    }

    /// All keys that may open, the primary one first: for formats whose values name no key.
    pub fn opening_keys(&self) -> impl Iterator<Item = &Arc<K>> {
        let primary = self.inner.primary;
        let others = self.inner.keys.keys().copied().filter(move |kid| *kid != primary);
        core::iter::once(primary).chain(others).filter_map(|kid| self.opening(kid).ok())
    }

    /// What people should know: listed keys that wait without material, weak and published keys.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        self.keys()
            .filter_map(|key| match (&key.place, key.flaw) {
                (None, _) if matches!(key.state, KeyState::Active | KeyState::DecryptOnly) => {
                    Some(format!("key {} is listed as {} and was not found", key.kid, key.state))
                }
                (_, Some(flaw)) => Some(format!("key {}: {flaw}", key.kid)),
                _ => None,
            })
            .collect()
    }
}

#[cfg(feature = "vault")]
impl<K: Material> Keyring<K> {
    /// The keys with material, for signing a state file.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = &Arc<K>> {
        self.inner.keys.values().filter_map(|entry| entry.key.as_ref())
    }

    /// The key of exactly this text, if it is loaded: what was derived from it need not be derived again.
    pub(crate) fn of_text(&self, text: &[u8]) -> Option<&Arc<K>> {
        self.loaded().find(|key| primitives::equal(key.exact_text(), text))
    }

    /// Whether both have the same keys from the same places, in the same states.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (this, other) = (&*self.inner, &*other.inner);
        let same = |one: &Entry<K>, two: &Entry<K>| {
            one.place == two.place && one.key.as_ref().map(Arc::as_ptr) == two.key.as_ref().map(Arc::as_ptr)
        };
        this.primary == other.primary
            && this.state == other.state
            && this.keys.len() == other.keys.len()
            && this.keys.iter().all(|(kid, entry)| other.keys.get(kid).is_some_and(|found| same(entry, found)))
    }
}

impl<K> Clone for Keyring<K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K> core::fmt::Debug for Keyring<K> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Keyring").field("primary", &self.inner.primary).finish_non_exhaustive()
    }
}

impl sealed::Sealed for MasterKey {
    const KIND: KeyringKind = KeyringKind::Kek;

    fn mac(&self, canonical: &[u8]) -> [u8; 32] {
        state::mac(canonical, self.kid(), self.prk())
    }

    fn exact_text(&self) -> &[u8] {
        self.text().expose_secret()
    }
}

impl Material for MasterKey {
    fn kid(&self) -> KeyId {
        self.kid()
    }

    fn flaw(&self) -> Option<KeyTextError> {
        self.flaw()
    }
}

/// Each key once.
fn distinct<K: Material>(found: Vec<Found<Arc<K>>>) -> Result<BTreeMap<KeyId, Found<Arc<K>>>> {
    let mut keys: BTreeMap<KeyId, Found<Arc<K>>> = BTreeMap::new();
    for new in found {
        let kid = new.key.kid();
        match keys.get(&kid) {
            Some(known) if !primitives::equal(known.key.exact_text(), new.key.exact_text()) => {
                return Err(refused(
                    format!("two texts have the key id {kid}: {} and {}", known.place, new.place),
                    "keep one of them; legacy formats derive from the exact text",
                ));
            }
            Some(_) => {}
            None => {
                keys.insert(kid, new);
            }
        }
    }
    Ok(keys)
}

fn refused(reason: String, remedy: &str) -> Error {
    Error::Refused { reason, remedy: remedy.to_owned() }
}
