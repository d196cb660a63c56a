//! Where secrets are found by name. The only file that reads the environment, with those below it.
#![expect(clippy::disallowed_methods, reason = "this is the file that may")]

mod environment;
mod lookup;
mod preset;
mod source;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "postgres")]
use crate::database::PostgresUrl;
use crate::error::{Error, Kind, Place, Result};
use crate::file;
use crate::glob;
use crate::key::KeyId;
use crate::keyring::KeyringKind;
use crate::manifest::{KeySource, KeyringSpec, Manifest, Piece, Preset, SecretKind, SecretSpec, pieces};
use crate::name::SecretName;
use crate::os_keyring::OsKeyring;
use crate::secret::SecretBytes;

use environment::Environment;
use lookup::{Asked, read_if_there};
use preset::{Refusal, Rules, rules};
use source::{Lookup, is_absence};

pub use source::{Explanation, Note, Resolved, Shadowed, Source};

/// Finds secrets by name.
///
/// The first source wins that has the name: the file that `vault.toml` names or the secrets that it
/// is `composed` of, the file that the variable `NAME_FILE` names, a credential of systemd, a file
/// in `/run/secrets`, with the stack's prefix or without, the store of `vault.toml`, the variable
/// `NAME`, and where `vault.toml` names an item of it the operating system's keyring; where none has
/// it, the `default` of `vault.toml`. What exists and cannot be read is an error, never a reason to
/// look further; so is `NAME` beside `NAME_FILE`. An empty variable counts as unset. A [`Preset`] replaces this rule by that of an application.
///
/// Files are read anew every time. A value from the environment stays in the process's memory,
/// where nobody can wipe it.
#[derive(Clone, Debug)]
pub struct Resolver {
    declared: BTreeMap<SecretName, SecretSpec>,
    path: PathBuf,
    preset: Preset,
    stack: Option<String>,
    /// The secrets, by folded names, that are needed before there is a store; none where there is none.
    needed_by_store: BTreeSet<String>,
    mounts: PathBuf,
    environment: Environment,
    os_keyring: Option<Arc<dyn OsKeyring>>,
}

