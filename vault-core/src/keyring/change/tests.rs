//! What is left after an interruption at any moment of adding and changing keys.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::super::followed::Followed;
use super::*;
use crate::key::MasterKey;
use crate::keyring::Found;
use crate::keyring::retired::Retired;

/// A directory whose files `kek_*` are the keyring's keys.
struct Machine {
    directory: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// One that has a first key, and a second that is not added yet.
    fn with_one_key() -> (Self, MasterKey, MasterKey) {
        let (machine, old, new) = (Self::new(), MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        assert_eq!(machine.add(&old, "kek_1", None).unwrap(), Added::First);
        (machine, old, new)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self, except: Option<&Path>) -> Result<Keyring<MasterKey>> {
        let state = || match fs::read_to_string(self.path("state.toml")) {
            Ok(text) => KeyringState::parse(&text, Path::new("state.toml")).map(Some),
            Err(_) => Ok(None),
        };
        Keyring::read(|| Ok(shared(self.found(except))), state, 0, None)?.with_all_keys()
    }

    fn found(&self, except: Option<&Path>) -> Vec<Found<MasterKey>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("kek_") && Some(&*path) != except {
                let key = MasterKey::parse_for_opening(&fs::read(&path).unwrap()).unwrap();
                found.push(Found { key, place: path.display().to_string() });
            }
        }
        found
    }

    fn add(&self, key: &MasterKey, name: &str, out: Option<&Path>) -> Result<Added> {
        let destination = self.path(name);
        let new = NewKey { key, content: key.text(), label: Some("new".to_owned()), generation: None };
        add(&StateFile(&self.path("state.toml")), out, &destination, &new, |except| self.load(except))
    }

    fn change(&self, what: &Change) -> Result<KeyringState> {
        change(&StateFile(&self.path("state.toml")), None, || self.load(None), what)
    }

    fn followed(&self, kid: KeyId) -> Followed {
        let keyring = self.load(None).unwrap();
        Followed::new(keyring.keyring_id(), keyring.generation(), Some(kid))
    }

    fn promote(&self, kid: KeyId) -> Result<KeyringState> {
        self.change(&Change::Promote(kid, self.followed(kid)))
    }

    fn disable(&self, kid: KeyId) -> Result<KeyringState> {
        self.change(&Change::Disable(self.proof(kid), self.followed(kid)))
    }

    fn proof(&self, kid: KeyId) -> Retired {
        let keyring = self.load(None).unwrap();
        Retired::new(kid, keyring.keyring_id().unwrap().to_owned(), keyring.generation())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn every_interruption_of_adding_is_finished_by_the_next_run() {
    let (done, old, new) = Machine::with_one_key();
    assert_eq!(done.add(&new, "kek_2", None).unwrap(), Added::Waiting);
    let state = fs::read(done.path("state.toml")).unwrap();
    let content = new.text().expose_secret();
    let hidden = format!(".vault-new-{}", new.kid());
    let hidden = hidden.as_str();
    let cut = content.get(..7).unwrap();

    // What is on disk after each step; whether a process that loads then may work.
    type Files<'a> = &'a [(&'a str, &'a [u8])];
    let steps: [(&str, Files<'_>, bool); 7] = [
        ("hidden file created", &[(hidden, b"")], true),
        ("hidden file cut short", &[(hidden, cut)], true),
        ("hidden file written", &[(hidden, content)], true),
        ("state written", &[(hidden, content), ("state.toml", &state)], true),
        ("key's file linked", &[(hidden, content), ("state.toml", &state), ("kek_2", content)], true),
        ("done", &[("state.toml", &state), ("kek_2", content)], true),
        ("key's file put there by hand", &[("kek_2", content)], false),
    ];
    for (step, files, loads) in steps {
        let machine = Machine::new();
        fs::write(machine.path("kek_1"), old.text().expose_secret()).unwrap();
        for (name, content) in files {
            fs::write(machine.path(name), content).unwrap();
        }
        assert_eq!(machine.load(None).is_ok(), loads, "{step}");
        for run in 0..2 {
            assert_eq!(machine.add(&new, "kek_2", None).unwrap(), Added::Waiting, "{step}");
            let keyring = machine.load(None).unwrap();
            assert_eq!((keyring.primary_kid(), keyring.generation()), (old.kid(), 1), "{step}, run {run}");
            assert_eq!(keyring.opening(new.kid()).unwrap().kid(), new.kid(), "{step}");
            assert!(keyring.findings().is_empty(), "{step}");
            assert_eq!(fs::read(machine.path("kek_2")).unwrap(), content, "{step}");
            assert_eq!(machine.names(), ["kek_1", "kek_2", "state.toml", "state.toml.lock"], "{step}");
        }
    }
    assert_eq!(fs::metadata(done.path("kek_2")).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(done.path("state.toml")).unwrap().mode() & 0o7777, 0o644);
}

#[test]
fn no_moment_of_adding_and_promoting_is_an_error_to_a_process_that_loads() {
    let (machine, old, _) = Machine::with_one_key();
    let keys: Vec<MasterKey> = (0..20).map(|_| MasterKey::generate().unwrap()).collect();
    let stop = AtomicBool::new(false);
    let loads = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut loads = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                machine.load(None).unwrap();
                loads += 1;
            }
            loads
        });
        for (number, key) in keys.iter().enumerate() {
            let done = machine.add(key, &format!("kek_n{number}"), None).and_then(|_| machine.promote(key.kid()));
            if done.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            done.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(loads > 20, "{loads} loads met too few moments");
    let keyring = machine.load(None).unwrap();
    assert_eq!((keyring.primary_kid(), keyring.generation()), (keys[19].kid(), 40));
    keyring.opening(old.kid()).unwrap();
}

