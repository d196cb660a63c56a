//! Stores: one list of cases, run against every implementation.

mod contract;
mod file;
mod vault;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use vault_core::{
    Config, Entry, EntryName, FileStore, Keyring, MasterKey, NewEntry, PostgresStore, PostgresUrl, STORE_ENTRY, Sealer,
    SecretName, SqliteStore, Store, Token, Vault,
};

use crate::server::Database;

/// The stores that there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    File,
    Postgres,
    Sqlite,
}

const KINDS: [Kind; 3] = [Kind::File, Kind::Postgres, Kind::Sqlite];

impl Kind {
    /// What `vault.toml` says of the store at `path`.
    fn url(self, path: &Path) -> String {
        match self {
            Self::File => "file:store".to_owned(),
            Self::Postgres => database(path).url(),
            Self::Sqlite => "sqlite:store".to_owned(),
        }
    }

    fn open(self, path: &Path, keyring: &Keyring<MasterKey>, keep: u32) -> Arc<dyn Store> {
        match self {
            Self::File => Arc::new(FileStore::new(path, keyring.clone()).with_keep(keep)),
            Self::Postgres => {
                let url = PostgresUrl::parse(&database(path).url()).unwrap();
                Arc::new(PostgresStore::new(url, keyring.clone()).with_keep(keep))
            }
            Self::Sqlite => Arc::new(SqliteStore::new(path, keyring.clone()).with_keep(keep)),
        }
    }
}

/// The database that stands for a path.
fn database(path: &Path) -> Database {
    let name: String = path.display().to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
    // Their names are short, so the end of a path tells it.
    Database::named(&format!("p{}", &name[name.len().saturating_sub(60)..]))
}

/// An empty store under one key.
struct Fixture {
    kind: Kind,
    directory: TempDir,
    keyring: Keyring<MasterKey>,
    sealer: Sealer,
    store: Arc<dyn Store>,
}

impl Fixture {
    fn new(kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keyring = Keyring::single(MasterKey::generate().unwrap());
        let store = kind.open(&directory.path().join("store"), &keyring, 3);
        store.create().unwrap();
        Self { kind, directory, sealer: Sealer::new(keyring.clone()), keyring, store }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn token(&self, name: &EntryName, value: &str) -> Token {
        self.sealer.seal(&name.context(STORE_ENTRY), value.as_bytes()).unwrap()
    }

    fn put(&self, name: &EntryName, value: &str) -> u64 {
        let token = self.token(name, value);
        self.store.put(&[NewEntry { name, purpose: STORE_ENTRY, token: &token }]).unwrap()[0]
    }

    fn opened(&self, entry: &Entry) -> String {
        let secret = self.sealer.open(&entry.context(), &entry.token).unwrap();
        String::from_utf8(secret.expose_secret().to_vec()).unwrap()
    }
}

fn name(text: &str) -> EntryName {
    EntryName::new(SecretName::parse(text).unwrap())
}

fn of(tenant: &str, text: &str) -> EntryName {
    EntryName::of_tenant(SecretName::parse(text).unwrap(), tenant).unwrap()
}

/// A directory with `vault.toml`, keys and a store.
struct Home {
    directory: TempDir,
}

impl Home {
    fn new(kind: Kind) -> Self {
        let home = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(
            home.path("vault.toml"),
            format!(
                "version = 1\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"main.keyring.toml\"\n[store]\nurl = \"{}\"\n",
                kind.url(&home.path("store"))
            ),
        )
        .unwrap();
        home.new_key("kek_1");
        home.vault().store().unwrap().create().unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn config(&self) -> Config {
        Config::from_file(self.path("vault.toml")).unwrap()
    }

    fn vault(&self) -> Vault {
        Vault::load(self.config()).unwrap()
    }

    fn new_key(&self, name: &str) {
        fs::write(self.path(name), MasterKey::generate().unwrap().text().expose_secret()).unwrap();
    }
}
