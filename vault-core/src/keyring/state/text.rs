//! The text of a state file.

use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use toml::Spanned;

use crate::error::{Error, Place, Result};
use crate::key::KeyId;
use crate::time::Timestamp;
use crate::toml_text::{self, quoted};

use super::{FORMAT, KeyRecord, KeyState, KeyringKind, KeyringState, MAX_KEYS, times};

/// Longest state file, in bytes.
pub(super) const MAX_FILE: usize = 1 << 20;

impl KeyringState {
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
