//! The state file: which keys there are and what each may do. It holds no secret.

use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use toml::Spanned;

use crate::error::{Error, Place, Result};
use crate::key::KeyId;
use crate::primitives::{self, MacKey, Prk, field};
use crate::time::Timestamp;
use crate::toml_text::{self, quoted};

use super::retired::Retired;
use super::{Material, refused};

/// Most keys that a state file lists.
const MAX_KEYS: usize = 10_000;
/// Longest state file, in bytes.
const MAX_FILE: usize = 1 << 20;
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

/// One allowed change of the keys that a keyring lists.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change {
    /// From decrypt-only or active to disabled. Demands the proof that no value needs the key.
    Disable(Retired),
    /// From disabled to destroyed, for ever. The proof says that no value, restored from a backup
    /// perhaps, needs the key.
    Destroy(Retired),
    /// From disabled back to decrypt-only.
    Enable(KeyId),
    /// From active, or as a rollback from decrypt-only, to primary; the key that was becomes
    /// decrypt-only.
    Promote(KeyId),
}

impl Change {
    /// The key that it is about, and what that becomes.
    pub(super) fn goal(&self) -> (KeyId, KeyState) {
        match self {
            Self::Disable(retired) => (retired.kid(), KeyState::Disabled),
            Self::Destroy(retired) => (retired.kid(), KeyState::Destroyed),
            Self::Enable(kid) => (*kid, KeyState::DecryptOnly),
            Self::Promote(kid) => (*kid, KeyState::Primary),
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
    /// A keyring whose one key is primary.
    pub(super) fn first(kind: KeyringKind, primary: KeyId) -> Result<Self> {
        let id = primitives::random()?;
        let now = Timestamp::now();
        let record = KeyRecord { created: Some(now), promoted: Some(now), ..KeyRecord::new(KeyState::Primary) };
        Ok(Self {
            keyring_id: primitives::hex(id.get(..16).unwrap_or_default()),
            kind,
            generation: 0,
            updated: now,
            keys: BTreeMap::from([(primary, record)]),
            macs: BTreeMap::new(),
        })
    }

    /// Reads a state file's text; `path` is for errors, which tell the place and never the text.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] above 1 MiB or 10,000 keys, [`Error::Config`] for anything that is not
    /// a state file. The MACs are checked when the keyring is loaded, with its keys.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        if text.len() > MAX_FILE {
            return Err(Error::TooLarge { what: "keyring state file", limit: MAX_FILE });
        }
        let file: StateText = toml_text::parse(path, text)?;
        if file.key.len() > MAX_KEYS {
            return Err(Error::TooLarge { what: "list of keys in the keyring state file", limit: MAX_KEYS });
        }
        let wrong = |at: usize, reason: &str| Error::Config {
            place: toml_text::place_of(path, text, at),
            reason: reason.to_owned(),
        };
        let time = |time: Spanned<toml::value::Datetime>| {
            Timestamp::parse(&time.get_ref().to_string())
                .ok_or_else(|| wrong(time.span().start, "a time is not of the form 2026-02-03T10:11:12Z"))
        };
        if file.format.get_ref() != FORMAT {
            return Err(wrong(file.format.span().start, "`format` is not \"vault-keyring/1\""));
        }
        let id = file.keyring_id.get_ref();
        if id.len() != 32 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong(file.keyring_id.span().start, "`keyring_id` is not 32 hex digits"));
        }
        let kind = match file.kind.get_ref().as_str() {
            "kek" => KeyringKind::Kek,
            "text" => KeyringKind::Text,
            _ => return Err(wrong(file.kind.span().start, "`kind` is neither \"kek\" nor \"text\"")),
        };
        let letter = if kind == KeyringKind::Kek { 'k' } else { 'f' };
        let mut keys = BTreeMap::new();
        let mut primary = None;
        for key in file.key {
            let kid = KeyId::parse(key.kid.get_ref()).ok().filter(|kid| kid.letter() == letter);
            let kid = kid.ok_or_else(|| wrong(key.kid.span().start, "a `kid` is not the id of a key of this kind"))?;
            let state: KeyState = key.state.get_ref().parse().map_err(|_| {
                wrong(key.state.span().start, "a `state` is none of active, primary, decrypt-only, disabled, destroyed")
            })?;
            if state == KeyState::Primary && primary.replace(kid).is_some() {
                return Err(wrong(key.state.span().start, "a second key is primary"));
            }
            let record = KeyRecord {
                state,
                label: key.label,
                source: key.source,
                created: key.created.map(time).transpose()?,
                promoted: key.promoted.map(time).transpose()?,
                demoted: key.demoted.map(time).transpose()?,
                disabled: key.disabled.map(time).transpose()?,
                destroyed: key.destroyed.map(time).transpose()?,
            };
            if keys.insert(kid, record).is_some() {
                return Err(wrong(key.kid.span().start, "a key is listed twice"));
            }
        }
        if primary.is_none() {
            return Err(Error::Config { place: Place::file(path), reason: "no key is primary".to_owned() });
        }
        let mut macs = BTreeMap::new();
        for (kid, text) in file.mac {
            let kid = KeyId::parse(&kid).map_err(|_| wrong(text.span().start, "a name under [mac] is not a key id"))?;
            let mac = URL_SAFE_NO_PAD.decode(text.get_ref()).ok().and_then(|mac| mac.try_into().ok());
            macs.insert(
                kid,
                mac.ok_or_else(|| wrong(text.span().start, "a value under [mac] is not 43 characters of base64url"))?,
            );
        }
        let updated = time(file.updated)?;
        Ok(Self { keyring_id: file.keyring_id.into_inner(), kind, generation: file.generation, updated, keys, macs })
    }

    /// The text of the state file.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> core::fmt::Result {
        writeln!(out, "format = {}", quoted(FORMAT))?;
        writeln!(out, "keyring_id = {}", quoted(&self.keyring_id))?;
        writeln!(out, "kind = {}", quoted(self.kind.as_str()))?;
        writeln!(out, "generation = {}", self.generation)?;
        writeln!(out, "updated = {}", self.updated)?;
        for (kid, record) in &self.keys {
            writeln!(out, "\n[[key]]\nkid = \"{kid}\"")?;
            if let Some(label) = &record.label {
                writeln!(out, "label = {}", quoted(label))?;
            }
            writeln!(out, "state = \"{}\"", record.state)?;
            if let Some(source) = &record.source {
                writeln!(out, "source = {}", quoted(source))?;
            }
            for (name, time) in times(record) {
                if let Some(time) = time {
                    writeln!(out, "{name} = {time}")?;
                }
            }
        }
        writeln!(out, "\n[mac]")?;
        for (kid, mac) in &self.macs {
            writeln!(out, "{kid} = \"{}\"", URL_SAFE_NO_PAD.encode(mac))?;
        }
        Ok(())
    }

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

    /// The same keys, one generation later. It carries no MACs yet.
    pub(super) fn next(&self) -> Self {
        Self { generation: self.generation + 1, updated: Timestamp::now(), macs: BTreeMap::new(), ..self.clone() }
    }

    /// The next state, which lists one more key as active. It carries no MACs yet.
    pub(super) fn with(&self, kid: KeyId, label: Option<String>, source: Option<String>) -> Result<Self> {
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
    pub(super) fn is(&self, kid: KeyId, state: KeyState) -> bool {
        self.keys.get(&kid).is_some_and(|record| record.state == state)
    }

    /// The next state. It carries no MACs yet.
    pub(super) fn after(&self, change: &Change) -> Result<Self> {
        if let Change::Disable(retired) | Change::Destroy(retired) = change {
            retired.check(&self.keyring_id, self.generation)?;
        }
        let (kid, to) = change.goal();
        self.moved(kid, to)
    }

    /// The next state, in which a key is in another state. Whether values need the key is not
    /// asked.
    pub(super) fn moved(&self, kid: KeyId, to: KeyState) -> Result<Self> {
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
    pub(super) fn sign<'a, K: Material + 'a>(&mut self, keys: impl IntoIterator<Item = &'a K>) {
        let canonical = self.canonical();
        for key in keys {
            self.macs.insert(key.kid(), key.mac(&canonical));
        }
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateText {
    format: Spanned<String>,
    keyring_id: Spanned<String>,
    kind: Spanned<String>,
    generation: u64,
    updated: Spanned<toml::value::Datetime>,
    key: Vec<StateKey>,
    #[serde(default)]
    mac: BTreeMap<String, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateKey {
    kid: Spanned<String>,
    label: Option<String>,
    state: Spanned<String>,
    source: Option<String>,
    created: Option<Spanned<toml::value::Datetime>>,
    promoted: Option<Spanned<toml::value::Datetime>>,
    demoted: Option<Spanned<toml::value::Datetime>>,
    disabled: Option<Spanned<toml::value::Datetime>>,
    destroyed: Option<Spanned<toml::value::Datetime>>,
}

#[cfg(test)]
mod tests;
