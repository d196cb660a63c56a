//! The cases that every language runs, through the interface of Rust.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use vault_core::{
    Config, Context, EntryName, Error, Format, HARD_LIMIT, Kind, Resolved, SecretBytes, SecretName, Source, Token,
    Vault,
};

use crate::conformance_list::{Flat, cases, run_all};

#[test]
fn every_case() {
    let counts = run_all("rust", |case, directory| Some(run(case, directory)));
    assert_eq!(counts.len(), 15);
    assert!(counts.values().all(|count| *count >= 20), "{counts:?}");
}

#[test]
fn every_kind_of_error_is_expected_of_some_case() {
    let expected: BTreeSet<_> = cases()
        .iter()
        .flat_map(|case| ["error", "public"].map(|member| case["expect"][member].as_str().map(str::to_owned)))
        .flatten()
        .collect();
    let missing: Vec<_> = KINDS.into_iter().filter(|kind| !expected.contains(kind.as_str())).collect();
    assert_eq!(missing, NO_CASE);
    let named: BTreeSet<_> =
        cases().iter().filter_map(|case| case["expect"]["name"].as_str().map(str::to_owned)).collect();
    assert!(KINDS.iter().all(|kind| named.contains(kind.as_str())), "{named:?}");
}

fn run(case: &Flat, directory: &Path) -> Flat {
    match try_run(&Case(case), directory) {
        Ok(came) => came,
        Err(error) => failure(&error),
    }
}

fn failure(error: &Error) -> Flat {
    flat([("error", error.kind().as_str()), ("public", error.public_code().as_str())])
}

fn try_run(case: &Case<'_>, directory: &Path) -> Result<Flat, Error> {
    let loaded = load(case, directory)?;
    let vault = || Ok::<_, Error>(loaded.as_ref().unwrap_or_else(|| panic!("the case has no vault")));
    for (path, content) in case.pairs("changed") {
        fs::write(directory.join(path), content).unwrap();
    }
    let limit = case.get("vault.limit").map_or(vault_core::DEFAULT_LIMIT, |limit| limit.parse().unwrap());
    match case.text("call") {
        "load" => Ok(flat([("primary", vault()?.sealer()?.primary()?.as_str())])),
        "refresh" => {
            vault()?.refresh()?;
            Ok(flat([("primary", vault()?.sealer()?.primary()?.as_str())]))
        }
        "status" => Ok(status(case.text("arguments.status").parse().unwrap())),
        "secret" => Ok(resolved(&vault()?.secret(case.text("arguments.name"))?)),
        "optional_secret" => Ok(match vault()?.optional_secret(case.text("arguments.name"))? {
            Some(found) => resolved(&found),
            None => flat([("absent", "true")]),
        }),
        "versions" => {
            let name = EntryName::new(SecretName::parse(case.text("arguments.name"))?);
            let versions = vault()?.versions(&name)?;
            let mut came = flat([("versions.count", &*versions.len().to_string())]);
            for (at, entry) in versions.iter().enumerate() {
                came.insert(format!("versions.{at}"), entry.key.version.to_string().into_bytes());
            }
            Ok(came)
        }
        "seal" => seal(vault()?, &case.context("arguments"), case.bytes("arguments.secret"), limit),
        "open" => open(vault()?, &case.context("arguments"), case.bytes("arguments.token"), limit),
        "seal_batch" | "open_batch" => {
            let mut came = Flat::new();
            for at in 0..case.count("arguments.items") {
                let item = format!("arguments.items.{at}");
                let context = case.context(&item);
                let one = if case.text("call") == "seal_batch" {
                    seal(vault()?, &context, case.bytes(&format!("{item}.secret")), limit)
                } else {
                    open(vault()?, &context, case.bytes(&format!("{item}.token")), limit)
                };
                let one = one.unwrap_or_else(|error| failure(&error));
                came.extend(one.into_iter().map(|(key, value)| (format!("items.{at}.{key}"), value)));
            }
            came.insert("items.count".to_owned(), case.text("arguments.items.count").into());
            Ok(came)
        }
        "rewrap" => {
            let token = token(case.bytes("arguments.token"), limit)?;
            Ok(flat([("value", &*vault()?.rewrap(&token)?.to_string())]))
        }
        "verify" => {
            vault()?.verify(&token(case.bytes("arguments.token"), limit)?)?;
            Ok(Flat::new())
        }
        "inspect" => Ok(inspect(&token(case.bytes("arguments.token"), HARD_LIMIT)?)),
        "legacy_open" => {
            let format: Format = case.text("arguments.format").parse()?;
            value(&legacy_open(vault()?, case, format, case.bytes("arguments.value"))?)
        }
        "legacy_seal" => {
            let format: Format = case.text("arguments.format").parse()?;
            let (secret, tenant) = (case.bytes("arguments.secret"), case.get("arguments.tenant"));
            let sealed = vault()?.seal_legacy(keyring(case), format, tenant, secret)?;
            let opened = legacy_open(vault()?, case, format, sealed.as_bytes())?;
            Ok(Flat::from([("opens".to_owned(), opened.expose_secret().to_vec())]))
        }
        other => panic!("unknown call {other}"),
    }
}

