//! `check`: whether declared secrets are present, typed, strong, secret, and not overdue.

use std::path::{Path, PathBuf};

use vault_core::check::{Finding, Severity, judge};
use vault_core::dotenv::{self, Dialect};
use vault_core::{Error, Kind, Place, SecretBytes, SecretName, SecretSpec, Source, Timestamp, Vault, read_file};

use crate::args::{CheckArgs, Global};
use crate::failure::{Failure, Outcome};
use crate::findings::Findings;
use crate::input;
use crate::output::Output;

/// `vault check`.
pub(crate) fn run(args: &CheckArgs, global: &Global, output: &mut Output) -> Outcome {
    let vault = input::vault(global)?;
    let only = args.only.iter().map(|name| SecretName::parse(name)).collect::<Result<Vec<_>, _>>()?;
    let declared: Vec<_> =
        vault.manifest().secrets().filter(|(name, _)| only.is_empty() || only.contains(name)).collect();
    if let Some(name) = only.iter().find(|name| !declared.iter().any(|(declared, _)| declared == name)) {
        return Err(Error::NotFound { what: format!("declaration [secrets.{name}]") }.into());
    }
    let now = Timestamp::now();
    let mut findings = Findings::default();
    for (name, _) in &declared {
        for finding in vault.check(name, now)? {
            findings.of(name.as_str(), finding);
        }
    }
    if let Some(file) = env_file(args) {
        match EnvFile::read(&file) {
            Ok(lines) => declared.iter().for_each(|(name, spec)| lines.check(&vault, name, spec, &mut findings)),
            // What lies here and nobody named keeps nothing else from being told.
            Err(error) if args.env_file.is_none() => findings.failure(
                "env-file-unreadable",
                error.message,
                "put it right or remove it: applications and Compose read it, each in its own way",
            ),
            Err(error) => return Err(error),
        }
    }
    let bad = findings.count(Severity::Failure) + if args.strict { findings.count(Severity::Warning) } else { 0 };
    findings.tell(output)?;
    Ok(if bad > 0 { Kind::Findings.exit_code() } else { 0 })
}

/// The environment file that was named, or the one that applications and Compose find here.
fn env_file(args: &CheckArgs) -> Option<PathBuf> {
    args.env_file.clone().or_else(|| Some(PathBuf::from(".env")).filter(|file| file.is_file()))
}

/// An environment file: no source of a vault, and what applications read beside it.
struct EnvFile<'a> {
    path: &'a Path,
    /// As python-dotenv reads it.
    entries: Vec<dotenv::Entry>,
    /// As its other readers do; a text that a reader refuses, it does not read.
    others: Vec<Vec<dotenv::Entry>>,
}

impl<'a> EnvFile<'a> {
    fn read(path: &'a Path) -> Result<Self, Failure> {
        let content = read_file(path, dotenv::MAX_TEXT)?;
        let text = core::str::from_utf8(content.expose_secret()).ok().filter(|text| !text.contains('\0'));
        let text = text.ok_or_else(|| Error::Config {
            place: Place::file(path),
            reason: "it is not UTF-8 text, but perhaps UTF-16; save it as UTF-8".to_owned(),
        })?;
        let entries = dotenv::read(text, Dialect::Python)?.entries;
        let others = [Dialect::Node, Dialect::NodeEnvFile, Dialect::Docker].into_iter();
        let others = others.filter_map(|dialect| Some(dotenv::read(text, dialect).ok()?.entries)).collect();
        Ok(Self { path, entries, others })
    }

    fn check(&self, vault: &Vault, name: &SecretName, spec: &SecretSpec, findings: &mut Findings) {
        let Some(entry) = last(&self.entries, name).filter(|entry| !entry.value.is_empty()) else { return };
        let place = format!("{}:{}", self.path.display(), entry.line);
        for found in judge(name, spec, entry.value.expose_secret()) {
            findings.of(name.as_str(), found.at(&place));
        }
        let value = entry.value.expose_secret();
        let differs = |other: &Vec<dotenv::Entry>| {
            last(other, name).map(|entry| &entry.value).map(SecretBytes::expose_secret) != Some(value)
        };
        // Compose replaces what follows a $, and no other reader does the same.
        if value.contains(&b'$') || self.others.iter().any(differs) {
            findings.of(
                name.as_str(),
                Finding::warning(
                    "env-file-ambiguous",
                    format!("{place}: python-dotenv, Node, Docker and Compose read different values there"),
                    "write it without quotes, comment, space and $, or deliver it as a file",
                ),
            );
        }
        if findings.has(name.as_str(), "missing") {
            let missing = Finding::failure(
                "missing",
                format!("no source of the vault has it, only {place}"),
                format!("`vault import {}` takes it into the store; then remove the line", self.path.display()),
            );
            findings.replace(name.as_str(), "missing", missing);
        } else if let Ok(resolved) = vault.secret(name.as_str())
            && !matches!(resolved.source, Source::EnvironmentFile(_) | Source::Variable(_))
        {
            let same = resolved.value.expose_secret() == value;
            let severity = if same { Severity::Warning } else { Severity::Failure };
            let which = if same { "the same" } else { "another" };
            findings.of(
                name.as_str(),
                Finding::new(
                    "also-in-env-file",
                    severity,
                    format!("{} wins here, and {place} has {which} value for whoever reads that file", resolved.source),
                    "remove the line, so that there is one place to change",
                ),
            );
        }
    }
}

/// Every reader takes the last of a name.
fn last<'a>(entries: &'a [dotenv::Entry], name: &SecretName) -> Option<&'a dotenv::Entry> {
    let names = [name.variable(), name.folded()];
    entries.iter().rev().find(|entry| names.contains(&entry.name))
}
