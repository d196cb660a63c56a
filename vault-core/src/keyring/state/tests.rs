//! What the state file refuses, and which moves there are.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::error::Place;
use crate::hex;
use crate::key::MasterKey;
use crate::keyring::followed::Followed;
use crate::keyring::retired::Retired;

static KEYS: LazyLock<Vec<MasterKey>> = LazyLock::new(|| (0..4).map(|_| MasterKey::generate().unwrap()).collect());

fn path() -> &'static Path {
    Path::new("s.toml")
}

fn signed_by(state: &KeyringState, key: &MasterKey) -> bool {
    state.check_macs([key]).is_ok()
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    proptest::option::of((0_u64..253_402_300_800).prop_map(Timestamp))
}

fn record() -> impl Strategy<Value = KeyRecord> {
    let states = [KeyState::Active, KeyState::DecryptOnly, KeyState::Disabled, KeyState::Destroyed];
    let text = || proptest::option::of("\\PC{0,6}|[\\x00-\\x7f]{0,8}|.{0,6}");
    ((proptest::sample::select(states.to_vec()), text(), text()), (time(), time(), time(), time(), time())).prop_map(
        |((state, label, source), (created, promoted, demoted, disabled, destroyed))| KeyRecord {
            state,
            label,
            source,
            created,
            promoted,
            demoted,
            disabled,
            destroyed,
        },
    )
}

prop_compose! {
    /// Signed by all of `KEYS`, which are the keys that it lists.
    fn state()(
        keyring_id in "[0-9a-f]{32}",
        generation in 0..=i64::MAX.unsigned_abs(),
        updated in 0_u64..253_402_300_800,
        records in proptest::collection::vec(record(), 4),
        primary in 0_usize..4,
    ) -> KeyringState {
        let mut keys: BTreeMap<_, _> = KEYS.iter().map(MasterKey::kid).zip(records).collect();
        keys.get_mut(&KEYS[primary].kid()).unwrap().state = KeyState::Primary;
        let updated = Timestamp(updated);
        let mut state = KeyringState { keyring_id, kind: KeyringKind::Kek, generation, updated, keys, macs: BTreeMap::new() };
        state.sign(KEYS.iter());
        state
    }
}

#[test]
fn every_change_of_a_field_breaks_every_mac() {
    let changes: [fn(&mut KeyringState, &mut KeyRecord); 13] = [
        |s, _| s.generation += 1,
        |s, _| s.updated.0 += 1,
        |s, _| s.keyring_id = "0".repeat(32),
        |s, _| s.kind = KeyringKind::Text,
        |s, _| {
            s.keys.pop_last();
        },
        |_, r| r.label = Some(String::new()),
        |_, r| r.source = Some(String::new()),
        |_, r| r.state = KeyState::DecryptOnly,
        |_, r| r.created = None,
        |_, r| r.promoted = Some(Timestamp(1)),
        |_, r| r.demoted = Some(Timestamp(0)),
        |_, r| r.disabled = Some(Timestamp(0)),
        |_, r| r.destroyed = Some(Timestamp(0)),
    ];
    let (old, new) = (&KEYS[0], &KEYS[1]);
    let mut state = KeyringState::first(KeyringKind::Kek, old.kid()).unwrap().with(new.kid(), None, None).unwrap();
    state.sign([old, new]);
    for (number, change) in changes.into_iter().enumerate() {
        let mut changed = state.clone();
        let mut record = changed.keys[&old.kid()].clone();
        change(&mut changed, &mut record);
        if let Some(place) = changed.keys.get_mut(&old.kid()) {
            *place = record;
        }
        assert_ne!(changed, state, "change {number} does something");
        assert!(!signed_by(&changed, old) && !signed_by(&changed, new), "change {number}");
    }
    assert!(signed_by(&state, old) && signed_by(&state, new));
}

/// tests/vectors/keyring/state_file.json was computed by another implementation.
#[test]
fn canonical_bytes_and_macs_are_the_known_ones() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/keyring/state_file.json");
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = file["tests"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let text = case["toml"].as_str().unwrap();
        let state = KeyringState::parse(text, self::path()).unwrap();
        assert_eq!(hex::encode(&state.canonical()), case["canonical"]);
        let keys = case["keys"].as_object().unwrap();
        assert!(!keys.is_empty());
        for (kid, key) in keys {
            let key = MasterKey::parse(key.as_str().unwrap().as_bytes()).unwrap();
            assert_eq!(key.kid().as_str(), kid);
            assert!(signed_by(&state, &key));
        }
    }
}

