//! `set`, `get`, `list`, `rm`, `rollback`: secrets by name.

use std::io::{self, IsTerminal};

use serde_json::{Value, json};
use vault_core::{Entry, EntryName, Error, Generate, SecretBytes, SecretKind, SecretName, SecretSpec, Vault, Version};
use zeroize::Zeroizing;

use crate::args::{GetArgs, Global, ListArgs, RmArgs, RollbackArgs, SetArgs};
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::output::Output;

/// Longest secret that is read from a file, in bytes.
const MAX_SECRET: usize = 16 << 20;

/// `vault set`.
pub(crate) fn set(args: &SetArgs, global: &Global, output: &mut Output) -> Outcome {
    let name = SecretName::parse(&args.name)?;
    let vault = input::vault(global)?;
    let spec = vault.manifest().secrets().find(|(declared, _)| **declared == name).map(|(_, spec)| spec);
    let value = value(args, &name, spec)?;
    if let Some(spec) = spec {
        input::fits(&name, spec, value.expose_secret())?;
    }
    let name = entry_name(name, args.tenant.as_deref())?;
    let version = if args.dry_run {
        let newest = vault.store()?.get(&name, Version::Current)?;
        newest.map_or(0, |entry| entry.key.version) + 1
    } else {
        let versions = vault.set(&[(name.clone(), value)], args.purpose.as_deref())?;
        versions.first().copied().unwrap_or_default()
    };
    let text = format!("{name}: version {version}{}", dry(args.dry_run));
    output.result(
        &text,
        json!({ "name": name.name().as_str(), "tenant": name.tenant(), "version": version, "dry_run": args.dry_run }),
    )?;
    Ok(0)
}

/// `vault get`.
pub(crate) fn get(args: &GetArgs, global: &Global, output: &mut Output) -> Outcome {
    let (name, version) = Version::parse(&args.name)?;
    let vault = match args.preset {
        Some(preset) => input::vault(global)?.with_preset(preset),
        None => input::vault(global)?,
    };
    if args.versions {
        let name = entry_name(name, args.tenant.as_deref())?;
        let versions = vault.store()?.versions(&name)?;
        if versions.is_empty() {
            return Err(Error::NotFound { what: format!("secret {name} in the store") }.into());
        }
        return show(&versions, true, output);
    }
    if args.explain {
        return explain(&vault, &name, output);
    }
    let resolved = match &args.tenant {
        Some(tenant) => vault.stored(&EntryName::of_tenant(name, tenant)?, version)?,
        None => vault.secret(&args.name)?,
    };
    for note in &resolved.notes {
        output.note(&format!("warning: {}: {note}", args.name));
    }
    if output.is_json() {
        let Ok(text) = core::str::from_utf8(resolved.value.expose_secret()) else {
            return Err(Failure::usage("the secret is not text, which --json needs; leave it out"));
        };
        let object = json!({
            "name": args.name, "value": text, "source": resolved.source.to_string(),
            "notes": texts(&resolved.notes),
        });
        output.result("", object)?;
    } else {
        output.bytes(resolved.value.expose_secret())?;
    }
    Ok(0)
}

/// Where the secret comes from, and what that shadows; never the value.
fn explain(vault: &Vault, name: &SecretName, output: &mut Output) -> Outcome {
    let found = vault.explain(name)?;
    let mut lines = vec![format!("{name}: {}", found.source)];
    lines.extend(found.shadowed.iter().map(|shadowed| format!("  shadows {shadowed}")));
    lines.extend(found.notes.iter().map(|note| format!("  {note}")));
    let object = json!({
        "name": name.as_str(), "preset": found.preset.as_str(), "source": found.source.to_string(),
        "shadows": texts(&found.shadowed), "notes": texts(&found.notes),
    });
    output.result(&lines.join("\n"), object)?;
    Ok(0)
}

fn texts(things: &[impl ToString]) -> Vec<String> {
    things.iter().map(ToString::to_string).collect()
}

