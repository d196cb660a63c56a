//! The file store: what it notices, and what it refuses.

use std::fs;
use std::os::unix::fs::symlink;

use vault_core::{Error, Keyring, Kind, MasterKey, Store, Version};

use super::{Fixture, Kind as StoreKind, name, of};

fn fixture() -> Fixture {
    let f = Fixture::new(StoreKind::File);
    for (entry, value) in [(name("A"), "1"), (name("A"), "2"), (name("B"), "1"), (of("t", "A"), "1")] {
        f.put(&entry, value);
    }
    f
}

fn lines(f: &Fixture) -> Vec<String> {
    fs::read_to_string(f.path()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_secret_is_one_line_and_the_lines_are_sorted() {
    let f = fixture();
    let before = lines(&f);
    let entries = before.iter().filter(|line| line.contains("token = \"vs1."));
    let entries: Vec<_> = entries.map(|line| line.split(", created").next().unwrap().trim_start()).collect();
    assert_eq!(
        entries,
        [
            "{ name = \"A\", version = 1",
            "{ name = \"A\", version = 2",
            "{ name = \"A\", tenant = \"t\", version = 1",
            "{ name = \"B\", version = 1"
        ]
    );
    f.put(&name("AB"), "1");
    let after = lines(&f);
    let changed: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    // The new line, the generation and the MAC.
    assert_eq!(changed.len(), 3, "{changed:?}");
    assert_eq!(after.len(), before.len() + 1);
}

#[test]
fn every_entry_that_is_removed_added_swapped_or_older_is_noticed() {
    let f = fixture();
    let text = fs::read_to_string(f.path()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let entry = |number: usize| lines.iter().position(|line| line.contains("token = ")).unwrap() + number;
    let without = |number: usize| {
        let kept = lines.iter().enumerate().filter(|(at, _)| *at != entry(number)).map(|(_, line)| *line);
        kept.collect::<Vec<_>>().join("\n")
    };
    let token = |line: &str| line.split("token = ").nth(1).unwrap().to_owned();
    let mut forgeries: Vec<(&str, String)> = (0..4).map(|number| ("removed", without(number))).collect();
    forgeries.push((
        "added",
        text.replace(lines[entry(3)], &format!("{}\n{}", lines[entry(3)], lines[entry(3)].replace("\"B\"", "\"C\""))),
    ));
    let (one, two) = (token(lines[entry(0)]), token(lines[entry(1)]));
    forgeries.push(("swapped", text.replace(&one, "<one>").replace(&two, &one).replace("<one>", &two)));
    forgeries.push(("older put in place of newer", text.replace(&two, &one)));
    for (what, from, to) in [
        ("version", "version = 2", "version = 9"),
        ("name", "name = \"B\"", "name = \"D\""),
        ("tenant", "tenant = \"t\"", "tenant = \"u\""),
        ("tenant gone", "name = \"A\", tenant = \"t\"", "name = \"C\""),
        ("purpose", "version = 2", "purpose = \"x\", version = 2"),
        ("generation", "generation = 5\n", "generation = 6\n"),
        ("pin", "keyring_generation = 0", "keyring_generation = 1"),
        ("time", "updated = 2", "updated = 3"),
    ] {
        let forged = text.replacen(from, to, 1);
        assert_ne!(forged, text, "{what}");
        forgeries.push((what, forged));
    }
    let id = text.lines().find(|line| line.starts_with("store_id")).unwrap();
    forgeries.push(("store", text.replace(id, &format!("store_id = \"{}\"", "0".repeat(32)))));
    let mac = text.lines().find(|line| line.starts_with("mac = ")).unwrap();
    forgeries.push(("no MAC", text.replace(mac, "")));
    forgeries.push(("another MAC", text.replace(mac, &format!("mac = \"{}\"", "A".repeat(43)))));
    forgeries.push(("cut short", text[..text.len() / 2].to_owned()));
    forgeries.push(("nothing", String::new()));
    for (what, forged) in &forgeries {
        fs::write(f.path(), forged).unwrap();
        let error = f.store.get(&name("A"), Version::Current).unwrap_err();
        let expected = match *what {
            "no MAC" | "cut short" | "nothing" => Kind::Config,
            _ => Kind::Corrupt,
        };
        assert_eq!(error.kind(), expected, "{what}: {error}");
        assert!(!error.to_string().contains("vs1."), "{what}: {error}");
        // Nothing is written over it.
        let token = f.token(&name("A"), "x");
        let put = f.store.put(&[vault_core::NewEntry { name: &name("A"), purpose: "store-entry", token: &token }]);
        assert!(put.is_err() && fs::read_to_string(f.path()).unwrap() == *forged, "{what}");
    }
    fs::write(f.path(), &text).unwrap();
    assert_eq!(f.store.names().unwrap().len(), 3);
    assert!(forgeries.len() >= 20);
}

#[test]
fn comments_spacing_and_the_form_of_tables_may_change() {
    let f = fixture();
    let text = fs::read_to_string(f.path()).unwrap();
    let mut reformed = String::from("# reviewed\n");
    for line in text.lines() {
        match line.trim().strip_prefix("{ ").and_then(|line| line.strip_suffix(" },")) {
            Some(entry) => reformed.push_str(&format!("[[secret]] # one\n{}\n\n", entry.replace(", ", "\n"))),
            None if matches!(line, "secret = [" | "]") => {}
            None => reformed.push_str(&format!("{}\n", line.replace(" = ", "="))),
        }
    }
    fs::write(f.path(), &reformed).unwrap();
    assert_eq!(f.store.versions(&name("A")).unwrap().len(), 2);
}

#[test]
fn the_file_before_is_kept_as_backup() {
    let f = fixture();
    let before = fs::read(f.path()).unwrap();
    f.put(&name("C"), "1");
    assert_eq!(fs::read(f.directory.path().join("store.bak")).unwrap(), before);
    // What would change nothing writes nothing.
    let now = fs::read(f.path()).unwrap();
    f.store.remove(&name("none"), None).unwrap();
    f.store.settle(false).unwrap();
    assert_eq!(fs::read(f.path()).unwrap(), now);
}

/// As where the store is on a read-only mount, and a promotion writes the next state elsewhere.
#[test]
fn a_store_that_is_settled_need_not_be_writable_to_be_settled_again() {
    let f = fixture();
    fs::remove_file(f.directory.path().join("store.lock")).unwrap();
    symlink("nowhere", f.directory.path().join("store.lock")).unwrap();
    f.store.settle(false).unwrap();
    assert!(matches!(f.store.remove(&name("A"), None), Err(Error::Io { action: "lock", .. })));
}

#[test]
fn a_link_out_of_the_directory_and_what_is_no_file_are_refused() {
    let f = fixture();
    let elsewhere = tempfile::tempdir().unwrap();
    let path = f.directory.path().join("linked");
    fs::copy(f.path(), elsewhere.path().join("store")).unwrap();
    symlink(elsewhere.path().join("store"), &path).unwrap();
    let linked = vault_core::FileStore::new(&path, f.keyring.clone());
    let error = linked.names().unwrap_err().to_string();
    assert!(error.contains("leaves its directory"), "{error}");
    let token = f.token(&name("C"), "x");
    let put = |store: &dyn Store| {
        store.put(&[vault_core::NewEntry { name: &name("C"), purpose: "store-entry", token: &token }])
    };
    assert!(put(&linked).is_err());
    // A link inside the directory is read; a write would replace the link itself.
    symlink("store", f.directory.path().join("inside")).unwrap();
    let inside = vault_core::FileStore::new(f.directory.path().join("inside"), f.keyring.clone());
    assert_eq!(inside.names().unwrap().len(), 3);
    let error = put(&inside).unwrap_err().to_string();
    assert!(error.contains("name the file itself"), "{error}");
    let folder = vault_core::FileStore::new(f.directory.path(), f.keyring.clone());
    assert!(matches!(folder.names(), Err(Error::Database { .. } | Error::Io { .. })));
}

#[test]
fn errors_of_its_text_tell_the_place_and_never_the_text() {
    let f = fixture();
    let text = fs::read_to_string(f.path()).unwrap();
    for (from, to, words) in [
        ("vault-store/1", "vault-store/2", "`format`"),
        ("name = \"B\"", "name = \"B B\"", "`name`"),
        ("version = 2", "version = 0", "`version`"),
        ("token = \"vs1.", "token = \"vs9.", "`token`"),
        ("created = 2", "created = 2026-01-01 #", "of the form"),
        ("generation = 5\n", "generation = 5\nsurprise = 1\n", "surprise"),
        ("name = \"B\"", "name = \"A\"", "listed twice"),
    ] {
        let wrong = text.replacen(from, to, 1);
        assert_ne!(wrong, text);
        fs::write(f.path(), &wrong).unwrap();
        let error = f.store.names().unwrap_err().to_string();
        assert!(error.contains(words) || error.contains("TOML"), "{from}: {error}");
        assert!(error.contains("store:") && !error.contains("vs1.") && !error.contains("2026"), "{error}");
    }
}

#[test]
fn files_that_were_written_elsewhere_are_read_and_a_changed_byte_is_noticed() {
    let vectors = crate::vector_file("store/store_file.json");
    for case in crate::cases(&vectors["tests"], 3) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        fs::write(&path, crate::text(&case["toml"])).unwrap();
        let key = MasterKey::parse_for_opening(crate::text(&case["key"]).as_bytes()).unwrap();
        let store = vault_core::FileStore::new(&path, Keyring::single(key));
        let names = store.page(None, 100).unwrap();
        let names: Vec<_> = names.iter().map(|entry| entry.key.name.name().as_str().to_owned()).collect();
        let mut expected: Vec<_> =
            case["names"].as_array().unwrap().iter().map(|name| crate::text(name).to_owned()).collect();
        expected.sort();
        assert_eq!(names, expected);
        fs::write(&path, crate::text(&case["toml"]).replace("generation = 1", "generation = 2")).unwrap();
        assert!(store.names().is_err() || names.is_empty());
    }
}
