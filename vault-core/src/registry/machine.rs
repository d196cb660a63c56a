//! Where a process runs, and whether one of this machine is still there.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use rustix::system::uname;

/// Where a process runs, in words that another process can compare.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Whereabouts {
    /// The name of the machine, or of the container. Several may have one name.
    pub(crate) machine: String,
    /// The boot of the machine; empty where the system does not tell.
    pub(crate) boot: String,
    /// The namespace in which `pid` is a number.
    pub(crate) pids: String,
    /// The namespace in which paths name files.
    pub(crate) mounts: String,
    /// The number of the process.
    pub(crate) pid: u32,
    /// When it began, in ticks since the boot: numbers of processes come again.
    pub(crate) start: u64,
}

/// Whether a process is still there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Presence {
    /// It runs on this machine.
    Here,
    /// It is on this machine and was stopped, by SIGSTOP or a debugger: what it was about to do, it does
    /// when it goes on.
    Stopped,
    /// It was on this machine and has ended.
    Gone,
    /// It is on another machine or in another container, where nobody here can look.
    Elsewhere,
}

impl Whereabouts {
    /// Those of this process, asked for anew because a fork is a process of its own.
    pub(crate) fn here() -> Self {
        Self {
            machine: uname().nodename().to_string_lossy().into_owned(),
            ..Self { pid: std::process::id(), start: stat("self").map_or(0, |stat| stat.start), ..namespaces() }
        }
    }

    /// Whether a process there is still there, as far as this process can tell.
    pub(crate) fn presence(&self) -> Presence {
        let here = namespaces();
        if self.boot.is_empty() || (&self.boot, &self.pids) != (&here.boot, &here.pids) {
            return Presence::Elsewhere;
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        // Where /proc hides the processes of others, the signal that is not sent still finds them.
        let there = pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH));
        match stat(&self.pid.to_string()) {
            _ if !there => Presence::Gone,
            Some(stat) if stat.start != self.start || matches!(stat.state, 'Z' | 'X') => Presence::Gone,
            Some(stat) if matches!(stat.state, 'T' | 't') => Presence::Stopped,
            _ => Presence::Here,
        }
    }

    /// Whether a path means the same file to both.
    pub(crate) fn shares_paths_with(&self, other: &Self) -> bool {
        !self.boot.is_empty() && (&self.boot, &self.mounts) == (&other.boot, &other.mounts)
    }
}

fn namespaces() -> Whereabouts {
    let link = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
    let text = |name: &str| link(name).to_string_lossy().into_owned();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Whereabouts { boot: boot.trim().to_owned(), pids: text("pid"), mounts: text("mnt"), ..Whereabouts::default() }
}

struct Stat {
    state: char,
    start: u64,
}

/// What the system says of a process. Its name may hold anything, and stands in parentheses.
fn stat(process: &str) -> Option<Stat> {
    let told = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, behind_the_name) = told.rsplit_once(") ")?;
    let mut fields = behind_the_name.split(' ');
    let state = fields.next()?.chars().next()?;
    Some(Stat { state, start: fields.nth(18)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_another_with_its_number() {
        let here = Whereabouts::here();
        assert_eq!(here.presence(), Presence::Here);
        assert!(here.shares_paths_with(&Whereabouts::here()));
        assert_eq!(Whereabouts { start: here.start + 1, ..here.clone() }.presence(), Presence::Gone);
        assert_eq!(Whereabouts { boot: "another".to_owned(), ..here.clone() }.presence(), Presence::Elsewhere);
        assert_eq!(Whereabouts { pids: "pid:[1]".to_owned(), ..here.clone() }.presence(), Presence::Elsewhere);
        assert_eq!(Whereabouts { pid: 0, ..here.clone() }.presence(), Presence::Gone);
        assert_eq!(Whereabouts::default().presence(), Presence::Elsewhere);
        assert!(!Whereabouts { mounts: "mnt:[1]".to_owned(), ..here }.shares_paths_with(&Whereabouts::here()));
    }
}
