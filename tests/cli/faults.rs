//! Commands that change a store, killed at every file-system call that they make, and with each of
//! these calls failing: nothing is ever torn, and nothing is lost that was reported as done.
//!
//! Of a command with many calls some are left out, evenly, unless `VAULT_FAULTS=all` asks for each.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use vault_core::{Config, EntryName, Vault, Version};

use crate::Directory;
use crate::store::{STORES, home};

/// The calls that read, write, create, rename, lock or flush files.
const CALLS: &str = "openat,openat2,read,pread64,write,pwrite64,fsync,fdatasync,ftruncate,fchmod,fchown,fcntl,flock,\
rename,renameat2,link,linkat,unlink,unlinkat,mkdir,newfstatat,statx,getdents64";

const SAMPLE: usize = 100;

/// What is done to a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    Fails(&'static str),
    Kill,
}

const FAULTS: [Fault; 3] = [Fault::Kill, Fault::Fails("EIO"), Fault::Fails("ENOSPC")];

impl Fault {
    fn injected(self) -> String {
        match self {
            Self::Kill => "signal=KILL".to_owned(),
            Self::Fails(errno) => format!("error={errno}"),
        }
    }

    /// Whether a call can fail so: only what takes space runs out of it.
    fn fits(self, call: &str) -> bool {
        let taking =
            ["openat", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "link", "linkat", "mkdir"];
        self != Self::Fails("ENOSPC") || taking.contains(&call)
    }
}

/// One command, and what must hold of the directory after it was interrupted.
struct Campaign {
    line: &'static str,
    prepare: fn(&str) -> Directory,
    /// Whether what the command does is there, as far as can be told; panics on anything torn.
    done: fn(&Directory, &str) -> bool,
}

#[test]
fn set_survives_faults_at_every_call() {
    let campaign = Campaign {
        line: "set A --from-file new",
        prepare: with_secrets,
        done: |directory, when| {
            let values = opened(directory, when).unwrap_or_else(|| panic!("{when}: it does not load"));
            assert_eq!(values.get("B").map(String::as_str), Some("b2"), "{when}");
            match values.get("A").map(String::as_str) {
                Some("new") => true,
                Some("a2") => false,
                other => panic!("{when}: {other:?}"),
            }
        },
    };
    campaign.run();
}

#[test]
fn rm_survives_faults_at_every_call() {
    let campaign = Campaign {
        line: "rm B --all",
        prepare: with_secrets,
        done: |directory, when| {
            let values = opened(directory, when).unwrap_or_else(|| panic!("{when}: it does not load"));
            assert_eq!(values.get("A").map(String::as_str), Some("a2"), "{when}");
            !values.contains_key("B")
        },
    };
    campaign.run();
}

#[test]
fn init_survives_faults_at_every_call() {
    let campaign = Campaign {
        line: "init --import all.json --store STORE",
        prepare: |_| {
            let directory = Directory::new();
            directory.write("all.json", "{\"A\": \"a\", \"B\": \"b\"}");
            directory
        },
        done: |directory, when| {
            let values = opened(directory, when);
            let complete = values.as_ref().is_some_and(|values| values.len() == 2);
            // All of the import or nothing of it.
            assert!(complete || values.is_none_or(|values| values.is_empty()), "{when}");
            complete && !directory.path(".vault-init").exists()
        },
    };
    campaign.run();
}