impl Resolver {
    /// Looks where the process was told to look, and where `manifest` says.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        Self {
            declared: manifest.secrets().map(|(name, spec)| (name.clone(), spec.clone())).collect(),
            path: manifest.path().to_owned(),
            preset: manifest.preset(),
            stack: manifest.stack().map(str::to_owned),
            needed_by_store: manifest.needed_by_store().iter().map(SecretName::folded).collect(),
            ..Self::from_environment()
        }
    }

    /// Looks where the process was told to look; nothing is declared.
    #[must_use]
    pub fn from_environment() -> Self {
        Self {
            declared: BTreeMap::new(),
            path: CONFIG_NAME.into(),
            preset: Preset::Strict,
            stack: None,
            needed_by_store: BTreeSet::new(),
            mounts: RUN_SECRETS.into(),
            environment: Environment::Process,
            os_keyring: None,
        }
    }

    /// Looks at these variables instead of the process's, and in `mounts` instead of
    /// `/run/secrets`.
    #[must_use]
    pub fn with_environment(self, variables: BTreeMap<String, OsString>, mounts: impl Into<PathBuf>) -> Self {
        Self { mounts: mounts.into(), environment: Environment::Given(variables), ..self }
    }

    /// Finds every secret by the rules of `preset`, whatever is declared.
    #[must_use]
    pub fn with_preset(mut self, preset: Preset) -> Self {
        self.declared.values_mut().for_each(|spec| spec.preset = None);
        Self { preset, ..self }
    }

    /// Reads items of the operating system's keyring so. Without a reader, to need one is an error.
    #[must_use]
    pub fn with_os_keyring(self, keyring: Option<Arc<dyn OsKeyring>>) -> Self {
        Self { os_keyring: keyring, ..self }
    }

    /// A secret as it is declared: text loses one trailing line break, PEM and binary nothing. With
    /// a preset, it is what the preset's application reads.
    ///
    /// What is not declared is text. The store is not asked: only a [`Vault`](crate::Vault) has
    /// the keys for that.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], which says where it was looked for; [`Error::Io`] or
    /// [`Error::Oversized`] if what was found cannot be read; [`Error::Config`] if it is empty, is
    /// not text where it should be, or is set twice; [`Error::Preset`] where the preset's
    /// application has words of its own for one of these.
    pub fn secret(&self, name: &SecretName) -> Result<Resolved> {
        self.secret_with(name, NO_STORE)
    }

    /// As [`secret`](Self::secret), but nothing where the secret is declared as not `required` and
    /// no source has it.
    ///
    /// # Errors
    ///
    /// As [`secret`](Self::secret).
    pub fn optional(&self, name: &SecretName) -> Result<Option<Resolved>> {
        self.optional_with(name, NO_STORE)
    }

    /// A text: one trailing line break is removed, and nothing else is changed.
    ///
    /// # Errors
    ///
    /// As [`secret`](Self::secret).
    pub fn text(&self, name: &SecretName) -> Result<Resolved> {
        let rules = self.rules(name);
        let found = self.find(name, file::MAX_SECRET, NO_STORE, &rules)?;
        if rules.is_strict() { self.text_of(name, found.resolved) } else { self.of_application(name, found, &rules) }
    }

    /// The exact bytes.
    ///
    /// # Errors
    ///
    /// As [`secret`](Self::secret).
    pub fn raw(&self, name: &SecretName) -> Result<Resolved> {
        let found = self.find(name, file::MAX_SECRET, NO_STORE, &self.rules(name))?;
        self.not_empty(name, found.resolved)
    }

    /// Whether a secret must exist: what is not declared as optional must.
    #[must_use]
    pub fn required(&self, name: &SecretName) -> bool {
        self.declared.get(name).is_none_or(|spec| spec.required)
    }

    /// As [`secret`](Self::secret), with a store.
    pub(crate) fn secret_with(&self, name: &SecretName, store: Stored<'_>) -> Result<Resolved> {
        Ok(self.winner(name, store)?.1)
    }

    /// As [`optional`](Self::optional), with a store.
    pub(crate) fn optional_with(&self, name: &SecretName, store: Stored<'_>) -> Result<Option<Resolved>> {
        match self.secret_with(name, store) {
            Err(error) if error.kind() == Kind::NotFound && !self.required(name) && !self.is_composed(name) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Where a secret comes from, and what that shadows. Sources that are not used may fail.
    pub(crate) fn explain(&self, name: &SecretName, store: Stored<'_>) -> Result<Explanation> {
        let rules = self.rules(name);
        let (winner, Resolved { source, notes, .. }) = self.winner(name, store)?;
        let behind = rules.order.iter().skip_while(|place| Some(**place) != winner).skip(1);
        let shadowed = behind.chain(never_asked(&rules)).filter_map(|place| self.has(*place, name, store, &rules));
        let shadowed = shadowed
            .map(|found| match found {
                Ok(resolved) => Shadowed::Has(resolved.source),
                Err(error) => Shadowed::Unreadable(error.to_string()),
            })
            .collect();
        Ok(Explanation { preset: rules.preset, source, shadowed, notes })
    }

    /// Everything that the sources of a keyring have, each with its place: a path, or `environment
    /// NAME`. Sources that have nothing are passed over.
    ///
    /// Files and master keys are unaltered. A key text is what the secret's preset makes of it,
    /// because it is the application's.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Oversized`] if what was found cannot be read, [`Error::Config`] if
    /// a secret is set twice.
    pub fn key_contents(&self, keyring: &KeyringSpec) -> Result<Vec<(String, SecretBytes)>> {
        let mut found = Vec::new();
        for source in &keyring.sources {
            match source {
                KeySource::File(pattern) if glob::is_pattern(pattern) => {
                    for path in glob::find(pattern)? {
                        found.extend(
                            read_if_there(&path, file::MAX_KEY_FILE)?
                                .map(|content| (path.display().to_string(), content)),
                        );
                    }
                }
                KeySource::File(path) => {
                    found.extend(
                        read_if_there(path, file::MAX_KEY_FILE)?.map(|content| (path.display().to_string(), content)),
                    );
                }
                KeySource::OsKeyring(item) => {
                    let content = self.read_os_keyring(item, file::MAX_KEY_FILE)?;
                    found.extend(content.map(|content| (item.to_string(), content)));
                }
                KeySource::Secret(name) => match self.key(name, keyring.kind) {
                    Ok(Resolved { value, source, .. }) => {
                        let place = source.path().map_or_else(|| source.to_string(), |path| path.display().to_string());
                        found.push((place, value));
                    }
                    Err(error) if error.kind() == Kind::NotFound && !self.is_composed(name) => {}
                    Err(other) => return Err(other),
                },
            }
        }
        Ok(found)
    }

    /// The URL of a server that a secret holds. It is never looked for in the store.
    #[cfg(feature = "postgres")]
    pub(crate) fn postgres_url(&self, name: &SecretName) -> Result<PostgresUrl> {
        postgres_url(name, &self.secret(name)?)
    }

    /// The files that decide what the sources of a keyring have. Variables of a process do not change, and
    /// what the operating system's keyring has cannot be seen without a question to it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a directory cannot be listed.
    pub(crate) fn key_files(&self, keyring: &KeyringSpec) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for source in &keyring.sources {
            match source {
                KeySource::File(pattern) if glob::is_pattern(pattern) => files.extend(glob::find(pattern)?),
                KeySource::File(path) => files.push(path.clone()),
                KeySource::OsKeyring(_) => {}
                KeySource::Secret(name) => self.files_of(name, &self.key_rules(name, keyring.kind), &mut files),
            }
        }
        Ok(files)
    }

    /// The files that decide what a secret is, but for the store.
    pub(crate) fn secret_files(&self, name: &SecretName) -> Vec<PathBuf> {
        let mut files = Vec::new();
        self.files_of(name, &self.rules(name), &mut files);
        files
    }

    fn files_of(&self, name: &SecretName, rules: &Rules, files: &mut Vec<PathBuf>) {
        for place in rules.order {
            files.extend(self.files_asked(*place, name, rules));
        }
        let composed = self.declared.get(name).and_then(|spec| spec.composed.as_deref());
        for piece in composed.and_then(|text| pieces(text).ok()).into_iter().flatten() {
            if let Piece::Secret(part) = piece {
                self.files_of(&part, &self.rules(&part), files);
            }
        }
    }

    fn key_rules(&self, name: &SecretName, kind: KeyringKind) -> Rules {
        match kind {
            KeyringKind::Text => self.rules(name),
            KeyringKind::Kek => rules(Preset::Strict),
        }
    }

    fn key(&self, name: &SecretName, kind: KeyringKind) -> Result<Resolved> {
        let rules = self.key_rules(name, kind);
        let found = self.find(name, file::MAX_KEY_FILE, NO_STORE, &rules)?;
        if rules.is_strict() { Ok(found.resolved) } else { self.of_application(name, found, &rules) }
    }

    fn rules(&self, name: &SecretName) -> Rules {
        rules(self.declared.get(name).and_then(|spec| spec.preset).unwrap_or(self.preset))
    }

    fn kind(&self, name: &SecretName) -> SecretKind {
        self.declared.get(name).map(|spec| spec.kind).unwrap_or_default()
    }

    fn is_composed(&self, name: &SecretName) -> bool {
        self.declared.get(name).is_some_and(|spec| spec.composed.is_some())
    }

    /// A secret, read by its rules, and the place that has it.
    fn winner(&self, name: &SecretName, store: Stored<'_>) -> Result<(Option<Lookup>, Resolved)> {
        let rules = self.rules(name);
        let found = self.find(name, file::MAX_SECRET, store, &rules)?;
        let place = found.place;
        let resolved = if !rules.is_strict() {
            self.of_application(name, found, &rules)?
        } else if self.is_text(name, &found.resolved.source) {
            self.text_of(name, found.resolved)?
        } else {
            self.not_empty(name, found.resolved)?
        };
        Ok((place, resolved))
    }

    fn is_text(&self, name: &SecretName, source: &Source) -> bool {
        match (self.declared.get(name), source) {
            (Some(spec), _) => spec.kind.loses_line_break(),
            // Whoever set it said whether it is text.
            (None, Source::Store { .. }) => false,
            (None, _) => true,
        }
    }

    fn find(&self, name: &SecretName, cap: usize, store: Stored<'_>, rules: &Rules) -> Result<Found> {
        self.refuse_other_spelling(name)?;
        if rules.exclusive {
            self.refuse_two(name).map_err(|error| rules.say(Refusal::Both, name, error))?;
        }
        let mut looked = Vec::new();
        let mut notes = Vec::new();
        for place in rules.order {
            match self.ask(*place, name, cap, store, rules) {
                Ok(Asked::Found(mut resolved)) => {
                    resolved.notes.splice(..0, notes);
                    return Ok(Found { place: Some(*place), resolved });
                }
                Ok(Asked::Absent(place)) => looked.push(place),
                Ok(Asked::Misspelled(place, other)) => {
                    looked.push(place);
                    notes.push(Note::OtherSpelling(other));
                }
                Ok(Asked::Nowhere) => {}
                Err(error) if rules.passes_over(*place, &error) => {
                    notes.push(Note::PassedOver(error.to_string()));
                }
                Err(error) => return Err(rules.say(Refusal::Unreadable(*place), name, error)),
            }
        }
        if let Some(default) = self.declared.get(name).and_then(|spec| spec.default.as_ref()) {
            notes.push(Note::Default);
            let value = SecretBytes::copy_of(default.as_bytes());
            return Ok(Found { place: None, resolved: Resolved { value, source: Source::Default, notes } });
        }
        let passed = notes.iter().map(|note| format!("; {note}")).collect::<String>();
        let error = Error::NotFound { what: format!("secret {name} (looked for {}{passed})", looked.join(", ")) };
        Err(rules.say(Refusal::Missing, name, error))
    }

    /// A name that differs from a declared one only in how it is written has the same file and
    /// variable, and none of the declaration.
    pub(crate) fn refuse_other_spelling(&self, name: &SecretName) -> Result<()> {
        if self.declared.contains_key(name) {
            return Ok(());
        }
        let folded = name.folded();
        match self.declared.keys().find(|declared| declared.folded() == folded) {
            None => Ok(()),
            Some(declared) => Err(Error::Config {
                place: Place::file(&self.path),
                reason: format!("secret {name} is declared as {declared}; use that name"),
            }),
        }
    }

    fn refuse_two(&self, name: &SecretName) -> Result<()> {
        match self.set_twice(name) {
            Some((variable, file_variable)) => Err(Error::Config {
                place: Place::file(format!("environment {variable}")),
                reason: format!("{file_variable} is set too; unset one of them"),
            }),
            None => Ok(()),
        }
    }
}

