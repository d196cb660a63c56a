//! The keyring of the desktop, by the Secret Service of D-Bus.

use std::io;

use dbus_secret_service_keyring_store::Store;
use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error as Failed};
use vault_core::{Error, OsKeyring, Result, SecretBytes};
use zeroize::Zeroizing;

/// Connects anew for every item: nothing is held open between them, or across a fork.
#[derive(Debug)]
pub(crate) struct SecretService;

impl OsKeyring for SecretService {
    fn read(&self, service: &str, account: &str) -> Result<Option<SecretBytes>> {
        match entry(service, account).and_then(|entry| entry.get_secret()) {
            Ok(secret) => Ok(Some(Zeroizing::new(secret).into())),
            Err(Failed::NoEntry) => Ok(None),
            Err(error) => Err(failed("read", service, account, error)),
        }
    }
}

impl SecretService {
    /// Writes an item, and reads it back.
    pub(crate) fn write(service: &str, account: &str, content: &SecretBytes) -> Result<()> {
        entry(service, account)
            .and_then(|entry| entry.set_secret(content.expose_secret()))
            .map_err(|error| failed("write", service, account, error))?;
        // What was stored must be what will be read, before anybody removes the file.
        match Self.read(service, account)? {
            Some(stored) if stored.expose_secret() == content.expose_secret() => Ok(()),
            _ => Err(failed("write", service, account, Failed::BadStoreFormat("it reads back otherwise".to_owned()))),
        }
    }
}

fn entry(service: &str, account: &str) -> core::result::Result<Entry, Failed> {
    Store::new()?.build(service, account, None)
}

/// The error without what some of them carry: the bytes that were found.
fn failed(action: &'static str, service: &str, account: &str, error: Failed) -> Error {
    let reason = match error {
        Failed::PlatformFailure(reason) => reason.to_string(),
        Failed::NoStorageAccess(reason) => format!("it is locked, and nobody unlocks it: {reason}"),
        Failed::Ambiguous(_) => "several items are of this service and account; remove all but one".to_owned(),
        Failed::BadStoreFormat(reason) | Failed::NotSupportedByStore(reason) => reason,
        Failed::Invalid(what, reason) => format!("{what}: {reason}"),
        _ => "it does not hold what can be read".to_owned(),
    };
    Error::Io { action, path: format!("OS keyring {service}/{account}").into(), source: io::Error::other(reason) }
}
