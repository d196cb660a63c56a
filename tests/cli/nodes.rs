//! States in the database of a store, and processes that say what they have read of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
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
            "version = 1\n[vault]\nnodes = 3\nfollow = \"100ms\"\n[keyring.main]\nsources = [\"file:keys/kek_*\"]\nstate = \"store\"\n\
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

    let told = directory.vault(&format!("key promote {new} --yes --wait 3")).fails(75);
    assert!(told.contains("2 processes of the 3 that `nodes` declares have said"), "{told}");
    assert_eq!(kid(&directory, "primary"), old);
    nodes.push(start(3));
    directory.vault(&format!("key promote {new} --yes --wait 30")).ok();
    until("a promotion that nobody restarts for is not seen", || {
        nodes.iter().all(|node| node.generation.load(Ordering::SeqCst) >= 2)
    });
    directory.vault("rotate run").ok();
    directory.vault("rotate fence").ok();
    directory.vault("rotate verify").ok();

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

/// The first changes of states at once: whoever comes second is told to try again, and nobody's key is lost.
#[test]
fn the_first_keys_of_a_store_are_added_at_once() {
    let database = Database::new();
    for store in ["sqlite:vault.db".to_owned(), database.url()] {
        let directory = deployment(&store);
        for number in 0..6 {
            directory.vault(&format!("key generate --out next_{number}")).ok();
        }
        thread::scope(|scope| {
            for number in 0..6 {
                let directory = &directory;
                scope.spawn(move || {
                    let add = || directory.vault(&format!("key add next_{number} --label l{number}"));
                    let ended = (0..400).map(|_| add()).find(|ran| ran.code != 75).unwrap();
                    assert_eq!(ended.code, 0, "{ended:?}");
                });
            }
        });
        let told: serde_json::Value = serde_json::from_str(&directory.vault("key list --json").ok()).unwrap();
        assert_eq!((told["generation"].as_u64(), told["keys"].as_array().unwrap().len()), (Some(6), 7), "{told}");
        let hidden = fs::read_dir(directory.path("keys")).unwrap().map(|entry| entry.unwrap().file_name());
        let hidden: Vec<_> = hidden.filter(|name| name.to_string_lossy().starts_with('.')).collect();
        assert!(hidden.is_empty(), "{hidden:?}");
    }
}

/// Two vaults of one process are not two processes.
#[test]
fn a_process_with_several_vaults_counts_once() {
    let directory = deployment("sqlite:vault.db");
    directory.vault("key generate --out next").ok();
    directory.vault("key add next").ok();
    let new = kid(&directory, "active");
    let load = || Vault::load(Config::from_file(directory.path("vault.toml")).unwrap()).unwrap();
    let _vaults = [load(), load(), load()];
    let told = directory.vault(&format!("key promote {new} --yes --wait 2")).fails(75);
    assert!(told.contains("1 processes of the 3 that `nodes` declares"), "{told}");
}

/// A process of an application on one host, by itself: it seals and opens, and follows the changes of its keys.
struct Process {
    child: Child,
}

impl Process {
    fn start(directory: &Directory) -> Self {
        Self::start_beside(directory, None)
    }

    /// One that opens what the others seal that share a directory with it.
    fn start_beside(directory: &Directory, shared: Option<&Directory>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "nodes::is_a_process", "--nocapture"])
            .env("VAULT_TEST_DIRECTORY", directory.path(""))
            .envs(shared.map(|shared| ("VAULT_TEST_SHARED", shared.path(""))))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("ready")));
        // What the test harness prints at the end must find a reader.
        thread::spawn(move || lines.for_each(drop));
        Self { child }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits until the system shows it in a state.
    fn is(&self, state: &str) {
        until("a process is not in the state that it was sent to", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
            stat.rsplit(") ").next().unwrap().starts_with(state)
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program of [`Process`]: nothing but in one.
#[test]
#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "it is told where to work, and answers that it does"
)]
fn is_a_process() {
    let Some(place) = std::env::var_os("VAULT_TEST_DIRECTORY").map(PathBuf::from) else { return };
    let vault = Vault::load(Config::from_file(place.join("vault.toml")).unwrap()).unwrap();
    println!("ready");
    let end = Instant::now() + Duration::from_secs(300);
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
        let token = vault.seal(&context(1), b"x").unwrap();
        vault.open(&context(1), &token).unwrap();
        let Some(shared) = std::env::var_os("VAULT_TEST_SHARED").map(PathBuf::from) else { continue };
        let (own, next) =
            (shared.join(std::process::id().to_string()), shared.join(format!(".{}", std::process::id())));
        fs::write(&next, token.to_string()).and_then(|()| fs::rename(&next, &own)).unwrap();
        for entry in fs::read_dir(&shared).unwrap() {
            let path = entry.unwrap().path();
            if !path.file_name().unwrap().to_string_lossy().starts_with('.') {
                let token = fs::read_to_string(&path).unwrap().parse().unwrap();
                vault.open(&context(1), &token).unwrap();
            }
        }
    }
}

