//! The main job on a throw-away application database: rotate, migrate, rotate while it runs, kill
//! the rotator, resume, prove.
//!
//! Every step is the command that an operator would type, run as a process of its own.

mod application;
mod catalog;
mod floor;

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use vault_core::legacy::LegacyKey;
use vault_core::{Config, Error, Format, Result, Sealer, TextKey, Vault};

use application::Application;
use catalog::{Catalog, Opened, Versions};

/// Arguments of `vault demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Keep the directory and print where it is
    #[arg(long)]
    keep: bool,

    /// Secrets in the database
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000))]
    values: u64,

    /// Work in DIR, which must not exist, instead of a temporary directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Be the application of a demonstration: read and write until standard input ends
    #[arg(long, hide = true, value_name = "DIR")]
    application: Option<PathBuf>,
}

/// The application's database, in the directory of the demonstration.
const CATALOG: &str = "flowfile_catalog.db";
/// The configuration beside it.
const CONFIG: &str = "vault.toml";
/// How often the rotator is killed.
const KILLS: u64 = 3;

/// Runs the demonstration, or the application that it needs.
pub(crate) fn run(args: &DemoArgs, out: &mut dyn Write) -> Result<()> {
    if let Some(dir) = &args.application {
        return application::run(dir, out);
    }
    let dir = Directory::new(args)?;
    let executable =
        std::env::current_exe().map_err(|source| Error::Io { action: "find", path: "vault".into(), source })?;
    let mut demo = Demo { dir: &dir.path, executable, typed: Vec::new(), out };
    demo.run(args.values)?;
    if args.keep {
        demo.say(&format!("\nkept: {}", dir.path.display()))?;
    }
    Ok(())
}

struct Demo<'a> {
    dir: &'a Path,
    executable: PathBuf,
    /// The commands that an operator would have typed.
    typed: Vec<String>,
    out: &'a mut dyn Write,
}