fn load(case: &Case<'_>, directory: &Path) -> Result<Option<Vault>, Error> {
    let mut config = if let Some(path) = case.get("vault.key_file") {
        Config::from_key_file(directory.join(path))
    } else if let Some(path) = case.get("vault.text_key_file") {
        Config::from_text_key_file(directory.join(path), case.text("vault.format").parse()?)
    } else if let Some(path) = case.get("vault.config") {
        Config::with_profile(directory.join(path), case.get("vault.profile"))?
    } else {
        return Ok(None);
    };
    if let Some(limit) = case.get("vault.limit") {
        config = config.with_limit(limit.parse().unwrap());
    }
    if case.get("vault.padded") == Some("true") {
        config = config.with_padding();
    }
    let variables: BTreeMap<_, _> = case
        .pairs("vault.variables")
        .map(|(name, value)| (name.to_owned(), core::str::from_utf8(value).unwrap().into()))
        .collect();
    let mut vault = Vault::load(config)?.with_environment(variables, directory.join("mounts"));
    if let Some(preset) = case.get("vault.preset") {
        vault = vault.with_preset(preset.parse()?);
    }
    Ok(Some(vault))
}

/// The keyring that a case names; that of a vault of one text key file has this name.
fn keyring<'a>(case: &Case<'a>) -> &'a str {
    case.get("arguments.keyring").unwrap_or("main")
}

fn legacy_open(vault: &Vault, case: &Case<'_>, format: Format, value: &[u8]) -> Result<SecretBytes, Error> {
    vault.open_legacy(keyring(case), format, case.get("arguments.tenant"), value)
}

fn token(text: &[u8], limit: usize) -> Result<Token, Error> {
    let text = core::str::from_utf8(text).map_err(|_| Error::Malformed { what: "token: it is not text" })?;
    Token::parse(text, limit)
}

fn seal(vault: &Vault, context: &Context, secret: &[u8], limit: usize) -> Result<Flat, Error> {
    let sealed = vault.seal(context, secret)?;
    let mut came = inspect(&sealed);
    let opened = vault.open(context, &token(sealed.to_string().as_bytes(), limit)?)?;
    came.insert("opens".to_owned(), opened.expose_secret().to_vec());
    Ok(came)
}

fn open(vault: &Vault, context: &Context, text: &[u8], limit: usize) -> Result<Flat, Error> {
    value(&vault.open(context, &token(text, limit)?)?)
}

fn value(secret: &SecretBytes) -> Result<Flat, Error> {
    Ok(Flat::from([("value".to_owned(), secret.expose_secret().to_vec())]))
}

