//! Secrets as files in memory, for as long as a command runs.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::fstatfs;
use tempfile::TempDir;
use vault_core::{Error, create_file, replaced_by_strangers};

use super::Delivered;

/// A private directory with a file for each secret. It is gone when this is dropped.
pub(super) struct Files {
    directory: TempDir,
    paths: Vec<PathBuf>,
}

impl Files {
    pub(super) fn create(secrets: &[Delivered]) -> Result<Self, Error> {
        let parent = in_memory()?;
        let directory = tempfile::Builder::new()
            .prefix("vault-run-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .and_then(|directory| {
                // The mode at creation is subject to the umask.
                fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).map(|()| directory)
            })
            .map_err(|source| Error::Io { action: "create a directory in", path: parent, source })?;
        let mut paths = Vec::new();
        for (number, secret) in secrets.iter().enumerate() {
            let name = secret.name.file_name().replace('/', "_");
            let mut path = directory.path().join(&name);
            // Names that differ in case only are different variables, and one file name.
            if paths.contains(&path) {
                path = directory.path().join(format!("{number}-{name}"));
            }
            create_file(&path, secret.value.expose_secret(), 0o400)?;
            paths.push(path);
        }
        Ok(Self { directory, paths })
    }

    /// The files, in the order of the secrets.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(PathBuf::as_path)
    }

    pub(super) fn remove(self) -> Result<(), Error> {
        let path = self.directory.path().to_owned();
        self.directory.close().map_err(|source| Error::Io { action: "remove", path, source })
    }
}

/// A directory whose files never reach a disk, but for swap.
#[expect(clippy::disallowed_methods, reason = "a directory of the session, and no secret")]
fn in_memory() -> Result<PathBuf, Error> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let places: Vec<PathBuf> = own.into_iter().chain([PathBuf::from(SHARED_MEMORY)]).collect();
    // The owner of a directory can put another in the place of what is made there: `sudo -E` keeps the
    // caller's XDG_RUNTIME_DIR.
    let mut strangers = None;
    for place in places.iter().filter(|place| is_in_memory(place)) {
        match replaced_by_strangers(place) {
            None => return Ok(place.clone()),
            reason => strangers = reason,
        }
    }
    let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    Err(Error::Refused {
        reason: match strangers {
            Some(reason) => format!("secrets would be where others could replace them: {reason}"),
            None => format!("secrets would be written to a disk: no tmpfs is at {}", places.join(" or ")),
        },
        remedy: format!("mount a tmpfs at {SHARED_MEMORY}, or name one of your own in XDG_RUNTIME_DIR"),
    })
}

fn is_in_memory(directory: &Path) -> bool {
    let kind = File::open(directory).ok().and_then(|directory| fstatfs(directory).ok()).map(|system| system.f_type);
    // Systems differ in the width of this number.
    kind.and_then(|kind| u32::try_from(kind).ok()).is_some_and(|kind| [TMPFS, RAMFS].contains(&kind))
}

const SHARED_MEMORY: &str = "/dev/shm";

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;
