//! Where the campaign takes place: keys, configuration, databases, and the processes of the
//! application with their keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;
use vault_core::{Config, Vault};

use crate::engine::{Engine, MOST_WRITERS, Table, context, secret};
use crate::random::Random;
use crate::server::{self, Database};

pub(crate) struct Deployment {
    pub(crate) engine: Engine,
    home: TempDir,
    binary: PathBuf,
}

impl Deployment {
    pub(crate) fn new(engine: Engine) -> Self {
        let deployment = Self { engine, home: tempfile::tempdir().unwrap(), binary: built() };
        let (home, late) = (deployment.home(), deployment.late());
        let (store, app, url) = match engine {
            Engine::Postgres => {
                let url = Database::named("campaign").url();
                (url.clone(), url.clone(), url)
            }
            Engine::Sqlite => {
                let path = |name: &str| home.join(name).display().to_string();
                (format!("sqlite:{}", path("vault.db")), format!("sqlite:{}", path("app.db")), path("app.db"))
            }
        };
        for directory in [home, &late] {
            fs::create_dir_all(directory.join("keys")).unwrap();
            fs::write(directory.join("url"), &url).unwrap();
            fs::write(
                directory.join("vault.toml"),
                format!(
                    "version = 1\n[vault]\nfollow = \"200ms\"\n[keyring.main]\nsources = [\"file:keys/kek_*\"]\nstate = \"store\"\n\
                     [store]\nurl = \"{store}\"\n\
                     [[column]]\nname = \"app.secrets\"\ndatabase = \"{app}\"\ntable = \"secrets\"\nrow = [\"id\"]\nvalue = \"v\"\n\
                     reads = [\"vs1\"]\nwrites = \"vs1\"\nlinked = true\n\
                     context = {{ tenant = \"{{user_id}}\", name = \"{{name}}\", purpose = \"user-secret\" }}\n"
                ),
            )
            .unwrap();
        }
        deployment.do_now("key generate --out keys/kek_1");
        deployment.do_now("init --store-only");
        fs::copy(home.join("keys/kek_1"), late.join("keys/kek_1")).unwrap();
        let vault = deployment.vault_itself();
        Table::connect(engine, home).fill(engine, |id| {
            vault.seal(&context(id), secret(id, &[0; MOST_WRITERS]).as_bytes()).unwrap().to_string()
        });
        deployment
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where the process has its keys that gets them later than the others.
    pub(crate) fn late(&self) -> PathBuf {
        self.home().join("late")
    }

    /// The command, with nothing of the caller's environment but the path.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(line.split_whitespace()).current_dir(self.home()).env_clear().env("PATH", "/usr/bin:/bin");
        command
    }

    /// The keys as they are now, by somebody who is no part of the deployment.
    pub(crate) fn vault_itself(&self) -> Vault {
        Vault::load(Config::from_file(self.home().join("vault.toml")).unwrap().without_heartbeats()).unwrap()
    }

    pub(crate) fn table(&self) -> Table {
        Table::connect(self.engine, self.home())
    }

    /// Brings new keys to the late process, some time after they are there, until `done`.
    pub(crate) fn deliver_late(&self, mut random: Random, done: &AtomicBool) {
        let mut due: Option<(PathBuf, Instant)> = None;
        while !done.load(Ordering::SeqCst) {
            let missing = key_files(&self.home().join("keys"))
                .into_iter()
                .find(|path| !self.late().join("keys").join(path.file_name().unwrap()).exists());
            match (missing, due.take()) {
                (Some(missing), Some((path, at))) if path == missing => {
                    if Instant::now() >= at {
                        let name = path.file_name().unwrap();
                        let part = self.late().join("part");
                        // It may have been removed meanwhile.
                        if fs::copy(&path, &part).is_ok() {
                            fs::rename(&part, self.late().join("keys").join(name)).unwrap();
                        }
                    } else {
                        due = Some((path, at));
                    }
                }
                (Some(missing), _) => due = Some((missing, Instant::now() + random.millis(300, 1_200))),
                (None, _) => {}
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes the file of a key away from everybody.
    pub(crate) fn unmount(&self, place: &Path) {
        let name = place.file_name().unwrap();
        for directory in [self.home().join("keys"), self.late().join("keys")] {
            let _ = fs::remove_file(directory.join(name));
        }
    }

    fn do_now(&self, line: &str) {
        server::run(&mut self.command(line));
    }
}

fn key_files(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kek_"))).collect()
}

/// The command `vault`, built as this program is: the one beside it, unless that is missing or older
/// than its sources. In a test of the whole workspace it is there.
fn built() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile = own.parent().unwrap();
    let binary = profile.join("vault");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let newest = ["vault-core", "vault-cli"].map(|part| changed(&root.join(part))).into_iter().max();
    if binary.exists() && Some(changed(&binary)) > newest {
        return binary;
    }
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).args(["build", "--quiet", "--locked", "-p", "vault-cli", "--bin", "vault", "--target-dir"]);
    cargo.arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo runs").success(), "the command vault does not build");
    binary
}

/// When a file, or the newest file of a directory, was changed last.
fn changed(path: &Path) -> SystemTime {
    if path.is_dir() {
        let inside = fs::read_dir(path).unwrap().map(|entry| changed(&entry.unwrap().path()));
        return inside.max().unwrap_or(SystemTime::UNIX_EPOCH);
    }
    fs::metadata(path).unwrap().modified().unwrap()
}