#[test]
fn a_key_lives_through_all_its_states() {
    let (machine, old, new) = Machine::with_one_key();
    let refused = |result: Result<KeyringState>| matches!(result, Err(Error::Refused { .. }));
    machine.add(&new, "kek_2", None).unwrap();
    assert!(machine.load(None).unwrap().opening(new.kid()).is_ok());
    machine.promote(new.kid()).unwrap();
    machine.promote(old.kid()).unwrap();
    machine.promote(new.kid()).unwrap();
    let keyring = machine.load(None).unwrap();
    assert_eq!(keyring.primary().unwrap().kid(), new.kid());
    assert!(keyring.keys().find(|key| key.kid == old.kid()).unwrap().demoted.is_some());

    assert!(refused(machine.disable(new.kid())));
    machine.disable(old.kid()).unwrap();
    assert!(matches!(machine.load(None).unwrap().opening(old.kid()), Err(Error::KeyDisabled { .. })));
    assert!(refused(machine.promote(old.kid())));
    machine.change(&Change::Enable(old.kid())).unwrap();
    machine.load(None).unwrap().opening(old.kid()).unwrap();
    machine.disable(old.kid()).unwrap();

    // While its material is there, destroying it would stop every process that finds it.
    let before = fs::read(machine.path("state.toml")).unwrap();
    assert!(refused(machine.change(&Change::Destroy(machine.proof(old.kid())))));
    assert_eq!(fs::read(machine.path("state.toml")).unwrap(), before);
    fs::rename(machine.path("kek_1"), machine.path("escrow")).unwrap();
    let last = machine.change(&Change::Destroy(machine.proof(old.kid()))).unwrap();
    assert_eq!(last.generation(), 8);
    let keyring = machine.load(None).unwrap();
    assert!(matches!(keyring.opening(old.kid()), Err(Error::KeyDestroyed { at: Some(_), .. })));
    assert!(refused(machine.change(&Change::Enable(old.kid()))));

    let escrow = fs::read(machine.path("escrow")).unwrap();
    fs::write(machine.path("kek_1"), escrow).unwrap();
    match machine.load(None) {
        Err(Error::Refused { remedy, .. }) => assert_eq!(remedy, "unmount it"),
        other => panic!("{other:?}"),
    }
    fs::remove_file(machine.path("kek_1")).unwrap();
    assert!(matches!(machine.add(&old, "kek_1", None), Err(Error::Refused { .. })));
}

#[test]
fn a_weak_key_waits_and_opens_and_is_never_promoted() {
    let (machine, old, _) = Machine::with_one_key();
    let weak = MasterKey::parse_for_opening(&b"00".repeat(32)).unwrap();
    machine.add(&weak, "kek_2", None).unwrap();
    assert!(matches!(machine.promote(weak.kid()), Err(Error::CannotSeal { .. })));
    let keyring = machine.load(None).unwrap();
    assert_eq!(keyring.primary_kid(), old.kid());
    keyring.opening(weak.kid()).unwrap();
    assert_eq!(keyring.findings().len(), 1);
}

#[test]
fn a_key_without_material_is_not_promoted() {
    let (machine, old, new) = Machine::with_one_key();
    machine.add(&new, "kek_2", None).unwrap();
    fs::remove_file(machine.path("kek_2")).unwrap();
    assert!(matches!(machine.promote(new.kid()), Err(Error::KeyUnavailable { .. })));
    assert_eq!(machine.load(None).unwrap().primary_kid(), old.kid());
}