/// One host, states in a file, and nothing declared.
fn one_host() -> Directory {
    let directory = Directory::new();
    directory.write(
        "vault.toml",
        "version = 1\n[vault]\nfollow = \"100ms\"\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"main.keyring.toml\"\n",
    );
    directory.vault("key generate --out kek_1").ok();
    directory
}

fn add(directory: &Directory, label: u32) -> KeyId {
    directory.vault("key generate --out next").ok();
    directory.vault(&format!("key add next --label {label}")).ok();
    fs::remove_file(directory.path("next")).unwrap();
    kid(directory, "active")
}

fn processes(directory: &Directory) -> Vec<serde_json::Value> {
    let told: serde_json::Value = serde_json::from_str(&directory.vault("status --json").out).unwrap();
    told["processes"].as_array().unwrap().clone()
}

#[test]
fn the_processes_of_one_host_need_no_declaration() {
    let directory = one_host();
    let new = add(&directory, 2);
    let unheard = directory.vault(&format!("key promote {new} --yes")).fails(75);
    assert!(unheard.contains("no process has said that it holds keyring main"), "{unheard}");

    let (one, other) = (Process::start(&directory), Process::start(&directory));
    let told = processes(&directory);
    assert_eq!(told.len(), 2, "{told:?}");
    for process in [&one, &other] {
        let shown = told.iter().find(|told| told["pid"] == process.child.id()).unwrap();
        assert!(shown["presence"] == "here" && shown["generation"] == 1 && shown["lacks"].is_null(), "{shown}");
    }
    let text = directory.vault("status").out;
    assert!(text.contains(&format!("pid {}, since 20", one.child.id())), "{text}");
    directory.vault(&format!("key promote {new} --yes")).ok();

    // One that was killed is provably gone; one that is stopped may be in the middle of something.
    drop(one);
    other.signal("STOP");
    other.is("T");
    let third = add(&directory, 3);
    let named = directory.vault(&format!("key promote {third} --yes --wait 2")).fails(75);
    assert!(named.contains(&format!("-{}-", other.child.id())) && named.contains("is stopped"), "{named}");
    assert!(named.contains("--without NAME") && !named.contains("; process"), "nobody else is named: {named}");
    let dry = directory.vault(&format!("key promote {third} -n --wait 2")).fails(75);
    assert!(dry.contains("is stopped"), "a dry run ends as the command would: {dry}");
    assert_eq!(kid(&directory, "primary"), new);
    let shown = processes(&directory);
    let gone = shown.iter().filter(|process| process["presence"] == "gone" && process["lacks"].is_null());
    assert_eq!(gone.count(), 1, "{shown:?}");

    other.signal("CONT");
    directory.vault(&format!("key promote {third} --yes")).ok();
    // A process that starts forgets those that are gone.
    let _again = Process::start(&directory);
    assert_eq!(processes(&directory).len(), 2);
}

/// Of another machine nobody here can see whether it runs.
#[test]
fn a_silent_process_of_another_machine_is_waited_for_until_it_is_said_to_be_gone() {
    let directory = one_host();
    drop(Process::start(&directory));
    let files = || fs::read_dir(directory.path("main.keyring.toml.processes")).unwrap();
    let path = files().next().unwrap().unwrap().path();
    let mut heartbeat: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    heartbeat["boot"] = "another boot".into();
    heartbeat["machine"] = "far\u{1b}[31m".into();
    heartbeat["process"] = "far-7-7".into();
    fs::write(&path, heartbeat.to_string()).unwrap();
    let new = add(&directory, 2);
    let named = directory.vault(&format!("key promote {new} --yes --wait 2")).fails(75);
    assert!(named.contains("process far-7-7 has not said that it opens key"), "{named}");
    let status = directory.vault("status").out;
    assert!(status.contains("process far-7-7 is elsewhere: far [31m, pid"), "{status:?}");
    directory.vault(&format!("key promote {new} --yes --wait 2 --without near")).fails(75);
    directory.vault(&format!("key promote {new} --yes --wait 2 --without far-7-7")).ok();

    // What cannot be read is somebody of whom nothing is known.
    fs::write(&path, "{").unwrap();
    let third = add(&directory, 3);
    let named = directory.vault(&format!("key promote {third} --yes --wait 2")).fails(75);
    assert!(named.contains("its heartbeat cannot be read"), "{named}");
    let name = path.file_name().unwrap().to_str().unwrap();
    directory.vault(&format!("key promote {third} --yes --wait 2 --without {name}")).ok();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o644, 0o755));
}

