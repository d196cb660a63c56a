//! Writing the state file: under its lock, whole, and signed by every key that is loaded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::file;
use crate::key::KeyId;
use crate::primitives;
use crate::secret::SecretBytes;

use super::place::{StateFile, States};
use super::state::{Change, KeyState, KeyringState};
use super::{Keyring, Material, refused};

/// A key that is to be added.
pub(crate) struct NewKey<'a, K> {
    /// The key.
    pub(crate) key: &'a K,
    /// What its file holds.
    pub(crate) content: &'a SecretBytes,
    /// A name for people.
    pub(crate) label: Option<String>,
    /// The generation that the keyring must have, so that of two that make a key only one does.
    pub(crate) generation: Option<u64>,
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

/// Changes the states, or writes the next ones to `out` for redeployment. `load` reads keys and
/// states anew, under the lock.
pub(crate) fn change<K: Material>(
    states: &dyn States,
    out: Option<&Path>,
    load: impl Fn() -> Result<Keyring<K>>,
    change: &Change,
) -> Result<KeyringState> {
    let out = out.map(StateFile);
    let target: &dyn States = match &out {
        Some(out) => out,
        None => states,
    };
    let lock = target.lock()?;
    let keyring = load()?;
    let now = current(&keyring)?;
    let (kid, to) = change.goal();
    if now.is(kid, to) {
        // The command again after an interruption that came too late to matter.
        return Ok(now);
    }
    let mut next = now.after(change)?;
    check_material(&keyring, kid, to)?;
    if lock.is_none() {
        refuse_half_added(&keyring, None, &load)?;
    }
    next.sign(signers(&keyring, None));
    target.write(keyring.generation(), &next)?;
    Ok(next)
}

/// Whether [`change`] would put a key into a state, but for the proof that no value needs it.
pub(crate) fn check<K: Material>(keyring: &Keyring<K>, kid: KeyId, to: KeyState) -> Result<()> {
    let now = current(keyring)?;
    if now.is(kid, to) {
        return Ok(());
    }
    now.moved(kid, to)?;
    check_material(keyring, kid, to)
}

