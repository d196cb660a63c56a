//! `import` and `export`: secrets of a store as one file, or one file each.

mod environment;

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::json;
use vault_core::dotenv::{self, Dialect};
use vault_core::{
    EntryName, Error, Place, SecretBytes, SecretName, SecretSpec, Vault, Version, create_directory, create_file,
    read_file,
};
use zeroize::Zeroizing;

use crate::args::{ExportArgs, Global, ImportArgs, References};
use crate::failure::{Failure, Outcome};
use crate::init;
use crate::input;
use crate::output::Output;

/// How secrets stand in a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// A directory with a file for each.
    Dir,
    /// An environment file.
    Env(Dialect),
    /// One JSON object of names and texts.
    Json,
}

impl core::str::FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "dir" => Ok(Self::Dir),
            "json" => Ok(Self::Json),
            _ => text.parse().map(Self::Env).map_err(|_| {
                let dialects: Vec<_> = Dialect::ALL.iter().map(|dialect| dialect.as_str()).collect();
                format!("known are json, dir, {}", dialects.join(", "))
            }),
        }
    }
}

/// Secrets that were read, in the order of their names.
pub(crate) type Secrets = BTreeMap<SecretName, SecretBytes>;

/// What was read, and what people should know about it.
#[derive(Default)]
pub(crate) struct Imported {
    pub(crate) secrets: Secrets,
    pub(crate) notes: Vec<String>,
}

/// What vault.toml says of a secret.
type Declared = (SecretName, SecretSpec);

/// Longest file that is imported, in bytes.
const MAX_IMPORT: usize = 16 << 20;

/// `vault import`.
pub(crate) fn import(args: &ImportArgs, global: &Global, output: &mut Output) -> Outcome {
    let vault = input::vault(global)?;
    let declared: Vec<Declared> = vault.manifest().secrets().map(|(name, spec)| (name.clone(), spec.clone())).collect();
    let mut known: Vec<SecretName> = declared.iter().map(|(name, _)| name.clone()).collect();
    if let Ok(store) = vault.store()
        && store.exists()?
    {
        known.extend(store.names()?.into_iter().filter(|name| name.tenant().is_none()).map(|name| name.name().clone()));
    }
    let Imported { mut secrets, notes } = read(&args.file, args.format, args.references, &declared, &known)?;
    notes.iter().for_each(|note| output.note(note));
    keep_only(&args.only, &mut secrets)?;
    if args.only.is_empty() {
        ask_about_settings(&declared, &mut secrets, output);
    }
    for (name, spec) in &declared {
        if let Some(value) = secrets.get(name) {
            input::fits(name, spec, value.expose_secret())?;
        }
    }
    let mut new = Vec::new();
    let mut same = 0;
    for (name, value) in secrets {
        let name = EntryName::new(name);
        match vault.stored(&name, Version::Current) {
            Ok(known) if known.value.expose_secret() == value.expose_secret() => same += 1,
            Ok(_) | Err(Error::NotFound { .. }) => new.push((name, value)),
            Err(other) => return Err(other.into()),
        }
    }
    if !args.dry_run {
        vault.set(&new, None)?;
        tell_what_remains(&args.file, vault.manifest().path(), output)?;
    }
    let text = format!("{} secrets {}set, {same} unchanged", new.len(), if args.dry_run { "would be " } else { "" });
    let names: Vec<_> = new.iter().map(|(name, _)| name.name().as_str()).collect();
    output.result(&text, json!({ "set": names, "unchanged": same, "dry_run": args.dry_run }))?;
    Ok(0)
}

/// Leaves out what was not named.
fn keep_only(only: &[String], secrets: &mut Secrets) -> Result<(), Failure> {
    let only = only.iter().map(|name| SecretName::parse(name)).collect::<Result<Vec<_>, _>>()?;
    if let Some(name) = only.iter().find(|name| !secrets.contains_key(*name)) {
        return Err(Error::NotFound { what: format!("secret {name} in what is imported") }.into());
    }
    secrets.retain(|name, _| only.is_empty() || only.contains(name));
    Ok(())
}

