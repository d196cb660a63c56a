//! Who can read and change a file, by owner, mode and access control list.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Who can read and change a file beside its owner.
///
/// The group bits of a file with an access control list are the list's mask and say nothing of the
/// group: the list is read in their place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Permissions {
    /// Who owns it.
    pub owner: u32,
    /// Its group.
    pub group: u32,
    /// What the group may do.
    pub of_group: Allowed,
    /// What everybody else may do.
    pub of_others: Allowed,
    /// What users and groups may do that its access control list names, but for this process's user.
    pub of_named: Allowed,
    /// Whether it has an access control list, whose mask its group bits are.
    pub has_list: bool,
    /// Whether only the owner of an entry can remove or rename it in this directory.
    pub sticky: bool,
}

/// What somebody may do with a file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Allowed {
    /// Read it.
    pub read: bool,
    /// Change it; for a directory, make and remove what is in it.
    pub write: bool,
    /// Run it; for a directory, reach what is in it.
    pub search: bool,
}

impl Allowed {
    fn of_bits(bits: u32) -> Self {
        Self { read: bits & 4 != 0, write: bits & 2 != 0, search: bits & 1 != 0 }
    }

    fn or(self, other: Self) -> Self {
        Self { read: self.read || other.read, write: self.write || other.write, search: self.search || other.search }
    }
}

impl Permissions {
    /// The permissions of a file; those of what a link leads to.
    ///
    /// # Errors
    ///
    /// Why it cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::with_list(&fs::metadata(path)?, &access_list(path)))
    }

    fn with_list(metadata: &Metadata, list: &[u8]) -> Self {
        let mode = metadata.mode();
        let mut found = Self {
            owner: metadata.uid(),
            group: metadata.gid(),
            of_group: Allowed::of_bits(mode >> 3),
            of_others: Allowed::of_bits(mode),
            of_named: Allowed::default(),
            has_list: !list.is_empty(),
            sticky: mode & 0o1000 != 0,
        };
        let us = rustix::process::geteuid().as_raw();
        for Entry { tag, bits, id } in entries(list) {
            // The group bits of the mode are the mask: it limits everybody but owner and others.
            let allowed = Allowed::of_bits(bits & (mode >> 3));
            match tag {
                NAMED_USER if id == us => {}
                NAMED_USER | NAMED_GROUP => found.of_named = found.of_named.or(allowed),
                OWNING_GROUP => found.of_group = allowed,
                _ => {}
            }
        }
        found
    }

    /// Whether somebody can change it who is neither root nor this process's user. A group of the
    /// same number as that user is taken for the user's own.
    fn changed_by_strangers(&self) -> bool {
        let own_group = [0, rustix::process::geteuid().as_raw()].contains(&self.group);
        self.of_others.write || self.of_named.write || self.of_group.write && !own_group
    }
}

/// Refuses a file that was found, and not named, where somebody else than root and this process's
/// user can have put it or can change it: it, what it is a link to, and every directory on the way
/// belong to one of both and are unwritable to others. A directory with the sticky bit may be
/// writable where it holds a directory on the way, and not where it holds the file: anybody can
/// put a file of another's into it, by a hard link.
pub(crate) fn refuse_strangers(found: &Path) -> Result<()> {
    let fail = |path: &Path, source| Error::io("look at", path, source);
    let mut file = found.to_owned();
    for _ in 0..MAX_LINKS {
        let parent = crate::file::directory_of(&file);
        let directory = parent.canonicalize().map_err(|source| fail(parent, source))?;
        if let Some(reason) = strangers_on_the_way(&directory, false) {
            return Err(strange(found, &reason));
        }
        let Some(name) = file.file_name() else { return Err(strange(found, "it has no name")) };
        let at = directory.join(name);
        let metadata = at.symlink_metadata().map_err(|source| fail(&at, source))?;
        if let Some(reason) = of_stranger(&at, metadata.uid()) {
            return Err(strange(found, &reason));
        }
        if !metadata.is_symlink() {
            let permissions = Permissions::of(&at).map_err(|source| fail(&at, source))?;
            if permissions.changed_by_strangers() {
                return Err(strange(found, &format!("other users can change {}", at.display())));
            }
            return Ok(());
        }
        let target: PathBuf = fs::read_link(&at).map_err(|source| fail(&at, source))?;
        file = directory.join(target);
        if file.symlink_metadata().is_err() {
            // To read it tells why.
            return Ok(());
        }
    }
    Err(strange(found, "it is a link to a link, again and again"))
}

/// Why somebody else than root and this process's user could replace what this process makes in a
/// directory; none where nobody can.
#[must_use]
pub fn replaced_by_strangers(directory: &Path) -> Option<String> {
    match directory.canonicalize() {
        Ok(directory) => strangers_on_the_way(&directory, true),
        Err(error) => Some(format!("{}: {error}", directory.display())),
    }
}

