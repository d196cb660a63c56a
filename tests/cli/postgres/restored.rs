//! An older copy of a whole database comes back: values, states of the keys, and pins.

use std::fs;
use std::path::Path;
use std::process::Command;

use vault_core::{Config, Vault};

use crate::server::{bin, run};
use crate::{context, secret};

use super::Service;

/// With the states in the database, and values that were sealed under them.
fn deployment() -> Service {
    let service = Service::new(0);
    let text = fs::read_to_string(service.directory.path("vault.toml")).unwrap();
    service.directory.write("vault.toml", text.replace("state = \"main.keyring.toml\"", "state = \"store\""));
    service.directory.vault("init --store-only").ok();
    service.directory.vault_with("set API_KEY", b"first").ok();
    service
}

fn fill(service: &Service, from: u64, to: u64) {
    let vault = Vault::load(Config::from_file(service.directory.path("vault.toml")).unwrap()).unwrap();
    let mut client = service.database.connect();
    for id in from..=to {
        let token = vault.seal(&context(id), secret(id).as_bytes()).unwrap().to_string();
        let (number, tenant) = (i64::try_from(id).unwrap(), i64::try_from(id % 7).unwrap());
        let statement = "INSERT INTO secrets VALUES ($1, $2, $3, $4)";
        client.execute(statement, &[&number, &tenant, &format!("n{id}"), &token]).unwrap();
    }
}

fn dump(service: &Service, file: &Path) {
    run(Command::new(bin("pg_dump")).args(["--clean", "--if-exists", "--file"]).arg(file).arg(service.database.url()));
}

fn restore(service: &Service, file: &Path) {
    // What the dump does not know is gone, too.
    service.database.execute("DROP SCHEMA vault_core CASCADE; DROP TABLE secrets");
    run(Command::new(bin("psql"))
        .args(["--quiet", "--set=ON_ERROR_STOP=1", "--file"])
        .arg(file)
        .arg(service.database.url()));
}

fn generation(service: &Service) -> u64 {
    let told: serde_json::Value = serde_json::from_str(&service.directory.vault("key list --json").ok()).unwrap();
    told["generation"].as_u64().unwrap()
}

fn demand(service: &Service, least: Option<u64>) {
    let text = fs::read_to_string(service.directory.path("vault.toml")).unwrap();
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("min_generation")).collect();
    let line = least.map(|least| format!("min_generation = {least}"));
    if let Some(line) = &line {
        let at = lines.iter().position(|line| line.starts_with("state = ")).unwrap();
        lines.insert(at, line);
    }
    service.directory.write("vault.toml", lines.join("\n") + "\n");
}

#[test]
fn a_database_from_before_a_rotation_is_refused_by_every_command() {
    let service = deployment();
    fill(&service, 1, 30);
    service.directory.vault("key generate --out new").ok();
    service.directory.vault("key add new --label 2").ok();
    let (old, new) = (service.key("primary"), service.key("active"));
    let file = service.directory.path("older.sql");
    dump(&service, &file);
    service.directory.vault(&format!("key promote {new} --yes")).ok();
    service.directory.vault("rotate run").ok();
    service.directory.vault("rotate fence").ok();
    service.directory.vault("rotate verify").ok();
    service.directory.vault(&format!("key disable {old} --yes")).ok();
    let present = generation(&service);
    demand(&service, Some(present));
    service.directory.vault("status").ok();

    restore(&service, &file);
    let lines = [
        "status",
        "get API_KEY",
        "list",
        "key list",
        "rotate plan",
        "rotate run",
        "rotate --yes",
        "rotate verify",
        "rotate fence",
        "rotate status",
        "migrate app.secrets --to vs1",
    ];
    for line in lines {
        let told = service.directory.vault(line).fails(23);
        assert!(told.contains(&format!("min_generation asks for at least {present}")), "{line}: {told}");
    }
    for line in [format!("key promote {new} --yes"), format!("key disable {new} --yes"), "set API_KEY".to_owned()] {
        let told = service.directory.vault_with(&line, b"second").fails(23);
        assert!(told.contains("min_generation asks for"), "{line}: {told}");
    }

    // Meant, and said so: the states are those of the copy, and the rotation is done once more.
    demand(&service, None);
    assert_eq!((service.key("primary"), service.key("active")), (old.clone(), new.clone()));
    service.all_open();
    assert_eq!(service.directory.vault("get API_KEY").ok(), "first");
    service.directory.vault(&format!("key promote {new} --yes")).ok();
    service.directory.vault("rotate run").ok();
    service.directory.vault("rotate fence").ok();
    service.directory.vault("rotate verify").ok();
    service.directory.vault(&format!("key disable {old} --yes")).ok();
    demand(&service, Some(generation(&service)));
    assert_eq!(service.moved(&new), 30);
    service.all_open();
}

/// Without `min_generation`, a copy from before the new key was added is noticed by that key alone;
/// one from after it is not.
#[test]
fn without_a_least_generation_only_a_key_that_the_copy_does_not_know_is_noticed() {
    let service = deployment();
    service.directory.vault("key generate --out first").ok();
    service.directory.vault("key add first --label 0").ok();
    let first = service.key("active");
    service.directory.vault(&format!("key promote {first} --yes")).ok();
    fill(&service, 1, 10);
    let before = service.directory.path("before.sql");
    dump(&service, &before);
    service.directory.vault("key generate --out new").ok();
    service.directory.vault("key add new --label 2").ok();
    let (old, new) = (service.key("primary"), service.key("active"));
    let after = service.directory.path("after.sql");
    dump(&service, &after);
    service.directory.vault(&format!("key promote {new} --yes")).ok();
    service.directory.vault("rotate run").ok();
    service.directory.vault("rotate verify").ok();

    restore(&service, &before);
    let told = service.directory.vault("status").fails(23);
    assert!(told.contains(&format!("the key {new} was found")) && told.contains("does not list it"), "{told}");
    restore(&service, &after);
    service.directory.vault("status").fails(14);
    assert_eq!(service.key("primary"), old, "values are sealed under the key that was replaced");
    service.all_open();
}
