//! Processes that can be killed while somebody waits for them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// A place for one process at a time.
#[derive(Default)]
pub(crate) struct Slot(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    child: Option<Child>,
    input: Option<ChildStdin>,
    killed: bool,
}

impl Slot {
    /// Kills what runs, if anything does.
    pub(crate) fn kill(&self) -> bool {
        let mut inside = self.lock();
        let Some(child) = &mut inside.child else { return false };
        // A process that was not waited for keeps its id.
        let runs = child.try_wait().unwrap().is_none();
        if runs {
            child.kill().unwrap();
            inside.killed = true;
        }
        runs
    }

    /// Ends the standard input of what runs.
    pub(crate) fn dismiss(&self) {
        self.lock().input = None;
    }

    pub(crate) fn order(&self, line: &str) {
        if let Some(input) = &mut self.lock().input {
            // It may just have been killed.
            let _ = writeln!(input, "{line}");
        }
    }

    /// Runs a process and hands over each line that it writes. Returns how it ended, and whether it was killed here.
    pub(crate) fn talk(&self, command: &mut Command, mut hear: impl FnMut(&str)) -> (ExitStatus, bool) {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        self.begin(child);
        let mut output = BufReader::new(output);
        let mut line = String::new();
        // The last line of a process that was killed may be cut.
        while output.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            hear(line.trim_end());
            line.clear();
        }
        self.end(Duration::from_secs(30))
    }

    /// Runs a process to its end.
    pub(crate) fn wait(&self, command: &mut Command, patience: Duration) -> (ExitStatus, bool) {
        self.begin(command.stdin(Stdio::null()).spawn().unwrap());
        self.end(patience)
    }

    fn begin(&self, mut child: Child) {
        let input = child.stdin.take();
        *self.lock() = Inside { child: Some(child), input, killed: false };
    }

    fn end(&self, patience: Duration) -> (ExitStatus, bool) {
        let started = Instant::now();
        loop {
            let mut inside = self.lock();
            let child = inside.child.as_mut().unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                let killed = inside.killed;
                *inside = Inside::default();
                return (status, killed);
            }
            if started.elapsed() > patience {
                child.kill().unwrap();
            }
            drop(inside);
            thread::sleep(Duration::from_millis(3));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }
}
