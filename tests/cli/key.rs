//! `key`: the life cycle of keys.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::{App, Directory, LEGACY, TOKENS, snapshot};

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
    assert!(vault("rotate fence --drop").ok().contains("still fenced"));
    app.lose_fences();
    let (id, now) = app.values().remove(0);
    app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = ?2", (&backup, id)).unwrap();
    let refused = vault(&format!("key destroy {old} --yes")).fails(23);
    assert!(refused.contains("column app.secrets holds 1 values"), "{refused}");
    app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = ?2", (&now, id)).unwrap();
    let refused = vault(&format!("key destroy {old} --yes")).fails(23);
    assert!(refused.contains("vault rotate fence"), "{refused}");
    vault("rotate fence").ok();
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
    let vault = |line: &str| app.directory.vault(line);
    let old = app.primary("main");
    let new = app.add("main");
    let told = vault(&format!("key promote {new}")).fails(23);
    assert!(told.contains("seal under key") && told.contains("add --yes"), "one node is asked too: {told}");

    app.configure(TOKENS, 2);
    for end in ["--yes", "-n"] {
        let told = vault(&format!("key promote {new} {end}")).fails(75);
        assert!(
            told.contains("no process has said that it holds keyring main") && told.contains("--all-nodes-loaded"),
            "{told}"
        );
    }
    vault(&format!("key promote {new} --all-nodes-loaded")).fails(23);
    vault(&format!("key promote {new} --all-nodes-loaded --yes")).ok();
    vault("rotate run").ok();
    let told = vault(&format!("key disable {old} --yes")).fails(75);
    assert!(told.contains("no process has said that it holds keyring main"), "{told}");
    assert!(!vault("status").out.contains("fenced"), "and no database refuses what such a process writes");
    vault(&format!("key disable {old} --yes --all-nodes-loaded")).ok();
}

/// On a terminal the question is put, whatever `--yes` says.
#[test]
fn whether_every_process_has_loaded_a_key_is_asked_on_a_terminal() {
    let app = App::new(TOKENS, 1);
    app.configure(TOKENS, 2);
    let new = app.add("main");
    // What is typed before the question is on the screen answers nothing.
    let answer = |early: &str, answer: &str| {
        let line = format!("{} key promote {new} --yes", crate::binary().display());
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).current_dir(app.directory.home.path());
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        input.write_all(early.as_bytes()).unwrap();
        let mut told = String::new();
        while !told.contains("[y/N] ") {
            let mut byte = [0];
            assert_eq!(output.read(&mut byte).unwrap(), 1, "{told}");
            told.push(char::from(byte[0]));
        }
        input.write_all(answer.as_bytes()).unwrap();
        output.read_to_string(&mut told).unwrap();
        (child.wait().unwrap().code(), told)
    };
    for (early, typed) in [("", "n\n"), ("y\ny\n", "n\n")] {
        let (code, told) = answer(early, typed);
        assert!(code == Some(75) && told.contains("has every process that opens values loaded key"), "{told}");
        assert_ne!(app.primary("main"), new);
    }
    let (code, told) = answer("", "y\n");
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(app.primary("main"), new);
}

#[test]
fn a_first_key_is_added_while_other_keyrings_have_none() {
    let directory = Directory::new();
    directory.write(
        "vault.toml",
        "version = 1\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"main.toml\"\n\
         [keyring.text]\nkind = \"text\"\nsources = [\"file:text_*\"]\nstate = \"text.toml\"\n",
    );
    for keyring in ["main", "text"] {
        directory.vault(&format!("key generate --out new_{keyring}")).ok();
        let told = directory.vault(&format!("key add new_{keyring} --keyring {keyring}"));
        assert!(told.err.contains("is still there"), "{told:?}");
        told.ok();
    }
    directory.vault("key list --keyring text").ok();
}

