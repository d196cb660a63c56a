//! The proof that the processes of a deployment follow a change of keys.

use crate::error::{Error, Result};
use crate::key::KeyId;

use super::refused;

/// The proof that every process that holds a keyring follows it: that it opens values under a key, or
/// that it seals by the present states. Waiting for the processes gives it (`Vault::await_processes`), or
/// an operator's own word. It holds for one keyring, and until that changes.
///
/// Without it no key is promoted:
///
/// ```compile_fail,E0061
/// use vault_core::{Change, KeyId};
///
/// fn promote(kid: KeyId) -> Change {
///     Change::Promote(kid)
/// }
/// ```
///
/// With it, one is:
///
/// ```
/// use vault_core::{Change, Followed, KeyId};
///
/// fn promote(kid: KeyId, followed: Followed) -> Change {
///     Change::Promote(kid, followed)
/// }
/// ```
#[derive(Debug)]
pub struct Followed {
    /// None before the keyring has states: then no other key can be promoted or disabled.
    keyring_id: Option<String>,
    generation: u64,
    opens: Option<KeyId>,
}

impl Followed {
    pub(crate) fn new(keyring_id: Option<&str>, generation: u64, opens: Option<KeyId>) -> Self {
        Self { keyring_id: keyring_id.map(str::to_owned), generation, opens }
    }

    /// Refuses what was proved of another keyring, of other states, or of another key.
    pub(crate) fn check(&self, keyring_id: Option<&str>, generation: u64, opens: Option<KeyId>) -> Result<()> {
        if self.keyring_id.as_deref() != keyring_id {
            return Err(refused("the processes were asked about another keyring".to_owned(), "ask about this one"));
        }
        if opens.is_some() && self.opens != opens {
            return Err(refused("the processes were asked about another key".to_owned(), "ask about this one"));
        }
        if self.generation != generation {
            return Err(Error::Temporary {
                reason: "the keyring changed since its processes were asked".to_owned(),
                remedy: "run the command again".to_owned(),
            });
        }
        Ok(())
    }
}
