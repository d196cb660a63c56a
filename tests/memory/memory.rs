//! After everything is dropped, nothing that a process can write to holds a key, anything derived
//! from one, a data key or a plaintext; and an aborted command leaves no core.
//!
//! Each case runs in a process of its own, which reads its secrets from files and then waits. This
//! one knows the secrets, computes what the library derives from them with other code, and reads
//! the waiting process's memory: the search itself leaves no traces there.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod cases;
mod core_file;
mod expected;
mod scan;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use vault_core::{Config, Vault};

use cases::{CASES, Case, Leaves, USER};
use expected::{Master, fixed, fixed_text, hex, social_legacy, text_key};
use scan::{Needles, Scan};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.as_slice() {
        [_, mode, case, directory] if mode == "case" => return cases::run(case, directory),
        [_, mode, _, directory] if mode == "hold" => return cases::hold(directory),
        _ => {}
    }
    if cfg!(debug_assertions) {
        println!("test result: ok. 0 passed; 0 failed; 1 ignored: it is about releases, so run it with --release");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(directory.path());
    let only = arguments.get(1).filter(|argument| !argument.starts_with('-'));
    println!("{:<38}{:>8}{:>9}{:>12}{:>12}", "case", "regions", "KiB", "hits in use", "hits after");
    for case in CASES {
        if only.is_none_or(|only| case.0.contains(only.as_str())) {
            world.check(case);
        }
    }
    if only.is_none() {
        world.check_kept();
        core_file::check(&mut world);
    }
    assert!(world.failures.is_empty(), "\n{}", world.failures.join("\n"));
    println!("test result: ok. {} passed; 0 failed", world.checked);
}

/// The secrets, and what was found of them.
struct World<'a> {
    directory: &'a Path,
    needles: Needles,
    masters: BTreeMap<&'static str, Master>,
    /// How often each secret was found while it was in use.
    in_use: BTreeMap<String, usize>,
    failures: Vec<String>,
    checked: usize,
}

impl<'a> World<'a> {
    /// Writes the files that the cases read.
    fn new(directory: &'a Path) -> Self {
        let mut needles = Needles::new();
        let write = |name: &str, content: &[u8]| fs::write(directory.join(name), content).unwrap();
        let masters = ["kek_1", "kek_2", "third"].map(|name| {
            write(name, format!("{}\n", fixed_text(name)).as_bytes());
            (name, Master::new(name, &fixed(name, 32), &mut needles))
        });
        write("key.raw", &fixed("kek_1", 32));
        write("key.hex", hex(&fixed("kek_1", 32)).as_bytes());
        // All of the key, and no key.
        write("key.spoiled", format!("{}!", fixed_text("kek_1")).as_bytes());
        // Printable bytes, so weak.
        let weak: Vec<u8> = fixed("weak", 32).iter().map(|byte| b'!' + byte % 90).collect();
        write("weak", hex(&weak).as_bytes());
        Master::new("weak", &weak, &mut needles);
        for (name, length) in [("plain-64", 64), ("plain-1k", 1 << 10), ("plain-1m", 1 << 20)] {
            write(name, &fixed(name, length));
            needles.add(name, &fixed(name, length));
        }
        let password = hex(&fixed("password", 32));
        write("password", format!("{password}\n").as_bytes());
        needles.add("deployment secret", password.as_bytes());
        let json = format!("{{\"secret\":\"{}\"}}", hex(&fixed("json", 64)));
        write("plain-json", json.as_bytes());
        needles.add("plain-json", json.as_bytes());
        let text = fixed_text("text");
        write("text_1", format!("{text}\n").as_bytes());
        text_key(&text, &[USER], &mut needles);
        write("social-legacy", social_legacy(&text, json.as_bytes()).as_bytes());
        let config = "version = 1\n\
            [keyring.main]\nsources = ['file:kek_*']\nstate = 'main.keyring.toml'\n\
            [keyring.text]\nkind = 'text'\nsources = ['file:text_1']\n\
            [secrets.PASSWORD]\npath = 'password'\n";
        write("vault.toml", config.as_bytes());
        write("store.toml", format!("{config}[store]\nurl = 'file:store'\n").as_bytes());
        keyring_of_two(directory);
        Self { directory, needles, masters: masters.into(), in_use: BTreeMap::new(), failures: Vec::new(), checked: 0 }
    }

