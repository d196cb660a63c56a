//! `doctor`: keys, stores, databases and permissions, each finding with its remedy.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use vault_core::check::Severity;
use vault_core::rotate::{Attention, ColumnCount, Urgency};
use vault_core::{
    Access, KeyState, Kind, Manifest, Note, Permissions, Resolver, Scope, SecretKind, Shadowed, Source, StateLocation,
    StoreLocation, Vault,
};

use crate::args::{DoctorArgs, Global};
use crate::failure::Outcome;
use crate::findings::Findings;
use crate::input;
use crate::output::Output;

/// `vault doctor`.
pub(crate) fn run(args: &DoctorArgs, global: &Global, output: &mut Output) -> Outcome {
    let config = input::config(global)?;
    let manifest = config.manifest().clone();
    let mut findings = Findings::default();
    let mut files = Files { private: args.require_private_files, seen: BTreeSet::new() };
    files.of_manifest(&manifest, &config.resolver(), &mut findings);
    let mut columns = None;
    match Vault::load(config) {
        Ok(vault) => {
            files.of_secrets(&vault, &mut findings);
            columns = contents(&vault, &mut findings);
        }
        Err(error) => findings.error(&error),
    }
    files.directories(&mut findings);
    memory(&mut findings);
    let failures = findings.count(Severity::Failure);
    findings.tell(output)?;
    // As `status` says it, where the columns are the worst that there is.
    Ok(match columns {
        Some(Urgency::Broken) => Kind::Refused.exit_code(),
        _ if failures > 0 => Kind::DoctorFailures.exit_code(),
        Some(_) => Kind::Findings.exit_code(),
        None => 0,
    })
}

/// Who can read and change the files that everything rests on.
struct Files {
    /// What others can read is a failure.
    private: bool,
    seen: BTreeSet<PathBuf>,
}

impl Files {
    fn of_manifest(&mut self, manifest: &Manifest, resolver: &Resolver, findings: &mut Findings) {
        self.writable(manifest.path(), findings);
        for keyring in manifest.keyrings() {
            if let Some(state) = keyring.state.as_ref().and_then(StateLocation::file) {
                self.writable(state, findings);
            }
            // What cannot be read is told when the keyring is loaded.
            for (place, _) in resolver.key_contents(keyring).unwrap_or_default() {
                let path = Path::new(&place);
                if path.is_absolute() {
                    self.secret(path, "key", findings);
                } else {
                    findings.warning(
                        "key-from-environment",
                        format!(
                            "a key of keyring {} comes from {place}, where other programs can read it",
                            keyring.name
                        ),
                        "deliver it as a file, and name that in NAME_FILE",
                    );
                }
            }
        }
        if let Some(store) = manifest.store() {
            let (StoreLocation::File(path) | StoreLocation::Sqlite(path)) = &store.location else { return };
            self.writable(path, findings);
            // What SQLite cannot write it cannot read either, and says so below.
            if matches!(store.location, StoreLocation::File(_))
                && let Some(reason) = not_writable(&directory_of(path))
            {
                findings.warning(
                    "read-only-store",
                    format!("the directory of {} cannot be written: {reason}", path.display()),
                    "secrets can be read and not set from here",
                );
            }
            if lone_mount(path).is_some() {
                findings.failure(
                    "single-file-mount",
                    format!("{} is mounted as a single file, which never shows a new one", path.display()),
                    "mount its directory",
                );
            }
        }
    }

    /// The files from which declared secrets come.
    fn of_secrets(&mut self, vault: &Vault, findings: &mut Findings) {
        for (name, spec) in vault.manifest().secrets() {
            let explained = match vault.explain(name) {
                Ok(explained) => explained,
                Err(error) if error.kind() == Kind::NotFound => continue,
                Err(error) => {
                    findings.error(&error);
                    continue;
                }
            };
            let shadowed = explained.shadowed.iter().filter_map(|shadowed| match shadowed {
                Shadowed::Has(source) => Some(source),
                _ => None,
            });
            for path in [&explained.source].into_iter().chain(shadowed).filter_map(Source::path) {
                if spec.kind == SecretKind::PemPublicKey {
                    self.writable(path, findings);
                } else {
                    self.secret(path, "secret", findings);
                }
            }
            for note in explained.notes.iter().filter(|note| matches!(note, Note::OtherSpelling(_))) {
                findings.warning(
                    "other-spelling",
                    format!("{name}: {note}"),
                    "remove it, or give it the name of the one that is read",
                );
            }
        }
    }

    /// A file with a key or a secret.
    fn secret(&mut self, path: &Path, what: &str, findings: &mut Findings) {
        if !self.writable(path, findings) {
            return;
        }
        others_can_read(path, what, self.private, findings);
        let Some(mount) = lone_mount(path) else { return };
        let told = format!("the {what} in {} is mounted as a single file, which never shows a new one", path.display());
        if mount.replaced {
            findings.failure(
                "replaced-mount",
                format!("the file behind {} was replaced, and this mount still shows the old one", path.display()),
                "start the container again, and mount the directory instead of the file",
            );
        } else if mount.fixed {
            // Nobody can put another file in its place.
        } else if path.starts_with("/run/secrets") {
            // Docker mounts each secret so.
            findings.information("single-file-mount", told, "restart the container after a change of it");
        } else {
            findings.warning("single-file-mount", told, "mount its directory, or restart after a change of it");
        }
    }

