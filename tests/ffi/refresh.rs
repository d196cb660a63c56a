//! A handle that is refreshed.

use core::ptr;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use vault_core::{Change, Config, Followed, KeyId, Vault};
use vault_ffi::{
    Handle, VAULT_OK, vault_config_free, vault_config_from_file, vault_free, vault_load, vault_primary, vault_refresh,
};

#[test]
fn a_refreshed_handle_is_one_process_in_heartbeats() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/fixtures/sqlite");
    fs::create_dir(directory.path().join("keys")).unwrap();
    for file in ["keys/kek_1", "vault.db"] {
        fs::copy(fixture.join(file), directory.path().join(file)).unwrap();
    }
    let manifest = directory.path().join("vault.toml");
    let declared = "version = 1\n[keyring.main]\nsources = [\"file:keys/kek_1\"]\n[store]\nurl = \"sqlite:vault.db\"\n";
    fs::write(&manifest, declared).unwrap();
    let handle = Shared::load(&manifest);
    for _ in 0..3 {
        handle.refresh();
    }
    let vault = Vault::load(Config::from_file(&manifest).unwrap().without_heartbeats()).unwrap();
    let told = vault.heartbeats("main").unwrap();
    assert_eq!(told.iter().map(|node| node.beats).collect::<Vec<_>>(), [4]);
}

#[test]
fn a_refresh_is_not_undone_by_one_that_began_before() {
    // Whose turn it is after the lock is the database's affair.
    for _ in 0..8 {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (manifest, states) = (path("vault.toml"), path("states"));
        let declared =
            "version = 1\n[vault]\nnodes = 1\n[keyring.main]\nsources = [\"file:keys/*\"]\nstate = \"states\"\n";
        fs::write(&manifest, declared).unwrap();
        fs::create_dir(path("keys")).unwrap();
        let config = Config::from_file(&manifest).unwrap();
        let first = Vault::key_generate(&config, "main", None).unwrap();
        let second = Vault::key_generate(&config, "main", None).unwrap();
        let of_first = fs::read(&states).unwrap();
        let vault = Vault::load(config).unwrap();
        let loaded = Followed::by_the_word_of_an_operator_who_looked(&vault, "main", Some(second)).unwrap();
        vault.key_change("main", &Change::Promote(second, loaded), None).unwrap();
        fs::rename(&states, path("promoted")).unwrap();
        fs::write(&states, of_first).unwrap();
        fs::write(&manifest, format!("{declared}[store]\nurl = \"sqlite:vault.db\"\n")).unwrap();
        let database = Connection::open(path("vault.db")).unwrap();
        database.execute_batch("CREATE TABLE vault_store (name TEXT)").unwrap();
        let handle = Shared::load(&manifest);
        assert_eq!(handle.primary(), first);

        // A refresh reads the states, then waits for the database, to tell of them.
        database.execute_batch("BEGIN IMMEDIATE").unwrap();
        thread::scope(|scope| {
            scope.spawn(|| handle.refresh());
            thread::sleep(Duration::from_millis(300));
            fs::rename(path("promoted"), &states).unwrap();
            scope.spawn(|| handle.refresh());
            thread::sleep(Duration::from_millis(50));
            database.execute_batch("COMMIT").unwrap();
        });
        assert_eq!(handle.primary(), second);
    }
}

/// A handle that threads share, as the header allows.
struct Shared(*mut Handle);

// SAFETY: a handle may be used by any number of threads at the same time.
unsafe impl Sync for Shared {}

impl Shared {
    fn load(manifest: &Path) -> Self {
        let (path, mut config, mut vault) = (manifest.to_str().unwrap(), ptr::null_mut(), ptr::null_mut());
        let (no_profile, no_error) = (ptr::null(), ptr::null_mut());
        // SAFETY: the rules of the header: the path lives as long as the call, the rest is local.
        unsafe {
            let made =
                vault_config_from_file(path.as_ptr().cast(), path.len(), no_profile, 0, &raw mut config, no_error);
            assert_eq!(made, VAULT_OK);
            assert_eq!(vault_load(config, &raw mut vault, no_error), VAULT_OK);
            vault_config_free(config);
        }
        Self(vault)
    }

    fn refresh(&self) {
        // SAFETY: the handle was not freed.
        assert_eq!(unsafe { vault_refresh(self.0, ptr::null_mut()) }, VAULT_OK);
    }

    fn primary(&self) -> KeyId {
        let mut kid = [0_u8; 18];
        // SAFETY: the handle was not freed, and there is room for 18 characters.
        assert_eq!(unsafe { vault_primary(self.0, kid.as_mut_ptr().cast(), ptr::null_mut()) }, VAULT_OK);
        KeyId::parse(core::str::from_utf8(&kid[..17]).unwrap()).unwrap()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        unsafe { vault_free(self.0) };
    }
}
