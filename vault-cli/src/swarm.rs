//! `swarm`: declared secrets as secrets of Docker Swarm, which never change: each new value is a
//! new version with a name of its own.

mod docker;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vault_core::{Context, Error, KeySource, SecretBytes, SecretName, Timestamp, Vault, append_to};

use crate::args::{Global, SwarmArgs, SwarmCommand, SwarmTarget};
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::output::Output;

use docker::{Docker, Mount, text};

/// `vault swarm`.
pub(crate) fn run(args: &SwarmArgs, global: &Global, output: &mut Output) -> Outcome {
    match &args.command {
        SwarmCommand::Plan { target } => {
            let plan = Plan::new(target, global, output)?;
            plan.show(global, output)
        }
        SwarmCommand::Apply { target, log, dry_run, yes } => {
            let plan = Plan::new(target, global, output)?;
            if *dry_run {
                return plan.show(global, output);
            }
            plan.apply(log.as_deref(), *yes, output)
        }
    }
}

/// What brings Swarm to what is declared.
struct Plan<'a> {
    docker: Docker<'a>,
    stack: String,
    steps: Vec<Step>,
    unchanged: Vec<SecretName>,
}

enum Step {
    /// A secret of Swarm is created with the value on standard input.
    Create { secret: SecretName, name: String, label: Option<String>, value: SecretBytes },
    /// A service gets newer versions, all in one update: its tasks are replaced once.
    Update { service: String, swaps: Vec<Swap> },
    /// A version that no service mounts is removed.
    Remove { secret: SecretName, name: String },
}

/// One secret of a service.
struct Swap {
    secret: SecretName,
    old: Option<String>,
    new: String,
    mount: Mount,
}

/// The versions of one secret that Swarm has, the newest last, each with its digest.
type Versions = Vec<(u64, Option<String>)>;

impl<'a> Plan<'a> {
    fn new(target: &'a SwarmTarget, global: &Global, output: &mut Output) -> Result<Self, Failure> {
        let vault = input::vault(global)?;
        let docker = Docker { program: &target.docker };
        let stack = stack(target, &vault)?;
        let secrets = secrets(target, &vault, output)?;
        let existing = docker.secrets()?;
        let mut plan = Self { docker, stack, steps: Vec::new(), unchanged: Vec::new() };
        let mut newest = Vec::new();
        for (secret, value) in secrets {
            let family = plan.family(&secret);
            let versions = versions(&family, &existing);
            let last = versions.last();
            let label = last.and_then(|(_, label)| label.as_deref());
            let is_same = |number| label.is_some_and(|label| is_digest(&vault, &named(&family, number), &value, label));
            let number = match last {
                Some((number, _)) if !target.force && is_same(*number) => {
                    plan.unchanged.push(secret.clone());
                    *number
                }
                last => {
                    let number = last.map_or(Some(1), |(number, _)| number.checked_add(1));
                    let number = number.ok_or_else(|| Failure::usage(format!("{family} has no further number")))?;
                    let name = named(&family, number);
                    // Swarm's limits are told before anything has been changed.
                    if name.len() > MAX_NAME {
                        return Err(Failure::usage(format!(
                            "{name} is longer than the {MAX_NAME} characters of a name in Swarm"
                        ))
                        .with_hint("a shorter --stack"));
                    }
                    if value.len() > MAX_VALUE {
                        return Err(Failure::from(Error::TooLarge { what: "secret for Swarm", limit: MAX_VALUE })
                            .with_hint(format!("it is {secret}")));
                    }
                    let label = digest(&vault, &name, &value)?;
                    plan.steps.push(Step::Create { secret: secret.clone(), name, label, value });
                    number
                }
            };
            newest.push((secret, number, versions));
        }
        plan.updates(target, &newest)?;
        if let Some(keep) = target.prune {
            plan.removals(keep, &newest, output)?;
        }
        Ok(plan)
    }

