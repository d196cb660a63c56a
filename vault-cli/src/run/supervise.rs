//! The parent of a command: passes signals on to it, reaps what is left to it, and says how it
//! ended.

use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;

use rustix::io::Errno;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpgid, getpid, kill_process, kill_process_group,
    setrlimit, wait,
};
use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::exfiltrator::origin::Origin;
use signal_hook::low_level::siginfo::Cause;
use vault_core::Error;

use crate::output::Stream;
use crate::signals::ignored_signals;

use super::mask::Mask;

/// The signals that are passed on from now on, instead of ending this process.
pub(super) struct Signals(SignalsInfo<WithOrigin>);

impl Signals {
    /// What the caller chose to ignore stays ignored, for the command too: so `nohup` works.
    pub(super) fn register() -> Result<Self, Error> {
        let ignored = ignored_signals();
        let wanted = PASSED_ON.into_iter().filter(|signal| !ignored.contains(signal)).chain([SIGCHLD]);
        let handled = SignalsInfo::new(wanted).map(Self);
        handled.map_err(|source| Error::Io { action: "handle", path: "signals".into(), source })
    }
}

enum Event {
    Signal(Origin),
    /// One of the command's streams is at its end.
    Drained,
}

/// Starts the command and waits until it has ended and what it printed has been passed on. Returns
/// its exit status; fails only where it could not be started.
pub(super) fn supervise(
    mut command: Command,
    core_limit: Rlimit,
    signals: Signals,
    mask: Option<Mask>,
) -> io::Result<u8> {
    if mask.is_some() {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    // The command has the caller's limit. There is still no core file of this process: it is not
    // dumpable, which the command is as soon as it is a program of its own.
    let _ = setrlimit(Resource::Core, core_limit);
    let started = command.spawn();
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), ..core_limit });
    let mut child = started?;
    // What the command was given is held once less.
    drop(command);
    let pid = Pid::from_child(&child);

    let (sender, events) = mpsc::channel();
    let mut draining = 0;
    if let Some(mask) = mask {
        let mask = Arc::new(mask);
        if let Some(stdout) = child.stdout.take() {
            drain(stdout, Stream::Out, &mask, sender.clone());
            draining += 1;
        }
        if let Some(stderr) = child.stderr.take() {
            drain(stderr, Stream::Err, &mask, sender.clone());
            draining += 1;
        }
    }
    thread::spawn(move || {
        let Signals(mut signals) = signals;
        // Nobody listens any more once the command has ended.
        signals.forever().map(Event::Signal).all(|event| sender.send(event).is_ok())
    });

    let mut ended = None;
    while ended.is_none() || draining > 0 {
        match events.recv() {
            Ok(Event::Drained) => draining -= 1,
            Ok(Event::Signal(origin)) if origin.signal == SIGCHLD => {
                ended = ended.or(reap(pid));
                if ended.is_some() && getpid() == Pid::INIT {
                    // With the first process of a container ends every other. Now, and not when we
                    // exit: they may hold the streams. The group 1 is everybody, by kill(2).
                    let _ = kill_process_group(Pid::INIT, Signal::KILL);
                }
            }
            Ok(Event::Signal(origin)) => match ended {
                None => pass_on(&origin, pid),
                // What still holds the streams is no child of ours.
                Some(_) if ENDING.contains(&origin.signal) => break,
                Some(_) => {}
            },
            Err(_) => break,
        }
    }
    Ok(ended.unwrap_or(FAILED))
}

fn drain(from: impl io::Read + Send + 'static, to: Stream, mask: &Arc<Mask>, done: Sender<Event>) {
    let mask = Arc::clone(mask);
    thread::spawn(move || {
        mask.copy(from, |bytes| to.pass(bytes));
        let _ = done.send(Event::Drained);
    });
}

/// Waits for every child that has ended: the first process of a container has those of others too.
/// Returns the exit status of `command`, if it is among them.
fn reap(command: Pid) -> Option<u8> {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == command => ended = Some(code(status)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return ended,
        }
    }
}

/// The status that a shell has for a command that ended so.
fn code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}

fn pass_on(origin: &Origin, command: Pid) {
    // A terminal sends these to the whole group in its foreground, and so to the command, unless
    // that went into a group of its own.
    let by_terminal = matches!(origin.cause, Cause::Kernel)
        && [SIGINT, SIGQUIT, SIGWINCH].contains(&origin.signal)
        && getpgid(Some(command)).ok() == getpgid(None).ok();
    if let Some(signal) = Signal::from_named_raw(origin.signal)
        && !by_terminal
    {
        // It may have ended in the meantime, and has not been waited for: the number is still its own.
        let _ = kill_process(command, signal);
    }
}

const PASSED_ON: [i32; 8] = [SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];

/// Signals that end a process.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// Where the system does not say how the command ended.
const FAILED: u8 = 1;
