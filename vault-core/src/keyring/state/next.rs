//! Which states may follow which.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::hex;
use crate::key::KeyId;
use crate::keyring::followed::Followed;
use crate::keyring::retired::Retired;
use crate::keyring::{Material, refused};
use crate::primitives;
use crate::time::Timestamp;

use super::{KeyRecord, KeyState, KeyringKind, KeyringState, MAX_KEYS};

/// One allowed change of the keys that a keyring lists.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change {
    /// From decrypt-only or active to disabled. Demands the proofs that no value needs the key, and that
    /// no process seals under it any more.
    Disable(Retired, Followed),
    /// From disabled to destroyed, for ever. The proof says that no value, restored from a backup
    /// perhaps, needs the key.
    Destroy(Retired),
    /// From disabled back to decrypt-only.
    Enable(KeyId),
    /// From active, or as a rollback from decrypt-only, to primary; the key that was becomes
    /// decrypt-only. Demands the proof that every process opens values under the key.
    Promote(KeyId, Followed),
}

impl Change {
    /// The key that it is about, and what that becomes.
    pub(in crate::keyring) fn goal(&self) -> (KeyId, KeyState) {
        match self {
            Self::Disable(retired, _) => (retired.kid(), KeyState::Disabled),
            Self::Destroy(retired) => (retired.kid(), KeyState::Destroyed),
            Self::Enable(kid) => (*kid, KeyState::DecryptOnly),
            Self::Promote(kid, _) => (*kid, KeyState::Primary),
        }
    }
}

impl KeyringState {
    /// A keyring whose one key is primary.
    pub(in crate::keyring) fn first(kind: KeyringKind, primary: KeyId) -> Result<Self> {
        let id = primitives::random()?;
        let now = Timestamp::now();
        let record = KeyRecord { created: Some(now), promoted: Some(now), ..KeyRecord::new(KeyState::Primary) };
        Ok(Self {
            keyring_id: hex::encode(id.get(..16).unwrap_or_default()),
            kind,
            generation: 0,
            updated: now,
            keys: BTreeMap::from([(primary, record)]),
            macs: BTreeMap::new(),
        })
    }

    /// The same keys, one generation later. It carries no MACs yet.
    pub(in crate::keyring) fn next(&self) -> Self {
        Self { generation: self.generation + 1, updated: Timestamp::now(), macs: BTreeMap::new(), ..self.clone() }
    }

    /// The next state, which lists one more key as active. It carries no MACs yet.
    pub(in crate::keyring) fn with(&self, kid: KeyId, label: Option<String>, source: Option<String>) -> Result<Self> {
        if self.keys.contains_key(&kid) {
            return Err(refused(format!("the keyring lists key {kid} already"), "`vault key list` shows its state"));
        }
        if self.keys.len() >= MAX_KEYS {
            return Err(Error::TooLarge { what: "list of keys in the keyring state file", limit: MAX_KEYS });
        }
        let mut next = self.next();
        next.keys
            .insert(kid, KeyRecord { label, source, created: Some(next.updated), ..KeyRecord::new(KeyState::Active) });
        Ok(next)
    }

    /// Whether a key is in a state already.
    pub(in crate::keyring) fn is(&self, kid: KeyId, state: KeyState) -> bool {
        self.keys.get(&kid).is_some_and(|record| record.state == state)
    }

    /// The next state. It carries no MACs yet.
    pub(in crate::keyring) fn after(&self, change: &Change) -> Result<Self> {
        if let Change::Disable(retired, _) | Change::Destroy(retired) = change {
            retired.check(&self.keyring_id, self.generation)?;
        }
        // The first states are made by the change itself, and nobody was asked about them.
        let id = (self.generation > 0).then_some(self.keyring_id.as_str());
        match change {
            Change::Promote(kid, followed) => followed.check(id, self.generation, Some(*kid))?,
            Change::Disable(_, followed) => followed.check(id, self.generation, None)?,
            Change::Enable(_) | Change::Destroy(_) => {}
        }
        let (kid, to) = change.goal();
        self.moved(kid, to)
    }

    /// The next state, in which a key is in another state. Whether values need the key is not
    /// asked.
    pub(in crate::keyring) fn moved(&self, kid: KeyId, to: KeyState) -> Result<Self> {
        let mut next = self.next();
        let now = Some(next.updated);
        let record = next.record(kid, to)?;
        match to {
            KeyState::Primary => {
                record.promoted = now;
                if let Some(old) = next.keys.get_mut(&self.primary()) {
                    old.state = KeyState::DecryptOnly;
                    old.demoted = now;
                }
            }
            KeyState::Disabled => record.disabled = now,
            KeyState::Destroyed => record.destroyed = now,
            KeyState::Active | KeyState::DecryptOnly => {}
        }
        Ok(next)
    }

    fn record(&mut self, kid: KeyId, to: KeyState) -> Result<&mut KeyRecord> {
        let from: &[KeyState] = match to {
            KeyState::Active => &[],
            KeyState::Primary | KeyState::Disabled => &[KeyState::Active, KeyState::DecryptOnly],
            KeyState::DecryptOnly | KeyState::Destroyed => &[KeyState::Disabled],
        };
        let record = self.keys.get_mut(&kid).ok_or(Error::UnknownKey { kid })?;
        if !from.contains(&record.state) {
            let remedy = match (record.state, to) {
                (KeyState::Primary, KeyState::Disabled) => "promote another key first",
                (KeyState::Primary, KeyState::Primary) => "nothing needs to be done",
                (KeyState::Disabled, KeyState::Primary) => "enable it first, with `vault key enable`",
                (KeyState::Destroyed, _) => "nothing brings it back",
                (_, KeyState::Destroyed) => "disable it first, with `vault key disable`",
                _ => "`vault key list` shows the states",
            };
            return Err(refused(format!("key {kid} is {}, and cannot become {to} from there", record.state), remedy));
        }
        record.state = to;
        Ok(record)
    }

    /// Adds the MAC under each key.
    pub(in crate::keyring) fn sign<'a, K: Material + 'a>(&mut self, keys: impl IntoIterator<Item = &'a K>) {
        let canonical = self.canonical();
        for key in keys {
            self.macs.insert(key.kid(), key.mac(&canonical));
        }
    }
}
