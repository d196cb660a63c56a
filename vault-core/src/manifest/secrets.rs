//! Declared secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use toml::Spanned;

use crate::error::Result;
use crate::name::SecretName;
use crate::os_keyring::OsKeyringItem;
use crate::time::Timestamp;

use super::text::{self, Text};
use super::{Preset, Reader};

/// A declared secret.
#[derive(Clone)]
#[non_exhaustive]
pub struct SecretSpec {
    /// What it is.
    pub kind: SecretKind,
    /// By whose rules it is found, where that is not `[vault] preset`.
    pub preset: Option<Preset>,
    /// The file that holds it, where it is not found by its name.
    pub path: Option<PathBuf>,
    /// The other secrets that it is made of, and the text around them.
    pub composed: Option<String>,
    /// The keyring whose primary key it is.
    pub key_of: Option<String>,
    /// The item of the operating system's keyring that holds it, where no other source does.
    pub keyring: Option<OsKeyringItem>,
    /// It may come from the environment while a store cannot be reached.
    pub environment: bool,
    /// What it is where no source has it.
    pub default: Option<String>,
    /// Least length of a text, in characters.
    pub min_length: Option<usize>,
    /// Exact number of bytes, decoded.
    pub bytes: Option<usize>,
    /// How often it is to be changed, in days.
    pub rotate_every: Option<u32>,
    /// When it was last changed, where no store knows.
    pub rotated: Option<Timestamp>,
    /// Whether it must exist.
    pub required: bool,
}

impl core::fmt::Debug for SecretSpec {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SecretSpec").field("kind", &self.kind).field("required", &self.required).finish_non_exhaustive()
    }
}

/// What a secret is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum SecretKind {
    /// Base64 of either alphabet.
    Base64,
    /// Bytes, never altered.
    Binary,
    /// A Fernet key.
    FernetKey,
    /// Hex digits.
    Hex,
    /// A whole number in decimal.
    Int,
    /// A private key in PEM, never altered.
    PemPrivateKey,
    /// A public key in PEM, never altered.
    PemPublicKey,
    /// Any text.
    #[default]
    Text,
    /// A URL.
    Url,
}

impl SecretKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Base64,
        Self::Binary,
        Self::FernetKey,
        Self::Hex,
        Self::Int,
        Self::PemPrivateKey,
        Self::PemPublicKey,
        Self::Text,
        Self::Url,
    ];

    /// The name in `vault.toml`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Binary => "binary",
            Self::FernetKey => "fernet-key",
            Self::Hex => "hex",
            Self::Int => "int",
            Self::PemPrivateKey => "pem-private-key",
            Self::PemPublicKey => "pem-public-key",
            Self::Text => "text",
            Self::Url => "url",
        }
    }

    /// Whether a trailing line break belongs to the file and not to the secret.
    #[must_use]
    pub fn loses_line_break(self) -> bool {
        self != Self::Binary && !self.is_pem()
    }

    /// The secret in what a file, a variable or standard input has: without one trailing line
    /// break, unless the kind keeps it or the value is framed as PEM is, as keys of OpenSSH are.
    /// Without its last line break OpenSSH refuses a key.
    #[must_use]
    pub fn secret_in(self, content: &[u8]) -> &[u8] {
        let without = content.strip_suffix(b"\r\n").or_else(|| content.strip_suffix(b"\n"));
        without.filter(|_| self.loses_line_break() && !is_framed(content)).unwrap_or(content)
    }

    pub(crate) fn is_pem(self) -> bool {
        matches!(self, Self::PemPrivateKey | Self::PemPublicKey)
    }

    /// Whether a number of bytes can be declared of it.
    fn has_bytes(self) -> bool {
        matches!(self, Self::Base64 | Self::Binary | Self::Hex | Self::Text)
    }
}

/// Whether the last line that is not empty is `-----END x-----`, and `-----BEGIN x-----` is a line
/// before it.
fn is_framed(content: &[u8]) -> bool {
    let Some(end) = content.trim_ascii_end().rsplit(|b| *b == b'\n').next() else { return false };
    let Some(label) = end.strip_prefix(b"-----END ") else { return false };
    let mut lines = content.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end);
    label.ends_with(b"-----") && lines.any(|line| line.strip_prefix(b"-----BEGIN ") == Some(label))
}

