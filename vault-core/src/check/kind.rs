//! Whether a value is of the type and length that are declared for it.

use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine};
use zeroize::Zeroizing;

use crate::key::{KeyFormat, decode, published};
use crate::manifest::{SecretKind, SecretSpec};

use super::Finding;

/// Whether a value has the type and length of its declaration; nothing else is asked. One finding
/// at most: the first reason why not.
#[must_use]
pub fn fits(spec: &SecretSpec, value: &[u8]) -> Option<Finding> {
    if spec.kind == SecretKind::Binary {
        return length("bytes", value.len(), spec.min_length).or_else(|| count(value.len(), spec.bytes));
    }
    let Ok(text) = core::str::from_utf8(value) else {
        return Some(wrong(spec.kind, "it is not UTF-8 text"));
    };
    let of_kind = match spec.kind {
        SecretKind::PemPrivateKey | SecretKind::PemPublicKey => return pem(spec.kind, text),
        SecretKind::Text => count(text.len(), spec.bytes),
        _ if text.contains(['\n', '\r']) => Some(Finding::failure(
            "line-break",
            format!("it has several lines, and a value of type {} has one", spec.kind.as_str()),
            "write it as one line; `openssl rand -base64 N` breaks lines, `| tr -d '\\n'` joins them",
        )),
        SecretKind::Base64 => base64(text, spec.bytes),
        SecretKind::FernetKey => fernet_key(text),
        SecretKind::Hex => hex(text, spec.bytes),
        SecretKind::Int => int(text),
        _ => url(text),
    };
    of_kind.or_else(|| length("characters", text.chars().count(), spec.min_length))
}

/// A URL whose password cannot be told from the rest of it, or is one that everybody knows.
pub(super) fn url_password(text: &str) -> Option<Finding> {
    let (_, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at_checked(end)?;
    let Some((user, _)) = authority.rsplit_once('@') else {
        // A password with a slash looks like a host with a port that is none.
        let odd_port = authority.rsplit_once(':').is_some_and(|(host, port)| {
            !host.starts_with('[') && !port.is_empty() && !port.bytes().all(|b| b.is_ascii_digit())
        });
        return (odd_port && behind.contains('@')).then(unescaped);
    };
    let (_, password) = user.split_once(':')?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%".contains(&b);
    let escapes = |text: &str| {
        text.split('%').skip(1).all(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
    };
    // With an @ and a slash in it, a part of it is taken for the host.
    let cut = behind.split('?').next().is_some_and(|path| path.contains('@'));
    if cut || !user.bytes().all(|b| allowed(b) || b >= 0x80) || !escapes(user) {
        return Some(unescaped());
    }
    (published(password.as_bytes()) || published(&unescape(password))).then(super::public)
}

fn unescaped() -> Finding {
    Finding::failure(
        "url-password",
        "its user or password holds a character that has a meaning in URLs, so programs cut it elsewhere",
        "percent-encode the password, or declare the URL as `composed` of its parts, which does that",
    )
}

fn unescape(text: &str) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|two| core::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

fn hex(text: &str, bytes: Option<usize>) -> Option<Finding> {
    if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(wrong(SecretKind::Hex, "it has characters that are no hex digits"));
    }
    let half = bytes.filter(|bytes| *bytes == text.len());
    if let Some(bytes) = half {
        return Some(Finding::failure(
            "half-key",
            format!("it has {bytes} hex digits, which are {} bytes; {bytes} bytes are {} digits", bytes / 2, 2 * bytes),
            format!("make one of the right length: `openssl rand -hex {bytes}`"),
        ));
    }
    if !text.len().is_multiple_of(2) {
        return Some(wrong(SecretKind::Hex, "it has an odd number of hex digits, so one is missing"));
    }
    count(text.len() / 2, bytes)
}

fn base64(text: &str, bytes: Option<usize>) -> Option<Finding> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let mut decoded = Zeroizing::new(vec![0; text.len().div_ceil(4) * 3]);
    let length = [STANDARD, URL_SAFE]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode_slice(text, &mut decoded).ok());
    match length {
        Some(length) => count(length, bytes),
        None => Some(wrong(SecretKind::Base64, "it is not base64")),
    }
}