    /// What the services mount that is not the newest.
    fn updates(&mut self, target: &SwarmTarget, newest: &[(SecretName, u64, Versions)]) -> Result<(), Failure> {
        for service in &target.service {
            let mounted = self.docker.mounted(service)?;
            let mut swaps = Vec::new();
            for (secret, number, _) in newest {
                let family = self.family(secret);
                let new = named(&family, *number);
                // By its name, or where another tool created it, by the file that it is.
                let old = mounted.iter().find(|mounted| number_of(&family, &mounted.name).is_some());
                let old = old.or_else(|| mounted.iter().find(|mounted| mounted.mount.target == secret.file_name()));
                let mut mount = match old {
                    Some(old) if old.name == new && target.uid.is_none_or(|uid| old.mount.is_for(uid)) => continue,
                    Some(old) => old.mount.clone(),
                    // A service gets no secret that nobody said it needs.
                    None if target.only.is_empty() => continue,
                    None => Mount { target: secret.file_name(), uid: "0".into(), gid: "0".into(), mode: PRIVATE },
                };
                if let Some(uid) = target.uid {
                    (mount.uid, mount.mode) = (uid.to_string(), PRIVATE);
                }
                swaps.push(Swap { secret: secret.clone(), old: old.map(|old| old.name.clone()), new, mount });
            }
            if !swaps.is_empty() {
                self.steps.push(Step::Update { service: service.clone(), swaps });
            }
        }
        Ok(())
    }

    /// What is older than the versions to keep, but for what a service will still mount.
    fn removals(
        &mut self,
        keep: usize,
        newest: &[(SecretName, u64, Versions)],
        output: &mut Output,
    ) -> Result<(), Failure> {
        let mut mounted = BTreeSet::new();
        for service in self.docker.services()? {
            let swaps = self.steps.iter().filter_map(|step| match step {
                Step::Update { service: updated, swaps } if *updated == service => Some(swaps),
                _ => None,
            });
            let gone: Vec<_> = swaps.flatten().filter_map(|swap| swap.old.as_deref()).collect();
            let kept = self.docker.mounted(&service)?.into_iter().map(|mounted| mounted.name);
            mounted.extend(kept.filter(|name| !gone.contains(&name.as_str())));
        }
        for (secret, number, versions) in newest {
            let family = self.family(secret);
            let older = versions.iter().rev().filter(|(older, _)| older < number);
            for (older, _) in older.skip(keep) {
                let name = named(&family, *older);
                if mounted.contains(&name) {
                    output.note(&format!("{name} stays: a service mounts it"));
                } else {
                    self.steps.push(Step::Remove { secret: secret.clone(), name });
                }
            }
        }
        Ok(())
    }

    /// What the versions of a secret have in common. No two declared secrets have the same: that
    /// would be one environment variable.
    fn family(&self, secret: &SecretName) -> String {
        format!("{}_{}_v", self.stack, secret.file_name().replace('/', "_"))
    }

    fn show(&self, global: &Global, output: &mut Output) -> Outcome {
        let mut lines: Vec<_> = self.steps.iter().map(|step| step.line(self.docker.program, global)).collect();
        if lines.is_empty() {
            lines.push(NOTHING.to_owned());
        }
        output.result(&lines.join("\n"), self.object(true))?;
        Ok(0)
    }

    fn apply(&self, log: Option<&Path>, yes: bool, output: &mut Output) -> Outcome {
        // A log that cannot be written is told before anything has been changed.
        let mut log = log.map(Log::open).transpose()?;
        if self.steps.is_empty() {
            output.result(NOTHING, self.object(false))?;
            return Ok(0);
        }
        let count = |wanted: fn(&Step) -> bool| self.steps.iter().filter(|step| wanted(step)).count();
        let question = format!(
            "create {} secrets of stack {}, update {} services, remove {} old versions?",
            count(|step| matches!(step, Step::Create { .. })),
            self.stack,
            count(|step| matches!(step, Step::Update { .. })),
            count(|step| matches!(step, Step::Remove { .. })),
        );
        input::confirm(&question, yes)?;
        for step in &self.steps {
            let said = step.words();
            output.note(&step.told());
            match step {
                Step::Create { value, .. } => self.docker.run(&said, value.expose_secret())?,
                _ => self.docker.run(&said, b"")?,
            };
            if let Some(log) = &mut log {
                for object in step.objects() {
                    log.append(&self.stack, object)?;
                }
            }
        }
        let lines: Vec<_> = self.steps.iter().map(Step::told).collect();
        output.result(&format!("{} steps done", lines.len()), self.object(false))?;
        Ok(0)
    }