    /// A file that nobody else should change. Returns whether it is there and was not seen before.
    fn writable(&mut self, path: &Path, findings: &mut Findings) -> bool {
        let Ok(permissions) = Permissions::of(path) else { return false };
        if !self.seen.insert(path.to_owned()) {
            return false;
        }
        others_can_write(path, &permissions, findings);
        true
    }

    /// The directories on the way to these files, in each of which files can be replaced.
    fn directories(&self, findings: &mut Findings) {
        let files = self.seen.iter().map(|file| file.canonicalize().unwrap_or_else(|_| file.clone()));
        let directories: BTreeSet<PathBuf> =
            files.flat_map(|file| file.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>()).collect();
        for directory in directories {
            let Ok(permissions) = Permissions::of(&directory) else { continue };
            // In a directory with the sticky bit only the owner of a file replaces it.
            if permissions.sticky {
                continue;
            }
            if permissions.of_others.write {
                findings.failure(
                    "directory-of-all",
                    format!("every user can replace files in {}", directory.display()),
                    format!("chmod o-w {}", directory.display()),
                );
            } else if permissions.of_group.write && !permissions.has_list {
                findings.warning(
                    "directory-of-group",
                    format!("group {} can replace files in {}", permissions.group, directory.display()),
                    format!("chmod g-w {}", directory.display()),
                );
            } else if permissions.of_group.write || permissions.of_named.write {
                findings.warning(
                    "directory-of-group",
                    format!("the access control list of {} lets others replace files in it", directory.display()),
                    format!("`getfacl {}` shows whom, `setfacl -m` and `-x` change it", directory.display()),
                );
            }
        }
    }
}

fn others_can_write(path: &Path, permissions: &Permissions, findings: &mut Findings) {
    let path = path.display();
    if permissions.of_others.write {
        findings.failure("written-by-all", format!("every user can change {path}"), format!("chmod o-w {path}"));
    } else if permissions.of_group.write && !permissions.has_list {
        findings.warning(
            "written-by-group",
            format!("group {} can change {path}", permissions.group),
            format!("chmod g-w {path}"),
        );
    } else if permissions.of_group.write || permissions.of_named.write {
        findings.warning(
            "written-by-group",
            format!("the access control list of {path} lets others change it"),
            format!("`getfacl {path}` shows whom, `setfacl -m` and `-x` change it"),
        );
    }
}

fn others_can_read(path: &Path, what: &str, private: bool, findings: &mut Findings) {
    let Ok(mut file) = Permissions::of(path) else { return };
    if let Some(directory) = path.parent().filter(|directory| is_credentials(directory))
        && let Ok(directory) = Permissions::of(directory)
    {
        // systemd keeps a service's credentials in a directory that nobody else can enter.
        file.of_others.read &= directory.of_others.search;
        file.of_group.read &= directory.of_group.search;
        file.of_named.read &= directory.of_named.search;
    }
    if !(file.of_others.read || file.of_group.read || file.of_named.read) {
        return;
    }
    let told = format!("others than user {} can read the {what} in {}", file.owner, path.display());
    let remedy = match file.has_list {
        // The mode's group bits are the list's mask: 0400 takes the access of all whom it names.
        true => format!("`getfacl {0}` shows whom, `chmod o-r` and `setfacl -x` take it away", path.display()),
        false => format!("chmod 0400 {}; a mount of Swarm is told its mode where it is mounted", path.display()),
    };
    if private {
        findings.failure("read-by-others", told, remedy);
    } else {
        findings.warning("read-by-others", told, remedy);
    }
}

/// What the keys, stores and columns themselves say; how much what the columns say matters.
fn contents(vault: &Vault, findings: &mut Findings) -> Option<Urgency> {
    for spec in vault.manifest().keyrings() {
        let Ok(keyring) = vault.keyring(&spec.name) else { continue };
        for finding in keyring.findings() {
            findings.warning(
                "keyring",
                format!("keyring {}: {finding}", spec.name),
                "`vault key list` shows the states",
            );
        }
        if spec.state.is_none() {
            findings.warning(
                "no-state-file",
                format!("keyring {} has no state file, so its key cannot be rotated", spec.name),
                "declare `state` in vault.toml",
            );
        }
        let waiting = keyring.keys().iter().filter(|key| key.state == KeyState::Active).count();
        if waiting > 1 {
            findings.warning(
                "keys-wait",
                format!("{waiting} keys of keyring {} wait to be promoted", spec.name),
                "promote one of them",
            );
        }
    }
    if let Ok(store) = vault.store() {
        match store.exists().and_then(|exists| if exists { store.check().map(Some) } else { Ok(None) }) {
            Ok(None) => {
                findings.failure(
                    "no-store",
                    format!("{} does not exist", store.location()),
                    "`vault init --store-only` makes it",
                );
            }
            Ok(Some(found)) => {
                for finding in &found {
                    findings.failure("store", finding.to_string(), "mount the key that it names, or set these anew");
                }
            }
            Err(error) => findings.error(&error),
        }
    }
    let mut worst = None;
    for column in vault.manifest().columns() {
        let counts = vault.rotation(Scope::Column(&column.name), Access::Read).and_then(|mut of| of.count(false));
        match counts {
            Ok(counts) => {
                for attention in counts.iter().flat_map(ColumnCount::attention) {
                    worst = worst.max(Some(attention.urgency));
                    let Attention { urgency, code, what, remedy, .. } = attention;
                    if urgency == Urgency::Waits {
                        findings.warning(code, what, remedy);
                    } else {
                        findings.failure(code, what, remedy);
                    }
                }
            }
            Err(error) => findings.error(&error),
        }
    }
    worst
}

