//! Whether a value is of the type and length that are declared for it.

use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine};
use zeroize::Zeroizing;

use crate::hex;
use crate::key::{KeyFormat, decode, published};
use crate::manifest::{SecretKind, SecretSpec};

use super::{Finding, placeholder};

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
    let name = user.split_once(':').map_or(user, |(name, _)| name);
    let plain = unescape(password);
    let plain = core::str::from_utf8(&plain).unwrap_or(password);
    let is_known = |text: &str| published(text.as_bytes()) || placeholder::is_common(text);
    if is_known(plain) || is_known(password) || !password.is_empty() && name == password {
        return Some(placeholder::public());
    }
    if placeholder::is_unexpanded(plain) {
        return Some(placeholder::unexpanded());
    }
    (!plain.is_empty() && placeholder::is_placeholder(plain)).then(placeholder::placeholder)
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
        let digits = behind.first_chunk().filter(|_| *first == b'%');
        match digits.and_then(|[high, low]| hex::byte(*high, *low)) {
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
    if text.starts_with(BEGIN) && text.contains("\\n") {
        return Some(Finding::failure(
            "escaped-line-breaks",
            "it is PEM with \\n written where its lines should end, which no PEM reader takes",
            "write it with real line breaks",
        ));
    }
    if !text.starts_with(BEGIN) {
        return Some(wrong(kind, "it does not begin with -----BEGIN"));
    }
    // `openssl ecparam` puts parameters before the key, and a bundle holds several.
    let (mut rest, mut labels) = (Some(text), Vec::new());
    while let Some(from_begin) = rest {
        let Some((label, behind)) = block(from_begin) else {
            return Some(wrong(kind, "it is cut or altered: its lines do not fit each other, or are not all there"));
        };
        labels.push(label);
        rest = behind.find(BEGIN).and_then(|at| behind.get(at..));
    }
    let has = |end: &str| labels.iter().any(|label| label.ends_with(end));
    let (private, public) = (has("PRIVATE KEY"), has("PUBLIC KEY"));
    match kind {
        SecretKind::PemPublicKey if private => Some(Finding::failure(
            "private-key",
            "it is a private key where a public key belongs, or holds one",
            "put the public key there: `openssl pkey -in FILE -pubout`; who could read the private one has it",
        )),
        SecretKind::PemPrivateKey if public && !private => Some(wrong(kind, "it is a public key")),
        _ if private || public => None,
        _ => Some(wrong(kind, "it is PEM of something else than a key")),
    }
}

/// The label of the block that a text begins with, if it is whole, and what follows.
fn block(text: &str) -> Option<(&str, &str)> {
    let (label, rest) = text.strip_prefix(BEGIN)?.split_once("-----")?;
    let (body, rest) = rest.split_once("-----END ")?;
    let (end, behind) = rest.split_once("-----")?;
    let is_key = label.ends_with("PRIVATE KEY") || label.ends_with("PUBLIC KEY");
    let whole = end == label && body.starts_with(['\n', '\r']) && (!is_key || is_whole(label, body));
    whole.then_some((label, behind))
}

/// Whether the lines of a key are base64, and all of it where the key tells its length. Lines with
/// a colon tell how an encrypted one is encrypted.
fn is_whole(label: &str, body: &str) -> bool {
    if body.contains(':') {
        return true;
    }
    let mut digits = Zeroizing::new(Vec::with_capacity(body.len()));
    digits.extend(body.bytes().filter(|b| !b.is_ascii_whitespace()));
    let mut key = Zeroizing::new(vec![0; digits.len().div_ceil(4) * 3]);
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let Ok(length) = GeneralPurpose::new(&STANDARD, config).decode_slice(&digits, &mut key) else { return false };
    label.starts_with("OPENSSH ") || der_length(&key) == Some(length)
}

/// How long a DER sequence says that it is, with its header.
fn der_length(der: &[u8]) -> Option<usize> {
    let [0x30, first, rest @ ..] = der else { return None };
    let following = usize::from(first & 0x7f);
    match first {
        0..=0x7f => Some(2 + following),
        _ => {
            let digits = rest.get(..following).filter(|digits| digits.len() <= 4)?;
            let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
            Some(2 + following + length)
        }
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

const BEGIN: &str = "-----BEGIN ";