    fn check(&mut self, (name, leaves, _): &Case) {
        let mut process = Process::start("case", name, self.directory);
        let before = self.scan(&mut process, "alive");
        for ((_, secret), count) in &before.hits {
            *self.in_use.entry(secret.clone()).or_default() += count;
        }
        let after = self.scan(&mut process, "dropped");
        process.end();
        println!("{name:<38}{:>8}{:>9}{:>12}{:>12}", after.regions, after.bytes >> 10, before.total(), after.total());
        self.checked += 1;
        match leaves {
            Leaves::Nothing => {
                if before.total() == 0 && *name != "master key, refused" {
                    self.failures.push(format!("{name}: no secret was found while it was in use"));
                }
                for ((class, secret), count) in &after.hits {
                    self.failures.push(format!("{name}: left in {class:?}: {secret} ({count} times)"));
                }
            }
            Leaves::Secrets(class) => {
                if !after.hits.contains_key(&(*class, "kek_1: key".to_owned())) {
                    self.failures.push(format!("{name}: not found; the scan proves nothing"));
                }
            }
        }
    }

    fn scan(&mut self, process: &mut Process, until: &str) -> Scan {
        for line in process.until(until) {
            let [what, key, text] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let master = &self.masters[key];
            match what {
                "token" => master.token(text, &mut self.needles),
                "generated" => drop(master.wrapped("generated", text, &mut self.needles)),
                _ => panic!("{line}"),
            }
        }
        let scan = self.needles.in_process(process.child.id()).unwrap();
        process.proceed();
        scan
    }

    /// What the library keeps in memory was found there, so its absence later says something.
    fn check_kept(&mut self) {
        for secret in KEPT {
            if !self.in_use.contains_key(*secret) {
                self.failures.push(format!("{secret}: never found in use, so never searched for"));
            }
        }
        println!("found in use: {}", self.in_use.keys().map(String::as_str).collect::<Vec<_>>().join(", "));
    }
}

/// What a key in use holds.
const KEPT: &[&str] = &[
    "kek_1: key",
    "kek_1: text",
    "kek_1: PRK state",
    "kek_1: hedge state",
    "kek_1: wrap key",
    "kek_1: MAC round keys",
    "kek_1: stream round keys",
    "kek_1: K1 of CMAC",
    "kek_1: K2 of CMAC",
    "kek_1: CMAC of zeros",
    "kek_1: label",
    "generated: key",
    "generated: wrap key",
    "text key: text",
    "text key: id PRK state",
    "text key: nonce key state",
    "text key: decoded",
    "text key: PBKDF2",
    "text key: user",
    "text key: scrypt",
    "text key: MD5",
    "plain-64",
    "plain-1k",
    "plain-1m",
    "plain-json",
    "deployment secret",
];

/// A state file of two keys, the first of which is primary, from the library itself.
fn keyring_of_two(directory: &Path) {
    let second = directory.join("second");
    fs::rename(directory.join("kek_2"), &second).unwrap();
    let config = Config::from_file(directory.join("vault.toml")).unwrap();
    Vault::key_add(&config, "main", &second, Some("2"), None).unwrap();
}

/// A process under test.
struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Process {
    fn start(mode: &str, name: &str, directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([mode, name])
            .arg(directory)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// What it says before a word.
    fn until(&mut self, word: &str) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            match self.lines.next() {
                Some(Ok(line)) if line == word => return said,
                Some(Ok(line)) => said.push(line),
                _ => panic!("the process ended before it was {word}: {:?}", self.child.wait()),
            }
        }
    }

    fn proceed(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn end(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}
