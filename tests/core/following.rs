//! A loaded vault follows changes of its keys, and no test here refreshes it.

use core::time::Duration;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;
use vault_core::{
    Access, Change, Config, Context, EntryName, Error, Format, KeyId, KeyState, MasterKey, Scope, SecretBytes,
    SecretName, Token, Vault,
};

use crate::server::Database;

/// The least that can be declared: tests wait for it.
const FOLLOW: Duration = Duration::from_millis(100);

/// A deployment: a configuration with two keyrings, and keys where their sources look.
struct Home {
    directory: TempDir,
}

impl Home {
    /// With states in files, or with `store` in the database of that.
    fn new(store: Option<&str>) -> Self {
        let home = Self { directory: tempfile::tempdir().unwrap() };
        let [main, text] = match store {
            Some(_) => ["store", "store"],
            None => ["main.keyring.toml", "text.keyring.toml"],
        };
        let store = store.map_or(String::new(), |url| format!("[store]\nurl = \"{url}\"\n"));
        home.write(
            "vault.toml",
            &format!(
                "version = 1\n[vault]\nfollow = \"100ms\"\n{store}[keyring.main]\nsources = [\"file:keys/kek_*\"]\n\
                 state = \"{main}\"\n[keyring.text]\nkind = \"text\"\nsources = [\"file:keys/text_*\"]\n\
                 state = \"{text}\"\n"
            ),
        );
        fs::create_dir(home.path("keys")).unwrap();
        home.key("keys/kek_1");
        home.write("keys/text_1", "a password");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn key(&self, name: &str) -> KeyId {
        let key = MasterKey::generate().unwrap();
        fs::write(self.path(name), key.text().expose_secret()).unwrap();
        key.kid()
    }

    fn config(&self) -> Config {
        Config::from_file(self.path("vault.toml")).unwrap()
    }

    fn vault(&self) -> Vault {
        Vault::load(self.config()).unwrap()
    }

    /// What an operator does beside running processes.
    fn operator(&self) -> Vault {
        Vault::load(self.config().without_heartbeats()).unwrap()
    }

    fn add(&self) -> KeyId {
        Vault::key_generate(&self.config(), "main", None).unwrap()
    }

    fn promote(&self, keyring: &str, kid: KeyId) {
        crate::promote(&self.operator(), keyring, kid, None).unwrap();
    }
}

fn context() -> Context {
    Context::new("user-secret").tenant("42")
}

fn seal(vault: &Vault) -> Token {
    vault.seal(&context(), b"secret").unwrap()
}

fn opens(vault: &Vault, token: &Token) -> bool {
    vault.open(&context(), token).is_ok_and(|secret| secret.expose_secret() == b"secret")
}

/// Longer than a lease, so that nothing is left of it.
fn wait() {
    thread::sleep(FOLLOW + Duration::from_millis(20));
}

/// Adds and promotes keys beside a vault that is never told of it.
fn follows(home: &Home) {
    let vault = home.vault();
    let first = seal(&vault);
    for _ in 0..3 {
        let kid = home.add();
        wait();
        home.promote("main", kid);
        // Before it looks by itself: what others seal under a key that it does not know yet.
        let of_another = seal(&home.operator());
        assert_eq!(of_another.kid(), kid);
        assert!(opens(&vault, &of_another));
        wait();
        assert_eq!(seal(&vault).kid(), kid);
        assert!(opens(&vault, &first));
    }
    assert!(vault.following().failure.is_none());
}

#[test]
fn it_follows_states_in_a_file() {
    follows(&Home::new(None));
}

#[test]
fn it_follows_states_in_sqlite() {
    let home = Home::new(Some("sqlite:vault.db"));
    home.vault().store().unwrap().create().unwrap();
    follows(&home);
}

#[test]
fn it_follows_states_in_postgresql() {
    let database = Database::new();
    let home = Home::new(Some(&database.url()));
    home.vault().store().unwrap().create().unwrap();
    follows(&home);
}

/// The client of PostgreSQL has a runtime of its own, which may not run inside another.
#[test]
fn it_follows_on_a_thread_of_an_async_runtime() {
    let database = Database::new();
    let home = Home::new(Some(&database.url()));
    home.vault().store().unwrap().create().unwrap();
    let vault = home.vault();
    let kid = home.add();
    home.promote("main", kid);
    let of_another = seal(&home.operator());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(async { opens(&vault, &of_another) }));
    wait();
    let next = home.add();
    home.promote("main", next);
    wait();
    assert_eq!(runtime.block_on(async { seal(&vault).kid() }), next);
    assert!(vault.following().failure.is_none(), "{:?}", vault.following());
}