/// A change that is made where a disabled key is absent carries no MAC under it.
#[test]
fn a_key_that_missed_a_change_counts_again_once_added_again() {
    let (machine, old, new) = Machine::with_one_key();
    machine.add(&new, "kek_2", None).unwrap();
    machine.promote(new.kid()).unwrap();
    machine.disable(old.kid()).unwrap();
    fs::rename(machine.path("kek_1"), machine.path("away")).unwrap();
    machine.add(&MasterKey::generate().unwrap(), "kek_3", None).unwrap();
    fs::rename(machine.path("away"), machine.path("kek_1")).unwrap();
    assert!(matches!(machine.load(None), Err(Error::Refused { .. })));
    for _ in 0..2 {
        assert_eq!(machine.add(&old, "kek_1", None).unwrap(), Added::Signed);
        let keyring = machine.load(None).unwrap();
        assert_eq!(keyring.generation(), 5);
        assert!(matches!(keyring.opening(old.kid()), Err(Error::KeyDisabled { .. })));
    }
}

#[test]
fn a_waiting_key_that_missed_a_change_counts_again_once_added_again() {
    let (machine, old, new) = Machine::with_one_key();
    machine.add(&new, "kek_2", None).unwrap();
    fs::rename(machine.path("kek_2"), machine.path("away")).unwrap();
    machine.add(&MasterKey::generate().unwrap(), "kek_3", None).unwrap();
    fs::rename(machine.path("away"), machine.path("kek_2")).unwrap();
    assert!(matches!(machine.load(None), Err(Error::Refused { .. })));
    for _ in 0..2 {
        assert_eq!(machine.add(&new, "kek_2", None).unwrap(), Added::Waiting);
        let keyring = machine.load(None).unwrap();
        assert_eq!((keyring.primary_kid(), keyring.generation()), (old.kid(), 3));
        keyring.opening(new.kid()).unwrap();
    }
}

#[test]
fn nothing_that_exists_is_overwritten() {
    let (machine, _, new) = Machine::with_one_key();
    let before = fs::read(machine.path("kek_1")).unwrap();
    assert!(matches!(machine.add(&new, "kek_1", None), Err(Error::Refused { .. })));
    assert_eq!(fs::read(machine.path("kek_1")).unwrap(), before);
    assert_eq!(machine.names(), ["kek_1", "state.toml.lock"]);
    // Even if it came up after the first look.
    let hidden = machine.path(".vault-new");
    write_hidden(&hidden, new.text()).unwrap();
    assert!(matches!(show(&hidden, &machine.path("kek_1"), new.text()), Err(Error::Refused { .. })));
    assert_eq!(fs::read(machine.path("kek_1")).unwrap(), before);
}

#[test]
fn a_key_that_is_in_use_is_added_again_without_harm() {
    let (machine, old, new) = Machine::with_one_key();
    machine.add(&new, "kek_2", None).unwrap();
    machine.promote(new.kid()).unwrap();
    let names = machine.names();
    // A copy that an interrupted run left goes.
    fs::write(machine.path(&format!(".vault-new-{}", new.kid())), "left").unwrap();
    for (key, file) in [(&new, "kek_2"), (&old, "kek_1")] {
        assert_eq!(machine.add(key, file, None).unwrap(), Added::Signed);
    }
    assert_eq!(machine.names(), names);
    let keyring = machine.load(None).unwrap();
    assert_eq!((keyring.primary_kid(), keyring.generation()), (new.kid(), 2));
}

#[test]
fn a_first_key_has_no_next_state() {
    let (machine, old, _) = Machine::with_one_key();
    let out = machine.path("next.toml");
    assert!(matches!(machine.add(&old, "kek_1", Some(&out)), Err(Error::Refused { .. })));
    assert!(!out.exists());
}

/// As in a container with both keys mounted, whose state file is deployed anew.
#[test]
fn the_next_state_can_be_written_elsewhere() {
    let (machine, old, new) = Machine::with_one_key();
    fs::write(machine.path("kek_2"), new.text().expose_secret()).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let out = outside.path().join("next.toml");
    assert_eq!(machine.add(&new, "kek_2", Some(&out)).unwrap(), Added::Waiting);
    assert_eq!(machine.names(), ["kek_1", "kek_2", "state.toml.lock"]);
    assert!(machine.load(None).is_err());
    fs::copy(&out, machine.path("state.toml")).unwrap();
    assert_eq!(machine.load(None).unwrap().primary_kid(), old.kid());

    let promoted = change(
        &StateFile(&machine.path("state.toml")),
        Some(&out),
        || machine.load(None),
        &Change::Promote(new.kid(), machine.followed(new.kid())),
    )
    .unwrap();
    assert_eq!(machine.load(None).unwrap().primary_kid(), old.kid());
    fs::copy(&out, machine.path("state.toml")).unwrap();
    let keyring = machine.load(None).unwrap();
    assert_eq!((keyring.primary_kid(), keyring.state()), (new.kid(), Some(&promoted)));
}