fn fernet_key(text: &str) -> Option<Finding> {
    let mut key = Zeroizing::new([0; 32]);
    match decode(text.as_bytes(), &mut key) {
        Ok(KeyFormat::Base64Standard | KeyFormat::Base64Url) if text.ends_with('=') => None,
        Ok(KeyFormat::Hex) => Some(wrong(SecretKind::FernetKey, "it is 64 hex digits")),
        _ => Some(wrong(SecretKind::FernetKey, "it is not base64 of 32 bytes, 44 characters with the `=`")),
    }
}

fn int(text: &str) -> Option<Finding> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (!good).then(|| wrong(SecretKind::Int, "it is not a whole number in decimal"))
}

fn url(text: &str) -> Option<Finding> {
    let good = text.split_once("://").is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-:".contains(&b))
            && !rest.is_empty()
            && !rest.contains(char::is_control)
    });
    (!good).then(|| wrong(SecretKind::Url, "it is not a URL like scheme://user:password@host/path"))
}

fn pem(kind: SecretKind, text: &str) -> Option<Finding> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(Finding::failure(
            "pem-is-hex",
            "it is hex digits, and a key in PEM is declared",
            "make a key pair: `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out FILE`",
        ));
    }
    if text.starts_with("-----BEGIN ") && text.contains("\\n") {
        return Some(Finding::failure(
            "escaped-line-breaks",
            "it is PEM with \\n written where its lines should end, which no PEM reader takes",
            "write it with real line breaks",
        ));
    }
    let Some((label, body)) = text.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----")) else {
        return Some(wrong(kind, "it does not begin with -----BEGIN"));
    };
    let whole = body
        .split_once("-----END ")
        .filter(|(_, end)| end.split_once("-----").is_some_and(|(end, _)| end == label))
        .is_some_and(|(body, _)| body.starts_with(['\n', '\r']) && body.trim().len() >= MIN_PEM);
    if !whole {
        return Some(wrong(kind, "it is cut: its first and last line do not fit, or nothing is between them"));
    }
    let (private, public) = (label.ends_with("PRIVATE KEY"), label.ends_with("PUBLIC KEY"));
    match kind {
        SecretKind::PemPrivateKey if public => Some(wrong(kind, "it is a public key")),
        SecretKind::PemPublicKey if private => Some(Finding::failure(
            "private-key",
            "it is a private key where a public key belongs",
            "put the public key there: `openssl pkey -in FILE -pubout`; who could read the private one has it",
        )),
        _ if private || public => None,
        _ => Some(wrong(kind, "it is PEM of something else than a key")),
    }
}

fn wrong(kind: SecretKind, what: &str) -> Finding {
    let remedy = match kind {
        SecretKind::Base64 => "`openssl rand -base64 32` makes such a value",
        SecretKind::FernetKey => "`vault set NAME --generate=fernet-key` makes one",
        SecretKind::Hex => "`openssl rand -hex 32` makes such a value",
        SecretKind::PemPrivateKey => "`openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048` makes one",
        SecretKind::PemPublicKey => "`openssl pkey -in FILE -pubout` takes it from a private key",
        _ => "write one of this type",
    };
    Finding::failure(
        "wrong-type",
        format!("{what}, and the type {} is declared", kind.as_str()),
        format!("{remedy}; or declare the type that it has"),
    )
}

fn length(unit: &str, has: usize, least: Option<usize>) -> Option<Finding> {
    let least = least.filter(|least| has < *least)?;
    Some(Finding::failure(
        "too-short",
        format!("it has {has} {unit}, and at least {least} are declared"),
        "make a longer one: `vault set NAME --generate`",
    ))
}

fn count(has: usize, declared: Option<usize>) -> Option<Finding> {
    let declared = declared.filter(|declared| has != *declared)?;
    Some(Finding::failure(
        "wrong-length",
        format!("it has {has} bytes, and {declared} are declared"),
        format!("make one of {declared} bytes, or declare the length that it has"),
    ))
}

/// Least length of what stands between the lines of a PEM key, in characters: an Ed25519 key.
const MIN_PEM: usize = 56;