/// A lease is counted from the look: within it a promotion is not seen, and need not be.
#[test]
fn what_is_sealed_behind_a_lease_is_under_the_key_of_that_moment() {
    let home = Home::new(None);
    let vault = home.vault();
    for _ in 0..20 {
        let before = seal(&vault).kid();
        let kid = home.add();
        home.promote("main", kid);
        let promoted = Instant::now();
        while promoted.elapsed() < FOLLOW {
            assert!([before, kid].contains(&seal(&vault).kid()));
        }
        assert_eq!(seal(&vault).kid(), kid, "sealed under an older key after its lease had ended");
    }
}

#[test]
fn values_without_a_key_id_are_tried_once_more() {
    let home = Home::new(None);
    let vault = home.vault();
    let add = |text: &str| {
        home.write("new", text);
        Vault::key_add(&home.config(), "text", &home.path("new"), Some(text), None).unwrap()
    };
    let write = |vault: &Vault| vault.seal_legacy("text", Format::FaceColumn, None, b"secret").unwrap();
    let first = write(&vault);
    for text in ["second", "third"] {
        let kid = add(text);
        home.promote("text", kid);
        let of_another = write(&home.operator());
        for value in [&of_another, &first] {
            let opened = vault.open_legacy("text", Format::FaceColumn, None, value.as_bytes()).unwrap();
            assert_eq!(opened.expose_secret(), b"secret");
        }
        wait();
        assert_eq!(vault.keyring("text").unwrap().primary_kid(), kid);
    }
}

#[test]
fn an_enabled_key_opens_at_once() {
    let home = Home::new(None);
    let vault = home.vault();
    let token = seal(&vault);
    let old = token.kid();
    let kid = home.add();
    home.promote("main", kid);
    let operator = home.operator();
    let verification = operator.rotation(Scope::UsesKeyring("main"), Access::Read).unwrap().verify().unwrap();
    let retired = verification.retired(old).unwrap();
    crate::disable(&operator, "main", retired).unwrap();
    wait();
    assert!(matches!(vault.open(&context(), &token), Err(Error::KeyDisabled { .. })));
    wait();
    home.operator().key_change("main", &Change::Enable(old), None).unwrap();
    assert!(opens(&vault, &token));
}

#[test]
fn forged_values_cause_few_looks() {
    let home = Home::new(None);
    let vault = home.vault();
    let forged = {
        let stranger = Home::new(None);
        seal(&stranger.vault())
    };
    let before = vault.following().looks;
    let began = Instant::now();
    for _ in 0..20_000 {
        assert!(matches!(vault.open(&context(), &forged), Err(Error::UnknownKey { .. })));
    }
    let looks = vault.following().looks - before;
    // One for each lease, and one for the values in each time that is as long here.
    let leases = u64::try_from(began.elapsed().as_millis() / FOLLOW.as_millis()).unwrap();
    assert!((1..=2 * (leases + 1)).contains(&looks), "{looks} looks in {leases} leases");
}

#[test]
fn a_look_that_fails_leaves_what_is_loaded_and_heals() {
    let home = Home::new(None);
    let vault = home.vault();
    let token = seal(&vault);
    let states = home.path("main.keyring.toml");
    let kid = home.add();
    let good = fs::read_to_string(&states).unwrap();
    home.write("main.keyring.toml", "cut sho");
    wait();
    assert_eq!(seal(&vault).kid(), token.kid());
    assert!(opens(&vault, &token));
    let failure = vault.following().failure.unwrap();
    assert!(failure.contains("main.keyring.toml"), "{failure}");
    assert!(vault.refresh().is_err());
    fs::write(&states, good).unwrap();
    home.promote("main", kid);
    // It is looked for again after `follow`, or ten times what the look took.
    heals(&vault, || seal(&vault).kid() == kid);
}

