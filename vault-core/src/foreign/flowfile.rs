//! Flowfile: keys per user, and the store of a desktop user.

use crate::error::Result;
use crate::primitives::{Key32, Prk};
use crate::secret::SecretBytes;

use super::{check_json, fernet};

/// HKDF over the text of the master key, never over its decoded bytes.
pub(super) fn user_key(master_key_text: &[u8], uid: u64) -> Key32 {
    Prk::extract(b"flowfile-secrets-v1", master_key_text).expand(&[b"user-", uid.to_string().as_bytes()])
}

pub(super) fn open_store(key: &Key32, value: &[u8]) -> Result<SecretBytes> {
    let store = fernet::open(key, value)?;
    check_json(store.expose_secret(), true)?;
    Ok(store)
}

pub(super) fn seal_store(key: &Key32, json: &[u8]) -> Result<String> {
    check_json(json, true)?;
    fernet::seal(key, json)
}
