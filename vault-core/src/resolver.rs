//! Where secrets are found by name. The only file that reads the environment.
#![expect(clippy::disallowed_methods, reason = "this is the file that may")]

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::{Error, Place, Result};
use crate::file;
use crate::glob;
use crate::manifest::{KeySource, KeyringSpec, Manifest, SecretSpec};
use crate::name::SecretName;
use crate::secret::SecretBytes;

/// A secret and where it was found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resolved {
    /// The exact bytes, but for one trailing line break that text loses.
    pub value: SecretBytes,
    /// Where it was found.
    pub source: Source,
}

/// Where a secret was found.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// A credential of systemd.
    Credential(PathBuf),
    /// The file that `vault.toml` names.
    Declared(PathBuf),
    /// A file where secrets are mounted.
    Mount(PathBuf),
    /// The file that a variable names.
    Named {
        /// The file.
        path: PathBuf,
        /// The variable.
        variable: String,
    },
    /// The store of `vault.toml`.
    Store {
        /// Which store.
        location: String,
        /// Which version of the secret.
        version: u64,
    },
    /// An environment variable itself.
    Variable(String),
}

impl Source {
    /// The file, unless it is none.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Credential(path) | Self::Declared(path) | Self::Mount(path) | Self::Named { path, .. } => Some(path),
            Self::Store { .. } | Self::Variable(_) => None,
        }
    }
}

impl core::fmt::Display for Source {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Credential(path) | Self::Declared(path) | Self::Mount(path) => write!(f, "file {}", path.display()),
            Self::Named { path, variable } => write!(f, "file {}, named by {variable}", path.display()),
            Self::Store { location, version } => write!(f, "{location}, version {version}"),
            Self::Variable(name) => write!(f, "environment {name}"),
        }
    }
}

/// Finds secrets by name.
///
/// The first source wins that has the name: the file that `vault.toml` names, the file that the
/// variable `NAME_FILE` names, a credential of systemd, a file in `/run/secrets`, the store of
/// `vault.toml`, the variable `NAME`. What exists and cannot be read is an error, never a reason to look further; so is
/// `NAME` beside `NAME_FILE`. An empty variable counts as unset.
///
/// Files are read anew every time. A value from the environment stays in the process's memory,
/// where nobody can wipe it.
#[derive(Clone, Debug)]
pub struct Resolver {
    declared: BTreeMap<SecretName, SecretSpec>,
    path: PathBuf,
    mounts: PathBuf,
    environment: Environment,
}

