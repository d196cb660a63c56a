//! Programs that are told nothing, under load, while their keys are changed as an operator types it.

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::params;
use vault_core::{Config, Vault};

use crate::server::Database;
use crate::{Directory, command, context, secret, until};

const ROWS: u64 = 400;
const THREADS: usize = 3;
/// What the configuration declares.
const FOLLOW: Duration = Duration::from_millis(200);
/// What it declares where a program is to go on with the old key for a while.
const SLOW: Duration = Duration::from_secs(2);

const COLUMN: &str = "table = \"secrets\"\nrow = [\"id\"]\nvalue = \"v\"\nreads = [\"vs1\"]\nwrites = \"vs1\"\n\
                      linked = true\ncontext = { tenant = \"{user_id}\", name = \"{name}\", purpose = \"user-secret\" }\n";

/// Where the application has its rows.
trait Rows: Send {
    fn read(&mut self, id: u64) -> String;
    fn write(&mut self, id: u64, token: &str) -> Result<(), String>;
}

impl Rows for rusqlite::Connection {
    fn read(&mut self, id: u64) -> String {
        self.query_row("SELECT v FROM secrets WHERE id = ?1", [id], |row| row.get(0)).unwrap()
    }

    fn write(&mut self, id: u64, token: &str) -> Result<(), String> {
        let written = self.execute("UPDATE secrets SET v = ?1 WHERE id = ?2", params![token, id]);
        written.map(drop).map_err(|error| error.to_string())
    }
}

impl Rows for postgres::Client {
    fn read(&mut self, id: u64) -> String {
        self.query_one("SELECT v FROM secrets WHERE id = $1", &[&i64::try_from(id).unwrap()]).unwrap().get(0)
    }

    fn write(&mut self, id: u64, token: &str) -> Result<(), String> {
        let written = self.execute("UPDATE secrets SET v = $1 WHERE id = $2", &[&token, &i64::try_from(id).unwrap()]);
        written.map(drop).map_err(|error| error.to_string())
    }
}

/// What the threads of the program tell.
struct Load {
    ends: AtomicBool,
    done: [AtomicU64; THREADS],
    failures: std::sync::Mutex<Vec<String>>,
}

impl Load {
    /// Waits until every thread has begun and ended something after this.
    fn passes(&self) {
        for done in &self.done {
            let before = done.load(Ordering::SeqCst);
            until("a thread stands still", || done.load(Ordering::SeqCst) >= before + 2);
        }
    }

    fn fails(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }
}

#[test]
fn a_program_on_sqlite_follows_three_rotations() {
    on_sqlite(FOLLOW, &rotate_three_times);
}

#[test]
fn a_program_on_postgresql_follows_three_rotations() {
    on_postgresql(FOLLOW, &rotate_three_times);
}

/// Much is sealed under the old key, and written, after the values were moved and before the program follows.
#[test]
fn one_command_rotates_under_a_program_on_sqlite() {
    on_sqlite(SLOW, &rotate_at_once);
}

#[test]
fn one_command_rotates_under_a_program_on_postgresql() {
    on_postgresql(SLOW, &rotate_at_once);
}

/// What an operator types.
type Typed = dyn Fn(&Directory, &Load);