#[test]
fn a_key_that_a_value_came_back_under_is_not_destroyed() {
    for (column, keyring, file) in [(TOKENS, "main", "kek_1"), (LEGACY, "text", "text_1")] {
        let app = App::new(column, 3);
        let vault = |line: &str| app.directory.vault(&format!("{line} --keyring {keyring}"));
        let (old, backup) = (app.primary(keyring), app.values());
        let new = app.add(keyring);
        vault(&format!("key promote {new} --yes")).ok();
        vault("rotate run --app-stopped").ok();
        vault(&format!("key disable {old} --yes")).ok();
        fs::remove_file(app.directory.path(file)).unwrap();
        app.lose_fences();
        let moved = app.values();
        app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = 1", [&backup[0].1]).unwrap();
        for line in ["--yes", "-n"] {
            let told = vault(&format!("key destroy {old} {line}")).fails(23);
            assert!(told.contains("column app.secrets holds 1 values"), "{told}");
        }
        app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = 1", [&moved[0].1]).unwrap();
        vault("rotate fence").ok();
        let asked = vault(&format!("key destroy {old}")).fails(23);
        assert!(asked.contains("backups that still need this key become unreadable"), "{asked}");
        vault(&format!("key destroy {old} --yes")).ok();
    }
}

#[test]
fn a_key_that_is_not_disabled_leaves_no_fence() {
    let app = App::new(TOKENS, 3);
    let vault = |line: &str| app.directory.vault(line);
    let fenced = || {
        let told: serde_json::Value = serde_json::from_str(&vault("status --json").out).unwrap();
        told["columns"][0]["fenced"].clone()
    };
    let old = app.primary("main");
    vault("key disable kaaaaaaaaaaaaaaaa --yes").fails(20);
    vault(&format!("key disable {old} --yes")).fails(23);
    assert_eq!(fenced(), serde_json::json!([]));
    let second = app.add("main");
    vault(&format!("key promote {second} --yes")).ok();
    vault("rotate run").ok();
    vault(&format!("key disable {old} --yes --out nowhere/next")).fails(18);
    assert_eq!(fenced(), serde_json::json!([]), "as before");
    vault("rotate fence").ok();
    fs::remove_file(app.directory.path("new_main")).unwrap();
    vault("key generate --out kek_3").ok();
    fs::rename(app.directory.path("kek_3"), app.directory.path("third")).unwrap();
    vault("key add third").ok();
    let listed: serde_json::Value = serde_json::from_str(&vault("key list --json").ok()).unwrap();
    let third = listed["keys"].as_array().unwrap().iter().find(|key| key["state"] == "active").unwrap()["kid"].clone();
    let third = third.as_str().unwrap();
    vault(&format!("key disable {third} --yes --out nowhere/next")).fails(18);
    assert_eq!(fenced(), serde_json::json!([old]), "only what was fenced before");
    vault(&format!("key disable {old} --yes")).ok();
}

/// A command that fails after the state was written has disabled the key: what a process sealed under it
/// before must not be written, for nothing would open it.
#[test]
fn a_key_that_is_disabled_keeps_its_fence_though_the_command_failed() {
    let app = App::new(TOKENS, 3);
    let vault = |line: &str| app.directory.vault(line);
    let config = fs::read_to_string(app.directory.path("vault.toml")).unwrap();
    app.directory.write("vault.toml", config.replace("[[column]]", "[store]\nurl = \"file:store.toml\"\n[[column]]"));
    vault("init --store-only").ok();
    app.directory.vault_with("set API_KEY", b"deployment secret").ok();
    let (old, late) = (app.primary("main"), app.values().remove(0).1);
    let new = app.add("main");
    vault(&format!("key promote {new} --yes")).ok();
    vault("rotate run").ok();
    // The store is read through a link, and cannot be replaced.
    fs::rename(app.directory.path("store.toml"), app.directory.path("elsewhere.toml")).unwrap();
    std::os::unix::fs::symlink("elsewhere.toml", app.directory.path("store.toml")).unwrap();
    vault(&format!("key disable {old} --yes")).fails(18);
    let keys = vault("key list").ok();
    assert!(keys.contains(&format!("{old}  disabled")), "{keys}");
    let written = app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = 1", [late]);
    assert!(written.unwrap_err().to_string().contains("is being retired"));
}

