//! `swarm`, with a client that keeps secrets and services in files and records what it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::{Directory, Ran};

/// Answers the lists, keeps what is created, and writes down arguments and standard input.
const CLIENT: &str = r#"#!/bin/bash
printf '%s\n' "$*" >>calls
[ ! -e broken ] || { echo "Error response from daemon: rpc error: it is broken" >&2; exit 1; }
case "$1 $2" in
"secret ls") cat secrets 2>/dev/null ;;
"secret create")
    labels=
    [ "$3" != --label ] || { labels=$4; shift 2; }
    cat >"stdin-$3"
    printf '{"Name":"%s","Labels":"owner=ops,%s"}\n' "$3" "$labels" >>secrets ;;
"service ls") for service in service-*; do printf '{"Name":"%s"}\n' "${service#service-}"; done ;;
"service inspect") cat "service-$5" 2>/dev/null || { echo "Error: no such service: $5" >&2; exit 1; } ;;
"secret rm") sed -i "/\"$3\"/d" secrets ;;
esac
exit 0
"#;

const VALUE: &str = "pa$$w `x` 'é' \"\\\n-n";

struct Swarm {
    directory: Directory,
}

impl Swarm {
    fn new() -> Self {
        let directory = crate::store::home("file:vault.store.toml");
        let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
        let config = config.replace("[vault]", "[vault]\napp = \"shop\"");
        directory.write(
            "vault.toml",
            format!("{config}\n[secrets.DB_PASSWORD]\n[secrets.\"api/TOKEN\"]\n[secrets.OPTIONAL]\nrequired = false\n"),
        );
        directory.write("docker", CLIENT);
        fs::set_permissions(directory.path("docker"), fs::Permissions::from_mode(0o755)).unwrap();
        let swarm = Self { directory };
        swarm.set("DB_PASSWORD", VALUE);
        swarm.set("api/TOKEN", "token-1");
        swarm
    }

    fn set(&self, name: &str, value: &str) {
        self.directory.vault_with(&format!("set --raw {name}"), value.as_bytes()).ok();
    }

    /// A service that mounts secrets: the name in Swarm, the file, user and mode.
    fn service(&self, name: &str, mounts: &[(&str, &str, &str, u32)]) {
        let mounts: Vec<_> = mounts
            .iter()
            .map(|(name, target, uid, mode)| {
                json!({ "File": { "Name": target, "UID": uid, "GID": "0", "Mode": mode }, "SecretID": "x", "SecretName": name })
            })
            .collect();
        self.directory.write(&format!("service-{name}"), format!("{}\n", json!(mounts)));
    }

    fn run(&self, line: &str) -> Ran {
        self.directory.vault(&format!("swarm {line} --docker ./docker"))
    }

    /// What the client was told to change since it was asked last.
    fn changes(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.directory.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.directory.path("calls"));
        let changes = calls
            .lines()
            .filter(|call| !["secret ls", "service ls", "service inspect"].iter().any(|read| call.starts_with(read)));
        changes.map(without_label).collect()
    }

    fn stdin(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path(&format!("stdin-{name}"))).unwrap()
    }
}