/// What a check asks.
impl Resolver {
    /// The variable that holds the secret and the one that names a file, where both are set.
    pub(crate) fn set_twice(&self, name: &SecretName) -> Option<(String, String)> {
        let variable = name.variables().find(|variable| self.environment.is_set(variable))?;
        let mut files = name.variables().map(|variable| file_variable(&variable));
        Some((variable, files.find(|variable| self.environment.is_set(variable))?))
    }

    /// What each source has of a secret, unaltered, in the order in which they are asked; then what
    /// the preset's application never asks.
    pub(crate) fn all(&self, name: &SecretName, store: Stored<'_>) -> Vec<Result<Resolved>> {
        let rules = self.rules(name);
        rules
            .order
            .iter()
            .chain(never_asked(&rules))
            .filter_map(|place| self.has(*place, name, store, &rules))
            .collect()
    }

    fn has(&self, place: Lookup, name: &SecretName, store: Stored<'_>, rules: &Rules) -> Option<Result<Resolved>> {
        match self.ask(place, name, file::MAX_SECRET, store, rules) {
            Ok(Asked::Found(resolved)) => Some(Ok(resolved)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// What only the strict rule would ask.
fn never_asked(rules: &Rules) -> impl Iterator<Item = &'static Lookup> {
    let order = rules.order;
    preset::rules(Preset::Strict).order.iter().filter(move |place| !order.contains(place))
}

/// What a vault knows and the resolver, which has no keys, does not.
#[derive(Clone, Copy)]
pub(crate) struct Opened<'a> {
    /// The store's location, and how it is asked for the newest version of a secret.
    pub(crate) store: Option<(&'a str, AskStore<'a>)>,
    /// Gives the text of the primary key of a keyring, with the key's id.
    pub(crate) primary: &'a dyn Fn(&str) -> Result<(SecretBytes, KeyId)>,
}

pub(crate) type AskStore<'a> = &'a dyn Fn(&SecretName) -> Result<Option<(SecretBytes, u64)>>;
pub(crate) type Stored<'a> = Option<Opened<'a>>;

const NO_STORE: Stored<'static> = None;

/// What won.
struct Found {
    /// None for what no source has.
    place: Option<Lookup>,
    resolved: Resolved,
}

/// The URL of a server that a secret holds.
#[cfg(feature = "postgres")]
pub(crate) fn postgres_url(name: &SecretName, found: &Resolved) -> Result<PostgresUrl> {
    let wrong =
        |reason: &str| Error::Database { action: format!("read the URL in secret {name}"), reason: reason.to_owned() };
    let text = core::str::from_utf8(found.value.expose_secret()).map_err(|_| wrong("it is not UTF-8 text"))?;
    PostgresUrl::parse(text).map_err(wrong)
}

fn file_variable(variable: &str) -> String {
    format!("{variable}_FILE")
}

/// Reads a regular file of at most `cap` bytes, following links only under its directory.
///
/// # Errors
///
/// [`Error::Io`] if it cannot be read, or is no regular file; [`Error::Oversized`].
pub fn read_file(path: &Path, cap: usize) -> Result<SecretBytes> {
    file::read(path, cap)
}

/// Where the configuration is, by the environment: `VAULT_CORE_CONFIG` and `VAULT_CORE_PROFILE`.
pub(crate) fn config_from_environment() -> Option<(PathBuf, Option<String>)> {
    Environment::Process.value("VAULT_CORE_CONFIG").map(|path| (path.into(), profile_from_environment()))
}

/// The profile that the environment names. One that is not text becomes one that nobody declared.
pub(crate) fn profile_from_environment() -> Option<String> {
    Environment::Process.value("VAULT_CORE_PROFILE").map(|profile| profile.to_string_lossy().into_owned())
}

/// `vault.toml` in a directory or the nearest of its parents, or the one of the machine. One that
/// exists and cannot be read is found too: to read it tells why.
pub(crate) fn find_config(start: &Path) -> Option<PathBuf> {
    start.ancestors().map(|directory| directory.join(CONFIG_NAME)).chain([PathBuf::from(SYSTEM_CONFIG)]).find(|path| {
        match fs::metadata(path) {
            Ok(metadata) => metadata.is_file(),
            Err(error) => !is_absence(&error) || path.symlink_metadata().is_ok(),
        }
    })
}

/// Where Docker Swarm, Compose and others mount secrets.
const RUN_SECRETS: &str = "/run/secrets";
/// The configuration that is looked for in a directory and its parents.
const CONFIG_NAME: &str = "vault.toml";
/// The configuration of the machine.
const SYSTEM_CONFIG: &str = "/etc/vault/vault.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_configuration_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        let outer = directory.path().join(CONFIG_NAME);
        fs::write(&outer, "version = 1").unwrap();
        assert_eq!(find_config(&deep), Some(outer));
        // A directory of that name is none; a link that leads nowhere is one, and tells so.
        fs::create_dir(deep.join(CONFIG_NAME)).unwrap();
        let inner = directory.path().join("a").join(CONFIG_NAME);
        std::os::unix::fs::symlink("nowhere", &inner).unwrap();
        assert_eq!(find_config(&deep), Some(inner));
    }

    #[test]
    fn debug_shows_no_variable() {
        let variables = BTreeMap::from([("TOKEN".to_owned(), OsString::from("marker"))]);
        let resolver = Resolver::from_environment().with_environment(variables, "/nowhere");
        assert!(!format!("{resolver:?}").contains("marker"));
    }
}
