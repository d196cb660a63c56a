//! The content of a store's file, and its text (docs/FORMAT.md, "File store").

use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

use crate::error::{Error, Result};
use crate::hex;
use crate::key::{KeyId, MasterKey};
use crate::name::SecretName;
use crate::primitives::{self, MacKey, field};
use crate::time::Timestamp;
use crate::token::{HARD_LIMIT, Token};
use crate::toml_text::{self, quoted};

use super::super::{Entry, EntryKey, EntryName, NewEntry, Replacement, STORE_ENTRY, label};

const FORMAT: &str = "vault-store/1";
const LABEL: &[u8] = b"vault-core/store/v1\0";
const MAC_LABEL: &[u8] = b"vault-core/store-mac/v1\0";

/// What the file holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Document {
    /// A random name of the store, 32 hex digits.
    pub(super) store_id: String,
    /// How often the file was written.
    pub(super) generation: u64,
    /// The least generation of the keyring that is accepted.
    pub(super) keyring_generation: u64,
    /// The key of the MAC.
    pub(super) mac_kid: KeyId,
    pub(super) mac: [u8; 32],
    pub(super) entries: BTreeMap<EntryKey, Entry>,
}

impl Document {
    /// A store without entries. It carries no MAC yet.
    pub(super) fn empty(mac_kid: KeyId, keyring_generation: u64) -> Result<Self> {
        let id = primitives::random()?;
        Ok(Self {
            store_id: hex::encode(id.get(..16).unwrap_or_default()),
            generation: 0,
            keyring_generation,
            mac_kid,
            mac: [0; 32],
            entries: BTreeMap::new(),
        })
    }

