//! The keyring of the desktop: a real Secret Service on a bus of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Directory, Ran, finish};

const CONFIG: &str = "version = 1\n[keyring.main]\nsources = [\"keyring:app/main\"]\n[store]\nurl = \"file:store.toml\"\n\
    [secrets.X]\nkeyring = \"app/main\"\n[secrets.Y]\nkeyring = \"app/none/at/all\"\n";

/// Makes an unlocked keyring, with a password that only this test knows.
const UNLOCK: &str = "printf password | gnome-keyring-daemon --unlock --components=secrets --daemonize >/dev/null";

/// The same keyring, which nobody unlocks.
const LOCKED: &str = "gnome-keyring-daemon --start --components=secrets --daemonize >/dev/null";

fn shell(directory: &Directory) -> Command {
    let mut shell = Command::new("timeout");
    let path = format!("{}:/usr/bin:/bin", crate::binary().parent().unwrap().display());
    shell.current_dir(directory.home.path()).env_clear().env("PATH", path).env("HOME", directory.home.path());
    shell.env("XDG_RUNTIME_DIR", directory.home.path()).arg("120");
    shell
}

/// Runs a script beside a Secret Service that lives as long as the script. A service that the bus
/// itself starts may outlive both, and must not hold what the script writes to.
fn with_service(directory: &Directory, service: &str, script: &str) -> Ran {
    let script = format!("exec >out 2>err; set -eu; {service}; {script}");
    let mut shell = shell(directory);
    shell.args(["dbus-run-session", "--", "sh", "-c", &script]).stdin(Stdio::null());
    let status = shell.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    let told = |name| fs::read_to_string(directory.path(name)).unwrap_or_default();
    Ran { code: status.code().unwrap_or(-1), out: told("out"), err: told("err") }
}

fn home() -> Directory {
    let directory = Directory::new();
    directory.write("vault.toml", CONFIG);
    directory.vault("key generate --out kek").ok();
    directory.vault("key generate --out other").ok();
    directory
}

#[test]
fn a_key_in_the_keyring_opens_a_store() {
    let directory = home();
    let key = fs::read_to_string(directory.path("kek")).unwrap();
    let script = "vault key store kek --service app --account main >&2; rm kek; vault init --store-only >&2
        printf secret | vault set A >&2; vault get A; echo; vault get X; echo; vault get X --explain
        X=mine vault get X --explain; vault run --only X -- sh -c 'echo $X'; vault key list | cut -c 19-";
    let told = with_service(&directory, UNLOCK, script).ok();
    let place = "OS keyring app/main";
    let expected = format!(
        "secret\n{key}\nX: {place}\nX: environment X\n  shadows {place}\n{key}\n primary       -           -  {place}\n"
    );
    assert_eq!(told, expected);
    let told = with_service(&directory, UNLOCK, "vault doctor");
    assert!(told.out.contains("a key of keyring main comes from OS keyring app/main"), "{told:?}");
    let told = with_service(&directory, UNLOCK, "vault get Y").fails(10);
    assert!(told.contains("environment Y, OS keyring app/none/at/all) not found"), "{told}");
}

#[test]
fn what_the_keyring_holds_is_not_overwritten() {
    let directory = home();
    directory.write("vault.toml", "version = 1\n[secrets.X]\nkeyring = \"app/main\"\n");
    let (key, other) = (fs::read(directory.path("kek")).unwrap(), fs::read(directory.path("other")).unwrap());
    let present = |directory: &Directory| with_service(directory, UNLOCK, "vault get X").out.into_bytes();
    let store =
        |line: &str| with_service(&directory, UNLOCK, &format!("vault key store --service app --account main {line}"));
    store("kek -n").ok();
    assert!(present(&directory).is_empty(), "a dry run changes nothing");
    store("kek").ok();
    store("kek").ok();
    for line in ["other", "other -n"] {
        let told = store(line).fails(23);
        assert!(told.contains("OS keyring app/main holds something else") && told.contains("--replace"), "{told}");
    }
    assert_eq!(present(&directory), key);
    store("other --replace -n").ok();
    assert_eq!(present(&directory), key);
    store("other --replace").ok();
    assert_eq!(present(&directory), other);
    directory.write("no-key", "marker");
    assert!(!store("no-key --replace").fails(20).contains("marker"));
    with_service(&directory, UNLOCK, "vault key store kek --service a/b --account main").fails(2);
    with_service(&directory, UNLOCK, "vault key store kek --service a --account ''").fails(2);
}

/// No bus, no service, a locked keyring: each is an error, and nothing takes the keyring's place.
#[test]
fn a_keyring_that_does_not_answer_is_an_error() {
    let directory = home();
    with_service(&directory, UNLOCK, "vault key store kek --service app --account main").ok();
    let config = CONFIG.replace("\"keyring:app/main\"", "\"keyring:app/main\", \"file:kek\"");
    directory.write("vault.toml", config);
    for line in ["key list", "get X", "key store kek --service app --account main --replace"] {
        let told = finish(shell(&directory).arg("vault").args(line.split(' ')), b"").fails(18);
        assert!(told.starts_with("vault: error: read OS keyring app/main: "), "{told}");
        let told = with_service(&directory, LOCKED, &format!("vault {line}")).fails(18);
        assert!(told.contains("read OS keyring app/main: it is locked, and nobody unlocks it"), "{told}");
    }
    let mut dead = shell(&directory);
    dead.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/bus");
    finish(dead.args(["vault", "key", "list"]), b"").fails(18);
    assert!(Path::new(&directory.path("kek")).exists());
}
