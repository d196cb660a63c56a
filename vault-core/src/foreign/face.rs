//! The face API's JSON columns, in one layer as meant and in two as stored.

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::primitives::Key32;
use crate::secret::SecretBytes;

use super::{check_json, fernet};

pub(super) fn open_json(key: &Key32, value: &[u8]) -> Result<SecretBytes> {
    let json = fernet::open(key, value)?;
    check_json(json.expose_secret(), false)?;
    Ok(json)
}

pub(super) fn seal_json(key: &Key32, json: &[u8]) -> Result<String> {
    check_json(json, false)?;
    fernet::seal(key, json)
}

/// The outer plaintext is a JSON string: Python's notation `b'…'` of the inner token, or the
/// inner token alone, which the application can read too.
pub(super) fn open_double(key: &Key32, value: &[u8]) -> Result<SecretBytes> {
    let outer = fernet::open(key, value)?;
    let inner = serde_json::from_slice::<String>(outer.expose_secret())
        .map(Zeroizing::new)
        .map_err(|_| Error::Malformed { what: "value: its outer layer holds no JSON string" })?;
    let token = inner.strip_prefix("b'").and_then(|rest| rest.strip_suffix('\'')).unwrap_or(&inner);
    open_json(key, token.as_bytes())
}

pub(super) fn seal_double(key: &Key32, json: &[u8]) -> Result<String> {
    let inner = seal_json(key, json)?;
    fernet::seal(key, format!("\"b'{inner}'\"").as_bytes())
}
