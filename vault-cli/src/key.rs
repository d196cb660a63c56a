//! `key`: the life cycle of keys.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::json;
use vault_core::{Access, Change, Error, KeyId, KeyState, MasterKey, Scope, Vault};

use crate::args::{ChangeArgs, Global, KeyArgs, KeyCommand};
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::output::Output;

/// `vault key`.
pub(crate) fn run(args: &KeyArgs, global: &Global, output: &mut Output) -> Outcome {
    let keyring = args.keyring.as_str();
    match &args.command {
        KeyCommand::Generate { out, dry_run } => generate(out.as_deref(), *dry_run, output),
        KeyCommand::List => list(keyring, global, output),
        KeyCommand::Add { file, label, dry_run } => {
            let config = input::config(global)?;
            if *dry_run {
                config.manifest().keyring(keyring)?.destination(file, "new")?;
                input::key_file(file)?;
                return told(output, "the key would be added", "add", None);
            }
            let kid = Vault::key_add(&config, keyring, file, label.as_deref())?;
            let placed = input::vault(global)?.keyring(keyring)?.keys().into_iter().find(|key| key.kid == kid);
            let own = file.canonicalize().ok();
            if placed.and_then(|key| Path::new(&key.place?).canonicalize().ok()) != own {
                output.note(&format!("{} is still there; remove it once the key is backed up", file.display()));
            }
            told(output, &format!("key {kid} is in keyring {keyring}"), "add", Some(kid))
        }
        KeyCommand::Promote { kid, change, all_nodes_loaded } => {
            let vault = input::vault(global)?;
            promote(&vault, keyring, *kid, change, *all_nodes_loaded)?;
            told(output, &format!("key {kid} is primary{}", dry(change)), "promote", Some(*kid))
        }
        KeyCommand::Disable { kid, change } => {
            let vault = input::vault(global)?;
            disable(&vault, keyring, *kid, change)?;
            told(output, &format!("key {kid} is disabled{}", dry(change)), "disable", Some(*kid))
        }
        KeyCommand::Enable { kid, change } => {
            let vault = input::vault(global)?;
            if !change.dry_run {
                input::confirm(&format!("open values under key {kid} again?"), change.yes)?;
                vault.key_change(keyring, &Change::Enable(*kid), change.out.as_deref())?;
            }
            told(output, &format!("key {kid} is decrypt-only{}", dry(change)), "enable", Some(*kid))
        }
        KeyCommand::Destroy { kid, change } => {
            let vault = input::vault(global)?;
            destroy(&vault, keyring, *kid, change)?;
            told(output, &format!("key {kid} is destroyed{}", dry(change)), "destroy", Some(*kid))
        }
    }
}

/// Makes a key primary, once every process can open what it seals.
pub(crate) fn promote(
    vault: &Vault,
    keyring: &str,
    kid: KeyId,
    change: &ChangeArgs,
    all_loaded: bool,
) -> Result<(), Failure> {
    let fenced = vault.rotation(Scope::UsesKeyring(keyring), Access::Read)?.fenced()?;
    if fenced.contains(&kid) {
        return Err(Error::Refused {
            reason: format!("a column is fenced against key {kid}"),
            remedy: "take the fence down first, with `vault rotate fence --drop`".to_owned(),
        }
        .into());
    }
    if change.dry_run {
        return Ok(());
    }
    if !all_loaded && vault.manifest().nodes() != Some(1) {
        input::confirm(&format!("has every process that opens values loaded key {kid}?"), change.yes).map_err(
            |failure| {
                failure.with_hint("add --all-nodes-loaded when it has, or declare `nodes = 1` where there is only one")
            },
        )?;
    } else {
        input::confirm(
            &format!("seal under key {kid} from now on?"),
            change.yes || all_loaded || vault.manifest().nodes() == Some(1),
        )?;
    }
    vault.key_change(keyring, &Change::Promote(kid), change.out.as_deref())?;
    Ok(())
}

/// Disables a key after fencing it off and proving that no value needs it.
pub(crate) fn disable(vault: &Vault, keyring: &str, kid: KeyId, change: &ChangeArgs) -> Result<(), Failure> {
    if vault.keyring(keyring)?.primary_kid() == kid {
        return Err(Error::Refused {
            reason: format!("key {kid} is primary"),
            remedy: "promote another key first".to_owned(),
        }
        .into());
    }
    if change.dry_run {
        let mut rotation = vault.rotation(Scope::UsesKeyring(keyring), Access::Read)?;
        rotation.verified()?.retired(kid)?;
        return Ok(());
    }
    input::confirm(&format!("stop opening values under key {kid}?"), change.yes)?;
    let mut rotation = vault.rotation(Scope::UsesKeyring(keyring), Access::Write)?;
    // First the proof, whose refusal names column and count, then the fence, then the proof that
    // nothing came in between.
    rotation.verified()?.retired(kid)?;
    rotation.fence(Some(kid))?;
    let retired = rotation.verified()?.retired(kid)?;
    vault.key_change(keyring, &Change::Disable(retired), change.out.as_deref())?;
    Ok(())
}

