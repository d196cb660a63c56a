//! Texts read as the real readers read them, and values written that they read back.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod readers;
mod texts;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use readers::{ENVIRONMENT, Readers, Variables};
use serde_json::Value;
use texts::{NAMES, TEXTS, generated_texts, generated_values};
use vault_core::SecretBytes;
use vault_core::dotenv::{Dialect, Reading, read, read_substituted, write};

const GENERATED_TEXTS: usize = 3_000;
const GENERATED_VALUES: usize = 3_000;
/// Docker is started for each text.
const DOCKER_TEXTS: usize = 500;

fn main() {
    let readers = Readers::installed();
    let mut table = Table::default();
    let texts: Vec<String> = TEXTS.map(str::to_owned).into_iter().chain(generated_texts(GENERATED_TEXTS)).collect();
    texts_for_python(&readers, &texts, &mut table);
    texts_for_javascript(&readers, &texts, &mut table);
    let long_lines = [0, 1, 2].map(|more| format!("A={}", "x".repeat((64 << 10) - 4 + more)));
    let ended = long_lines.iter().flat_map(|line| ["", "\n", "\r\n", "\nB=1"].map(|end| line.clone() + end));
    let docker_texts: Vec<String> = texts[..DOCKER_TEXTS].iter().cloned().chain(ended).collect();
    texts_for_docker(&readers, &docker_texts, &mut table);
    texts_for_shells(&readers, &texts, &mut table);
    applications_own(&mut table);
    let mut values = generated_values(GENERATED_VALUES);
    values.extend(application_values());
    for dialect in Dialect::ALL {
        round_trips(&readers, dialect, &values, &mut table);
    }
    table.print_and_judge();
}

fn texts_for_python(readers: &Readers, texts: &[String], table: &mut Table) {
    let lookup = |name: &str| {
        let found = ENVIRONMENT.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| SecretBytes::copy_of(value.as_bytes()))
    };
    for (text, theirs) in texts.iter().zip(readers.python(texts)) {
        let ours = read(text, Dialect::Python).unwrap();
        let valid = theirs.bindings.iter().filter(|(name, ..)| is_name(name));
        let entries: Vec<_> =
            ours.entries.iter().map(|e| (e.name.clone(), utf8(&e.value), e.line, e.substitutes)).collect();
        table.compare("python-dotenv: entries and lines", text, &entries, &valid.cloned().collect());
        let mut lines = theirs.passed_over;
        lines.extend(theirs.bindings.iter().filter(|(name, ..)| !is_name(name)).map(|(_, _, line, _)| *line));
        lines.sort_unstable();
        let passed_over = ours.passed_over.iter().map(|p| p.line).collect();
        table.compare("python-dotenv: lines passed over", text, &passed_over, &lines);
        let substituted = read_substituted(text, lookup).unwrap();
        for (column, ours, theirs) in [
            ("python-dotenv: without substitution", ours, theirs.plain),
            ("python-dotenv: with substitution", substituted, theirs.substituted),
        ] {
            // A later line without a value takes an earlier value away, and is reported.
            let mut ours = variables(&ours);
            ours.retain(|name, _| theirs.contains_key(name));
            table.compare(column, text, &ours, &named(theirs));
        }
    }
}

fn texts_for_javascript(readers: &Readers, texts: &[String], table: &mut Table) {
    for (column, package) in
        [("npm dotenv 18", "dotenv"), ("npm dotenv 17", "dotenv-17"), ("npm dotenv 16", "dotenv-16")]
    {
        for (text, (theirs, passed_over)) in texts.iter().zip(readers.npm(package, texts)) {
            let ours = read(text, Dialect::Node).unwrap();
            maps(column, text, &ours, theirs, table);
            let lines = ours.passed_over.iter().filter(|place| place.rule == "not a name and =").count();
            table.compare("npm dotenv: lines passed over", text, &lines, &passed_over);
        }
    }
    for (text, theirs) in texts.iter().zip(readers.node("node-26", texts)) {
        maps("node --env-file", text, &read(text, Dialect::NodeEnvFile).unwrap(), theirs, table);
    }
}

fn texts_for_docker(readers: &Readers, texts: &[String], table: &mut Table) {
    for (text, theirs) in texts.iter().zip(readers.docker(texts)) {
        match (read(text, Dialect::Docker), theirs) {
            (Ok(ours), Some(mut theirs)) => {
                // A name alone takes its value from the environment, where only this one is.
                if !variables(&ours).contains_key("DOCKER_HOST") {
                    theirs.remove("DOCKER_HOST");
                }
                maps("docker run --env-file", text, &ours, theirs, table);
            }
            (ours, theirs) => {
                table.compare("docker run --env-file", text, &ours.is_err(), &theirs.is_none());
            }
        }
    }
}

