//! Tests of the `vault` command as it is typed.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod check;
mod columns;
mod concurrency;
mod conformance;
#[path = "../conformance/list.rs"]
mod conformance_list;
mod crash;
mod documents;
mod faults;
mod files;
mod following;
mod integration;
mod integration_example;
mod key;
mod names;
mod nodes;
#[cfg(feature = "os-keyring")]
mod os_keyring;
mod postgres;
mod redaction;
mod rotate;
mod run;
mod seal;
#[path = "../server.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod server;
mod store;
mod swarm;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use vault_core::legacy::{self, LegacyKey};
use vault_core::{Context, Format, Sealer, TextKey, Trim};

/// What a command said, and its exit status.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// It failed as it should; returns what it said.
    fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self.err
    }
}

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_vault"))
}

/// A copy of the command, made by another process: a child that another test starts would inherit the
/// file while it is open for writing here, and keep it from being run.
fn copy_binary(to: &Path) {
    assert!(Command::new("cp").arg("--preserve=mode").arg(binary()).arg(to).status().unwrap().success());
}

/// A command of a directory, with nothing of the caller's environment but the path.
fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(directory).env_clear().env("PATH", "/usr/bin:/bin");
    command
}

/// Waits for what must become so.
fn until(otherwise: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "{otherwise}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn finish(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that reads nothing may be gone before it is written to.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command whose standard output nobody reads.
fn unread(command: &mut Command) -> Ran {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::new(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A directory in which commands are typed.
struct Directory {
    home: tempfile::TempDir,
}

impl Directory {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Runs `vault` with the words of `line`.
    fn vault(&self, line: &str) -> Ran {
        self.vault_with(line, b"")
    }

    /// The same with a standard output that nobody reads.
    fn vault_unread(&self, line: &str) -> Ran {
        let words: Vec<&str> = line.split_whitespace().collect();
        unread(&mut command(self.home.path(), &words))
    }

    fn vault_with(&self, line: &str, input: &[u8]) -> Ran {
        let words: Vec<&str> = line.split_whitespace().collect();
        finish(&mut command(self.home.path(), &words), input)
    }
}

/// An application's database with Flowfile's values, its keys, and a configuration.
struct App {
    directory: Directory,
}

const LEGACY: &str =
    "reads = [\"flowfile-v1\", \"flowfile-legacy-master\"]\nwrites = \"flowfile-v1\"\nkeyring = \"text\"\n";
const TOKENS: &str = "reads = [\"vs1\", \"flowfile-v1\", \"flowfile-legacy-master\"]\nwrites = \"vs1\"\nkeyring = \"main\"\nreads_keyring = \"text\"\nlinked = true\n";

impl App {
    fn new(column: &str, rows: u64) -> Self {
        let app = Self { directory: Directory::new() };
        app.configure(column, 1);
        app.directory.vault("key generate --out kek_1").ok();
        app.directory.vault("key generate --out text_1").ok();
        let connection = app.connect();
        connection
            .execute_batch("CREATE TABLE secrets (id INTEGER PRIMARY KEY, user_id INTEGER, name TEXT, v TEXT); BEGIN")
            .unwrap();
        let text = app.text_key("text_1");
        let sealer = Sealer::from_key_file(app.directory.path("kek_1")).unwrap();
        for id in 1..=rows {
            let tenant = (id % 7).to_string();
            let value = if column == TOKENS {
                sealer.seal(&context(id), secret(id).as_bytes()).unwrap().to_string()
            } else {
                let format = if id % 3 == 0 { Format::FlowfileLegacyMaster } else { Format::FlowfileV1 };
                legacy::seal(format, &text, Some(&tenant), secret(id).as_bytes()).unwrap()
            };
            connection
                .execute("INSERT INTO secrets VALUES (?1, ?2, ?3, ?4)", params![id, tenant, format!("n{id}"), value])
                .unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
        app
    }

    fn configure(&self, column: &str, nodes: u32) {
        let text = format!(
            "version = 1\n[vault]\nnodes = {nodes}\nfollow = \"100ms\"\n\
             [keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"main.keyring.toml\"\n\
             [keyring.text]\nkind = \"text\"\nsources = [\"file:text_*\"]\nstate = \"text.keyring.toml\"\n\
             [[column]]\nname = \"app.secrets\"\ndatabase = \"sqlite:app.db\"\ntable = \"secrets\"\nrow = [\"id\"]\nvalue = \"v\"\n\
             {column}context = {{ tenant = \"{{user_id}}\", name = \"{{name}}\", purpose = \"user-secret\" }}\n"
        );
        self.directory.write("vault.toml", text);
    }

    fn connect(&self) -> Connection {
        Connection::open(self.directory.path("app.db")).unwrap()
    }

    /// As after a restore of a backup that is older than the fences.
    fn lose_fences(&self) {
        let connection = self.connect();
        let fences: Vec<String> = connection
            .prepare("SELECT 'DROP TRIGGER ' || quote(name) FROM sqlite_schema WHERE type = 'trigger'")
            .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
            .unwrap();
        connection.execute_batch(&fences.join(";")).unwrap();
    }

    fn text_key(&self, name: &str) -> LegacyKey {
        LegacyKey::new(TextKey::parse(&fs::read(self.directory.path(name)).unwrap(), Trim::Python).unwrap())
    }

    /// Generates and adds a key; returns its id.
    fn add(&self, keyring: &str) -> String {
        self.directory.vault(&format!("key generate --out new_{keyring}")).ok();
        let told = self.directory.vault(&format!("key add new_{keyring} --keyring {keyring} --label 2 --json")).ok();
        serde_json::from_str::<serde_json::Value>(&told).unwrap()["kid"].as_str().unwrap().to_owned()
    }

    fn primary(&self, keyring: &str) -> String {
        let told = self.directory.vault(&format!("key list --keyring {keyring} --json")).ok();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let keys = told["keys"].as_array().unwrap();
        keys.iter().find(|key| key["state"] == "primary").unwrap()["kid"].as_str().unwrap().to_owned()
    }

    fn values(&self) -> Vec<(u64, String)> {
        let connection = self.connect();
        let mut statement = connection.prepare("SELECT id, v FROM secrets ORDER BY id").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }
}

fn context(id: u64) -> Context {
    Context::new("user-secret").tenant((id % 7).to_string()).name(format!("n{id}"))
}

fn secret(id: u64) -> String {
    format!("secret {id}")
}

/// Every file of a directory with its content.
fn snapshot(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}
