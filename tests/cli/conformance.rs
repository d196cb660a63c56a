//! The cases that every language runs, as they are typed.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use vault_core::Kind;

use crate::command;
use crate::conformance_list::{Flat, run_all, with_prefix};

#[test]
fn every_case_that_can_be_typed() {
    let counts = run_all("cli", run);
    assert_eq!(counts.len(), 6);
    // Fewer of `legacy_seal`, for which most cases name a keyring.
    assert!(counts.values().all(|count| *count >= 10), "{counts:?}");
}

fn run(case: &Flat, directory: &Path) -> Option<Flat> {
    let text = |path: &str| case.get(path).map(|value| core::str::from_utf8(value).unwrap());
    let (mut arguments, input) = match text("call")? {
        "seal" => (words(&["seal", "--raw", "--allow-empty"]), "arguments.secret"),
        "open" => (words(&["open", "--raw"]), "arguments.token"),
        "inspect" => (words(&["inspect", "--raw", "--json"]), "arguments.token"),
        "secret" => (words(&["get"]), "arguments.name"),
        "legacy_seal" => (words(&["seal", "--raw", "--allow-empty"]), "arguments.secret"),
        "legacy_open" => (words(&["open", "--raw"]), "arguments.value"),
        _ => return None,
    };
    let call = text("call")?;
    let input = case.get(input)?;
    // The command has one limit for secrets, /run/secrets for mounts, and keyrings of master keys.
    let typed = text("vault.limit").is_none()
        && (call == "inspect" || input.len() <= vault_core::DEFAULT_LIMIT)
        && !directory.join("mounts").exists()
        && text("arguments.keyring").is_none();
    if !typed {
        return None;
    }
    for (option, path) in
        [("--key-file", "vault.key_file"), ("--key-file", "vault.text_key_file"), ("--config", "vault.config")]
    {
        arguments.extend(text(path).map(|path| format!("{option}={}", directory.join(path).display())));
    }
    for (option, path) in [
        ("--format", "arguments.format"),
        ("--tenant", "arguments.tenant"),
        ("--purpose", "arguments.context.purpose"),
        ("--tenant", "arguments.context.tenant"),
        ("--name", "arguments.context.name"),
        ("--preset", "vault.preset"),
        ("--profile", "vault.profile"),
    ] {
        arguments.extend(text(path).map(|value| format!("{option}={value}")));
    }
    for at in 0..text("arguments.context.extra.count").map_or(0, |count| count.parse().unwrap()) {
        let half = |half: &str| text(&format!("arguments.context.extra.{at}.{half}"));
        arguments.push(format!("--extra={}={}", half("key")?, half("value")?));
    }
    arguments.extend((text("arguments.context.unbound") == Some("true")).then(|| "--no-context".to_owned()));
    arguments.extend((text("vault.padded") == Some("true")).then(|| "--padded".to_owned()));
    if call == "secret" {
        arguments.extend(words(&["--", text("arguments.name")?]));
    }
    let mut variables = Vec::new();
    for at in 0..text("vault.variables.count").map_or(0, |count| count.parse().unwrap()) {
        let half = |half: &str| text(&format!("vault.variables.{at}.{half}"));
        variables.push((half("key")?.to_owned(), half("value")?.to_owned()));
    }
    let ran = typed_in(directory, &arguments, &variables, input);
    // What a command does not tell of is not compared.
    let mut came = with_prefix(case, "expect.");
    if !ran.status.success() {
        return Some(failed(&ran, text("expect.error")));
    }
    came.remove("error");
    match call {
        "seal" | "legacy_seal" => {
            let opens: Vec<_> = arguments
                .iter()
                .filter(|argument| !matches!(argument.as_str(), "--allow-empty" | "--padded"))
                .map(|argument| if argument == "seal" { "open".to_owned() } else { argument.clone() })
                .collect();
            let sealed = ran.stdout.strip_suffix(b"\n").unwrap();
            let opened = typed_in(directory, &opens, &variables, sealed);
            if !opened.status.success() {
                return Some(failed(&opened, text("expect.error")));
            }
            came.extend(came.contains_key("opens").then(|| ("opens".to_owned(), opened.stdout)));
        }
        "inspect" => {
            let told: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
            for key in ["kid", "payload", "padded"] {
                let value = told[key].as_str().map_or_else(|| told[key].to_string(), str::to_owned);
                came.insert(key.to_owned(), value.into_bytes());
            }
        }
        _ => drop(came.insert("value".to_owned(), ran.stdout)),
    }
    Some(came)
}

fn typed_in(directory: &Path, arguments: &[String], variables: &[(String, String)], input: &[u8]) -> Output {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let path = directory.join("input");
    fs::write(&path, input).unwrap();
    let mut command = command(directory, &arguments);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdin(fs::File::open(path).unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
}

/// A command tells the exit status of a kind.
fn failed(ran: &Output, expected: Option<&str>) -> Flat {
    let code = ran.status.code().unwrap_or(-1);
    let told = match KINDS.into_iter().find(|kind| Some(kind.as_str()) == expected) {
        Some(kind) if i32::from(kind.exit_code()) == code => kind,
        _ => {
            let told = format!("exit {code}: {}", String::from_utf8_lossy(&ran.stderr).trim_end());
            return Flat::from([("error".to_owned(), told.into_bytes())]);
        }
    };
    let public = if told.exit_code() == Kind::OpenFailed.exit_code() || OPENING.contains(&told) {
        Kind::OpenFailed
    } else {
        told
    };
    [("error", told), ("public", public)].map(|(key, kind)| (key.to_owned(), kind.as_str().into())).into()
}

/// Refusals to open with exit statuses of their own.
const OPENING: [Kind; 4] = [Kind::KeyDestroyed, Kind::KeyDisabled, Kind::KeyUnavailable, Kind::UnknownKey];

const KINDS: [Kind; 19] = [
    Kind::Usage,
    Kind::NotFound,
    Kind::Malformed,
    Kind::Unsupported,
    Kind::TooLarge,
    Kind::Corrupt,
    Kind::ContextMismatch,
    Kind::CannotSeal,
    Kind::Config,
    Kind::Io,
    Kind::Database,
    Kind::KeyMissing,
    Kind::KeyMalformed,
    Kind::UnknownKey,
    Kind::KeyUnavailable,
    Kind::KeyDisabled,
    Kind::KeyDestroyed,
    Kind::Refused,
    Kind::Temporary,
];

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