impl Resolver {
    /// Looks where the process was told to look, and where `manifest` says.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        let declared = manifest.secrets().map(|(name, spec)| (name.clone(), spec.clone())).collect();
        Self { declared, path: manifest.path().to_owned(), ..Self::from_environment() }
    }

    /// Looks where the process was told to look; nothing is declared.
    #[must_use]
    pub fn from_environment() -> Self {
        Self {
            declared: BTreeMap::new(),
            path: CONFIG_NAME.into(),
            mounts: RUN_SECRETS.into(),
            environment: Environment::Process,
        }
    }

    /// Looks at these variables instead of the process's, and in `mounts` instead of
    /// `/run/secrets`.
    #[must_use]
    pub fn with_environment(self, variables: BTreeMap<String, OsString>, mounts: impl Into<PathBuf>) -> Self {
        Self { mounts: mounts.into(), environment: Environment::Given(variables), ..self }
    }

    /// A secret as it is declared: text loses one trailing line break, PEM and binary nothing.
    ///
    /// What is not declared is text. The store is not asked: only a [`Vault`](crate::Vault) has
    /// the keys for that.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], which says where it was looked for; [`Error::Io`] or
    /// [`Error::TooLarge`] if what was found cannot be read; [`Error::Config`] if it is empty, is
    /// not text where it should be, or is set twice.
    pub fn secret(&self, name: &SecretName) -> Result<Resolved> {
        self.secret_with(name, NO_STORE)
    }

    /// A text: one trailing line break is removed, and nothing else is changed.
    ///
    /// # Errors
    ///
    /// As [`secret`](Self::secret).
    pub fn text(&self, name: &SecretName) -> Result<Resolved> {
        text(self.find(name, file::MAX_SECRET, NO_STORE)?)
    }

    /// The exact bytes.
    ///
    /// # Errors
    ///
    /// As [`secret`](Self::secret).
    pub fn raw(&self, name: &SecretName) -> Result<Resolved> {
        not_empty(self.find(name, file::MAX_SECRET, NO_STORE)?)
    }

    /// As [`secret`](Self::secret), with a store.
    pub(crate) fn secret_with(&self, name: &SecretName, store: Stored<'_>) -> Result<Resolved> {
        let found = self.find(name, file::MAX_SECRET, store)?;
        let is_text = match (self.declared.get(name), &found.source) {
            (Some(spec), _) => spec.kind.loses_line_break(),
            // Whoever set it said whether it is text.
            (None, Source::Store { .. }) => false,
            (None, _) => true,
        };
        if is_text { text(found) } else { not_empty(found) }
    }

    /// Every source that has a secret, the one that wins first.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it is set twice, and what keeps a source from being asked.
    pub(crate) fn sources(&self, name: &SecretName, store: Stored<'_>) -> Result<Vec<Source>> {
        self.refuse_two(name)?;
        let asked = ORDER.into_iter().map(|place| self.ask(place, name, file::MAX_SECRET, store));
        let found = asked.filter_map(|asked| match asked {
            Ok(Asked::Found(resolved)) => Some(Ok(resolved.source)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        found.collect()
    }

    /// Everything that the sources of a keyring have, unaltered, each with its place: a path, or
    /// `environment NAME`. Sources that have nothing are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::TooLarge`] if what was found cannot be read, [`Error::Config`] if
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
                KeySource::Secret(name) => match self.find(name, file::MAX_KEY_FILE, NO_STORE) {
                    Ok(Resolved { value, source }) => {
                        let place = source.path().map_or_else(|| source.to_string(), |path| path.display().to_string());
                        found.push((place, value));
                    }
                    Err(Error::NotFound { .. }) => {}
                    Err(other) => return Err(other),
                },
            }
        }
        Ok(found)
    }

    fn find(&self, name: &SecretName, cap: usize, store: Stored<'_>) -> Result<Resolved> {
        self.refuse_two(name)?;
        let mut looked = Vec::new();
        for place in ORDER {
            match self.ask(place, name, cap, store)? {
                Asked::Found(resolved) => return Ok(resolved),
                Asked::Absent(place) => looked.push(place),
                Asked::Nowhere => {}
            }
        }
        Err(Error::NotFound { what: format!("secret {name} (looked for {})", looked.join(", ")) })
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
    fn ask(&self, place: Lookup, name: &SecretName, cap: usize, store: Stored<'_>) -> Result<Asked> {
        // A file that was named must be there; one that would be there by its name may be.
        let (source, must_exist) = match place {
            Lookup::Declared => match self.declared.get(name) {
                Some(SecretSpec { composed: Some(_), .. }) => {
                    return Err(Error::Config {
                        place: Place::file(&self.path),
                        reason: format!("secret {name} is `composed`, which is not supported by this build"),
                    });
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
            Lookup::Mount => (Source::Mount(self.mounts.join(name.file_name())), false),
            Lookup::Store => return self.ask_store(name, store),
            Lookup::Variable => (Source::Variable(name.variable()), false),
        };
        let value = match source.path() {
            Some(path) if must_exist => Some(file::read(path, cap)?),
            Some(path) => read_if_there(path, cap)?,
            None => self.environment.secret(&name.variable(), cap)?,
        };
        Ok(match value {
            Some(value) => Asked::Found(Resolved { value, source }),
            None => Asked::Absent(source.to_string()),
        })
    }

    fn ask_store(&self, name: &SecretName, store: Stored<'_>) -> Result<Asked> {
        let Some((location, open)) = store else { return Ok(Asked::Nowhere) };
        match open(name) {
            Ok(Some((value, version))) => {
                Ok(Asked::Found(Resolved { value, source: Source::Store { location: location.to_owned(), version } }))
            }
            Ok(None) => Ok(Asked::Absent(location.to_owned())),
            // Declared so that the environment serves while the store cannot be reached.
            Err(Error::Database { .. }) if self.declared.get(name).is_some_and(|spec| spec.environment) => {
                Ok(Asked::Absent(format!("{location}, which cannot be reached")))
            }
            Err(other) => Err(other),
        }
    }
}

/// What a check asks of single sources.
impl Resolver {
    /// Whether a variable is set and not empty.
    pub(crate) fn is_set(&self, variable: &str) -> bool {
        self.environment.is_set(variable)
    }

    /// The exact bytes of a file or variable.
    pub(crate) fn content(&self, source: &Source) -> Result<SecretBytes> {
        let absent = || Error::NotFound { what: source.to_string() };
        match source {
            Source::Variable(name) => self.environment.secret(name, file::MAX_SECRET)?.ok_or_else(absent),
            _ => file::read(source.path().ok_or_else(absent)?, file::MAX_SECRET),
        }
    }
}

/// A store's location, and how it is asked for the newest version of a secret. The resolver itself
/// has no keys.
pub(crate) type Stored<'a> = Option<(&'a str, &'a dyn Fn(&SecretName) -> Result<Option<(SecretBytes, u64)>>)>;

const NO_STORE: Stored<'static> = None;

/// What a source says of a secret.
enum Asked {
    /// It does not have it; who that is, for people.
    Absent(String),
    Found(Resolved),
    /// There is no such source here.
    Nowhere,
}

fn file_variable(name: &SecretName) -> String {
    format!("{}_FILE", name.variable())
}

/// Reads a regular file of at most `cap` bytes, following links only under its directory.
///
/// # Errors
///
/// [`Error::Io`] if it cannot be read, or is no regular file; [`Error::TooLarge`].
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

/// The sources, in the order in which they are asked.
const ORDER: [Lookup; 6] =
    [Lookup::Declared, Lookup::NamedFile, Lookup::Credential, Lookup::Mount, Lookup::Store, Lookup::Variable];

#[derive(Clone, Copy)]
enum Lookup {
    Declared,
    NamedFile,
    Credential,
    Mount,
    Store,
    Variable,
}

/// Variables are read when they are asked for: copies of all would be copies of secrets.
#[derive(Clone)]
enum Environment {
    Given(BTreeMap<String, OsString>),
    Process,
}

impl Environment {
    /// A variable that is not secret, if it is set and not empty: Compose passes `${X:-}`.
    fn value(&self, name: &str) -> Option<OsString> {
        match self {
            Self::Given(variables) => variables.get(name).cloned(),
            Self::Process => env::var_os(name),
        }
        .filter(|value| !value.is_empty())
    }

    fn is_set(&self, name: &str) -> bool {
        self.value(name).map(|value| Zeroizing::new(value.into_vec())).is_some()
    }

    fn secret(&self, name: &str, cap: usize) -> Result<Option<SecretBytes>> {
        let value = self.value(name).map(|value| SecretBytes::from(Zeroizing::new(value.into_vec())));
        match value {
            Some(value) if value.len() > cap => Err(Error::TooLarge { what: "environment variable", limit: cap }),
            value => Ok(value),
        }
    }
}

impl core::fmt::Debug for Environment {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Given(_) => "Given([redacted])",
            Self::Process => "Process",
        })
    }
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

/// A text without the line break that its file or variable ends with. What a store has was rid of
/// it when it was sealed.
fn text(found: Resolved) -> Result<Resolved> {
    let Resolved { value, source } = found;
    let bytes = value.expose_secret();
    let text = match source {
        Source::Store { .. } => bytes,
        _ => bytes.strip_suffix(b"\r\n").or_else(|| bytes.strip_suffix(b"\n")).unwrap_or(bytes),
    };
    if text.contains(&0) {
        return Err(wrong(&source, "it holds a NUL byte, and is declared as text"));
    }
    if core::str::from_utf8(text).is_err() {
        return Err(wrong(&source, "it is not UTF-8, and is declared as text"));
    }
    let value = if text.len() == bytes.len() { value } else { SecretBytes::copy_of(text) };
    not_empty(Resolved { value, source })
}

fn not_empty(resolved: Resolved) -> Result<Resolved> {
    if resolved.value.is_empty() {
        Err(wrong(&resolved.source, "it is empty; write the secret into it"))
    } else {
        Ok(resolved)
    }
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
