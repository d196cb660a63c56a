//! The face API's columns: text, JSON in one layer as meant, and JSON in two as stored.

use crate::error::{Error, Result};
use crate::format;
use crate::primitives::Key32;
use crate::secret::SecretBytes;

use super::ciphers;
use super::fernet::Cipher;
use super::is_json;
use super::nonce::Nonces;

pub(super) fn key(text: &[u8]) -> Key32 {
    ciphers::pbkdf2(text, b"homomorphic_face_salt", 100_000)
}

/// A value that is two layers deep is refused here: its inner token is valid JSON, and would go for
/// the secret.
pub(super) fn open_json(cipher: &Cipher, token: &[u8]) -> Result<SecretBytes> {
    let json = cipher.open(token)?;
    if inner_token(json.expose_secret()).is_some() {
        return Err(Error::Malformed { what: "face-json value: another layer is inside, as in face-json-double" });
    }
    if !is_json(json.expose_secret()) {
        return Err(Error::Malformed { what: "face-json value: it holds no JSON" });
    }
    Ok(json)
}

pub(super) fn seal_json(cipher: &Cipher, nonces: &Nonces, json: &[u8]) -> Result<String> {
    if inner_token(json).is_some() {
        return Err(Error::Malformed { what: "secret: it is an encrypted value already" });
    }
    if !is_json(json) {
        return Err(Error::Malformed { what: "secret: a face-json value holds JSON" });
    }
    cipher.seal(nonces, json)
}

pub(super) fn open_double(cipher: &Cipher, token: &[u8]) -> Result<SecretBytes> {
    let outer = cipher.open(token)?;
    let inner = inner_token(outer.expose_secret())
        .ok_or(Error::Malformed { what: "face-json-double value: its outer layer holds no token" })?;
    open_json(cipher, &inner)
}

/// As the application's rows are: it hands bytes that are encrypted already to a column type that
/// takes their notation for the text to encrypt.
pub(super) fn seal_double(cipher: &Cipher, nonces: &Nonces, json: &[u8]) -> Result<String> {
    let inner = seal_json(cipher, nonces, json)?;
    cipher.seal(nonces, format!("\"b'{inner}'\"").as_bytes())
}

/// The token in a JSON string that holds Python's notation `b'…'` of one, or one alone, which the
/// application can read too.
fn inner_token(json: &[u8]) -> Option<Vec<u8>> {
    let text = json.trim_ascii().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let token = text.strip_prefix(b"b'").and_then(|rest| rest.strip_suffix(b"'")).unwrap_or(text);
    format::inner_fernet_bytes(token)
}
