//! Where the states of a keyring are kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Place, Result};
use crate::file::{self, Lock};

use super::state::KeyringState;
use super::{Found, Keyring, Material};

/// Where the states of a keyring are kept: in a file, or in the database of a store.
pub(crate) trait States {
    /// The states, if there are any yet.
    fn read(&self) -> Result<Option<KeyringState>>;

    /// Keeps others from writing until it is dropped, where [`write`](Self::write) alone does not.
    fn lock(&self) -> Result<Option<Lock>>;

    /// Puts `next` in the place of the states of generation `before`, which is 0 for none. Whoever
    /// reads finds the one or the other.
    fn write(&self, before: u64, next: &KeyringState) -> Result<()>;
}

/// States in a file.
pub(crate) struct StateFile<'a>(pub(crate) &'a Path);

impl States for StateFile<'_> {
    fn read(&self) -> Result<Option<KeyringState>> {
        let Self(path) = *self;
        let content = match file::read(path, MAX_STATES) {
            Ok(content) => content,
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                // Where there is a copy of the one before, there was one.
                return if backup(path).symlink_metadata().is_ok() { Err(lost(path)) } else { Ok(None) };
            }
            Err(other) => return Err(other),
        };
        let text = core::str::from_utf8(content.expose_secret())
            .map_err(|_| Error::Config { place: Place::file(path), reason: "it is not UTF-8 text".to_owned() })?;
        KeyringState::parse(text, path).map(Some)
    }

    fn lock(&self) -> Result<Option<Lock>> {
        Lock::of(self.0).map(Some)
    }

    fn write(&self, _: u64, next: &KeyringState) -> Result<()> {
        file::replace(self.0, rendered(next, self.0)?.as_bytes(), 0o644)
    }
}

impl<K: Material> Keyring<K> {
    /// As [`of_shared`](Self::of_shared), from sources and a state file that may be changed meanwhile.
    ///
    /// A key that is added and promoted between the two looks would be primary without material,
    /// so the keys count only if the state file is the same after they were read as before.
    pub(crate) fn read(
        mut found: impl FnMut() -> Result<Vec<Found<Arc<K>>>>,
        mut state: impl FnMut() -> Result<Option<KeyringState>>,
        min_generation: u64,
        states_in: Option<&Path>,
    ) -> Result<Self> {
        let mut before = state()?;
        for _ in 0..MAX_LOOKS {
            let found = found()?;
            let after = state()?;
            if after == before {
                return Self::of_shared(found, after, min_generation, states_in.map(lost));
            }
            before = after;
        }
        Err(Error::Temporary {
            reason: "the keyring's state file kept changing while its keys were read".to_owned(),
            remedy: "run the command again".to_owned(),
        })
    }
}

/// The refusal of a keyring whose states were there, or must have been.
fn lost(path: &Path) -> Error {
    let backup = backup(path);
    let copy = match backup.symlink_metadata() {
        Ok(_) => format!("{} is the one before the last change", backup.display()),
        Err(_) => format!("there is no {}", backup.display()),
    };
    Error::Refused {
        reason: format!("{} is missing, and nothing else says which key is primary; {copy}", path.display()),
        remedy: "STOP where values exist: put the newest state file back, from where it was deployed or from a backup, and run `vault status`, which tells whether it is too old. Where no value exists, keep one key where the sources find it, remove the rest of the states, and add the other keys with `vault key add`".to_owned(),
    }
}

/// The copy that is kept of a state file when it is replaced.
fn backup(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".bak");
    PathBuf::from(name)
}

/// The text of states, unless it would not read back as what they are.
pub(crate) fn rendered(states: &KeyringState, place: &Path) -> Result<String> {
    let text = states.render();
    if KeyringState::parse(&text, place)? == *states {
        Ok(text)
    } else {
        Err(Error::Malformed { what: "keyring state: it would not read back as it is" })
    }
}

/// Longest states, in bytes.
pub(crate) const MAX_STATES: usize = 1 << 20;

/// How often keys are read while their state file changes.
const MAX_LOOKS: usize = 10;
