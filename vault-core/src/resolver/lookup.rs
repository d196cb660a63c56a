//! What one source has of a secret.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::dotenv;
use crate::error::{Error, Place, Result};
use crate::file;
use crate::manifest::SecretSpec;
use crate::name::{SecretName, fold};
use crate::os_keyring::OsKeyringItem;
use crate::secret::SecretBytes;

use super::preset::Rules;
use super::source::{Lookup, Note, Resolved, Source, is_absence};
use super::{Opened, Resolver, Stored, file_variable};

/// What a source says of a secret.
pub(super) enum Asked {
    /// It does not have it; who that is, for people.
    Absent(String),
    /// The same, but it has something under another spelling of the name: what.
    Misspelled(String, String),
    Found(Resolved),
    /// There is no such source here.
    Nowhere,
}

impl Asked {
    fn found(value: SecretBytes, source: Source) -> Self {
        Self::Found(Resolved { value, source, notes: Vec::new() })
    }
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
                Some(SecretSpec { key_of: Some(keyring), .. }) => return self.ask_keyring(name, keyring, store),
                Some(SecretSpec { path: Some(path), .. }) => (Source::Declared(path.clone()), true),
                _ => return Ok(Asked::Nowhere),
            },
            Lookup::NamedFile => {
                let variables: Vec<_> = name.variables().map(|variable| file_variable(&variable)).collect();
                let named = variables.iter().find_map(|variable| Some((variable, self.environment.value(variable)?)));
                match named {
                    Some((variable, path)) => (Source::Named { path: path.into(), variable: variable.clone() }, true),
                    None => return Ok(Asked::Absent(format!("environment {}", variables.join(" or ")))),
                }
            }
            Lookup::Credential => match self.environment.value("CREDENTIALS_DIRECTORY") {
                Some(directory) => {
                    return self.ask_directory(Path::new(&directory), "", Source::Credential, name, cap, rules);
                }
                None => return Ok(Asked::Nowhere),
            },
            Lookup::Mount if rules.any_case => (Source::Mount(self.mount_in_any_case(&name.file_name())), false),
            Lookup::Mount => return self.ask_directory(&self.mounts, "", Source::Mount, name, cap, rules),
            Lookup::StackMount => match &self.stack {
                Some(stack) => {
                    return self.ask_directory(&self.mounts, &format!("{stack}_"), Source::Mount, name, cap, rules);
                }
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

    /// The files that decide what a source has, whether they are there or not.
    pub(super) fn files_asked(&self, place: Lookup, name: &SecretName, rules: &Rules) -> Vec<PathBuf> {
        let in_directory = |directory: &Path, prefix: &str| {
            let mut files = vec![
                directory.join(format!("{prefix}{}", name.file_name())),
                directory.join(format!("{prefix}{}", name.as_str())),
            ];
            let others: Vec<_> = files.iter().flat_map(|file| other_spellings(file)).collect();
            files.extend(others);
            files
        };
        match place {
            Lookup::Credential => match self.environment.value("CREDENTIALS_DIRECTORY") {
                Some(directory) => in_directory(Path::new(&directory), ""),
                None => Vec::new(),
            },
            Lookup::Declared => self.declared.get(name).and_then(|spec| spec.path.clone()).into_iter().collect(),
            Lookup::EnvironmentFile => vec![self.environment_file()],
            Lookup::Mount if rules.any_case => vec![self.mount_in_any_case(&name.file_name())],
            Lookup::Mount => in_directory(&self.mounts, ""),
            Lookup::NamedFile => {
                let named = name.variables().filter_map(|variable| self.environment.value(&file_variable(&variable)));
                named.map(PathBuf::from).collect()
            }
            Lookup::StackMount => {
                self.stack.iter().flat_map(|stack| in_directory(&self.mounts, &format!("{stack}_"))).collect()
            }
            Lookup::OsKeyring | Lookup::Store | Lookup::Variable => Vec::new(),
        }
    }

    fn environment_file(&self) -> PathBuf {
        file::directory_of(&self.path).join(".env")
    }

    /// The file in a directory where each secret has one: its name in lower case, or as it is
    /// spelled. What the directory has under any other spelling is never passed over in silence.
    fn ask_directory(
        &self,
        directory: &Path,
        prefix: &str,
        source: fn(PathBuf) -> Source,
        name: &SecretName,
        cap: usize,
        rules: &Rules,
    ) -> Result<Asked> {
        let lower = directory.join(format!("{prefix}{}", name.file_name()));
        let spelled = directory.join(format!("{prefix}{}", name.as_str()));
        let found = read_if_there(&lower, cap)?;
        // An application with rules of its own reads that one alone.
        let as_spelled = match rules.is_strict() && spelled != lower {
            true => read_if_there(&spelled, cap)?,
            false => None,
        };
        let mut others = other_spellings(&lower).into_iter().chain(other_spellings(&spelled));
        let other = others.find(|other| *other != lower && !(rules.is_strict() && *other == spelled));
        let wrong = |place: &Path, reason: String| Error::Config { place: Place::file(place), reason };
        let (value, path) = match (found, as_spelled) {
            (Some(one), Some(two)) if one.expose_secret() != two.expose_secret() => {
                let reason = format!(
                    "{} has another content, and both are secret {name}; remove the one that is out of date",
                    spelled.display()
                );
                return Err(wrong(&lower, reason));
            }
            (Some(value), _) => (value, lower),
            (None, Some(value)) => (value, spelled),
            (None, None) => {
                let place = source(lower).to_string();
                return match other {
                    Some(other) if rules.is_strict() => Err(wrong(
                        &other,
                        format!("it has the name of secret {name} in another spelling; call it {}", name.file_name()),
                    )),
                    Some(other) => Ok(Asked::Misspelled(place, format!("file {}", other.display()))),
                    None => Ok(Asked::Absent(place)),
                };
            }
        };
        let notes = other.map(|other| Note::OtherSpelling(format!("file {}", other.display()))).into_iter().collect();
        Ok(Asked::Found(Resolved { value, source: source(path), notes }))
    }

    /// The file of a mounted secret, in whatever case its name is.
    fn mount_in_any_case(&self, name: &str) -> PathBuf {
        let exact = self.mounts.join(name);
        if exact.symlink_metadata().is_ok() {
            return exact;
        }
        let entries = fs::read_dir(&self.mounts).into_iter().flatten().flatten();
        let mut same =
            entries.filter(|entry| entry.file_name().to_str().is_some_and(|found| found.eq_ignore_ascii_case(name)));
        same.next().map_or(exact, |entry| entry.path())
    }

    fn ask_variable(&self, name: &SecretName, cap: usize, rules: &Rules) -> Result<Asked> {
        let variables: Vec<String> = match rules.any_case {
            true => {
                let folded = name.folded();
                vec![self.environment.spelling(&folded).unwrap_or(folded)]
            }
            false => name.variables().collect(),
        };
        let mut found: Option<(SecretBytes, &String)> = None;
        for variable in &variables {
            let value = self.environment.secret(variable, cap)?;
            let Some(value) = value.filter(|value| rules.empty_variable || !value.is_empty()) else { continue };
            match &found {
                None => found = Some((value, variable)),
                Some((first, of)) if first.expose_secret() != value.expose_secret() => {
                    let (first, source) =
                        (SecretBytes::copy_of(first.expose_secret()), Source::Variable((*of).clone()));
                    let notes = vec![Note::OtherSpelling(format!("environment {variable}"))];
                    return Ok(Asked::Found(Resolved { value: first, source, notes }));
                }
                Some(_) => {}
            }
        }
        Ok(match found {
            Some((value, variable)) => Asked::found(value, Source::Variable(variable.clone())),
            None => Asked::Absent(format!("environment {}", variables.join(" or "))),
        })
    }

    /// The `.env` beside the configuration, as python-dotenv reads it.
    fn ask_environment_file(&self, name: &SecretName) -> Result<Asked> {
        let path = self.environment_file();
        let absent = || Asked::Absent(format!("environment file {}", path.display()));
        let Some(content) = read_if_there(&path, dotenv::MAX_TEXT)? else { return Ok(absent()) };
        let wrong = |reason: &str| Error::Config { place: Place::file(&path), reason: reason.to_owned() };
        let text = core::str::from_utf8(content.expose_secret()).map_err(|_| wrong("it is not UTF-8 text"))?;
        let reading =
            dotenv::read_substituted(text, |name| self.environment.secret(name, file::MAX_SECRET).ok().flatten())?;
        let variable = name.folded();
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

    /// The key that a keyring seals with now.
    fn ask_keyring(&self, name: &SecretName, keyring: &str, opened: Stored<'_>) -> Result<Asked> {
        let Some(Opened { primary, .. }) = opened else {
            return Err(Error::Config {
                place: Place::file(&self.path),
                reason: format!(
                    "secret {name} is the key of keyring {keyring}, and is asked for before that is loaded; what opens a store or a keyring is not the key of one"
                ),
            });
        };
        let (value, kid) = primary(keyring)?;
        Ok(Asked::found(value, Source::Keyring { keyring: keyring.to_owned(), kid }))
    }

    fn ask_store(&self, name: &SecretName, store: Stored<'_>) -> Result<Asked> {
        if self.needed_by_store.contains(&name.folded()) {
            return Ok(Asked::Absent("not in the store, which needs it to be opened".to_owned()));
        }
        let Some(Opened { store: Some((location, open)), .. }) = store else { return Ok(Asked::Nowhere) };
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

    /// What a vault knows, without its store for the parts of a secret that it takes to open that.
    pub(super) fn opened_for<'a>(&self, name: &SecretName, opened: Stored<'a>) -> Stored<'a> {
        opened.map(|opened| match self.needed_by_store.contains(&name.folded()) {
            true => Opened { store: None, ..opened },
            false => opened,
        })
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

/// The files beside this one whose names differ from its own in spelling only. A directory that
/// cannot be listed has none.
fn other_spellings(path: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let folded = fold(name);
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut same: Vec<_> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|found| found != name && fold(found) == folded))
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    same.sort();
    same
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