/// Only what we read: what we refuse could be any command.
fn texts_for_shells(readers: &Readers, texts: &[String], table: &mut Table) {
    let readable: Vec<String> = texts.iter().filter(|text| read(text, Dialect::Shell).is_ok()).cloned().collect();
    for shell in ["bash", "dash"] {
        for (text, mut theirs) in readable.iter().zip(readers.shell(shell, &readable)) {
            let ours = variables(&read(text, Dialect::Shell).unwrap());
            theirs.retain(|name, value| {
                let inherited = ENVIRONMENT.contains(&(name.as_str(), value.as_str()));
                let own = ["PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name.as_str());
                ours.contains_key(name) || !inherited && !own
            });
            table.compare(shell, text, &ours, &theirs);
        }
    }
    table.note("texts that a shell may source", readable.len());
}

/// The name is found by us where the reader finds it, with its value, and what we leave out of a
/// reader's variables is reported.
fn maps(column: &'static str, text: &str, ours: &Reading, theirs: Variables, table: &mut Table) {
    let others = theirs.keys().any(|name| !is_name(name));
    table.compare(column, text, &variables(ours), &named(theirs));
    if others {
        table.compare("names that are none are reported", text, &ours.passed_over.is_empty(), &false);
    }
}

/// What Fingerflow's own settings class reads from its `.env`.
fn applications_own(table: &mut Table) {
    let vectors = application_vectors();
    for row in vectors["settings"].as_array().unwrap().iter().filter(|row| row["dotenv"].is_string()) {
        let text = row["dotenv"].as_str().unwrap();
        let ours = variables(&read_substituted(text, |_| None).unwrap());
        let ours = row["env"]["SECRET_KEY"].as_str().or(ours.get("SECRET_KEY").map(String::as_str));
        table.compare("Fingerflow's settings", text, &ours, &row["settings"]["secret_key"].as_str());
    }
}

fn application_vectors() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/apps/fingerflow.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every text in the application's vectors, as a value.
fn application_values() -> Vec<String> {
    fn collect(value: &Value, all: &mut Vec<String>) {
        match value {
            Value::String(text) => all.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| collect(item, all)),
            Value::Object(fields) => fields.values().for_each(|field| collect(field, all)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    collect(&application_vectors(), &mut all);
    all
}

/// Writes each value, and has the readers read it before the next one and all of them at once.
fn round_trips(readers: &Readers, dialect: Dialect, values: &[String], table: &mut Table) {
    let entry = |name: &str, value: &str| write(name, value, dialect).ok().map(|entry| utf8(&entry));
    let written: Vec<&String> = values.iter().filter(|value| entry("V", value).is_some()).collect();
    for value in values {
        let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b" +/=_-.:@%".contains(&b));
        if let Err(error) = write("V", value, dialect) {
            assert!(!plain, "a plain value is refused in {dialect}");
            assert!(!error.to_string().contains("reads it back"), "{value:?} has no rule in {dialect}");
        }
    }
    table.note(format!("{dialect}: values written"), written.len());
    table.note(format!("{dialect}: values refused"), values.len() - written.len());

    // Two entries a text, so that one that runs on is noticed; then all in one text; then names
    // that mean something to a program.
    let count = if dialect == Dialect::Docker { DOCKER_TEXTS } else { written.len() };
    let next = |number: usize| written[(number + 1) % written.len()].clone();
    let mut texts: Vec<(String, Variables)> = (0..count)
        .map(|number| variables_of([("V".to_owned(), written[number].clone()), ("W".to_owned(), next(number))]))
        .map(|expected| (expected.iter().map(|(name, value)| entry(name, value).unwrap()).collect(), expected))
        .collect();
    let together = written.iter().enumerate().map(|(number, value)| (format!("V{number}"), (*value).clone()));
    let together: Variables = together.collect();
    texts.push((together.iter().map(|(name, value)| entry(name, value).unwrap()).collect(), together));
    for name in NAMES {
        if let Some(text) = entry(name, "it's 1") {
            texts.push((text, variables_of([(name.to_owned(), "it's 1".to_owned())])));
        }
    }
    let (texts, expected): (Vec<String>, Vec<Variables>) = texts.into_iter().unzip();
    for (reader, read) in readers::of(dialect) {
        let column = format!("{dialect}: written, read by {reader}");
        for ((text, expected), mut theirs) in texts.iter().zip(&expected).zip(read(readers, &texts)) {
            theirs.retain(|name, _| expected.contains_key(name));
            table.compare(&column, text, &theirs, expected);
        }
        if reader.starts_with("node") {
            let (text, expected) = (&texts[count], &expected[count]);
            let mut theirs = readers.node_with_file(reader, text);
            theirs.retain(|name, _| expected.contains_key(name));
            table.compare(&format!("{dialect}: {reader} --env-file"), text, &theirs, expected);
        }
    }
}

fn variables_of<const N: usize>(pairs: [(String, String); N]) -> Variables {
    pairs.into()
}

/// Comparisons by what was compared, with how many there were and how many failed.
#[derive(Default)]
struct Table {
    rows: BTreeMap<String, (usize, usize)>,
    notes: BTreeMap<String, usize>,
}

impl Table {
    fn compare<T: Debug + PartialEq>(&mut self, column: &str, text: &str, ours: &T, theirs: &T) {
        let row = self.rows.entry(column.to_owned()).or_default();
        row.0 += 1;
        if ours != theirs {
            row.1 += 1;
            if row.1 <= 3 {
                println!("{column}\n  text   {text:?}\n  ours   {ours:?}\n  theirs {theirs:?}");
            }
        }
    }

    fn note(&mut self, name: impl Into<String>, count: usize) {
        self.notes.insert(name.into(), count);
    }

    fn print_and_judge(&self) {
        println!("{:48} {:>8} {:>10}", "compared", "cases", "mismatches");
        for (column, (cases, mismatches)) in &self.rows {
            println!("{column:48} {cases:>8} {mismatches:>10}");
        }
        for (name, count) in &self.notes {
            println!("{name:48} {count:>8}");
        }
        let failed = self.rows.values().filter(|(_, mismatches)| *mismatches > 0).count();
        let result = if failed == 0 { "ok" } else { "FAILED" };
        println!("test result: {result}. {} passed; {failed} failed", self.rows.len() - failed);
        assert_eq!(failed, 0);
    }
}

fn variables(reading: &Reading) -> Variables {
    reading.entries.iter().map(|entry| (entry.name.clone(), utf8(&entry.value))).collect()
}

fn named(mut variables: Variables) -> Variables {
    variables.retain(|name, _| is_name(name));
    variables
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
}

fn utf8(secret: &SecretBytes) -> String {
    String::from_utf8(secret.expose_secret().to_vec()).unwrap()
}
