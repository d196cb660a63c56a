//! Children of a process that has sealed before never repeat one of its data keys, nor one of each
//! other's.
#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeSet;
use std::fs;

use vault_core::{Context, Keyring, MasterKey, Sealer};

const CHILDREN: usize = 8;
const SEALS: usize = 1_000;

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let sealer = Sealer::new(Keyring::single(MasterKey::generate().unwrap()));
    // Fills this thread's buffer of randomness, which every child then inherits.
    let before = wraps(&sealer, 1);
    let mut children = Vec::new();
    for child in 0..CHILDREN {
        // SAFETY: this process has one thread, so the child's memory is in a consistent state.
        match unsafe { libc::fork() } {
            0 => {
                fs::write(directory.path().join(child.to_string()), wraps(&sealer, SEALS).join("\n")).unwrap();
                // SAFETY: ends the child at once, without running the parent's destructors.
                unsafe { libc::_exit(0) }
            }
            id if id > 0 => children.push(id),
            _ => panic!("fork failed"),
        }
    }
    let mut seen: BTreeSet<String> = before.into_iter().chain(wraps(&sealer, SEALS)).collect();
    for (child, id) in children.into_iter().enumerate() {
        let mut status = 0;
        // SAFETY: `status` is valid for the write, and the child is ours to wait for.
        assert_eq!(unsafe { libc::waitpid(id, &raw mut status, 0) }, id);
        assert_eq!(status, 0, "child {child}");
        seen.extend(fs::read_to_string(directory.path().join(child.to_string())).unwrap().lines().map(str::to_owned));
    }
    assert_eq!(seen.len(), 1 + SEALS * (CHILDREN + 1), "a data key was used twice");
    println!(
        "test result: ok. 1 passed; 0 failed: {} seals in {} processes, no data key repeated",
        seen.len(),
        CHILDREN + 1
    );
}

/// The wrapped data keys of equal secrets: they differ exactly where the data keys do.
fn wraps(sealer: &Sealer, count: usize) -> Vec<String> {
    let context = Context::new("user-secret");
    (0..count).map(|_| sealer.seal(&context, b"the same secret").unwrap().to_string()[22..86].to_owned()).collect()
}
