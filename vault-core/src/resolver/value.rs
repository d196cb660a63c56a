//! What is made of what a source has.

use zeroize::Zeroizing;

use crate::error::{Error, Kind, Place, Result};
use crate::file;
use crate::hex;
use crate::manifest::{Piece, Preset, SecretKind, pieces};
use crate::name::SecretName;
use crate::secret::SecretBytes;

use super::preset::{Refusal, Rules};
use super::source::{Lookup, Note, Resolved, Source};
use super::{Found, Resolver, Stored};

impl Resolver {
    /// A secret that is made of others. In a URL, they are percent-encoded.
    pub(super) fn compose(
        &self,
        name: &SecretName,
        composed: &str,
        kind: SecretKind,
        store: Stored<'_>,
    ) -> Result<Resolved> {
        let store = self.opened_for(name, store);
        let wrong =
            |reason: &str| Error::Config { place: Place::file(&self.path), reason: format!("secret {name}: {reason}") };
        let mut parts = Vec::new();
        let mut notes = Vec::new();
        let mut texts = Vec::new();
        for piece in pieces(composed).map_err(wrong)? {
            match piece {
                Piece::Text(text) => texts.push(Zeroizing::new(text.as_bytes().to_vec())),
                Piece::Secret(part) => {
                    let Resolved { value, source, notes: of_part } =
                        self.secret_with(&part, store).map_err(|error| part_missing(name, error))?;
                    let value = value.expose_secret();
                    texts.push(match kind {
                        SecretKind::Url => percent_encoded(value),
                        _ => Zeroizing::new(value.to_vec()),
                    });
                    parts.push((part, source));
                    notes.extend(of_part);
                }
            }
        }
        let length = texts.iter().map(|text| text.len()).sum();
        if length > file::MAX_SECRET {
            return Err(Error::Oversized { place: format!("composed secret {name}"), limit: file::MAX_SECRET });
        }
        let mut value = Zeroizing::new(Vec::with_capacity(length));
        texts.iter().for_each(|text| value.extend_from_slice(text));
        Ok(Resolved { value: value.into(), source: Source::Composed { parts }, notes })
    }

    /// What the preset's application makes of what was found.
    pub(super) fn of_application(&self, name: &SecretName, found: Found, rules: &Rules) -> Result<Resolved> {
        let Found { place, resolved: Resolved { value, source, mut notes } } = found;
        let value = match (place, &source) {
            // Ours, and exact.
            (None, _) | (_, Source::Composed { .. } | Source::Keyring { .. } | Source::Store { .. }) => value,
            (Some(place), _) => {
                let (value, note) = rules.read(name, self.kind(name), place, &source, &value)?;
                notes.extend(note);
                value
            }
        };
        if value.is_empty() {
            // social-publisher takes an empty variable for a value until the value is required.
            if rules.preset == Preset::SocialPublisher && place == Some(Lookup::Variable) && self.required(name) {
                return Err(rules.say(Refusal::Missing, name, empty(&source)));
            }
            notes.push(Note::Empty);
        }
        Ok(Resolved { value, source, notes })
    }

    /// A text without the line break that its file or variable ends with. What a store has was rid
    /// of it when it was sealed.
    pub(super) fn text_of(&self, name: &SecretName, found: Resolved) -> Result<Resolved> {
        let Resolved { value, source, notes } = found;
        let bytes = value.expose_secret();
        let text = match source {
            Source::Composed { .. } | Source::Default | Source::Keyring { .. } | Source::Store { .. } => bytes,
            _ => SecretKind::Text.secret_in(bytes),
        };
        if text.contains(&0) {
            return Err(wrong(&source, "it holds a NUL byte, and is declared as text"));
        }
        if core::str::from_utf8(text).is_err() {
            return Err(wrong(&source, "it is not UTF-8, and is declared as text"));
        }
        let value = if text.len() == bytes.len() { value } else { SecretBytes::copy_of(text) };
        self.not_empty(name, Resolved { value, source, notes })
    }

    /// What is required is not empty.
    pub(super) fn not_empty(&self, name: &SecretName, mut resolved: Resolved) -> Result<Resolved> {
        if resolved.value.is_empty() {
            if self.required(name) {
                return Err(empty(&resolved.source));
            }
            resolved.notes.push(Note::Empty);
        }
        Ok(resolved)
    }
}

/// Names the whole where a part is missing.
fn part_missing(whole: &SecretName, error: Error) -> Error {
    match error {
        Error::NotFound { what } => Error::NotFound { what: format!("{what}, a part of secret {whole},") },
        Error::Preset { text, kind: Kind::NotFound, detail } => {
            Error::Preset { text, kind: Kind::NotFound, detail: format!("{detail}; it is a part of secret {whole}") }
        }
        other => other,
    }
}

/// RFC 3986: all but the unreserved characters as `%` and two digits, in a buffer that never grows.
fn percent_encoded(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let length = bytes.iter().map(|b| if unreserved(*b) { 1 } else { 3 }).sum();
    let mut encoded = Zeroizing::new(Vec::with_capacity(length));
    let digit = |value: u8| hex::digit(value).to_ascii_uppercase();
    for b in bytes {
        if unreserved(*b) {
            encoded.push(*b);
        } else {
            encoded.extend_from_slice(&[b'%', digit(b >> 4), digit(b & 15)]);
        }
    }
    encoded
}

fn empty(source: &Source) -> Error {
    wrong(source, "it is empty; write the secret into it")
}

fn wrong(source: &Source, reason: &str) -> Error {
    Error::Config { place: Place::file(source.to_string()), reason: reason.to_owned() }
}