/// What a process that holds keys may leave behind on a disk. This command turns core files off for
/// itself, so the process that started it is asked.
fn memory(findings: &mut Findings) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let limit = limit.map_or_else(|| "no limit".to_owned(), |bytes| format!("a limit of {} KiB", bytes / 1024));
    findings.information(
        "memory-not-locked",
        format!("keys in memory are wiped and not locked against swapping; the system sets {limit} for locked memory"),
        "turn swap off or encrypt it where that matters",
    );
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    if swaps.lines().count() > 1 {
        findings.information(
            "swap-on",
            "swap is on, so keys in memory can reach a disk",
            "`swapoff -a`, encrypted swap, or `memswap_limit` equal to `mem_limit` in a container",
        );
    }
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().to_string()).unwrap_or_default();
    let limits = fs::read_to_string(format!("/proc/{parent}/limits")).unwrap_or_default();
    if core_files(&limits) {
        findings.information(
            "core-files",
            "programs that are started as this one was may write core files, which hold the keys in their memory",
            "`ulimit -c 0`, `LimitCORE=0`, or `ulimits: {core: 0}`; this command allows itself none",
        );
    }
}

/// Whether a process with these limits, as the kernel lists them, writes core files.
fn core_files(limits: &str) -> bool {
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    limit.and_then(|limit| limit.split_whitespace().next()).is_some_and(|soft| soft != "0")
}

/// Whether systemd gives a service its credentials there.
#[expect(clippy::disallowed_methods, reason = "a directory, and no secret")]
fn is_credentials(directory: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|of_service| directory == Path::new(&of_service))
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn not_writable(directory: &Path) -> Option<io::Error> {
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).err().map(Into::into)
}

/// A file that is a mount of its own.
#[derive(Debug, Eq, PartialEq)]
struct LoneMount {
    /// Its file system is read-only for everybody, as that of Swarm's secrets is.
    fixed: bool,
    /// Its name leads to another file by now, or to none.
    replaced: bool,
}

fn lone_mount(path: &Path) -> Option<LoneMount> {
    let path = path.canonicalize().ok().filter(|path| path.is_file())?;
    mounted_at(&fs::read_to_string("/proc/self/mountinfo").ok()?, &path)
}

/// The mount that a mount table has at a path. It writes spaces and line breaks as octal numbers.
fn mounted_at(mounts: &str, path: &Path) -> Option<LoneMount> {
    let written = path.display().to_string().replace('\\', "\\134").replace(' ', "\\040");
    let written = written.replace('\t', "\\011").replace('\n', "\\012");
    // The last mount at a place is the one that is seen.
    let mount = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some(&written))?;
    let replaced = mount.split(' ').nth(3).is_some_and(|root| root.ends_with("//deleted"));
    let fixed = mount.rsplit(' ').next().is_some_and(|options| options.split(',').any(|option| option == "ro"));
    Some(LoneMount { fixed, replaced })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_table_names_single_files() {
        let mounts = "22 1 0:20 / / rw - overlay overlay rw\n\
            30 22 8:1 /k /keys/my\\040kek ro,relatime - ext4 /dev/sda1 rw\n\
            31 22 0:30 / /run/secrets rw - tmpfs tmpfs rw\n\
            33 22 8:1 /old//deleted /keys/old rw - ext4 /dev/sda1 rw\n\
            34 22 0:31 /kek /run/secrets/kek ro - tmpfs tmpfs ro\n";
        let alone = |path| mounted_at(mounts, Path::new(path));
        assert_eq!(alone("/keys/my kek"), Some(LoneMount { fixed: false, replaced: false }));
        assert_eq!(alone("/keys/old"), Some(LoneMount { fixed: false, replaced: true }));
        assert_eq!(alone("/run/secrets/kek"), Some(LoneMount { fixed: true, replaced: false }));
        assert_eq!(alone("/keys/my"), None);
        assert_eq!(alone("/run/secrets/other"), None);
    }

    #[test]
    fn limits_say_whether_core_files_are_written() {
        let limits = |soft: &str| {
            format!("Limit   Soft Limit  Hard Limit  Units\nMax core file size        {soft}    unlimited   bytes\n")
        };
        assert!(core_files(&limits("unlimited")) && core_files(&limits("1024")));
        assert!(!core_files(&limits("0")) && !core_files(""));
    }
}
