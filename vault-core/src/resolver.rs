//! Where secrets are found by name. The only file that reads the environment.
#![expect(clippy::disallowed_methods, reason = "this is the file that may")]

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::file;
use crate::manifest::{self, KeySource, KeyringSpec, Manifest};
use crate::name::SecretName;
use crate::secret::SecretBytes;

/// Where Docker Swarm, Compose and others mount secrets.
const RUN_SECRETS: &str = "/run/secrets";
/// The configuration that is looked for in a directory and its parents.
const CONFIG_NAME: &str = "vault.toml";
/// The configuration of the machine.
const SYSTEM_CONFIG: &str = "/etc/vault/vault.toml";

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
    /// The environment variable itself.
    Environment(String),
    /// A file.
    File(PathBuf),
}

impl core::fmt::Display for Source {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// Finds secrets by name. In this order, and the first that exists wins: the file that the
/// configuration names, the file that `NAME_FILE` names, systemd's credentials, `/run/secrets`,
/// the environment variable. What exists and cannot be read is an error, never a reason to look
/// further.
#[derive(Clone, Debug)]
pub struct Resolver {
    explicit: BTreeMap<SecretName, PathBuf>,
    mounts: PathBuf,
    environment: Environment,
}

/// Values of variables may be secrets: they are read when asked for, and not kept.
#[derive(Clone)]
enum Environment {
    Fixed(BTreeMap<String, String>),
    Process,
}

impl core::fmt::Debug for Environment {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Environment([redacted])")
    }
}

impl Environment {
    fn get(&self, name: &str) -> Option<Zeroizing<String>> {
        let value = match self {
            Self::Fixed(map) => map.get(name).cloned(),
            Self::Process => env::var(name).ok(),
        };
        // An empty variable counts as unset: Compose passes `${X:-}`.
        value.map(Zeroizing::new).filter(|value| !value.is_empty())
    }
}

impl Resolver {
    /// Looks where the process was told to look.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        let explicit = manifest.secrets().filter_map(|(name, spec)| Some((name.clone(), spec.path.clone()?)));
        Self { explicit: explicit.collect(), mounts: RUN_SECRETS.into(), environment: Environment::Process }
    }

    /// Looks in a given environment and directory of mounts only.
    #[must_use]
    pub fn with_environment(environment: BTreeMap<String, String>, mounts: PathBuf) -> Self {
        Self { explicit: BTreeMap::new(), mounts, environment: Environment::Fixed(environment) }
    }

    /// A text secret: one trailing line break is removed and nothing else is changed.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] naming where it was looked for; [`Error::Io`], [`Error::TooLarge`];
    /// [`Error::Malformed`] if it is empty or no text; [`Error::Refused`] where both the variable
    /// and the variable for a file are set.
    pub fn text(&self, name: &SecretName) -> Result<Resolved> {
        let Resolved { value, source } = self.raw(name, file::MAX_SECRET)?;
        let bytes = value.expose_secret();
        let text = bytes.strip_suffix(b"\r\n").or_else(|| bytes.strip_suffix(b"\n")).unwrap_or(bytes);
        if text.is_empty() {
            return Err(Error::Malformed { what: "secret: it is empty" });
        }
        if text.contains(&0) || core::str::from_utf8(text).is_err() {
            return Err(Error::Malformed {
                what: "secret: it is not text; it holds a NUL byte or bytes that are not UTF-8",
            });
        }
        Ok(Resolved { value: SecretBytes::copy_of(text), source })
    }

    /// The bytes as they are.
    fn raw(&self, name: &SecretName, cap: usize) -> Result<Resolved> {
        let variable = name.variable();
        let file_variable = format!("{variable}_FILE");
        let plain = self.environment.get(&variable);
        let named = self.environment.get(&file_variable);
        if plain.is_some() && named.is_some() {
            return Err(Error::Refused {
                reason: format!("{variable} and {file_variable} are both set"),
                remedy: "unset one of them".to_owned(),
            });
        }
        let from_file = |path: PathBuf| Ok(Resolved { value: file::read(&path, cap)?, source: Source::File(path) });
        if let Some(path) = self.explicit.get(name) {
            return from_file(path.clone());
        }
        if let Some(path) = named {
            return from_file(PathBuf::from(path.as_str()));
        }
        let credentials =
            self.environment.get("CREDENTIALS_DIRECTORY").map(|directory| PathBuf::from(directory.as_str()));
        for directory in credentials.iter().chain([&self.mounts]) {
            let path = directory.join(name.file_name());
            match file::read(&path, cap) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(other) => return Err(other),
                Ok(value) => return Ok(Resolved { value, source: Source::File(path) }),
            }
        }
        if let Some(value) = plain {
            return Ok(Resolved {
                value: SecretBytes::copy_of(value.as_bytes()),
                source: Source::Environment(variable),
            });
        }
        Err(Error::NotFound {
            what: format!(
                "secret {name} (looked for {file_variable}, {}/{}, {variable})",
                self.mounts.display(),
                name.file_name()
            ),
        })
    }

    /// Everything that the sources of a keyring have, unaltered, with its place.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text), but for what does not exist.
    pub(crate) fn key_contents(&self, keyring: &KeyringSpec) -> Result<Vec<(String, SecretBytes)>> {
        let mut found = Vec::new();
        for source in &keyring.sources {
            match source {
                KeySource::File(pattern) => {
                    for path in matching(pattern)? {
                        match file::read(&path, file::MAX_KEY_FILE) {
                            Ok(content) => found.push((path.display().to_string(), content)),
                            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                            Err(other) => return Err(other),
                        }
                    }
                }
                KeySource::Secret(name) => match self.raw(name, file::MAX_KEY_FILE) {
                    Ok(resolved) => found.push((resolved.source.to_string(), resolved.value)),
                    Err(Error::NotFound { .. }) => {}
                    Err(other) => return Err(other),
                },
            }
        }
        Ok(found)
    }
}

/// Where the configuration is, by the environment: `VAULT_CORE_CONFIG` and `VAULT_CORE_PROFILE`.
pub(crate) fn config_from_environment() -> Option<(PathBuf, Option<String>)> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let profile = set("VAULT_CORE_PROFILE").map(|profile| profile.to_string_lossy().into_owned());
    set("VAULT_CORE_CONFIG").map(|path| (path.into(), profile))
}

/// The profile that the environment names.
pub(crate) fn profile_from_environment() -> Option<String> {
    env::var("VAULT_CORE_PROFILE").ok().filter(|profile| !profile.is_empty())
}

/// `vault.toml` in a directory or the nearest of its parents, or the one of the machine.
pub(crate) fn find_config(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .map(|directory| directory.join(CONFIG_NAME))
        .chain([PathBuf::from(SYSTEM_CONFIG)])
        .find(|path| path.is_file())
}

/// The files that a pattern names, sorted; a name without a pattern names itself.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>> {
    let wanted = pattern.file_name().unwrap_or_default().to_string_lossy();
    if !manifest::has_wildcard(&wanted) {
        return Ok(vec![pattern.to_owned()]);
    }
    let directory = file::directory_of(pattern);
    let entries = match directory.read_dir() {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::io("list", directory, source)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::io("list", directory, source))?;
        if manifest::matches(&wanted, &entry.file_name().to_string_lossy()) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
