//! Environment files that are imported: all that is wrong with one is told at once, and what readers
//! take in silence is told too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use vault_core::dotenv::{self, Dialect, Entry, Reading};
use vault_core::{Error, Place, SecretBytes, SecretName};

use crate::args::References;
use crate::failure::Failure;

use super::{Imported, Secrets, wrong};

/// Reads an environment file of a reader; of one that nobody named, only if all readers agree.
pub(super) fn read(
    file: &Path,
    text: &str,
    dialect: Option<Dialect>,
    references: References,
) -> Result<Imported, Failure> {
    let mut notes = Vec::new();
    let text = text.strip_prefix('\u{feff}').map_or(text, |rest| {
        notes.push(format!(
            "{}: it begins with a byte order mark, which some readers take for a part of the first name",
            file.display()
        ));
        rest
    });
    if references.expand && dialect != Some(Dialect::Python) {
        return Err(Failure::usage("--expand does what python-dotenv does, and goes with --format dotenv-python"));
    }
    let readers = match &dialect {
        Some(dialect) => core::slice::from_ref(dialect),
        None => &[Dialect::Python, Dialect::Node, Dialect::NodeEnvFile],
    };
    let mut left_out = BTreeSet::new();
    let mut agreed: Option<Secrets> = None;
    for dialect in readers {
        let mut reading = read_as(file, text, *dialect, references)?;
        if !references.expand {
            left_out.extend(take_references(file, &mut reading, references)?);
        }
        if agreed.is_none() {
            notes.extend(odd(file, &reading.entries));
        }
        let secrets = secrets(reading.entries, &left_out)?;
        if let Some(other) = &agreed
            && let Some(name) = differing(other, &secrets)
        {
            let reason = format!("programs read {name} differently; say with --format who reads this file");
            return Err(wrong(file, reason).into());
        }
        agreed = Some(secrets);
    }
    if !left_out.is_empty() {
        let names: Vec<_> = left_out.into_iter().collect();
        notes.push(format!("left out, because other values stand in them: {}", names.join(", ")));
    }
    Ok(Imported { secrets: agreed.unwrap_or_default(), notes })
}

fn read_as(file: &Path, text: &str, dialect: Dialect, references: References) -> Result<Reading, Failure> {
    let read = match references.expand {
        true => dotenv::read_substituted(text, of_environment),
        false => dotenv::read(text, dialect),
    };
    let reading = read.map_err(|error| match error {
        Error::Config { place, reason } => {
            let place = place.at.map_or_else(|| Place::file(file), |(line, column)| Place::at(file, line, column));
            Error::Config { place, reason }
        }
        other => other,
    })?;
    match reading.passed_over.first() {
        Some(passed) => {
            Err(Error::Config { place: Place::at(file, passed.line, passed.column), reason: passed.rule.to_owned() }
                .into())
        }
        None => Ok(reading),
    }
}

#[expect(clippy::disallowed_methods, reason = "asked for with --expand, as python-dotenv does")]
fn of_environment(name: &str) -> Option<SecretBytes> {
    use std::os::unix::ffi::OsStringExt;
    std::env::var_os(name).map(|value| SecretBytes::from(zeroize::Zeroizing::new(value.into_vec())))
}

/// Takes the lines out in which the reader puts other values, if that is wanted; their names.
fn take_references(file: &Path, reading: &mut Reading, references: References) -> Result<Vec<String>, Failure> {
    let found: Vec<_> = reading.entries.iter().filter(|entry| entry.substitutes).collect();
    if found.is_empty() || references.skip {
        return Ok(found.into_iter().map(|entry| entry.name.clone()).collect());
    }
    let lines: Vec<_> = found.iter().map(|entry| format!("{} in line {}", entry.name, entry.line)).collect();
    let first = found.first().map_or(1, |entry| entry.line);
    let reason = format!("its reader puts the values of other variables there: {}", lines.join(", "));
    Err(Failure::from(Error::Config { place: Place::at(file, first, 1), reason })
        .with_hint("--expand does so too, with --format dotenv-python; --skip-references leaves these lines out"))
}

