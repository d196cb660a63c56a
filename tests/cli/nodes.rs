//! States in the database of a store, and processes that say what they have read of them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use vault_core::{Config, KeyId, Vault};

use crate::server::{Database, role};
use crate::{Directory, context, secret, until};

/// A process of the application: it reads the states again and again, opens every value, and writes.
struct Node {
    stop: Arc<AtomicBool>,
    /// The generation that it read last.
    generation: Arc<AtomicU64>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Node {
    /// One that has told of itself when this returns.
    fn start(place: PathBuf, row: u64) -> Self {
        let (stop, generation, rounds) = (Arc::default(), Arc::default(), Arc::default());
        let (stopped, seen, counted): (Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>) =
            (Arc::clone(&stop), Arc::clone(&generation), Arc::clone(&rounds));
        let thread = thread::spawn(move || {
            let config = Config::from_file(place.join("vault.toml")).unwrap();
            let vault = Vault::load(config.with_process_name(format!("process of row {row}"))).unwrap();
            let connection = Connection::open(place.join("app.db")).unwrap();
            connection.busy_timeout(Duration::from_secs(20)).unwrap();
            while !stopped.load(Ordering::SeqCst) {
                vault.refresh().unwrap();
                seen.store(vault.keyring("main").unwrap().generation(), Ordering::SeqCst);
                let token = vault.seal(&context(row), secret(row).as_bytes()).unwrap().to_string();
                // Behind a fence, the value of the process that is late stays the one before.
                let _ = connection.execute("UPDATE secrets SET v = ?1 WHERE id = ?2", params![token, row]);
                let mut all = connection.prepare("SELECT id, v FROM secrets").unwrap();
                let all: Vec<(u64, String)> =
                    all.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap();
                for (id, value) in all {
                    let opened = match vault.open(&context(id), &value.parse().unwrap()) {
                        Ok(opened) => opened,
                        Err(error) => panic!("node {row}, value {id}: {error}"),
                    };
                    assert_eq!(opened.expose_secret(), secret(id).as_bytes());
                }
                counted.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let node = Self { stop, generation, rounds, thread };
        node.goes_on();
        node
    }

    /// Waits until it has gone through another round.
    fn goes_on(&self) {
        let before = self.rounds.load(Ordering::SeqCst);
        until("a node does not go on", || self.thread.is_finished() || self.rounds.load(Ordering::SeqCst) > before + 1);
    }

    fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

fn deployment(store: &str) -> Directory {
    let directory = Directory::new();
    directory.write(
        "vault.toml",
        format!(
            "version = 1\n[vault]\nnodes = 3\n[keyring.main]\nsources = [\"file:keys/kek_*\"]\nstate = \"store\"\n\
             [store]\nurl = \"{store}\"\n\
             [[column]]\nname = \"app.secrets\"\ndatabase = \"sqlite:app.db\"\ntable = \"secrets\"\nrow = [\"id\"]\nvalue = \"v\"\n\
             reads = [\"vs1\"]\nwrites = \"vs1\"\nlinked = true\n\
             context = {{ tenant = \"{{user_id}}\", name = \"{{name}}\", purpose = \"user-secret\" }}\n"
        ),
    );
    fs::create_dir(directory.path("keys")).unwrap();
    directory.vault("key generate --out keys/kek_1").ok();
    directory.vault("init --store-only").ok();
    let vault = Vault::load(Config::from_file(directory.path("vault.toml")).unwrap().without_heartbeats()).unwrap();
    let connection = Connection::open(directory.path("app.db")).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE secrets (id INTEGER PRIMARY KEY, user_id INTEGER, name TEXT, v TEXT)")
        .unwrap();
    for id in 1..=60_u64 {
        let token = vault.seal(&context(id), secret(id).as_bytes()).unwrap().to_string();
        connection
            .execute("INSERT INTO secrets VALUES (?1, ?2, ?3, ?4)", params![id, id % 7, format!("n{id}"), token])
            .unwrap();
    }
    directory
}

fn kid(directory: &Directory, state: &str) -> KeyId {
    let told = directory.vault("key list").ok();
    let line = told.lines().find(|line| line.contains(state)).unwrap_or_else(|| panic!("{state}: {told}"));
    KeyId::parse(line.split_whitespace().find(|word| word.len() == 17 && word.starts_with('k')).unwrap()).unwrap()
}

/// A rotation with three processes that never stop, none of which is asked about.
fn rotates_under_three_nodes(store: &str) {
    let directory = deployment(store);
    let start = |row| Node::start(directory.path(""), row);
    let mut nodes = vec![start(1), start(2)];
    directory.vault("key generate --out next").ok();
    directory.vault("key add next --label 2").ok();
    nodes.iter().for_each(Node::goes_on);
    assert!(!directory.path("main.keyring.toml").exists());
    let (old, new) = (kid(&directory, "primary"), kid(&directory, "active"));

    let told = directory.vault(&format!("key promote {new} --yes --wait 5")).fails(75);
    assert!(told.contains("2 of 3 processes say that they can follow"), "{told}");
    assert_eq!(kid(&directory, "primary"), old);
    nodes.push(start(3));
    directory.vault(&format!("key promote {new} --yes --wait 30")).ok();
    until("a promotion that nobody restarts for is not seen", || {
        nodes.iter().all(|node| node.generation.load(Ordering::SeqCst) >= 2)
    });
    directory.vault("rotate run").ok();
    directory.vault("rotate fence").ok();
    directory.vault("rotate verify").ok();

    // Who is silent may still hold the old states.
    nodes.pop().unwrap().stop();
    let told = directory.vault(&format!("key disable {old} --yes --wait 5")).fails(75);
    assert!(told.contains("2 of 3") && told.contains("silent: "), "{told}");
    nodes.push(start(3));
    directory.vault(&format!("key disable {old} --yes --wait 30")).ok();
    assert_eq!(kid(&directory, "disabled"), old);
    nodes.iter().for_each(Node::goes_on);
    nodes.into_iter().for_each(Node::stop);
}

#[test]
fn states_in_sqlite_are_seen_by_every_process() {
    rotates_under_three_nodes("sqlite:vault.db");
}

#[test]
fn states_in_postgresql_are_seen_by_every_process() {
    let database = Database::new();
    rotates_under_three_nodes(&database.url());
}

/// Two vaults of one process are not two processes.
#[test]
fn a_process_with_several_vaults_counts_once() {
    let directory = deployment("sqlite:vault.db");
    directory.vault("key generate --out next").ok();
    directory.vault("key add next").ok();
    let new = kid(&directory, "active");
    let done = AtomicBool::new(false);
    let told = thread::scope(|scope| {
        scope.spawn(|| {
            let load = || Vault::load(Config::from_file(directory.path("vault.toml")).unwrap()).unwrap();
            let mut vaults = [load(), load(), load()];
            while !done.load(Ordering::SeqCst) {
                vaults.iter_mut().for_each(|vault| vault.refresh().unwrap());
                thread::sleep(Duration::from_millis(20));
            }
        });
        let told = directory.vault(&format!("key promote {new} --yes --wait 2"));
        done.store(true, Ordering::SeqCst);
        told
    });
    assert!(told.fails(75).contains("1 of 3 processes say that they can follow"));
}

/// One that tells, ends, and is replaced by another one that tells: at no moment there are three.
#[test]
fn a_process_and_its_successor_count_once() {
    let directory = deployment("sqlite:vault.db");
    directory.vault("key generate --out next").ok();
    directory.vault("key add next").ok();
    let new = kid(&directory, "active");
    let done = AtomicBool::new(false);
    let load = |name: &str| {
        let config = Config::from_file(directory.path("vault.toml")).unwrap();
        Vault::load(config.with_process_name(name)).unwrap()
    };
    let told = thread::scope(|scope| {
        let (load, done) = (&load, &done);
        scope.spawn(move || {
            let (mut other, mut first) = (load("other"), Some(load("first")));
            let mut successor = None;
            let start = Instant::now();
            while !done.load(Ordering::SeqCst) {
                if start.elapsed() > Duration::from_secs(2) && first.take().is_some() {
                    successor = Some(load("successor"));
                }
                for vault in [Some(&mut other), first.as_mut(), successor.as_mut()].into_iter().flatten() {
                    vault.refresh().unwrap();
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        let told = directory.vault(&format!("key promote {new} --yes --wait 6"));
        done.store(true, Ordering::SeqCst);
        told
    });
    assert!(told.fails(75).contains("2 of 3 processes say that they can follow"));
    assert_eq!(kid(&directory, "active"), new);
}

/// A password that changes is found in its secret by processes that run, and each keeps one connection.
#[test]
fn a_process_follows_a_url_that_changes_and_connects_once() {
    let database = Database::new();
    let directory = deployment(&database.url());
    let text = fs::read_to_string(directory.path("vault.toml")).unwrap();
    let secret = "[secrets.DATABASE_URL]\ntype = \"url\"\npath = \"url\"\n";
    directory.write("vault.toml", text.replace(&database.url(), "secret:DATABASE_URL") + secret);
    role("first_app", "SUPERUSER");
    role("second_app", "SUPERUSER");
    let sessions = |role: &str| -> i64 {
        let sql =
            format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND datname = current_database()");
        database.connect().query_one(&sql, &[]).unwrap().get(0)
    };
    directory.write("url", database.url_as("first_app"));
    let vault = Vault::load(Config::from_file(directory.path("vault.toml")).unwrap()).unwrap();
    let process = "SELECT pid FROM pg_stat_activity WHERE usename = 'first_app' AND datname = current_database()";
    let connected: i32 = database.connect().query_one(process, &[]).unwrap().get(0);
    for _ in 0..5 {
        vault.refresh().unwrap();
        assert!(vault.secret("API_KEY").is_err());
    }
    assert_eq!(database.connect().query_one(process, &[]).unwrap().get::<_, i32>(0), connected);
    directory.write("url", database.url_as("second_app"));
    vault.refresh().unwrap();
    let told = vault.heartbeats("main").unwrap();
    assert_eq!((told.len(), told[0].beats), (1, 7));
    assert!(vault.secret("API_KEY").is_err());
    assert_eq!(sessions("second_app"), 1);
    // A session ends a moment after its connection.
    until("a session outlives its connection", || sessions("first_app") == 0);
}

/// The privileges that docs/OPERATIONS.md grants an application are enough to follow, and not to change.
#[test]
fn a_process_follows_with_what_it_is_granted() {
    let database = Database::new();
    let directory = deployment(&database.url());
    directory.vault("key generate --out next").ok();
    directory.vault("key add next").ok();
    role("app", "");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
    let page = fs::read_to_string(page).unwrap();
    let grants =
        page.split("```sql\n").filter_map(|block| block.split("```").next()).find(|block| block.contains("TO app;"));
    grants.unwrap().split_inclusive(";\n").for_each(|statement| database.execute(statement));
    let text = fs::read_to_string(directory.path("vault.toml")).unwrap();
    directory.write("vault.toml", text.replace(&database.url(), &database.url_as("app")));
    let vault = Vault::load(Config::from_file(directory.path("vault.toml")).unwrap()).unwrap();
    vault.refresh().unwrap();
    let told = vault.heartbeats("main").unwrap();
    assert_eq!((told.len(), told[0].beats, told[0].kids.len(), told[0].generation), (1, 2, 2, 1), "{told:?}");
    let new = kid(&directory, "active");
    directory.vault(&format!("key promote {new} --yes --all-nodes-loaded")).fails(19);
    assert_eq!(kid(&directory, "active"), new);
}

/// States, secrets and pins come back together; only `vault.toml` knows better.
#[test]
fn an_older_copy_of_the_database_is_noticed() {
    let directory = deployment("sqlite:vault.db");
    let backup = fs::read(directory.path("vault.db")).unwrap();
    directory.vault("key generate --out next").ok();
    directory.vault("key add next").ok();
    let new = kid(&directory, "active");
    directory.vault(&format!("key promote {new} --yes --all-nodes-loaded")).ok();
    let text = fs::read_to_string(directory.path("vault.toml")).unwrap();
    directory.write("vault.toml", text.replace("state = \"store\"\n", "state = \"store\"\nmin_generation = 2\n"));
    directory.vault("status").ok();
    for file in ["vault.db-wal", "vault.db-shm"] {
        let _ = fs::remove_file(directory.path(file));
    }
    directory.write("vault.db", backup);
    let told = directory.vault("status");
    assert_ne!(told.code, 0, "{told:?}");
}

/// A process that starts before the store is made leaves it to be made.
#[test]
fn what_is_no_store_yet_is_not_touched() {
    let directory = Directory::new();
    directory.write(
        "vault.toml",
        "version = 1\n[vault]\nnodes = 3\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"store\"\n[store]\nurl = \"sqlite:vault.db\"\n",
    );
    directory.vault("key generate --out kek_1").ok();
    directory.write("vault.db", "");
    Vault::load(Config::from_file(directory.path("vault.toml")).unwrap()).unwrap();
    directory.vault("key generate --out new").ok();
    let told = directory.vault("key add new").fails(19);
    assert!(told.contains("it is no store"), "{told}");
    assert!(fs::read(directory.path("vault.db")).unwrap().is_empty());
    fs::remove_file(directory.path("vault.db")).unwrap();
    directory.vault("init --store-only").ok();
    directory.vault("key add new").ok();
}

#[test]
fn states_need_a_store_that_is_a_database() {
    let directory = Directory::new();
    directory.write("vault.toml", "version = 1\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"store\"\n");
    let told = directory.vault("status").fails(16);
    assert!(told.contains("[store]"), "{told}");
}
