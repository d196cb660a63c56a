//! A vault with a store: secrets by name, versions, and rotation.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::ops::ControlFlow;

use vault_core::rotate::{End, Job, RunOptions};
use vault_core::{
    Access, Config, Error, KeyId, Keyring, MasterKey, Preset, Scope, SecretBytes, SecretName, Shadowed, Source,
    SqliteStore, Store, Vault, Version,
};

use super::{Home, KINDS, Kind, name, of};

fn set(vault: &Vault, what: &str, value: &str) -> u64 {
    vault.set(&[(name(what), SecretBytes::copy_of(value.as_bytes()))], None).unwrap()[0]
}

fn get(vault: &Vault, what: &str) -> String {
    String::from_utf8(vault.secret(what).unwrap().value.expose_secret().to_vec()).unwrap()
}

fn add_key(home: &Home, file: &str) -> KeyId {
    home.new_key(&format!("new_{file}"));
    Vault::key_add(&home.config(), "main", &home.path(&format!("new_{file}")), Some(file), None).unwrap()
}

fn promote(home: &Home, kid: KeyId) {
    crate::promote(&home.vault(), "main", kid, None).unwrap();
}

fn rotate(vault: &Vault) -> Vec<vault_core::rotate::Summary> {
    let mut rotation = vault.rotation(Scope::Keyring("main"), Access::Write).unwrap();
    let done = rotation.run(&Job::Rotate, &RunOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(rotation.verify().unwrap().is_clean());
    done
}

#[test]
fn secrets_are_set_got_versioned_and_rolled_back() {
    for kind in KINDS {
        let home = Home::new(kind);
        let vault = home.vault();
        assert_eq!(set(&vault, "DB_PASSWORD", "one"), 1);
        assert_eq!(set(&vault, "DB_PASSWORD", "two\n"), 2);
        assert_eq!(get(&vault, "DB_PASSWORD"), "two\n");
        assert_eq!(get(&vault, "DB_PASSWORD@previous"), "one");
        assert_eq!(get(&vault, "DB_PASSWORD@1"), "one");
        assert!(matches!(vault.secret("DB_PASSWORD@3"), Err(Error::NotFound { .. })));
        assert!(matches!(vault.secret("NOTHING"), Err(Error::NotFound { .. })));
        assert_eq!(vault.roll_back(&name("DB_PASSWORD"), Version::Previous).unwrap(), 3);
        assert_eq!((get(&vault, "DB_PASSWORD"), get(&vault, "DB_PASSWORD@2")), ("one".to_owned(), "two\n".to_owned()));
        match vault.secret("DB_PASSWORD").unwrap().source {
            Source::Store { version: 3, location } => assert!(location.contains("store")),
            other => panic!("{other:?}"),
        }
        vault.set(&[(of("7", "TOKEN"), SecretBytes::copy_of(b"t"))], Some("oauth")).unwrap();
        assert_eq!(vault.stored(&of("7", "TOKEN"), Version::Current).unwrap().value.expose_secret(), b"t");
        assert!(matches!(vault.secret("TOKEN"), Err(Error::NotFound { .. })));
    }
}

#[test]
fn files_win_over_the_store_and_the_store_over_the_environment() {
    let home = Home::new(Kind::File);
    fs::create_dir(home.path("run")).unwrap();
    let resolving = |variables: &[(&str, &str)]| {
        let variables: BTreeMap<_, _> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        home.vault().with_environment(variables, home.path("run"))
    };
    let vault = resolving(&[("A", "from the environment")]);
    assert_eq!(get(&vault, "A"), "from the environment");
    set(&vault, "A", "from the store");
    assert_eq!(get(&vault, "A"), "from the store");
    fs::write(home.path("run/a"), "from the mount\n").unwrap();
    assert_eq!(get(&vault, "A"), "from the mount");
    assert!(matches!(vault.secret("A@previous"), Err(Error::NotFound { .. })));
    let sources = vault.sources(&SecretName::parse("A").unwrap()).unwrap();
    assert!(
        matches!(sources.as_slice(), [Source::Mount(_), Source::Store { version: 1, .. }, Source::Variable(_)]),
        "{sources:?}"
    );
}

/// What is shadowed and cannot be read is told; what wins and cannot be read is an error.
#[test]
fn an_explanation_survives_what_it_does_not_need() {
    let home = Home::new(Kind::File);
    fs::create_dir(home.path("run")).unwrap();
    set(&home.vault(), "A", "from the store");
    fs::write(home.path("named"), "").unwrap();
    fs::create_dir(home.path("run/a")).unwrap();
    let named = home.path("named").display().to_string();
    let variables = BTreeMap::from([("A_FILE".to_owned(), OsString::from(&named))]);
    let vault = home.vault().with_environment(variables, home.path("run"));
    assert!(vault.explain(&SecretName::parse("A").unwrap()).is_err(), "an empty file wins and is refused");
    fs::write(&named, "x\n").unwrap();
    let told = vault.explain(&SecretName::parse("A").unwrap()).unwrap();
    assert_eq!(told.source.path().unwrap().display().to_string(), named);
    match told.shadowed.as_slice() {
        [Shadowed::Unreadable(reason), Shadowed::Has(Source::Store { version: 1, .. })] => {
            assert!(reason.contains("run/a: it is a directory"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(vault.sources(&SecretName::parse("A").unwrap()).unwrap().len(), 2);

    // Raqeem's own rule never asks mounts, and says so.
    let told = vault.with_preset(Preset::Raqeem).explain(&SecretName::parse("A").unwrap()).unwrap();
    assert_eq!((told.preset, told.shadowed.len()), (Preset::Raqeem, 2));
}

/// Keys, and what they are composed of, are needed before there is a store.
#[test]
fn what_opens_the_store_is_never_in_it() {
    let home = Home::new(Kind::File);
    set(&home.vault(), "OTHER_KEY", "from the store");
    set(&home.vault(), "PART", "from the store");
    let config = fs::read_to_string(home.path("vault.toml")).unwrap();
    let more = "[keyring.other]\nkind = \"text\"\nsources = [\"secret:OTHER_KEY\", \"secret:WHOLE\"]\n\
                [secrets.WHOLE]\ncomposed = \"{PART}\"\n[secrets.OPTIONAL]\nrequired = false\n";
    fs::write(home.path("vault.toml"), format!("{config}{more}")).unwrap();
    let error = Vault::load(Config::from_file(home.path("vault.toml")).unwrap()).unwrap_err();
    assert!(error.to_string().contains("secret PART") && error.to_string().contains("part of secret WHOLE"), "{error}");

    fs::write(home.path("vault.toml"), format!("{config}{}", more.replace(", \"secret:WHOLE\"", ", \"file:other\"")))
        .unwrap();
    fs::write(home.path("other"), "a key text of some length, not public").unwrap();
    let vault = home.vault();
    assert!(matches!(vault.secret("OTHER_KEY"), Err(Error::NotFound { .. })), "as if the store did not have it");
    assert_eq!(get(&vault, "WHOLE"), "from the store");
    assert!(vault.optional_secret("OPTIONAL").unwrap().is_none());
    assert!(matches!(vault.optional_secret("NOTHING"), Err(Error::NotFound { .. })));
    assert_eq!(vault.optional_secret("PART").unwrap().unwrap().value.expose_secret(), b"from the store");
}

/// The log of what was written last would stay in the container that wrote it.
#[test]
fn a_database_that_is_a_mount_of_its_own_is_refused() {
    let store = SqliteStore::new("/proc", Keyring::single(MasterKey::generate().unwrap()));
    match store.names() {
        Err(Error::Refused { remedy, .. }) => assert_eq!(remedy, "mount its directory"),
        other => panic!("{other:?}"),
    }
}

/// A store that cannot be reached is no reason to look further, unless that was declared.
#[test]
fn a_store_that_is_gone_is_an_error() {
    for kind in KINDS {
        let home = Home::new(kind);
        set(&home.vault(), "A", "from the store");
        if kind == Kind::Postgres {
            super::database(&home.path("store")).execute("ALTER SCHEMA vault_core RENAME TO away");
        } else {
            fs::rename(home.path("store"), home.path("away")).unwrap();
        }
        let variables = || BTreeMap::from([("A".to_owned(), OsString::from("from the environment"))]);
        let vault = home.vault().with_environment(variables(), home.path("run"));
        let error = vault.secret("A").unwrap_err();
        assert!(matches!(error, Error::Database { .. }), "{error}");
        assert_eq!(error.kind().exit_code(), 19);
        let config = fs::read_to_string(home.path("vault.toml")).unwrap();
        fs::write(home.path("vault.toml"), format!("{config}[secrets.A]\nsource = \"env\"\n")).unwrap();
        let vault = home.vault().with_environment(variables(), home.path("run"));
        assert_eq!(get(&vault, "A"), "from the environment");
    }
}

#[test]
fn keys_never_come_from_the_store() {
    let home = Home::new(Kind::File);
    let key = fs::read(home.path("kek_1")).unwrap();
    home.vault().set(&[(name("KEK"), SecretBytes::copy_of(&key))], None).unwrap();
    let config = fs::read_to_string(home.path("vault.toml")).unwrap();
    fs::write(home.path("vault.toml"), config.replace("file:kek_*", "secret:KEK")).unwrap();
    assert!(matches!(Vault::load(home.config()), Err(Error::KeyMissing { .. })));
}

#[test]
fn a_store_is_rotated_like_a_column() {
    for kind in KINDS {
        let home = Home::new(kind);
        let vault = home.vault();
        for number in 0..40 {
            set(&vault, &format!("S{}", number % 30), &format!("value {number}"));
        }
        vault.set(&[(of("7", "TOKEN"), SecretBytes::copy_of(b"t"))], Some("oauth")).unwrap();
        let old = vault.sealer().unwrap().primary().unwrap();
        let new = add_key(&home, "2");
        promote(&home, new);
        let vault = home.vault();
        let counts = vault.rotation(Scope::Column("store"), Access::Read).unwrap().count(false).unwrap();
        assert_eq!((counts[0].column.as_str(), counts[0].under(old), counts[0].stale), ("store", 41, 41));
        let plan =
            vault.rotation(Scope::All, Access::Read).unwrap().plan(&Job::Rotate, &RunOptions::default()).unwrap();
        assert_eq!((plan[0].rewritten, plan[0].end), (41, End::Clean));
        let done = rotate(&vault);
        assert_eq!((done[0].rewritten, done[0].stale, done[0].end), (41, 0, End::Clean));
        assert_eq!(rotate(&vault)[0].rewritten, 0);
        assert_eq!(get(&vault, "S3@previous"), "value 3");

        let proof = vault.rotation(Scope::UsesKeyring("main"), Access::Read).unwrap().verified().unwrap();
        crate::disable(&vault, "main", proof.retired(old).unwrap()).unwrap();
        let vault = home.vault();
        for number in 10..40 {
            assert_eq!(get(&vault, &format!("S{}", number % 30)), format!("value {number}"));
        }
        assert_eq!(vault.stored(&of("7", "TOKEN"), Version::Current).unwrap().value.expose_secret(), b"t");
    }
}

/// Although another process, which does nothing at the moment, keeps the database open.
#[test]
fn what_was_removed_or_replaced_is_in_no_file_of_the_database() {
    let home = Home::new(Kind::Sqlite);
    let vault = home.vault();
    set(&vault, "GOES", "1");
    set(&vault, "MOVES", "1");
    let other = rusqlite::Connection::open(home.path("store")).unwrap();
    other.query_row("SELECT count(*) FROM vault_store_secret", [], |_| Ok(())).unwrap();
    let token = |text: &str| vault.store().unwrap().versions(&name(text)).unwrap()[0].token.to_string();
    let holds = |token: &str| {
        let content = ["store", "store-wal"].map(|file| fs::read(home.path(file)).unwrap_or_default()).concat();
        content.windows(40).any(|window| window == &token.as_bytes()[30..70])
    };
    let (goes, moves) = (token("GOES"), token("MOVES"));
    assert!(holds(&goes) && holds(&moves));
    vault.store().unwrap().remove(&name("GOES"), None).unwrap();
    assert!(!holds(&goes) && holds(&moves));
    promote(&home, add_key(&home, "2"));
    rotate(&home.vault());
    assert!(!holds(&moves));
    drop(other);
}

/// The other gate of retirement: while a token is under the key, there is no proof.
#[test]
fn a_key_that_the_store_needs_is_not_disabled() {
    for kind in KINDS {
        let home = Home::new(kind);
        set(&home.vault(), "A", "1");
        let old = home.vault().sealer().unwrap().primary().unwrap();
        promote(&home, add_key(&home, "2"));
        let vault = home.vault();
        let proof = vault.rotation(Scope::UsesKeyring("main"), Access::Read).unwrap().verified().unwrap();
        match proof.retired(old) {
            Err(Error::Refused { reason, .. }) => assert!(reason.contains("store holds 1 values"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_running_process_notices_a_promotion_when_it_uses_the_store() {
    for kind in KINDS {
        let home = Home::new(kind);
        let running = home.vault();
        set(&running, "A", "1");
        let new = add_key(&home, "2");
        // It has the keyring of before.
        assert_eq!(set(&running, "A", "2"), 2);
        promote(&home, new);
        assert_eq!(get(&running, "A"), "2");
        assert_eq!(set(&running, "A", "3"), 3);
        rotate(&home.vault());
        assert_eq!(get(&running, "A"), "3");
        let entries = home.vault().store().unwrap().versions(&name("A")).unwrap();
        assert!(entries.iter().all(|entry| entry.token.kid() == new));
    }
}

#[test]
fn a_keyring_that_was_rolled_back_is_noticed() {
    for kind in KINDS {
        let home = Home::new(kind);
        set(&home.vault(), "A", "1");
        let state = home.path("main.keyring.toml");
        let new = add_key(&home, "2");
        let before = fs::read(&state).unwrap();
        promote(&home, new);
        rotate(&home.vault());
        fs::write(&state, &before).unwrap();
        for outcome in [home.vault().secret("A").map(drop), home.vault().store().unwrap().names().map(drop)] {
            match outcome {
                Err(Error::Refused { reason, remedy }) => {
                    assert!(
                        reason.contains("generation 2") && remedy.contains("--accept-rollback"),
                        "{reason} {remedy}"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
        // A state file that is gone is the oldest of all.
        fs::remove_file(&state).unwrap();
        fs::rename(home.path("kek_1"), home.path("away")).unwrap();
        assert!(matches!(Vault::load(home.config()), Err(Error::Refused { .. })));
        fs::rename(home.path("away"), home.path("kek_1")).unwrap();
        fs::write(&state, &before).unwrap();
        // The operator means it: the old key is primary again, and opens what it sealed.
        home.vault().settle(true).unwrap();
        assert_eq!(home.vault().store().unwrap().names().unwrap().len(), 1);
        rotate(&home.vault());
        assert_eq!(get(&home.vault(), "A"), "1");
    }
}

/// Restored from a backup that is older than the last rotation, tokens and MAC are under a key
/// that was replaced.
#[test]
fn a_store_file_from_before_a_rotation_is_noticed() {
    let home = Home::new(Kind::File);
    set(&home.vault(), "A", "1");
    let backup = fs::read(home.path("store")).unwrap();
    promote(&home, add_key(&home, "2"));
    rotate(&home.vault());
    promote(&home, add_key(&home, "3"));
    rotate(&home.vault());
    fs::write(home.path("store"), backup).unwrap();
    match home.vault().secret("A") {
        Err(Error::Refused { reason, .. }) => assert!(reason.contains("older file"), "{reason}"),
        other => panic!("{other:?}"),
    }
    home.vault().settle(true).unwrap();
    rotate(&home.vault());
    assert_eq!(get(&home.vault(), "A"), "1");
}

/// Killed between the state file and the store, or with the next state file still on its way to
/// the machines: whoever comes next finds both usable.
#[test]
fn a_promotion_that_did_not_reach_the_store_is_finished_by_the_next_command() {
    for kind in KINDS {
        let home = Home::new(kind);
        set(&home.vault(), "A", "1");
        for (file, next) in [("2", "B"), ("3", "C")] {
            let new = add_key(&home, file);
            let out = home.path("next.toml");
            crate::promote(&home.vault(), "main", new, Some(&out)).unwrap();
            fs::rename(&out, home.path("main.keyring.toml")).unwrap();
            let vault = home.vault();
            assert_eq!(get(&vault, "A"), "1");
            set(&vault, next, "2");
        }
        home.vault().settle(false).unwrap();
        rotate(&home.vault());
        assert_eq!((get(&home.vault(), "A"), get(&home.vault(), "B")), ("1".to_owned(), "2".to_owned()));
    }
}

/// A promotion that has not reached the store, and then one more key: the store is two generations
/// behind, and still no older file.
#[test]
fn a_key_that_is_added_before_a_promotion_reached_the_store_locks_nobody_out() {
    for kind in KINDS {
        let home = Home::new(kind);
        set(&home.vault(), "A", "1");
        let out = home.path("next.toml");
        crate::promote(&home.vault(), "main", add_key(&home, "2"), Some(&out)).unwrap();
        fs::rename(&out, home.path("main.keyring.toml")).unwrap();
        add_key(&home, "3");
        assert_eq!(get(&home.vault(), "A"), "1");
        assert_eq!(set(&home.vault(), "A", "2"), 2);
        rotate(&home.vault());
        assert_eq!(get(&home.vault(), "A@1"), "1");
    }
}

#[test]
fn a_store_needs_the_main_keyring() {
    let home = Home::new(Kind::File);
    for (text, words) in [
        ("version = 1\n[store]\nurl = \"file:s\"\n", "[keyring.main]"),
        ("version = 1\n[keyring.main]\nsources = [\"file:k\"]\n[store]\nurl = \"ftp:s\"\n", "none of"),
        ("version = 1\n[keyring.main]\nsources = [\"file:k\"]\n[store]\nurl = \"file:s\"\nkept = 1\n", "kept"),
        (
            "version = 1\n[keyring.main]\nsources = [\"file:k\"]\n[store]\nurl = \"file:s\"\n[[column]]\nname = \"store\"\ndatabase = \"sqlite:d\"\ntable = \"t\"\nrow = [\"id\"]\nvalue = \"v\"\nreads = [\"vs1\"]\nwrites = \"vs1\"\ncontext = {}\n",
            "name of the store",
        ),
    ] {
        fs::write(home.path("wrong.toml"), text).unwrap();
        let error = Config::from_file(home.path("wrong.toml")).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let keep = "version = 1\n[keyring.main]\nsources = [\"file:k\"]\n[store]\nurl = \"sqlite:s\"\nkeep = 7\n";
    fs::write(home.path("right.toml"), keep).unwrap();
    assert_eq!(Config::from_file(home.path("right.toml")).unwrap().manifest().store().unwrap().keep, 7);
}
