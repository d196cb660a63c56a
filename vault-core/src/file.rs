//! Files: reading secrets from them, and creating them whole.

#[cfg(feature = "vault")]
mod replace;

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::hex;
use crate::primitives;
use crate::secret::SecretBytes;

#[cfg(feature = "vault")]
pub(crate) use replace::{Lock, replace};

/// Longest secret that is read from a file, in bytes.
#[cfg(feature = "vault")]
pub(crate) const MAX_SECRET: usize = 16 << 20;
/// Longest key file, in bytes.
pub(crate) const MAX_KEY_FILE: usize = 64 << 10;
/// Reads a regular file of at most `cap` bytes.
///
/// Links are followed while they stay under the file's directory, as those of a Kubernetes mount
/// do. The file is opened first and looked at then, so nobody can swap it in between.
pub(crate) fn read(path: &Path, cap: usize) -> Result<SecretBytes> {
    let file = open_beneath(path)?;
    let metadata = file.metadata().map_err(|source| Error::io("read", path, source))?;
    if !metadata.is_file() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, what_it_is(metadata.file_type()));
        return Err(Error::io("read", path, source));
    }
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if length > cap {
        return Err(Error::Oversized { place: path.display().to_string(), limit: cap });
    }
    // One byte more than the file had, so that one that grew is noticed and no buffer grows.
    let mut content = Zeroizing::new(vec![0; length + 1]);
    let mut filled = 0;
    while let Some(rest) = content.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match (&file).read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::io("read", path, source)),
        }
    }
    if filled > length {
        return Err(Error::Temporary {
            reason: format!("{} grew while it was read", path.display()),
            remedy: "run the command again".to_owned(),
        });
    }
    Ok(SecretBytes::copy_of(content.get(..filled).unwrap_or_default()))
}

fn what_it_is(found: FileType) -> &'static str {
    if found.is_dir() {
        "it is a directory and not a regular file; Docker makes one where the file to be mounted is missing"
    } else if found.is_fifo() {
        "it is a pipe and not a regular file; write the secret into a file"
    } else if found.is_char_device() || found.is_block_device() {
        "it is a device and not a regular file; name the file that holds the secret"
    } else {
        "it is not a regular file; name the file that holds the secret"
    }
}

fn open_beneath(path: &Path) -> Result<File> {
    let fail = |errno: rustix::io::Errno| Error::io("read", path, explain(path, errno.into()));
    let name = path.file_name().ok_or_else(|| fail(rustix::io::Errno::ISDIR))?;
    let directory =
        rustix::fs::open(directory_of(path), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(fail)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    #[cfg(target_os = "linux")]
    let opened = match rustix::fs::openat2(&directory, name, flags, Mode::empty(), ResolveFlags::BENEATH) {
        // Kernels before 5.6 and some sandboxes: without the check, no link is followed.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
            rustix::fs::openat(&directory, name, flags | OFlags::NOFOLLOW, Mode::empty())
        }
        other => other,
    };
    #[cfg(not(target_os = "linux"))]
    let opened = rustix::fs::openat(&directory, name, flags | OFlags::NOFOLLOW, Mode::empty());
    opened.map(File::from).map_err(fail)
}

/// Adds to "permission denied" who owns the file and who asks, and to a link that leaves its
/// directory that it does.
fn explain(path: &Path, source: io::Error) -> io::Error {
    if source.raw_os_error() == Some(rustix::io::Errno::XDEV.raw_os_error()) {
        return io::Error::new(source.kind(), "it is a link that leaves its directory; name the file itself");
    }
    if source.kind() != io::ErrorKind::PermissionDenied {
        return source;
    }
    let us = rustix::process::geteuid().as_raw();
    let owned = |m: &Metadata| {
        format!(
            "belongs to user {}, has mode {:04o}, and this is user {us}; change its owner or mode",
            m.uid(),
            m.mode() & 0o7777
        )
    };
    let detail = match fs::metadata(path) {
        Ok(metadata) => format!("it {}", owned(&metadata)),
        // The nearest directory that can be looked at is the one that keeps us out.
        Err(_) => {
            path.ancestors().skip(1).find_map(|directory| Some((directory, fs::metadata(directory).ok()?))).map_or_else(
                || format!("permission denied to user {us} on the way to it"),
                |(directory, metadata)| format!("directory {} {}", directory.display(), owned(&metadata)),
            )
        }
    };
    io::Error::new(io::ErrorKind::PermissionDenied, detail)
}

/// Says what to do about a mount that cannot be written as we write.
fn explain_replace(source: io::Error) -> io::Error {
    use rustix::io::Errno;

    let is = |errno: Errno| source.raw_os_error() == Some(errno.raw_os_error());
    let reason = if is(Errno::BUSY) || is(Errno::XDEV) {
        // The link to the backup meets the mount point first, the rename second.
        "it is mounted as a single file and cannot be replaced; mount its directory"
    } else if is(Errno::ROFS) {
        "it is on a read-only mount; write the next one to another place and deploy that"
    } else if is(Errno::LOOP) {
        "it is a link; remove it"
    } else {
        return source;
    };
    io::Error::new(source.kind(), reason)
}

/// Creates a file that must not exist, as a whole: whoever looks finds nothing or all of it, and
/// when this returns it survives a power loss.
///
/// # Errors
///
/// [`Error::Io`] if it exists or cannot be written, and nothing is left behind;
/// [`Error::DurabilityUnknown`] if it was written and may not survive.
pub fn create_file(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    // It holds what the file was to hold, so whoever was killed here and types the command again
    // is rid of it. Another process that makes the same file now would fail, and one of both must.
    remove_left_over(path)?;
    let temporary = hidden(path, "tmp")?;
    let created = write_new(&temporary, content, mode).and_then(|()| fs::hard_link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    created.and(removed).map_err(|source| Error::io("create", path, explain_replace(source)))?;
    flush_directory(path)
}

/// Creates a file that must not exist, with its content on disk when this returns.
pub(crate) fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    create(path, content, mode, None)
}

