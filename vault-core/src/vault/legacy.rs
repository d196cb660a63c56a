//! Values in legacy formats, under the keyrings of a configuration.

use crate::error::{Error, Place, Result};
use crate::format::Format;
use crate::keyring::Keyring;
use crate::legacy::{self, LegacyKey};
use crate::secret::SecretBytes;

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
        legacy::open_under(self.key_texts(keyring)?, format, tenant, value)
    }

    /// Writes a value in a legacy format under the primary key of a keyring of key texts.
    ///
    /// # Errors
    ///
    /// As [`legacy::seal`] and [`Keyring::primary`]; [`Error::Config`] if the keyring is not
    /// declared or holds master keys.
    pub fn seal_legacy(&self, keyring: &str, format: Format, tenant: Option<&str>, plaintext: &[u8]) -> Result<String> {
        legacy::seal(format, self.key_texts(keyring)?.primary()?, tenant, plaintext)
    }

    fn key_texts(&self, keyring: &str) -> Result<&Keyring<LegacyKey>> {
        match self.keyring(keyring)? {
            AnyKeyring::Text(keyring) => Ok(keyring),
            AnyKeyring::Kek(_) => Err(Error::Config {
                place: Place::file(self.manifest.path()),
                reason: format!("[keyring.{keyring}] holds master keys, and a legacy format needs `kind = \"text\"`"),
            }),
        }
    }
}
