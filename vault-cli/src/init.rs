//! `init`: a configuration, a key and a store, where there is nothing yet.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Component, Path};

use serde_json::json;
use vault_core::{
    Config, EntryName, Error, Kind, MasterKey, Vault, append_to, create_directory, create_file, sqlite_path,
};

use crate::args::{Global, InitArgs};
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::output::Output;
use crate::transfer::{self, Imported, Secrets};

const CONFIG: &str = "vault.toml";
const KEYS: &str = "keys";
const FIRST_KEY: &str = "keys/vault_kek_1";
const STATE: &str = "main.keyring.toml";
const IGNORED: &str = ".gitignore";
/// There while `init` is at work: what it finds beside it is its own.
const MARKER: &str = ".vault-init";

/// `vault init`.
pub(crate) fn run(args: &InitArgs, global: &Global, output: &mut Output) -> Outcome {
    if args.store_only {
        return store_only(args, global, output);
    }
    if global.config.is_some() {
        return Err(Failure::usage("init writes ./vault.toml; --config goes with --store-only"));
    }
    let interrupted = Path::new(MARKER).symlink_metadata().is_ok();
    if !interrupted {
        refuse_existing(&args.store)?;
    }
    let parent = store_path(&args.store).and_then(|path| Path::new(path).parent());
    if let Some(directory) = parent.filter(|directory| *directory != Path::new("") && !directory.is_dir()) {
        return Err(Failure::usage(format!("{} is no directory; make it first", directory.display())));
    }
    let imported = match &args.import {
        Some(file) => {
            let Imported { secrets, notes } = transfer::read(file, args.format, args.references, &[], &[])?;
            notes.iter().for_each(|note| output.note(note));
            refuse_one_variable(&secrets)?;
            secrets
        }
        None => Secrets::new(),
    };
    if let Some(name) = args.store.strip_prefix("secret:")
        && imported.keys().any(|key| key.as_str().eq_ignore_ascii_case(name))
    {
        return Err(Failure::usage(format!(
            "secret {name} opens the store, and cannot be in it: take it out of the import"
        )));
    }
    if args.dry_run {
        let text = format!("{CONFIG}, {FIRST_KEY} and {} would be made, with {} secrets", args.store, imported.len());
        output.result(&text, json!({ "config": CONFIG, "key": FIRST_KEY, "store": args.store, "imported": imported.len(), "dry_run": true }))?;
        return Ok(0);
    }
    let count = imported.len();
    let config = configuration(&args.store, &imported);
    if interrupted && fs::read_to_string(CONFIG).is_ok_and(|found| found != config) {
        return Err(Error::Refused {
            reason: format!("{CONFIG} is that of an interrupted `vault init` with another store or other secrets"),
            remedy: format!("type the command as it was then, or remove {CONFIG} first"),
        }
        .into());
    }
    begin()?;
    ignore_beside(&args.store)?;
    let kid = first_key()?;
    if !Path::new(CONFIG).exists() {
        create_file(Path::new(CONFIG), config.as_bytes(), 0o644)?;
    }
    let vault = Vault::load(Config::with_profile(CONFIG, None)?.without_heartbeats())?;
    if !interrupted && store_path(&args.store).is_none() && vault.store()?.exists()? {
        // Somebody's: nothing was sealed under the key that was made for another one.
        for made in [CONFIG, FIRST_KEY, MARKER] {
            fs::remove_file(made).map_err(|source| Error::Io { action: "remove", path: made.into(), source })?;
        }
        return Err(exists(vault.store()?.location()));
    }
    vault.store()?.create()?;
    if vault.store()?.names()?.is_empty() {
        let secrets: Vec<_> = imported.into_iter().map(|(name, value)| (EntryName::new(name), value)).collect();
        vault.set(&secrets, None)?;
    }
    if let Some(file) = &args.import {
        transfer::tell_what_remains(file, Path::new(CONFIG), output)?;
    }
    fs::remove_file(MARKER).map_err(|source| Error::Io { action: "remove", path: MARKER.into(), source })?;
    let text = format!(
        "{CONFIG}: configuration\n{FIRST_KEY}: key {kid}; back it up, nothing opens without it\n{}: store with {count} secrets",
        args.store
    );
    output.result(&text, json!({ "config": CONFIG, "key": FIRST_KEY, "kid": kid, "store": args.store, "imported": count, "dry_run": false }))?;
    Ok(0)
}

/// Declarations cannot differ in spelling only.
fn refuse_one_variable(secrets: &Secrets) -> Result<(), Failure> {
    let mut names = BTreeMap::new();
    for name in secrets.keys() {
        if let Some(other) = names.insert(name.folded(), name) {
            return Err(Failure::usage(format!("{name} and {other} differ in spelling only; rename one of them")));
        }
    }
    Ok(())
}