/// As [`write_new`], with the owner of `like`.
fn create(path: &Path, content: &[u8], mode: u32, like: Option<&Metadata>) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).custom_flags(no_follow()).open(path)?;
    fill(file, content, mode, like).inspect_err(|_| {
        // A part of a key or of a secret is worse than none.
        let _ = fs::remove_file(path);
    })
}

fn fill(mut file: File, content: &[u8], mode: u32, like: Option<&Metadata>) -> io::Result<()> {
    if let Some(like) = like {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
            fchown(&file, Some(like.uid()), Some(like.gid())).map_err(|source| {
                let detail = format!(
                    "it belongs to user {} and group {}, and this is user {}; run as its owner",
                    like.uid(),
                    like.gid(),
                    own.uid()
                );
                io::Error::new(source.kind(), detail)
            })?;
        }
    }
    // The mode at creation is subject to the umask.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes a directory that only its owner can enter, and those above it that are missing, whatever
/// the umask is. One that exists stays as it is.
///
/// # Errors
///
/// [`Error::Io`] if it cannot be made.
pub fn create_directory(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
        create_directory(parent)?;
    }
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)))
        .map_err(|source| Error::io("create", path, source))
}

/// Appends to a file, and makes one of this mode, whatever the umask is, where there is none.
///
/// # Errors
///
/// Why it cannot be written.
pub fn append_to(path: &Path, mode: u32) -> io::Result<File> {
    match OpenOptions::new().append(true).create_new(true).mode(mode).open(path) {
        Ok(file) => {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            Ok(file)
        }
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => OpenOptions::new().append(true).open(path),
        other => other,
    }
}

fn no_follow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

/// Makes the entries of the file's directory survive a power loss.
pub(crate) fn flush_directory(path: &Path) -> Result<()> {
    File::open(directory_of(path))
        .and_then(|directory| directory.sync_all())
        .map_err(|source| Error::DurabilityUnknown { path: path.to_owned(), source })
}

pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// A name beside the file that no source matches.
fn hidden(path: &Path, kind: &str) -> Result<PathBuf> {
    let random = primitives::random()?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(path.with_file_name(format!(".{name}.{}.{kind}", hex::encode(random.get(..8).unwrap_or_default()))))
}

/// Temporary files of interrupted runs. Under the lock nobody else can be using one.
fn remove_left_over(path: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let fail = |source| Error::io("list", directory_of(path), source);
    for entry in fs::read_dir(directory_of(path)).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let found = entry.file_name();
        let random = found
            .to_str()
            .and_then(|found| found.strip_prefix('.')?.strip_prefix(&name)?.strip_prefix('.'))
            .and_then(|rest| rest.strip_suffix(".tmp").or_else(|| rest.strip_suffix(".bak")));
        if random.is_some_and(|random| random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit())) {
            fs::remove_file(entry.path()).map_err(fail)?;
        }
    }
    Ok(())
}

/// Whether something is mounted at exactly this path. Kernels before 5.8 do not tell.
#[cfg(feature = "sqlite")]
pub(crate) fn is_mount(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

        statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
            .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Names and contents of everything in a directory.
    pub(super) fn contents(directory: &Path) -> BTreeMap<String, String> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
            .collect()
    }

    pub(super) fn expect(directory: &Path, expected: &[(&str, &str)]) {
        let expected = expected.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect();
        assert_eq!(contents(directory), expected);
    }

    #[test]
    fn a_file_is_created_once_and_rids_an_interrupted_run_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(directory.path().join(".key.0123456789abcdef.tmp"), "left").unwrap();
        create_file(&path, b"one", 0o600).unwrap();
        expect(directory.path(), &[("key", "one")]);
        assert!(matches!(create_file(&path, b"two", 0o600), Err(Error::Io { action: "create", .. })));
        expect(directory.path(), &[("key", "one")]);
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_mount_is_told_from_what_is_in_it() {
        assert!(is_mount(Path::new("/proc")));
        assert!(!is_mount(Path::new("/proc/self/status")) && !is_mount(Path::new("/proc/nothing")));
        assert!(!is_mount(tempfile::NamedTempFile::new().unwrap().path()));
    }

    #[test]
    fn who_may_not_read_is_told_what_keeps_them_out() {
        let directory = tempfile::tempdir().unwrap();
        let us = rustix::process::geteuid().as_raw();
        let told = |path: &Path| explain(path, io::Error::from(io::ErrorKind::PermissionDenied)).to_string();
        let file = directory.path().join("f");
        write_new(&file, b"x", 0o400).unwrap();
        let own = format!("belongs to user {us}, has mode 0400, and this is user {us}; change its owner or mode");
        assert_eq!(told(&file), format!("it {own}"));
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let expected = format!("directory {} {}", directory.path().display(), own.replace("0400", "0700"));
        assert_eq!(told(&directory.path().join("none/f")), expected);
    }

    #[test]
    fn mounts_that_cannot_be_replaced_say_what_to_do() {
        use rustix::io::Errno;

        for (errno, words) in
            [(Errno::BUSY, "mount its directory"), (Errno::XDEV, "mount its directory"), (Errno::ROFS, "deploy that")]
        {
            let text = explain_replace(errno.into()).to_string();
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(explain_replace(Errno::NOSPC.into()).raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    }
}