#[test]
fn a_state_that_could_not_be_read_again_is_not_written() {
    let (machine, old, new) = Machine::with_one_key();
    let destination = machine.path("kek_2");
    let long = NewKey { key: &new, content: new.text(), label: Some("x".repeat(1 << 20)), generation: None };
    let added = add(&StateFile(&machine.path("state.toml")), None, &destination, &long, |except| machine.load(except));
    assert!(matches!(added, Err(Error::TooLarge { .. })));
    assert_eq!(machine.load(None).unwrap().primary_kid(), old.kid());
    machine.add(&new, "kek_2", None).unwrap();
    machine.load(None).unwrap();
}

fn shared(found: Vec<Found<MasterKey>>) -> Vec<Found<Arc<MasterKey>>> {
    found.into_iter().map(|Found { key, place }| Found { key: Arc::new(key), place }).collect()
}

/// States that are compared when they are written, and not locked: those in a database.
struct Unlocked<'a>(StateFile<'a>);

impl States for Unlocked<'_> {
    fn read(&self) -> Result<Option<KeyringState>> {
        self.0.read()
    }

    fn lock(&self) -> Result<Option<file::Lock>> {
        Ok(None)
    }

    fn write(&self, before: u64, next: &KeyringState) -> Result<()> {
        self.0.write(before, next)
    }
}

/// States that are signed without a key whose file is about to appear would not load once it does.
#[test]
fn nothing_is_signed_while_somebody_else_adds_a_key() {
    let (machine, old, new) = Machine::with_one_key();
    let third = MasterKey::generate().unwrap();
    machine.add(&new, "kek_2", None).unwrap();
    machine.promote(new.kid()).unwrap();
    let path = machine.path("state.toml");
    let states = Unlocked(StateFile(&path));
    let put = |key: &MasterKey, name: &str| {
        let new = NewKey { key, content: key.text(), label: None, generation: None };
        add(&states, None, &machine.path(name), &new, |except| machine.load(except))
    };
    put(&third, "kek_3").unwrap();
    let hidden = machine.path(&format!(".vault-new-{}", third.kid()));
    fs::rename(machine.path("kek_3"), &hidden).unwrap();
    let before = fs::read(&path).unwrap();
    let fourth = MasterKey::generate().unwrap();
    assert!(matches!(put(&fourth, "kek_4"), Err(Error::Temporary { .. })));
    let back = Change::Promote(old.kid(), machine.followed(old.kid()));
    let changed = change(&states, None, || machine.load(None), &back);
    assert!(matches!(changed, Err(Error::Temporary { .. })), "{changed:?}");
    assert!(fs::read(&path).unwrap() == before && !machine.path("kek_4").exists());
    // Whoever was interrupted goes on.
    assert_eq!(put(&third, "kek_3").unwrap(), Added::Waiting);
    put(&fourth, "kek_4").unwrap();
    machine.load(None).unwrap();

    // Where its file is put by other means, nothing waits for it.
    fs::remove_file(machine.path("kek_3")).unwrap();
    put(&MasterKey::generate().unwrap(), "kek_5").unwrap();
}

/// Its file appears between two looks.
#[test]
fn a_key_that_somebody_else_has_just_added_is_looked_for_again() {
    let (machine, _, new) = Machine::with_one_key();
    machine.add(&new, "kek_2", None).unwrap();
    let path = machine.path("state.toml");
    let third = MasterKey::generate().unwrap();
    let looks = std::cell::Cell::new(0);
    let load = |except: Option<&Path>| {
        looks.set(looks.get() + 1);
        let second = machine.path("kek_2");
        machine.load(if looks.get() == 1 { Some(&second) } else { except })
    };
    let new = NewKey { key: &third, content: third.text(), label: None, generation: None };
    let added = add(&Unlocked(StateFile(&path)), None, &machine.path("kek_3"), &new, load);
    assert!(matches!(added, Err(Error::Temporary { .. })), "{added:?}");
    machine.load(None).unwrap();
}