/// An environment file has settings too, which are no secrets. What is declared is wanted.
fn ask_about_settings(declared: &[Declared], secrets: &mut Secrets, output: &mut Output) {
    let is_declared = |name: &SecretName| declared.iter().any(|(known, _)| known == name);
    let settings: Vec<SecretName> = secrets
        .iter()
        .filter(|(name, value)| !is_declared(name) && environment::is_setting(name, value))
        .map(|(name, _)| name.clone())
        .collect();
    if settings.is_empty() {
        return;
    }
    let names: Vec<_> = settings.iter().map(SecretName::as_str).collect();
    let names = names.join(", ");
    match input::ask(&format!("{names} look like settings and not like secrets; import them too?")) {
        Some(true) => {}
        Some(false) => secrets.retain(|name, _| !settings.contains(name)),
        None => output.note(&format!("{names} look like settings and not like secrets; --only leaves them out")),
    }
}

/// The file that was imported still has everything in clear: it is named, and kept out of version
/// control where it is beside the configuration or below it.
pub(crate) fn tell_what_remains(file: &Path, config: &Path, output: &mut Output) -> Result<(), Error> {
    let Ok(real) = file.canonicalize() else { return Ok(()) };
    if real.starts_with("/dev") || real.starts_with("/proc") || !(real.is_file() || real.is_dir()) {
        return Ok(());
    }
    output.note(&format!("{} still has the secrets in clear; remove it when nobody reads it any more", file.display()));
    let home = config.canonicalize().ok().and_then(|config| config.parent().map(Path::to_owned));
    match home.as_deref().and_then(|home| Some((home, real.strip_prefix(home).ok()?))) {
        Some((home, within)) if !within.as_os_str().is_empty() => {
            let slash = if real.is_dir() { "/" } else { "" };
            init::ignore(home, &[format!("/{}{slash}", within.display())])
        }
        _ => Ok(()),
    }
}

/// Reads secrets in a shape, or in the one that fits the file. `known` are the names that there are.
pub(crate) fn read(
    file: &Path,
    shape: Option<Shape>,
    references: References,
    declared: &[Declared],
    known: &[SecretName],
) -> Result<Imported, Failure> {
    let shape = match shape {
        Some(shape) => shape,
        None if file.is_dir() => Shape::Dir,
        None if file.extension().is_some_and(|extension| extension == "json") => Shape::Json,
        None => return environment::read(file, &text_of(file)?, None, references),
    };
    if shape != Shape::Env(Dialect::Python) && references.expand {
        return Err(Failure::usage("--expand goes with --format dotenv-python"));
    }
    match shape {
        Shape::Dir => read_directory(file, declared, known),
        Shape::Json => Ok(Imported { secrets: read_json(file)?, ..Imported::default() }),
        Shape::Env(dialect) => environment::read(file, &text_of(file)?, Some(dialect), references),
    }
}

fn read_directory(directory: &Path, declared: &[Declared], known: &[SecretName]) -> Result<Imported, Failure> {
    let Imported { mut secrets, mut notes } = Imported::default();
    let mut waiting = vec![directory.to_owned()];
    let root = real(directory)?;
    let mut seen = BTreeSet::new();
    while let Some(at) = waiting.pop() {
        // Links are followed while they stay in the directory, and not twice to one place.
        let place = real(&at)?;
        if !place.starts_with(&root) {
            return Err(wrong(&at, "it is a link that leaves the directory; name what it leads to").into());
        }
        if !seen.insert(place) {
            return Err(wrong(&at, "it is a link to a directory that is read already; remove it").into());
        }
        let fail = |source| Error::Io { action: "list", path: at.clone(), source };
        for entry in fs::read_dir(&at).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let name = entry_name(&path);
            // Kubernetes keeps what a mount's links lead to in names of this kind.
            if name.starts_with("..") {
                continue;
            }
            if name.starts_with('.') || LEFT_OVER.iter().any(|end| name.ends_with(end)) {
                notes.push(format!("{} is no secret, and was passed over", path.display()));
                continue;
            }
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let name = name_of(path.strip_prefix(directory).unwrap_or(&path), known)
                .map_err(|error| wrong(&path, error.to_string()))?;
            if !known.contains(&name) && !path.ends_with(name.as_str()) {
                notes.push(format!("{} is secret {name}", path.display()));
            }
            let content = read_file(&path, MAX_IMPORT)?;
            let kind = declared.iter().find(|(known, _)| *known == name).map(|(_, spec)| spec.kind);
            let value = match (kind, input::is_text(content.expose_secret())) {
                (Some(kind), _) if !kind.loses_line_break() => content,
                (Some(_), false) => {
                    return Err(wrong(&path, format!("{name} is declared as text, and it is none")).into());
                }
                (None, false) => content,
                (_, true) => SecretBytes::copy_of(kind.unwrap_or_default().secret_in(content.expose_secret())),
            };
            if secrets.insert(name.clone(), not_empty(&path, &name, value)?).is_some() {
                return Err(wrong(&path, format!("another file is secret {name} too")).into());
            }
        }
    }
    Ok(Imported { secrets, notes })
}

