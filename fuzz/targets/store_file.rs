//! No file makes a store panic, and one whose MAC does not fit gives nothing away.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use vault_core::{FileStore, Keyring, MasterKey, Store};

/// The file, and a store under a key that nobody knows.
fn store() -> &'static (PathBuf, FileStore) {
    static STORE: OnceLock<(PathBuf, FileStore)> = OnceLock::new();
    STORE.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("vault-fuzz-store-{}", std::process::id()));
        let keyring = Keyring::single(MasterKey::generate().expect("the system gives randomness"));
        (path.clone(), FileStore::new(path, keyring))
    })
}

fuzz_target!(|data: &[u8]| {
    let (path, store) = store();
    std::fs::write(path, data).expect("a file can be written");
    assert!(store.page(None, 10).is_err());
});
