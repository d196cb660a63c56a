//! What one source has of a secret.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::dotenv;
use crate::error::{Error, Place, Result};
use crate::file;
use crate::manifest::SecretSpec;
use crate::name::SecretName;
use crate::os_keyring::OsKeyringItem;
use crate::secret::SecretBytes;

use super::preset::Rules;
use super::source::{Resolved, Source};
use super::{Resolver, Stored, file_variable};

/// What a source says of a secret.
pub(super) enum Asked {
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
pub(super) enum Lookup {
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

impl Resolver {
    /// Asks one source. What exists there and cannot be read is an error.
    pub(super) fn ask(
        &self,
        place: Lookup,
        name: &SecretName,
        cap: usize,
        store: Stored<'_>,
        rules: &Rules,
    ) -> Result<Asked> {
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

    pub(super) fn read_os_keyring(&self, item: &OsKeyringItem, cap: usize) -> Result<Option<SecretBytes>> {
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
    pub(super) fn store_of<'a>(&self, name: &SecretName, store: Stored<'a>) -> Stored<'a> {
        store.filter(|_| !self.needed_by_store.contains(&name.variable()))
    }
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

/// A link that leads nowhere is there, and cannot be read.
pub(super) fn read_if_there(path: &Path, cap: usize) -> Result<Option<SecretBytes>> {
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

pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound)
}