/// Where a path leads to.
fn real(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(|source| Error::Io { action: "list", path: path.to_owned(), source })
}

/// The secret that a file holds: the known one whose file this is; else the file's name, in
/// capitals where it has none of its own, because `db_password` is the file of DB_PASSWORD.
fn name_of(file: &Path, known: &[SecretName]) -> Result<SecretName, Error> {
    let file = file.to_string_lossy();
    // Docker's own guide calls the file of DB_PASSWORD db_password.txt.
    let file = match file.strip_suffix(".txt") {
        Some(without) if !known.iter().any(|name| name.as_str() == file || file_of(name) == file) => without.into(),
        _ => file,
    };
    let by_file = || {
        let mut same = known.iter().filter(|name| file_of(name) == file);
        same.next().filter(|_| same.next().is_none())
    };
    match known.iter().find(|name| name.as_str() == file).or_else(by_file) {
        Some(name) => Ok(name.clone()),
        None if file.contains(|c: char| c.is_ascii_uppercase()) => SecretName::parse(&file),
        None => SecretName::parse(&file.to_ascii_uppercase()),
    }
}

/// The name of a secret's file: in lower case, as it is mounted; as it is where it has capitals
/// and small letters, because then lower case would lose which is which.
fn file_of(name: &SecretName) -> String {
    let mixed = name.as_str().contains(|c: char| c.is_ascii_lowercase());
    if mixed { name.as_str().to_owned() } else { name.file_name() }
}

fn entry_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// How names end of what editors and people leave behind.
const LEFT_OVER: [&str; 4] = ["~", ".bak", ".orig", ".swp"];

fn read_json(file: &Path) -> Result<Secrets, Failure> {
    let text = text_of(file)?;
    let object: Pairs = serde_json::from_str(&text).map_err(|error| Error::Config {
        place: Place::at(file, error.line(), error.column()),
        reason: "it is not one JSON object of names and texts".to_owned(),
    })?;
    let mut secrets = Secrets::new();
    for (name, value) in object.0 {
        let name = SecretName::parse(&name).map_err(|error| wrong(file, error.to_string()))?;
        if value.contains('\0') {
            return Err(wrong(file, format!("the value of {name} holds NUL, which no text does")).into());
        }
        let value = not_empty(file, &name, SecretBytes::copy_of(value.as_bytes()))?;
        if secrets.insert(name.clone(), value).is_some() {
            // Programs differ in which of them they take.
            return Err(wrong(file, format!("{name} is there twice")).into());
        }
    }
    Ok(secrets)
}

