//! The fields of `vault.toml`, as they are written.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

/// A text and where it stands.
pub(super) type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) version: Spanned<u32>,
    #[serde(default)]
    pub(super) vault: Vault,
    #[serde(default)]
    pub(super) keyring: BTreeMap<Text, Keyring>,
    pub(super) store: Option<Store>,
    #[serde(default)]
    pub(super) secrets: BTreeMap<Text, Secret>,
    #[serde(default)]
    pub(super) profiles: BTreeMap<String, Profile>,
    #[serde(default)]
    pub(super) column: Vec<Spanned<Column>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vault {
    pub(super) app: Option<String>,
    pub(super) preset: Option<Text>,
    pub(super) stack: Option<Text>,
    pub(super) nodes: Option<Spanned<u32>>,
    pub(super) follow: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keyring {
    pub(super) kind: Option<Text>,
    pub(super) sources: Spanned<Vec<Text>>,
    pub(super) state: Option<Text>,
    #[serde(default)]
    pub(super) min_generation: u64,
    pub(super) require_backup: Option<Spanned<bool>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub(super) url: Text,
    pub(super) keep: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    #[serde(default)]
    pub(super) secrets: BTreeMap<Text, Secret>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secret {
    pub(super) r#type: Option<Text>,
    pub(super) preset: Option<Text>,
    pub(super) path: Option<Text>,
    pub(super) composed: Option<Text>,
    pub(super) key_of: Option<Text>,
    pub(super) keyring: Option<Text>,
    pub(super) source: Option<Text>,
    pub(super) default: Option<String>,
    pub(super) min_length: Option<Spanned<usize>>,
    pub(super) bytes: Option<Spanned<usize>>,
    pub(super) rotate_every: Option<Text>,
    pub(super) rotated: Option<Spanned<Datetime>>,
    pub(super) required: Option<bool>,
}

impl Secret {
    /// This declaration, with the fields that `change` gives in place of its own.
    pub(super) fn with(self, change: &Self) -> Self {
        let change = change.clone();
        // A profile that says how the secret is found replaces all that was said of it.
        let (path, composed, key_of, keyring) = match (&change.path, &change.composed, &change.key_of, &change.keyring)
        {
            (None, None, None, None) => (self.path, self.composed, self.key_of, self.keyring),
            _ => (change.path, change.composed, change.key_of, change.keyring),
        };
        Self {
            r#type: change.r#type.or(self.r#type),
            preset: change.preset.or(self.preset),
            path,
            composed,
            key_of,
            keyring,
            source: change.source.or(self.source),
            default: change.default.or(self.default),
            min_length: change.min_length.or(self.min_length),
            bytes: change.bytes.or(self.bytes),
            rotate_every: change.rotate_every.or(self.rotate_every),
            rotated: change.rotated.or(self.rotated),
            required: change.required.or(self.required),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Column {
    pub(super) name: Text,
    pub(super) database: Text,
    pub(super) table: Text,
    pub(super) row: Spanned<Vec<Text>>,
    pub(super) value: Text,
    pub(super) member: Option<Text>,
    pub(super) reads: Spanned<Vec<Text>>,
    pub(super) writes: Text,
    pub(super) keyring: Option<Text>,
    pub(super) reads_keyring: Option<Text>,
    pub(super) context: Spanned<Context>,
    pub(super) filter: Option<String>,
    #[serde(default)]
    pub(super) immutable: bool,
    #[serde(default)]
    pub(super) linked: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    pub(super) tenant: Option<Text>,
    pub(super) name: Option<Text>,
    pub(super) purpose: Option<Text>,
    #[serde(default)]
    pub(super) extra: BTreeMap<Text, Text>,
}
