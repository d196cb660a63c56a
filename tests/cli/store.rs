//! Secrets in a store, as an operator types them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use crate::Directory;

pub(crate) const STORES: [&str; 2] = ["file:vault.store.toml", "sqlite:vault.db"];

/// A directory after `vault init`, of one process that holds the keys.
pub(crate) fn home(store: &str) -> Directory {
    let directory = Directory::new();
    directory.vault(&format!("init --store {store}")).ok();
    let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
    directory.write("vault.toml", config.replace("# nodes = 1", "nodes = 1"));
    directory
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn init_makes_everything_once() {
    for store in STORES {
        let directory = Directory::new();
        directory.write(".gitignore", "target");
        let planned = directory.vault(&format!("init --store {store} -n")).ok();
        assert!(planned.contains("would be made"), "{planned}");
        assert_eq!(fs::read_dir(directory.home.path()).unwrap().count(), 1);
        let told = directory.vault(&format!("init --store {store}")).ok();
        assert!(told.contains("back it up"), "{told}");
        assert_eq!(fs::metadata(directory.path("keys/vault_kek_1")).unwrap().permissions().mode() & 0o777, 0o600);
        let ignored = fs::read_to_string(directory.path(".gitignore")).unwrap();
        assert_eq!(ignored.lines().take(2).collect::<Vec<_>>(), ["target", "/keys/"]);
        // Lock files of package managers are no business of ours.
        assert!(!ignored.contains('*'), "{ignored}");
        let beside = if store.starts_with("file:") { "/vault.store.toml.bak" } else { "/vault.db-wal" };
        for beside in [beside, "/main.keyring.toml.processes/"] {
            assert!(ignored.lines().any(|line| line == beside), "{ignored}");
        }
        assert_eq!(directory.vault("list").ok(), "");
        directory.vault("doctor").ok();
        // A second time it refuses, whatever of it is there.
        directory.vault("init").fails(5);
        for name in ["vault.toml", "keys/vault_kek_1"] {
            let left = Directory::new();
            fs::create_dir(left.path("keys")).unwrap();
            left.write(name, "mine");
            let error = left.vault(&format!("init --store {store}")).fails(5);
            assert!(error.contains(name), "{error}");
            assert_eq!(fs::read_to_string(left.path(name)).unwrap(), "mine");
        }
    }
}

/// What was typed wrongly the first time is not kept silently when it is typed rightly.
#[test]
fn init_after_an_interruption_is_the_same_command_or_refused() {
    let directory = Directory::new();
    directory.vault("init --store file:none/s.toml").fails(2);
    assert_eq!(fs::read_dir(directory.home.path()).unwrap().count(), 0);
    fs::create_dir(directory.path("taken.toml.lock")).unwrap();
    directory.vault("init --store file:taken.toml").fails(18);
    let refused = directory.vault("init").fails(23);
    assert!(refused.contains("remove vault.toml"), "{refused}");
    fs::remove_file(directory.path("vault.toml")).unwrap();
    directory.vault("init").ok();
    assert_eq!(directory.vault("list").ok(), "");
    directory.vault("init").fails(5);
}

#[test]
fn init_takes_over_an_environment_file() {
    let directory = Directory::new();
    directory.write(".env", "# deployment\nDB_PASSWORD='p@ss w0rd'\nexport TOKEN=\"abc\"\nEMPTY=\n");
    let told = directory.vault("init --import .env --json").ok();
    assert_eq!(json(&told)["imported"], 2);
    assert_eq!(directory.vault("get DB_PASSWORD").ok(), "p@ss w0rd");
    assert_eq!(directory.vault("get TOKEN").ok(), "abc");
    let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
    assert!(config.contains("[secrets.\"DB_PASSWORD\"]"), "{config}");
    assert!(!config.contains("p@ss"));
    // A text that its possible readers do not agree on is not guessed at.
    let other = Directory::new();
    other.write(".env", "DB_PASSWORD=abc#1\n");
    let error = other.vault("init --import .env").fails(16);
    assert!(error.contains("--format") && !error.contains("abc"), "{error}");
    assert!(!other.path("vault.toml").exists());
    other.vault("init --import .env --format dotenv-python").ok();
    assert_eq!(other.vault("get DB_PASSWORD").ok(), "abc#1");
}

#[test]
fn a_store_can_be_made_for_a_configuration_that_is_there() {
    for store in STORES {
        let directory = Directory::new();
        directory.vault("key generate --out kek").ok();
        directory.write(
            "vault.toml",
            format!("version = 1\n[keyring.main]\nsources = [\"file:kek\"]\n[store]\nurl = \"{store}\"\n"),
        );
        let error = directory.vault_with("set A", b"x").fails(19);
        assert!(error.contains("--store-only"), "{error}");
        directory.vault("get A").fails(19);
        directory.vault("init --store-only -n").ok();
        directory.vault_with("set A", b"x").fails(19);
        directory.vault("init --store-only").ok();
        directory.vault_with("set A", b"x").ok();
        directory.vault("init --store-only").fails(5);
        assert_eq!(directory.vault("get A").ok(), "x");
    }
}

#[test]
fn secrets_are_set_got_listed_rolled_back_and_removed() {
    for store in STORES {
        let directory = home(store);
        directory.vault("get A").fails(10);
        assert_eq!(directory.vault_with("set A", b"one\n").ok(), "A: version 1\n");
        assert_eq!(json(&directory.vault_with("set A --json", b"two\r\n").ok())["version"], 2);
        assert_eq!(directory.vault_with("set A -n", b"nothing").ok(), "A: version 3 (dry run: nothing was changed)\n");
        directory.write("value", b"\xff\x00binary\n");
        directory.vault("set B --from-file value").fails(11);
        directory.vault("set B --from-file value --raw").ok();
        directory.vault_with("set C --tenant 7 --purpose oauth", b"t").ok();

        assert_eq!(directory.vault("get A").ok(), "two");
        assert_eq!(directory.vault("get A@previous").ok(), "one");
        assert_eq!(directory.vault("get A@1").ok(), "one");
        directory.vault("get A@3").fails(10);
        directory.vault("get C").fails(10);
        assert_eq!(directory.vault("get C --tenant 7").ok(), "t");
        let bytes = crate::command(directory.home.path(), &["get", "B"]).output().unwrap().stdout;
        assert_eq!(bytes, b"\xff\x00binary\n");
        directory.vault("get B --json").fails(2);
        assert_eq!(json(&directory.vault("get A --json").ok())["value"], "two");

        assert_eq!(directory.vault("list").ok(), "A\nB\nC of tenant 7\n");
        let versions = directory.vault("list --versions").ok();
        assert!(versions.lines().count() == 4 && versions.contains("A  version 2"), "{versions}");
        let listed = json(&directory.vault("list --tenant 7 --json").ok());
        assert_eq!(
            (listed["secrets"][0]["name"].as_str(), listed["secrets"][0]["purpose"].as_str()),
            (Some("C"), Some("oauth"))
        );
        assert_eq!(directory.vault("get A --versions").ok().lines().count(), 2);

        directory.vault("rollback A -n").ok();
        assert_eq!(directory.vault("rollback A").ok(), "A: version 3 has the value of version 1\n");
        assert_eq!(directory.vault("get A").ok(), "one");
        directory.vault("rollback A@9").fails(10);
        directory.vault("rollback B").fails(10);

        let refused = directory.vault("rm A").fails(23);
        assert!(refused.contains("--all") && refused.contains("rollback"), "{refused}");
        assert_eq!(directory.vault("rm A@2").ok(), "A: 1 version removed\n");
        directory.vault("rm A@1 --all").fails(2);
        directory.vault("rm A --all -n").ok();
        assert_eq!(directory.vault("get A").ok(), "one");
        assert_eq!(directory.vault("rm A --all").ok(), "A: 2 versions removed\n");
        directory.vault("rm A").fails(10);
        assert_eq!(directory.vault("rm B").ok(), "B: 1 version removed\n");
        assert_eq!(directory.vault("list").ok(), "C of tenant 7\n");
    }
}

#[test]
fn what_is_no_secret_is_not_set() {
    let directory = home(STORES[0]);
    for (line, input, code) in [
        ("set A", &b""[..], 2),
        ("set A", b"\n", 2),
        ("set A", b"a\0b", 11),
        ("set A", b"\xff", 11),
        ("set a//b", b"x", 11),
        ("set A --tenant= ", b"x", 11),
        ("set A --generate=hex:8", b"", 2),
        ("set A --from-file missing", b"", 18),
    ] {
        directory.vault_with(line, input).fails(code);
    }
    assert_eq!(directory.vault("list").ok(), "");
}

#[test]
fn secrets_are_made_as_they_are_declared_or_asked_for() {
    let directory = home(STORES[0]);
    let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
    let declared = "[secrets.HEX]\ntype = \"hex\"\nbytes = 16\n[secrets.LONG]\nmin_length = 50\n[secrets.FERNET]\ntype = \"fernet-key\"\n[secrets.URL]\ntype = \"url\"\n";
    directory.write("vault.toml", format!("{config}{declared}"));
    for (line, length) in
        [("HEX --generate", 32), ("LONG --generate", 50), ("FERNET --generate", 44), ("OTHER --generate=base64:32", 44)]
    {
        directory.vault(&format!("set {line}")).ok();
        let name = line.split(' ').next().unwrap();
        assert_eq!(directory.vault(&format!("get {name}")).ok().len(), length, "{line}");
    }
    directory.vault("set URL --generate").fails(2);
    let refused = directory.vault("set HEX --generate=text:32").fails(11);
    assert!(refused.contains("declares"), "{refused}");
}

#[test]
fn a_file_is_found_before_the_store_and_that_is_told() {
    let directory = home(STORES[0]);
    directory.vault_with("set A", b"stored").ok();
    directory.write("mounted", "mounted\n");
    let words = ["get", "A", "--explain"];
    let mut command = crate::command(directory.home.path(), &words);
    let told = crate::finish(command.env("A_FILE", directory.path("mounted")), b"").ok();
    assert!(told.contains("named by A_FILE") && told.contains("shadows store"), "{told}");
    assert!(!told.contains("stored\n") && !told.contains("A: mounted"), "{told}");
    let mut command = crate::command(directory.home.path(), &["get", "A"]);
    assert_eq!(crate::finish(command.env("A_FILE", directory.path("mounted")), b"").ok(), "mounted");
}

/// The same inputs mean another secret to another program.
#[test]
fn a_preset_finds_what_its_application_would() {
    let directory = home(STORES[0]);
    directory.write("mounted", " mounted \n");
    let run = |words: &[&str], variables: &[(&str, &str)]| {
        let mut command = crate::command(directory.home.path(), words);
        crate::finish(command.envs(variables.iter().copied()), b"")
    };
    let path = directory.path("mounted").display().to_string();
    let file = [("A_FILE", path.as_str())];
    assert_eq!(run(&["get", "A"], &file).ok(), " mounted ");
    assert_eq!(run(&["get", "A", "--preset", "raqeem"], &file).ok(), "mounted");
    let both = [file[0], ("A", "variable")];
    run(&["get", "A"], &both).fails(16);
    assert_eq!(run(&["get", "A", "--preset", "raqeem"], &both).ok(), "mounted");
    assert_eq!(run(&["get", "A", "--preset", "face"], &both).ok(), "variable");
    let told = json(&run(&["get", "A", "--preset", "face", "--explain", "--json"], &both).ok());
    assert_eq!((&told["preset"], &told["source"]), (&"face".into(), &"environment A".into()));
    assert!(told["shadows"][0].as_str().unwrap().contains("named by A_FILE"), "{told}");
    let told = run(&["get", "A", "--preset", "raqeem"], &[]).fails(10);
    assert!(told.contains("error: Secret not found: A or A_FILE") && told.contains("hint: this is what"), "{told}");
    run(&["get", "A", "--preset", "python"], &file).fails(2);

    let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
    directory.write("vault.toml", format!("{config}[secrets.STATED]\ndefault = \"public\"\n"));
    let told = json(&run(&["get", "STATED", "--json"], &[]).ok());
    assert_eq!((&told["value"], &told["source"]), (&"public".into(), &"`default` in vault.toml".into()));
    assert!(told["notes"][0].as_str().unwrap().contains("no source has it"), "{told}");
}

#[test]
fn secrets_go_out_and_come_back() {
    let directory = home(STORES[0]);
    let values = [("APP/KEY", "a b\"c'd\\e"), ("DB_PASSWORD", "p@ss\nw0rd"), ("UNICODE", "é ✓ $HOME")];
    for (name, value) in values {
        directory.vault_with(&format!("set {name}"), value.as_bytes()).ok();
    }
    directory.vault("export --format json --out all.json").ok();
    directory.vault("export --format json --out all.json").fails(18);
    directory.vault("export --format dir --out all").ok();
    directory.vault("export --format dir").fails(2);
    directory.vault("export --format dir --out all").fails(23);
    for path in ["all.json", "all/db_password", "all/app/key"] {
        assert_eq!(fs::metadata(directory.path(path)).unwrap().permissions().mode() & 0o777, 0o600, "{path}");
    }
    assert_eq!(fs::read(directory.path("all/db_password")).unwrap(), b"p@ss\nw0rd");
    for source in ["all.json", "all"] {
        let other = home(STORES[1]);
        let told = other.vault(&format!("import {} --json", directory.path(source).display())).ok();
        assert_eq!(json(&told)["set"].as_array().unwrap().len(), 3);
        for (name, value) in values {
            assert_eq!(other.vault(&format!("get {name}")).ok(), value, "{source}");
        }
        let again = json(&other.vault(&format!("import {} --json", directory.path(source).display())).ok());
        assert_eq!(again["unchanged"], 3);
        assert_eq!(other.vault("list --versions").ok().lines().count(), 3);
    }
    for format in ["dotenv-python", "dotenv-node", "shell"] {
        directory.vault(&format!("export --format {format} --only DB_PASSWORD,UNICODE --out {format}.env")).ok();
        let other = home(STORES[0]);
        other.vault(&format!("import {} --format {format}", directory.path(&format!("{format}.env")).display())).ok();
        assert_eq!(other.vault("get DB_PASSWORD").ok(), "p@ss\nw0rd", "{format}");
        assert_eq!(other.vault("get UNICODE").ok(), "é ✓ $HOME", "{format}");
    }
    directory.vault_with("set LINES --raw", b"two\nlines\n").ok();
    let refused = directory.vault("export --format dir --out lines").fails(11);
    assert!(refused.contains("LINES") && !refused.contains("two"), "{refused}");
    assert!(!directory.path("lines").exists());
    directory.vault("rm LINES --all").ok();
    let refused = directory.vault("export --format docker-env").fails(11);
    assert!(refused.contains("DB_PASSWORD") && !refused.contains("w0rd"), "{refused}");
}

#[test]
fn what_cannot_be_imported_whole_is_not_imported() {
    let directory = home(STORES[0]);
    for (file, content) in [
        ("a.json", "[1]"),
        ("b.json", "{\"A\": \"x\", \"B\": 1}"),
        ("c.json", "{\"A\": \"x\", \"B\": \"\"}"),
        ("d.json", "{\"A\": \"x\", \"no name\": \"x\"}"),
        ("e.json", "{\"A\": \"marker-7"),
        ("f.env", "A=x\nthis is no assignment\n"),
        ("g.env", "A=x\nB=${A}\n"),
        ("h.json", "{\"A\": \"x\", \"A\": \"y\"}"),
        ("i.json", "{\"A\": \"x\", \"B\": \"a\\u0000b\"}"),
    ] {
        directory.write(file, content);
        let error = directory.vault(&format!("import {file}")).fails(16);
        assert!(error.contains(file) && !error.contains("marker-7"), "{error}");
    }
    assert_eq!(directory.vault("list").ok(), "");
}

/// By the rules that `set` has for one of them.
#[test]
fn a_directory_is_imported_as_its_secrets_are_declared() {
    let directory = home(STORES[0]);
    let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
    let declared = "[secrets.PEM]\ntype = \"pem-public-key\"\n[secrets.BINARY]\ntype = \"binary\"\n[secrets.HEX]\ntype = \"hex\"\n[secrets.TEXT]\n";
    directory.write("vault.toml", format!("{config}{declared}"));
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAl9fipWUqugk9Db286WMzrVoXTHF1tcpJ91jx8Z1MXMQ=\n-----END PUBLIC KEY-----\n";
    fs::create_dir(directory.path("in")).unwrap();
    for (name, content) in [("pem", pem), ("binary", "b\n"), ("hex", "ab12\n"), ("text", "t\n"), ("other", "o\0\n")] {
        directory.write(&format!("in/{name}"), content);
    }
    directory.vault("import in").ok();
    for (name, value) in [("PEM", pem), ("BINARY", "b\n"), ("HEX", "ab12"), ("TEXT", "t"), ("OTHER", "o\0\n")] {
        assert_eq!(directory.vault(&format!("get {name}")).ok(), value, "{name}");
    }
    for (name, content, code) in [("text", "t\0", 16), ("hex", "marker-7", 11)] {
        let before = fs::read(directory.path(&format!("in/{name}"))).unwrap();
        directory.write(&format!("in/{name}"), content);
        let error = directory.vault("import in").fails(code);
        assert!(error.contains(&name.to_uppercase()) && !error.contains("marker-7"), "{error}");
        directory.write(&format!("in/{name}"), before);
    }
}

#[test]
fn links_in_an_imported_directory_stay_in_it() {
    let directory = home(STORES[0]);
    for path in ["in", "in/..data_1", "in/..data_1/sub", "out"] {
        fs::create_dir(directory.path(path)).unwrap();
    }
    directory.write("in/..data_1/sub/a", "x");
    directory.write("out/b", "y");
    // As Kubernetes mounts it.
    symlink("..data_1", directory.path("in/..data")).unwrap();
    symlink("..data/sub", directory.path("in/sub")).unwrap();
    let told = json(&directory.vault("import in --json").ok());
    assert_eq!(told["set"], serde_json::json!(["SUB/A"]));
    for (target, words) in [("../out", "leaves"), (".", "already"), ("sub", "already")] {
        symlink(target, directory.path("in/link")).unwrap();
        let error = directory.vault("import in").fails(16);
        assert!(error.contains("link") && error.contains(words), "{target}: {error}");
        fs::remove_file(directory.path("in/link")).unwrap();
    }
}

#[test]
fn a_directory_that_could_not_hold_all_of_an_export_is_not_begun() {
    let directory = home(STORES[0]);
    for name in ["A", "A/B"] {
        directory.vault_with(&format!("set {name}"), b"x").ok();
    }
    let error = directory.vault("export --format dir --out all").fails(2);
    assert!(error.contains("A/B"), "{error}");
    assert!(!directory.path("all").exists());
}

#[test]
fn rotate_moves_the_store_and_says_so() {
    for store in STORES {
        let directory = home(store);
        for value in ["one", "two", "three"] {
            directory.vault_with("set A", value.as_bytes()).ok();
            directory.vault_with("set B", value.as_bytes()).ok();
        }
        let status = directory.vault("status").ok();
        assert!(status.contains("store: 6 values"), "{status}");
        let planned = directory.vault("rotate --new-key --dry-run").ok();
        assert!(planned.contains("would rewrite 6 values") && !planned.contains("fence"), "{planned}");
        directory.vault("rotate --new-key --without-backup --yes").ok();
        let verified = directory.vault("rotate verify").ok();
        assert!(verified.contains("store: 6 values opened, 0 stale, 0 failed"), "{verified}");
        assert_eq!(directory.vault("get A@1").ok(), "one");
        assert_eq!(directory.vault("get B").ok(), "three");
        let status = directory.vault("status").ok();
        assert!(status.contains("may go"), "{status}");
    }
}

#[test]
fn the_doctor_finds_what_is_wrong_and_tells_the_remedy() {
    type Break = fn(&Directory);
    fn mode(directory: &Directory, name: &str, mode: u32) {
        fs::set_permissions(directory.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let cases: [(&str, Break, i32, &str); 9] = [
        ("nothing", |_| {}, 0, "0 failures, 0 warnings"),
        ("key for all", |d| mode(d, "keys/vault_kek_1", 0o644), 0, "chmod 0400"),
        ("key written by all", |d| mode(d, "keys/vault_kek_1", 0o602), 21, "chmod o-w"),
        ("store written by all", |d| mode(d, "vault.store.toml", 0o602), 21, "chmod o-w"),
        ("configuration written by a group", |d| mode(d, "vault.toml", 0o664), 0, "chmod g-w"),
        ("directory of all", |d| mode(d, "keys", 0o777), 21, "can replace files"),
        ("no store", |d| fs::remove_file(d.path("vault.store.toml")).unwrap(), 21, "--store-only"),
        ("no key", |d| fs::remove_file(d.path("keys/vault_kek_1")).unwrap(), 21, "no key found"),
        (
            "altered store",
            |d| {
                let text = fs::read_to_string(d.path("vault.store.toml")).unwrap();
                d.write("vault.store.toml", text.replace("\"A\"", "\"B\""));
            },
            21,
            "restore it",
        ),
    ];
    for (what, damage, code, words) in cases {
        let directory = home(STORES[0]);
        directory.vault_with("set A", b"x").ok();
        damage(&directory);
        let ran = directory.vault("doctor");
        assert!(ran.code == code && ran.out.contains(words), "{what}: {ran:?}");
        let told = json(&directory.vault("doctor --json").out);
        assert_eq!(told["failures"] == 0, code == 0, "{what}");
    }
    let directory = home(STORES[0]);
    mode(&directory, "keys/vault_kek_1", 0o644);
    assert_eq!(directory.vault("doctor --require-private-files").code, 21);
}

#[test]
fn a_store_is_rotated_beside_a_stopped_application_and_never_migrated() {
    for store in STORES {
        let directory = home(store);
        directory.vault_with("set A", b"one").ok();
        directory.vault("rotate --new-key --without-backup --yes --app-stopped --retire").ok();
        assert_eq!(directory.vault("key list").ok().matches("disabled").count(), 1);
        let token = |directory: &Directory| {
            let vault = vault_core::Config::from_file(directory.path("vault.toml")).and_then(vault_core::Vault::load);
            vault.unwrap().store().unwrap().page(None, 10).unwrap().remove(0).token
        };
        let before = token(&directory);
        directory.vault("rotate run").ok();
        assert_eq!(token(&directory), before);
        directory.vault("rotate run --deep").ok();
        assert_ne!(token(&directory), before);
        assert_eq!(directory.vault("get A").ok(), "one");
        for line in [
            "migrate store --to fernet",
            "migrate store --to fernet --app-stopped",
            "reseal store --old-context tenant=x",
        ] {
            directory.vault(line).fails(23);
        }
        directory.vault("rotate verify --column store").ok();
        directory.vault("rotate verify --column store --keyring other").fails(2);
    }
}

#[test]
fn a_restored_keyring_is_refused_until_the_operator_accepts_it() {
    for store in STORES {
        let directory = home(store);
        directory.vault_with("set A", b"one").ok();
        directory.vault("rotate --new-key --without-backup --yes").ok();
        let state = fs::read(directory.path("main.keyring.toml")).unwrap();
        directory.vault("rotate --new-key --without-backup --yes").ok();
        // The state file comes from a backup; the newest key waits again.
        directory.write("main.keyring.toml", state);
        fs::remove_file(directory.path("keys").join(newest_key(&directory))).unwrap();
        for line in ["get A", "list", "rotate run", "rotate verify", "status"] {
            let refused = directory.vault(line).fails(23);
            assert!(refused.contains("--accept-rollback"), "{line}: {refused}");
        }
        directory.vault_with("set A", b"two").fails(23);
        assert!(directory.vault("doctor").out.contains("was used with generation"));
    }
    // With the material of all keys, the older state opens what it can again.
    let directory = home(STORES[1]);
    directory.vault_with("set A", b"one").ok();
    let second = directory.vault("rotate --new-key --without-backup --yes");
    assert_eq!(second.code, 0);
    let before = fs::read(directory.path("main.keyring.toml")).unwrap();
    directory.vault("key generate --out third").ok();
    directory.vault("key add third").ok();
    let added = fs::read(directory.path("main.keyring.toml")).unwrap();
    assert_ne!(before, added);
    directory.vault(&format!("key promote {} --yes", waiting(&directory))).ok();
    directory.write("main.keyring.toml", added);
    directory.vault("get A").fails(23);
    directory.vault("rotate run --accept-rollback").ok();
    assert_eq!(directory.vault("get A").ok(), "one");
}

/// The file of the key that was made last.
fn newest_key(directory: &Directory) -> String {
    let keys = fs::read_dir(directory.path("keys")).unwrap().map(|entry| entry.unwrap());
    let newest = keys.max_by_key(|entry| entry.metadata().unwrap().modified().unwrap());
    newest.unwrap().file_name().into_string().unwrap()
}

fn waiting(directory: &Directory) -> String {
    let told = json(&directory.vault("key list --json").ok());
    let keys = told["keys"].as_array().unwrap().iter();
    keys.into_iter().find(|key| key["state"] == "active").unwrap()["kid"].as_str().unwrap().to_owned()
}

/// Whatever its reader would put there.
#[test]
fn references_in_an_environment_file_are_told_expanded_or_left_out() {
    let directory = home(STORES[0]);
    directory.write("a.env", "APP_NAME=shop\nMAIL_FROM=\"${APP_NAME}\"\nTOKEN=t-1\nURL=${HOST:-h}/x\n");
    let told = directory.vault("import a.env").fails(16);
    assert!(told.contains("MAIL_FROM in line 2, URL in line 4") && told.contains("--expand"), "{told}");
    assert!(!told.contains("shop"), "{told}");
    assert_eq!(directory.vault("list").ok(), "");

    let told = directory.vault("import a.env --skip-references");
    assert!(told.err.contains("MAIL_FROM, URL"), "{told:?}");
    assert_eq!(directory.vault("list").ok(), "APP_NAME\nTOKEN\n");
    directory.vault("import a.env --expand").fails(2);
    directory.vault("import a.env --expand --format dotenv-node").fails(2);
    directory.vault("import a.env --expand --format dotenv-python").ok();
    assert_eq!(directory.vault("get MAIL_FROM").ok(), "shop");
    assert_eq!(directory.vault("get URL").ok(), "h/x");
}

#[test]
fn secrets_are_imported_from_pipes_and_standard_input() {
    let shell = |line: &str| {
        let directory = home(STORES[0]);
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", line]).env("vault", crate::binary()).current_dir(directory.home.path());
        crate::finish(&mut shell, b"A=from-a-pipe\n").ok();
        assert_eq!(directory.vault("get A").ok(), "from-a-pipe", "{line}");
    };
    shell("\"$vault\" import -");
    shell("\"$vault\" import /dev/stdin");
    shell("cat >a.env; \"$vault\" import /dev/stdin <a.env");
    shell("\"$vault\" import <(cat)");
    shell("cat >all; mkfifo pipe; cat all >pipe & \"$vault\" import pipe");
    shell("sed s/A=// | tr -d '\\n' >value; \"$vault\" set A --from-file <(cat value)");
    shell("sed s/A=// | \"$vault\" set A --from-file /dev/stdin");
}

#[test]
fn what_readers_take_in_silence_is_told_by_an_import() {
    let directory = home(STORES[0]);
    directory.write("a.env", "\u{feff}A=1st-value\nEMPTY=\nA=2nd-value\nLOG_LEVEL=info\n");
    let told = directory.vault("import a.env");
    for words in [
        "byte order mark",
        "A is there 2 times, in lines 1, 3",
        "a.env:2: EMPTY is empty",
        "LOG_LEVEL look like settings",
    ] {
        assert!(told.err.contains(words), "{words}: {told:?}");
    }
    assert_eq!(directory.vault("get A").ok(), "2nd-value");
    // The file itself stays, and is named and kept out of version control.
    assert!(told.err.contains("a.env still has the secrets in clear"), "{told:?}");
    let ignored = fs::read_to_string(directory.path(".gitignore")).unwrap();
    assert_eq!(ignored.lines().filter(|line| *line == "/a.env").count(), 1, "{ignored}");
    directory.vault("import a.env").ok();
    assert_eq!(fs::read_to_string(directory.path(".gitignore")).unwrap(), ignored);

    let directory = home(STORES[0]);
    directory.write("b.env", "TOKEN=t-1\nLOG_LEVEL=info\nPORT=80\n");
    let told = directory.vault("import b.env --only TOKEN");
    assert!(!told.err.contains("settings"), "{told:?}");
    assert_eq!(directory.vault("list").ok(), "TOKEN\n");
    directory.vault("import b.env --only NONE").fails(10);
    // On a terminal it is a question.
    let mut script = std::process::Command::new("script");
    let line = format!("{} import b.env", crate::binary().display());
    let told = crate::finish(script.args(["-qec", &line, "/dev/null"]).current_dir(directory.home.path()), b"n\n").ok();
    assert!(told.contains("LOG_LEVEL, PORT look like settings"), "{told}");
    assert_eq!(directory.vault("list").ok(), "TOKEN\n");

    directory.write("c.env", "A=1".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    let told = directory.vault("import c.env").fails(16);
    assert!(told.contains("UTF-16"), "{told}");
    let told = directory.vault("check --env-file c.env");
    assert!(told.code == 16 && told.err.contains("UTF-16"), "{told:?}");
}

/// As Docker's own guide lays them out.
#[test]
fn files_with_an_ending_are_secrets_and_what_editors_leave_is_none() {
    let directory = home(STORES[0]);
    fs::create_dir(directory.path("secrets")).unwrap();
    for (name, content) in
        [("db_password.txt", "correct horse\n"), (".gitignore", "*\n"), ("db_password.txt~", "old\n")]
    {
        directory.write(&format!("secrets/{name}"), content);
    }
    let told = directory.vault("import secrets");
    assert!(told.err.contains("secrets/db_password.txt is secret DB_PASSWORD"), "{told:?}");
    assert!(told.err.contains(".gitignore is no secret") && told.err.contains("txt~ is no secret"), "{told:?}");
    assert_eq!(directory.vault("list").ok(), "DB_PASSWORD\n");
    assert_eq!(directory.vault("get DB_PASSWORD").ok(), "correct horse");
}
