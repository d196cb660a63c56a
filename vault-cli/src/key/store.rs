//! A key in the keyring of the desktop.

use std::path::Path;

use serde_json::json;
use vault_core::{Error, MasterKey, OsKeyring as _};

use crate::failure::{Failure, Outcome};
use crate::input;
use crate::os_keyring::SecretService;
use crate::output::Output;

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
        return Err(Failure::usage("a service has no / in it, and neither it nor an account is empty"));
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
        SecretService::write(service, account, &content)?;
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
