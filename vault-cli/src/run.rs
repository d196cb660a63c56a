//! `run`: a command that gets its secrets in its environment, or as files in memory.

mod files;
mod forms;
mod mask;
mod steering;
mod supervise;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use vault_core::{Error, KeySource, KeyringKind, Kind, Manifest, SecretBytes, SecretName, Vault};

use crate::args::{Global, RunCommandArgs};
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::output::Output;

use files::Files;
use mask::Mask;
use steering::steers;
use supervise::{Signals, supervise};

/// A secret that the command gets.
struct Delivered {
    name: SecretName,
    variable: String,
    value: SecretBytes,
}

impl Delivered {
    fn file_variable(&self) -> String {
        file_variable(&self.variable)
    }
}

fn file_variable(variable: &str) -> String {
    format!("{variable}_FILE")
}

/// The master keys that `vault` itself finds by name: they open everything, and are no business of
/// the command unless it is to get them.
fn master_keys(manifest: &Manifest) -> impl Iterator<Item = &SecretName> {
    let keyrings = manifest.keyrings().filter(|keyring| keyring.kind == KeyringKind::Kek);
    keyrings.flat_map(|keyring| &keyring.sources).filter_map(|source| match source {
        KeySource::Secret(name) => Some(name),
        _ => None,
    })
}

/// `vault run`.
pub(crate) fn run(args: &RunCommandArgs, global: &Global, core_limit: Rlimit, output: &mut Output) -> Outcome {
    let vault = input::vault(global)?;
    let secrets = resolve(args, &vault)?;
    if secrets.is_empty() {
        output.note("no secret is declared; --only names others");
    }
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failure::usage("no command is given"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    inherit(&mut command, args.pristine);
    let keys = master_keys(vault.manifest());
    for name in keys.chain(secrets.iter().map(|secret| &secret.name)) {
        for variable in [name.variable(), name.folded()] {
            command.env_remove(&variable).env_remove(file_variable(&variable));
        }
    }
    drop(vault);
    if !args.files {
        refuse_nul(&secrets)?;
        for secret in &secrets {
            command.env(&secret.variable, OsStr::from_bytes(secret.value.expose_secret()));
        }
    }
    if !args.files && !args.mask {
        drop(secrets);
        // Until it is replaced, this process stays one of which there is no core file.
        let _ = setrlimit(Resource::Core, core_limit);
        let error = command.exec();
        return Ok(not_started(program, error, output));
    }

    // From here on a signal is for the command, so that no signal leaves the files behind.
    let signals = Signals::register()?;
    let files = if args.files { Some(Files::create(&secrets)?) } else { None };
    for (secret, path) in secrets.iter().zip(files.iter().flat_map(Files::paths)) {
        command.env(secret.file_variable(), path);
    }
    let mask = if args.mask { Some(Mask::new(&secrets, output)?) } else { None };
    drop(secrets);
    let ended = supervise(command, core_limit, signals, mask);
    let removed = files.map_or(Ok(()), Files::remove);
    let code = match ended {
        Ok(code) => code,
        Err(error) => not_started(program, error, output),
    };
    if let Err(error) = removed {
        // How the command ended is told all the same.
        output.failure(&Failure::from(error));
    }
    Ok(code)
}

/// Every secret that the command is to get. Nothing is started unless all are there.
fn resolve(args: &RunCommandArgs, vault: &Vault) -> Result<Vec<Delivered>, Failure> {
    let wanted: Vec<(SecretName, bool)> = if args.only.is_empty() {
        vault.manifest().secrets().map(|(name, spec)| (name.clone(), spec.required)).collect()
    } else {
        // Who names a secret wants it, whatever its declaration says.
        let named: BTreeSet<_> = args.only.iter().map(|name| SecretName::parse(name)).collect::<Result<_, _>>()?;
        named.into_iter().map(|name| (name, true)).collect()
    };
    let (mut secrets, mut missing) = (Vec::<Delivered>::new(), Vec::new());
    for (name, required) in wanted {
        match vault.secret(name.as_str()) {
            Ok(resolved) => secrets.push(Delivered { variable: name.variable(), name, value: resolved.value }),
            Err(Error::NotFound { .. }) if !required => {}
            Err(error @ Error::NotFound { .. }) => missing.push((name, error)),
            Err(other) => return Err(other.into()),
        }
    }
    if missing.len() > 1 {
        let names: Vec<_> = missing.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Failure::from(Error::NotFound { what: format!("secrets {}", names.join(", ")) })
            .with_hint("`vault get NAME` tells where each was looked for; nothing was started"));
    }
    if let Some((_, error)) = missing.pop() {
        return Err(Failure::from(error).with_hint("nothing was started"));
    }
    refuse_clashes(&secrets)?;
    if args.only.is_empty() {
        refuse_steering(&secrets, args.files)?;
    }
    Ok(secrets)
}