/// The members of a JSON object in their order, names that are there twice among them.
struct Pairs(Vec<(String, Zeroizing<String>)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = members.next_entry::<String, String>()? {
                    pairs.push((name, Zeroizing::new(value)));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// `vault export`.
pub(crate) fn export(args: &ExportArgs, global: &Global, output: &mut Output) -> Outcome {
    let vault = input::vault(global)?;
    let names: Vec<SecretName> = if args.only.is_empty() {
        let names = vault.store()?.names()?.into_iter();
        names.filter(|name| name.tenant().is_none()).map(|name| name.name().clone()).collect()
    } else {
        args.only.iter().map(|name| SecretName::parse(name)).collect::<Result<_, _>>()?
    };
    match (args.format, &args.out) {
        (Shape::Dir, None) => Err(Failure::usage("--format dir needs --out DIRECTORY")),
        (Shape::Dir, Some(out)) => {
            write_directory(&vault, &names, out)?;
            told(names.len(), out, output)
        }
        (shape, out) => {
            let text = render(&vault, &names, shape)?;
            match out {
                Some(out) => {
                    create_file(out, &text, 0o600)?;
                    told(names.len(), out, output)
                }
                None => {
                    output.bytes(&text)?;
                    Ok(0)
                }
            }
        }
    }
}

fn told(count: usize, out: &Path, output: &mut Output) -> Outcome {
    let text = format!("{count} secrets in {}", out.display());
    output.result(&text, json!({ "exported": count, "out": out.display().to_string() }))?;
    Ok(0)
}

fn render(vault: &Vault, names: &[SecretName], shape: Shape) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut out = Zeroizing::new(Vec::new());
    let mut first = true;
    let mut variables = BTreeMap::new();
    for name in names {
        if matches!(shape, Shape::Env(_))
            && let Some(other) = variables.insert(variable(name)?, name)
            && other != name
        {
            return Err(Failure::usage(format!(
                "{name} and {other} are both the variable {}, and a reader would take one of them",
                name.variable()
            ))
            .with_hint("--format json keeps both names, and --only leaves one out"));
        }
        let secret = vault.secret(name.as_str())?.value;
        let text = core::str::from_utf8(secret.expose_secret()).map_err(|_| {
            Failure::from(Error::Malformed { what: "secret for this format: it is not text" })
                .with_hint(format!("{name} can be exported with --format dir"))
        })?;
        let entry = match shape {
            Shape::Env(dialect) => dotenv::write(&variable(name)?, text, dialect)
                .map_err(|error| Failure::from(error).with_hint(format!("it is {name} that cannot be written")))?,
            _ => {
                let quoted = Zeroizing::new(serde_json::to_string(text).unwrap_or_default());
                let before = if first { "{" } else { "," };
                let entry = Zeroizing::new(format!("{before}\n  {}: {}", json!(name.as_str()), *quoted));
                SecretBytes::copy_of(entry.as_bytes())
            }
        };
        first = false;
        // A buffer that grows would leave copies behind.
        let mut larger = Zeroizing::new(Vec::with_capacity(out.len() + entry.len() + 8));
        larger.extend_from_slice(&out);
        larger.extend_from_slice(entry.expose_secret());
        out = larger;
    }
    if shape == Shape::Json {
        out.extend_from_slice(if first { b"{}\n" } else { b"\n}\n" });
    }
    Ok(out)
}

/// The name as a variable, which environment files have.
fn variable(name: &SecretName) -> Result<String, Failure> {
    let variable = name.variable();
    if variable.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Failure::usage(format!(
            "{name} begins with a digit, which no variable does; export it with --format json"
        )));
    }
    Ok(variable)
}

/// One file for each secret, which only its owner can read.
fn write_directory(vault: &Vault, names: &[SecretName], out: &Path) -> Result<(), Failure> {
    let mut files: BTreeMap<PathBuf, &SecretName> = BTreeMap::new();
    for name in names {
        if let Some(other) = files.insert(out.join(file_of(name)), name) {
            return Err(Failure::usage(format!("{name} and {other} have the same file name")));
        }
    }
    for (path, name) in &files {
        let above = path.ancestors().skip(1).find_map(|above| files.get(above));
        if let Some(other) = above {
            return Err(Failure::usage(format!("the file of {other} would be the directory of {name}")));
        }
    }
    let mut values = Vec::new();
    for (path, name) in &files {
        let value = vault.secret(name.as_str())?.value;
        let kind = vault.manifest().secrets().find(|(known, _)| known == name).map(|(_, spec)| spec.kind);
        let is_text = kind.is_some() || input::is_text(value.expose_secret());
        let read = kind.unwrap_or_default().secret_in(value.expose_secret());
        if is_text && read.len() != value.len() {
            let what = "text for a directory: who reads it removes the line break at its end";
            return Err(Failure::from(Error::Malformed { what }).with_hint(format!(
                "it is {name}; declare it with type = \"binary\", or export it with --format json"
            )));
        }
        values.push((path, value));
    }
    create_directory(out)?;
    if fs::read_dir(out).map_err(|source| Error::Io { action: "list", path: out.to_owned(), source })?.next().is_some()
    {
        return Err(Error::Refused {
            reason: format!("{} is not empty", out.display()),
            remedy: "name a directory that does not exist".to_owned(),
        }
        .into());
    }
    for (path, value) in values {
        if let Some(parent) = path.parent() {
            create_directory(parent)?;
        }
        create_file(path, value.expose_secret(), 0o600)?;
    }
    Ok(())
}

fn text_of(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let content = input::read_file_or_stream(file, MAX_IMPORT)?;
    match core::str::from_utf8(&content) {
        Ok(text) if !text.contains('\0') => Ok(Zeroizing::new(text.to_owned())),
        _ => Err(wrong(file, "it is not UTF-8 text, but perhaps UTF-16; save it as UTF-8").into()),
    }
}

fn not_empty(file: &Path, name: &SecretName, value: SecretBytes) -> Result<SecretBytes, Error> {
    if value.is_empty() { Err(wrong(file, format!("{name} is empty"))) } else { Ok(value) }
}

fn wrong(file: &Path, reason: impl Into<String>) -> Error {
    Error::Config { place: Place::file(file), reason: reason.into() }
}