/// The store of a configuration that was written by hand.
fn store_only(args: &InitArgs, global: &Global, output: &mut Output) -> Outcome {
    let vault = input::vault(global)?;
    let store = vault.store()?;
    if store.exists()? {
        return Err(exists(store.location()));
    }
    if !args.dry_run {
        store.create()?;
    }
    let text = format!("{} {}", store.location(), if args.dry_run { "would be made" } else { "is made, and empty" });
    output.result(&text, json!({ "store": store.location(), "dry_run": args.dry_run }))?;
    Ok(0)
}

/// The file that a store is, or that its database is; none on a server.
fn store_path(url: &str) -> Option<&str> {
    url.split_once(':').filter(|(scheme, _)| matches!(*scheme, "file" | "sqlite")).map(|(_, path)| path)
}

fn refuse_existing(store: &str) -> Result<(), Failure> {
    for path in [CONFIG, FIRST_KEY].into_iter().chain(store_path(store)) {
        match Path::new(path).symlink_metadata() {
            Ok(_) => return Err(exists(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Io { action: "find", path: path.into(), source }.into()),
        }
    }
    Ok(())
}

fn exists(what: &str) -> Failure {
    Failure {
        kind: Kind::AlreadyInitialised,
        hint: Some(
            "`vault init --store-only` makes a store that vault.toml declares and that does not exist".to_owned(),
        ),
        ..Failure::usage(format!("{what} exists; nothing was changed"))
    }
}

/// Says that what is made from now on is ours, so that an interrupted run can be typed again.
fn begin() -> Result<(), Error> {
    append_to(Path::new(MARKER), 0o600).map(drop).map_err(|source| Error::Io {
        action: "create",
        path: MARKER.into(),
        source,
    })
}

fn first_key() -> Result<String, Error> {
    let (directory, path) = (Path::new(KEYS), Path::new(FIRST_KEY));
    create_directory(directory)?;
    if path.symlink_metadata().is_err() {
        create_file(path, MasterKey::generate()?.text().expose_secret(), 0o600)?;
    }
    let content = input::key_file(path)?;
    let key = MasterKey::parse(content.expose_secret())
        .map_err(|reason| Error::KeyMalformed { place: FIRST_KEY.to_owned(), reason })?;
    Ok(key.kid().to_string())
}

/// Keeps keys, and what stands beside the files that are made, out of version control.
fn ignore_beside(store: &str) -> Result<(), Error> {
    let mut wanted = vec![format!("/{KEYS}/")];
    // Not by their endings: other programs' lock files belong into version control.
    let mut beside = |path: &str, endings: &[&str]| {
        wanted.extend(endings.iter().map(|ending| format!("/{path}{ending}")));
    };
    beside(STATE, &[".bak", ".lock", ".processes/"]);
    if let Some(path) = store_path(store)
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
    {
        beside(path, if sqlite_path(store).is_some() { &["-shm", "-wal"] } else { &[".bak", ".lock"] });
    }
    ignore(Path::new(""), &wanted)
}

/// Adds lines to the `.gitignore` of a directory that it does not have.
pub(crate) fn ignore(directory: &Path, wanted: &[String]) -> Result<(), Error> {
    let path = directory.join(IGNORED);
    let fail = |source| Error::Io { action: "write", path: path.clone(), source };
    let now = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(fail(source)),
    };
    let missing: Vec<&str> =
        wanted.iter().map(String::as_str).filter(|line| !now.lines().any(|known| known == *line)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let separator = if now.is_empty() || now.ends_with('\n') { "" } else { "\n" };
    let mut file = append_to(&path, 0o644).map_err(fail)?;
    file.write_all(format!("{separator}{}\n", missing.join("\n")).as_bytes()).map_err(fail)?;
    file.sync_all().map_err(fail)
}

fn configuration(store: &str, secrets: &Secrets) -> String {
    let mut text = format!(
        "version = 1\n\n\
         [vault]\n\
         # How many processes hold the keys, where one number is true: more are an error.\n\
         # nodes = 1\n\n\
         [keyring.main]\n\
         sources = [\"file:{KEYS}/vault_kek_*\"]\n\
         state = \"{STATE}\"\n\n\
         [store]\n\
         url = {}\n",
        json!(store)
    );
    if let Some(name) = store.strip_prefix("secret:") {
        text.push_str(&format!("\n[secrets.{}]\ntype = \"url\"\n", json!(name)));
    }
    for name in secrets.keys() {
        text.push_str(&format!("\n[secrets.{}]\n", json!(name.as_str())));
    }
    text
}
