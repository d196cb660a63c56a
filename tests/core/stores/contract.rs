//! What every store does.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::thread;

use vault_core::{Context, EntryKey, Error, Keyring, MasterKey, NewEntry, Replacement, STORE_ENTRY, Sealer, Version};

use super::{Fixture, KINDS, Kind, name, of};

/// A case of the contract, and its name.
type Case = (&'static str, fn(&Fixture));

const CASES: &[Case] = &[
    ("an empty store has nothing", an_empty_store_has_nothing),
    ("what is put is got", what_is_put_is_got),
    ("names are sorted and distinct", names_are_sorted_and_distinct),
    ("tenants are apart", tenants_are_apart),
    ("versions count up and old ones go", versions_count_up_and_old_ones_go),
    ("a store may keep no previous version", a_store_may_keep_no_previous_version),
    ("a batch is put whole", a_batch_is_put_whole),
    ("a name twice in a batch is two versions", a_name_twice_in_a_batch_is_two_versions),
    ("a token under another key is not taken", a_token_under_another_key_is_not_taken),
    ("only what was read is replaced", only_what_was_read_is_replaced),
    ("a replacement keeps version and creation", a_replacement_keeps_version_and_creation),
    ("one version or all are removed", one_version_or_all_are_removed),
    ("what is not there is not removed", what_is_not_there_is_not_removed),
    ("pages visit every entry once, in order", pages_visit_every_entry_once_in_order),
    ("purposes are kept", purposes_are_kept),
    ("unfit purposes are refused", unfit_purposes_are_refused),
    ("a large value is kept", a_large_value_is_kept),
    ("making a store twice changes nothing", making_a_store_twice_changes_nothing),
    ("a missing store is no empty store", a_missing_store_is_no_empty_store),
    ("another file is no store", another_file_is_no_store),
    ("threads lose nothing", threads_lose_nothing),
    ("a second handle sees what the first wrote", a_second_handle_sees_what_the_first_wrote),
    ("only its owner can read it", only_its_owner_can_read_it),
    ("debug shows no token", debug_shows_no_token),
    ("it is in order", it_is_in_order),
    ("another keyring changes nothing", another_keyring_changes_nothing),
];

#[test]
fn every_store_keeps_the_contract() {
    for kind in KINDS {
        for (what, case) in CASES {
            // A failure names the case by its own panic; the store is told here.
            let ran = thread::Builder::new().name(format!("{what}, {kind:?}")).spawn(move || case(&Fixture::new(kind)));
            ran.unwrap().join().unwrap_or_else(|_| panic!("{kind:?}: {what}"));
        }
    }
    // Shown with --nocapture.
    let _ = writeln!(io::stdout(), "{} cases x {} stores", CASES.len(), KINDS.len());
}

fn an_empty_store_has_nothing(f: &Fixture) {
    assert!(f.store.exists().unwrap());
    assert_eq!(f.store.names().unwrap(), []);
    assert_eq!(f.store.versions(&name("A")).unwrap(), []);
    assert_eq!(f.store.page(None, 10).unwrap(), []);
    for version in [Version::Current, Version::Previous, Version::Number(1)] {
        assert_eq!(f.store.get(&name("A"), version).unwrap(), None);
    }
}

fn what_is_put_is_got(f: &Fixture) {
    assert_eq!(f.put(&name("app/DB_PASSWORD"), "s3cret"), 1);
    let entry = f.store.get(&name("app/DB_PASSWORD"), Version::Current).unwrap().unwrap();
    assert_eq!(f.opened(&entry), "s3cret");
    assert_eq!((entry.key.version, entry.purpose.as_str()), (1, STORE_ENTRY));
    assert_eq!(entry.created, entry.updated);
    assert_eq!(f.store.get(&name("app/db_password"), Version::Current).unwrap(), None);
}

fn names_are_sorted_and_distinct(f: &Fixture) {
    for text in ["b", "A", "a", "b", "B"] {
        f.put(&name(text), "x");
    }
    assert_eq!(f.store.names().unwrap(), [name("A"), name("B"), name("a"), name("b")]);
}

fn tenants_are_apart(f: &Fixture) {
    let all = [name("A"), of("1", "A"), of("2 é", "A")];
    for (at, entry) in all.iter().enumerate() {
        f.put(entry, &at.to_string());
    }
    assert_eq!(f.store.names().unwrap(), all);
    for (at, entry) in all.iter().enumerate() {
        let found = f.store.get(entry, Version::Current).unwrap().unwrap();
        assert_eq!((f.opened(&found), found.key.version), (at.to_string(), 1));
    }
    assert!(
        f.sealer
            .open(&name("A").context(STORE_ENTRY), &f.store.get(&all[1], Version::Current).unwrap().unwrap().token)
            .is_err()
    );
}

fn versions_count_up_and_old_ones_go(f: &Fixture) {
    for number in 1..=6 {
        assert_eq!(f.put(&name("A"), &number.to_string()), number);
    }
    let kept: Vec<_> =
        f.store.versions(&name("A")).unwrap().iter().map(|entry| (entry.key.version, f.opened(entry))).collect();
    assert_eq!(kept, [6, 5, 4, 3].map(|number| (number, number.to_string())));
    let got = |version| f.store.get(&name("A"), version).unwrap().map(|entry| f.opened(&entry));
    assert_eq!(got(Version::Current).as_deref(), Some("6"));
    assert_eq!(got(Version::Previous).as_deref(), Some("5"));
    assert_eq!(got(Version::Number(3)).as_deref(), Some("3"));
    assert_eq!(got(Version::Number(2)), None);
}

fn a_store_may_keep_no_previous_version(f: &Fixture) {
    f.put(&name("A"), "1");
    f.put(&name("A"), "2");
    let store = f.kind.open(&f.path(), &f.keyring, 0);
    let token = f.token(&name("A"), "3");
    assert_eq!(store.put(&[NewEntry { name: &name("A"), purpose: STORE_ENTRY, token: &token }]).unwrap(), [3]);
    assert_eq!(store.versions(&name("A")).unwrap().len(), 1);
    assert_eq!(store.get(&name("A"), Version::Previous).unwrap(), None);
}

fn a_batch_is_put_whole(f: &Fixture) {
    let names: Vec<_> = (0..50).map(|number| name(&format!("N{number}"))).collect();
    let tokens: Vec<_> = names.iter().map(|name| f.token(name, "x")).collect();
    let new: Vec<_> =
        names.iter().zip(&tokens).map(|(name, token)| NewEntry { name, purpose: STORE_ENTRY, token }).collect();
    assert_eq!(f.store.put(&new).unwrap(), vec![1; 50]);
    assert_eq!(f.store.names().unwrap().len(), 50);
    let other = Sealer::new(Keyring::single(MasterKey::generate().unwrap()));
    let legacy = other.seal(&Context::new(STORE_ENTRY), b"x").unwrap();
    let mut new = new;
    new.push(NewEntry { name: &names[0], purpose: STORE_ENTRY, token: &legacy });
    assert!(f.store.put(&new).is_err());
    assert_eq!(f.store.page(None, 1_000).unwrap().len(), 50);
}

fn a_name_twice_in_a_batch_is_two_versions(f: &Fixture) {
    let tokens = [f.token(&name("A"), "1"), f.token(&name("A"), "2")];
    let same = name("A");
    let new = tokens.each_ref().map(|token| NewEntry { name: &same, purpose: STORE_ENTRY, token });
    assert_eq!(f.store.put(&new).unwrap(), [1, 2]);
    assert_eq!(f.opened(&f.store.get(&name("A"), Version::Current).unwrap().unwrap()), "2");
}

fn a_token_under_another_key_is_not_taken(f: &Fixture) {
    let other = Sealer::new(Keyring::single(MasterKey::generate().unwrap()));
    let token = other.seal(&name("A").context(STORE_ENTRY), b"x").unwrap();
    let put = f.store.put(&[NewEntry { name: &name("A"), purpose: STORE_ENTRY, token: &token }]);
    assert!(matches!(put, Err(Error::Refused { .. })));
    f.put(&name("A"), "x");
    let old = f.store.get(&name("A"), Version::Current).unwrap().unwrap();
    let replaced = f.store.replace(&[Replacement { key: old.key.clone(), old: old.token.clone(), new: token }]);
    assert!(matches!(replaced, Err(Error::Refused { .. })));
    assert_eq!(f.store.get(&name("A"), Version::Current).unwrap(), Some(old));
}

fn only_what_was_read_is_replaced(f: &Fixture) {
    f.put(&name("A"), "1");
    f.put(&name("B"), "1");
    let read = |text| f.store.get(&name(text), Version::Current).unwrap().unwrap();
    let (a, b) = (read("A"), read("B"));
    let change = |key: &EntryKey, old: &vault_core::Token, text: &str, value: &str| Replacement {
        key: key.clone(),
        old: old.clone(),
        new: f.token(&name(text), value),
    };
    let stale = change(&a.key, &a.token, "A", "3");
    assert_eq!(
        f.store.replace(&[change(&a.key, &a.token, "A", "2"), change(&b.key, &b.token, "B", "2")]).unwrap(),
        [true, true]
    );
    let gone = EntryKey { name: name("C"), version: 1 };
    assert_eq!(f.store.replace(&[stale, change(&gone, &a.token, "C", "3")]).unwrap(), [false, false]);
    assert_eq!((f.opened(&read("A")), f.opened(&read("B"))), ("2".to_owned(), "2".to_owned()));
    assert_eq!(f.store.names().unwrap().len(), 2);
}

fn a_replacement_keeps_version_and_creation(f: &Fixture) {
    f.put(&name("A"), "1");
    let old = f.store.get(&name("A"), Version::Current).unwrap().unwrap();
    let new = f.token(&name("A"), "2");
    f.store.replace(&[Replacement { key: old.key.clone(), old: old.token.clone(), new: new.clone() }]).unwrap();
    let now = f.store.get(&name("A"), Version::Number(1)).unwrap().unwrap();
    assert_eq!((now.key, now.created, now.token), (old.key, old.created, new));
    assert!(now.updated >= old.updated);
}

fn one_version_or_all_are_removed(f: &Fixture) {
    for number in 1..=3 {
        f.put(&name("A"), &number.to_string());
    }
    f.put(&of("t", "A"), "t");
    assert_eq!(f.store.remove(&name("A"), Some(2)).unwrap(), 1);
    let versions: Vec<_> = f.store.versions(&name("A")).unwrap().iter().map(|entry| entry.key.version).collect();
    assert_eq!(versions, [3, 1]);
    assert_eq!(f.opened(&f.store.get(&name("A"), Version::Previous).unwrap().unwrap()), "1");
    assert_eq!(f.put(&name("A"), "4"), 4);
    assert_eq!(f.store.remove(&name("A"), None).unwrap(), 3);
    assert_eq!(f.store.names().unwrap(), [of("t", "A")]);
    assert_eq!(f.put(&name("A"), "1"), 1);
}

fn what_is_not_there_is_not_removed(f: &Fixture) {
    f.put(&name("A"), "1");
    assert_eq!(f.store.remove(&name("B"), None).unwrap(), 0);
    assert_eq!(f.store.remove(&name("A"), Some(7)).unwrap(), 0);
    assert_eq!(f.store.names().unwrap().len(), 1);
}

fn pages_visit_every_entry_once_in_order(f: &Fixture) {
    for text in ["b", "A", "a/b", "a"] {
        for entry in [name(text), of("t", text)] {
            f.put(&entry, "1");
            f.put(&entry, "2");
        }
    }
    let all = f.store.page(None, 100).unwrap();
    assert_eq!(all.len(), 16);
    assert!(all.is_sorted_by(|a, b| a.key < b.key));
    for limit in [1, 3, 16, 17] {
        let mut seen = Vec::new();
        let mut after: Option<EntryKey> = None;
        loop {
            let page = f.store.page(after.as_ref(), limit).unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= limit);
            after = Some(last.key.clone());
            seen.extend(page);
        }
        assert_eq!(seen, all, "{limit}");
    }
}