impl Demo<'_> {
    fn run(&mut self, values: u64) -> Result<()> {
        let started = Instant::now();
        self.heading("An application's database")?;
        fs::create_dir(self.dir.join("keys")).map_err(|source| self.io(source))?;
        self.configure(LEGACY)?;
        self.vault("key generate --out keys/flowfile_master_key_1")?;
        let first = self.text_key("flowfile_master_key_1")?;
        let catalog = Catalog::create(&self.dir.join(CATALOG), values, &first)?;
        let untouched = catalog.everything_else()?;
        self.say(&format!(
            "{values} secrets of 50 users in Flowfile's tables, in its three formats, under one master key"
        ))?;

        self.heading("A new master key while the application is stopped")?;
        self.vault("key generate --out new_key")?;
        self.vault("key add new_key --keyring flowfile --label 2")?;
        let second = self.text_key("new_key")?;
        self.vault(&format!("key promote {} --keyring flowfile --yes", second.kid()))?;
        // This program looks at the database itself.
        self.vault("rotate plan --keyring flowfile --app-stopped --despite-sessions")?;
        let took = self.vault("rotate run --keyring flowfile --app-stopped --despite-sessions")?;
        self.vault("rotate verify --keyring flowfile")?;
        self.say(&format!("{values} values written again in one exclusive transaction: {}", rate(values, took)))?;
        self.expect("values that open under the new key alone", catalog.open_all_legacy(&second)?, values)?;
        self.expect_none("values that open under the old key", catalog.open_all_legacy(&first)?, values)?;
        self.vault(&format!("key disable {} --keyring flowfile --yes", first.kid()))?;

        self.heading("From the application's own formats to vs1")?;
        self.vault("key generate --out keys/vault_kek_1")?;
        self.configure(LINKED)?;
        let mut took = self.vault("migrate flowfile.secrets --to vs1")?;
        took += self.vault("migrate flowfile.channels --to vs1")?;
        self.say(&format!("{values} values opened and sealed again: {}", rate(values, took)))?;
        let old = self.loaded_key("keys/vault_kek_1")?;
        self.expect("values that open as vs1", catalog.open_all(&old, &Versions::new())?, values)?;
        fs::create_dir(self.dir.join("before")).map_err(|source| self.io(source))?;
        fs::copy(self.dir.join(CATALOG), self.dir.join("before").join(CATALOG)).map_err(|source| self.io(source))?;

        self.heading("A new master key while the application reads and writes")?;
        let application = Application::start(&self.executable, self.dir)?;
        self.vault("key generate --out new_kek")?;
        self.vault("key add new_kek --label 2")?;
        let new = self.loaded_key("new_kek")?;
        self.vault(&format!("key promote {} --yes", new.primary()?))?;
        let kills = self.kill_rotators(&catalog, values)?;
        self.say(&format!("the rotator was killed {kills} times in the middle of its work"))?;
        let seconds = self.vault("rotate run")?;
        self.say(&format!("run again to the end: {seconds:.2} s"))?;
        self.vault("rotate fence")?;
        self.vault("rotate verify")?;
        let report = application.stop()?;
        self.say(&format!(
            "the application meanwhile: {} reads, {} writes, {} failures",
            report.reads, report.writes, report.failures
        ))?;
        if report.failures > 0 || report.writes == 0 {
            return Err(broken("the application saw a value that was not the last one written"));
        }
        self.expect(
            "values that open under the new key alone, each the last one written",
            catalog.open_all(&new, &report.versions)?,
            values,
        )?;

        self.heading("How fast a rewrap is")?;
        let rates = floor::measure(self.dir, LINKED, old.primary()?)?;
        self.say(&format!(
            "rewrap {:.0} rows/s; the same batches with ready-made values {:.0} rows/s; ratio {:.2}",
            rates.rewrap,
            rates.floor,
            rates.rewrap / rates.floor
        ))?;

        self.heading("The old key goes")?;
        self.vault(&format!("key disable {} --yes", old.primary()?))?;
        self.expect_none("values that the old key opens", catalog.open_all(&old, &report.versions)?, values)?;
        self.vault("status")?;
        if catalog.everything_else()? != untouched {
            return Err(broken("something other than the secrets changed in the database"));
        }
        self.say("everything else in the database is as it was: schema, other columns, journal mode")?;

        self.say(&format!("all of it took {:.1} s", started.elapsed().as_secs_f64()))?;

        self.heading("What an operator would have typed")?;
        for line in core::mem::take(&mut self.typed) {
            self.say(&format!("vault {line}"))?;
        }
        Ok(())
    }

    /// Starts rotators and kills each with SIGKILL after a batch that was seen in the progress
    /// table; after every kill all values open under the two keys.
    fn kill_rotators(&mut self, catalog: &Catalog, values: u64) -> Result<u64> {
        let vault = Vault::load(Config::from_file(self.dir.join(CONFIG))?.without_heartbeats())?;
        let mut kills = 0;
        for kill in 1..=KILLS {
            let threshold = values * kill / (KILLS + 2) / 2;
            // Slow enough that there is something left to kill.
            let mut rotator = self.spawn(&format!("rotate run --batch 100 --rows-per-second {}", values / 2))?;
            let seen = loop {
                match catalog.progress() {
                    Some(rows) if rows >= threshold => break Some(rows),
                    _ if matches!(rotator.try_wait(), Ok(Some(_))) => break None,
                    _ => thread::sleep(Duration::from_millis(1)),
                }
            };
            rotator.kill().and_then(|()| rotator.wait()).map_err(|source| self.io(source))?;
            let Some(rows) = seen else { return Err(broken("the rotator ended before it could be killed")) };
            kills += 1;
            let opened = catalog.authentic(&vault.sealer()?)?;
            self.say(&format!("killed after {rows} rows; values that open: {} of {values}", opened.good))?;
            if opened.bad > 0 {
                return Err(broken("a value did not open after a kill"));
            }
        }
        Ok(kills)
    }

    /// Runs one command as an operator would, and shows what it says.
    fn vault(&mut self, line: &str) -> Result<f64> {
        let started = Instant::now();
        self.say(&format!("$ vault {line}"))?;
        self.typed.push(line.to_owned());
        let output = self.command(line).output().map_err(|source| self.io(source))?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Progress is for a terminal; of what goes to people beside it, errors and hints matter.
        for message in String::from_utf8_lossy(&output.stderr).lines().filter(|line| line.starts_with("vault: ")) {
            let _ = writeln!(text, "{message}");
        }
        for line in text.lines() {
            self.say(&format!("  {line}"))?;
        }
        if output.status.success() { Ok(started.elapsed().as_secs_f64()) } else { Err(broken("a command failed")) }
    }

    fn spawn(&mut self, line: &str) -> Result<Child> {
        self.say(&format!("$ vault {line}"))?;
        self.command(line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|source| self.io(source))
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(self.dir).args(line.split(' ')).stdin(Stdio::null());
        command
    }

    fn text_key(&self, file: &str) -> Result<LegacyKey> {
        let path = [self.dir.join(file), self.dir.join("keys").join(file)].into_iter().find(|path| path.exists());
        let path = path.ok_or_else(|| broken("a key file is missing"))?;
        let content = fs::read(&path).map_err(|source| self.io(source))?;
        let key = TextKey::parse(&content, Format::FlowfileV1.trim())
            .map_err(|reason| Error::KeyMalformed { place: path.display().to_string(), reason })?;
        Ok(LegacyKey::new(key))
    }

    fn loaded_key(&self, file: &str) -> Result<Sealer> {
        Sealer::from_key_file(self.dir.join(file))
    }

    fn configure(&self, text: &str) -> Result<()> {
        fs::write(self.dir.join(CONFIG), text).map_err(|source| self.io(source))
    }

    fn expect(&mut self, what: &str, opened: Opened, values: u64) -> Result<()> {
        self.say(&format!("{what}: {} of {values}", opened.good))?;
        if opened == (Opened { good: values, bad: 0 }) { Ok(()) } else { Err(broken("a value is not what it must be")) }
    }

    fn expect_none(&mut self, what: &str, opened: Opened, values: u64) -> Result<()> {
        self.say(&format!("{what}: {} of {values}", opened.good))?;
        if opened == (Opened { good: 0, bad: values }) { Ok(()) } else { Err(broken("a key opens what it must not")) }
    }

    fn heading(&mut self, text: &str) -> Result<()> {
        self.say(&format!("\n{text}"))
    }

    fn say(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{text}").map_err(stdout_failed)
    }

    fn io(&self, source: std::io::Error) -> Error {
        Error::Io { action: "work in", path: self.dir.to_owned(), source }
    }
}

