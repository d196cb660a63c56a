//! Where the states of a keyring are kept.

use std::path::Path;

use crate::error::{Error, Place, Result};
use crate::file::{self, Lock};

use super::state::KeyringState;

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
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
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
