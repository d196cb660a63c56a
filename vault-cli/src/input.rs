//! What comes from standard input, and where the configuration is.

use core::ops::ControlFlow;
use std::collections::BTreeSet;
use std::fs::FileType;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::termios::QueueSelector;
use serde_json::json;
use vault_core::{
    Config, DatabaseLocation, Error, HARD_LIMIT, Kind, Manifest, Result, SecretBytes, SecretName, SecretSpec,
    StoreLocation, Vault, check,
};
use zeroize::Zeroizing;

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Longest input of one value: a token around the longest secret.
const MAX_INPUT: usize = 2 * HARD_LIMIT;

/// Longest key file, in bytes.
const MAX_KEY_FILE: usize = 64 << 10;

/// Everything on standard input.
pub(crate) fn read_all() -> Result<Zeroizing<Vec<u8>>> {
    read_stream(io::stdin().lock(), Path::new("standard input"))
}

/// What is in a file, or comes from standard input (`-`, `/dev/stdin`), a pipe, or `<(…)` of a shell.
pub(crate) fn read_file_or_stream(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>> {
    if path == Path::new("-") {
        return read_all();
    }
    let is_stream = |kind: FileType| kind.is_fifo() || kind.is_char_device() || kind.is_socket();
    let named = path.starts_with("/dev") || path.starts_with("/proc");
    if named || std::fs::metadata(path).is_ok_and(|metadata| is_stream(metadata.file_type())) {
        let file = std::fs::File::open(path);
        return read_stream(file.map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })?, path);
    }
    Ok(Zeroizing::new(vault_core::read_file(path, limit)?.expose_secret().to_vec()))
}

fn read_stream(mut stream: impl Read, path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    // Room for everything at once: a buffer that grows leaves copies of its content behind.
    let mut content = Zeroizing::new(Vec::with_capacity(64 << 10));
    loop {
        if content.len() == content.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(content.capacity() * 2));
            larger.extend_from_slice(&content);
            content = larger;
        }
        let free = content.capacity() - content.len();
        let read = stream.by_ref().take(u64::try_from(free).unwrap_or(u64::MAX)).read_to_end(&mut content);
        match read {
            Ok(0) => return Ok(content),
            Ok(_) if content.len() > MAX_INPUT => {
                return Err(Error::Oversized { place: path.display().to_string(), limit: MAX_INPUT });
            }
            Ok(_) => {}
            Err(source) => return Err(Error::Io { action: "read", path: path.to_owned(), source }),
        }
    }
}

/// The lines of standard input, one after the other, without their line breaks, until `work` breaks
/// off.
pub(crate) fn each_line(mut work: impl FnMut(usize, &[u8]) -> Result<ControlFlow<()>, Failure>) -> Result<(), Failure> {
    let mut stdin = io::stdin().lock();
    let mut line = Zeroizing::new(Vec::with_capacity(64 << 10));
    for number in 1.. {
        line.clear();
        let limit = u64::try_from(MAX_INPUT).unwrap_or(u64::MAX);
        match stdin.by_ref().take(limit).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) if work(number, without_line_break(&line))?.is_break() => break,
            Ok(_) => {}
            Err(source) => return Err(Error::Io { action: "read", path: "standard input".into(), source }.into()),
        }
    }
    Ok(())
}

/// Text loses exactly one trailing line break, and nothing else.
pub(crate) fn without_line_break(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\r\n").or_else(|| text.strip_suffix(b"\n")).unwrap_or(text)
}

/// Whether it is text as secrets are: UTF-8 without NUL.
pub(crate) fn is_text(content: &[u8]) -> bool {
    !content.contains(&0) && core::str::from_utf8(content).is_ok()
}

/// Refuses a value that is not what vault.toml declares.
pub(crate) fn fits(name: &SecretName, spec: &SecretSpec, value: &[u8]) -> Result<(), Failure> {
    match check::fits(spec, value) {
        None => Ok(()),
        Some(finding) => Err(Failure {
            kind: Kind::Malformed,
            message: format!("{name} is not what vault.toml declares: {}", finding.what),
            hint: Some(finding.remedy),
        }),
    }
}

/// Reads a file of key material.
pub(crate) fn key_file(path: &Path) -> Result<SecretBytes> {
    vault_core::read_file(path, MAX_KEY_FILE)
}

