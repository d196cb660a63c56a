//! The text of a keyring's primary key, for applications that are handed their key.

use crate::error::{Error, Result};
use crate::key::KeyId;
use crate::manifest::SecretKind;
use crate::secret::SecretBytes;

use super::{AnyKeyring, Vault, master_key, text_key};

impl Vault {
    /// The text of the key that a keyring seals with now, as its source has it, but for one trailing
    /// line break. It looks at keys and states first, so that it is never the key before a promotion.
    pub(super) fn primary_text(&self, keyring: &str) -> Result<(SecretBytes, KeyId)> {
        let spec = self.manifest.keyring(keyring)?;
        self.look_now()?;
        let loaded = self.keyring(keyring)?;
        let primary = loaded.primary_kid();
        for (place, content) in self.keys.key_contents(spec)? {
            let kid = match &loaded {
                AnyKeyring::Kek(known) => master_key(&place, &content, spec, Some(known))?.kid(),
                AnyKeyring::Text(known) => text_key(&place, &content, spec, Some(known))?.kid(),
            };
            if kid == primary {
                return Ok((SecretBytes::copy_of(SecretKind::Text.secret_in(content.expose_secret())), kid));
            }
        }
        Err(Error::KeyMissing { place: format!("the sources of keyring {keyring} no longer have key {primary}") })
    }
}
