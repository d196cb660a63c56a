//! From what is written to what it means.

use core::ops::Range;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use crate::column_spec::{ColumnSpec, ContextTemplate};
use crate::database::{DatabaseLocation, PostgresUrl, sqlite_path};
use crate::error::{Error, Place, Result};
use crate::file;
use crate::follow::{DEFAULT_FOLLOW, FOLLOW};
use crate::format::Format;
use crate::glob;
use crate::key::Trim;
use crate::keyring::KeyringKind;
use crate::store::{DEFAULT_KEEP, NAME as STORE};
use crate::toml_text;

use super::text::{self, Text};
use super::{KeySource, KeyringSpec, MAIN, Manifest, StateLocation, StoreLocation, StoreSpec};

/// Reads the parts of one `vault.toml`. Its errors say where, and repeat no value.
pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Reader<'_> {
    pub(super) fn manifest(&self, raw: &text::File, profile: Option<&str>) -> Result<Manifest> {
        if *raw.version.get_ref() != 1 {
            return Err(self.wrong(&raw.version, "this release reads `version = 1` only"));
        }
        if let Some(nodes) = raw.vault.nodes.as_ref().filter(|nodes| *nodes.get_ref() == 0) {
            return Err(self.wrong(nodes, "`nodes` counts the processes that hold keys, and is at least 1"));
        }
        let preset = raw.vault.preset.as_ref().map(|preset| self.preset(preset)).transpose()?.unwrap_or_default();
        if let Some(stack) = raw.vault.stack.as_ref().filter(|stack| !is_name(stack.get_ref())) {
            return Err(self.wrong(stack, "a stack's name is at most 64 letters, digits and . _ -"));
        }
        let store = raw.store.as_ref().map(|store| self.store(store, raw)).transpose()?;
        let mut secrets = self.secrets(&raw.secrets)?;
        for (name, change) in &raw.profiles {
            let mut changed = raw.secrets.clone();
            for (name, change) in &change.secrets {
                let base = changed.remove(name).unwrap_or_default();
                changed.insert(name.clone(), base.with(change));
            }
            // Every profile is read, so that a mistake in one shows before it is used.
            let changed = self.secrets(&changed)?;
            if profile == Some(name) {
                secrets = changed;
            }
        }
        if let Some(profile) = profile.filter(|profile| !raw.profiles.contains_key(*profile)) {
            let reason = format!("no profile \"{profile}\" is declared");
            return Err(Error::Config { place: Place::file(self.path), reason });
        }
        let mut manifest = Manifest {
            path: self.path.to_owned(),
            app: raw.vault.app.clone(),
            nodes: raw.vault.nodes.as_ref().map(|nodes| *nodes.get_ref()),
            follow: raw.vault.follow.as_ref().map_or(Ok(DEFAULT_FOLLOW), |written| {
                let follow = duration(written.get_ref()).filter(|follow| FOLLOW.contains(follow));
                follow.ok_or_else(|| {
                    self.wrong(written, "`follow` is a time from \"100ms\" to \"60s\", in milliseconds or seconds")
                })
            })?,
            preset,
            stack: raw.vault.stack.as_ref().map(|stack| stack.get_ref().clone()),
            store,
            keyrings: self.keyrings(&raw.keyring)?,
            secrets,
            columns: Vec::new(),
        };
        if matches!(manifest.store, None | Some(StoreSpec { location: StoreLocation::File(_), .. }))
            && let Some(state) = raw
                .keyring
                .values()
                .filter_map(|keyring| keyring.state.as_ref())
                .find(|state| state.get_ref() == "store")
        {
            return Err(self.wrong(state, "states are in the database of a [store], and none is declared; name a file"));
        }
        for column in &raw.column {
            let spec = self.column(column.get_ref())?;
            if manifest.columns.iter().any(|other| other.name == spec.name) {
                return Err(self.wrong(&column.get_ref().name, "another column has the same name"));
            }
            self.check_keyrings(&manifest, column.get_ref(), &spec)?;
            manifest.columns.push(spec);
        }
        self.trim(&mut manifest, raw)?;
        self.no_default_keys(&manifest, raw)?;
        Ok(manifest)
    }

    /// A key that stands in a configuration is no key.
    fn no_default_keys(&self, manifest: &Manifest, raw: &text::File) -> Result<()> {
        let of_profiles = raw.profiles.values().flat_map(|profile| &profile.secrets);
        for (name, secret) in raw.secrets.iter().chain(of_profiles) {
            let is_key = || manifest.keys_in_secrets().any(|key| key.as_str() == name.get_ref());
            if secret.default.is_some() && is_key() {
                return Err(self.wrong(name, "a keyring takes its key from this secret, and a key has no `default`"));
            }
            let Some(keyring) = &secret.key_of else { continue };
            if !manifest.keyrings.contains_key(keyring.get_ref()) {
                return Err(self.wrong(keyring, "no [keyring] of this name is declared"));
            }
            if is_key() {
                return Err(
                    self.wrong(keyring, "a keyring takes its key from this secret, which cannot be the key of one")
                );
            }
        }
        Ok(())
    }

    /// An error at the place of what was read there.
    pub(super) fn wrong<T>(&self, at: &Spanned<T>, reason: impl Into<String>) -> Error {
        let Range { start, .. } = at.span();
        Error::Config { place: toml_text::place_of(self.path, self.text, start), reason: reason.into() }
    }

    /// A path, relative to the directory of the file.
    pub(super) fn path(&self, written: &Text) -> Result<PathBuf> {
        self.relative(written, written.get_ref())
    }

    fn relative(&self, at: &Text, path: &str) -> Result<PathBuf> {
        if path.is_empty() || path.contains('\0') {
            return Err(self.wrong(at, "the path is empty or holds a NUL character"));
        }
        Ok(file::directory_of(self.path).join(path))
    }

    fn store(&self, raw: &text::Store, file: &text::File) -> Result<StoreSpec> {
        let url = &raw.url;
        let location = match (url.get_ref().split_once(':'), self.sqlite(url)?) {
            (_, Some(path)) => StoreLocation::Sqlite(path),
            (Some(("file", path)), _) => StoreLocation::File(self.relative(url, path)?),
            _ => match self.server(url)? {
                Some(DatabaseLocation::Postgres(at)) => StoreLocation::Postgres(at),
                Some(DatabaseLocation::Secret(name)) => StoreLocation::Secret(name),
                _ => {
                    return Err(self.wrong(
                        url,
                        "it is none of \"file:PATH\", \"sqlite:PATH\", \"secret:NAME\" and \"postgresql://…\"",
                    ));
                }
            },
        };
        if !file.keyring.keys().any(|name| name.get_ref() == MAIN) {
            return Err(self.wrong(url, "a store needs [keyring.main], under which its secrets are sealed"));
        }
        if let Some(column) = file.column.iter().find(|column| column.get_ref().name.get_ref() == STORE) {
            return Err(
                self.wrong(&column.get_ref().name, "\"store\" is the name of the store; give the column another")
            );
        }
        Ok(StoreSpec { location, keep: raw.keep.unwrap_or(DEFAULT_KEEP) })
    }

    /// The file of an SQLite database, where one is written.
    fn sqlite(&self, written: &Text) -> Result<Option<PathBuf>> {
        let Some(path) = sqlite_path(written.get_ref()) else { return Ok(None) };
        let path = path.map_err(|reason| self.wrong(written, reason))?;
        self.relative(written, path).map(Some)
    }

    /// Where a server is, or the secret that says so.
    fn server(&self, written: &Text) -> Result<Option<DatabaseLocation>> {
        match written.get_ref().split_once(':') {
            Some(("secret", secret)) => {
                self.name(&Spanned::new(written.span(), secret.to_owned())).map(DatabaseLocation::Secret).map(Some)
            }
            Some((scheme, _)) if scheme.starts_with("postgres") => {
                let url = PostgresUrl::parse(written.get_ref()).map_err(|reason| self.wrong(written, reason))?;
                if url.has_password() {
                    return Err(self.wrong(
                        written,
                        "a password does not belong here; put the URL into a secret, and name that as \"secret:NAME\"",
                    ));
                }
                Ok(Some(DatabaseLocation::Postgres(url)))
            }
            _ => Ok(None),
        }
    }

    fn keyrings(&self, raw: &BTreeMap<Text, text::Keyring>) -> Result<BTreeMap<String, KeyringSpec>> {
        let mut keyrings = BTreeMap::new();
        let mut states = BTreeSet::new();
        for (name, keyring) in raw {
            let spec = self.keyring(name, keyring)?;
            let file = spec.state.as_ref().and_then(StateLocation::file);
            if let (Some(state), Some(file)) = (&keyring.state, file)
                && !states.insert(file.to_owned())
            {
                return Err(self.wrong(state, "another keyring has the same state file"));
            }
            keyrings.insert(name.get_ref().clone(), spec);
        }
        Ok(keyrings)
    }

    fn keyring(&self, name: &Text, raw: &text::Keyring) -> Result<KeyringSpec> {
        if !is_name(name.get_ref()) {
            return Err(self.wrong(name, "a keyring's name is at most 64 letters, digits and . _ -"));
        }
        let kind = match raw.kind.as_ref().map(|kind| (kind, kind.get_ref().as_str())) {
            None | Some((_, "kek")) => KeyringKind::Kek,
            Some((kind, "text")) if name.get_ref() == MAIN => {
                return Err(self.wrong(
                    kind,
                    "[keyring.main] seals tokens and is of kind \"kek\"; give key texts a keyring of another name",
                ));
            }
            Some((_, "text")) => KeyringKind::Text,
            Some((kind, _)) => return Err(self.wrong(kind, "the kinds are \"kek\" and \"text\"")),
        };
        if raw.sources.get_ref().is_empty() {
            return Err(self.wrong(&raw.sources, "no source is given; one is like \"file:/run/secrets/vault_kek_*\""));
        }
        let source = |written: &Text| match written.get_ref().split_once(':') {
            Some(("file", path)) if glob::is_too_wide(Path::new(path)) => {
                Err(self.wrong(written, "only the file name of a source may have * or ?, its directories may not"))
            }
            Some(("file", path)) => {
                let path = self.relative(written, path)?;
                match path.file_name() {
                    Some(_) => Ok(KeySource::File(path)),
                    None => Err(self.wrong(written, "it ends without a file name")),
                }
            }
            Some(("secret", secret)) => {
                self.name(&Spanned::new(written.span(), secret.to_owned())).map(KeySource::Secret)
            }
            Some(("keyring", item)) => self.os_keyring_item(written, item).map(KeySource::OsKeyring),
            _ => Err(self.wrong(written, "a source is \"file:PATH\", \"secret:NAME\" or \"keyring:SERVICE/ACCOUNT\"")),
        };
        let state = match &raw.state {
            Some(state) if state.get_ref() == "store" => Some(StateLocation::Store),
            Some(state) => Some(StateLocation::File(self.path(state)?)),
            None => None,
        };
        if let Some(required) = raw.require_backup.as_ref().filter(|required| *required.get_ref()) {
            return Err(self.wrong(required, "verified backups of keys are not supported by this build; leave it out, and back up each key's file before it is promoted"));
        }
        Ok(KeyringSpec {
            name: name.get_ref().clone(),
            kind,
            sources: raw.sources.get_ref().iter().map(source).collect::<Result<_>>()?,
            state,
            min_generation: raw.min_generation,
            trim: Trim::default(),
            declared_in: self.path.to_owned(),
        })
    }

    fn column(&self, raw: &text::Column) -> Result<ColumnSpec> {
        if !is_name(raw.name.get_ref()) {
            return Err(self.wrong(&raw.name, "a column's name is at most 64 letters, digits and . _ -"));
        }
        let database = match self.sqlite(&raw.database)? {
            Some(path) => DatabaseLocation::Sqlite(path),
            None => self.server(&raw.database)?.ok_or_else(|| {
                self.wrong(&raw.database, "it is none of \"sqlite:PATH\", \"secret:NAME\" and \"postgresql://…\"")
            })?,
        };
        let mut row = Vec::new();
        for name in raw.row.get_ref() {
            let column = self.identifier(name)?;
            if column == *raw.value.get_ref() || row.contains(&column) {
                return Err(
                    self.wrong(name, "it is named twice; `row` takes distinct columns and not that of the value")
                );
            }
            row.push(column);
        }
        if row.is_empty() {
            return Err(self.wrong(&raw.row, "`row` names no column; it takes those that identify a row"));
        }
        let forbidden = |member: &&Text| member.get_ref().is_empty() || member.get_ref().contains(['"', '\\', '\0']);
        if let Some(member) = raw.member.as_ref().filter(forbidden) {
            return Err(self.wrong(member, "a member's name is not empty and has no quote, backslash or NUL"));
        }
        let (reads, writes) = self.formats(raw)?;
        let keyring = match &raw.keyring {
            Some(keyring) => keyring.get_ref().clone(),
            None if writes == Format::Vs1 => MAIN.to_owned(),
            None => {
                return Err(self.wrong(
                    &raw.writes,
                    "`keyring` is missing; it names the keyring, of kind \"text\", of this format",
                ));
            }
        };
        Ok(ColumnSpec {
            name: raw.name.get_ref().clone(),
            database,
            table: self.identifier(&raw.table)?,
            row,
            value: self.identifier(&raw.value)?,
            member: raw.member.as_ref().map(|member| member.get_ref().clone()),
            reads,
            writes,
            keyring,
            reads_keyring: raw.reads_keyring.as_ref().map(|keyring| keyring.get_ref().clone()),
            context: self.context(raw)?,
            filter: raw.filter.clone().filter(|condition| !condition.trim().is_empty()),
            immutable: raw.immutable,
            linked: raw.linked,
        })
    }

    fn identifier(&self, written: &Text) -> Result<String> {
        match written.get_ref() {
            name if name.is_empty() || name.contains('\0') => {
                Err(self.wrong(written, "the name is empty or holds a NUL character"))
            }
            name => Ok(name.clone()),
        }
    }

    /// What `reads` and `writes` say. Tokens are always read where they are written.
    fn formats(&self, raw: &text::Column) -> Result<(Vec<Format>, Format)> {
        let format = |written: &Text| {
            written.get_ref().parse::<Format>().map_err(|_| {
                let known: Vec<_> = Format::ALL.iter().map(|format| format.as_str()).collect();
                self.wrong(written, format!("unknown format; known are {}", known.join(", ")))
            })
        };
        let mut reads = Vec::new();
        for written in raw.reads.get_ref() {
            let format = format(written)?;
            if reads.contains(&Format::Plaintext) {
                return Err(self.wrong(written, "\"plaintext\" fits every value, so it is the last of `reads`"));
            }
            if reads.contains(&format) {
                return Err(self.wrong(written, "the format is listed twice"));
            }
            reads.push(format);
        }
        if reads.is_empty() {
            return Err(self.wrong(&raw.reads, "`reads` lists no format; it takes those that values may be in"));
        }
        let writes = format(&raw.writes)?;
        if !writes.writable() {
            return Err(self.wrong(&raw.writes, format!("\"{writes}\" is read only; nothing is written in it")));
        }
        if !reads.contains(&writes) {
            if writes != Format::Vs1 {
                return Err(self.wrong(&raw.writes, "what is written must be read too; list the format in `reads`"));
            }
            reads.insert(0, writes);
        }
        Ok((reads, writes))
    }

    fn context(&self, raw: &text::Column) -> Result<ContextTemplate> {
        let text::Context { tenant, name, purpose, extra } = raw.context.get_ref();
        let fixed = [("tenant", tenant), ("name", name), ("purpose", purpose)];
        let fixed = fixed.into_iter().filter_map(|(field, template)| Some((field.to_owned(), template.as_ref()?)));
        let mut context = ContextTemplate::default();
        for (field, template) in
            fixed.chain(extra.iter().map(|(key, template)| (format!("extra.{}", key.get_ref()), template)))
        {
            context = context.with(&field, template.get_ref()).map_err(|reason| self.wrong(template, reason))?;
        }
        if context.columns().contains(raw.value.get_ref()) {
            return Err(self.wrong(&raw.context, "the context is made of the value itself, which changes"));
        }
        Ok(context)
    }

    /// Whether the keyrings that a column names exist and hold the keys that its formats need.
    fn check_keyrings(&self, manifest: &Manifest, raw: &text::Column, spec: &ColumnSpec) -> Result<()> {
        for named in [&raw.keyring, &raw.reads_keyring].into_iter().flatten() {
            if !manifest.keyrings.contains_key(named.get_ref()) {
                return Err(self.wrong(named, "no [keyring] of this name is declared"));
            }
        }
        let wanted = if spec.writes == Format::Vs1 { KeyringKind::Kek } else { KeyringKind::Text };
        let at = raw.keyring.as_ref().unwrap_or(&raw.writes);
        match manifest.keyrings.get(&spec.keyring) {
            None => return Err(self.wrong(at, "[keyring.main] is not declared, and no other `keyring` is named")),
            Some(keyring) if keyring.kind != wanted => {
                let reason = format!(
                    "`keyring` must name a keyring of kind \"{}\" for what `writes` says; the keyring for other formats goes to `reads_keyring`",
                    wanted.as_str()
                );
                return Err(self.wrong(at, reason));
            }
            Some(_) => {}
        }
        let same_kind =
            |name: &&Text| manifest.keyrings.get(name.get_ref()).is_some_and(|keyring| keyring.kind == wanted);
        if let Some(other) = raw.reads_keyring.as_ref().filter(same_kind) {
            let reason = "`reads_keyring` is of the same kind as `keyring` and would never be used; a column has one keyring for tokens and one for legacy formats";
            return Err(self.wrong(other, reason));
        }
        for (format, written) in spec.reads.iter().rev().zip(raw.reads.get_ref().iter().rev()) {
            if *format != Format::Plaintext {
                manifest
                    .pick(spec, *format)
                    .map_err(|reason| self.wrong(raw.reads_keyring.as_ref().unwrap_or(written), reason))?;
            }
        }
        Ok(())
    }

    /// Finds what the applications of each keyring of key texts trim.
    fn trim(&self, manifest: &mut Manifest, raw: &text::File) -> Result<()> {
        let mut trims: BTreeMap<String, Trim> = BTreeMap::new();
        for (spec, written) in manifest.columns.iter().zip(&raw.column) {
            for format in spec.reads.iter().filter(|format| format.is_legacy()) {
                let Ok(keyring) = manifest.pick(spec, *format) else { continue };
                if *trims.entry(keyring.name.clone()).or_insert(format.trim()) != format.trim() {
                    let reason = "its formats trim key texts differently than others of the same keyring; give them a keyring of their own";
                    return Err(self.wrong(&written.get_ref().reads, reason));
                }
            }
        }
        for (name, trim) in trims {
            if let Some(keyring) = manifest.keyrings.get_mut(&name) {
                keyring.trim = trim;
            }
        }
        Ok(())
    }
}

/// A number of milliseconds or seconds.
fn duration(text: &str) -> Option<Duration> {
    let number = |digits: &str| Some(digits).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?.parse().ok();
    match text.strip_suffix("ms") {
        Some(digits) => number(digits).map(Duration::from_millis),
        None => number(text.strip_suffix('s')?).map(Duration::from_secs),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