fn purposes_are_kept(f: &Fixture) {
    let token = f.sealer.seal(&name("A").context("app-config"), b"x").unwrap();
    f.store.put(&[NewEntry { name: &name("A"), purpose: "app-config", token: &token }]).unwrap();
    let entry = f.store.get(&name("A"), Version::Current).unwrap().unwrap();
    assert_eq!((entry.purpose.as_str(), f.opened(&entry).as_str()), ("app-config", "x"));
}

fn unfit_purposes_are_refused(f: &Fixture) {
    let token = f.token(&name("A"), "x");
    for purpose in ["", "a\nb", &"p".repeat(257)] {
        let put = f.store.put(&[NewEntry { name: &name("A"), purpose, token: &token }]);
        assert!(matches!(put, Err(Error::Malformed { .. })), "{purpose}");
    }
    assert_eq!(f.store.names().unwrap(), []);
}

fn a_large_value_is_kept(f: &Fixture) {
    let value = "x".repeat(1 << 20);
    f.put(&name("A"), &value);
    assert_eq!(f.opened(&f.store.get(&name("A"), Version::Current).unwrap().unwrap()), value);
}

fn making_a_store_twice_changes_nothing(f: &Fixture) {
    f.put(&name("A"), "1");
    f.store.create().unwrap();
    assert_eq!(f.store.names().unwrap(), [name("A")]);
}