/// The configuration that the arguments, the environment or the directory name.
pub(crate) fn config(global: &Global) -> Result<Config> {
    let config = find_config(global)?.without_heartbeats().despite_missing_keys();
    // The first is the one that was asked for; a command that loads it again asks for the same.
    let _ = MEANT.set(meant(config.manifest()).replace(char::is_control, "?"));
    #[cfg(feature = "os-keyring")]
    let config = config.with_os_keyring(std::sync::Arc::new(crate::os_keyring::SecretService));
    Ok(config)
}

fn find_config(global: &Global) -> Result<Config> {
    match (&global.config, &global.profile) {
        (Some(path), Some(profile)) => Config::with_profile(path, Some(profile)),
        (Some(path), None) => Config::from_file(path),
        (None, profile) => {
            let here =
                std::env::current_dir().map_err(|source| Error::Io { action: "find", path: ".".into(), source })?;
            let config = Config::search(&here)?;
            match profile {
                Some(profile) => Config::with_profile(config.manifest().path(), Some(profile)),
                None => Ok(config),
            }
        }
    }
}

/// What the configuration is for, which every question says: a command that is typed in the wrong
/// directory works on another application's secrets.
static MEANT: OnceLock<String> = OnceLock::new();

/// A line in front of every question.
pub(crate) fn about() -> String {
    MEANT.get().map(|meant| format!("vault: {meant}:\n")).unwrap_or_default()
}

/// The file, the application and the databases of a configuration.
fn meant(manifest: &Manifest) -> String {
    let mut text = manifest.path().display().to_string();
    if let Some(app) = manifest.app() {
        text.push_str(&format!(", application {app}"));
    }
    for database in databases(manifest) {
        text.push_str(&format!(", {database}"));
    }
    text
}

/// Every database and store file that a configuration works on.
fn databases(manifest: &Manifest) -> BTreeSet<String> {
    let of_secret = |name: &SecretName| format!("the database of secret {name}");
    let columns = manifest.columns().iter().filter_map(|column| match &column.database {
        DatabaseLocation::Postgres(url) => Some(url.to_string()),
        DatabaseLocation::Secret(name) => Some(of_secret(name)),
        DatabaseLocation::Sqlite(path) => Some(format!("sqlite:{}", path.display())),
        _ => None,
    });
    let store = manifest.store().and_then(|store| match &store.location {
        StoreLocation::File(path) => Some(format!("file:{}", path.display())),
        StoreLocation::Postgres(url) => Some(url.to_string()),
        StoreLocation::Secret(name) => Some(of_secret(name)),
        StoreLocation::Sqlite(path) => Some(format!("sqlite:{}", path.display())),
        _ => None,
    });
    columns.chain(store).collect()
}

/// `--which-config`: which configuration a command would use, and what it is for.
pub(crate) fn which_config(global: &Global, output: &mut Output) -> Outcome {
    let config = config(global)?;
    let manifest = config.manifest();
    let databases = databases(manifest);
    let mut lines = vec![manifest.path().display().to_string()];
    lines.extend(manifest.app().map(|app| format!("application {app}")));
    lines.extend(databases.iter().cloned());
    let object = json!({ "config": manifest.path(), "app": manifest.app(), "databases": databases });
    output.result(&lines.join("\n"), object)?;
    Ok(0)
}

/// The vault of that configuration.
pub(crate) fn vault(global: &Global) -> Result<Vault> {
    Vault::load(config(global)?)
}

/// Asks on a terminal; elsewhere only `--yes` says yes.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    match ask(question) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::aborted()),
        None => Err(Failure::from(Error::Refused {
            reason: format!("nobody is there to ask: {question}"),
            remedy: "add --yes".to_owned(),
        })),
    }
}

/// Whether somebody is there to answer.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// What somebody answers; none where there is no terminal to ask on.
pub(crate) fn ask(question: &str) -> Option<bool> {
    if !can_ask() {
        return None;
    }
    let mut answer = String::new();
    // What was typed before the question was on the screen is not an answer to it. What is typed as soon
    // as it is there is one, so the question comes last.
    let asked = rustix::termios::tcflush(io::stdin(), QueueSelector::IFlush)
        .map_err(io::Error::from)
        .and_then(|()| write!(io::stderr(), "{}vault: {question} [y/N] ", about()))
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    Some(asked.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}
