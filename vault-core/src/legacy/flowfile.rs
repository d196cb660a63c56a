//! Flowfile: keys per user, and the store of a desktop user.

use crate::error::{Error, Result};
use crate::primitives::{Key32, Prk};
use crate::secret::SecretBytes;

use super::fernet::Cipher;
use super::is_json;
use super::nonce::Nonces;

/// HKDF over the text of the master key, never over its decoded bytes.
pub(super) fn user_key(master_key_text: &[u8], uid: u64) -> Key32 {
    Prk::extract(b"flowfile-secrets-v1", master_key_text).expand(&[b"user-", uid.to_string().as_bytes()])
}

pub(super) fn open_store(cipher: &Cipher, token: &[u8]) -> Result<SecretBytes> {
    let store = cipher.open(token)?;
    if is_object(store.expose_secret()) {
        Ok(store)
    } else {
        Err(Error::Malformed { what: "flowfile-store value: it holds no JSON object" })
    }
}

/// The application takes a store that it cannot read for an empty one and replaces it, so that
/// nothing else may be written.
pub(super) fn seal_store(cipher: &Cipher, nonces: &Nonces, json: &[u8]) -> Result<String> {
    if is_object(json) {
        cipher.seal(nonces, json)
    } else {
        Err(Error::Malformed { what: "secret: a flowfile-store value holds one JSON object" })
    }
}

fn is_object(text: &[u8]) -> bool {
    text.trim_ascii().starts_with(b"{") && is_json(text)
}