/// What readers take in silence: a name that is there twice, and one without a value.
fn odd(file: &Path, entries: &[Entry]) -> Vec<String> {
    let mut lines: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for entry in entries {
        lines.entry(&entry.name).or_default().push(entry.line);
    }
    let twice = lines.iter().filter(|(_, lines)| lines.len() > 1).map(|(name, lines)| {
        let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
        format!(
            "{}: {name} is there {} times, in lines {}; the last counts",
            file.display(),
            lines.len(),
            lines.join(", ")
        )
    });
    let empty = entries.iter().filter(|entry| entry.value.is_empty());
    let empty = empty.map(|entry| {
        format!("{}:{}: {} is empty, which counts as unset; it was left out", file.display(), entry.line, entry.name)
    });
    twice.chain(empty).collect()
}

fn secrets(entries: Vec<Entry>, left_out: &BTreeSet<String>) -> Result<Secrets, Failure> {
    let mut secrets = Secrets::new();
    for entry in entries.into_iter().filter(|entry| !left_out.contains(&entry.name)) {
        secrets.insert(SecretName::parse(&entry.name)?, entry.value);
    }
    // What is set to nothing counts as unset.
    secrets.retain(|_, value| !value.is_empty());
    Ok(secrets)
}

/// A name that two readings do not agree on.
fn differing<'a>(one: &'a Secrets, two: &'a Secrets) -> Option<&'a SecretName> {
    let differs = |(name, value): &(&SecretName, &SecretBytes)| {
        two.get(*name).is_none_or(|found| found.expose_secret() != value.expose_secret())
    };
    one.iter().find(differs).map(|(name, _)| name).or_else(|| two.keys().find(|name| !one.contains_key(*name)))
}

/// Whether a name and a value say that it is a setting and no secret.
pub(super) fn is_setting(name: &SecretName, value: &SecretBytes) -> bool {
    let name = name.folded();
    if SECRET.iter().any(|part| name.contains(part)) {
        return false;
    }
    let value = value.expose_secret();
    let number = value.len() <= 5 && value.iter().all(u8::is_ascii_digit);
    let switch =
        [&b"true"[..], b"false", b"yes", b"no", b"on", b"off"].iter().any(|word| value.eq_ignore_ascii_case(word));
    number || switch || SETTINGS.iter().any(|end| name == *end || name.ends_with(&format!("_{end}")))
}

/// What names of secrets have in them.
const SECRET: [&str; 10] = ["CREDENTIAL", "DSN", "KEY", "PASS", "PIN", "PRIVATE", "PWD", "SALT", "SECRET", "TOKEN"];

/// How names of settings end.
const SETTINGS: [&str; 18] = [
    "DEBUG",
    "ENABLED",
    "ENV",
    "ENVIRONMENT",
    "FORMAT",
    "HOST",
    "HOSTNAME",
    "LANG",
    "LEVEL",
    "LOCALE",
    "MODE",
    "PORT",
    "REGION",
    "TIMEOUT",
    "TIMEZONE",
    "TZ",
    "VERSION",
    "WORKERS",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_told_from_secrets() {
        let is = |name: &str, value: &str| {
            is_setting(&SecretName::parse(name).unwrap(), &SecretBytes::copy_of(value.as_bytes()))
        };
        for (name, value) in [
            ("LOG_LEVEL", "info"),
            ("SMTP_PORT", "587"),
            ("NODE_ENV", "production"),
            ("FEATURE_X", "true"),
            ("PORT", "1"),
        ] {
            assert!(is(name, value), "{name}");
        }
        for (name, value) in [
            ("DB_PASSWORD", "true"),
            ("API_TOKEN", "12345"),
            ("DATABASE_URL", "postgres://h"),
            ("PIN", "1234"),
            ("ADMIN_KEY_VERSION", "x"),
            ("WEBHOOK", "https://example.org"),
        ] {
            assert!(!is(name, value), "{name}");
        }
    }
}