fn a_missing_store_is_no_empty_store(f: &Fixture) {
    let store = f.kind.open(&f.directory.path().join("other"), &f.keyring, 3);
    assert!(!store.exists().unwrap());
    assert!(matches!(store.get(&name("A"), Version::Current), Err(Error::Database { .. })));
    assert!(matches!(store.names(), Err(Error::Database { .. })));
    let token = f.token(&name("A"), "x");
    assert!(store.put(&[NewEntry { name: &name("A"), purpose: STORE_ENTRY, token: &token }]).is_err());
    assert!(!store.exists().unwrap());
}

fn another_file_is_no_store(f: &Fixture) {
    let path = f.directory.path().join("other");
    if f.kind == Kind::Postgres {
        let other = super::database(&path);
        other.execute(
            "CREATE SCHEMA vault_core; CREATE TABLE vault_core.store (format text, keyring_generation bigint)",
        );
        let store = f.kind.open(&path, &f.keyring, 3);
        assert!(store.create().is_err());
        assert!(store.names().is_err());
        return;
    }
    std::fs::write(&path, "This is a letter, and long enough to be a database's first page.").unwrap();
    let store = f.kind.open(&path, &f.keyring, 3);
    assert!(store.get(&name("A"), Version::Current).is_err());
    assert!(store.create().is_err());
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("This is"));
    // A database that belongs to somebody else.
    let path = f.directory.path().join("app.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let store = f.kind.open(&path, &f.keyring, 3);
    assert!(store.create().is_err());
    assert!(store.names().is_err());
}

