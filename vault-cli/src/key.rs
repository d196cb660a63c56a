//! `key`: the life cycle of keys.

#[cfg(feature = "os-keyring")]
mod store;

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use vault_core::lifecycle::{Lifecycle, Options, Step};
use vault_core::{Change, Error, KeyId, KeyState, Kind, MasterKey, Vault};

use crate::args::{ChangeArgs, Global, KeyArgs, KeyCommand, ProcessArgs};
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::output::{Output, one_line};

/// `vault key`.
pub(crate) fn run(args: &KeyArgs, global: &Global, output: &mut Output) -> Outcome {
    run_one(args, global, output).map_err(|failure| match failure.kind {
        // Here the id was typed, and no token names it.
        Kind::UnknownKey => failure.with_hint("`vault key list` shows the ids"),
        _ => failure,
    })
}

fn run_one(args: &KeyArgs, global: &Global, output: &mut Output) -> Outcome {
    let keyring = args.keyring.as_str();
    match &args.command {
        KeyCommand::Generate { out, dry_run } => generate(out.as_deref(), *dry_run, global, output),
        KeyCommand::List => list(keyring, global, output),
        KeyCommand::Add { file, label, out, dry_run } => {
            let config = input::config(global)?;
            let (label, out) = (label.as_deref(), out.as_deref());
            let kid = if *dry_run {
                Vault::key_add_check(&config, keyring, file, label, out)?
            } else {
                Vault::key_add(&config, keyring, file, label, out)?
            };
            if !*dry_run && out.is_none() {
                // Without the vault: its other keyrings may have no key yet.
                let found = config.resolver().key_contents(config.manifest().keyring(keyring)?)?;
                let own = file.canonicalize().ok();
                if !found.iter().any(|(place, _)| Path::new(place).canonicalize().ok() == own) {
                    output.note(&format!("{} is still there; remove it once the key is backed up", file.display()));
                }
            }
            Done { action: "add", kid, becomes: &format!("in keyring {keyring}"), dry_run: *dry_run, out }.tell(output)
        }
        #[cfg(feature = "os-keyring")]
        KeyCommand::Store { file, service, account, replace, dry_run } => {
            store::store(file, service, account, *replace, *dry_run, output)
        }
        KeyCommand::Promote { kid, change, processes } => {
            let mut life = lifecycle(input::vault(global)?, keyring, processes, global)?;
            life.check_promotion(*kid)?;
            let loaded = Question { step: Step::Promote(*kid), text: &has_loaded(*kid) };
            ask_about_processes(&mut life, keyring, &loaded, processes)?;
            if change.dry_run {
                life.await_processes(loaded.step)?;
            } else {
                input::confirm(&format!("seal under key {kid} from now on?"), change.yes)?;
                output.note(&format!("back up the file of key {kid} before values depend on it"));
                life.promote(*kid, change.out.as_deref())?;
            }
            changed("promote", *kid, KeyState::Primary, change).tell(output)
        }
        KeyCommand::Disable { kid, change, processes } => {
            let mut life = lifecycle(input::vault(global)?, keyring, processes, global)?;
            life.check_disabling(*kid)?;
            let read = Question { step: Step::Disable(*kid), text: READ_STATES };
            ask_about_processes(&mut life, keyring, &read, processes)?;
            if change.dry_run {
                life.await_processes(read.step)?;
            } else {
                input::confirm(&format!("stop opening values under key {kid}?"), change.yes)?;
                life.disable(*kid, change.out.as_deref())?;
            }
            changed("disable", *kid, KeyState::Disabled, change).tell(output)
        }
        KeyCommand::Enable { kid, change } => {
            let vault = input::vault(global)?;
            vault.key_check(keyring, *kid, KeyState::DecryptOnly)?;
            if !change.dry_run {
                input::confirm(&format!("open values under key {kid} again?"), change.yes)?;
                vault.key_change(keyring, &Change::Enable(*kid), change.out.as_deref())?;
            }
            changed("enable", *kid, KeyState::DecryptOnly, change).tell(output)
        }
        KeyCommand::Destroy { kid, change } => {
            let mut life = Lifecycle::new(input::vault(global)?, keyring, Options::default())?;
            life.check_destruction(*kid)?;
            if !change.dry_run {
                let question = "give it up for ever? backups that still need this key become unreadable";
                input::confirm(&format!("key {kid}: {question}"), change.yes)?;
                life.destroy(*kid, change.out.as_deref())?;
            }
            changed("destroy", *kid, KeyState::Destroyed, change).tell(output)
        }
    }
}