fn destroy(vault: &Vault, keyring: &str, kid: KeyId, change: &ChangeArgs) -> Result<(), Failure> {
    let key = vault.keyring(keyring)?.keys().into_iter().find(|key| key.kid == kid).ok_or(Error::UnknownKey { kid })?;
    if key.state == KeyState::Destroyed {
        return Ok(());
    }
    if key.state != KeyState::Disabled {
        return Err(Error::Refused {
            reason: format!("key {kid} is {}", key.state),
            remedy: "only a disabled key can be destroyed; `vault key disable` proves first that no value needs it"
                .to_owned(),
        }
        .into());
    }
    if let Some(place) = key.place {
        return Err(Error::Refused {
            reason: format!("the material of key {kid} is still there: {place}"),
            remedy: "remove or unmount it everywhere; backups older than this need it to be read".to_owned(),
        }
        .into());
    }
    if !change.dry_run {
        input::confirm(&format!("give key {kid} up for ever?"), change.yes)?;
    }
    // A backup that was restored since may have brought values under the key back.
    let retired = vault.rotation(Scope::UsesKeyring(keyring), Access::Read)?.verified()?.retired(kid)?;
    if !change.dry_run {
        vault.key_change(keyring, &Change::Destroy(retired), change.out.as_deref())?;
    }
    Ok(())
}

fn generate(out: Option<&Path>, dry_run: bool, output: &mut Output) -> Outcome {
    let key = MasterKey::generate()?;
    match out {
        Some(path) if dry_run => {
            if path.symlink_metadata().is_ok() {
                let source = std::io::ErrorKind::AlreadyExists.into();
                return Err(Error::Io { action: "create", path: path.to_owned(), source }.into());
            }
            told(output, &format!("a key would be written to {}", path.display()), "generate", None)
        }
        Some(path) => {
            write_new(path, &key)?;
            told(output, &format!("key {} in {}", key.kid(), path.display()), "generate", Some(key.kid()))
        }
        None => {
            output.bytes(key.text().expose_secret())?;
            if std::io::stdout().is_terminal() {
                output.bytes(b"\n")?;
            }
            output.note(&format!("key {}", key.kid()));
            Ok(0)
        }
    }
}

/// Writes a key to a file that must not exist and that only its owner can read.
pub(crate) fn write_new(path: &Path, key: &MasterKey) -> Result<(), Error> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(key.text().expose_secret())?;
            file.sync_all()
        })
        .map_err(|source| Error::Io { action: "create", path: path.to_owned(), source })
}

fn list(keyring: &str, global: &Global, output: &mut Output) -> Outcome {
    let vault = input::vault(global)?;
    let loaded = vault.keyring(keyring)?;
    let mut lines = Vec::new();
    let mut keys = Vec::new();
    for key in loaded.keys() {
        let place = key.place.as_deref().unwrap_or("not found");
        let label = key.label.as_deref().unwrap_or("-");
        let created = key.created.map_or_else(|| "-".to_owned(), vault_core::Timestamp::date);
        lines.push(format!("{}  {:<12}  {created:<10}  {label}  {place}", key.kid, key.state));
        keys.push(json!({
            "kid": key.kid.as_str(), "state": key.state.as_str(), "label": key.label, "place": key.place,
            "created": key.created.map(|time| time.to_string()), "flaw": key.flaw.map(|flaw| flaw.to_string()),
        }));
    }
    for finding in loaded.findings() {
        output.note(&format!("warning: {finding}"));
    }
    output.result(&lines.join("\n"), json!({ "keyring": keyring, "generation": loaded.generation(), "keys": keys }))?;
    Ok(0)
}

fn told(output: &mut Output, text: &str, action: &str, kid: Option<KeyId>) -> Outcome {
    output.result(text, json!({ "action": action, "kid": kid.as_ref().map(KeyId::as_str) }))?;
    Ok(0)
}

fn dry(change: &ChangeArgs) -> &'static str {
    if change.dry_run { " (dry run: nothing was changed)" } else { "" }
}
