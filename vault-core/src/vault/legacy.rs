//! Values in legacy formats, under the keyrings of a configuration.

use crate::error::{Error, Place, Result};
use crate::format::Format;
use crate::keyring::Keyring;
use crate::legacy::{self, LegacyKey};
use crate::secret::SecretBytes;

use super::loaded::Loaded;
use super::{AnyKeyring, Vault};

impl Vault {
    /// Opens a value in a legacy format under a keyring of key texts.
    ///
    /// # Errors
    ///
    /// As [`legacy::open_under`]; [`Error::Config`] if the keyring is not declared or holds master
    /// keys.
    pub fn open_legacy(
        &self,
        keyring: &str,
        format: Format,
        tenant: Option<&str>,
        value: &[u8],
    ) -> Result<SecretBytes> {
        self.opening(newer_keys_may_open, |loaded| {
            legacy::open_under(self.key_texts(loaded, keyring)?, format, tenant, value)
        })
    }

    /// Writes a value in a legacy format under the primary key of a keyring of key texts.
    ///
    /// # Errors
    ///
    /// As [`legacy::seal`] and [`Keyring::primary`]; [`Error::Config`] if the keyring is not
    /// declared or holds master keys.
    pub fn seal_legacy(&self, keyring: &str, format: Format, tenant: Option<&str>, plaintext: &[u8]) -> Result<String> {
        self.before_sealing();
        legacy::seal(format, self.key_texts(&self.loaded(), keyring)?.primary()?, tenant, plaintext)
    }

    fn key_texts<'a>(&self, loaded: &'a Loaded, keyring: &str) -> Result<&'a Keyring<LegacyKey>> {
        self.manifest.keyring(keyring)?;
        match loaded.keyrings.get(keyring) {
            Some(AnyKeyring::Text(keyring)) => Ok(keyring),
            _ => Err(Error::Config {
                place: Place::file(self.manifest.path()),
                reason: format!("[keyring.{keyring}] holds master keys, and a legacy format needs `kind = \"text\"`"),
            }),
        }
    }
}

/// Whether a value that no loaded key opens may be under a key that was added since the last look: it names
/// none.
fn newer_keys_may_open(error: &Error) -> bool {
    matches!(error, Error::Corrupt { .. } | Error::KeyMissing { .. })
}