/// The directory of the demonstration, removed at the end unless it is to be kept.
struct Directory {
    path: PathBuf,
    keep: bool,
}

impl Directory {
    fn new(args: &DemoArgs) -> Result<Self> {
        let path = match &args.dir {
            Some(dir) => dir.clone(),
            None => std::env::temp_dir().join(format!("vault-demo-{}", std::process::id())),
        };
        // A directory that exists is somebody's, whatever its name.
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(|source| Error::Io {
            action: "create",
            path: path.clone(),
            source,
        })?;
        let path = path.canonicalize().map_err(|source| Error::Io { action: "find", path, source })?;
        Ok(Self { path, keep: args.keep })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.keep {
            // Nothing can be done about a temporary directory that cannot be removed.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn rate(rows: u64, seconds: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let per_second = rows as f64 / seconds;
    format!("{seconds:.2} s, {per_second:.0} rows/s")
}

fn broken(reason: &str) -> Error {
    Error::Refused {
        reason: format!("the demonstration failed: {reason}"),
        remedy: "run it with --keep and look at the directory".to_owned(),
    }
}

fn stdout_failed(source: std::io::Error) -> Error {
    Error::Io { action: "write to", path: "standard output".into(), source }
}

/// As Flowfile is deployed: it knows one key and does not use this library.
const LEGACY: &str = r#"version = 1

[vault]
app = "flowfile"
nodes = 1

[keyring.flowfile]
kind = "text"
sources = ["file:keys/flowfile_master_key_*"]
state = "flowfile.keyring.toml"

[[column]]
name = "flowfile.secrets"
database = "sqlite:flowfile_catalog.db"
table = "secrets"
row = ["id"]
value = "encrypted_value"
reads = ["flowfile-v1", "flowfile-legacy-user", "flowfile-legacy-master"]
writes = "flowfile-v1"
keyring = "flowfile"
context = { tenant = "{user_id}", name = "{name}", purpose = "user-secret" }

[[column]]
name = "flowfile.channels"
database = "sqlite:flowfile_catalog.db"
table = "notification_channels"
row = ["id"]
value = "webhook_url_encrypted"
reads = ["flowfile-v1", "flowfile-legacy-user", "flowfile-legacy-master"]
writes = "flowfile-v1"
keyring = "flowfile"
context = { tenant = "{user_id}", name = "{name}", purpose = "user-secret" }
"#;

/// When every process of it links the library.
const LINKED: &str = r#"version = 1

[vault]
app = "flowfile"

[keyring.main]
sources = ["file:keys/vault_kek_*"]
state = "main.keyring.toml"

[keyring.flowfile]
kind = "text"
sources = ["file:keys/flowfile_master_key_*"]
state = "flowfile.keyring.toml"

[[column]]
name = "flowfile.secrets"
database = "sqlite:flowfile_catalog.db"
table = "secrets"
row = ["id"]
value = "encrypted_value"
reads = ["vs1", "flowfile-v1", "flowfile-legacy-user", "flowfile-legacy-master"]
writes = "vs1"
keyring = "main"
reads_keyring = "flowfile"
context = { tenant = "{user_id}", name = "{name}", purpose = "user-secret" }
linked = true

[[column]]
name = "flowfile.channels"
database = "sqlite:flowfile_catalog.db"
table = "notification_channels"
row = ["id"]
value = "webhook_url_encrypted"
reads = ["vs1", "flowfile-v1", "flowfile-legacy-user", "flowfile-legacy-master"]
writes = "vs1"
keyring = "main"
reads_keyring = "flowfile"
context = { tenant = "{user_id}", name = "{name}", purpose = "user-secret" }
linked = true
"#;