/// A process that lacks the key that waits is named with what it said, and one too many is no process less.
#[test]
fn a_process_that_lacks_a_key_holds_its_promotion_back() {
    let (directory, late) = (one_host(), Directory::new());
    directory.write("vault.toml", fs::read_to_string(directory.path("vault.toml")).unwrap());
    let state = directory.path("main.keyring.toml");
    late.write(
        "vault.toml",
        format!(
            "version = 1\n[vault]\nfollow = \"100ms\"\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"{}\"\n",
            state.display()
        ),
    );
    fs::copy(directory.path("kek_1"), late.path("kek_1")).unwrap();
    let (one, other) = (Process::start(&directory), Process::start(&late));
    let new = add(&directory, 2);
    let named = directory.vault(&format!("key promote {new} --yes --wait 3")).fails(75);
    assert!(named.contains(&format!("-{}-", other.child.id())) && named.contains("has not said"), "{named}");
    assert!(!named.contains(&format!("-{}-", one.child.id())), "{named}");
    let config = fs::read_to_string(directory.path("vault.toml")).unwrap();
    directory.write("vault.toml", config.replace("[vault]\n", "[vault]\nnodes = 1\n"));
    let counted = directory.vault(&format!("key promote {new} --yes --wait 2")).fails(23);
    assert!(counted.contains("2 processes hold keyring main, and `nodes` declares 1"), "{counted}");
    directory.write("vault.toml", config);
    fs::copy(directory.path("kek_2"), late.path("kek_2")).unwrap();
    directory.vault(&format!("key promote {new} --yes")).ok();
}

/// Two pods of two workers each: the pod that gets the key later is waited for, both of its workers by name,
/// and none of the four meets a value that it cannot open.
#[test]
fn the_workers_of_a_late_pod_are_waited_for() {
    let (store, shared) = (Directory::new(), Directory::new());
    let database = store.path("vault.db");
    let pod = || {
        let pod = Directory::new();
        pod.write(
            "vault.toml",
            format!(
                "version = 1\n[vault]\nfollow = \"100ms\"\n[keyring.main]\nsources = [\"file:kek_*\"]\n\
                 state = \"store\"\n[store]\nurl = \"sqlite:{}\"\n",
                database.display()
            ),
        );
        pod
    };
    let (first, late) = (pod(), pod());
    first.vault("key generate --out kek_1").ok();
    fs::copy(first.path("kek_1"), late.path("kek_1")).unwrap();
    first.vault("init --store-only").ok();
    let mut workers: Vec<Process> =
        [&first, &first, &late, &late].map(|pod| Process::start_beside(pod, Some(&shared))).into();
    let new = add(&first, 2);
    let named = first.vault(&format!("key promote {new} --yes --wait 3")).fails(75);
    for (number, worker) in workers.iter().enumerate() {
        assert_eq!(named.contains(&format!("-{}-", worker.child.id())), number > 1, "{number}: {named}");
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_secs(2));
            fs::copy(first.path("kek_2"), late.path("part")).unwrap();
            fs::rename(late.path("part"), late.path("kek_2")).unwrap();
        });
        first.vault(&format!("key promote {new} --yes --wait 60")).ok();
    });
    // Until each has sealed under the new key, and opened what the others sealed under it.
    until("a worker does not follow", || {
        fs::read_dir(shared.home.path()).unwrap().all(|entry| {
            let entry = entry.unwrap();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            hidden || fs::read_to_string(entry.path()).unwrap().starts_with(&format!("vs1.{new}."))
        })
    });
    thread::sleep(Duration::from_millis(300));
    assert!(workers.iter_mut().all(|worker| worker.child.try_wait().unwrap().is_none()), "a worker failed");
}

/// A process that cannot say that it is there works all the same, and nobody takes its silence for consent.
#[test]
fn heartbeats_that_cannot_be_written_are_no_error() {
    let directory = one_host();
    fs::create_dir(directory.path("main.keyring.toml.processes")).unwrap();
    fs::set_permissions(directory.home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(directory.path("kek_1"), fs::Permissions::from_mode(0o644)).unwrap();
    let place = directory.path("");
    let exe = directory.path("process");
    assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&exe).status().unwrap().success());
    let mut child = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&exe)
        .args(["--exact", "nodes::is_a_process", "--nocapture"])
        .env("VAULT_TEST_DIRECTORY", &place)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ready")), "it works");
    let new = add(&directory, 2);
    let told = directory.vault(&format!("key promote {new} --yes")).fails(75);
    assert!(told.contains("no process has said that it holds keyring main"), "{told}");
    child.kill().unwrap();
    child.wait().unwrap();
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
    directory.vault("status").fails(14);
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
