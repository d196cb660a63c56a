//! The keyring of the desktop, by the Secret Service of D-Bus.

use std::io;
use std::path::Path;

use dbus_secret_service_keyring_store::Store;
use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error as Failed};
use serde_json::json;
use vault_core::{Error, MasterKey, OsKeyring, Result, SecretBytes};
use zeroize::Zeroizing;

use crate::failure::Outcome;
use crate::input;
use crate::output::Output;

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

/// `vault key store`.
pub(crate) fn store(
    file: &Path,
    service: &str,
    account: &str,
    replace: bool,
    dry_run: bool,
    output: &mut Output,
) -> Outcome {
    let content = input::key_file(file)?;
    let place = || file.display().to_string();
    let key =
        MasterKey::parse(content.expose_secret()).map_err(|reason| Error::KeyMalformed { place: place(), reason })?;
    // A source is written SERVICE/ACCOUNT, and ends the service at the first stroke.
    if service.is_empty() || account.is_empty() || service.contains('/') {
        return Err(crate::failure::Failure::usage("a service has no / in it, and neither it nor an account is empty"));
    }
    let item = format!("OS keyring {service}/{account}");
    let present = SecretService.read(service, account)?;
    let same = present.as_ref().is_some_and(|present| present.expose_secret() == content.expose_secret());
    if present.is_some() && !same && !replace {
        return Err(Error::Refused {
            reason: format!("{item} holds something else, which would be lost"),
            remedy: "choose another account, or add --replace".to_owned(),
        }
        .into());
    }
    if !dry_run && !same {
        entry(service, account)
            .and_then(|entry| entry.set_secret(content.expose_secret()))
            .map_err(|error| failed("write", service, account, error))?;
        // What was stored must be what will be read, before anybody removes the file.
        let stored = SecretService.read(service, account)?;
        if stored.is_none_or(|stored| stored.expose_secret() != content.expose_secret()) {
            return Err(failed(
                "write",
                service,
                account,
                Failed::BadStoreFormat("it reads back otherwise".to_owned()),
            )
            .into());
        }
    }
    let kid = key.kid();
    let text = match dry_run {
        true => format!("key {kid} would be stored in {item}; nothing was changed"),
        false => format!("key {kid} is stored in {item}; a source for it is \"keyring:{service}/{account}\""),
    };
    output.result(
        &text,
        json!({ "action": "store", "kid": kid.as_str(), "service": service, "account": account, "dry_run": dry_run }),
    )?;
    Ok(0)
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
