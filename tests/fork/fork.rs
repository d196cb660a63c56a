//! Children of a process that has sealed before never repeat one of its data keys, nor one of each
//! other's; nor does a child that has its parent's process id, in a PID namespace of its own.
#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use vault_core::{Context, Keyring, MasterKey, Sealer};

const CHILDREN: usize = 8;
const SEALS: usize = 1_000;

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let sealer = Sealer::new(Keyring::single(MasterKey::generate().unwrap()));
    // Whatever is kept of it, every child inherits.
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
    let namespaces = equal_process_ids(&sealer, directory.path());
    println!(
        "test result: ok. 1 passed; 0 failed: {} seals in {} processes, no data key repeated; {namespaces}",
        seen.len(),
        CHILDREN + 1
    );
}

/// A first process of one PID namespace forks into another, where its child is the first one, too.
fn equal_process_ids(sealer: &Sealer, directory: &Path) -> &'static str {
    const NOT_ALLOWED: i32 = 77;
    let in_namespace = |work: &dyn Fn()| -> i32 {
        // SAFETY: this process has one thread, and what its child does ends with it.
        match unsafe { libc::fork() } {
            0 => {
                work();
                // SAFETY: ends the child at once, without running the parent's destructors.
                unsafe { libc::_exit(0) }
            }
            id => {
                let mut status = 0;
                // SAFETY: `status` is valid for the write, and the child is ours to wait for.
                assert_eq!(unsafe { libc::waitpid(id, &raw mut status, 0) }, id);
                libc::WEXITSTATUS(status)
            }
        }
    };
    let separate = |flags| {
        // SAFETY: changes only where the next child of this process is put.
        if unsafe { libc::unshare(flags) } != 0 {
            // SAFETY: as above.
            unsafe { libc::_exit(NOT_ALLOWED) }
        }
    };
    let note = |name: &str| {
        let text = format!("{} {}", std::process::id(), wraps(sealer, 1).concat());
        fs::write(directory.join(name), text).unwrap();
    };
    let outcome = in_namespace(&|| {
        separate(libc::CLONE_NEWUSER | libc::CLONE_NEWPID);
        let first = in_namespace(&|| {
            wraps(sealer, 1);
            separate(libc::CLONE_NEWPID);
            assert_eq!(in_namespace(&|| note("child")), 0);
            note("parent");
        });
        assert_eq!(first, 0);
    });
    if outcome == NOT_ALLOWED {
        return "this machine makes no PID namespaces for the test";
    }
    let [child, parent] = ["child", "parent"].map(|name| fs::read_to_string(directory.join(name)).unwrap());
    assert!(child.starts_with("1 ") && parent.starts_with("1 "), "equal ids: {child}, {parent}");
    assert_ne!(child, parent, "a data key was used twice by processes of one id");
    "nor by two processes of one id"
}

/// The wrapped data keys of equal secrets: they differ exactly where the data keys do.
fn wraps(sealer: &Sealer, count: usize) -> Vec<String> {
    let context = Context::new("user-secret");
    (0..count).map(|_| sealer.seal(&context, b"the same secret").unwrap().to_string()[22..86].to_owned()).collect()
}