/// A declaration alone gives no program its code: who wants that names the secret.
fn refuse_steering(secrets: &[Delivered], files: bool) -> Result<(), Failure> {
    let delivered = |secret: &Delivered| if files { secret.file_variable() } else { secret.variable.clone() };
    let Some(secret) = secrets.iter().find(|secret| steers(&delivered(secret))) else { return Ok(()) };
    let reason = format!("secret {} would be {}, by which programs run other code", secret.name, delivered(secret));
    let remedy = "if that is meant, name every secret that the command is to get with --only".to_owned();
    Err(Error::Refused { reason, remedy }.into())
}

/// Declared secrets cannot clash; those that `--only` names can.
fn refuse_clashes(secrets: &[Delivered]) -> Result<(), Failure> {
    let mut taken = BTreeSet::new();
    for secret in secrets {
        for variable in [secret.variable.clone(), secret.file_variable()] {
            if !taken.insert(variable.clone()) {
                return Err(Failure::usage(format!("{} and another secret have the variable {variable}", secret.name)));
            }
        }
    }
    Ok(())
}

fn refuse_nul(secrets: &[Delivered]) -> Result<(), Failure> {
    match secrets.iter().find(|secret| secret.value.expose_secret().contains(&0)) {
        None => Ok(()),
        Some(secret) => Err(Failure {
            kind: Kind::Malformed,
            message: format!("secret {} holds a NUL byte, which no environment variable can", secret.name),
            hint: Some("--files gives secrets as files".to_owned()),
        }),
    }
}

/// What the command has of the caller's environment: of what speaks to `vault`, which vault is meant, so that an
/// application that links the library loads the same.
#[expect(clippy::disallowed_methods, reason = "what is passed on is not a secret that anything resolves")]
fn inherit(command: &mut Command, pristine: bool) {
    if pristine {
        command.env_clear();
    }
    for (name, value) in std::env::vars_os() {
        let bytes = name.as_bytes();
        if pristine && (KEPT.iter().any(|kept| kept.as_bytes() == bytes) || bytes.starts_with(b"LC_")) {
            command.env(name, value);
        } else if bytes.starts_with(OWN) && !SHARED.iter().any(|shared| shared.as_bytes() == bytes) {
            command.env_remove(name);
        }
    }
}

/// Tells why there is no command; returns the status that shells have for that.
fn not_started(program: &OsStr, source: io::Error, output: &mut Output) -> u8 {
    let (code, hint) = match source.kind() {
        io::ErrorKind::NotFound => (NOT_FOUND, None),
        io::ErrorKind::ArgumentListTooLong => (NOT_EXECUTABLE, Some("--files gives secrets as files".to_owned())),
        _ => (NOT_EXECUTABLE, None),
    };
    let failure = Failure::from(Error::Io { action: "run", path: program.into(), source });
    output.failure(&Failure { hint: hint.or(failure.hint), ..failure });
    code
}

/// The variables of `vault` itself.
const OWN: &[u8] = b"VAULT_CORE_";
/// Those of them that say which vault an application loads, and what it writes.
const SHARED: [&str; 3] = ["VAULT_CORE_CONFIG", "VAULT_CORE_PROFILE", "VAULT_CORE_WRITES"];
/// What `--pristine` passes on, beside `LC_*`.
const KEPT: [&str; 7] = ["HOME", "LANG", "PATH", "TERM", "TMPDIR", "TZ", "USER"];

const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