fn on_sqlite(follow: Duration, typed: &Typed) {
    let directory = Directory::new();
    directory.write(
        "vault.toml",
        format!(
            "version = 1\n[vault]\nnodes = 1\nfollow = \"{}ms\"\n[keyring.main]\nsources = [\"file:keys/kek_*\"]\n\
             state = \"main.keyring.toml\"\n[[column]]\nname = \"app.secrets\"\ndatabase = \"sqlite:app.db\"\n{COLUMN}",
            follow.as_millis()
        ),
    );
    let connect = || {
        let connection = rusqlite::Connection::open(directory.path("app.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        connection
    };
    let table = "PRAGMA journal_mode = WAL; \
                 CREATE TABLE secrets (id INTEGER PRIMARY KEY, user_id INTEGER, name TEXT, v TEXT)";
    connect().execute_batch(table).unwrap();
    fs::create_dir(directory.path("keys")).unwrap();
    directory.vault("key generate --out keys/kek_1").ok();
    under_load(&directory, &|| Box::new(connect()), typed);
}

fn on_postgresql(follow: Duration, typed: &Typed) {
    let (directory, database) = (Directory::new(), Database::new());
    let url = database.url();
    directory.write(
        "vault.toml",
        format!(
            "version = 1\n[vault]\nnodes = 1\nfollow = \"{}ms\"\n[store]\nurl = \"{url}\"\n[keyring.main]\n\
             sources = [\"file:keys/kek_*\"]\nstate = \"store\"\n[[column]]\nname = \"app.secrets\"\n\
             database = \"{url}\"\n{COLUMN}",
            follow.as_millis()
        ),
    );
    database.execute("CREATE TABLE secrets (id bigint PRIMARY KEY, user_id bigint, name text, v text)");
    fs::create_dir(directory.path("keys")).unwrap();
    directory.vault("key generate --out keys/kek_1").ok();
    directory.vault("init --store-only").ok();
    under_load(&directory, &|| Box::new(database.connect()), typed);
}

fn under_load(directory: &Directory, connect: &(dyn Fn() -> Box<dyn Rows> + Sync), typed: &Typed) {
    let vault = Vault::load(Config::from_file(directory.path("vault.toml")).unwrap()).unwrap();
    let insert = |id: u64| {
        let token = vault.seal(&context(id), secret(id).as_bytes()).unwrap().to_string();
        format!("INSERT INTO secrets VALUES ({id}, {}, 'n{id}', '{token}');", id % 7)
    };
    let all: String = (1..=ROWS).map(insert).collect();
    fill(directory, &all);
    let load = Load { ends: AtomicBool::new(false), done: Default::default(), failures: Default::default() };
    thread::scope(|scope| {
        for (done, first) in load.done.iter().zip(1..) {
            let (vault, load) = (&vault, &load);
            scope.spawn(move || {
                let mut rows = connect();
                let mut id = first;
                while !load.ends.load(Ordering::SeqCst) {
                    id = id * 31 % ROWS + 1;
                    let token = rows.read(id);
                    match vault.open(&context(id), &token.parse().unwrap()) {
                        Ok(opened) => assert_eq!(opened.expose_secret(), secret(id).as_bytes()),
                        Err(error) => load.fails(format!("read: {error}")),
                    }
                    let written = match vault.seal(&context(id), secret(id).as_bytes()) {
                        Ok(token) => rows.write(id, &token.to_string()),
                        Err(error) => Err(error.to_string()),
                    };
                    written.unwrap_or_else(|error| load.fails(format!("write: {error}")));
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let rotated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| typed(directory, &load)));
        load.ends.store(true, Ordering::SeqCst);
        rotated.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let failures = load.failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} failed, the first: {:?}", failures.len(), failures.first());
    assert!(vault.following().failure.is_none(), "{:?}", vault.following());
}

fn fill(directory: &Directory, inserts: &str) {
    let url = fs::read_to_string(directory.path("vault.toml")).unwrap();
    if url.contains("database = \"sqlite:") {
        rusqlite::Connection::open(directory.path("app.db")).unwrap().execute_batch(inserts).unwrap();
    } else {
        let url = url.split("database = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        postgres::Client::connect(url, postgres::NoTls).unwrap().batch_execute(inserts).unwrap();
    }
}

fn rotate_three_times(directory: &Directory, load: &Load) {
    (2..5).for_each(|number| rotate(directory, load, number));
}

fn rotate_at_once(directory: &Directory, load: &Load) {
    let told = directory.vault("rotate --new-key --without-backup --yes --retire").ok();
    assert!(told.contains("verified: nothing is stale"), "{told}");
    load.passes();
}

/// What is typed for a new key, with a rotator that is killed.
fn rotate(directory: &Directory, load: &Load, number: u32) {
    let key_in = |state: &str| {
        let keys: serde_json::Value = serde_json::from_str(&directory.vault("key list --json").ok()).unwrap();
        let keys = keys["keys"].as_array().unwrap();
        let found = keys.iter().find(|key| key["state"] == state).unwrap_or_else(|| panic!("no {state} key: {keys:?}"));
        found["kid"].as_str().unwrap().to_owned()
    };
    directory.vault(&format!("key generate --out next_{number}")).ok();
    let old = key_in("primary");
    directory.vault(&format!("key add next_{number} --label {number}")).ok();
    lease(load);
    directory.vault(&format!("key promote {} --yes", key_in("active"))).ok();
    let slow = ["rotate", "run", "--batch", "20", "--rows-per-second", "100"];
    let mut rotator = command(directory.home.path(), &slow);
    let mut rotator = rotator.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(500) {
        load.passes();
    }
    rotator.kill().unwrap();
    rotator.wait().unwrap();
    directory.vault("rotate run").ok();
    lease(load);
    directory.vault("rotate fence").ok();
    directory.vault("rotate verify").ok();
    lease(load);
    directory.vault(&format!("key disable {old} --yes")).ok();
    load.passes();
}

/// The time after which no process seals by older states, and what was sealed before is written.
fn lease(load: &Load) {
    thread::sleep(FOLLOW);
    load.passes();
}
