//! `key`: the life cycle of keys.

#[cfg(feature = "os-keyring")]
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use vault_core::rotate::Rotation;
use vault_core::{Access, Change, Error, Heartbeat, KeyId, KeyState, Kind, MasterKey, Scope, Vault};

use crate::args::{ChangeArgs, Global, KeyArgs, KeyCommand};
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::output::Output;

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
        KeyCommand::Promote { kid, change, all_nodes_loaded } => {
            let vault = input::vault(global)?;
            check_promotion(&vault, keyring, *kid)?;
            if !change.dry_run {
                let question = format!("has every process that opens values loaded key {kid}?");
                let loaded = Awaited { keyring, opens: Some(*kid) };
                nodes_ready(&vault, &loaded, *all_nodes_loaded, global.wait, &question)?;
                input::confirm(&format!("seal under key {kid} from now on?"), change.yes)?;
                promote(&vault, keyring, *kid, change.out.as_deref(), output)?;
            }
            changed("promote", *kid, KeyState::Primary, change).tell(output)
        }
        KeyCommand::Disable { kid, change, all_nodes_loaded } => {
            let vault = input::vault(global)?;
            vault.key_check(keyring, *kid, KeyState::Disabled)?;
            if change.dry_run {
                vault.rotation(Scope::UsesKeyring(keyring), Access::Read)?.verified()?.unneeded(*kid)?;
            } else {
                let followed = Awaited { keyring, opens: None };
                nodes_ready(&vault, &followed, *all_nodes_loaded, global.wait, READ_STATES)?;
                input::confirm(&format!("stop opening values under key {kid}?"), change.yes)?;
                disable(&vault, keyring, *kid, change.out.as_deref())?;
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
            let vault = input::vault(global)?;
            vault.key_check(keyring, *kid, KeyState::Destroyed)?;
            // A backup that was restored since may have brought values under the key back.
            let retired = vault.rotation(Scope::UsesKeyring(keyring), Access::Read)?.verified()?.retired(*kid)?;
            if !change.dry_run {
                let question = "give it up for ever? backups that still need this key become unreadable";
                input::confirm(&format!("key {kid}: {question}"), change.yes)?;
                vault.key_change(keyring, &Change::Destroy(retired), change.out.as_deref())?;
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

/// What every process must have read before keys are changed further.
pub(crate) struct Awaited<'a> {
    pub(crate) keyring: &'a str,
    /// A key with which it opens; else the present states.
    pub(crate) opens: Option<KeyId>,
}

/// Lets a change of keys pass once every process can follow it. Their heartbeats say so where there
/// are any; else only somebody who has looked can: `--yes` does not.
pub(crate) fn nodes_ready(
    vault: &Vault,
    awaited: &Awaited<'_>,
    all_loaded: bool,
    wait: u64,
    question: &str,
) -> Result<(), Failure> {
    if nodes_known(vault, all_loaded) {
        return Ok(());
    }
    match vault.manifest().nodes() {
        Some(nodes) if vault.has_heartbeats() => hear(vault, awaited, nodes, Duration::from_secs(wait)),
        _ if input::ask(question) == Some(true) => Ok(()),
        _ => Err(nodes_unknown(question)),
    }
}

/// Waits until so many processes were there at one moment, and each can follow. What was told before
/// proves nothing: that process may be gone, and another one silent; so may one that told just once
/// and was replaced since. A process may have several vaults, and all of them that tell must be able to.
fn hear(vault: &Vault, awaited: &Awaited<'_>, nodes: u32, wait: Duration) -> Result<(), Failure> {
    let generation = vault.keyring(awaited.keyring)?.generation();
    let follows = |node: &Heartbeat| match awaited.opens {
        Some(kid) => node.kids.contains(&kid),
        None => node.generation >= generation,
    };
    let before = vault.heartbeats(awaited.keyring)?;
    let start = Instant::now();
    let mut looks = Looks::default();
    loop {
        let now = vault.heartbeats(awaited.keyring)?;
        let again = |node: &&Heartbeat| !before.iter().any(|old| old.node == node.node && old.beats >= node.beats);
        looks.note(&now.iter().filter(again).collect::<Vec<_>>());
        let (ready, late): (Vec<_>, Vec<_>) = now.iter().filter(again).partition(|node| follows(node));
        let ready = looks.most_at_once(&ready.iter().map(|node| node.process()).collect());
        if late.is_empty() && ready >= nodes as usize {
            return Ok(());
        }
        if start.elapsed() >= wait {
            let silent = now.iter().filter(|node| !again(node));
            let names = |nodes: Vec<&Heartbeat>| match nodes.as_slice() {
                [] => "none".to_owned(),
                nodes => BTreeSet::from_iter(nodes.iter().map(|node| node.process()))
                    .into_iter()
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            return Err(Failure::from(Error::Temporary {
                reason: format!(
                    "{ready} of {nodes} processes say that they can follow; others that say they cannot: {}; silent: {}",
                    names(late),
                    names(silent.collect())
                ),
                remedy: "deliver keys and states to every process and run the command again; --all-nodes-loaded says that you have looked yourself".to_owned(),
            }));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// At which looks at the heartbeats something new was told: by each of a process's vaults, how often it
/// had told by then, and by each process, first and last.
#[derive(Default)]
struct Looks {
    number: u64,
    beats: BTreeMap<String, u64>,
    processes: BTreeMap<String, (u64, u64)>,
}

impl Looks {
    fn note(&mut self, told: &[&Heartbeat]) {
        self.number += 1;
        for node in told {
            let known = self.beats.insert(node.node.clone(), node.beats);
            if known.is_none_or(|known| known < node.beats) {
                let (_, last) = self.processes.entry(node.process().to_owned()).or_insert((self.number, self.number));
                *last = self.number;
            }
        }
    }

    /// How many of the processes were surely there at one moment: each was from the look that first
    /// found it until the one before the look that found it last.
    fn most_at_once(&self, processes: &BTreeSet<&str>) -> usize {
        let spans: Vec<_> = processes.iter().filter_map(|process| self.processes.get(*process)).collect();
        let there = |moment: u64| spans.iter().filter(|(first, last)| *first <= moment && moment < *last).count();
        spans.iter().map(|(first, _)| there(*first)).max().unwrap_or_default()
    }
}

/// Whether nobody has to be asked.
pub(crate) fn nodes_known(vault: &Vault, all_loaded: bool) -> bool {
    all_loaded || vault.manifest().nodes() == Some(1)
}

pub(crate) fn nodes_unknown(question: &str) -> Failure {
    Failure::from(Error::Temporary {
        reason: format!("this waits for the other processes: {question}"),
        remedy: "deliver keys and states to every process, then add --all-nodes-loaded; or declare `nodes = 1` where there is only one".to_owned(),
    })
}

/// Whether a key may become primary.
pub(crate) fn check_promotion(vault: &Vault, keyring: &str, kid: KeyId) -> Result<(), Failure> {
    vault.key_check(keyring, kid, KeyState::Primary)?;
    let fenced = vault.rotation(Scope::UsesKeyring(keyring), Access::Read)?.fenced()?;
    if fenced.contains(&kid) {
        return Err(Error::Refused {
            reason: format!("a column is fenced against key {kid}"),
            remedy: "take the fence down first, with `vault rotate fence --drop`".to_owned(),
        }
        .into());
    }
    Ok(())
}

/// Makes a key primary.
pub(crate) fn promote(
    vault: &Vault,
    keyring: &str,
    kid: KeyId,
    out: Option<&Path>,
    output: &mut Output,
) -> Result<(), Failure> {
    output.note(&format!("back up the file of key {kid} before values depend on it"));
    vault.key_change(keyring, &Change::Promote(kid), out)?;
    Ok(())
}

/// Disables a key after fencing it off and proving that no value needs it.
pub(crate) fn disable(vault: &Vault, keyring: &str, kid: KeyId, out: Option<&Path>) -> Result<(), Failure> {
    let mut rotation = vault.rotation(Scope::UsesKeyring(keyring), Access::Write)?;
    let fences = fences(vault, &rotation)?;
    // First the proof, whose refusal names column and count, then the fence, then the proof that
    // nothing came in between.
    rotation.verified()?.unneeded(kid)?;
    let disabled = rotation
        .fence(Some(kid))
        .and_then(|_| rotation.verified()?.retired(kid))
        .and_then(|retired| vault.key_change(keyring, &Change::Disable(retired), out));
    let Err(error) = disabled else { return Ok(()) };
    let failure = Failure::from(error);
    Err(match put_back(vault, &fences) {
        Ok(()) => failure,
        Err(error) => failure.with_hint(format!("the fence against key {kid} still stands: {error}")),
    })
}

/// What each column is fenced against.
fn fences(vault: &Vault, rotation: &Rotation<'_>) -> Result<Vec<(String, Vec<KeyId>)>, Error> {
    let columns = rotation.columns().into_iter();
    columns
        .map(|column| Ok((column.to_owned(), vault.rotation(Scope::Column(column), Access::Read)?.fenced()?)))
        .collect()
}

/// Fences columns as they were: a key that is not disabled may be written under again.
fn put_back(vault: &Vault, fences: &[(String, Vec<KeyId>)]) -> Result<(), Error> {
    for (column, kids) in fences {
        let mut rotation = vault.rotation(Scope::Column(column), Access::Write)?;
        if rotation.fenced()? != *kids {
            rotation.unfence()?;
            for kid in kids {
                rotation.fence(Some(*kid))?;
            }
        }
    }
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
