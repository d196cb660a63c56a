//! A marker secret and a real key go through commands that fail; neither is ever told.

use std::fs;

use base64::Engine as _;

use crate::{App, Directory, TOKENS};

const SECRET: &str = "MARKER-secret-that-nobody-may-see-0123456789";

#[test]
fn no_failing_command_shows_a_key_or_a_secret() {
    let app = App::new(TOKENS, 5);
    let key = fs::read_to_string(app.directory.path("kek_1")).unwrap();
    app.connect().execute("UPDATE secrets SET v = ?1 WHERE id = 2", [SECRET]).unwrap();
    app.directory.write("marker", SECRET);
    app.directory.write("half", &key[..40]);
    app.directory.write("twice", format!("{key}{key}"));
    app.directory.write("assigned", format!("KEY={key}"));
    app.directory.write("broken.toml", format!("version = \"{SECRET}\""));
    app.directory.write("unknown.toml", format!("version = 1\n[secrets.X]\nvalue = \"{SECRET}\""));
    let new = app.add("main");
    app.directory.vault(&format!("key promote {new} --yes")).ok();

    let lines = [
        "open --key-file kek_1 --tenant 1".to_owned(),
        "open --key-file marker --tenant 1".to_owned(),
        "open --key-file half --tenant 1".to_owned(),
        "open --key-file twice --tenant 1".to_owned(),
        "seal --key-file assigned --tenant 1".to_owned(),
        "seal --format flowfile-v1 --key-file marker --tenant 1".to_owned(),
        "open --format fernet --key-file kek_1".to_owned(),
        "open --format face-json-double --key-file marker".to_owned(),
        "open --format social-v1 --key-file marker".to_owned(),
        "inspect".to_owned(),
        "open --lines --key-file kek_1 --tenant 1".to_owned(),
        "key add marker".to_owned(),
        "key add half".to_owned(),
        "--config broken.toml status".to_owned(),
        "--config unknown.toml status".to_owned(),
        "rotate run".to_owned(),
        "rotate verify".to_owned(),
        "rotate run --keyring text".to_owned(),
        format!("key disable {new} --yes"),
        "migrate app.secrets --to vs1".to_owned(),
        "reseal app.secrets --old-context tenant=x".to_owned(),
    ];
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut seen = 0;
    for line in lines.iter().flat_map(|line| [line.clone(), format!("{line} --json")]) {
        let ran = app.directory.vault_with(&line, SECRET.as_bytes());
        let told = format!("{}{}", ran.out, ran.err);
        seen += usize::from(ran.code != 0);
        for marker in [SECRET, key.as_str(), &key[..40]] {
            let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(marker);
            for form in [marker.to_owned(), hex(marker), base64[..base64.len() - 2].to_owned()] {
                assert!(!told.contains(&form), "{line}: {told}");
            }
        }
    }
    assert!(seen >= 36, "{seen} commands failed");
}

/// Messages are one line, begin small and end without a full stop.
#[test]
fn messages_are_for_people() {
    let app = App::new(TOKENS, 1);
    for line in [
        "key promote kaaaaaaaaaaaaaaaa",
        "open --key-file nowhere --tenant 1",
        "rotate --keyring nope",
        "key generate --out /nowhere/x",
    ] {
        let told = app.directory.vault(line).err;
        let first = told.lines().next().unwrap();
        let message = first.strip_prefix("vault: error: ").unwrap_or_else(|| panic!("{told}"));
        assert!(!message.ends_with('.') && !message.starts_with(char::is_uppercase), "{message}");
    }
}

/// No flag takes a key or a secret: what is typed is seen by every process of the machine.
#[test]
fn no_argument_is_a_secret() {
    let directory = Directory::new();
    let mut pages = String::new();
    for line in [
        "seal",
        "open",
        "inspect",
        "status",
        "key",
        "key generate",
        "key add",
        "key promote",
        "rotate",
        "rotate run",
        "migrate",
        "reseal",
        "run",
        "swarm plan",
        "swarm apply",
        "demo",
    ] {
        pages += &directory.vault(&format!("{line} --help")).ok();
    }
    for word in ["--key ", "--secret", "--password", "--value ", "--token", "--plaintext", "--insecure"] {
        assert!(!pages.contains(word), "{word}");
    }
    for value in ["<SECRET>", "<KEY>", "<VALUE>", "<PASSWORD>"] {
        assert!(!pages.contains(value), "{value}");
    }
}

/// A value that stands where none belongs reaches a terminal, and the log of whatever ran this.
#[test]
fn no_usage_error_repeats_a_word() {
    let directory = Directory::new();
    for line in [
        "set NAME Canary4Zq",
        "set NAME --generate=Canary4Zq",
        "get NAME --preset Canary4Zq",
        "get NAME --preset=Canary4Zq",
        "seal Canary4Zq",
        "Canary4Zq",
        "key Canary4Zq",
        "check Canary4Zq",
        "swarm plan --uid Canary4Zq",
        "list --json=Canary4Zq",
    ] {
        let told = directory.vault(line).fails(2);
        assert!(!told.contains("anary"), "{line}: {told}");
    }
    // A mistyped option is told.
    assert!(directory.vault("set NAME --genrate").fails(2).contains("--genrate"));
}
