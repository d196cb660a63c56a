//! What this process does about signals.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGTSTP};
use signal_hook::{flag, low_level};
use vault_core::Error;

/// The signals that the caller chose to ignore, which stay ignored: so `nohup` works.
pub(crate) fn ignored_signals() -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..=64).filter(|signal| mask >> (signal - 1) & 1 == 1).collect()
}

/// Signals that a run answers between two batches: SIGINT and SIGTERM end it, SIGTSTP stops the
/// process until SIGCONT, while it holds no lock. What is sent twice acts at once, and what is sent
/// after the run does what it does by itself.
pub(crate) struct RunSignals {
    ended: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
}

impl RunSignals {
    pub(crate) fn register() -> Result<Self, Error> {
        let signals = Self { ended: Arc::default(), paused: Arc::default() };
        let ignored = ignored_signals();
        let wanted = [(SIGINT, &signals.ended), (SIGTERM, &signals.ended), (SIGTSTP, &signals.paused)];
        for (signal, asked) in wanted.into_iter().filter(|(signal, _)| !ignored.contains(signal)) {
            // In this order: the first signal finds nothing asked yet.
            flag::register_conditional_default(signal, Arc::clone(asked))
                .and_then(|_| flag::register(signal, Arc::clone(asked)))
                .map_err(|source| Error::Io { action: "handle", path: "signals".into(), source })?;
        }
        Ok(signals)
    }

    /// Whether the run is to end.
    pub(crate) fn end(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Stops here where that was asked for, until the process is continued.
    pub(crate) fn pause(&self) {
        if self.paused.load(Ordering::Relaxed) {
            // Where it cannot be stopped, it goes on.
            let _ = low_level::emulate_default_handler(SIGTSTP);
            self.paused.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for RunSignals {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.paused.store(true, Ordering::Relaxed);
    }
}
