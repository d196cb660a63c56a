//! The proof that a key may go.

use crate::error::{Error, Result};
use crate::key::KeyId;

use super::refused;

/// The proof that no value needs a key: verification hands it out, and disabling and destroying the
/// key demand it. It holds for one keyring and until that keyring changes.
#[derive(Debug)]
pub struct Retired {
    kid: KeyId,
    keyring_id: String,
    generation: u64,
}

impl Retired {
    #[cfg(any(test, feature = "postgres", feature = "sqlite"))]
    pub(crate) fn new(kid: KeyId, keyring_id: String, generation: u64) -> Self {
        Self { kid, keyring_id, generation }
    }

    /// The key.
    #[must_use]
    pub fn kid(&self) -> KeyId {
        self.kid
    }

    /// Refuses the proof for another keyring, or after the keyring has changed.
    pub(super) fn check(&self, keyring_id: &str, generation: u64) -> Result<()> {
        if self.keyring_id != keyring_id {
            return Err(refused(
                format!("the values of another keyring were verified for key {}", self.kid),
                "verify the columns that use this keyring",
            ));
        }
        if self.generation != generation {
            return Err(Error::Temporary {
                reason: "the keyring changed since the values were verified".to_owned(),
                remedy: "run the command again".to_owned(),
            });
        }
        Ok(())
    }
}