#[test]
fn errors_tell_the_line_and_never_what_stands_there() {
    let mut good =
        KeyringState::first(KeyringKind::Kek, KEYS[0].kid()).unwrap().with(KEYS[1].kid(), None, None).unwrap();
    good.sign([&KEYS[0]]);
    let good = good.render();
    let (first, second) = (KEYS[0].kid().min(KEYS[1].kid()), KEYS[0].kid().max(KEYS[1].kid()));
    let canary = "hunter2-Correct-Horse";
    let cases = [
        ("format = \"vault-keyring/1\"", format!("format = \"{canary}\""), 1),
        ("keyring_id = \"", format!("keyring_id = \"{canary}"), 2),
        ("kind = \"kek\"", format!("kind = \"{canary}\""), 3),
        ("kind = \"kek\"", "kind = \"text\"".to_owned(), 8),
        ("generation = 1", format!("generation = \"{canary}\""), 4),
        ("generation = 1", "generation = -1".to_owned(), 4),
        ("generation = 1", format!("generation = 1\n{canary} = 1"), 5),
        ("generation = 1", format!("generation = 1\n\"{canary} `kid`\" = 1"), 5),
        ("generation = 1", format!("generation = 1\n{canary}"), 5),
        ("state = \"active\"", format!("state = \"{canary}\""), 0),
        ("state = \"active\"", "state = \"primary\"".to_owned(), 0),
        ("state = \"active\"", format!("state = \"active\"\nsecret = \"{canary}\""), 0),
        ("state = \"active\"", format!("state = \"active\"\ndisabled = \"{canary}\""), 0),
        ("state = \"active\"", "state = \"active\"\ndisabled = 2026-02-03T10:11:12+01:00".to_owned(), 0),
        ("state = \"active\"", "state = \"active\"\ndisabled = 2026-02-03".to_owned(), 0),
        (second.as_str(), first.as_str().to_owned(), 0),
        ("[mac]", format!("[mac]\n{canary} = \"\""), 0),
        ("[mac]", format!("[mac]\n{second} = \"{canary}\""), 0),
    ];
    KeyringState::parse(&good, path()).unwrap();
    for (from, to, line) in cases {
        let bad = good.replacen(from, &to, 1);
        assert_ne!(bad, good, "{from}");
        match KeyringState::parse(&bad, path()) {
            Err(error @ Error::Config { place: Place { at: Some((at, _)), .. }, .. }) => {
                assert!(line == 0 || at == line, "{to}: {error}");
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{to}: {error}");
            }
            other => panic!("{to}: {other:?}"),
        }
    }
}

#[test]
fn sizes_are_limited() {
    let entry =
        |at: usize| format!("[[key]]\nkid = \"k{at:0>16}\"\nstate = \"active\"\n").replace(['0', '1', '8', '9'], "a");
    let many: String = (0..=MAX_KEYS).map(entry).collect();
    let head = format!(
        "format = \"{FORMAT}\"\nkeyring_id = \"{}\"\nkind = \"kek\"\ngeneration = 1\nupdated = 1970-01-01T00:00:00Z\n",
        "0".repeat(32)
    );
    assert!(matches!(
        KeyringState::parse(&format!("{head}{many}"), path()),
        Err(Error::TooLarge { limit: MAX_KEYS, .. })
    ));
    let long = format!("{head}# {}\n", "x".repeat(text::MAX_FILE));
    assert!(matches!(KeyringState::parse(&long, path()), Err(Error::TooLarge { limit: text::MAX_FILE, .. })));
    assert!(matches!(KeyringState::parse(&head, path()), Err(Error::Config { .. })));
}

fn followed(state: &KeyringState, kid: KeyId) -> Followed {
    let id = (state.generation > 0).then_some(state.keyring_id.as_str());
    Followed::new(id, state.generation, Some(kid))
}

/// A proof holds for the keyring, the states and the key that the processes were asked about.
#[test]
fn the_proof_that_processes_follow_is_of_one_key_and_one_generation() {
    let (primary, next) = (KEYS[0].kid(), KEYS[1].kid());
    let state = KeyringState::first(KeyringKind::Kek, primary).unwrap().with(next, None, None).unwrap();
    let promote =
        |id: &str, generation, opens| state.after(&Change::Promote(next, Followed::new(Some(id), generation, opens)));
    let (id, generation) = (state.keyring_id.as_str(), state.generation);
    assert!(matches!(promote(&"0".repeat(32), generation, Some(next)), Err(Error::Refused { .. })));
    assert!(matches!(promote(id, generation, Some(primary)), Err(Error::Refused { .. })));
    assert!(matches!(promote(id, generation, None), Err(Error::Refused { .. })));
    assert!(matches!(promote(id, generation - 1, Some(next)), Err(Error::Temporary { .. })));
    promote(id, generation, Some(next)).unwrap();
}