fn threads_lose_nothing(f: &Fixture) {
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for number in 0..25 {
                    f.put(&name(&format!("T{thread}N{number}")), "x");
                    f.put(&name("SHARED"), &format!("{thread} {number}"));
                }
            });
        }
    });
    let names: BTreeSet<_> = f.store.names().unwrap().into_iter().collect();
    assert_eq!(names.len(), 101);
    assert_eq!(f.store.get(&name("SHARED"), Version::Current).unwrap().unwrap().key.version, 100);
}

fn a_second_handle_sees_what_the_first_wrote(f: &Fixture) {
    let other = f.kind.open(&f.path(), &f.keyring, 3);
    assert_eq!(other.names().unwrap(), []);
    f.put(&name("A"), "1");
    assert_eq!(other.names().unwrap(), [name("A")]);
    f.store.remove(&name("A"), None).unwrap();
    assert_eq!(other.get(&name("A"), Version::Current).unwrap(), None);
}

fn only_its_owner_can_read_it(f: &Fixture) {
    use std::os::unix::fs::PermissionsExt;

    f.put(&name("A"), "1");
    if f.kind == Kind::Postgres {
        let database = super::database(&f.path());
        crate::server::role("stranger", "");
        let url = vault_core::PostgresUrl::parse(&database.url_as("stranger")).unwrap();
        let store = vault_core::PostgresStore::new(url, f.keyring.clone());
        assert!(vault_core::Store::names(&store).unwrap_err().to_string().contains("lacks a privilege"));
    }
    for entry in std::fs::read_dir(f.directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
}

fn debug_shows_no_token(f: &Fixture) {
    f.put(&name("A"), "1");
    let entry = f.store.get(&name("A"), Version::Current).unwrap().unwrap();
    let shown = format!("{entry:?} {:?}", f.store);
    assert!(!shown.contains(&entry.token.to_string()) && shown.len() < 2_000, "{shown}");
}

fn it_is_in_order(f: &Fixture) {
    f.put(&name("A"), "1");
    assert_eq!(f.store.check().unwrap(), []);
    assert!(f.store.location().contains("store"));
    f.store.settle(false).unwrap();
    assert_eq!(f.store.names().unwrap(), [name("A")]);
}

/// Wrong keys are mounted, and the right ones come back.
fn another_keyring_changes_nothing(f: &Fixture) {
    f.put(&name("A"), "1");
    let keyring = Keyring::single(MasterKey::generate().unwrap());
    let other = f.kind.open(&f.path(), &keyring, 3);
    let token = Sealer::new(keyring).seal(&name("A").context(STORE_ENTRY), b"2").unwrap();
    let put = other.put(&[NewEntry { name: &name("A"), purpose: STORE_ENTRY, token: &token }]);
    assert!(matches!(put, Err(Error::UnknownKey { .. })), "{put:?}");
    match other.check() {
        Err(Error::UnknownKey { .. }) => assert!(matches!(f.kind, Kind::File)),
        found => assert!(found.unwrap()[0].to_string().contains("1 values"), "{:?}", f.kind),
    }
    assert_eq!(f.opened(&f.store.get(&name("A"), Version::Current).unwrap().unwrap()), "1");
    assert!(f.store.check().unwrap().is_empty());
}