fn inspect(token: &Token) -> Flat {
    let seen = token.inspect();
    flat([
        ("kid", seen.kid.as_str()),
        ("padded", if seen.padded { "true" } else { "false" }),
        ("payload", &seen.payload.to_string()),
        ("sealed_at", &seen.sealed_at.0.to_string()),
    ])
}

fn resolved(found: &Resolved) -> Flat {
    let mut came = flat([("source", found.source.kind()), ("notes", &*found.notes.len().to_string())]);
    if let Source::Store { version, .. } = &found.source {
        came.insert("version".to_owned(), version.to_string().into_bytes());
    }
    came.insert("value".to_owned(), found.value.expose_secret().to_vec());
    came
}

fn status(number: u32) -> Flat {
    let kind = KINDS.into_iter().find(|kind| *kind as u32 == number);
    match (number, kind) {
        (0, _) => flat([("name", "ok"), ("exit_code", "0")]),
        (_, kind) => {
            let kind = kind.unwrap_or(Kind::Unclassified);
            flat([("name", kind.as_str()), ("exit_code", &*kind.exit_code().to_string())])
        }
    }
}

fn flat<const N: usize>(entries: [(&str, &str); N]) -> Flat {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).collect()
}

/// A case, read by path.
struct Case<'a>(&'a Flat);

impl<'a> Case<'a> {
    fn get(&self, path: &str) -> Option<&'a str> {
        self.0.get(path).map(|value| core::str::from_utf8(value).unwrap())
    }

    fn text(&self, path: &str) -> &'a str {
        self.get(path).unwrap_or_else(|| panic!("the case has no {path}"))
    }

    fn bytes(&self, path: &str) -> &'a [u8] {
        self.0.get(path).unwrap_or_else(|| panic!("the case has no {path}"))
    }

    fn count(&self, path: &str) -> usize {
        self.get(&format!("{path}.count")).map_or(0, |count| count.parse().unwrap())
    }

    fn pairs(&self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        (0..self.count(path))
            .map(move |at| (self.text(&format!("{path}.{at}.key")), self.bytes(&format!("{path}.{at}.value"))))
    }

    fn context(&self, at: &str) -> Context {
        let field = |name: &str| self.get(&format!("{at}.context.{name}"));
        let mut context = Context::none();
        if let Some(purpose) = field("purpose") {
            context = context.purpose(purpose);
        }
        if let Some(tenant) = field("tenant") {
            context = context.tenant(tenant);
        }
        if let Some(name) = field("name") {
            context = context.name(name);
        }
        let extra = format!("{at}.context.extra");
        for pair in 0..self.count(&extra) {
            let half = |half: &str| self.text(&format!("{extra}.{pair}.{half}"));
            context = context.extra(half("key"), half("value"));
        }
        context
    }
}

/// Bugs; what only commands meet; and a database that somebody else holds, which no file can be.
const NO_CASE: [Kind; 8] = [
    Kind::Unclassified,
    Kind::Aborted,
    Kind::AlreadyInitialised,
    Kind::NotInitialised,
    Kind::Findings,
    Kind::DoctorFailures,
    Kind::DurabilityUnknown,
    Kind::Temporary,
];

const KINDS: [Kind; 27] = [
    Kind::Unclassified,
    Kind::Usage,
    Kind::Aborted,
    Kind::AlreadyInitialised,
    Kind::NotInitialised,
    Kind::NotFound,
    Kind::Malformed,
    Kind::Unsupported,
    Kind::TooLarge,
    Kind::Corrupt,
    Kind::ContextMismatch,
    Kind::OpenFailed,
    Kind::CannotSeal,
    Kind::Findings,
    Kind::Config,
    Kind::Io,
    Kind::Database,
    Kind::KeyMissing,
    Kind::KeyMalformed,
    Kind::UnknownKey,
    Kind::KeyUnavailable,
    Kind::DoctorFailures,
    Kind::KeyDisabled,
    Kind::KeyDestroyed,
    Kind::Refused,
    Kind::DurabilityUnknown,
    Kind::Temporary,
];