#[test]
fn no_move_but_the_allowed_ones_exists() {
    use KeyState::{Active, DecryptOnly, Destroyed, Disabled, Primary};

    let (subject, other) = (KEYS[0].kid(), KEYS[1].kid());
    for from in KeyState::ALL {
        let mut state = KeyringState::first(KeyringKind::Kek, other).unwrap();
        state.keys.insert(subject, KeyRecord::new(from));
        if from == Primary {
            state.keys.get_mut(&other).unwrap().state = DecryptOnly;
        }
        let proof = || Retired::new(subject, state.keyring_id.clone(), state.generation);
        for (change, to) in [
            (Change::Promote(subject, followed(&state, subject)), Primary),
            (Change::Disable(proof(), followed(&state, subject)), Disabled),
            (Change::Enable(subject), DecryptOnly),
            (Change::Destroy(proof()), Destroyed),
        ] {
            let allowed =
                matches!((from, to), (Active | DecryptOnly, Primary | Disabled) | (Disabled, DecryptOnly | Destroyed));
            match state.after(&change) {
                Ok(next) => {
                    assert!(allowed, "{from} became {to}");
                    assert_eq!(next.keys[&subject].state, to);
                    assert_eq!(next.keys[&other].state, if to == Primary { DecryptOnly } else { Primary });
                }
                Err(Error::Refused { remedy, .. }) => assert!(!allowed && !remedy.is_empty(), "{from} to {to}"),
                Err(error) => panic!("{from} to {to}: {error}"),
            }
        }
    }
}

#[test]
fn the_proof_is_of_one_keyring_and_one_generation() {
    let (primary, old) = (KEYS[0].kid(), KEYS[1].kid());
    let state = KeyringState::first(KeyringKind::Kek, primary).unwrap().with(old, None, None).unwrap();
    let disable = |keyring_id: &str, generation| {
        state.after(&Change::Disable(Retired::new(old, keyring_id.to_owned(), generation), followed(&state, old)))
    };
    assert!(matches!(disable(&"0".repeat(32), state.generation), Err(Error::Refused { .. })));
    assert!(matches!(disable(&state.keyring_id, state.generation - 1), Err(Error::Temporary { .. })));
    let state = disable(&state.keyring_id, state.generation).unwrap();
    let destroy = |keyring_id: &str, generation| {
        state.after(&Change::Destroy(Retired::new(old, keyring_id.to_owned(), generation)))
    };
    assert!(matches!(destroy(&"0".repeat(32), state.generation), Err(Error::Refused { .. })));
    assert!(matches!(destroy(&state.keyring_id, state.generation - 1), Err(Error::Temporary { .. })));
    destroy(&state.keyring_id, state.generation).unwrap();
}

proptest! {
    #[test]
    fn what_is_written_reads_back(state in state()) {
        let read = KeyringState::parse(&state.render(), path()).unwrap();
        prop_assert_eq!(&read, &state);
        prop_assert!(KEYS.iter().all(|key| signed_by(&read, key)));
    }

    /// A changed character is an error, breaks every MAC of a listed key, or means nothing.
    #[test]
    fn no_changed_character_passes(state in state(), at in any::<proptest::sample::Index>(), new in "[ -~]") {
        let mut text: Vec<char> = state.render().split_once("\n[mac]").unwrap().0.chars().collect();
        let at = at.index(text.len());
        text[at] = new.chars().next().unwrap();
        let macs = state.render().split_once("\n[mac]").unwrap().1.to_owned();
        let text = format!("{}\n[mac]{macs}", text.into_iter().collect::<String>());
        if let Ok(read) = KeyringState::parse(&text, path()) {
            prop_assert!(read == state || KEYS.iter().all(|key| !signed_by(&read, key)));
        }
    }

    /// Whatever is asked, one key stays primary, and no tombstone goes.
    #[test]
    fn no_change_leaves_none_or_two_primary_keys(moves in proptest::collection::vec((0_usize..4, 0_u8..5), 0..40)) {
        let mut state = KeyringState::first(KeyringKind::Kek, KEYS[0].kid()).unwrap();
        for (key, action) in moves {
            let kid = KEYS[key].kid();
            let proof = Retired::new(kid, state.keyring_id.clone(), state.generation);
            let next = match action {
                0 => state.with(kid, None, None),
                1 => state.after(&Change::Promote(kid, followed(&state, kid))),
                2 => state.after(&Change::Disable(proof, followed(&state, kid))),
                3 => state.after(&Change::Enable(kid)),
                _ => state.after(&Change::Destroy(proof)),
            };
            let Ok(next) = next else { continue };
            prop_assert_eq!(next.generation, state.generation + 1);
            for (kid, before) in &state.keys {
                let gone = before.state == KeyState::Destroyed;
                prop_assert!(next.keys.contains_key(kid));
                prop_assert!(!gone || next.keys[kid] == *before);
            }
            let primaries = next.keys.values().filter(|record| record.state == KeyState::Primary).count();
            prop_assert_eq!(primaries, 1);
            state = next;
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,400}") {
        let _ = KeyringState::parse(&text, path());
    }
}
