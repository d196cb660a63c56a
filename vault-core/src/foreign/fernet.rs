//! Fernet behind a strict parser: the crate's own one panics on some times and accepts what others
//! refuse.

use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::key::{self, KeyFormat};
use crate::primitives::Key32;
use crate::secret::SecretBytes;

/// 32 bytes from a Fernet key text: base64 of either alphabet, canonical, within white space.
pub(super) fn key(text: &[u8]) -> Option<Key32> {
    let mut out = Key32::default();
    match key::decode(text, &mut out) {
        Ok(KeyFormat::Base64Standard | KeyFormat::Base64Url) => Some(out),
        _ => None,
    }
}

/// A Fernet key that is ready for use, and wiped when dropped.
///
/// Made once for each key: the crate takes a key as text and leaves what it decoded on the heap.
pub(super) struct Cipher(Box<::fernet::Fernet>);

impl Cipher {
    pub(super) fn new(key: &Key32) -> Option<Self> {
        let mut text = Zeroizing::new([0; 44]);
        URL_SAFE.encode_slice(**key, &mut *text).ok()?;
        ::fernet::Fernet::new(core::str::from_utf8(&*text).ok()?).map(|cipher| Self(Box::new(cipher)))
    }

    /// The plaintext of a token, given as bytes that [`format`](crate::format) has checked. Its time
    /// is not looked at, as no expiry is asked for.
    pub(super) fn open(&self, token: &[u8]) -> Result<SecretBytes> {
        let token = URL_SAFE.encode(token);
        // The crate refuses times that are over a minute ahead: for this "now" there are none.
        match catch_unwind(AssertUnwindSafe(|| self.0.decrypt_at_time(&token, None, u64::MAX - 60))) {
            Ok(Ok(plaintext)) => Ok(SecretBytes::from_zeroizing(Zeroizing::new(plaintext))),
            _ => Err(Error::Corrupt { what: "value" }),
        }
    }

    /// A token of this second, with padding.
    pub(super) fn seal(&self, plaintext: &[u8]) -> Result<String> {
        // The crate panics where the operating system gives no randomness or no time.
        catch_unwind(AssertUnwindSafe(|| self.0.encrypt(plaintext)))
            .map_err(|_| Error::CannotSeal { why: "the system gave Fernet no randomness or no time" })
    }
}