    fn object(&self, dry_run: bool) -> Value {
        json!({
            "stack": self.stack, "dry_run": dry_run,
            "steps": self.steps.iter().flat_map(Step::objects).collect::<Vec<_>>(),
            "unchanged": self.unchanged.iter().map(SecretName::as_str).collect::<Vec<_>>(),
        })
    }
}

impl Step {
    /// The arguments of the client. None of them is a value.
    fn words(&self) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        match self {
            Self::Create { name, label, .. } => {
                let mut said = words(&["secret", "create"]);
                if let Some(label) = label {
                    said.extend(["--label".to_owned(), format!("{LABEL}={label}")]);
                }
                said.extend([name.clone(), "-".to_owned()]);
                said
            }
            Self::Update { service, swaps } => {
                let mut said = words(&["service", "update"]);
                for Swap { old, new, mount, .. } in swaps {
                    if let Some(old) = old {
                        said.extend(["--secret-rm".to_owned(), old.clone()]);
                    }
                    said.extend(["--secret-add".to_owned(), mount.option(new)]);
                }
                said.push(service.clone());
                said
            }
            Self::Remove { name, .. } => words(&["secret", "rm", name]),
        }
    }

    /// The command as it can be typed.
    fn line(&self, docker: &Path, global: &Global) -> String {
        let words = std::iter::once(docker.display().to_string()).chain(self.words());
        let line = words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ");
        match self {
            Self::Create { secret, .. } => {
                let mut get = "vault".to_owned();
                if let Some(config) = &global.config {
                    get += &format!(" --config {}", quoted(&config.display().to_string()));
                }
                if let Some(profile) = &global.profile {
                    get += &format!(" --profile {}", quoted(profile));
                }
                format!("{get} get {secret} | {line}")
            }
            _ => line,
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Create { name, .. } => format!("create {name}"),
            Self::Update { service, swaps } => {
                let new: Vec<_> = swaps.iter().map(|swap| swap.new.as_str()).collect();
                format!("update service {service} with {}", new.join(", "))
            }
            Self::Remove { name, .. } => format!("remove {name}"),
        }
    }

    /// What the step does to each secret.
    fn objects(&self) -> Vec<Value> {
        match self {
            Self::Create { secret, name, .. } => {
                vec![json!({ "action": "create", "secret": secret.as_str(), "name": name })]
            }
            Self::Update { service, swaps } => swaps
                .iter()
                .map(|swap| {
                    json!({
                        "action": "update", "secret": swap.secret.as_str(), "name": swap.new, "replaces": swap.old,
                        "service": service, "target": swap.mount.target,
                    })
                })
                .collect(),
            Self::Remove { secret, name } => {
                vec![json!({ "action": "remove", "secret": secret.as_str(), "name": name })]
            }
        }
    }
}

/// What the names begin with.
fn stack(target: &SwarmTarget, vault: &Vault) -> Result<String, Failure> {
    let stack = target.stack.as_deref().or_else(|| vault.manifest().app());
    let stack =
        stack.ok_or_else(|| Failure::usage("no stack is named").with_hint("add --stack NAME, or `app` to [vault]"))?;
    let is_name = stack.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if is_name && stack.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Ok(stack.to_owned())
    } else {
        Err(Failure::usage("a stack's name is letters, digits and . _ -, and begins with a letter or digit"))
    }
}