impl Reader<'_> {
    pub(super) fn secrets(&self, raw: &BTreeMap<Text, text::Secret>) -> Result<BTreeMap<SecretName, SecretSpec>> {
        let mut secrets = BTreeMap::new();
        let mut variables = BTreeSet::new();
        let mut files = BTreeSet::new();
        let mut parts = BTreeMap::new();
        for (written, secret) in raw {
            let name = self.name(written)?;
            let variable = name.folded();
            let clash = files.contains(&variable) || variables.contains(&format!("{variable}_FILE"));
            if !variables.insert(variable.clone()) || clash {
                return Err(self.wrong(written, "another secret has the same environment variable; rename one of them"));
            }
            files.insert(format!("{variable}_FILE"));
            if let Some(composed) = &secret.composed {
                let names = parts_of(composed.get_ref()).map_err(|reason| self.wrong(composed, reason))?;
                parts.insert(name.clone(), (composed, names));
            }
            secrets.insert(name, self.secret(secret)?);
        }
        let mut finite = BTreeSet::new();
        for (name, (composed, _)) in &parts {
            if !is_finite(name, &parts, &mut finite, MAX_NESTING) {
                return Err(self.wrong(composed, "it is composed of itself, or nested too deeply"));
            }
        }
        Ok(secrets)
    }

    fn secret(&self, raw: &text::Secret) -> Result<SecretSpec> {
        let kind = match &raw.r#type {
            None => SecretKind::default(),
            Some(written) => {
                SecretKind::ALL.into_iter().find(|kind| kind.as_str() == written.get_ref()).ok_or_else(|| {
                    let known: Vec<_> = SecretKind::ALL.into_iter().map(SecretKind::as_str).collect();
                    self.wrong(written, format!("unknown type; known are {}", known.join(", ")))
                })?
            }
        };
        if let (Some(path), Some(_)) = (&raw.path, &raw.composed) {
            return Err(self.wrong(path, "`path` and `composed` exclude each other"));
        }
        if let Some(keyring) = &raw.key_of {
            let others = [
                ("path", raw.path.is_some()),
                ("composed", raw.composed.is_some()),
                ("keyring", raw.keyring.is_some()),
                ("default", raw.default.is_some()),
                ("source", raw.source.is_some()),
            ];
            if let Some((other, _)) = others.iter().find(|(_, given)| *given) {
                return Err(self.wrong(keyring, format!("`key_of` and `{other}` exclude each other")));
            }
        }
        if let (Some(keyring), true) = (&raw.keyring, raw.path.is_some() || raw.composed.is_some()) {
            return Err(
                self.wrong(keyring, "`keyring` is never asked beside `path` or `composed`; leave one of them out")
            );
        }
        if let Some(source) = raw.source.as_ref().filter(|source| source.get_ref() != "env") {
            return Err(self.wrong(source, "the only `source` is \"env\"; a file is named by `path`"));
        }
        if let Some(bytes) = raw.bytes.as_ref().filter(|_| !kind.has_bytes()) {
            return Err(self.wrong(bytes, format!("`bytes` says nothing of the type {}; leave it out", kind.as_str())));
        }
        if let Some(length) = raw.min_length.as_ref().filter(|_| kind.is_pem()) {
            return Err(self.wrong(length, "`min_length` says nothing of a key in PEM; leave it out"));
        }
        let rotate_every = raw.rotate_every.as_ref().map(|written| {
            days(written.get_ref())
                .ok_or_else(|| self.wrong(written, "it is not a number of days or weeks, like \"90d\" or \"12w\""))
        });
        let rotated = raw.rotated.as_ref().map(|written: &Spanned<_>| {
            let date = Timestamp::parse(&format!("{}T00:00:00Z", written.get_ref()));
            date.ok_or_else(|| self.wrong(written, "it is not a date like 2026-01-31"))
        });
        Ok(SecretSpec {
            kind,
            preset: raw.preset.as_ref().map(|preset| self.preset(preset)).transpose()?,
            path: raw.path.as_ref().map(|path| self.path(path)).transpose()?,
            composed: raw.composed.as_ref().map(|composed| composed.get_ref().clone()),
            key_of: raw.key_of.as_ref().map(|keyring| keyring.get_ref().clone()),
            keyring: raw
                .keyring
                .as_ref()
                .map(|keyring| self.os_keyring_item(keyring, keyring.get_ref()))
                .transpose()?,
            environment: raw.source.is_some(),
            default: raw.default.clone(),
            min_length: raw.min_length.as_ref().map(|length| *length.get_ref()),
            bytes: raw.bytes.as_ref().map(|bytes| *bytes.get_ref()),
            rotate_every: rotate_every.transpose()?,
            rotated: rotated.transpose()?,
            required: raw.required.unwrap_or(true),
        })
    }

    pub(super) fn preset(&self, written: &Text) -> Result<Preset> {
        written.get_ref().parse().map_err(|_| {
            let known: Vec<_> = Preset::ALL.into_iter().map(Preset::as_str).collect();
            self.wrong(written, format!("unknown preset; known are {}", known.join(", ")))
        })
    }

    pub(super) fn os_keyring_item(&self, written: &Text, item: &str) -> Result<OsKeyringItem> {
        OsKeyringItem::parse(item).ok_or_else(|| self.wrong(written, "an item of the OS keyring is SERVICE/ACCOUNT"))
    }

    pub(super) fn name(&self, written: &Text) -> Result<SecretName> {
        SecretName::parse(written.get_ref()).map_err(|_| {
            self.wrong(
                written,
                "a secret's name is letters, digits and . _ - in segments joined by /, at most 128 bytes",
            )
        })
    }
}