#[test]
fn rotate_survives_faults_at_every_call() {
    let campaign = Campaign {
        line: "rotate --yes",
        prepare: |store| {
            let directory = with_secrets(store);
            directory.vault("key generate --out next").ok();
            directory.vault("key add next").ok();
            directory
        },
        done: |directory, when| {
            let values = opened(directory, when).unwrap_or_else(|| panic!("{when}: it does not load"));
            let expected = [("A", "a2"), ("B", "b2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(values, BTreeMap::from(expected), "{when}");
            let vault = load(directory).unwrap();
            let next = vault_core::MasterKey::parse_for_opening(&fs::read(directory.path("next")).unwrap()).unwrap();
            let entries = vault.store().unwrap().page(None, 100).unwrap();
            assert_eq!(entries.len(), 4, "{when}");
            vault.sealer().unwrap().primary().unwrap() == next.kid()
                && entries.iter().all(|entry| entry.token.kid() == next.kid())
        },
    };
    campaign.run();
}

fn with_secrets(store: &str) -> Directory {
    let directory = home(store);
    for (name, value) in [("A", "a1"), ("A", "a2"), ("B", "b1"), ("B", "b2")] {
        directory.vault_with(&format!("set {name}"), value.as_bytes()).ok();
    }
    directory.write("new", "new");
    directory
}

fn load(directory: &Directory) -> Option<Vault> {
    Config::with_profile(directory.path("vault.toml"), None).and_then(Vault::load).ok()
}

/// The newest value of every name; none where there is no configuration or store yet.
fn opened(directory: &Directory, when: &str) -> Option<BTreeMap<String, String>> {
    let vault = load(directory)?;
    let store = vault.store().unwrap();
    if !store.exists().unwrap() {
        return None;
    }
    // An SQLite file without tables is one that was not made yet.
    let names = match store.names() {
        Ok(names) => names,
        Err(error) if error.to_string().contains("it is no store") && directory.path(".vault-init").exists() => {
            return None;
        }
        Err(error) => panic!("{when}: {error}"),
    };
    store.check().unwrap_or_else(|error| panic!("{when}: {error}"));
    let value = |name: &EntryName| {
        let resolved = vault.stored(name, Version::Current).unwrap_or_else(|error| panic!("{when}: {error}"));
        String::from_utf8(resolved.value.expose_secret().to_vec()).unwrap()
    };
    for entry in store.page(None, 1_000).unwrap() {
        vault.sealer().unwrap().open(&entry.context(), &entry.token).unwrap_or_else(|error| panic!("{when}: {error}"));
    }
    Some(names.iter().map(|name| (name.name().as_str().to_owned(), value(name))).collect())
}

/// What one store went through.
#[derive(Default)]
struct Tally {
    points: BTreeMap<String, usize>,
    unharmed: usize,
    durability_unknown: usize,
    /// Of these, how often it was the flush itself that failed.
    unflushed: usize,
}

impl Campaign {
    fn run(&self) {
        for store in STORES {
            let line = self.line.replace("STORE", store);
            let template = (self.prepare)(store);
            let points = sample(points(&template, &line));
            let tally = Mutex::new(Tally::default());
            let next = AtomicUsize::new(0);
            thread::scope(|scope| {
                for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
                    scope.spawn(|| {
                        while let Some((fault, call, number)) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                            self.point(&template, &line, (*fault, call, *number), &tally);
                        }
                    });
                }
            });
            let tally = tally.into_inner().unwrap();
            let told: Vec<_> = tally.points.iter().map(|(fault, count)| format!("{count} {fault}")).collect();
            // Shown with --nocapture.
            let _ = writeln!(
                std::io::stdout(),
                "{line} on {store}: {}; {} ended well all the same, {} times durability-unknown; no failure",
                told.join(", "),
                tally.unharmed,
                tally.durability_unknown
            );
            assert!(tally.points.values().sum::<usize>() > 30, "does strace see the calls?");
            if store.starts_with("file:") {
                assert!(tally.unflushed > 0, "{line}: no failed flush of a directory was reported");
            }
        }
    }

    /// Does one thing to one call, in a copy of the directory.
    fn point(
        &self,
        template: &Directory,
        line: &str,
        (fault, call, number): (Fault, &str, usize),
        tally: &Mutex<Tally>,
    ) {
        let when = format!("{line}, {call} {number}, {fault:?}");
        let copy = Directory::new();
        copy_all(template.home.path(), copy.home.path());
        let code = injected(&copy, line, call, number, fault);
        let done = (self.done)(&copy, &when);
        {
            let mut tally = tally.lock().unwrap();
            match code {
                Some(0) => {
                    tally.unharmed += 1;
                    assert!(done, "{when}: it reported success, and nothing of it is there");
                }
                Some(24) => {
                    tally.durability_unknown += 1;
                    tally.unflushed += usize::from(call == "fsync");
                    assert!(fault != Fault::Kill, "{when}");
                }
                // A panic, or a signal that nobody sent.
                Some(101 | 128..) => panic!("{when}: exit status {code:?}"),
                _ => {}
            }
            let name = match fault {
                Fault::Kill => "kills".to_owned(),
                Fault::Fails(errno) => errno.to_owned(),
            };
            *tally.points.entry(name).or_default() += 1;
        }
        // Typed again without a fault, it does what it does; what was done already may be refused.
        let again = copy.vault(line);
        assert!(done || again.code == 0, "{when}, again: {again:?}");
        assert!((self.done)(&copy, &format!("{when}, again")), "{when}, again: {again:?}");
    }
}

/// Every call that the command makes beyond those that every command makes at its start.
fn points(template: &Directory, line: &str) -> Vec<(Fault, String, usize)> {
    let start = calls(&copied(template), "--version");
    let all = calls(&copied(template), line);
    let mut points = Vec::new();
    for (call, count) in all {
        let first = start.get(&call).copied().unwrap_or_default() + 1;
        for fault in FAULTS.into_iter().filter(|fault| fault.fits(&call)) {
            points.extend((first..=count).map(|number| (fault, call.clone(), number)));
        }
    }
    points
}

