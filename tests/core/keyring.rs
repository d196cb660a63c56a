//! Keyrings: what is loaded, what is refused, and adding a key that is interrupted anywhere.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vault_core::{
    Access, Change, Config, Error, Found, KeyState, Keyring, KeyringState, Kind, MasterKey, Scope, Vault,
};

/// A directory with a configuration of two keyrings, and keys where their sources look.
struct Ring {
    directory: TempDir,
}

const CONFIG: &str = "
version = 1
[keyring.main]
sources = [\"file:kek_*\"]
state = \"main.keyring.toml\"
[keyring.text]
kind = \"text\"
sources = [\"file:text_*\"]
state = \"text.keyring.toml\"
";

impl Ring {
    fn new() -> Self {
        let ring = Self { directory: tempfile::tempdir().unwrap() };
        ring.write("vault.toml", CONFIG);
        ring.key("kek_1");
        ring.write("text_1", "a password");
        ring
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn key(&self, name: &str) -> MasterKey {
        let key = MasterKey::generate().unwrap();
        fs::write(self.path(name), key.text().expose_secret()).unwrap();
        key
    }

    fn config(&self) -> Config {
        Config::from_file(self.path("vault.toml")).unwrap()
    }

    fn load(&self) -> vault_core::Result<Vault> {
        Vault::load(self.config())
    }

    fn add(&self, file: &str) -> vault_core::Result<vault_core::KeyId> {
        Vault::key_add(&self.config(), "main", &self.path(file), Some("2"), None)
    }

    fn state(&self) -> String {
        fs::read_to_string(self.path("main.keyring.toml")).unwrap()
    }
}

fn refusal(result: vault_core::Result<Vault>) -> String {
    match result {
        Err(error @ Error::Refused { .. }) => error.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn without_a_state_file_there_is_one_key() {
    let ring = Ring::new();
    assert_eq!(ring.load().unwrap().keyring("main").unwrap().generation(), 0);
    ring.key("kek_2");
    assert!(refusal(ring.load()).contains("main.keyring.toml is missing"));
    fs::remove_file(ring.path("kek_1")).unwrap();
    fs::remove_file(ring.path("kek_2")).unwrap();
    assert!(matches!(ring.load(), Err(Error::KeyMissing { .. })));
}

#[test]
fn a_key_lives_its_life() {
    let ring = Ring::new();
    let old = ring.load().unwrap().sealer().unwrap().primary().unwrap();
    let new = ring.key("new").kid();
    assert_eq!(ring.add("new").unwrap(), new);
    assert!(ring.path("kek_2").exists(), "the label is part of the file's name");

    let states = || -> Vec<(vault_core::KeyId, KeyState)> {
        ring.load().unwrap().keyring("main").unwrap().keys().into_iter().map(|key| (key.kid, key.state)).collect()
    };
    let is = |kid, state| assert!(states().contains(&(kid, state)), "{kid} {state}: {:?}", states());
    is(old, KeyState::Primary);
    is(new, KeyState::Active);
    let change = |change| ring.load().unwrap().key_change("main", &change, None);
    change(Change::Promote(new, crate::followed(&ring.load().unwrap(), "main", Some(new)))).unwrap();
    is(old, KeyState::DecryptOnly);
    is(new, KeyState::Primary);
    change(Change::Promote(old, crate::followed(&ring.load().unwrap(), "main", Some(old)))).unwrap();
    is(old, KeyState::Primary);
    change(Change::Promote(new, crate::followed(&ring.load().unwrap(), "main", Some(new)))).unwrap();
    let vault = ring.load().unwrap();
    let all = vault.rotation(Scope::UsesKeyring("main"), Access::Read).unwrap().verified().unwrap();
    let destroy = |kid| Change::Destroy(all.retired(kid).unwrap());
    for wrong in [Change::Enable(new), destroy(old), destroy(new)] {
        assert_eq!(change(wrong).unwrap_err().kind(), Kind::Refused);
    }
    change(Change::Promote(new, crate::followed(&ring.load().unwrap(), "main", Some(new)))).unwrap();
    change(Change::Enable(old)).unwrap();
    assert_eq!(ring.load().unwrap().keyring("main").unwrap().generation(), 4);
}

#[test]
fn a_weak_key_opens_and_is_never_promoted() {
    let ring = Ring::new();
    let kid = MasterKey::parse_for_opening(&[0xab; 32]).unwrap().kid();
    fs::write(ring.path("weak"), [0xab; 32]).unwrap();
    assert_eq!(ring.add("weak").unwrap(), kid);
    let vault = ring.load().unwrap();
    assert_eq!(vault.keyring("main").unwrap().findings().len(), 1);
    assert!(matches!(crate::promote(&vault, "main", kid, None), Err(Error::CannotSeal { .. })));
}

/// Whoever holds a leaked old key, and may write the state file, cannot make it primary, hide the
/// new key, or roll the keyring back.
#[test]
fn a_forged_state_file_is_refused() {
    let ring = Ring::new();
    let new = ring.key("new").kid();
    ring.add("new").unwrap();
    let before = ring.state();
    let vault = ring.load().unwrap();
    crate::promote(&vault, "main", new, None).unwrap();
    let genuine = ring.state();

    // Changed without any key.
    ring.write("main.keyring.toml", &genuine.replacen("generation = 2", "generation = 3", 1));
    assert!(refusal(ring.load()).contains("MAC"));

    // Written whole under the old key: as if by a process that never saw the new one.
    let attacker = Ring::new();
    fs::copy(ring.path("kek_1"), attacker.path("kek_1")).unwrap();
    let third = attacker.key("third");
    attacker.add("third").unwrap();
    ring.write("main.keyring.toml", &attacker.state());
    assert!(refusal(ring.load()).contains("does not list it"), "the new key was hidden");
    drop(third);

    // The new key listed, and no MAC under it.
    let without_mac: String = genuine
        .lines()
        .filter(|line| !line.starts_with(&format!("{new} = ")))
        .map(|line| format!("{line}\n"))
        .collect();
    ring.write("main.keyring.toml", &without_mac);
    assert!(refusal(ring.load()).contains(&format!("MAC under key {new}")));

    // An older genuine file, against the least generation that the configuration asks for.
    ring.write("main.keyring.toml", &before);
    ring.load().unwrap();
    ring.write("vault.toml", &CONFIG.replacen("[keyring.main]", "[keyring.main]\nmin_generation = 2", 1));
    assert!(refusal(ring.load()).contains("generation 1"));
    ring.write("main.keyring.toml", &genuine);
    ring.load().unwrap();
    fs::remove_file(ring.path("main.keyring.toml")).unwrap();
    assert!(refusal(ring.load()).contains("main.keyring.toml is missing"));
}

#[test]
fn material_must_fit_the_state_file() {
    let ring = Ring::new();
    let new = ring.key("new").kid();
    ring.add("new").unwrap();
    fs::remove_file(ring.path("kek_2")).unwrap();
    let findings = ring.load().unwrap().keyring("main").unwrap().findings();
    assert!(findings[0].contains("was not found"), "an active key that is not there yet is no error");
    fs::remove_file(ring.path("kek_1")).unwrap();
    assert!(ring.load().is_err(), "the primary key is");
    assert!(matches!(
        Keyring::load(
            Vec::<Found<MasterKey>>::new(),
            Some(KeyringState::parse(&ring.state(), Path::new("s")).unwrap()),
            0
        ),
        Err(Error::KeyUnavailable { .. })
    ));
    let _ = new;
}

#[test]
fn two_texts_of_one_key_are_refused_and_one_text_twice_is_not() {
    let ring = Ring::new();
    fs::copy(ring.path("kek_1"), ring.path("kek_copy")).unwrap();
    ring.load().unwrap();
    let text = fs::read_to_string(ring.path("kek_1")).unwrap();
    ring.write("kek_copy", &format!("{text}\n"));
    ring.load().unwrap();
    ring.write("kek_copy", text.trim_end_matches('='));
    assert!(refusal(ring.load()).contains("two texts"));
}

/// Everything that an interruption can leave behind, put there by hand; the command again finishes
/// each time, and in between every load works or, where the key lies there unlisted, says so.
#[test]
fn adding_a_key_goes_on_after_any_interruption() {
    let kid = |ring: &Ring| MasterKey::parse(&fs::read(ring.path("new")).unwrap()).unwrap().kid();
    type Step = fn(&Ring, &str);
    let steps: [Step; 4] = [
        // The hidden file was written, perhaps in part.
        |ring, kid| ring.write(&format!(".vault-new-{kid}"), "cut sho"),
        // The state file was written, and the key's file not renamed yet.
        |ring, kid| {
            ring.add("new").unwrap();
            fs::rename(ring.path("kek_2"), ring.path(&format!(".vault-new-{kid}"))).unwrap();
        },
        // Linked, and the hidden name not removed yet.
        |ring, kid| {
            ring.add("new").unwrap();
            fs::hard_link(ring.path("kek_2"), ring.path(&format!(".vault-new-{kid}"))).unwrap();
        },
        // The operator put the key's file there first.
        |ring, _| {
            fs::copy(ring.path("new"), ring.path("kek_2")).unwrap();
        },
    ];
    for step in steps {
        let ring = Ring::new();
        ring.key("new");
        let kid = kid(&ring);
        step(&ring, kid.as_str());
        assert_eq!(ring.add("new").unwrap(), kid);
        assert_eq!(ring.add("new").unwrap(), kid, "and once more");
        let keys = ring.load().unwrap().keyring("main").unwrap().keys();
        assert!(keys.iter().any(|key| key.kid == kid && key.state == KeyState::Active && key.place.is_some()));
        assert!(!ring.path(&format!(".vault-new-{kid}")).exists());
    }
}

#[test]
fn a_file_that_exists_is_not_overwritten_by_another_key() {
    let ring = Ring::new();
    ring.key("new");
    ring.write("kek_2", "something else");
    assert!(matches!(ring.add("new"), Err(Error::Refused { .. } | Error::KeyMalformed { .. })));
    assert_eq!(fs::read_to_string(ring.path("kek_2")).unwrap(), "something else");
    assert!(!ring.path("main.keyring.toml").exists());
}

#[test]
fn the_first_key_of_all_needs_no_state_file() {
    let ring = Ring::new();
    fs::rename(ring.path("kek_1"), ring.path("first")).unwrap();
    let kid = ring.add("first").unwrap();
    assert!(!ring.path("main.keyring.toml").exists());
    assert_eq!(ring.load().unwrap().sealer().unwrap().primary().unwrap(), kid);
    assert_eq!(ring.add("first").unwrap(), kid);
}

#[test]
fn key_texts_have_a_keyring_of_their_own() {
    let ring = Ring::new();
    ring.write("new_text", "another password\n");
    let kid = Vault::key_add(&ring.config(), "text", &ring.path("new_text"), Some("2"), None).unwrap();
    assert_eq!(kid.letter(), 'f');
    assert_eq!(fs::read_to_string(ring.path("text_2")).unwrap(), "another password\n", "the text is kept exactly");
    crate::promote(&ring.load().unwrap(), "text", kid, None).unwrap();
    assert_eq!(ring.load().unwrap().keyring("text").unwrap().primary_kid(), kid);
}

#[test]
fn the_next_state_can_be_written_elsewhere() {
    let ring = Ring::new();
    let kid = ring.key("new").kid();
    ring.add("new").unwrap();
    let before = ring.state();
    let next = ring.path("next.toml");
    crate::promote(&ring.load().unwrap(), "main", kid, Some(&next)).unwrap();
    assert_eq!(ring.state(), before);
    fs::copy(next, ring.path("main.keyring.toml")).unwrap();
    assert_eq!(ring.load().unwrap().keyring("main").unwrap().primary_kid(), kid);
}

#[test]
fn links_that_leave_their_directory_are_not_followed_and_others_are() {
    let ring = Ring::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(ring.path("kek_1"), elsewhere.path().join("key")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("key"), ring.path("kek_1")).unwrap();
    let error = ring.load().unwrap_err();
    assert!(error.to_string().contains("leaves its directory"), "{error}");
    fs::remove_file(ring.path("kek_1")).unwrap();
    // As Kubernetes mounts secrets.
    fs::create_dir(ring.path("..2026")).unwrap();
    fs::rename(elsewhere.path().join("key"), ring.path("..2026/kek_1")).unwrap();
    std::os::unix::fs::symlink("..2026", ring.path("..data")).unwrap();
    std::os::unix::fs::symlink("..data/kek_1", ring.path("kek_1")).unwrap();
    ring.load().unwrap();
    fs::remove_file(ring.path("kek_1")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, ring.path("kek_1"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    assert!(ring.load().unwrap_err().to_string().contains("regular file"), "a pipe is refused at once");
}