#[test]
fn a_dry_run_of_a_key_command_checks_what_the_command_checks() {
    let app = App::new(TOKENS, 3);
    let vault = |line: &str| app.directory.vault(line);
    let old = app.primary("main");
    vault("key generate --out fresh").ok();
    app.directory.write("kek_weak", [0xab; 32]);
    fs::rename(app.directory.path("kek_weak"), app.directory.path("weak")).unwrap();
    app.directory.write("bad", "notakey");
    let before = snapshot(app.directory.home.path());
    let told: serde_json::Value = serde_json::from_str(&vault("key add fresh -n --json").ok()).unwrap();
    assert_eq!((told["dry_run"].as_bool(), told["out"].is_null()), (Some(true), true));
    let kid = told["kid"].as_str().unwrap();
    assert!(vault("key add fresh -n").ok().contains(&format!("key {kid} would be in keyring main")));
    vault("key add bad -n").fails(20);
    vault("key add nowhere -n").fails(18);
    vault(&format!("key disable {old} -n")).fails(23);
    vault(&format!("key enable {old} -n")).fails(23);
    vault(&format!("key destroy {old} -n")).fails(23);
    assert!(snapshot(app.directory.home.path()) == before, "and nothing is changed");

    vault("key add weak --label 3").ok();
    let weak = vault("key list --json").ok();
    let weak: serde_json::Value = serde_json::from_str(&weak).unwrap();
    let weak = weak["keys"].as_array().unwrap().iter().find(|key| key["state"] == "active").unwrap()["kid"].clone();
    vault(&format!("key promote {} -n", weak.as_str().unwrap())).fails(12);
    assert!(vault(&format!("key promote {old} -n")).ok().contains("would be primary; nothing was changed"));
}

/// As in a container in which both keys are mounted, and whose states are deployed anew.
#[test]
fn next_states_are_written_elsewhere() {
    let app = App::new(TOKENS, 3);
    let vault = |line: &str| app.directory.vault(line);
    let only = vault("key add kek_1 --out next").fails(23);
    assert!(only.contains("first key, and needs no state file"), "{only}");
    vault("key generate --out kek_2").ok();
    vault("key list").fails(23);
    let told = vault("key add kek_2 --out next").ok();
    assert!(told.contains("next state written to next; the present one is unchanged"), "{told}");
    assert!(!app.directory.path("main.keyring.toml").exists());
    fs::rename(app.directory.path("next"), app.directory.path("main.keyring.toml")).unwrap();
    let old = app.primary("main");
    let listed: serde_json::Value = serde_json::from_str(&vault("key list --json").ok()).unwrap();
    let new = listed["keys"].as_array().unwrap().iter().find(|key| key["state"] == "active").unwrap()["kid"].clone();
    let told = vault(&format!("key promote {} --yes --out next --json", new.as_str().unwrap())).ok();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((told["out"].as_str(), told["dry_run"].as_bool()), (Some("next"), Some(false)));
    assert_eq!(app.primary("main"), old);
    fs::rename(app.directory.path("next"), app.directory.path("main.keyring.toml")).unwrap();
    assert_eq!(app.primary("main"), new);
}

#[test]
fn what_people_get_wrong_is_explained() {
    let app = App::new(TOKENS, 1);
    let vault = |line: &str| app.directory.vault(line);
    assert!(vault("key list --keyring nope").fails(16).contains("[keyring.nope]"));
    for line in ["promote", "disable", "enable", "destroy", "promote -n", "disable -n", "enable -n", "destroy -n"] {
        let told = vault(&format!("key {line} kaaaaaaaaaaaaaaaa --yes")).fails(20);
        assert!(told.contains("`vault key list` shows the ids"), "{line}: {told}");
    }
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
    crate::copy_binary(&binary);
    let ran = crate::finish(
        Command::new("setpriv")
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
