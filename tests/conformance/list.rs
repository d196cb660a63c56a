//! The list of cases, for whoever runs them (README.md beside it).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A case, or what came of one: each value under the path to it, as in `arguments.context.tenant`.
pub(crate) type Flat = BTreeMap<String, Vec<u8>>;

/// Runs every case that `language` can spell, and says how many there are of each call. `run` gives
/// nothing where it has no such call.
pub(crate) fn run_all(language: &str, mut run: impl FnMut(&Flat, &Path) -> Option<Flat>) -> BTreeMap<String, usize> {
    let list = cases();
    let mut names = BTreeSet::new();
    let mut failures = Vec::new();
    let mut counts = BTreeMap::new();
    for case in &list {
        let name = case["name"].as_str().unwrap();
        assert!(names.insert(name), "two cases are called {name}");
        if case["except"].get(language).is_some() {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        if let Some(fixture) = case["given"].as_str() {
            copy(&root().join("fixtures").join(fixture), directory);
        }
        for (path, content) in case["files"].as_object().into_iter().flatten() {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes(content, directory).unwrap()).unwrap();
        }
        let given = flatten(case, directory);
        let Some(came) = run(&given, directory) else { continue };
        let expected = with_prefix(&given, "expect.");
        let good = expected.iter().all(|(key, value)| came.get(key) == Some(value))
            && came.contains_key("error") == expected.contains_key("error");
        if !good {
            failures.push(format!("{name}: expected {}, came {}", show(&expected), show(&came)));
        }
        *counts.entry(case["call"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(failures.is_empty(), "{} cases in {language}:\n{}", failures.len(), failures.join("\n"));
    counts
}

/// The list as it is written.
pub(crate) fn cases() -> Vec<Value> {
    let list: Value = serde_json::from_slice(&fs::read(root().join("cases.json")).unwrap()).unwrap();
    list["cases"].as_array().unwrap().clone()
}

/// The entries under a prefix, without it.
pub(crate) fn with_prefix(flat: &Flat, prefix: &str) -> Flat {
    flat.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone()))).collect()
}

fn flatten(case: &Value, directory: &Path) -> Flat {
    fn walk(path: &str, value: &Value, directory: &Path, into: &mut Flat) {
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            _ if bytes(value, directory).is_some() => {
                into.insert(path.to_owned(), bytes(value, directory).unwrap());
            }
            Value::Object(members) => members.iter().for_each(|(key, value)| walk(&below(key), value, directory, into)),
            Value::Array(elements) => {
                into.insert(below("count"), elements.len().to_string().into_bytes());
                elements
                    .iter()
                    .enumerate()
                    .for_each(|(at, value)| walk(&below(&at.to_string()), value, directory, into));
            }
            other => {
                into.insert(path.to_owned(), other.to_string().into_bytes());
            }
        }
    }
    let mut flat = Flat::new();
    for (key, value) in case.as_object().unwrap() {
        match key.as_str() {
            "files" | "except" => {}
            // Names of files and variables are values too: they may have dots in them.
            "changed" => pairs("changed", value, directory, &mut flat),
            "vault" => {
                for (key, value) in value.as_object().unwrap() {
                    match key.as_str() {
                        "variables" => pairs("vault.variables", value, directory, &mut flat),
                        _ => walk(&format!("vault.{key}"), value, directory, &mut flat),
                    }
                }
            }
            _ => walk(key, value, directory, &mut flat),
        }
    }
    flat
}

/// An object whose names are data: `path.0.key`, `path.0.value`.
fn pairs(path: &str, value: &Value, directory: &Path, into: &mut Flat) {
    let members = value.as_object().unwrap();
    into.insert(format!("{path}.count"), members.len().to_string().into_bytes());
    for (at, (key, value)) in members.iter().enumerate() {
        into.insert(format!("{path}.{at}.key"), key.clone().into_bytes());
        into.insert(format!("{path}.{at}.value"), bytes(value, directory).unwrap());
    }
}

/// `"text"`, `{"hex": "00ff"}` or `{"repeat": "ab", "times": 3}`; `{dir}` in a text is the case's
/// directory.
fn bytes(value: &Value, directory: &Path) -> Option<Vec<u8>> {
    if let Some(text) = value.as_str() {
        return Some(text.replace("{dir}", directory.to_str().unwrap()).into_bytes());
    }
    if let Some(hex) = value["hex"].as_str() {
        return Some((0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect());
    }
    let (repeated, times) = (value["repeat"].as_str()?, value["times"].as_u64()?);
    Some(repeated.repeat(usize::try_from(times).unwrap()).into_bytes())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn show(flat: &Flat) -> String {
    let short = |value: &Vec<u8>| String::from_utf8_lossy(&value[..value.len().min(120)]).into_owned();
    let entries: Vec<_> = flat.iter().map(|(key, value)| format!("{key} = {:?}", short(value))).collect();
    format!("{{{}}}", entries.join(", "))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance")
}
