//! Where secrets are found by name. The only file that reads the environment, with those below it.
#![expect(clippy::disallowed_methods, reason = "this is the file that may")]

mod environment;
mod preset;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::dotenv;
use crate::error::{Error, Kind, Place, Result};
use crate::file;
use crate::glob;
use crate::keyring::KeyringKind;
use crate::manifest::{KeySource, KeyringSpec, Manifest, Piece, Preset, SecretKind, SecretSpec, pieces};
use crate::name::SecretName;
use crate::os_keyring::{OsKeyring, OsKeyringItem};
use crate::secret::SecretBytes;

use environment::Environment;
use preset::{Failure, Rules, rules};

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
    /// The variables of the secrets that are needed before there is a store.
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
            needed_by_store: manifest.needed_by_store().map(SecretName::variable).collect(),
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

    fn key(&self, name: &SecretName, kind: KeyringKind) -> Result<Resolved> {
        let rules = match kind {
            KeyringKind::Text => self.rules(name),
            KeyringKind::Kek => rules(Preset::Strict),
        };
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
            self.refuse_two(name).map_err(|error| rules.say(Failure::Both, name, error))?;
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
                Ok(Asked::Nowhere) => {}
                Err(error) if rules.passes_over(*place, &error) => {
                    notes.push(Note::PassedOver(error.to_string()));
                }
                Err(error) => return Err(rules.say(Failure::Unreadable(*place), name, error)),
            }
        }
        if let Some(default) = self.declared.get(name).and_then(|spec| spec.default.as_ref()) {
            notes.push(Note::Default);
            let value = SecretBytes::copy_of(default.as_bytes());
            return Ok(Found { place: None, resolved: Resolved { value, source: Source::Default, notes } });
        }
        let passed = notes.iter().map(|note| format!("; {note}")).collect::<String>();
        let error = Error::NotFound { what: format!("secret {name} (looked for {}{passed})", looked.join(", ")) };
        Err(rules.say(Failure::Missing, name, error))
    }

    /// A name that differs from a declared one only in how it is written has the same file and
    /// variable, and none of the declaration.
    pub(crate) fn refuse_other_spelling(&self, name: &SecretName) -> Result<()> {
        if self.declared.contains_key(name) {
            return Ok(());
        }
        let variable = name.variable();
        match self.declared.keys().find(|declared| declared.variable() == variable) {
            None => Ok(()),
            Some(declared) => Err(Error::Config {
                place: Place::file(&self.path),
                reason: format!("secret {name} is declared as {declared}; use that name"),
            }),
        }
    }

    fn refuse_two(&self, name: &SecretName) -> Result<()> {
        let (variable, file_variable) = (name.variable(), file_variable(name));
        if self.environment.is_set(&variable) && self.environment.is_set(&file_variable) {
            return Err(Error::Config {
                place: Place::file(format!("environment {variable}")),
                reason: format!("{file_variable} is set too; unset one of them"),
            });
        }
        Ok(())
    }

    /// Asks one source. What exists there and cannot be read is an error.
    fn ask(&self, place: Lookup, name: &SecretName, cap: usize, store: Stored<'_>, rules: &Rules) -> Result<Asked> {
        // A file that was named must be there; one that would be there by its name may be.
        let (source, must_exist) = match place {
            Lookup::Declared => match self.declared.get(name) {
                Some(SecretSpec { composed: Some(composed), kind, .. }) => {
                    return self.compose(name, composed, *kind, store).map(Asked::Found);
                }
                Some(SecretSpec { path: Some(path), .. }) => (Source::Declared(path.clone()), true),
                _ => return Ok(Asked::Nowhere),
            },
            Lookup::NamedFile => match self.environment.value(&file_variable(name)) {
                Some(path) => (Source::Named { path: path.into(), variable: file_variable(name) }, true),
                None => return Ok(Asked::Absent(format!("environment {}", file_variable(name)))),
            },
            Lookup::Credential => match self.environment.value("CREDENTIALS_DIRECTORY") {
                Some(directory) => (Source::Credential(PathBuf::from(directory).join(name.file_name())), false),
                None => return Ok(Asked::Nowhere),
            },
            Lookup::Mount => (Source::Mount(self.mount(&name.file_name(), rules)), false),
            Lookup::StackMount => match &self.stack {
                Some(stack) => (Source::Mount(self.mounts.join(format!("{stack}_{}", name.file_name()))), false),
                None => return Ok(Asked::Nowhere),
            },
            Lookup::Store => return self.ask_store(name, store),
            Lookup::Variable => return self.ask_variable(name, cap, rules),
            Lookup::EnvironmentFile => return self.ask_environment_file(name),
            Lookup::OsKeyring => return self.ask_os_keyring(name, cap),
        };
        let value = match source.path() {
            Some(path) if must_exist => Some(file::read(path, cap).map_err(|error| without_odd_path(&source, error))?),
            Some(path) => read_if_there(path, cap)?,
            None => None,
        };
        Ok(match value {
            Some(value) => Asked::found(value, source),
            None => Asked::Absent(source.to_string()),
        })
    }

    /// The file of a mounted secret, in whatever case its name is where the rules say so.
    fn mount(&self, name: &str, rules: &Rules) -> PathBuf {
        let exact = self.mounts.join(name);
        if !rules.any_case || exact.symlink_metadata().is_ok() {
            return exact;
        }
        let entries = fs::read_dir(&self.mounts).into_iter().flatten().flatten();
        let mut same =
            entries.filter(|entry| entry.file_name().to_str().is_some_and(|found| found.eq_ignore_ascii_case(name)));
        same.next().map_or(exact, |entry| entry.path())
    }

    fn ask_variable(&self, name: &SecretName, cap: usize, rules: &Rules) -> Result<Asked> {
        let mut variable = name.variable();
        if rules.any_case {
            variable = self.environment.spelling(&variable).unwrap_or(variable);
        }
        let value = self.environment.secret(&variable, cap)?.filter(|value| rules.empty_variable || !value.is_empty());
        let source = Source::Variable(variable);
        Ok(match value {
            Some(value) => Asked::found(value, source),
            None => Asked::Absent(source.to_string()),
        })
    }

    /// The `.env` beside the configuration, as python-dotenv reads it.
    fn ask_environment_file(&self, name: &SecretName) -> Result<Asked> {
        let path = file::directory_of(&self.path).join(".env");
        let absent = || Asked::Absent(format!("environment file {}", path.display()));
        let Some(content) = read_if_there(&path, dotenv::MAX_TEXT)? else { return Ok(absent()) };
        let wrong = |reason: &str| Error::Config { place: Place::file(&path), reason: reason.to_owned() };
        let text = core::str::from_utf8(content.expose_secret()).map_err(|_| wrong("it is not UTF-8 text"))?;
        let reading =
            dotenv::read_substituted(text, |name| self.environment.secret(name, file::MAX_SECRET).ok().flatten())?;
        let variable = name.variable();
        let last = reading.entries.into_iter().rfind(|entry| entry.name.eq_ignore_ascii_case(&variable));
        Ok(match last {
            Some(entry) => Asked::found(entry.value, Source::EnvironmentFile(path)),
            None => absent(),
        })
    }

    fn ask_os_keyring(&self, name: &SecretName, cap: usize) -> Result<Asked> {
        let Some(item) = self.declared.get(name).and_then(|spec| spec.keyring.as_ref()) else {
            return Ok(Asked::Nowhere);
        };
        let source = Source::OsKeyring(item.clone());
        Ok(match self.read_os_keyring(item, cap)? {
            Some(value) => Asked::found(value, source),
            None => Asked::Absent(source.to_string()),
        })
    }

    fn read_os_keyring(&self, item: &OsKeyringItem, cap: usize) -> Result<Option<SecretBytes>> {
        let keyring = self.os_keyring.as_ref().ok_or_else(|| Error::Config {
            place: Place::file(&self.path),
            reason: format!(
                "this build reads no OS keyring, and {item} is a source; build `vault` with the feature `os-keyring`"
            ),
        })?;
        match keyring.read(&item.service, &item.account)? {
            Some(value) if value.len() > cap => Err(Error::TooLarge { what: "item of the OS keyring", limit: cap }),
            value => Ok(value),
        }
    }

    fn ask_store(&self, name: &SecretName, store: Stored<'_>) -> Result<Asked> {
        let Some((location, open)) = self.store_of(name, store) else { return Ok(Asked::Nowhere) };
        match open(name) {
            Ok(Some((value, version))) => {
                Ok(Asked::found(value, Source::Store { location: location.to_owned(), version }))
            }
            Ok(None) => Ok(Asked::Absent(location.to_owned())),
            // Declared so that the environment serves while the store cannot be reached.
            Err(Error::Database { .. }) if self.declared.get(name).is_some_and(|spec| spec.environment) => {
                Ok(Asked::Absent(format!("{location}, which cannot be reached")))
            }
            Err(other) => Err(other),
        }
    }

    /// The store, but not for a secret that it takes to open it.
    fn store_of<'a>(&self, name: &SecretName, store: Stored<'a>) -> Stored<'a> {
        store.filter(|_| !self.needed_by_store.contains(&name.variable()))
    }

    /// A secret that is made of others. In a URL, they are percent-encoded.
    fn compose(&self, name: &SecretName, composed: &str, kind: SecretKind, store: Stored<'_>) -> Result<Resolved> {
        let store = self.store_of(name, store);
        let wrong =
            |reason: &str| Error::Config { place: Place::file(&self.path), reason: format!("secret {name}: {reason}") };
        let mut parts = Vec::new();
        let mut notes = Vec::new();
        let mut texts = Vec::new();
        for piece in pieces(composed).map_err(wrong)? {
            match piece {
                Piece::Text(text) => texts.push(Zeroizing::new(text.as_bytes().to_vec())),
                Piece::Secret(part) => {
                    let Resolved { value, source, notes: of_part } =
                        self.secret_with(&part, store).map_err(|error| part_missing(name, error))?;
                    let value = value.expose_secret();
                    texts.push(match kind {
                        SecretKind::Url => percent_encoded(value),
                        _ => Zeroizing::new(value.to_vec()),
                    });
                    parts.push((part, source));
                    notes.extend(of_part);
                }
            }
        }
        let length = texts.iter().map(|text| text.len()).sum();
        if length > file::MAX_SECRET {
            return Err(Error::Oversized { place: format!("composed secret {name}"), limit: file::MAX_SECRET });
        }
        let mut value = Zeroizing::new(Vec::with_capacity(length));
        texts.iter().for_each(|text| value.extend_from_slice(text));
        Ok(Resolved { value: value.into(), source: Source::Composed { parts }, notes })
    }

    /// What the preset's application makes of what was found.
    fn of_application(&self, name: &SecretName, found: Found, rules: &Rules) -> Result<Resolved> {
        let Found { place, resolved: Resolved { value, source, mut notes } } = found;
        let value = match (place, &source) {
            // Ours, and exact.
            (None, _) | (_, Source::Composed { .. } | Source::Store { .. }) => value,
            (Some(place), _) => {
                let (value, note) = rules.read(name, self.kind(name), place, &source, &value)?;
                notes.extend(note);
                value
            }
        };
        if value.is_empty() {
            // social-publisher takes an empty variable for a value until the value is required.
            if rules.preset == Preset::SocialPublisher && place == Some(Lookup::Variable) && self.required(name) {
                return Err(rules.say(Failure::Missing, name, empty(&source)));
            }
            notes.push(Note::Empty);
        }
        Ok(Resolved { value, source, notes })
    }

    /// A text without the line break that its file or variable ends with. What a store has was rid
    /// of it when it was sealed.
    fn text_of(&self, name: &SecretName, found: Resolved) -> Result<Resolved> {
        let Resolved { value, source, notes } = found;
        let bytes = value.expose_secret();
        let text = match source {
            Source::Composed { .. } | Source::Default | Source::Store { .. } => bytes,
            _ => bytes.strip_suffix(b"\r\n").or_else(|| bytes.strip_suffix(b"\n")).unwrap_or(bytes),
        };
        if text.contains(&0) {
            return Err(wrong(&source, "it holds a NUL byte, and is declared as text"));
        }
        if core::str::from_utf8(text).is_err() {
            return Err(wrong(&source, "it is not UTF-8, and is declared as text"));
        }
        let value = if text.len() == bytes.len() { value } else { SecretBytes::copy_of(text) };
        self.not_empty(name, Resolved { value, source, notes })
    }

    /// What is required is not empty.
    fn not_empty(&self, name: &SecretName, mut resolved: Resolved) -> Result<Resolved> {
        if resolved.value.is_empty() {
            if self.required(name) {
                return Err(empty(&resolved.source));
            }
            resolved.notes.push(Note::Empty);
        }
        Ok(resolved)
    }
}

