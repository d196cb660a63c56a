//! Children of a process whose threads look at their keys at every moment: each follows a change of keys,
//! and none waits for a look that its parent had begun.
#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vault_core::{Change, Config, Context, Followed, MasterKey, Vault};

const CHILDREN: usize = 40;
const THREADS: usize = 4;

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("vault.toml");
    fs::write(directory.path().join("kek_1"), MasterKey::generate().unwrap().text().expose_secret()).unwrap();
    let text =
        "version = 1\n[vault]\nfollow = \"100ms\"\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"states\"\n";
    fs::write(&config, text).unwrap();
    let config = || Config::from_file(Path::new(&config)).unwrap();
    let kid = Vault::key_generate(&config(), "main", None).unwrap();
    let vault = Vault::load(config()).unwrap();
    let ends = AtomicBool::new(false);
    let mut children = Vec::new();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !ends.load(Ordering::SeqCst) {
                    // Nearly all of its time is spent in looks.
                    vault.refresh().unwrap();
                }
            });
        }
        for _ in 0..CHILDREN {
            // SAFETY: the child calls nothing that takes a lock of another thread, which is what is shown:
            // the allocator's are given back by the C library.
            match unsafe { libc::fork() } {
                0 => {
                    let followed = panic::catch_unwind(AssertUnwindSafe(|| follows(&vault, kid.as_str())));
                    // SAFETY: ends the child at once, without running the parent's destructors.
                    unsafe { libc::_exit(i32::from(!followed.unwrap_or(false))) }
                }
                id if id > 0 => children.push(id),
                _ => panic!("fork failed"),
            }
            thread::sleep(Duration::from_millis(1));
        }
        ends.store(true, Ordering::SeqCst);
    });
    let operator = Vault::load(config().without_heartbeats()).unwrap();
    let followed = Followed::by_the_word_of_an_operator_who_looked(&operator, "main", Some(kid)).unwrap();
    operator.key_change("main", &Change::Promote(kid, followed), None).unwrap();
    for (child, id) in children.into_iter().enumerate() {
        let mut status = 0;
        // SAFETY: `status` is valid for the write, and the child is ours to wait for.
        assert_eq!(unsafe { libc::waitpid(id, &raw mut status, 0) }, id);
        assert_eq!(status, 0, "child {child}");
    }
    println!("test result: ok. 1 passed; 0 failed: {CHILDREN} children followed their keys");
}

/// Whether what is sealed is under a key before a minute has gone. No seal takes as long as a thread waits
/// for one that hangs.
fn follows(vault: &Vault, kid: &str) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        let before = Instant::now();
        let token = vault.seal(&Context::new("user-secret"), b"secret").unwrap();
        if before.elapsed() > Duration::from_secs(5) {
            return false;
        }
        if token.kid().as_str() == kid {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}