/// `vault list`.
pub(crate) fn list(args: &ListArgs, global: &Global, output: &mut Output) -> Outcome {
    let vault = input::vault(global)?;
    let store = vault.store()?;
    let mut entries = Vec::new();
    let mut after = None;
    loop {
        let page = store.page(after.as_ref(), PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        entries.extend(page);
    }
    if let Some(tenant) = &args.tenant {
        entries.retain(|entry| entry.key.name.tenant() == Some(tenant));
    }
    if !args.versions {
        // Entries of a name follow each other with rising versions: the last of them is current.
        entries.reverse();
        entries.dedup_by(|older, newer| older.key.name == newer.key.name);
        entries.reverse();
    }
    show(&entries, args.versions, output)
}

fn show(entries: &[Entry], versions: bool, output: &mut Output) -> Outcome {
    let lines: Vec<String> = entries
        .iter()
        .map(|entry| {
            let key = &entry.key;
            match versions {
                true => format!("{}  version {}  {}  {}", key.name, key.version, entry.created, entry.token.kid()),
                false => key.name.to_string(),
            }
        })
        .collect();
    output.result(&lines.join("\n"), json!({ "secrets": entries.iter().map(object).collect::<Vec<_>>() }))?;
    Ok(0)
}

fn object(entry: &Entry) -> Value {
    json!({
        "name": entry.key.name.name().as_str(), "tenant": entry.key.name.tenant(), "purpose": entry.purpose,
        "version": entry.key.version, "created": entry.created.to_string(), "updated": entry.updated.to_string(),
        "kid": entry.token.kid().as_str(),
    })
}

/// `vault rm`.
pub(crate) fn rm(args: &RmArgs, global: &Global, output: &mut Output) -> Outcome {
    let (name, version) = Version::parse(&args.name)?;
    if args.all && version != Version::Current {
        return Err(Failure::usage("--all removes every version, and one was named; leave one of them out"));
    }
    let name = entry_name(name, args.tenant.as_deref())?;
    let vault = input::vault(global)?;
    let store = vault.store()?;
    let versions = store.versions(&name)?;
    let wanted = match version {
        Version::Current => versions.first(),
        Version::Previous => versions.get(1),
        Version::Number(number) => versions.iter().find(|entry| entry.key.version == number),
        _ => None,
    };
    let wanted =
        wanted.ok_or_else(|| Error::NotFound { what: format!("secret {} in the store", args.name) })?.key.version;
    let is_newest = versions.first().is_some_and(|newest| newest.key.version == wanted);
    let older = versions.len() - 1;
    if is_newest && older > 0 && !args.all {
        return Err(Error::Refused {
            reason: format!("without its newest version, secret {name} would have an older value again"),
            remedy: format!("--all removes the {older} older versions too; `vault rollback` goes back to one of them"),
        }
        .into());
    }
    let one = (!args.all).then_some(wanted);
    let removed = match args.dry_run {
        true if args.all => u64::try_from(versions.len()).unwrap_or(u64::MAX),
        true => 1,
        false => store.remove(&name, one)?,
    };
    let text =
        format!("{name}: {removed} {} removed{}", if removed == 1 { "version" } else { "versions" }, dry(args.dry_run));
    output.result(
        &text,
        json!({ "name": name.name().as_str(), "tenant": name.tenant(), "removed": removed, "dry_run": args.dry_run }),
    )?;
    Ok(0)
}

/// `vault rollback`.
pub(crate) fn rollback(args: &RollbackArgs, global: &Global, output: &mut Output) -> Outcome {
    let (name, version) = Version::parse(&args.name)?;
    let version = if version == Version::Current { Version::Previous } else { version };
    let name = entry_name(name, args.tenant.as_deref())?;
    let vault = input::vault(global)?;
    let old = vault.store()?.get(&name, version)?;
    let old = old
        .ok_or_else(|| Error::NotFound { what: format!("older version of secret {name} in the store") })?
        .key
        .version;
    let new = match args.dry_run {
        true => vault.store()?.versions(&name)?.first().map_or(0, |newest| newest.key.version) + 1,
        false => vault.roll_back(&name, Version::Number(old))?,
    };
    let text = format!("{name}: version {new} has the value of version {old}{}", dry(args.dry_run));
    output.result(&text, json!({ "name": name.name().as_str(), "tenant": name.tenant(), "version": new, "value_of": old, "dry_run": args.dry_run }))?;
    Ok(0)
}

/// The value to set: from a file, made anew, asked for on a terminal, or from standard input.
fn value(args: &SetArgs, name: &SecretName, spec: Option<&SecretSpec>) -> Result<SecretBytes, Failure> {
    let kind = spec.map(|spec| spec.kind).unwrap_or_default();
    if let Some(form) = &args.generate {
        let form = match form {
            Some(form) => *form,
            None => declared_form(spec)?,
        };
        return Ok(form.secret()?);
    }
    let (content, place) = match &args.from_file {
        Some(path) => (input::read_file_or_stream(path, MAX_SECRET)?, path.display().to_string()),
        None if io::stdin().is_terminal() => (ask(name)?, "what was typed".to_owned()),
        None => (input::read_all()?, "standard input".to_owned()),
    };
    let text = !args.raw && kind.loses_line_break();
    let value = if text { kind.secret_in(&content) } else { &content };
    if value.is_empty() {
        return Err(Failure::usage(format!("{place} is empty; nothing was set")));
    }
    if text && !input::is_text(value) {
        return Err(
            Failure::from(Error::Malformed { what: "secret: it is not text" }).with_hint("--raw takes it as it is")
        );
    }
    Ok(SecretBytes::copy_of(value))
}

/// What `--generate` makes where it names no form.
fn declared_form(spec: Option<&SecretSpec>) -> Result<Generate, Failure> {
    let Some(spec) = spec else { return Ok(Generate::Text(32)) };
    let bytes = spec.bytes.unwrap_or(32);
    match spec.kind {
        SecretKind::Text => Ok(Generate::Text(spec.min_length.unwrap_or(0).max(32))),
        SecretKind::Hex => Ok(Generate::Hex(bytes)),
        SecretKind::Base64 => Ok(Generate::Base64(bytes)),
        SecretKind::FernetKey => Ok(Generate::FernetKey),
        kind => Err(Failure::usage(format!(
            "a secret of type {} cannot be generated; give it on standard input",
            kind.as_str()
        ))),
    }
}

/// Asks twice, and shows nothing of it.
fn ask(name: &SecretName) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let prompt = |question: String| {
        rpassword::prompt_password(question)
            .map(|answer| Zeroizing::new(answer.into_bytes()))
            .map_err(|source| Failure::from(Error::Io { action: "read", path: "the terminal".into(), source }))
    };
    let first = prompt(format!("{}value of {name}: ", input::about()))?;
    if *prompt("again: ".to_owned())? != *first {
        return Err(Failure::usage("the two values differ; nothing was set"));
    }
    Ok(first)
}

fn entry_name(name: SecretName, tenant: Option<&str>) -> Result<EntryName, Error> {
    match tenant {
        Some(tenant) => EntryName::of_tenant(name, tenant),
        None => Ok(EntryName::new(name)),
    }
}

fn dry(dry_run: bool) -> &'static str {
    if dry_run { " (dry run: nothing was changed)" } else { "" }
}

/// Entries read at a time.
const PAGE: usize = 1_000;
