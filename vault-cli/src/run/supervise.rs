//! The parent of a command: passes signals on to it, reaps what is left to it, and says how it
//! ended.

use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionread};
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

use super::mask::{Mask, Masked};

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
    /// All that came from one of the command's streams was passed on.
    Drained,
}

/// Starts the command and waits until it has ended and what it printed has been passed on. What it
/// left in the background may keep its streams open, and is not waited for. Returns its exit status;
/// fails only where it could not be started.
pub(super) fn supervise(
    mut command: Command,
    core_limit: Rlimit,
    signals: Signals,
    mask: Option<Mask>,
) -> io::Result<u8> {
    if mask.is_some() {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    // Closed when the command has ended, which wakes who waits for more of its output.
    let (end, running) = io::pipe()?;
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
    let mut running = Some(running);
    if let Some(mask) = mask {
        let masked = Arc::new(Mutex::new(Masked::new(mask)));
        if let Some(stdout) = child.stdout.take() {
            drain(stdout, Stream::Out, &masked, end.try_clone()?, sender.clone());
            draining += 1;
        }
        if let Some(stderr) = child.stderr.take() {
            drain(stderr, Stream::Err, &masked, end.try_clone()?, sender.clone());
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
                if ended.is_some() {
                    drop(running.take());
                }
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

fn drain(
    from: impl Read + AsFd + Send + 'static,
    stream: Stream,
    masked: &Arc<Mutex<Masked>>,
    end: PipeReader,
    done: Sender<Event>,
) {
    let masked = Arc::clone(masked);
    thread::spawn(move || {
        // Where the stream cannot be read, or nobody takes it any more, the command finds out when it
        // prints again.
        let _ = pass_output(from, stream, &masked, &end);
        let _ = done.send(Event::Drained);
    });
}

/// Passes on what comes from a stream of the command, until its end, or until all is passed on that
/// was in it when the command ended.
fn pass_output(mut from: impl Read + AsFd, stream: Stream, masked: &Mutex<Masked>, end: &PipeReader) -> io::Result<()> {
    let mut read = vec![0; READ];
    let mut left = usize::MAX;
    loop {
        if left == usize::MAX && has_ended(&from, end)? {
            left = usize::try_from(ioctl_fionread(&from)?).unwrap_or(usize::MAX);
        }
        // Held while it is read: what comes first, and then something to the other stream, is taken first.
        let mut masked = masked.lock().unwrap_or_else(PoisonError::into_inner);
        let got = match left {
            0 => 0,
            _ => match from.read(read.get_mut(..left.min(READ)).unwrap_or_default()) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            },
        };
        if left != usize::MAX {
            left -= got;
        }
        let at_end = got == 0;
        for (to, bytes) in masked.take(stream, read.get(..got).unwrap_or_default(), at_end) {
            let passed = if bytes.is_empty() { Ok(()) } else { to.pass(&bytes) };
            if to == stream {
                passed?;
            }
        }
        if at_end {
            return Ok(());
        }
    }
}

/// Waits until there is something to read, or the command has ended; whether it has.
fn has_ended(from: &impl AsFd, end: &PipeReader) -> io::Result<bool> {
    let mut waited = [PollFd::new(from, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
    loop {
        match poll(&mut waited, None) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(waited.last().is_some_and(|end| !end.revents().is_empty())),
        }
    }
}

const READ: usize = 64 << 10;

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
