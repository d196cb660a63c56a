//! Many processes that write one store at the same time, and readers beside them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use vault_core::{Config, Entry, Vault};

use crate::Directory;
use crate::store::{STORES, home};

const PROCESSES: usize = 16;
const SETS: usize = 200;

#[test]
fn sixteen_processes_lose_no_secret_and_readers_see_no_half_of_a_change() {
    for store in STORES {
        let directory = home(store);
        directory.write("value", "a value of some length, as passwords are");
        for round in ["0", "1"] {
            // Both are set in one change, so whoever reads finds them equal.
            directory.write(&format!("pair{round}.json"), format!("{{\"LEFT\": \"{round}\", \"RIGHT\": \"{round}\"}}"));
        }
        directory.vault("import pair0.json").ok();
        let done = AtomicBool::new(false);
        let reads = AtomicUsize::new(0);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let vault = Config::with_profile(directory.path("vault.toml"), None).and_then(Vault::load).unwrap();
                let mut rounds = BTreeSet::new();
                while !done.load(Ordering::Relaxed) {
                    let entries = vault.store().unwrap().page(None, 100_000).unwrap();
                    let newest = |name: &str| {
                        let entry = entries.iter().rev().find(|entry| entry.key.name.name().as_str() == name);
                        open(&vault, entry.unwrap())
                    };
                    let (left, right) = (newest("LEFT"), newest("RIGHT"));
                    assert_eq!(left, right);
                    rounds.insert(left);
                    reads.fetch_add(1, Ordering::Relaxed);
                    // The writers are the test; readers must not take their processors.
                    thread::sleep(Duration::from_millis(20));
                }
                assert_eq!(rounds.len(), 2, "the reader saw no change");
            });
            let writers: Vec<_> = (0..PROCESSES)
                .map(|process| {
                    let directory = &directory;
                    scope.spawn(move || {
                        for number in 0..SETS {
                            until_done(directory, &format!("set P{process}N{number} --from-file value"));
                            if process == 0 && number % 10 == 0 {
                                until_done(directory, &format!("import pair{}.json", number / 10 % 2));
                            }
                        }
                    })
                })
                .collect();
            let written: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap();
            written.into_iter().for_each(|writer| writer.unwrap());
        });
        let listed = directory.vault("list").ok();
        let kept = listed.lines().filter(|name| name.starts_with('P')).count();
        assert_eq!(kept, PROCESSES * SETS);
        assert_eq!(directory.vault("get P7N133").ok(), fs::read_to_string(directory.path("value")).unwrap());
        // Shown with --nocapture.
        let reads = reads.into_inner();
        let _ =
            writeln!(std::io::stdout(), "{store}: {kept} of {} sets kept, {reads} reads beside them", PROCESSES * SETS);
    }
}

/// Who has waited too long for the others is told to try again.
fn until_done(directory: &Directory, line: &str) {
    for _ in 0..20 {
        let told = directory.vault(line);
        if told.code != 75 {
            told.ok();
            return;
        }
    }
    panic!("{line}: there is always somebody else");
}

fn open(vault: &Vault, entry: &Entry) -> Vec<u8> {
    vault.sealer().unwrap().open(&entry.context(), &entry.token).unwrap().expose_secret().to_vec()
}
