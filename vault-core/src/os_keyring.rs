//! The operating system's keyring, which only the program that uses this library can reach.

use crate::error::Result;
use crate::secret::SecretBytes;

/// Reads the operating system's keyring. This library has no reader of its own: what such a one
/// needs, a session bus for example, belongs to the program.
pub trait OsKeyring: core::fmt::Debug + Send + Sync {
    /// What the keyring has for `account` of `service`, exactly; none if there is no such item.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if there is no keyring, or it does not answer, or is
    /// locked: never none.
    fn read(&self, service: &str, account: &str) -> Result<Option<SecretBytes>>;
}

/// An item of the operating system's keyring, written `SERVICE/ACCOUNT`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct OsKeyringItem {
    /// The service.
    pub service: String,
    /// The account, in which more `/` may follow.
    pub account: String,
}

impl OsKeyringItem {
    /// An item, if it has both parts and no NUL character.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (service, account) = text.split_once('/')?;
        let sound = !service.is_empty() && !account.is_empty() && !text.contains('\0');
        sound.then(|| Self { service: service.to_owned(), account: account.to_owned() })
    }
}

impl core::fmt::Display for OsKeyringItem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "OS keyring {}/{}", self.service, self.account)
    }
}