/// What a check asks.
impl Resolver {
    /// Whether a variable is set and not empty.
    pub(crate) fn is_set(&self, variable: &str) -> bool {
        self.environment.is_set(variable)
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

/// A store's location, and how it is asked for the newest version of a secret. The resolver itself
/// has no keys.
pub(crate) type Stored<'a> = Option<(&'a str, &'a dyn Fn(&SecretName) -> Result<Option<(SecretBytes, u64)>>)>;

const NO_STORE: Stored<'static> = None;

/// What won.
struct Found {
    /// None for what no source has.
    place: Option<Lookup>,
    resolved: Resolved,
}

/// What a source says of a secret.
enum Asked {
    /// It does not have it; who that is, for people.
    Absent(String),
    Found(Resolved),
    /// There is no such source here.
    Nowhere,
}

impl Asked {
    fn found(value: SecretBytes, source: Source) -> Self {
        Self::Found(Resolved { value, source, notes: Vec::new() })
    }
}

/// A source. In which order they are asked is in the rules of each preset.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Lookup {
    Credential,
    Declared,
    EnvironmentFile,
    Mount,
    NamedFile,
    OsKeyring,
    StackMount,
    Store,
    Variable,
}

fn file_variable(name: &SecretName) -> String {
    format!("{}_FILE", name.variable())
}

/// Leaves out what a variable has where a path should be: it may be the secret itself.
fn without_odd_path(source: &Source, error: Error) -> Error {
    match (source, error) {
        (Source::Named { path, variable }, Error::Io { action, source, .. })
            if !looks_like_path(path) && path.symlink_metadata().is_err() =>
        {
            let reason = format!(
                "{source}; it is not shown, because it may be the secret itself: {variable} takes a path, like /run/secrets/NAME"
            );
            Error::io(action, format!("what {variable} names"), io::Error::new(source.kind(), reason))
        }
        (_, other) => other,
    }
}

fn looks_like_path(path: &Path) -> bool {
    let text = path.to_string_lossy();
    ["/", "./", "../"].iter().any(|start| text.starts_with(start)) && !text.contains(char::is_control)
}

/// Names the whole where a part is missing.
fn part_missing(whole: &SecretName, error: Error) -> Error {
    match error {
        Error::NotFound { what } => Error::NotFound { what: format!("{what}, a part of secret {whole},") },
        Error::Preset { text, kind: Kind::NotFound, detail } => {
            Error::Preset { text, kind: Kind::NotFound, detail: format!("{detail}; it is a part of secret {whole}") }
        }
        other => other,
    }
}

/// RFC 3986: all but the unreserved characters as `%` and two digits, in a buffer that never grows.
fn percent_encoded(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let length = bytes.iter().map(|b| if unreserved(*b) { 1 } else { 3 }).sum();
    let mut encoded = Zeroizing::new(Vec::with_capacity(length));
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
    for b in bytes {
        if unreserved(*b) {
            encoded.push(*b);
        } else {
            encoded.extend_from_slice(&[b'%', digit(b >> 4), digit(b & 15)]);
        }
    }
    encoded
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

/// A link that leads nowhere is there, and cannot be read.
fn read_if_there(path: &Path, cap: usize) -> Result<Option<SecretBytes>> {
    match file::read(path, cap) {
        Err(Error::Io { source, .. })
            if is_absence(&source) && path.symlink_metadata().is_err_and(|error| is_absence(&error)) =>
        {
            Ok(None)
        }
        Err(other) => Err(other),
        Ok(content) => Ok(Some(content)),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound)
}

fn empty(source: &Source) -> Error {
    wrong(source, "it is empty; write the secret into it")
}

fn wrong(source: &Source, reason: &str) -> Error {
    Error::Config { place: Place::file(source.to_string()), reason: reason.to_owned() }
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
