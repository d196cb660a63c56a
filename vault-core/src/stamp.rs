//! Whether files have changed since they were read.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the file system said of some files at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    files: Vec<(PathBuf, Result<FileState, ErrorKind>)>,
    /// Whether another change of any of them would show.
    settled: bool,
}

impl Stamp {
    /// Of files that may be missing; links are followed.
    pub(crate) fn of(paths: Vec<PathBuf>) -> Self {
        // Before the files: a change that comes in between then counts as new.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let files: Vec<_> = paths
            .into_iter()
            .map(|path| {
                let state = fs::metadata(&path).map(|found| FileState::of(&found)).map_err(|error| error.kind());
                (path, state)
            })
            .collect();
        let settled = files.iter().flat_map(|(_, state)| state).all(|state| state.changed.0 < now - GRAIN);
        Self { files, settled }
    }

    /// Whether what was read when this was taken is what would be read at `now`. Of files that were
    /// changed only a moment before, nobody can tell.
    pub(crate) fn still_holds(&self, now: &Self) -> bool {
        self.settled && self.files == now.files
    }
}

/// What changes with a file.
#[derive(Clone, Debug, Eq, PartialEq)]
struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    fn of(found: &fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// Two changes within this time, in seconds, may leave the same times behind. File systems count time in
/// steps of up to two seconds.
const GRAIN: i64 = 3;

#[cfg(test)]
mod tests {
    use std::fs::{File, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_that_was_changed_a_moment_ago_may_change_unseen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "one").unwrap();
        let stamp = Stamp::of(vec![path.clone()]);
        assert_eq!(stamp.files, Stamp::of(vec![path]).files);
        assert!(!stamp.still_holds(&stamp));
    }

    #[test]
    fn every_way_to_change_a_file_shows() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let seen = || Stamp { settled: true, ..Stamp::of(vec![path("key"), path("missing")]) };
        fs::write(path("key"), "one").unwrap();
        let changes: [(&str, &dyn Fn()); 7] = [
            ("content", &|| fs::write(path("key"), "more").unwrap()),
            ("times put back", &|| {
                let file = File::options().append(true).open(path("key")).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }),
            ("mode", &|| fs::set_permissions(path("key"), Permissions::from_mode(0o400)).unwrap()),
            ("another file of its size", &|| {
                fs::write(path("new"), "MORE").unwrap();
                fs::rename(path("new"), path("key")).unwrap();
            }),
            ("another appeared", &|| fs::write(path("missing"), "two").unwrap()),
            ("a link elsewhere", &|| {
                fs::write(path("target"), "MORE").unwrap();
                fs::remove_file(path("key")).unwrap();
                symlink(path("target"), path("key")).unwrap();
            }),
            ("gone", &|| fs::remove_file(path("key")).unwrap()),
        ];
        for (what, change) in changes {
            let before = seen();
            assert!(before.still_holds(&seen()), "{what}");
            change();
            assert!(!before.still_holds(&seen()), "{what}");
        }
    }

    #[test]
    fn a_file_that_is_as_it_was_long_ago_is_settled() {
        let path = PathBuf::from("/bin/sh");
        assert!(Stamp::of(vec![path.clone()]).still_holds(&Stamp::of(vec![path])));
    }
}