    /// Reads the text of the file at `path`, which is for errors: they tell the place and never
    /// what stands there.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self> {
        let raw: StoreFile = toml_text::parse(path, text)?;
        let wrong = |at: usize, reason: &str| Error::Config {
            place: toml_text::place_of(path, text, at),
            reason: reason.to_owned(),
        };
        if raw.format.get_ref() != FORMAT {
            return Err(wrong(raw.format.span().start, "`format` is not \"vault-store/1\""));
        }
        let store_id = raw.store_id.get_ref();
        if store_id.len() != 32 || !store_id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong(raw.store_id.span().start, "`store_id` is not 32 hex digits"));
        }
        let mac_kid = KeyId::parse(raw.mac_kid.get_ref())
            .map_err(|_| wrong(raw.mac_kid.span().start, "`mac_kid` is not a key id"))?;
        let mac = URL_SAFE_NO_PAD.decode(raw.mac.get_ref()).ok().and_then(|mac| mac.try_into().ok());
        let mac = mac.ok_or_else(|| wrong(raw.mac.span().start, "`mac` is not 43 characters of base64url"))?;
        let mut entries = BTreeMap::new();
        for secret in raw.secret {
            let at = secret.span().start;
            let entry = secret.into_inner().entry().map_err(|reason| wrong(at, reason))?;
            if entries.insert(entry.key.clone(), entry).is_some() {
                return Err(wrong(at, "the same name, tenant and version is listed twice"));
            }
        }
        Ok(Self {
            store_id: raw.store_id.into_inner(),
            generation: raw.generation,
            keyring_generation: raw.keyring_generation,
            mac_kid,
            mac,
            entries,
        })
    }

    /// The text of the file: a line for each entry, sorted.
    pub(super) fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> core::fmt::Result {
        writeln!(out, "format = {}", quoted(FORMAT))?;
        writeln!(out, "store_id = {}", quoted(&self.store_id))?;
        writeln!(out, "generation = {}", self.generation)?;
        writeln!(out, "keyring_generation = {}", self.keyring_generation)?;
        writeln!(out, "mac_kid = \"{}\"", self.mac_kid)?;
        writeln!(out, "mac = \"{}\"", URL_SAFE_NO_PAD.encode(self.mac))?;
        writeln!(out, "secret = [")?;
        for entry in self.entries.values() {
            write!(out, "  {{ name = {}", quoted(entry.key.name.name().as_str()))?;
            if let Some(tenant) = entry.key.name.tenant() {
                write!(out, ", tenant = {}", quoted(tenant))?;
            }
            if entry.purpose != STORE_ENTRY {
                write!(out, ", purpose = {}", quoted(&entry.purpose))?;
            }
            writeln!(
                out,
                ", version = {}, created = {}, updated = {}, token = \"{}\" }},",
                entry.key.version, entry.created, entry.updated, entry.token
            )?;
        }
        writeln!(out, "]")
    }

    /// The versions of a secret, the oldest first.
    pub(super) fn versions(&self, name: &EntryName) -> Vec<Entry> {
        self.range(name).map(|(_, entry)| entry.clone()).collect()
    }

    fn range(&self, name: &EntryName) -> impl Iterator<Item = (&EntryKey, &Entry)> {
        let key = |version| EntryKey { name: name.clone(), version };
        self.entries.range(key(0)..=key(u64::MAX))
    }

    /// Makes a token the newest version, and returns that.
    pub(super) fn put(&mut self, new: &NewEntry<'_>, now: Timestamp, keep: u32) -> u64 {
        let known: Vec<u64> = self.range(new.name).map(|(key, _)| key.version).collect();
        let version = known.last().map_or(1, |newest| newest.saturating_add(1));
        let kept = usize::try_from(keep).unwrap_or(usize::MAX);
        for old in known.iter().rev().skip(kept) {
            self.entries.remove(&EntryKey { name: new.name.clone(), version: *old });
        }
        let key = EntryKey { name: new.name.clone(), version };
        let (purpose, token) = (new.purpose.to_owned(), new.token.clone());
        self.entries.insert(key.clone(), Entry { key, purpose, token, created: now, updated: now });
        version
    }

    /// Whether the token was still the one that was read, and was replaced.
    pub(super) fn replace(&mut self, change: &Replacement, now: Timestamp) -> bool {
        match self.entries.get_mut(&change.key).filter(|entry| entry.token == change.old) {
            Some(entry) => {
                entry.token = change.new.clone();
                entry.updated = now;
                true
            }
            None => false,
        }
    }

    /// The MAC of the content under a key.
    pub(super) fn mac_under(&self, key: &MasterKey) -> [u8; 32] {
        *MacKey::new(&key.prk().expand::<32>(&[MAC_LABEL])).mac(&[&self.canonical()])
    }

    /// What the MAC is over: the label, then every field in the order of the schema.
    ///
    /// ```text
    /// field(v)   = u32(length of v) || v            absent: FFFFFFFF
    /// number(n)  = field(u64(n))                     times are Unix seconds
    /// canonical  = "vault-core/store/v1\0"
    ///              || field(format) || field(store_id) || number(generation)
    ///              || number(keyring_generation) || field(mac_kid)
    ///              || u32(number of entries) || entry_1 || ... || entry_n
    /// entry      = field(name) || field(tenant) || field(purpose) || number(version)
    ///              || field(token) || number(created) || number(updated)
    ///              in ascending order of name, tenant (absent first) and version
    /// mac        = HMAC-SHA-256(Expand(PRK, "vault-core/store-mac/v1\0", 32), canonical)
    /// ```
    ///
    /// Comments, spacing and the order of lines are not part of it.
    fn canonical(&self) -> Vec<u8> {
        let mut out = LABEL.to_vec();
        let number = |out: &mut Vec<u8>, number: u64| field(out, Some(&number.to_be_bytes()));
        field(&mut out, Some(FORMAT.as_bytes()));
        field(&mut out, Some(self.store_id.as_bytes()));
        number(&mut out, self.generation);
        number(&mut out, self.keyring_generation);
        field(&mut out, Some(self.mac_kid.as_str().as_bytes()));
        out.extend_from_slice(&u32::try_from(self.entries.len()).unwrap_or(u32::MAX).to_be_bytes());
        for entry in self.entries.values() {
            field(&mut out, Some(entry.key.name.name().as_str().as_bytes()));
            field(&mut out, entry.key.name.tenant().map(str::as_bytes));
            field(&mut out, Some(entry.purpose.as_bytes()));
            number(&mut out, entry.key.version);
            field(&mut out, Some(entry.token.to_string().as_bytes()));
            number(&mut out, entry.created.0);
            number(&mut out, entry.updated.0);
        }
        out
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreFile {
    format: Spanned<String>,
    store_id: Spanned<String>,
    generation: u64,
    keyring_generation: u64,
    mac_kid: Spanned<String>,
    mac: Spanned<String>,
    #[serde(default)]
    secret: Vec<Spanned<Secret>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    name: String,
    tenant: Option<String>,
    purpose: Option<String>,
    version: u64,
    created: Datetime,
    updated: Datetime,
    token: String,
}

impl Secret {
    fn entry(self) -> Result<Entry, &'static str> {
        let name = SecretName::parse(&self.name).map_err(|_| "`name` is not the name of a secret")?;
        let name = match self.tenant {
            Some(tenant) => EntryName::of_tenant(name, tenant).map_err(|_| "`tenant` is empty or too long")?,
            None => EntryName::new(name),
        };
        if self.version == 0 {
            return Err("`version` counts from 1");
        }
        let purpose = self.purpose.unwrap_or_else(|| STORE_ENTRY.to_owned());
        let purpose = label(purpose, "").map_err(|_| "`purpose` is empty or too long")?;
        let time = |time: Datetime| {
            Timestamp::parse(&time.to_string()).ok_or("a time is not of the form 2026-02-03T10:11:12Z")
        };
        Ok(Entry {
            key: EntryKey { name, version: self.version },
            purpose,
            token: Token::parse(&self.token, HARD_LIMIT).map_err(|_| "`token` is not a token")?,
            created: time(self.created)?,
            updated: time(self.updated)?,
        })
    }
}