/// What a state demands of a key's material.
fn check_material<K: Material>(keyring: &Keyring<K>, kid: KeyId, to: KeyState) -> Result<()> {
    match to {
        KeyState::Primary if keyring.opening(kid)?.flaw().is_some() => {
            Err(Error::CannotSeal { why: "the key is weak or published" })
        }
        KeyState::Destroyed => match keyring.inner.keys.get(&kid).and_then(|entry| entry.place.as_ref()) {
            // Every process that still finds the material would refuse to load the next state.
            Some(place) => Err(refused(
                format!("the material of key {kid} is still there: {place}"),
                "remove or unmount it everywhere; backups older than this need it to be read",
            )),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Adds a key so that no moment is an error to a process that loads the keyring: the key's file
/// is written under a name that no source matches, then the state file, then the key's file is
/// renamed. Run again after an interruption, it finishes.
///
/// With `out`, the next state file is written there for redeployment, and the key's file is left
/// to whoever deploys it.
///
/// `load` reads keys and states anew, without the key's file at a path where one is given; without
/// any other key it says so with [`Error::KeyMissing`].
pub(crate) fn add<K: Material>(
    states: &dyn States,
    out: Option<&Path>,
    destination: &Path,
    new: &NewKey<'_, K>,
    load: impl Fn(Option<&Path>) -> Result<Keyring<K>>,
) -> Result<Added> {
    let target_out = out.map(StateFile);
    let target: &dyn States = match &target_out {
        Some(out) => out,
        None => states,
    };
    let lock = target.lock()?;
    let Addition { added, next, place, keyring } = addition(out, destination, new, &load)?;
    if let Some(keyring) = keyring.filter(|_| lock.is_none()) {
        let again = || load(None).or_else(|_| load(Some(destination)));
        refuse_half_added(&keyring, Some(new.key.kid()), again)?;
    }
    let hidden = hidden(destination, new.key.kid());
    if place {
        write_hidden(&hidden, new.content)?;
    }
    if let Some((before, next)) = next
        && let Err(error) = target.write(before, &next)
    {
        // Where somebody else changed the states first, they do not list this key. Nobody knows of a copy.
        if place && matches!(error, Error::Temporary { .. }) {
            let _ = remove(&hidden);
        }
        return Err(error);
    }
    if place {
        show(&hidden, destination, new.content)?;
    } else if out.is_none() && hidden.symlink_metadata().is_ok() {
        remove(&hidden)?;
    }
    Ok(added)
}

/// Whether [`add`] would add the key, and nothing is written.
pub(crate) fn check_addition<K: Material>(
    out: Option<&Path>,
    destination: &Path,
    new: &NewKey<'_, K>,
    load: impl Fn(Option<&Path>) -> Result<Keyring<K>>,
) -> Result<Added> {
    addition(out, destination, new, load).map(|addition| addition.added)
}

/// The name that no source matches, which the key's file has before the state file lists the key.
pub(crate) fn hidden(destination: &Path, kid: KeyId) -> PathBuf {
    destination.with_file_name(format!(".vault-new-{kid}"))
}

/// What adding a key comes to, before anything is written.
struct Addition<K> {
    added: Added,
    /// The generation of the present states, and the next ones, signed; none where the present ones
    /// stay.
    next: Option<(u64, KeyringState)>,
    /// Whether the key's file has to be put where a source finds it.
    place: bool,
    /// What was loaded, where it has states or other keys.
    keyring: Option<Keyring<K>>,
}

fn addition<K: Material>(
    out: Option<&Path>,
    destination: &Path,
    new: &NewKey<'_, K>,
    load: impl Fn(Option<&Path>) -> Result<Keyring<K>>,
) -> Result<Addition<K>> {
    let (key, kid) = (new.key, new.key.kid());
    let there = is_there(destination, new.content)?;
    // A file that is there belongs to a key that is listed, which the others may not do without,
    // or was put there by hand before the key is listed.
    let listed = if there { load(None).ok() } else { None };
    let loaded = listed.map_or_else(|| load(Some(destination)), Ok);
    let keyring = match loaded {
        Err(Error::KeyMissing { .. }) => None,
        other => Some(other?),
    };
    let keyring = match keyring {
        Some(keyring) if keyring.state().is_some() || keyring.primary_kid() != kid => keyring,
        _ if out.is_some() => {
            return Err(refused(
                format!("key {kid} is the keyring's first key, and needs no state file"),
                "put its file where a source of the keyring finds it",
            ));
        }
        // There is no state that could miss it.
        other => {
            return Ok(Addition { added: Added::First, next: None, place: other.is_none() && !there, keyring: None });
        }
    };
    let current = current(&keyring)?;
    if new.generation.is_some_and(|generation| generation != keyring.generation()) {
        return Err(Error::Temporary {
            reason: "the keyring was changed by somebody else".to_owned(),
            remedy: "run the command again; it goes on with the key that was added meanwhile".to_owned(),
        });
    }
    let signed = current.check_macs([key]).is_ok();
    let (next, added) = match current.keys().get(&kid).map(|record| record.state) {
        None => {
            let source = Some(format!("file:{}", destination.display()));
            (Some(current.with(kid, new.label.clone(), source)?), Added::Waiting)
        }
        Some(KeyState::Destroyed) => {
            return Err(refused(format!("key {kid} is destroyed"), "generate another one"));
        }
        // An interrupted run wrote the state; or it was written since, where this key was absent.
        Some(KeyState::Active) => ((!signed).then(|| current.next()), Added::Waiting),
        Some(_) => ((!signed).then(|| current.next()), Added::Signed),
    };
    let next = next.map(|mut next| {
        next.sign(signers(&keyring, Some(key)));
        (keyring.generation(), next)
    });
    Ok(Addition { added, next, place: out.is_none() && !there, keyring: Some(keyring) })
}

/// Refuses while somebody else adds a key, where no lock does: its file is not yet where a source finds it,
/// and states that are signed without it would not load once it is.
fn refuse_half_added<K: Material>(
    keyring: &Keyring<K>,
    own: Option<KeyId>,
    load: impl FnOnce() -> Result<Keyring<K>>,
) -> Result<()> {
    let absent = absent(keyring, own);
    let Some((kid, _)) = absent.first() else { return Ok(()) };
    let is_hidden = absent.iter().any(|(kid, file)| hidden(file, *kid).symlink_metadata().is_ok());
    // Who ended just now is found by another look.
    if !is_hidden && load().is_ok_and(|now| self::absent(&now, own) == absent) {
        return Ok(());
    }
    Err(Error::Temporary {
        reason: format!("key {kid} is just being added by somebody else, or was when they were interrupted"),
        remedy: "run the command again; if it says so again, finish that addition first, with the same `vault key add` or with `vault rotate`".to_owned(),
    })
}

/// The keys that wait, but for `own`, and whose material is not there, with the files that they are to have.
fn absent<K: Material>(keyring: &Keyring<K>, own: Option<KeyId>) -> Vec<(KeyId, PathBuf)> {
    let records = keyring.state().into_iter().flat_map(KeyringState::keys);
    let waits = records.filter(|(kid, record)| record.state == KeyState::Active && Some(**kid) != own);
    let absent = waits.filter(|(kid, _)| keyring.inner.keys.get(kid).is_none_or(|entry| entry.key.is_none()));
    let file = |source: &Option<String>| source.as_deref()?.strip_prefix("file:").map(PathBuf::from);
    absent.map(|(kid, record)| (*kid, file(&record.source).unwrap_or_default())).collect()
}

/// Whether the key's file is there already; one that holds something else is not overwritten.
fn is_there(destination: &Path, content: &SecretBytes) -> Result<bool> {
    let there = match file::read(destination, file::MAX_KEY_FILE) {
        Ok(there) => there,
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(other) => return Err(other),
    };
    if primitives::equal(there.expose_secret(), content.expose_secret()) {
        return Ok(true);
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

/// The keys whose material is there, which have to sign: the new one among them.
fn signers<'a, K: Material>(keyring: &'a Keyring<K>, new: Option<&'a K>) -> impl Iterator<Item = &'a K> {
    keyring.inner.keys.values().filter_map(|entry| entry.key.as_deref()).chain(new)
}

fn write_hidden(hidden: &Path, content: &SecretBytes) -> Result<()> {
    // One that an interrupted run left may be cut short.
    match fs::remove_file(hidden) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", hidden, source)),
        _ => {}
    }
    file::write_new(hidden, content.expose_secret(), 0o600).map_err(|source| Error::io("write", hidden, source))?;
    file::flush_directory(hidden)
}

/// Gives the key's file the name that a source matches; nothing that exists is overwritten.
fn show(hidden: &Path, destination: &Path, content: &SecretBytes) -> Result<()> {
    let named = match renameat_with(CWD, hidden, CWD, destination, RenameFlags::NOREPLACE) {
        // Not every file system can; two names leave a copy where this is interrupted.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(hidden, destination).and_then(|()| fs::remove_file(hidden))
        }
        renamed => renamed.map_err(io::Error::from),
    };
    match named {
        // An interrupted run got this far, or the key's file was put there by hand.
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
            is_there(destination, content)?;
            remove(hidden)?;
        }
        Err(source) => return Err(Error::io("create", destination, source)),
        Ok(()) => {}
    }
    file::flush_directory(destination)
}

fn remove(hidden: &Path) -> Result<()> {
    fs::remove_file(hidden).map_err(|source| Error::io("remove", hidden, source))
}

#[cfg(test)]
mod tests;
