//! A vault with a store on PostgreSQL, used by a process and its children at the same time: each
//! has a connection of its own, and the parent keeps its.
#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "../server.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod server;

use std::fs;
use std::panic::{self, AssertUnwindSafe};

use server::Database;
use vault_core::{Config, EntryName, MasterKey, SecretBytes, SecretName, Vault, Version};

const CHILDREN: usize = 4;
const SETS: usize = 25;

fn main() {
    let database = Database::new();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("kek_1"), MasterKey::generate().unwrap().text().expose_secret()).unwrap();
    let text = format!(
        "version = 1\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"store\"\n[store]\nurl = \"{}\"\n",
        database.url()
    );
    fs::write(directory.path().join("vault.toml"), text).unwrap();
    let config = || Config::from_file(directory.path().join("vault.toml")).unwrap().without_heartbeats();
    let vault = Vault::load(config()).unwrap();
    vault.store().unwrap().create().unwrap();
    set(&vault, "BEFORE");
    let parents = sessions(&database);
    assert!(!parents.is_empty());
    let mut children = Vec::new();
    for child in 0..CHILDREN {
        // SAFETY: this process has one thread, so the child's memory is in a consistent state.
        match unsafe { libc::fork() } {
            0 => {
                let worked = panic::catch_unwind(AssertUnwindSafe(|| {
                    work(&vault, &format!("CHILD{child}"));
                    // What was inherited is given up, and not closed.
                    vault.refresh().unwrap();
                    work(&vault, &format!("AGAIN{child}"));
                }));
                // SAFETY: ends the child at once, without running the parent's destructors.
                unsafe { libc::_exit(i32::from(worked.is_err())) }
            }
            id if id > 0 => children.push(id),
            _ => panic!("fork failed"),
        }
    }
    work(&vault, "PARENT");
    for (child, id) in children.into_iter().enumerate() {
        let mut status = 0;
        // SAFETY: `status` is valid for the write, and the child is ours to wait for.
        assert_eq!(unsafe { libc::waitpid(id, &raw mut status, 0) }, id);
        assert_eq!(status, 0, "child {child}");
    }
    let names = vault.store().unwrap().names().unwrap().len();
    assert_eq!(names, 1 + SETS * (2 * CHILDREN + 1));
    assert!(parents.iter().all(|session| sessions(&database).contains(session)), "a child ended the parent's session");
    println!("test result: ok. 1 passed; 0 failed: {names} secrets by {} processes", CHILDREN + 1);
}

/// Writes and reads in turn, as every process does at the same time.
fn work(vault: &Vault, who: &str) {
    for number in 0..SETS {
        let name = format!("{who}_{number}");
        set(vault, &name);
        for name in [name.as_str(), "BEFORE"] {
            let found = vault.stored(&entry(name), Version::Current).unwrap();
            assert_eq!(found.value.expose_secret(), name.as_bytes());
        }
    }
}

fn set(vault: &Vault, name: &str) {
    vault.set(&[(entry(name), SecretBytes::copy_of(name.as_bytes()))], None).unwrap();
}

fn entry(name: &str) -> EntryName {
    EntryName::new(SecretName::parse(name).unwrap())
}

/// The sessions of vaults on the server.
fn sessions(database: &Database) -> Vec<i32> {
    let rows = database.connect().query(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'vault' AND datname = current_database()",
        &[],
    );
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}
