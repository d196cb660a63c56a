//! Fernet with keys that are wiped. The syntax of tokens is [`format`](crate::format)'s.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

use crate::error::{Error, Result};
use crate::key::{self, KeyFormat};
use crate::primitives::{self, Key32};
use crate::secret::SecretBytes;
use crate::time::Timestamp;

use super::ciphers;
use super::nonce::Nonces;

/// 32 bytes from a Fernet key text: base64 of either alphabet, canonical, within white space.
pub(super) fn key(text: &[u8]) -> Option<Key32> {
    let mut out = Key32::default();
    match key::decode(text, &mut out) {
        Ok(KeyFormat::Base64Standard | KeyFormat::Base64Url) => Some(out),
        _ => None,
    }
}

/// A Fernet key: its first half signs, its second half encrypts.
pub(super) struct Cipher(Box<Key32>);

impl Cipher {
    pub(super) fn new(key: Key32) -> Self {
        Self(Box::new(key))
    }

    /// The plaintext of a token, given as bytes that [`format`](crate::format) has checked. Its time
    /// is not looked at, as no expiry is asked for.
    pub(super) fn open(&self, token: &[u8]) -> Result<SecretBytes> {
        let corrupt = || Error::Corrupt { what: "value" };
        let (signing, encryption) = self.halves();
        let (message, mac) = token.split_last_chunk::<32>().ok_or_else(corrupt)?;
        if !primitives::equal(&*primitives::hmac(signing, message), mac) {
            return Err(corrupt());
        }
        let (iv, ciphertext) = message.get(HEADER..).and_then(<[u8]>::split_first_chunk).ok_or_else(corrupt)?;
        let plaintext = ciphers::cbc128_open(encryption, iv, ciphertext).ok_or_else(corrupt)?;
        Ok(SecretBytes::from_zeroizing(plaintext))
    }

    /// A token of this second, with padding.
    pub(super) fn seal(&self, nonces: &Nonces, plaintext: &[u8]) -> Result<String> {
        let (signing, encryption) = self.halves();
        let iv = &nonces.fresh::<16>(plaintext)?;
        let mut token = vec![VERSION];
        token.extend_from_slice(&Timestamp::now().0.to_be_bytes());
        token.extend_from_slice(iv);
        token.extend_from_slice(&ciphers::cbc128_seal(encryption, iv, plaintext).ok_or(REFUSED)?);
        let mac = primitives::hmac(signing, &token);
        token.extend_from_slice(&*mac);
        Ok(URL_SAFE.encode(token))
    }

    fn halves(&self) -> (&[u8; 16], &[u8; 16]) {
        let (halves, _) = self.0.as_chunks::<16>();
        match halves {
            [signing, encryption] => (signing, encryption),
            _ => (&[0; 16], &[0; 16]),
        }
    }
}

const VERSION: u8 = 0x80;

/// Version and time.
const HEADER: usize = 1 + 8;

const REFUSED: Error = Error::CannotSeal { why: "the cipher refused its input" };