/// Who else could replace what is in a directory or on the way to it. Where it holds what belongs
/// to us, the sticky bit is enough.
fn strangers_on_the_way(directory: &Path, holds_ours: bool) -> Option<String> {
    directory.ancestors().enumerate().find_map(|(distance, above)| {
        let permissions = match Permissions::of(above) {
            Ok(permissions) => permissions,
            Err(error) => return Some(format!("{}: {error}", above.display())),
        };
        let kept = permissions.sticky && (holds_ours || distance > 0);
        of_stranger(above, permissions.owner).or_else(|| {
            (permissions.changed_by_strangers() && !kept)
                .then(|| format!("other users can put files into {}", above.display()))
        })
    })
}

fn of_stranger(path: &Path, owner: u32) -> Option<String> {
    let us = rustix::process::geteuid().as_raw();
    let ours = owner == 0 || owner == us;
    (!ours).then(|| format!("{} belongs to user {owner}, and this is user {us}", path.display()))
}

fn strange(found: &Path, reason: &str) -> Error {
    Error::Refused {
        reason: format!(
            "{} was found and not named, and {reason}: it decides which programs run with which secrets",
            found.display()
        ),
        remedy: format!("if you trust it, name it: `--config {}`, or VAULT_CORE_CONFIG", found.display()),
    }
}

/// The access control list of a file, as the kernel gives it; empty where it has none.
fn access_list(path: &Path) -> Vec<u8> {
    let mut list = vec![0; MAX_LIST];
    let length = rustix::fs::getxattr(path, "system.posix_acl_access", &mut list[..]).unwrap_or(0);
    list.truncate(length);
    list
}

struct Entry {
    tag: u16,
    bits: u32,
    id: u32,
}

/// The entries of a list in the kernel's form: a version, then tag, permissions and id of each.
fn entries(list: &[u8]) -> impl Iterator<Item = Entry> {
    let entries = list.strip_prefix(&VERSION.to_le_bytes()).unwrap_or_default();
    entries.as_chunks::<8>().0.iter().map(|[t0, t1, p0, p1, id @ ..]| Entry {
        tag: u16::from_le_bytes([*t0, *t1]),
        bits: u16::from_le_bytes([*p0, *p1]).into(),
        id: u32::from_le_bytes(*id),
    })
}

/// `POSIX_ACL_XATTR_VERSION` and tags of linux/posix_acl.h.
const VERSION: u32 = 2;
const NAMED_USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const NAMED_GROUP: u16 = 0x08;

/// Longest list that is read, in bytes: a file system that allows more gives an error.
const MAX_LIST: usize = 64 << 10;
/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut list = VERSION.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            list.extend([tag.to_le_bytes(), bits.to_le_bytes()].concat());
            list.extend(id.to_le_bytes());
        }
        list
    }

    #[test]
    fn the_group_bits_of_a_file_with_a_list_are_its_mask() {
        let file = tempfile::NamedTempFile::new().unwrap();
        chmod(file.path(), 0o440);
        let metadata = fs::metadata(file.path()).unwrap();
        let us = rustix::process::geteuid().as_raw();
        let read = |named: u32| {
            let list = list(&[(1, 4, u32::MAX), (2, 6, named), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]);
            Permissions::with_list(&metadata, &list)
        };
        assert!(Permissions::with_list(&metadata, &[]).of_group.read);
        let nobody = Allowed::default();
        assert_eq!((read(us).of_group, read(us).of_named), (nobody, nobody));
        assert_eq!(read(us + 1).of_named, Allowed { read: true, ..nobody }, "the mask takes the right to write away");
    }

    #[test]
    fn what_others_can_change_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("a");
        fs::create_dir(&directory).unwrap();
        chmod(&directory, 0o755);
        let file = directory.join("vault.toml");
        fs::write(&file, "version = 1").unwrap();
        chmod(&file, 0o644);
        refuse_strangers(&file).unwrap();
        for (path, mode) in [(&*directory, 0o757), (&directory, 0o1777), (&file, 0o646), (home.path(), 0o757)] {
            let before = fs::metadata(path).unwrap().mode();
            chmod(path, mode);
            let error = refuse_strangers(&file).unwrap_err();
            assert!(error.hint().unwrap().contains("--config"), "{error}");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            chmod(path, before);
        }
        // Above the file's own directory, the sticky bit keeps strangers from replacing what is on the way.
        chmod(home.path(), 0o1777);
        refuse_strangers(&file).unwrap();
        chmod(home.path(), 0o700);

        // A link is judged with all that it leads over.
        let open = home.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::rename(&file, open.join("real.toml")).unwrap();
        symlink("../open/real.toml", &file).unwrap();
        refuse_strangers(&file).unwrap();
        chmod(&open, 0o777);
        refuse_strangers(&file).unwrap_err();
    }
}
