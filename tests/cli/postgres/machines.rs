//! The runbook of several machines, whose keys are mounted as the kubelet mounts a Secret: real
//! files in a directory with a time in its name, `..data` that points there, and a link for each.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::NoTls;
use vault_core::{Config, Vault};

use crate::documents::{blocks_of, part, sections};
use crate::server::{Database, bin, server};
use crate::{Directory, context, secret};

const PAGE: &str = "docs/OPERATIONS.md";
const ROWS: u64 = 60;

/// Replaces what is mounted, as the kubelet does.
fn mount(keys: &Path, at: &Path, time: &str) {
    let real = at.join(format!("..{time}"));
    fs::create_dir_all(&real).unwrap();
    for key in fs::read_dir(keys).unwrap() {
        let key = key.unwrap();
        fs::copy(key.path(), real.join(key.file_name())).unwrap();
    }
    symlink(format!("..{time}"), at.join("..data_tmp")).unwrap();
    let before = fs::read_link(at.join("..data"));
    fs::rename(at.join("..data_tmp"), at.join("..data")).unwrap();
    for key in fs::read_dir(&real).unwrap() {
        let name = key.unwrap().file_name();
        let link = at.join(&name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    if let Ok(before) = before {
        fs::remove_dir_all(at.join(before)).unwrap();
    }
}

/// A pod: it follows the states, opens every value, and writes one.
struct Pod {
    /// The generation that it wrote and read under last.
    generation: Arc<AtomicU64>,
    thread: thread::JoinHandle<u64>,
}

fn pod(place: PathBuf, database: &Database, row: u64, stop: &Arc<AtomicBool>) -> Pod {
    let (config, stop) = (server().config(&database.name), Arc::clone(stop));
    let generation = Arc::new(AtomicU64::new(0));
    let reached = Arc::clone(&generation);
    let thread = thread::spawn(move || {
        let config_of_pod = Config::from_file(place.join("vault.toml")).unwrap();
        let vault = Vault::load(config_of_pod.with_process_name(format!("pod {row}"))).unwrap();
        let mut client = config.connect(NoTls).unwrap();
        let mut rounds = 0;
        while !stop.load(Ordering::SeqCst) {
            // Between the new states and the fence, what is late is refused and the value before stays.
            vault.refresh().unwrap();
            let token = vault.seal(&context(row), secret(row).as_bytes()).unwrap().to_string();
            let _ = client.execute("UPDATE secrets SET v = $1 WHERE id = $2", &[&token, &i64::try_from(row).unwrap()]);
            for row in client.query("SELECT id, v FROM secrets", &[]).unwrap() {
                let (id, value): (i64, String) = (row.get(0), row.get(1));
                let id = u64::try_from(id).unwrap();
                let opened = vault.open(&context(id), &value.parse().unwrap()).unwrap();
                assert_eq!(opened.expose_secret(), secret(id).as_bytes());
            }
            reached.store(vault.keyring("main").unwrap().generation(), Ordering::SeqCst);
            rounds += 1;
            thread::sleep(Duration::from_millis(50));
        }
        rounds
    });
    Pod { generation, thread }
}

fn shell(block: &str, directory: &Directory, database: &Database) -> String {
    let programs = [crate::binary(), &bin("pg_restore")].map(|program| program.parent().unwrap().display().to_string());
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", block]).current_dir(directory.home.path()).env_clear();
    command.env("PATH", format!("{}:/usr/bin:/bin", programs.join(":"))).env("DATABASE_URL", database.url());
    let ran = crate::finish(&mut command, b"");
    assert_eq!(ran.code, 0, "{block}\n{}{}", ran.out, ran.err);
    ran.out + &ran.err
}

#[test]
fn the_runbook_of_several_machines_works_in_its_order() {
    let (operator, database) = (Directory::new(), Database::new());
    let page = part(PAGE, "PostgreSQL on several machines");
    let config = blocks_of(&page, "toml").remove(0);
    operator.write("vault.toml", &config);
    database.execute(
        "CREATE TABLE secrets (id bigint PRIMARY KEY, user_id bigint, name text, v text); CREATE INDEX ON secrets (left(v, 22))",
    );
    operator.write("url", database.url());
    let keys = operator.path("keys");
    let pods: Vec<PathBuf> = (1..=3).map(|pod| operator.path(&format!("pod{pod}"))).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = Vec::new();
    let mut told = Vec::new();
    for (heading, blocks) in sections(&page, "sh") {
        if heading == "A copy of the tables comes back" {
            stop.store(true, Ordering::SeqCst);
            assert!(running.drain(..).all(|pod: Pod| pod.thread.join().unwrap() > 3));
        }
        let out: String = blocks.iter().map(|block| shell(block, &operator, &database)).collect();
        if heading == "The first key" {
            let text = config.replace(
                "type = \"url\"\n",
                &format!("type = \"url\"\npath = \"{}\"\n", operator.path("url").display()),
            );
            for place in &pods {
                fs::create_dir(place).unwrap();
                fs::write(place.join("vault.toml"), &text).unwrap();
                mount(&keys, &place.join("keys"), "2026_02_03_10_00_00.1");
            }
            let vault =
                Vault::load(Config::from_file(pods[0].join("vault.toml")).unwrap().without_heartbeats()).unwrap();
            let mut client = database.connect();
            for id in 1..=ROWS {
                let token = vault.seal(&context(id), secret(id).as_bytes()).unwrap().to_string();
                let number = i64::try_from(id).unwrap();
                let statement = "INSERT INTO secrets VALUES ($1, $2, $3, $4)";
                client.execute(statement, &[&number, &(number % 7), &format!("n{id}"), &token]).unwrap();
            }
            let mut copy = Command::new(bin("pg_dump"));
            copy.args(["--format=custom", "--file"]).arg(operator.path("backup.dump")).arg(database.url());
            crate::server::run(&mut copy);
            running.extend((1..).zip(&pods).map(|(row, place)| pod(place.clone(), &database, row, &stop)));
        }
        if heading == "A new key" {
            for place in &pods {
                mount(&keys, &place.join("keys"), "2026_02_03_11_00_00.2");
            }
        }
        if heading == "Promote it" {
            // One that read the states before is not so late that it writes behind the run.
            let began = Instant::now();
            while running.iter().any(|pod| pod.generation.load(Ordering::SeqCst) < 2 && !pod.thread.is_finished()) {
                assert!(began.elapsed() < Duration::from_secs(60), "a pod does not follow");
                thread::sleep(Duration::from_millis(10));
            }
        }
        if heading == "Prove it" {
            // The next time, `vault.toml` has a line of the last one.
            blocks.iter().for_each(|block| drop(shell(block, &operator, &database)));
        }
        told.push((heading, out));
    }
    let headings: Vec<_> = told.iter().map(|(heading, _)| heading.as_str()).collect();
    let expected = [
        "The first key",
        "A new key",
        "Promote it",
        "Move the values",
        "Prove it",
        "The replaced key goes",
        "A copy of the tables comes back",
    ];
    assert_eq!(headings, expected);
    assert!(told[1].1.contains("60 rows") || told[1].1.contains("0 to rewrite"), "{}", told[1].1);
    assert!(told[3].1.contains("0 stale"), "{}", told[3].1);
    assert!(told[5].1.contains("is disabled"), "{}", told[5].1);
    assert!(told[6].1.contains("60 rewritten") && told[6].1.contains("is disabled"), "{}", told[6].1);
    assert!(fs::read_to_string(operator.path("vault.toml")).unwrap().contains("min_generation = "));
}

/// The words of units and manifests, on keys and a URL that are delivered as there.
#[test]
fn what_units_and_manifests_start_runs_on_what_they_deliver() {
    let (directory, database) = (Directory::new(), Database::new());
    database.execute(
        "CREATE TABLE secrets (id bigint PRIMARY KEY, user_id bigint, name text, v text); CREATE INDEX ON secrets (left(v, 22))",
    );
    fs::create_dir(directory.path("keys")).unwrap();
    directory.vault("key generate --out keys/vault_kek_1").ok();
    let credentials = directory.path("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("database_url"), database.url()).unwrap();
    // A directory of LoadCredential gives one credential for each file.
    fs::copy(directory.path("keys/vault_kek_1"), credentials.join("vault_kek_vault_kek_1")).unwrap();
    mount(&directory.path("keys"), &directory.path("vault-keys"), "2026_02_03_10_00_00.1");
    let page = part(PAGE, "PostgreSQL on several machines");
    let config = blocks_of(&page, "toml").remove(0);
    let unit = blocks_of(&page, "ini").into_iter().find(|unit| unit.contains("oneshot")).unwrap();
    let words = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/vault ")).unwrap();
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let of = |sources: &Path| config.replace("file:keys/", &format!("file:{}/", sources.display()));
    let run = |words: &[String], variable: &str, value: &str| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        crate::finish(crate::command(directory.home.path(), &words).env(variable, value), b"")
    };
    directory.write("vault.toml", of(&credentials));
    let by_unit = ("CREDENTIALS_DIRECTORY", credentials.display().to_string());
    run(&["init".to_owned(), "--store-only".to_owned()], by_unit.0, &by_unit.1).ok();
    assert!(run(&words, by_unit.0, &by_unit.1).ok().contains("shop.secrets: 0 rows"));

    let manifests = blocks_of(&part(PAGE, "Kubernetes"), "yaml");
    let job = manifests.iter().find(|manifest| manifest.contains("kind: Job")).unwrap();
    let words = job.lines().find_map(|line| line.trim().strip_prefix("args: ")).unwrap();
    let words: Vec<String> = serde_json::from_str(words).unwrap();
    directory.write("vault.toml", of(&directory.path("vault-keys")));
    assert!(run(&words, "DATABASE_URL", &database.url()).ok().contains("shop.secrets: 0 rows"));
}