/// What a command did to a key, or would do.
struct Done<'a> {
    action: &'a str,
    kid: KeyId,
    /// What the key is afterwards.
    becomes: &'a str,
    dry_run: bool,
    out: Option<&'a Path>,
}

fn changed<'a>(action: &'a str, kid: KeyId, state: KeyState, change: &'a ChangeArgs) -> Done<'a> {
    Done { action, kid, becomes: state.as_str(), dry_run: change.dry_run, out: change.out.as_deref() }
}

impl Done<'_> {
    fn tell(&self, output: &mut Output) -> Outcome {
        let Self { action, kid, becomes, dry_run, out } = self;
        let text = match out {
            _ if *dry_run => format!("key {kid} would be {becomes}; nothing was changed"),
            Some(out) => {
                format!("key {kid} is {becomes}: next state written to {}; the present one is unchanged", out.display())
            }
            None => format!("key {kid} is {becomes}"),
        };
        let out = out.map(|out| out.display().to_string());
        output.result(&text, json!({ "action": action, "kid": kid.as_str(), "dry_run": dry_run, "out": out }))?;
        Ok(0)
    }
}

/// What must be known before a key is disabled: who still seals under it would lose what it seals.
pub(crate) const READ_STATES: &str = "has every process read the states in which the key no longer seals?";

/// What must be known before a key is promoted: who cannot open with it could not read what others seal.
pub(crate) fn has_loaded(kid: KeyId) -> String {
    format!("has every process that opens values loaded key {kid}?")
}

/// What is asked where no process has said that it holds the keyring.
pub(crate) struct Question<'a> {
    pub(crate) step: Step,
    pub(crate) text: &'a str,
}

/// The life of a keyring's keys, with the processes that it waits for as they were named.
fn lifecycle(vault: Vault, keyring: &str, processes: &ProcessArgs, global: &Global) -> Result<Lifecycle, Failure> {
    let mut options = Options::default();
    wait_for(&mut options, processes, global);
    Ok(Lifecycle::new(vault, keyring, options)?)
}

/// Says which processes are waited for, and how long.
pub(crate) fn wait_for(options: &mut Options, processes: &ProcessArgs, global: &Global) {
    options.waiting.patience = Duration::from_secs(global.wait);
    options.waiting.without.clone_from(&processes.without);
    options.vouched = processes.all_nodes_loaded;
}

/// Asks on a terminal what no process has said. Elsewhere the step is refused: `--yes` does not answer it.
pub(crate) fn ask_about_processes(
    life: &mut Lifecycle,
    keyring: &str,
    question: &Question<'_>,
    processes: &ProcessArgs,
) -> Result<(), Failure> {
    let unknown = !processes.all_nodes_loaded && !life.vault().knows_processes(keyring)?;
    life.vouch(processes.all_nodes_loaded || unknown && input::ask(question.text) == Some(true));
    Ok(())
}

fn generate(out: Option<&Path>, dry_run: bool, global: &Global, output: &mut Output) -> Outcome {
    if global.json && out.is_none() {
        return Err(Failure::usage("a key is written as its exact text, never as JSON").with_hint("add --out FILE"));
    }
    let key = MasterKey::generate()?;
    let Some(path) = out else {
        output.bytes(key.text().expose_secret())?;
        if std::io::stdout().is_terminal() {
            output.bytes(b"\n")?;
        }
        output.note(&format!("key {}", key.kid()));
        return Ok(0);
    };
    let (text, kid) = if dry_run {
        if path.symlink_metadata().is_ok() {
            let source = std::io::ErrorKind::AlreadyExists.into();
            return Err(Error::Io { action: "create", path: path.to_owned(), source }.into());
        }
        (format!("a key would be written to {}", path.display()), None)
    } else {
        write_new(path, &key)?;
        (format!("key {} in {}", key.kid(), path.display()), Some(key.kid()))
    };
    output.result(
        &text,
        json!({ "action": "generate", "kid": kid.as_ref().map(KeyId::as_str), "dry_run": dry_run, "out": path.display().to_string() }),
    )?;
    Ok(0)
}

/// Writes a key to a file that must not exist and that only its owner can read.
fn write_new(path: &Path, key: &MasterKey) -> Result<(), Error> {
    vault_core::create_file(path, key.text().expose_secret(), 0o600)
}

fn list(keyring: &str, global: &Global, output: &mut Output) -> Outcome {
    let vault = input::vault(global)?;
    let loaded = vault.keyring(keyring)?;
    let mut lines = Vec::new();
    let mut keys = Vec::new();
    for key in loaded.keys() {
        let place = one_line(key.place.as_deref().unwrap_or("not found"));
        let label = one_line(key.label.as_deref().unwrap_or("-"));
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
