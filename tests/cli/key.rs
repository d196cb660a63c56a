//! `key`: the life cycle of keys.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::{App, Directory, TOKENS};

#[test]
fn a_generated_key_is_private_and_never_overwrites() {
    let directory = Directory::new();
    directory.vault("key generate --out kek -n").ok();
    assert!(!directory.path("kek").exists());
    directory.vault("key generate --out kek").ok();
    let file = fs::metadata(directory.path("kek")).unwrap();
    assert_eq!((file.permissions().mode() & 0o777, file.len()), (0o600, 44));
    let before = fs::read(directory.path("kek")).unwrap();
    directory.vault("key generate --out kek").fails(18);
    directory.vault("key generate --out kek -n").fails(18);
    assert_eq!(fs::read(directory.path("kek")).unwrap(), before);
    let printed = directory.vault("key generate").ok();
    assert_eq!(printed.len(), 44, "no line break where a file may be made of it");
}

#[test]
fn a_key_is_added_promoted_disabled_enabled_and_destroyed() {
    let app = App::new(TOKENS, 10);
    let vault = |line: &str| app.directory.vault(line);
    let old = app.primary("main");
    let new = app.add("main");
    let (_, backup) = app.values().remove(0);
    assert_eq!(app.primary("main"), old);
    vault(&format!("key disable {old} --yes")).fails(23);
    vault(&format!("key promote {new} --yes")).ok();
    assert_eq!(app.primary("main"), new);
    let refused = vault(&format!("key disable {old} --yes")).fails(23);
    assert!(refused.contains("column app.secrets holds 10 values"), "{refused}");
    vault("rotate run").ok();
    vault(&format!("key disable {old} --dry-run")).ok();
    assert!(vault("key list").ok().contains("decrypt-only"), "a dry run changes nothing");
    vault(&format!("key disable {old} --yes")).ok();
    vault(&format!("key destroy {old} --yes")).fails(23);
    vault(&format!("key enable {old} --yes")).ok();
    vault(&format!("key promote {old} --yes")).fails(23);
    vault("rotate fence --drop").ok();
    vault(&format!("key disable {old} --yes")).ok();
    fs::remove_file(app.directory.path("kek_1")).unwrap();
    vault("rotate fence --drop").ok();
    let (id, now) = app.values().remove(0);
    app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = ?2", (&backup, id)).unwrap();
    let refused = vault(&format!("key destroy {old} --yes")).fails(23);
    assert!(refused.contains("column app.secrets holds 1 values"), "{refused}");
    app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = ?2", (&now, id)).unwrap();
    vault(&format!("key destroy {old} --dry-run")).ok();
    vault(&format!("key destroy {old} --yes")).ok();
    vault(&format!("key destroy {old} --yes")).ok();
    assert!(vault("key list").ok().contains("destroyed"), "its tombstone stays");
    vault("rotate verify").ok();
    vault(&format!("key promote {old} --yes")).fails(23);
}

#[test]
fn nobody_is_asked_where_nobody_is_there() {
    let app = App::new(TOKENS, 3);
    app.configure(TOKENS, 2);
    let new = app.add("main");
    let told = app.directory.vault(&format!("key promote {new}")).fails(23);
    assert!(
        told.contains("has every process that opens values loaded key") && told.contains("--all-nodes-loaded"),
        "{told}"
    );
    app.directory.vault(&format!("key promote {new} --all-nodes-loaded")).ok();
}

#[test]
fn what_people_get_wrong_is_explained() {
    let app = App::new(TOKENS, 1);
    let vault = |line: &str| app.directory.vault(line);
    assert!(vault("key list --keyring nope").fails(16).contains("[keyring.nope]"));
    vault("key promote kaaaaaaaaaaaaaaaa --yes").fails(20);
    vault("key promote nonsense").fails(2);
    app.directory.write("bad", "notakey");
    assert!(vault("key add bad").fails(20).contains("unrecognised key text (7 bytes)"));
    app.directory.write("kek_9", "not a key");
    assert!(vault("key list").fails(20).contains("kek_9"));
    fs::remove_file(app.directory.path("kek_9")).unwrap();
    let version = app.directory.path("vault.toml");
    fs::write(&version, fs::read_to_string(&version).unwrap().replace("linked", "linkd")).unwrap();
    assert!(vault("key list").fails(16).contains("did you mean \"linked\"?"));
}

#[test]
fn a_key_that_cannot_be_read_is_an_error_and_says_whose_it_is() {
    // Root reads everything, so this is done as somebody else.
    let app = App::new(TOKENS, 1);
    fs::set_permissions(app.directory.path("kek_1"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(app.directory.home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = app.directory.path("vault");
    fs::copy(crate::binary(), &binary).unwrap();
    let ran = crate::finish(
        std::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&binary)
            .args(["key", "list"])
            .current_dir(app.directory.home.path()),
        b"",
    );
    // Not root to begin with: then the file is our own, and the refusal cannot be shown this way.
    if fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap() == 0 {
        assert!(ran.err.contains("mode 0600") && ran.err.contains("this is user 65534"), "{ran:?}");
        assert_eq!(ran.code, 18);
    } else {
        assert_ne!(ran.code, 0);
    }
}
