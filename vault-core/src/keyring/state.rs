//! The state file: which keys there are and what each may do. It holds no secret.

use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::error::{Error, Place, Result};
use crate::file;
use crate::key::KeyId;
use crate::primitives::{self, MacKey};
use crate::time::Timestamp;

use super::change::Retired;
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
    /// Key texts of a foreign format.
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

/// One allowed change of a keyring.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change {
    /// A key that all processes are to load: active.
    Add {
        /// The key.
        kid: KeyId,
        /// A name for people.
        label: Option<String>,
        /// Where it was put.
        source: Option<String>,
    },
    /// From decrypt-only or active to disabled. Demands the proof that no value needs the key.
    Disable(Retired),
    /// From disabled to destroyed, for ever.
    Destroy(KeyId),
    /// From disabled back to decrypt-only.
    Enable(KeyId),
    /// From active, or as a rollback from decrypt-only, to primary; the key that was becomes
    /// decrypt-only.
    Promote(KeyId),
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
        let file: StateFile = file::parse_toml(path, text)?;
        if file.key.len() > MAX_KEYS {
            return Err(Error::TooLarge { what: "list of keys in the keyring state file", limit: MAX_KEYS });
        }
        let wrong = |reason: &str| Error::Config { place: Place::file(path), reason: reason.to_owned() };
        if file.format != FORMAT {
            return Err(wrong("`format` is not \"vault-keyring/1\""));
        }
        if file.keyring_id.len() != 32 || !file.keyring_id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong("`keyring_id` is not 32 hex digits"));
        }
        let kind = match file.kind.as_str() {
            "kek" => KeyringKind::Kek,
            "text" => KeyringKind::Text,
            _ => return Err(wrong("`kind` is neither \"kek\" nor \"text\"")),
        };
        let letter = if kind == KeyringKind::Kek { 'k' } else { 'f' };
        let mut keys = BTreeMap::new();
        for key in file.key {
            let kid = KeyId::parse(&key.kid).ok().filter(|kid| kid.letter() == letter);
            let kid = kid.ok_or_else(|| wrong("a `kid` is not the id of a key of this kind"))?;
            let state = KeyState::ALL.into_iter().find(|state| state.as_str() == key.state);
            let state = state
                .ok_or_else(|| wrong("a `state` is none of active, primary, decrypt-only, disabled, destroyed"))?;
            let time = |time: Option<toml::value::Datetime>| {
                time.map(|time| {
                    Timestamp::parse(&time.to_string())
                        .ok_or_else(|| wrong("a time is not of the form 2026-02-03T10:11:12Z"))
                })
                .transpose()
            };
            let record = KeyRecord {
                state,
                label: key.label,
                source: key.source,
                created: time(key.created)?,
                promoted: time(key.promoted)?,
                demoted: time(key.demoted)?,
                disabled: time(key.disabled)?,
                destroyed: time(key.destroyed)?,
            };
            if keys.insert(kid, record).is_some() {
                return Err(wrong("a key is listed twice"));
            }
        }
        if keys.values().filter(|record| record.state == KeyState::Primary).count() != 1 {
            return Err(wrong("not exactly one key is primary"));
        }
        let mut macs = BTreeMap::new();
        for (kid, mac) in file.mac {
            let kid = KeyId::parse(&kid).map_err(|_| wrong("a name under [mac] is not a key id"))?;
            let mac = URL_SAFE_NO_PAD.decode(mac).ok().and_then(|mac| mac.try_into().ok());
            macs.insert(kid, mac.ok_or_else(|| wrong("a value under [mac] is not 43 characters of base64url"))?);
        }
        let updated = Timestamp::parse(&file.updated.to_string())
            .ok_or_else(|| wrong("`updated` is not of the form 2026-02-03T10:11:12Z"))?;
        Ok(Self { keyring_id: file.keyring_id, kind, generation: file.generation, updated, keys, macs })
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

    /// The next state. It carries no MACs yet.
    pub(super) fn after(&self, change: &Change) -> Result<Self> {
        let mut next =
            Self { generation: self.generation + 1, updated: Timestamp::now(), macs: BTreeMap::new(), ..self.clone() };
        let now = Some(next.updated);
        match change {
            Change::Add { kid, label, source } => {
                if self.keys.contains_key(kid) {
                    return Err(refused(
                        format!("the keyring lists key {kid} already"),
                        "`vault key list` shows its state",
                    ));
                }
                if self.keys.len() >= MAX_KEYS {
                    return Err(Error::TooLarge { what: "list of keys in the keyring state file", limit: MAX_KEYS });
                }
                let record = KeyRecord {
                    label: label.clone(),
                    source: source.clone(),
                    created: now,
                    ..KeyRecord::new(KeyState::Active)
                };
                next.keys.insert(*kid, record);
            }
            Change::Promote(kid) => {
                next.record(*kid, &[KeyState::Active, KeyState::DecryptOnly], KeyState::Primary)?.promoted = now;
                if let Some(old) = next.keys.get_mut(&self.primary()) {
                    old.state = KeyState::DecryptOnly;
                    old.demoted = now;
                }
            }
            Change::Disable(retired) => {
                retired.check(self.generation)?;
                next.record(retired.kid(), &[KeyState::Active, KeyState::DecryptOnly], KeyState::Disabled)?.disabled =
                    now;
            }
            Change::Enable(kid) => {
                next.record(*kid, &[KeyState::Disabled], KeyState::DecryptOnly)?;
            }
            Change::Destroy(kid) => {
                next.record(*kid, &[KeyState::Disabled], KeyState::Destroyed)?.destroyed = now;
            }
        }
        Ok(next)
    }

    fn record(&mut self, kid: KeyId, from: &[KeyState], to: KeyState) -> Result<&mut KeyRecord> {
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

    /// Adds the MAC under one key.
    pub(super) fn sign<K: Material>(&mut self, key: &K) {
        self.macs.insert(key.kid(), *self.mac(key));
    }

    pub(super) fn check_mac<K: Material>(&self, key: &K) -> Result<()> {
        let kid = key.kid();
        let good = self.macs.get(&kid).is_some_and(|mac| primitives::equal(mac, &*self.mac(key)));
        if good {
            return Ok(());
        }
        Err(refused(
            format!("the keyring's state file carries no valid MAC under key {kid}"),
            "it was altered, or written where this key was not loaded: restore the right one, or add the key again with `vault key add`",
        ))
    }

    fn mac<K: Material>(&self, key: &K) -> primitives::Key32 {
        let mac_key = key.mac_key(&[MAC_LABEL, key.kid().as_str().as_bytes()]);
        MacKey::new(&mac_key).mac(&[&self.canonical()])
    }

    /// What the MACs are over: the label, then every field in the order of the schema as u32
    /// length and bytes, absent as FFFFFFFF, numbers and times as eight bytes; keys as u32 count
    /// and then each, sorted by id.
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

fn times(record: &KeyRecord) -> [(&'static str, Option<Timestamp>); 5] {
    [
        ("created", record.created),
        ("promoted", record.promoted),
        ("demoted", record.demoted),
        ("disabled", record.disabled),
        ("destroyed", record.destroyed),
    ]
}

fn field(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let length = bytes.map_or(u32::MAX, |bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1));
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    format: String,
    keyring_id: String,
    kind: String,
    generation: u64,
    updated: toml::value::Datetime,
    key: Vec<StateKey>,
    #[serde(default)]
    mac: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateKey {
    kid: String,
    label: Option<String>,
    state: String,
    source: Option<String>,
    created: Option<toml::value::Datetime>,
    promoted: Option<toml::value::Datetime>,
    demoted: Option<toml::value::Datetime>,
    disabled: Option<toml::value::Datetime>,
    destroyed: Option<toml::value::Datetime>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::MasterKey;

    fn sample() -> (KeyringState, MasterKey) {
        let key = MasterKey::generate().unwrap();
        let mut state = KeyringState::first(KeyringKind::Kek, key.kid()).unwrap();
        state.keys.get_mut(&key.kid()).unwrap().label = Some("quotes \" and \\ and \n line breaks \u{7f}".to_owned());
        state.sign(&key);
        (state, key)
    }

    #[test]
    fn what_is_written_reads_back() {
        let (state, key) = sample();
        let read = KeyringState::parse(&state.render(), Path::new("s.toml")).unwrap();
        assert_eq!(read, state);
        read.check_mac(&key).unwrap();
    }

    #[test]
    fn every_change_of_a_field_breaks_the_mac() {
        let (state, key) = sample();
        let changes: [fn(&mut KeyringState, KeyId); 7] = [
            |s, _| s.generation += 1,
            |s, _| s.updated.0 += 1,
            |s, _| s.keyring_id = "0".repeat(32),
            |s, _| s.kind = KeyringKind::Text,
            |s, kid| s.keys.get_mut(&kid).unwrap().label = None,
            |s, kid| s.keys.get_mut(&kid).unwrap().state = KeyState::DecryptOnly,
            |s, kid| s.keys.get_mut(&kid).unwrap().destroyed = Some(Timestamp(0)),
        ];
        for change in changes {
            let mut changed = state.clone();
            change(&mut changed, key.kid());
            assert!(changed.check_mac(&key).is_err());
        }
        state.check_mac(&key).unwrap();
    }

    /// tests/vectors/keyring/state_file.json was computed by another implementation.
    #[test]
    fn canonical_bytes_and_macs_are_the_known_ones() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/keyring/state_file.json");
        let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let cases = file["tests"].as_array().unwrap();
        assert!(cases.len() >= 2);
        for case in cases {
            let state = KeyringState::parse(case["toml"].as_str().unwrap(), Path::new("s.toml")).unwrap();
            assert_eq!(primitives::hex(&state.canonical()), case["canonical"]);
            for (kid, key) in case["keys"].as_object().unwrap() {
                let key = MasterKey::parse(key.as_str().unwrap().as_bytes()).unwrap();
                assert_eq!(key.kid().as_str(), kid);
                state.check_mac(&key).unwrap();
            }
        }
    }

    proptest! {
        /// Whatever is asked, one key stays primary, and no other move happens than the allowed.
        #[test]
        fn no_change_leaves_none_or_two_primary_keys(moves in proptest::collection::vec((0_usize..4, 0_u8..5), 0..40)) {
            let kids: Vec<KeyId> = (0..4).map(|_| MasterKey::generate().unwrap().kid()).collect();
            let mut state = KeyringState::first(KeyringKind::Kek, kids[0]).unwrap();
            for (key, action) in moves {
                let kid = kids[key];
                let change = match action {
                    0 => Change::Add { kid, label: None, source: None },
                    1 => Change::Promote(kid),
                    2 => Change::Disable(Retired::new(kid, state.generation)),
                    3 => Change::Enable(kid),
                    _ => Change::Destroy(kid),
                };
                let before = state.keys.get(&kid).map(|record| record.state);
                if let Ok(next) = state.after(&change) {
                    let after = next.keys[&kid].state;
                    let allowed = match before {
                        None => after == KeyState::Active,
                        Some(KeyState::Active) => matches!(after, KeyState::Primary | KeyState::Disabled),
                        Some(KeyState::DecryptOnly) => matches!(after, KeyState::Primary | KeyState::Disabled),
                        Some(KeyState::Disabled) => matches!(after, KeyState::DecryptOnly | KeyState::Destroyed),
                        Some(KeyState::Primary | KeyState::Destroyed) => false,
                    };
                    prop_assert!(allowed, "{before:?} became {after:?}");
                    prop_assert_eq!(next.generation, state.generation + 1);
                    state = next;
                }
                let primaries = state.keys.values().filter(|record| record.state == KeyState::Primary).count();
                prop_assert_eq!(primaries, 1);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,400}") {
            let _ = KeyringState::parse(&text, Path::new("s.toml"));
        }
    }
}
