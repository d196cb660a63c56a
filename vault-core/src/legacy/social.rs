//! social-publisher: AES-256-GCM and AES-256-CBC in hex.

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::format;
use crate::hex;
use crate::primitives::{self, Key32, TAG};
use crate::secret::SecretBytes;

use super::ciphers::{self, EvpKey};
use super::nonce::Nonces;

pub(super) fn key(text: &[u8]) -> Key32 {
    primitives::scrypt(text, b"salt")
}

/// Node's `createCipher`.
pub(super) fn legacy_key(text: &[u8]) -> EvpKey {
    ciphers::evp_bytes_to_key(text)
}

/// Opens `<nonce>:<tag>:<ciphertext>`. The application also accepts truncated tags, which makes
/// forging cheap; here a tag has 16 bytes.
pub(super) fn open(key: &Key32, value: &[u8], nonce_length: usize) -> Result<SecretBytes> {
    let [nonce, tag, ciphertext] = format::social_parts(value, 2 * nonce_length)
        .ok_or(Error::Malformed { what: "value: not nonce, tag and ciphertext in hex" })?;
    let tag: [u8; TAG] =
        from_hex(tag).try_into().map_err(|_| Error::Malformed { what: "value: its tag is not 16 bytes" })?;
    let mut data = Zeroizing::new(from_hex(ciphertext));
    ciphers::gcm_open_with_nonce(key, &from_hex(nonce), &mut data, &tag).ok_or(Error::Corrupt { what: "value" })?;
    Ok(SecretBytes::from_zeroizing(data))
}

/// Writes `<nonce>:<tag>:<ciphertext>` with a nonce of `N` bytes.
pub(super) fn seal<const N: usize>(key: &Key32, nonces: &Nonces, plaintext: &[u8]) -> Result<String> {
    const { assert!(N == 12 || N == 16, "the nonce lengths of the application") };
    let nonce = nonces.fresh::<N>(plaintext)?;
    let mut data = Zeroizing::new(plaintext.to_vec());
    let tag = ciphers::gcm_seal_with_nonce(key, &nonce, &mut data)
        .ok_or(Error::CannotSeal { why: "the cipher refused its input" })?;
    Ok([&nonce[..], &tag, &data].map(hex::encode).join(":"))
}

/// Without a MAC: valid padding and printable text are all there is to check.
pub(super) fn open_legacy(key: &EvpKey, value: &[u8]) -> Result<SecretBytes> {
    let plaintext = ciphers::cbc_open(key, from_hex(value)).ok_or(Error::Corrupt { what: "value" })?;
    if is_printable(&plaintext) {
        Ok(SecretBytes::from_zeroizing(plaintext))
    } else {
        Err(Error::Corrupt { what: "value" })
    }
}

fn is_printable(bytes: &[u8]) -> bool {
    core::str::from_utf8(bytes)
        .is_ok_and(|text| text.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r')))
}

/// The bytes of hex digits; the caller has checked that they are.
fn from_hex(digits: &[u8]) -> Vec<u8> {
    let pairs = digits.chunks_exact(2);
    pairs.map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | hex::value(*digit).unwrap_or_default())).collect()
}