/// A command without its sealed digest, which differs each time.
fn without_label(call: &str) -> String {
    let words = call.split(' ').filter(|word| *word != "--label" && !word.starts_with("vault.digest=vs1."));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn values_go_in_exactly_and_only_through_standard_input() {
    let swarm = Swarm::new();
    swarm.run("apply --yes --log log").ok();
    let calls = fs::read_to_string(swarm.directory.path("calls")).unwrap();
    let log = fs::read_to_string(swarm.directory.path("log")).unwrap();
    for told in [&calls, &log] {
        assert!(!told.contains("pa$$w") && !told.contains("token-1"), "{told}");
    }
    assert_eq!(swarm.changes(), ["secret create shop_db_password_v1 -", "secret create shop_api_token_v1 -"]);
    assert_eq!(swarm.stdin("shop_db_password_v1"), VALUE);
    assert_eq!(swarm.stdin("shop_api_token_v1"), "token-1", "and no line break");

    let log: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(log.len(), 2);
    assert_eq!(
        (&log[0]["action"], &log[0]["secret"], &log[0]["name"], &log[0]["stack"]),
        (&json!("create"), &json!("DB_PASSWORD"), &json!("shop_db_password_v1"), &json!("shop"))
    );
    assert!(log[0]["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(fs::metadata(swarm.directory.path("log")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_number_has_a_next_one_or_is_refused() {
    let swarm = Swarm::new();
    let last = format!("{{\"Name\":\"shop_db_password_v{}\",\"Labels\":\"\"}}\n", u64::MAX);
    swarm.directory.write("secrets", last);
    let told = swarm.run("apply --yes").fails(2);
    assert!(told.contains("shop_db_password_v has no further number"), "{told}");
    assert!(swarm.changes().is_empty());
}

#[test]
fn what_is_unchanged_is_not_created_again() {
    let swarm = Swarm::new();
    swarm.run("apply --yes --log log").ok();
    swarm.changes();
    assert_eq!(swarm.run("apply").ok(), "nothing to do\n", "and nobody is asked");
    assert!(swarm.changes().is_empty());

    swarm.set("api/TOKEN", "token-2");
    swarm.run("apply --yes --log log").ok();
    assert_eq!(swarm.changes(), ["secret create shop_api_token_v2 -"]);
    assert_eq!(fs::read_to_string(swarm.directory.path("log")).unwrap().lines().count(), 3);
    // To set the same again makes no new version here; --force does.
    swarm.set("api/TOKEN", "token-2");
    assert_eq!(swarm.run("apply --yes").ok(), "nothing to do\n");
    swarm.run("apply --yes --force --only api/TOKEN").ok();
    assert_eq!(swarm.changes(), ["secret create shop_api_token_v3 -"]);
}

/// A label is sealed for the name that it stands at: moved to another, it tells nothing.
#[test]
fn a_label_that_was_moved_is_not_believed() {
    let swarm = Swarm::new();
    swarm.run("apply --yes").ok();
    swarm.changes();
    let secrets = fs::read_to_string(swarm.directory.path("secrets")).unwrap();
    swarm.directory.write("secrets", secrets.replace("shop_api_token_v1", "shop_api_token_v7"));
    swarm.run("apply --yes").ok();
    assert_eq!(swarm.changes(), ["secret create shop_api_token_v8 -"]);
}

#[test]
fn a_plan_is_what_apply_does_and_can_be_typed() {
    let swarm = Swarm::new();
    swarm.service("web", &[("shop_db_password_v1", "db_password", "0", 0o444)]);
    swarm.directory.write("secrets", "{\"Name\":\"shop_db_password_v1\",\"Labels\":\"\"}\n");
    let planned = swarm.run("plan --service web --prune 0").ok();
    assert!(swarm.changes().is_empty());
    assert_eq!(swarm.run("apply -n --service web --prune 0").ok().lines().count(), planned.lines().count());
    let lines: Vec<_> = planned.lines().map(without_label).collect();
    assert_eq!(
        lines,
        [
            "vault get DB_PASSWORD | ./docker secret create shop_db_password_v2 -",
            "vault get api/TOKEN | ./docker secret create shop_api_token_v1 -",
            "./docker service update --secret-rm shop_db_password_v1 --secret-add source=shop_db_password_v2,target=db_password,mode=0444 web",
            "./docker secret rm shop_db_password_v1",
        ]
    );
    // Typed, they leave what apply leaves.
    let path = format!("{}:/usr/bin:/bin", crate::binary().parent().unwrap().display());
    let mut shell = std::process::Command::new("bash");
    shell
        .args(["-euo", "pipefail", "-c", &planned])
        .current_dir(swarm.directory.home.path())
        .env_clear()
        .env("PATH", path);
    assert_eq!(crate::finish(&mut shell, b"").code, 0);
    assert_eq!(swarm.stdin("shop_db_password_v2"), VALUE);
    swarm.changes();
    swarm.service("web", &[("shop_db_password_v2", "db_password", "0", 0o444)]);
    assert_eq!(swarm.run("apply --yes --service web").ok(), "nothing to do\n");
}

#[test]
fn a_service_gets_newer_versions_of_what_it_mounts() {
    let swarm = Swarm::new();
    // As another tool had created them, and under a file name of the service's own.
    swarm.service("old", &[("db_password_1699", "db_password", "1000", 0o444)]);
    swarm.service("own", &[("shop_api_token_v1", "TOKEN", "0", 0o400), ("other_v1", "other", "0", 0o444)]);
    swarm.service("none", &[]);
    swarm.run("apply --yes --log log --service old --service own --service none").ok();
    let changes = swarm.changes();
    assert_eq!(
        changes[2..],
        [
            "service update --secret-rm db_password_1699 --secret-add source=shop_db_password_v1,target=db_password,mode=0444,uid=1000 old"
        ],
        "what is current stays, and nothing is given that was not mounted"
    );
    let log = fs::read_to_string(swarm.directory.path("log")).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["action"], &last["service"], &last["replaces"]),
        (&json!("update"), &json!("old"), &json!("db_password_1699"))
    );

    swarm.set("api/TOKEN", "token-2");
    swarm.run("apply --yes --service own --service none --only api/TOKEN --uid 1001").ok();
    assert_eq!(
        swarm.changes(),
        [
            "secret create shop_api_token_v2 -",
            "service update --secret-rm shop_api_token_v1 --secret-add source=shop_api_token_v2,target=TOKEN,mode=0400,uid=1001 own",
            "service update --secret-add source=shop_api_token_v2,target=api/token,mode=0400,uid=1001 none",
        ]
    );
}

#[test]
fn old_versions_stay_until_they_are_pruned() {
    let swarm = Swarm::new();
    for token in ["token-1", "token-2", "token-3", "token-4"] {
        swarm.set("api/TOKEN", token);
        swarm.run("apply --yes --only api/TOKEN").ok();
    }
    swarm.changes();
    swarm.service("late", &[("shop_api_token_v1", "api/token", "0", 0o400)]);
    let ran = swarm.run("apply --yes --only api/TOKEN --prune 1");
    assert!(ran.err.contains("shop_api_token_v1 stays: a service mounts it"), "{ran:?}");
    assert_eq!(swarm.changes(), ["secret rm shop_api_token_v2"]);
    swarm.run("apply --yes --only api/TOKEN --prune 0 --service late").ok();
    assert_eq!(
        swarm.changes(),
        [
            "service update --secret-rm shop_api_token_v1 --secret-add source=shop_api_token_v4,target=api/token,mode=0400 late",
            "secret rm shop_api_token_v3",
            "secret rm shop_api_token_v1",
        ]
    );
}

#[test]
fn what_cannot_be_done_is_told_before_anything_is_changed() {
    let swarm = Swarm::new();
    assert!(swarm.run("apply").fails(23).contains("add --yes"));
    swarm.run("apply --yes --only NOPE").fails(10);
    swarm.run("apply --yes --stack two/words").fails(2);
    assert!(swarm.run(&format!("apply --yes --stack {}", "s".repeat(60))).fails(2).contains("64 characters"));
    assert!(swarm.run("apply --yes --service gone").fails(1).contains("no such service: gone"));
    assert!(swarm.run("apply --yes --log nowhere/log").fails(18).contains("nowhere/log"));
    assert!(swarm.directory.vault("swarm plan --docker ./nothing").fails(18).contains("run ./nothing"));
    swarm.set("api/TOKEN", &"x".repeat(600_000));
    assert!(swarm.run("apply --yes").fails(11).contains("512000 bytes"));
    assert!(swarm.changes().is_empty());

    swarm.directory.vault("rm api/TOKEN --all").ok();
    swarm.run("apply --yes").fails(10);
    swarm.directory.write("broken", "");
    let told = swarm.run("apply --yes --only DB_PASSWORD").fails(1);
    assert!(told.contains("docker secret ls failed: Error response from daemon: rpc error: it is broken"), "{told}");
}

/// Tasks before and after an update would not open what the others write.
#[test]
fn a_key_is_never_put_in_the_place_of_another() {
    let swarm = Swarm::new();
    let config = fs::read_to_string(swarm.directory.path("vault.toml")).unwrap();
    let config = format!("{config}[secrets.MASTER]\n[keyring.text]\nkind = \"text\"\nsources = [\"secret:MASTER\"]\n");
    swarm.directory.write("vault.toml", config);
    let environment = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let mut command = crate::command(swarm.directory.home.path(), &words);
        crate::finish(command.env("MASTER", "3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB8="), b"")
    };
    let told = environment("swarm apply --yes --docker ./docker");
    assert!(told.err.contains("MASTER is a key and is left out"), "{told:?}");
    assert_eq!(swarm.changes().len(), 2);
    environment("swarm apply --yes --docker ./docker --only MASTER").fails(23);
}
