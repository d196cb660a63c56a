//! What a state file must carry to be believed, whoever wrote it, and the life of a key to its end.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use vault_core::{Error, Found, KeyState, Keyring, KeyringState, MasterKey};

const PRIMARY: &str = "primary";
const DECRYPT_ONLY: &str = "decrypt-only";

/// A state file as anybody can write one, who need not be this library.
#[derive(Clone)]
struct Forge {
    generation: u64,
    keys: Vec<(String, &'static str)>,
    macs: Vec<(String, String)>,
}

impl Forge {
    fn new(generation: u64, keys: &[(&MasterKey, &'static str)]) -> Self {
        let mut keys: Vec<_> = keys.iter().map(|(key, state)| (key.kid().to_string(), *state)).collect();
        keys.sort();
        Self { generation, keys, macs: Vec::new() }
    }

    /// docs/FORMAT.md, "Keyring".
    fn canonical(&self) -> Vec<u8> {
        fn field(out: &mut Vec<u8>, bytes: &[u8]) {
            out.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
            out.extend_from_slice(bytes);
        }
        let absent = [0xff; 4];
        let mut out = b"vault-core/keyring/v1\0".to_vec();
        for text in ["vault-keyring/1", ID, "kek"] {
            field(&mut out, text.as_bytes());
        }
        field(&mut out, &self.generation.to_be_bytes());
        field(&mut out, &0_u64.to_be_bytes());
        out.extend_from_slice(&u32::try_from(self.keys.len()).unwrap().to_be_bytes());
        for (kid, state) in &self.keys {
            field(&mut out, kid.as_bytes());
            out.extend_from_slice(&absent);
            field(&mut out, state.as_bytes());
            // No source and none of five times.
            out.extend_from_slice(&absent.repeat(6));
        }
        out
    }

    fn signed_by(mut self, keys: &[&MasterKey]) -> Self {
        for key in keys {
            let kid = key.kid().to_string();
            let mut bytes = [0; 32];
            let text = key.text().expose_secret();
            assert_eq!(URL_SAFE_NO_PAD.decode_slice(text.strip_suffix(b"=").unwrap(), &mut bytes), Ok(32));
            let mut mac_key = [0; 32];
            Hkdf::<Sha256>::new(Some(b"vault-core/kek/v1"), &bytes)
                .expand_multi_info(&[b"vault-core/keyring-mac/v1\0", kid.as_bytes()], &mut mac_key)
                .unwrap();
            let mac = Hmac::<Sha256>::new_from_slice(&mac_key).unwrap().chain_update(self.canonical()).finalize();
            self.macs.push((kid, URL_SAFE_NO_PAD.encode(mac.into_bytes())));
        }
        self
    }

    fn mac_of(mut self, key: &MasterKey, other: &Self) -> Self {
        let kid = key.kid().to_string();
        self.macs.extend(other.macs.iter().filter(|(of, _)| *of == kid).cloned());
        self
    }

    fn text(&self) -> String {
        let mut out = format!(
            "format = \"vault-keyring/1\"\nkeyring_id = \"{ID}\"\nkind = \"kek\"\ngeneration = {}\nupdated = 1970-01-01T00:00:00Z\n",
            self.generation
        );
        for (kid, state) in &self.keys {
            out += &format!("[[key]]\nkid = \"{kid}\"\nstate = \"{state}\"\n");
        }
        out += "[mac]\n";
        for (kid, mac) in &self.macs {
            out += &format!("{kid} = \"{mac}\"\n");
        }
        out
    }

    fn state(&self) -> KeyringState {
        KeyringState::parse(&self.text(), Path::new("state.toml")).unwrap()
    }

    fn load(&self, found: &[&MasterKey]) -> Result<Keyring<MasterKey>, Error> {
        Keyring::load(mounted(found), Some(self.state()), 0)
    }
}

fn mounted(keys: &[&MasterKey]) -> Vec<Found<MasterKey>> {
    let again = |key: &MasterKey| MasterKey::parse_for_opening(key.text().expose_secret()).unwrap();
    keys.iter().map(|key| Found { key: again(key), place: format!("/run/secrets/{}", key.kid()) }).collect()
}

fn key() -> MasterKey {
    MasterKey::generate().unwrap()
}

/// What is wrong and what to do about it.
fn refused<T: core::fmt::Debug>(result: Result<T, Error>) -> (String, String) {
    match result {
        Err(Error::Refused { reason, remedy }) => (reason, remedy),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_weak_key_opens_and_never_seals() {
    let weak = MasterKey::parse_for_opening(&b"42".repeat(32)).unwrap();
    let kid = weak.kid();
    let keyring = Keyring::single(weak);
    assert_eq!(keyring.opening(kid).unwrap().kid(), kid);
    assert!(matches!(keyring.primary(), Err(Error::CannotSeal { .. })));
    assert_eq!(keyring.findings().len(), 1);
}

#[test]
fn every_state_says_whether_its_key_opens_and_may_be_absent() {
    let (primary, subject) = (key(), key());
    let kid = subject.kid();
    type Opens = fn(Result<&std::sync::Arc<MasterKey>, Error>) -> bool;
    let cases: [(&str, Opens, Opens, usize); 3] = [
        ("active", |r| r.is_ok(), |r| matches!(r, Err(Error::KeyUnavailable { .. })), 1),
        (
            "disabled",
            |r| matches!(r, Err(Error::KeyDisabled { .. })),
            |r| matches!(r, Err(Error::KeyDisabled { .. })),
            0,
        ),
        (DECRYPT_ONLY, |r| r.is_ok(), |_| false, 0),
    ];
    for (state, present, absent, findings) in cases {
        let forge = Forge::new(1, &[(&primary, PRIMARY), (&subject, state)]).signed_by(&[&primary, &subject]);
        let keyring = forge.load(&[&primary, &subject]).unwrap();
        assert!(present(keyring.opening(kid)), "{state}");
        assert!(keyring.findings().is_empty());
        let view = keyring.keys().find(|key| key.kid == kid).unwrap();
        assert_eq!((view.state.as_str(), view.state), (state, state.parse::<KeyState>().unwrap()));
        match forge.load(&[&primary]) {
            Ok(keyring) => {
                assert!(absent(keyring.opening(kid)), "{state}");
                assert_eq!(keyring.findings().len(), findings, "{state}");
            }
            Err(Error::KeyUnavailable { kid: missing }) => assert!(missing == kid && state == DECRYPT_ONLY),
            Err(other) => panic!("{state}: {other}"),
        }
        assert!(matches!(forge.load(&[&subject]), Err(Error::KeyUnavailable { kid }) if kid == primary.kid()));
    }
    let tombstone = Forge::new(1, &[(&primary, PRIMARY), (&subject, "destroyed")]).signed_by(&[&primary, &subject]);
    let keyring = tombstone.load(&[&primary]).unwrap();
    assert!(matches!(keyring.opening(kid), Err(Error::KeyDestroyed { .. })) && keyring.findings().is_empty());
    assert_eq!(refused(tombstone.load(&[&primary, &subject])).1, "unmount it");
}

/// Whoever holds an old key and can write the state file gains nothing.
#[test]
fn a_leaked_key_cannot_rewrite_the_keyring() {
    for leaked_is in [DECRYPT_ONLY, "disabled", "active"] {
        let (new, leaked, own) = (key(), key(), key());
        let found = [&new, &leaked];
        let genuine = Forge::new(7, &[(&new, PRIMARY), (&leaked, leaked_is)]).signed_by(&[&new, &leaked]);
        assert_eq!(genuine.load(&found).unwrap().primary_kid(), new.kid());

        let forged = [
            ("the new key is not listed", Forge::new(8, &[(&leaked, PRIMARY)]).signed_by(&[&leaked])),
            (
                "the leaked key is primary",
                Forge::new(8, &[(&new, DECRYPT_ONLY), (&leaked, PRIMARY)]).signed_by(&[&leaked]),
            ),
            (
                "and the new key's MAC is the old one",
                Forge::new(7, &[(&new, DECRYPT_ONLY), (&leaked, PRIMARY)]).signed_by(&[&leaked]).mac_of(&new, &genuine),
            ),
            (
                "and so is the leaked key's",
                Forge::new(7, &[(&new, DECRYPT_ONLY), (&leaked, PRIMARY)])
                    .mac_of(&leaked, &genuine)
                    .mac_of(&new, &genuine),
            ),
            ("the new key is disabled", Forge::new(8, &[(&new, "disabled"), (&leaked, PRIMARY)]).signed_by(&[&leaked])),
            (
                "the new key is destroyed",
                Forge::new(8, &[(&new, "destroyed"), (&leaked, PRIMARY)]).signed_by(&[&leaked]),
            ),
            (
                "a third key is added",
                Forge::new(8, &[(&new, DECRYPT_ONLY), (&leaked, DECRYPT_ONLY), (&own, PRIMARY)])
                    .signed_by(&[&leaked, &own]),
            ),
            ("there are no MACs", Forge { macs: Vec::new(), ..genuine.clone() }),
            ("the generation is another", Forge { generation: 9, ..genuine.clone() }),
        ];
        for (what, forged) in forged {
            refused(forged.load(&found).map_err(|error| {
                assert!(matches!(error, Error::Refused { .. }), "{leaked_is}, {what}: {error}");
                error
            }));
        }
        // Taken away altogether, it leaves two keys that no file explains.
        refused(Keyring::load(mounted(&found), None, 0));
    }
}

#[test]
fn a_key_that_is_not_listed_is_not_loaded() {
    let (primary, stranger) = (key(), key());
    let forge = Forge::new(1, &[(&primary, PRIMARY)]).signed_by(&[&primary]);
    let (reason, remedy) = refused(forge.load(&[&primary, &stranger]));
    assert!(reason.contains(stranger.kid().as_str()) && reason.contains("/run/secrets/"), "{reason}");
    assert!(remedy.contains("vault key add"));
}

#[test]
fn exactly_one_listed_key_is_primary() {
    let (one, two) = (key(), key());
    for states in [[PRIMARY, PRIMARY], ["active", DECRYPT_ONLY]] {
        let text = Forge::new(1, &[(&one, states[0]), (&two, states[1])]).text();
        assert!(matches!(KeyringState::parse(&text, Path::new("state.toml")), Err(Error::Config { .. })));
    }
}

#[test]
fn debugging_shows_no_key() {
    let (primary, old) = (key(), key());
    let forge = Forge::new(1, &[(&primary, PRIMARY), (&old, DECRYPT_ONLY)]).signed_by(&[&primary, &old]);
    let keyring = forge.load(&[&primary, &old]).unwrap();
    let views: Vec<_> = keyring.keys().collect();
    let shown = format!("{keyring:?} {views:?} {:?} {:?}", mounted(&[&old]), keyring.state());
    for key in [&primary, &old] {
        let text = core::str::from_utf8(key.text().expose_secret()).unwrap();
        assert!(shown.contains(key.kid().as_str()) && !shown.contains(text.trim_end_matches('=')));
    }
}

const ID: &str = "0f6c1c1e0a7b4f1f9a3e5d2c7b8a9012";

/// The same through a `vault.toml`.
mod vault {
    use std::fs;
    use std::path::PathBuf;

    use tempfile::TempDir;
    use vault_core::legacy::{LegacyKey, seal};
    use vault_core::{Access, Change, Config, Context, Error, Format, KeyId, MasterKey, Scope, TextKey, Trim, Vault};

    use super::{key, refused};

    /// A directory with a `vault.toml`, and keys in `keys/kek_*`.
    struct Place(TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            fs::create_dir(place.path("keys")).unwrap();
            place.declare("");
            place
        }

        fn declare(&self, more: &str) {
            let text = "version = 1\n\n[vault]\napp = \"test\"\n\n[keyring.main]\nsources = [\"file:keys/kek_*\"]\nstate = \"main.keyring.toml\"\n";
            fs::write(self.path("vault.toml"), format!("{text}{more}")).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn config(&self) -> Config {
            Config::with_profile(self.path("vault.toml"), None).unwrap()
        }

        fn load(&self) -> Result<Vault, Error> {
            Vault::load(self.config())
        }

        fn add(&self, key: &MasterKey, name: &str) -> Result<KeyId, Error> {
            let file = self.path(name);
            fs::write(&file, key.text().expose_secret()).unwrap();
            Vault::key_add(&self.config(), "main", &file, None, None)
        }
    }

    #[test]
    fn a_rotation_of_keys_from_the_first_to_the_tombstone() {
        let place = Place::new();
        let (old, new) = (key(), key());
        assert!(matches!(place.load(), Err(Error::KeyMissing { .. })));
        place.add(&old, "kek_old").unwrap();
        assert!(!place.path("main.keyring.toml").exists());
        let context = Context::new("user-secret").tenant("42");
        let token = place.load().unwrap().seal(&context, b"before").unwrap();

        place.add(&new, "kek_new").unwrap();
        let vault = place.load().unwrap();
        assert_eq!(vault.keyring("main").unwrap().primary_kid(), old.kid());
        crate::promote(&vault, "main", new.kid(), None).unwrap();

        let vault = place.load().unwrap();
        assert_eq!(vault.open(&context, &token).unwrap().expose_secret(), b"before");
        assert!(vault.seal(&context, b"after").unwrap().to_string().starts_with(&format!("vs1.{}.", new.kid())));

        let all = vault.rotation(Scope::UsesKeyring("main"), Access::Read).unwrap().verified().unwrap();
        let retired = all.retired(old.kid()).unwrap();
        crate::disable(&vault, "main", retired).unwrap();
        let vault = place.load().unwrap();
        assert!(matches!(vault.open(&context, &token), Err(Error::KeyDisabled { .. })));

        let destroy = || {
            let vault = place.load().unwrap();
            let all = vault.rotation(Scope::UsesKeyring("main"), Access::Read).unwrap().verified().unwrap();
            vault.key_change("main", &Change::Destroy(all.retired(old.kid()).unwrap()), None)
        };
        refused(destroy());
        fs::remove_file(place.path("keys/kek_old")).unwrap();
        destroy().unwrap();
        destroy().unwrap();
        assert!(matches!(place.load().unwrap().open(&context, &token), Err(Error::KeyDestroyed { at: Some(_), .. })));
        let keyring = place.load().unwrap();
        let keyring = keyring.keyring("main").unwrap();
        assert_eq!((keyring.generation(), keyring.keys().len()), (4, 2));
    }

    /// Values that a column only reads under a keyring need its keys as well.
    #[test]
    fn a_proof_is_of_every_column_that_uses_the_keyring() {
        let place = Place::new();
        place.add(&key(), "kek_1").unwrap();
        let (old, new) = (key(), key());
        let (old, new) = (old.text().expose_secret(), new.text().expose_secret());
        let kid = |text: &[u8]| TextKey::parse(text, Trim::Python).unwrap().kid();
        let connection = rusqlite::Connection::open(place.path("app.db")).unwrap();
        connection.execute_batch("CREATE TABLE secrets (id INTEGER PRIMARY KEY, v TEXT)").unwrap();
        let legacy = LegacyKey::new(TextKey::parse(old, Trim::Python).unwrap());
        let value = seal(Format::FlowfileV1, &legacy, Some("4"), b"not migrated").unwrap();
        connection.execute("INSERT INTO secrets VALUES (1, ?1)", [value]).unwrap();
        place.declare(
            "[keyring.text]\nkind = \"text\"\nsources = [\"file:keys/text_*\"]\nstate = \"text.keyring.toml\"\n\
             [[column]]\nname = \"c\"\ndatabase = \"sqlite:app.db\"\ntable = \"secrets\"\nrow = [\"id\"]\nvalue = \"v\"\n\
             reads = [\"vs1\", \"flowfile-v1\"]\nwrites = \"vs1\"\nkeyring = \"main\"\nreads_keyring = \"text\"\nlinked = true\n\
             context = { purpose = \"user-secret\" }\n",
        );
        for (name, text) in [("text_1", old), ("text_2", new)] {
            fs::write(place.path(name), text).unwrap();
            Vault::key_add(&place.config(), "text", &place.path(name), None, None).unwrap();
        }
        crate::promote(&place.load().unwrap(), "text", kid(new), None).unwrap();

        let vault = place.load().unwrap();
        for scope in [Scope::All, Scope::Column("c"), Scope::Keyring("text"), Scope::UsesKeyring("text")] {
            let verification = vault.rotation(scope, Access::Read).unwrap().verified().unwrap();
            let reason = refused(verification.retired(kid(old))).0;
            let counted = !matches!(scope, Scope::Keyring(_));
            assert_eq!(reason.contains("holds 1 values"), counted, "{scope:?}: {reason}");
        }
        connection.execute("DELETE FROM secrets", []).unwrap();
        let retired = |scope| vault.rotation(scope, Access::Read).unwrap().verified().unwrap().retired(kid(old));
        for scope in [Scope::All, Scope::Column("c"), Scope::Keyring("text")] {
            refused(retired(scope));
        }
        crate::disable(&vault, "text", retired(Scope::UsesKeyring("text")).unwrap()).unwrap();
    }

    #[test]
    fn a_proof_does_not_outlive_a_change() {
        let place = Place::new();
        let (old, new, third) = (key(), key(), key());
        place.add(&old, "kek_old").unwrap();
        place.add(&new, "kek_new").unwrap();
        let vault = place.load().unwrap();
        let retired = vault
            .rotation(Scope::UsesKeyring("main"), Access::Read)
            .unwrap()
            .verified()
            .unwrap()
            .retired(new.kid())
            .unwrap();
        place.add(&third, "kek_third").unwrap();
        assert!(matches!(crate::disable(&vault, "main", retired), Err(Error::Temporary { .. })));
    }

    #[test]
    fn what_a_state_file_holds_by_mistake_is_in_no_error() {
        let place = Place::new();
        let secret = key();
        place.add(&secret, "kek_old").unwrap();
        let text = core::str::from_utf8(secret.text().expose_secret()).unwrap();
        for content in [
            text.to_owned(),
            format!("format = \"{text}\""),
            format!("\"{text}\" = 1"),
            format!("key = \"{text}\""),
            format!("format = {text}"),
        ] {
            fs::write(place.path("main.keyring.toml"), content).unwrap();
            let error = place.load().unwrap_err();
            let shown = format!("{error} {error:?} {:?}", error.hint());
            assert!(matches!(error, Error::Config { .. }) && !shown.contains(text.trim_end_matches('=')), "{shown}");
        }
    }
}