/// About [`SAMPLE`] points, or all of them where all are asked for. Flushes are what only these tests
/// look at, so none of them is left out.
#[expect(clippy::disallowed_methods, reason = "a test is told how much is asked for")]
fn sample(points: Vec<(Fault, String, usize)>) -> Vec<(Fault, String, usize)> {
    let every = if std::env::var_os("VAULT_FAULTS").is_some_and(|asked| asked == "all") {
        1
    } else {
        points.len() / SAMPLE + 1
    };
    let numbered = points.into_iter().enumerate();
    numbered.filter(|(at, (_, call, _))| at % every == 0 || call == "fsync").map(|(_, point)| point).collect()
}

fn copied(template: &Directory) -> Directory {
    let copy = Directory::new();
    copy_all(template.home.path(), copy.home.path());
    copy
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_all(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// How often a command makes each call.
fn calls(directory: &Directory, line: &str) -> BTreeMap<String, usize> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let status = strace(directory, line, log.path(), &format!("trace={CALLS}"));
    assert!(status.is_some(), "{line}");
    let mut calls = BTreeMap::new();
    for call in fs::read_to_string(log.path()).unwrap().lines() {
        let call = call.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        if let Some((name, _)) = call.split_once('(').filter(|(name, _)| CALLS.split(',').any(|known| known == *name)) {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}

/// The exit status of a command of which one call was tampered with; none after a kill.
fn injected(directory: &Directory, line: &str, call: &str, number: usize, fault: Fault) -> Option<i32> {
    let inject = format!("inject={call}:{}:when={number}", fault.injected());
    strace(directory, line, Path::new("/dev/null"), &inject).filter(|code| *code != 137)
}

fn strace(directory: &Directory, line: &str, log: &Path, expression: &str) -> Option<i32> {
    Command::new("strace")
        .args(["-f", "-qq", "-e", "signal=none", "-o"])
        .arg(log)
        .args(["-e", expression])
        .arg(crate::binary())
        .args(line.split(' '))
        .current_dir(directory.home.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("strace is installed")
        .code()
}

/// A kill shows nothing of what a power loss would: only the order of the calls does.
#[test]
fn a_new_file_is_flushed_before_it_takes_the_place_of_the_old_one() {
    let directory = with_secrets(STORES[0]);
    let log = tempfile::NamedTempFile::new().unwrap();
    let ran = crate::finish(
        Command::new("strace")
            .args(["-f", "-qq", "-y", "-e", "signal=none", "-e", "trace=write,fsync,rename,renameat2", "-o"])
            .arg(log.path())
            .arg(crate::binary())
            .args("set A --from-file new".split(' '))
            .current_dir(directory.home.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin"),
        b"",
    );
    ran.ok();
    let here = format!("<{}>", directory.home.path().canonicalize().unwrap().display());
    let step = |line: &str| {
        let (call, rest) = line.split_once('(')?;
        let call = call.rsplit(' ').next()?;
        Some(match call {
            "write" if rest.contains(".tmp>") => "write it",
            "fsync" if rest.contains(".tmp>") => "flush it",
            "fsync" if rest.contains(&here) => "flush the directory",
            "rename" | "renameat2" if rest.contains("vault.store.toml.bak\"") => "keep the old one",
            "rename" | "renameat2" if rest.contains("vault.store.toml\"") => "put it in place",
            _ => return None,
        })
    };
    let log = fs::read_to_string(log.path()).unwrap();
    let steps: Vec<_> = log.lines().filter_map(step).collect();
    assert_eq!(steps, ["write it", "flush it", "keep the old one", "put it in place", "flush the directory"], "{log}");
}

/// What a place that cannot hold a store says, and what the operator is told to do.
#[test]
fn places_that_cannot_hold_a_store_are_refused_with_the_reason() {
    let template = with_secrets(STORES[0]);
    for (inject, words) in [
        // Grants every lock, to two at once: as some network file systems do.
        ("flock:retval=0", "locks do not work on this file system"),
        ("flock:error=ENOLCK", "locks do not work on this file system"),
        ("rename,renameat2:error=EBUSY", "mount its directory"),
        ("link,linkat:error=EXDEV", "mount its directory"),
    ] {
        let copy = copied(&template);
        let ran = crate::finish(
            Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={inject}")])
                .arg(crate::binary())
                .args("set A --from-file new".split(' '))
                .current_dir(copy.home.path())
                .env_clear()
                .env("PATH", "/usr/bin:/bin"),
            b"",
        );
        let error = ran.fails(18);
        assert!(error.contains(words), "{inject}: {error}");
        assert_eq!(opened(&copy, inject).unwrap()["A"], "a2", "{inject}");
        copy.vault("set A --from-file new").ok();
    }
}