/// A part of a composed text.
pub(crate) enum Piece<'a> {
    /// A secret's value stands here.
    Secret(SecretName),
    /// This text stands here.
    Text(&'a str),
}

/// Reads a composed text: names stand between braces, and `{{` and `}}` for braces.
pub(crate) fn pieces(composed: &str) -> Result<Vec<Piece<'_>>, &'static str> {
    let mut pieces = Vec::new();
    let mut rest = composed;
    while let Some((at, brace)) = rest.char_indices().find(|(_, c)| matches!(c, '{' | '}')) {
        let (before, behind) = (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default());
        pieces.push(Piece::Text(before));
        rest = match behind.strip_prefix(brace) {
            Some(behind) => {
                pieces.push(Piece::Text(rest.get(at..=at).unwrap_or_default()));
                behind
            }
            None if brace == '}' => return Err("a brace is closed that was not opened; }} stands for a brace"),
            None => {
                let (name, behind) = behind.split_once('}').ok_or("a brace is not closed; {{ stands for a brace")?;
                let name = SecretName::parse(name).map_err(|_| "between braces stands what is not a secret's name")?;
                pieces.push(Piece::Secret(name));
                behind
            }
        };
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// The secrets whose names stand between braces.
pub(super) fn parts_of(composed: &str) -> Result<Vec<SecretName>, &'static str> {
    let names = pieces(composed)?.into_iter().filter_map(|piece| match piece {
        Piece::Secret(name) => Some(name),
        Piece::Text(_) => None,
    });
    Ok(names.collect())
}

type Parts<'a> = BTreeMap<SecretName, (&'a Text, Vec<SecretName>)>;

fn is_finite(name: &SecretName, parts: &Parts<'_>, known: &mut BTreeSet<SecretName>, depth: usize) -> bool {
    let Some((_, names)) = parts.get(name) else { return true };
    if known.contains(name) {
        return true;
    }
    let finite = depth > 0 && names.iter().all(|part| is_finite(part, parts, known, depth - 1));
    if finite {
        known.insert(name.clone());
    }
    finite
}

fn days(text: &str) -> Option<u32> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = Some(number).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?.parse::<u32>().ok()?;
    match unit {
        "d" => Some(number),
        "w" => number.checked_mul(7),
        _ => None,
    }
    .filter(|days| *days > 0)
}

const MAX_NESTING: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_days_or_weeks() {
        for (text, expected) in [
            ("90d", Some(90)),
            ("2w", Some(14)),
            ("0d", None),
            ("", None),
            ("d", None),
            ("+1d", None),
            ("9é", None),
            ("3m", None),
            ("4294967295w", None),
        ] {
            assert_eq!(days(text), expected, "{text}");
        }
    }

    #[test]
    fn only_text_without_a_frame_loses_one_line_break() {
        let framed = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
        let with_attributes = format!("Bag Attributes\n  friendlyName: a\n{framed}\n");
        let windows = framed.replace('\n', "\r\n");
        for kept in [framed, &with_attributes, &windows] {
            assert_eq!(SecretKind::Text.secret_in(kept.as_bytes()), kept.as_bytes());
        }
        for (text, secret) in [
            ("a\n\n", "a\n"),
            ("a\r\n", "a"),
            ("-----END X-----\n", "-----END X-----"),
            ("-----BEGIN X-----\n-----END Y-----\n", "-----BEGIN X-----\n-----END Y-----"),
        ] {
            assert_eq!(SecretKind::Text.secret_in(text.as_bytes()), secret.as_bytes());
            assert_eq!(SecretKind::Binary.secret_in(text.as_bytes()), text.as_bytes());
        }
    }

    #[test]
    fn composed_texts_name_their_parts() {
        let names = |text: &str| parts_of(text).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("postgresql://{USER}:{PASSWORD}@host/{{app}}"), ["USER", "PASSWORD"]);
        assert_eq!(names("{A}}}é{{{B}"), ["A", "B"]);
        let text = |text: &str| {
            let texts = pieces(text).unwrap().into_iter().map(|piece| match piece {
                Piece::Secret(_) => "<>".to_owned(),
                Piece::Text(text) => text.to_owned(),
            });
            texts.collect::<String>()
        };
        assert_eq!(text("a{{{A}}}é}}{B}c"), "a{<>}é}<>c");
        for wrong in ["{", "}", "{A", "A}", "{}", "{A}}b}", "{a b}"] {
            assert!(parts_of(wrong).is_err(), "{wrong}");
        }
    }
}
