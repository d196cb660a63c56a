//! Replacing files whole, under a lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

use super::{create, explain_replace, flush_directory, hidden, no_follow, remove_left_over};

/// How long a writer waits for the others. Each holds the lock for a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// An exclusive lock beside a file, released when dropped. The lock file is never removed.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        Self::within(path, PATIENCE)
    }

    /// The lock, unless somebody else keeps it for longer than this: a process that was stopped
    /// must not stop all the others without a word.
    fn within(path: &Path, patience: Duration) -> Result<Self> {
        let lock = with_suffix(path, ".lock");
        let file = open_or_create(&lock, 0o600).map_err(|source| Error::io("lock", &lock, explain_replace(source)))?;
        own_as(&file, path);
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Temporary {
                        reason: format!("{} has been locked by another process for {patience:?}", lock.display()),
                        remedy: "run the command again when that one has ended; `fuser` tells which it is".to_owned(),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(Error::io("lock", &lock, explain_lock(source))),
            }
        }
        // Some network file systems grant every lock, and then two writers would lose a change.
        let second = File::open(&lock).map_err(|source| Error::io("lock", &lock, source))?;
        match second.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(Self { _file: file }),
            _ => Err(Error::io("lock", &lock, no_locks())),
        }
    }
}

fn explain_lock(source: io::Error) -> io::Error {
    use rustix::io::Errno;

    let unsupported = [Errno::NOLCK, Errno::NOSYS, Errno::NOTSUP];
    if unsupported.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error())) {
        no_locks()
    } else {
        source
    }
}

fn no_locks() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "locks do not work on this file system, so two writers could lose a change; keep the file on a local disk",
    )
}

/// Replaces a file whole: whoever reads it, and whatever happens, finds the old or the new
/// content. A new file gets `mode`; one that exists keeps its owner and mode, and its content is
/// kept as `<name>.bak`.
///
/// The caller holds the [`Lock`] of the file.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let fail = |source| Error::io("replace", path, source);
    let old = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Some(metadata),
        Ok(_) => {
            return Err(fail(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is a link or no regular file; name the file itself",
            )));
        }
        Err(source) if source.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(fail(source)),
    };
    remove_left_over(path)?;
    let temporary = hidden(path, "tmp")?;
    let written = create(&temporary, content, old.as_ref().map_or(mode, |old| old.mode() & 0o7777), old.as_ref())
        .and_then(|()| {
            if fs::read(&temporary)? == content {
                Ok(())
            } else {
                Err(io::Error::other("it did not keep what was written"))
            }
        })
        .and_then(|()| match &old {
            Some(_) => keep_backup(path),
            None => Ok(()),
        })
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        // The file itself is as it was; a temporary one that stays is removed by the next run.
        let _ = fs::remove_file(&temporary);
        return Err(fail(explain_replace(source)));
    }
    flush_directory(path)
}

/// Opens a file for reading and writing. One that it makes has this mode whatever the umask is.
fn open_or_create(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(no_follow());
    loop {
        match options.clone().create_new(true).mode(mode).open(path) {
            Ok(file) => {
                file.set_permissions(fs::Permissions::from_mode(mode))?;
                return Ok(file);
            }
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(source),
            Err(_) => {}
        }
        match options.open(path) {
            // It was removed in between.
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
}

/// Gives a file the owner of another, so that one command of the administrator does not keep the
/// other's owner out for ever. Who may not do that has made none in another's place.
fn own_as(file: &File, other: &Path) {
    if let (Ok(own), Ok(other)) = (file.metadata(), fs::symlink_metadata(other))
        && (own.uid(), own.gid()) != (other.uid(), other.gid())
    {
        let _ = fchown(file, Some(other.uid()), Some(other.gid()));
    }
}

fn keep_backup(path: &Path) -> io::Result<()> {
    let link = hidden(path, "bak").map_err(|_| io::Error::other("no randomness"))?;
    fs::hard_link(path, &link)?;
    fs::rename(&link, with_suffix(path, ".bak"))?;
    // Where an interrupted run has made this backup already, both names are one file, and rename
    // leaves both.
    match fs::remove_file(&link) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(source),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use crate::file::tests::{contents, expect};

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode_and_a_backup() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.toml");
        replace(&path, b"one", 0o640).unwrap();
        expect(directory.path(), &[("s.toml", "one")]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        replace(&path, b"two", 0o640).unwrap();
        replace(&path, b"three", 0o640).unwrap();
        expect(directory.path(), &[("s.toml", "three"), ("s.toml.bak", "two")]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o604);
    }

    #[test]
    fn what_an_interrupted_run_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.toml");
        let strangers = [
            ".s.toml.0123.tmp",
            ".s.toml.0123456789abcdeg.tmp",
            ".t.toml.0123456789abcdef.tmp",
            "s.toml.0123456789abcdef.tmp",
        ];
        for name in strangers.into_iter().chain([".s.toml.0123456789abcdef.tmp", ".s.toml.fedcba9876543210.bak"]) {
            fs::write(directory.path().join(name), "left").unwrap();
        }
        replace(&path, b"one", 0o600).unwrap();
        let mut expected = strangers.map(|name| (name, "left")).to_vec();
        expected.push(("s.toml", "one"));
        expect(directory.path(), &expected);
    }

    /// Killed between the backup and the last rename, current and backup are one file.
    #[test]
    fn after_a_kill_behind_the_backup_no_second_name_of_it_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.toml");
        fs::write(&path, "one").unwrap();
        fs::hard_link(&path, directory.path().join("s.toml.bak")).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        expect(directory.path(), &[("s.toml", "two"), ("s.toml.bak", "one")]);
    }

    #[test]
    fn links_and_what_is_no_file_are_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link, folder) =
            (directory.path().join("file"), directory.path().join("link"), directory.path().join("folder"));
        fs::write(&file, "one").unwrap();
        symlink("file", &link).unwrap();
        fs::create_dir(&folder).unwrap();
        for path in [&link, &folder] {
            let error = replace(path, b"two", 0o600).unwrap_err();
            assert!(error.to_string().contains("name the file itself"), "{error}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_failed_replacement_leaves_the_file_and_no_temporary_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.toml");
        fs::write(&path, "one").unwrap();
        // The backup cannot take the place of a directory.
        fs::create_dir(directory.path().join("s.toml.bak")).unwrap();
        assert!(matches!(replace(&path, b"two", 0o600), Err(Error::Io { action: "replace", .. })));
        fs::remove_dir(directory.path().join("s.toml.bak")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert!(contents(directory.path()).keys().all(|name| !name.ends_with(".tmp")));
        replace(&path, b"two", 0o600).unwrap();
        expect(directory.path(), &[("s.toml", "two"), ("s.toml.bak", "one")]);
    }

    #[test]
    fn a_lock_excludes_others_and_is_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.toml");
        let held = Lock::of(&path).unwrap();
        let other = File::open(directory.path().join("s.toml.lock")).unwrap();
        assert!(other.try_lock().is_err());
        match Lock::within(&path, Duration::from_millis(20)) {
            Err(Error::Temporary { reason, .. }) => assert!(reason.contains("s.toml.lock"), "{reason}"),
            other => panic!("{:?}", other.err()),
        }
        drop(held);
        other.try_lock().unwrap();
        assert_eq!(other.metadata().unwrap().mode() & 0o7777, 0o600);

        let linked = directory.path().join("t.toml");
        symlink("elsewhere", directory.path().join("t.toml.lock")).unwrap();
        assert!(Lock::of(&linked).is_err());
        assert!(!directory.path().join("elsewhere").exists());
    }
}
