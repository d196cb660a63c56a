//! The state file: which keys there are and what each may do. It holds no secret.

#[cfg(feature = "vault")]
mod next;
mod text;

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::key::KeyId;
use crate::primitives::{self, MacKey, Prk, field};
use crate::time::Timestamp;

use super::{Material, refused};

#[cfg(feature = "vault")]
pub use next::Change;

/// Most keys that a state file lists.
const MAX_KEYS: usize = 10_000;
const FORMAT: &str = "vault-keyring/1";
const LABEL: &[u8] = b"vault-core/keyring/v1\0";
const MAC_LABEL: &[u8] = b"vault-core/keyring-mac/v1\0";

/// What a key may do.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum KeyState {
    /// Loaded everywhere and waiting: opens, does not seal.
    Active,
    /// Opens and seals. Exactly one key of a keyring is.
    Primary,
    /// Was primary: opens, does not seal.
    DecryptOnly,
    /// Neither, until it is enabled again or destroyed.
    Disabled,
    /// Neither, for ever: a tombstone.
    Destroyed,
}

impl KeyState {
    const ALL: [Self; 5] = [Self::Active, Self::Primary, Self::DecryptOnly, Self::Disabled, Self::Destroyed];

    /// The name in files and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Primary => "primary",
            Self::DecryptOnly => "decrypt-only",
            Self::Disabled => "disabled",
            Self::Destroyed => "destroyed",
        }
    }
}

impl core::str::FromStr for KeyState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let state = Self::ALL.into_iter().find(|state| state.as_str() == text);
        state.ok_or(Error::Unsupported { what: "state of a key" })
    }
}

impl core::fmt::Display for KeyState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the keys of a keyring are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum KeyringKind {
    /// Master keys of 32 bytes.
    #[default]
    Kek,
    /// Key texts of a legacy format.
    Text,
}

impl KeyringKind {
    /// The name in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kek => "kek",
            Self::Text => "text",
        }
    }
}

/// What a state file says of one key.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct KeyRecord {
    /// What it may do.
    pub state: KeyState,
    /// The name that people gave it.
    pub label: Option<String>,
    /// Where it was found when it was added.
    pub source: Option<String>,
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
}

impl KeyRecord {
    pub(super) fn new(state: KeyState) -> Self {
        Self {
            state,
            label: None,
            source: None,
            created: None,
            promoted: None,
            demoted: None,
            disabled: None,
            destroyed: None,
        }
    }
}

/// The content of a state file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyringState {
    keyring_id: String,
    kind: KeyringKind,
    generation: u64,
    updated: Timestamp,
    keys: BTreeMap<KeyId, KeyRecord>,
    macs: BTreeMap<KeyId, [u8; 32]>,
}

impl KeyringState {
    /// A random name of the keyring, 32 hex digits.
    #[must_use]
    pub fn keyring_id(&self) -> &str {
        &self.keyring_id
    }

    /// What its keys are.
    #[must_use]
    pub fn kind(&self) -> KeyringKind {
        self.kind
    }

    /// How often it was written.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every key that it lists.
    #[must_use]
    pub fn keys(&self) -> &BTreeMap<KeyId, KeyRecord> {
        &self.keys
    }

    /// The primary key; there is always exactly one.
    #[must_use]
    pub fn primary(&self) -> KeyId {
        let primary = self.keys.iter().find(|(_, record)| record.state == KeyState::Primary);
        // Both constructors and `after` leave one; the first key stands in for the impossible.
        primary.or(self.keys.iter().next()).map_or_else(KeyId::none, |(kid, _)| *kid)
    }

    /// Refuses a state that does not carry a valid MAC under each key.
    pub(super) fn check_macs<'a, K: Material + 'a>(&self, keys: impl IntoIterator<Item = &'a K>) -> Result<()> {
        let canonical = self.canonical();
        for key in keys {
            let kid = key.kid();
            if !self.macs.get(&kid).is_some_and(|found| primitives::equal(found, &key.mac(&canonical))) {
                return Err(refused(
                    format!("the keyring's state file carries no valid MAC under key {kid}"),
                    "it was altered, or written where this key was not loaded: restore the right one, or add the key again with `vault key add`",
                ));
            }
        }
        Ok(())
    }

    /// What the MACs are over: the label, then every field in the order of the schema.
    ///
    /// ```text
    /// field(v)   = u32(length of v) || v            absent: FFFFFFFF
    /// number(n)  = field(u64(n))                     times are Unix seconds
    /// canonical  = "vault-core/keyring/v1\0"
    ///              || field(format) || field(keyring_id) || field(kind)
    ///              || number(generation) || number(updated)
    ///              || u32(number of keys) || key_1 || ... || key_n     in ascending order of kid
    /// key        = field(kid) || field(label) || field(state) || field(source)
    ///              || number(created) || number(promoted) || number(demoted)
    ///              || number(disabled) || number(destroyed)
    /// mac[kid]   = HMAC-SHA-256(Expand(PRK, "vault-core/keyring-mac/v1\0" || kid, 32), canonical)
    /// ```
    ///
    /// Integers are big-endian, texts are UTF-8 as TOML gives them, `keyring_id` its 32 hex
    /// digits. Absent differs from empty. `[mac]`, comments and spacing are not part of it.
    fn canonical(&self) -> Vec<u8> {
        let mut out = LABEL.to_vec();
        for text in [FORMAT, &self.keyring_id, self.kind.as_str()] {
            field(&mut out, Some(text.as_bytes()));
        }
        field(&mut out, Some(&self.generation.to_be_bytes()));
        field(&mut out, Some(&self.updated.0.to_be_bytes()));
        out.extend_from_slice(&u32::try_from(self.keys.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (kid, record) in &self.keys {
            field(&mut out, Some(kid.as_str().as_bytes()));
            field(&mut out, record.label.as_deref().map(str::as_bytes));
            field(&mut out, Some(record.state.as_str().as_bytes()));
            field(&mut out, record.source.as_deref().map(str::as_bytes));
            for (_, time) in times(record) {
                field(&mut out, time.map(|time| time.0.to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice));
            }
        }
        out
    }
}

/// The MAC of canonical bytes under one key. It is public.
pub(crate) fn mac(canonical: &[u8], kid: KeyId, prk: &Prk) -> [u8; 32] {
    primitives::on_wiped_stack(|| {
        *MacKey::new(&prk.expand::<32>(&[MAC_LABEL, kid.as_str().as_bytes()])).mac(&[canonical])
    })
}

fn times(record: &KeyRecord) -> [(&'static str, Option<Timestamp>); 5] {
    [
        ("created", record.created),
        ("promoted", record.promoted),
        ("demoted", record.demoted),
        ("disabled", record.disabled),
        ("destroyed", record.destroyed),
    ]
}

#[cfg(test)]
#[cfg(feature = "vault")]
mod tests;
