//! Fernet behind a strict parser: the crate's own one panics on some times and accepts what others
//! refuse.

use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::format;
use crate::key;
use crate::primitives::Key32;
use crate::secret::SecretBytes;

/// 32 bytes from a Fernet key text: base64 of either alphabet, canonical, within white space.
pub(super) fn key(text: &[u8]) -> Option<Key32> {
    let mut out = Key32::default();
    match key::decode(text, &mut out) {
        Ok(key::KeyFormat::Base64Standard | key::KeyFormat::Base64Url) => Some(out),
        _ => None,
    }
}

/// The plaintext; times are not checked, as no expiry was asked for.
pub(super) fn open(key: &Key32, value: &[u8]) -> Result<SecretBytes> {
    let bytes = format::fernet_bytes(value).ok_or(Error::Malformed { what: "value: not a Fernet token" })?;
    let token = URL_SAFE.encode(bytes);
    // The greatest "now" makes every time a past one for the crate's check of its own clock.
    let opened = catch_unwind(AssertUnwindSafe(|| cipher(key)?.decrypt_at_time(&token, None, u64::MAX - 60).ok()));
    match opened {
        Ok(Some(plaintext)) => Ok(SecretBytes::from_zeroizing(Zeroizing::new(plaintext))),
        _ => Err(Error::Corrupt { what: "value" }),
    }
}

pub(super) fn seal(key: &Key32, plaintext: &[u8]) -> Result<String> {
    catch_unwind(AssertUnwindSafe(|| cipher(key).map(|cipher| cipher.encrypt(plaintext))))
        .ok()
        .flatten()
        .ok_or(Error::CannotSeal { why: "the Fernet cipher failed" })
}

fn cipher(key: &Key32) -> Option<::fernet::Fernet> {
    let mut text = Zeroizing::new([0; 44]);
    URL_SAFE.encode_slice(**key, &mut *text).ok()?;
    ::fernet::Fernet::new(core::str::from_utf8(&*text).ok()?)
}
