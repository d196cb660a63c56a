//! Files that commands make: whose they are, who can read them, and that they are whole or not there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use crate::{Directory, finish};

const STRANGER: u32 = 65_534;

/// A line of a shell in a directory, with `vault` as `$vault`.
fn shell(directory: &Directory, line: &str) -> crate::Ran {
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).env("vault", crate::binary()).current_dir(directory.home.path());
    finish(&mut shell, b"")
}

/// The modes of everything in a directory.
fn modes(directory: &Directory) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.home.path().to_owned()];
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(directory.home.path()).unwrap().display().to_string();
            found.push((name, fs::metadata(&path).unwrap().mode() & 0o7777));
            if path.is_dir() {
                waiting.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn no_umask_changes_who_can_read_what_is_made() {
    let made = |umask: &str, store: &str| {
        let directory = Directory::new();
        fs::set_permissions(directory.home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let line = format!(
            "umask {umask} && \"$vault\" init --store {store} && printf value | \"$vault\" set A/B && \
             \"$vault\" export --format dir --out out && \"$vault\" export --format json --out all.json && \
             \"$vault\" key generate --out another && \"$vault\" key add another --label 2 && \
             \"$vault\" run --only A/B --files -- stat -c %a:%n /dev/shm >shm"
        );
        shell(&directory, &line).ok();
        fs::remove_file(directory.path("shm")).unwrap();
        modes(&directory)
    };
    for store in ["file:vault.store.toml", "sqlite:vault.db"] {
        let usual = made("022", store);
        let others = usual.iter().filter(|(_, mode)| mode & 0o077 != 0).map(|(name, _)| name.as_str());
        let others: Vec<_> = others.collect();
        assert!(
            others.iter().all(|name| [".gitignore", "vault.toml", "main.keyring.toml"].contains(name)),
            "{others:?}"
        );
        for umask in ["000", "077", "0777"] {
            assert_eq!(made(umask, store), usual, "umask {umask}");
        }
    }
}

#[test]
fn a_lock_belongs_to_whom_the_file_belongs() {
    let directory = Directory::new();
    directory.vault("init").ok();
    let everything = [".gitignore", "keys", "keys/vault_kek_1", "main.keyring.toml", "vault.store.toml", "vault.toml"];
    for name in everything.into_iter().chain([""]).filter(|name| directory.path(name).exists()) {
        chown(directory.path(name), Some(STRANGER), Some(STRANGER)).unwrap();
    }
    for lock in ["vault.store.toml.lock", "main.keyring.toml.lock"] {
        let _ = fs::remove_file(directory.path(lock));
    }
    // The administrator types one command.
    let config = directory.path("vault.toml").display().to_string();
    directory.vault_with(&format!("set B --config {config}"), b"by root").ok();
    let lock = fs::metadata(directory.path("vault.store.toml.lock")).unwrap();
    assert_eq!((lock.uid(), lock.gid(), lock.mode() & 0o7777), (STRANGER, STRANGER, 0o600));
    // And the owner goes on.
    let copy = directory.path("vault");
    crate::copy_binary(&copy);
    let mut as_owner = Command::new("setpriv");
    as_owner.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).args(["set", "A"]);
    as_owner.current_dir(directory.home.path());
    finish(&mut as_owner, b"second value").ok();
    assert_eq!(directory.vault(&format!("get A --config {config}")).ok(), "second value");
}

#[test]
fn a_key_that_cannot_be_written_whole_is_not_left_behind() {
    let directory = Directory::new();
    let told = shell(&directory, "ulimit -f 0; trap '' XFSZ; \"$vault\" key generate --out key").fails(18);
    assert!(told.contains("create"), "{told}");
    assert_eq!(fs::read_dir(directory.home.path()).unwrap().count(), 0);
}