/// The secrets to bring, with their values.
fn secrets(
    target: &SwarmTarget,
    vault: &Vault,
    output: &mut Output,
) -> Result<Vec<(SecretName, SecretBytes)>, Failure> {
    let manifest = vault.manifest();
    let only = target.only.iter().map(|name| SecretName::parse(name)).collect::<Result<Vec<_>, _>>()?;
    if let Some(name) = only.iter().find(|name| manifest.secrets().all(|(declared, _)| declared != *name)) {
        return Err(Error::NotFound { what: format!("[secrets.{name}] in {}", manifest.path().display()) }.into());
    }
    let keys: BTreeSet<_> = manifest
        .keyrings()
        .flat_map(|keyring| &keyring.sources)
        .filter_map(|source| match source {
            KeySource::Secret(name) => Some(name),
            _ => None,
        })
        .collect();
    let mut secrets = Vec::new();
    for (name, spec) in manifest.secrets().filter(|(name, _)| only.is_empty() || only.contains(name)) {
        // Tasks before and after an update must read what the others write: a key is added beside
        // the old one, and never put in its place.
        if keys.contains(name) {
            if only.is_empty() {
                output.note(&format!("{name} is a key and is left out: `vault key add` brings in a new one"));
                continue;
            }
            return Err(Error::Refused {
                reason: format!("{name} is a key, and values under the old one would not open"),
                remedy: "bring in a new key as docs/OPERATIONS.md says".to_owned(),
            }
            .into());
        }
        match vault.secret(name.as_str()) {
            Ok(found) => secrets.push((name.clone(), found.value)),
            Err(Error::NotFound { .. }) if !spec.required && only.is_empty() => {
                output.note(&format!("{name} is not set and is not required: it is left out"));
            }
            Err(other) => return Err(other.into()),
        }
    }
    if secrets.is_empty() {
        return Err(Failure::usage(format!("{} declares no secret to bring", manifest.path().display()))
            .with_hint("declare them as [secrets.NAME]"));
    }
    Ok(secrets)
}

/// The versions of a family, the newest last.
fn versions(family: &str, existing: &[Value]) -> Versions {
    let mut versions: Versions = existing
        .iter()
        .filter_map(|secret| Some((number_of(family, text(secret, "Name")?)?, text(secret, "Labels"))))
        .map(|(number, labels)| {
            let labels = labels.unwrap_or_default().split(',');
            let digest = labels.filter_map(|label| label.split_once('=')).find(|(name, _)| *name == LABEL);
            (number, digest.map(|(_, digest)| digest.to_owned()))
        })
        .collect();
    versions.sort();
    versions
}

fn named(family: &str, number: u64) -> String {
    format!("{family}{number}")
}

fn number_of(family: &str, name: &str) -> Option<u64> {
    let number = name.strip_prefix(family).filter(|number| !number.starts_with(['0', '+']))?;
    number.parse().ok()
}

/// What tells later whether a value has changed: its digest, sealed, so that only the master key
/// can compare it. None where there is no such key.
fn digest(vault: &Vault, name: &str, value: &SecretBytes) -> Result<Option<String>, Error> {
    let Ok(sealer) = vault.sealer() else { return Ok(None) };
    let token = sealer.seal(&context(name), &Sha256::digest(value.expose_secret()))?;
    Ok(Some(token.to_string()))
}

/// Whether a label was made of this value. One that cannot be opened, under a key that is gone for
/// example, tells nothing: then the value counts as new.
fn is_digest(vault: &Vault, name: &str, value: &SecretBytes, label: &str) -> bool {
    let (Ok(sealer), Ok(token)) = (vault.sealer(), label.parse()) else { return false };
    sealer
        .open(&context(name), &token)
        .is_ok_and(|known| known.expose_secret() == Sha256::digest(value.expose_secret()).as_slice())
}

fn context(name: &str) -> Context {
    Context::new("swarm-secret").name(name)
}

/// What was changed and when; never a value.
struct Log<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> Log<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        Ok(Self {
            path,
            file: append_to(path, 0o600).map_err(|source| Error::Io {
                action: "open",
                path: path.to_owned(),
                source,
            })?,
        })
    }

    fn append(&mut self, stack: &str, mut object: Value) -> Result<(), Error> {
        if let Value::Object(fields) = &mut object {
            fields.insert("time".to_owned(), json!(Timestamp::now().to_string()));
            fields.insert("stack".to_owned(), json!(stack));
        }
        let written = self.file.write_all(format!("{object}\n").as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| Error::Io { action: "append to", path: self.path.to_owned(), source })
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:=,@+".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

const NOTHING: &str = "nothing to do";

/// Holds the sealed digest.
const LABEL: &str = "vault.digest";

/// Only who it belongs to reads it.
const PRIVATE: u64 = 0o400;

/// Longest name in Swarm.
const MAX_NAME: usize = 64;

/// Longest secret in Swarm, in bytes.
const MAX_VALUE: usize = 500 << 10;