#[test]
fn a_key_that_cannot_be_read_leaves_what_is_loaded_and_heals() {
    let home = Home::new(None);
    let vault = home.vault();
    let token = seal(&vault);
    // Root reads whatever permissions say, and no directory.
    fs::rename(home.path("keys/kek_1"), home.path("aside")).unwrap();
    fs::create_dir(home.path("keys/kek_1")).unwrap();
    wait();
    assert!(opens(&vault, &seal(&vault)) && opens(&vault, &token));
    let failure = vault.following().failure.unwrap();
    assert!(failure.contains("kek_1"), "{failure}");
    fs::remove_dir(home.path("keys/kek_1")).unwrap();
    fs::rename(home.path("aside"), home.path("keys/kek_1")).unwrap();
    heals(&vault, || {
        seal(&vault);
        vault.following().failure.is_none()
    });
}

fn heals(vault: &Vault, healed: impl Fn() -> bool) {
    let began = Instant::now();
    while !healed() {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", vault.following());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn states_that_went_back_are_refused() {
    let home = Home::new(None);
    let kid = home.add();
    let before = fs::read_to_string(home.path("main.keyring.toml")).unwrap();
    home.promote("main", kid);
    let vault = home.vault();
    home.write("main.keyring.toml", &before);
    wait();
    assert_eq!(seal(&vault).kid(), kid);
    let failure = vault.following().failure.unwrap();
    assert!(failure.contains("generation"), "{failure}");
    assert!(matches!(vault.refresh(), Err(Error::Refused { .. })));
}

#[test]
fn a_key_file_that_was_replaced_is_read() {
    let home = Home::new(None);
    let file = home.path("keys/kek_1");
    let vault = Vault::load(Config::from_key_file(&file)).unwrap();
    let before = seal(&vault).kid();
    let new = home.key("new");
    fs::rename(home.path("new"), &file).unwrap();
    thread::sleep(Duration::from_millis(1_020));
    assert_eq!(seal(&vault).kid(), new);
    assert_ne!(new, before);

    let file = home.path("keys/text_1");
    let vault = Vault::load(Config::from_text_key_file(&file, Format::FaceColumn)).unwrap();
    let value = vault.seal_legacy("main", Format::FaceColumn, None, b"secret").unwrap();
    home.write("new", "another password");
    fs::rename(home.path("new"), &file).unwrap();
    thread::sleep(Duration::from_millis(1_020));
    assert!(vault.open_legacy("main", Format::FaceColumn, None, value.as_bytes()).is_err());
    assert!(vault.seal(&context(), b"secret").is_err_and(|error| error.to_string().contains("key text")));
}

/// As Kubernetes replaces a mount: a link to a directory with all files.
#[test]
fn a_mount_that_was_replaced_is_read() {
    let home = Home::new(None);
    let deploy = |version: &str| {
        let folder = home.path("keys").join(version);
        fs::create_dir(&folder).unwrap();
        for file in ["kek_1", "text_1"] {
            fs::copy(home.path("keys/now").join(file), folder.join(file)).unwrap();
        }
        switch(&home.path("keys"), version);
    };
    fs::create_dir(home.path("keys/one")).unwrap();
    for file in ["kek_1", "text_1"] {
        fs::rename(home.path("keys").join(file), home.path("keys/one").join(file)).unwrap();
        symlink(Path::new("now").join(file), home.path("keys").join(file)).unwrap();
    }
    switch(&home.path("keys"), "one");
    let vault = home.vault();
    deploy("two");
    wait();
    seal(&vault);
    assert!(vault.following().failure.is_none(), "{:?}", vault.following());
    fs::write(home.path("keys/two/kek_1"), MasterKey::generate().unwrap().text().expose_secret()).unwrap();
    wait();
    seal(&vault);
    // Nothing but one key, without states: the new one.
    assert_eq!(vault.keyring("main").unwrap().keys().len(), 1);
    assert_eq!(vault.keyring("main").unwrap().primary_kid(), home.operator().keyring("main").unwrap().primary_kid());
}

fn switch(directory: &Path, version: &str) {
    symlink(version, directory.join("..now")).unwrap();
    fs::rename(directory.join("..now"), directory.join("now")).unwrap();
}

#[test]
fn secrets_by_name_follow() {
    let home = Home::new(Some("sqlite:vault.db"));
    let vault = home.vault();
    vault.store().unwrap().create().unwrap();
    let name = |text: &str| EntryName::new(SecretName::parse(text).unwrap());
    vault.set(&[(name("A"), SecretBytes::copy_of(b"one"))], None).unwrap();
    for round in 0..3 {
        let kid = home.add();
        home.promote("main", kid);
        // The operator's writes are under a key that the process may not have read yet.
        let written = format!("written {round}");
        home.operator().set(&[(name("B"), SecretBytes::copy_of(written.as_bytes()))], None).unwrap();
        assert_eq!(vault.secret("B").unwrap().value.expose_secret(), written.as_bytes());
        assert_eq!(vault.secret("A").unwrap().value.expose_secret(), b"one");
        vault.set(&[(name("C"), SecretBytes::copy_of(b"three"))], None).unwrap();
        assert_eq!(vault.store().unwrap().versions(&name("C")).unwrap()[0].token.kid(), kid);
    }
}

#[test]
fn looks_send_heartbeats() {
    let home = Home::new(Some("sqlite:vault.db"));
    home.vault().store().unwrap().create().unwrap();
    let vault = home.vault();
    let told = || {
        let told = home.operator().heartbeats("main").unwrap();
        told.into_iter().map(|node| (node.generation, node.kids.len())).max().unwrap()
    };
    assert_eq!(told(), (0, 1));
    home.add();
    wait();
    seal(&vault);
    assert_eq!(told(), (1, 2));
    assert_eq!(
        home.operator().keyring("main").unwrap().keys().iter().filter(|key| key.state == KeyState::Active).count(),
        1
    );
}

#[test]
fn a_vault_may_be_shared_and_sent() {
    fn shareable<T: Send + Sync>() {}
    shareable::<Vault>();
    let home = Home::new(None);
    let vault = home.vault();
    let kid = home.add();
    let promoted = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    while !promoted.load(Ordering::SeqCst) {
                        assert!(opens(&vault, &seal(&vault)));
                    }
                    seal(&vault).kid()
                })
            })
            .collect();
        wait();
        home.promote("main", kid);
        wait();
        promoted.store(true, Ordering::SeqCst);
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() == kid));
    });
}

#[test]
fn the_time_is_declared_within_its_range() {
    let home = Home::new(None);
    let follow = |written: &str| {
        home.write("other.toml", &format!("version = 1\n[vault]\nfollow = {written}\n"));
        Config::from_file(home.path("other.toml")).map(|config| config.manifest().follow())
    };
    for (written, expected) in [("\"100ms\"", 100), ("\"1s\"", 1_000), ("\"2500ms\"", 2_500), ("\"60s\"", 60_000)] {
        assert_eq!(follow(written).unwrap(), Duration::from_millis(expected));
    }
    for written in [
        "\"99ms\"",
        "\"0s\"",
        "\"61s\"",
        "\"1\"",
        "\"1m\"",
        "\"1.5s\"",
        "\"-1s\"",
        "\"s\"",
        "\"99999999999999999999s\"",
    ] {
        let refused = follow(written).unwrap_err();
        assert!(matches!(&refused, Error::Config { .. }) && refused.to_string().contains(":3:"), "{refused}");
    }
    assert!(follow("1").is_err());
    home.write("other.toml", "version = 1\n");
    assert_eq!(Config::from_file(home.path("other.toml")).unwrap().manifest().follow(), Duration::from_secs(1));
}
