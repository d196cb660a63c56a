//! Writing the state file: under its lock, whole, and signed by every key that is loaded.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::file::{self, Lock};
use crate::key::KeyId;
use crate::primitives;
use crate::secret::SecretBytes;

use super::state::{Change, KeyState, KeyringState};
use super::{Keyring, Material, refused};

/// The proof that no value needs a key: verification hands it out, and disabling the key demands
/// it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retired {
    kid: KeyId,
    generation: u64,
}

impl Retired {
    pub(crate) fn new(kid: KeyId, generation: u64) -> Self {
        Self { kid, generation }
    }

    /// The key.
    #[must_use]
    pub fn kid(&self) -> KeyId {
        self.kid
    }

    pub(super) fn check(&self, generation: u64) -> Result<()> {
        if self.generation == generation {
            return Ok(());
        }
        Err(Error::Temporary {
            reason: "the keyring changed since the values were verified".to_owned(),
            remedy: "run the command again".to_owned(),
        })
    }
}

/// What became of a key that was to be added.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Added {
    /// It is the keyring's first key, and primary.
    First,
    /// It waits as active, now or since before.
    Waiting,
    /// It was listed before and counts again.
    Signed,
}

/// Changes the state file at `path`, or writes the next one to `out` for redeployment. `load`
/// reads keys and states anew, under the lock.
pub(crate) fn change<K: Material>(
    path: &Path,
    out: Option<&Path>,
    load: impl FnOnce() -> Result<Keyring<K>>,
    change: &Change,
) -> Result<KeyringState> {
    let _lock = match out {
        None => Some(Lock::of(path)?),
        Some(_) => None,
    };
    let keyring = load()?;
    if let Change::Promote(kid) = change {
        let key = keyring.opening(*kid)?;
        if key.flaw().is_some() {
            return Err(Error::CannotSeal { why: "the key is weak or published" });
        }
    }
    let mut next = current(&keyring)?.after(change)?;
    sign(&mut next, &keyring, None);
    write(path, out, &next)?;
    Ok(next)
}

/// Adds a key so that no moment is an error to a process that loads the keyring: the key's file
/// is written under a name that no source matches, then the state file, then the key's file is
/// renamed. Run again after an interruption, it finishes.
///
/// `load` reads keys and states anew, without the key's file at `destination`; without any other
/// key it says so with [`Error::KeyMissing`].
pub(crate) fn add<K: Material>(
    path: &Path,
    destination: &Path,
    key: &K,
    content: &SecretBytes,
    label: Option<String>,
    load: impl FnOnce() -> Result<Keyring<K>>,
) -> Result<Added> {
    let kid = key.kid();
    let _lock = Lock::of(path)?;
    refuse_overwriting(destination, content)?;
    let keyring = match load() {
        Ok(keyring) => keyring,
        Err(Error::KeyMissing { .. }) => {
            put(destination, kid, content)?;
            return Ok(Added::First);
        }
        Err(other) => return Err(other),
    };
    if keyring.state().is_none() && keyring.primary_kid() == kid {
        return Ok(Added::First);
    }
    let current = current(&keyring)?;
    let hidden = destination.with_file_name(format!(".vault-new-{kid}"));
    let (next, added) = match current.keys().get(&kid).map(|record| record.state) {
        None => {
            let source = Some(format!("file:{}", destination.display()));
            (current.after(&Change::Add { kid, label, source })?, Added::Waiting)
        }
        Some(KeyState::Destroyed) => {
            return Err(refused(format!("key {kid} is destroyed"), "generate another one"));
        }
        Some(KeyState::Active) => (current, Added::Waiting),
        Some(_) => (current, Added::Signed),
    };
    write_hidden(&hidden, content)?;
    let mut next = next;
    sign(&mut next, &keyring, Some(key));
    write(path, None, &next)?;
    show(&hidden, destination)?;
    Ok(added)
}

fn refuse_overwriting(destination: &Path, content: &SecretBytes) -> Result<()> {
    let there = match file::read(destination, file::MAX_KEY_FILE) {
        Ok(there) => there,
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(other) => return Err(other),
    };
    if primitives::equal(there.expose_secret(), content.expose_secret()) {
        return Ok(());
    }
    Err(refused(
        format!("{} exists and holds something else", destination.display()),
        "give the new key's file another name and add it again",
    ))
}

fn current<K: Material>(keyring: &Keyring<K>) -> Result<KeyringState> {
    match keyring.state() {
        Some(state) => Ok(state.clone()),
        None => KeyringState::first(K::KIND, keyring.primary_kid()),
    }
}

fn sign<K: Material>(state: &mut KeyringState, keyring: &Keyring<K>, new: Option<&K>) {
    for key in keyring.loaded().map(|key| &**key).chain(new) {
        state.sign(key);
    }
}

fn write(path: &Path, out: Option<&Path>, state: &KeyringState) -> Result<()> {
    file::replace(out.unwrap_or(path), state.render().as_bytes(), 0o644)
}

/// Writes a first key's file: there is no state yet that could miss it.
fn put(destination: &Path, kid: KeyId, content: &SecretBytes) -> Result<()> {
    let hidden = destination.with_file_name(format!(".vault-new-{kid}"));
    write_hidden(&hidden, content)?;
    show(&hidden, destination)
}

fn write_hidden(hidden: &Path, content: &SecretBytes) -> Result<()> {
    // One that an interrupted run left may be cut short.
    match fs::remove_file(hidden) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", hidden, source)),
        _ => {}
    }
    file::write_new(hidden, content.expose_secret(), 0o600).map_err(|source| Error::io("write", hidden, source))
}

/// Gives the key's file the name that a source matches; nothing that exists is overwritten.
fn show(hidden: &Path, destination: &Path) -> Result<()> {
    match fs::hard_link(hidden, destination) {
        // An interrupted run got this far, or the key's file was put there by hand.
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(Error::io("create", destination, source)),
        Ok(()) => {}
    }
    fs::remove_file(hidden).map_err(|source| Error::io("remove", hidden, source))?;
    file::flush_directory(destination)
}
