//! When a loaded vault looks whether its keys have changed: the whole rule, without what a look does.
//!
//! A look that began within `follow` is a lease: until it ends, a vault seals without looking. The tool
//! that changes keys waits for as long, and then no process seals by older states. A value that does not
//! open may be under a key that is newer than the lease, so it is worth a look of its own, but only one
//! in [`AGAIN`]: whoever sends forged values causes no more. All threads share one look, and no look needs
//! a thread of its own.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::thread;

use rustix::time::{ClockId, clock_gettime};

/// How old the last look may be before a vault seals, unless `vault.toml` says otherwise.
pub(crate) const DEFAULT_FOLLOW: Duration = Duration::from_secs(1);
/// The shortest and the longest `follow`.
pub(crate) const FOLLOW: core::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// How often a value that does not open is worth a look, or `follow` where that is shorter.
const AGAIN: Duration = Duration::from_millis(250);
/// How long a thread waits for the look of another.
const PATIENCE: Duration = Duration::from_secs(5);
/// A look that failed may take this part of a thread's time: one that took a second is done again after
/// ten.
const SHARE: u64 = 10;
/// The longest time until the next look, whatever the last one took.
const LONGEST: Duration = Duration::from_secs(60);

/// Tells the time, and lets it pass.
pub(crate) trait Clock {
    /// Nanoseconds since some moment. It runs on while the machine sleeps.
    fn now(&self) -> u64;

    /// Waits a little.
    fn pause(&self);
}

/// The time since the machine started.
#[derive(Debug)]
pub(crate) struct SinceBoot;

impl Clock for SinceBoot {
    fn now(&self) -> u64 {
        // Where there is no other name for it, the monotonic clock runs on in a sleeping machine.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        const CLOCK: ClockId = ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        const CLOCK: ClockId = ClockId::Monotonic;
        let time = clock_gettime(CLOCK);
        let part = |number: i64| u64::try_from(number).unwrap_or_default();
        part(time.tv_sec).wrapping_mul(1_000_000_000).wrapping_add(part(time.tv_nsec))
    }

    fn pause(&self) {
        thread::sleep(Duration::from_micros(50));
    }
}

/// Who is looking, and when the next look is due.
///
/// Nothing in it can stay locked: the child of a fork sees that the look which it inherited is another
/// process's, and where that cannot be seen, nobody waits longer than [`PATIENCE`].
#[derive(Debug)]
pub(crate) struct Follower<C = SinceBoot> {
    clock: C,
    follow: u64,
    /// Until when nobody has to look.
    due: AtomicU64,
    /// Until when a value that does not open is worth no look.
    again: AtomicU64,
    /// The process that looks, and which of its looks it is; 0 for nobody.
    owner: AtomicU64,
    looks: AtomicU32,
}

/// Whose look it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    /// The look before this one was ended.
    Next,
    /// The look before was never ended: it is that of another process, from which this one was forked,
    /// or hangs. What it was using may be locked for ever.
    TakenOver,
}

impl Follower {
    /// A vault that looks before it seals if its last look is older than `follow`. The first look is
    /// due.
    pub(crate) fn new(follow: Duration) -> Self {
        Self::with_clock(follow, SinceBoot)
    }
}

impl<C: Clock> Follower<C> {
    fn with_clock(follow: Duration, clock: C) -> Self {
        Self {
            clock,
            follow: nanoseconds(follow),
            due: AtomicU64::new(0),
            again: AtomicU64::new(0),
            owner: AtomicU64::new(0),
            looks: AtomicU32::new(0),
        }
    }

    /// Whether the lease lasts: all that it costs to follow while nothing is due.
    #[inline]
    pub(crate) fn is_fresh(&self) -> bool {
        self.is_before(&self.due, self.clock.now())
    }

    /// Before a value is sealed: looks if a look is due. If another thread is looking, waits for it.
    /// Returns what the look says; none where there was none.
    pub(crate) fn before_sealing<T, E>(&self, look: impl FnOnce(Turn) -> Result<T, E>) -> Option<Result<T, E>> {
        if self.is_fresh() {
            return None;
        }
        // Without a turn, what is loaded seals: the fence refuses it where it is out of date.
        let turn = self.turn_or_wait(|| self.is_fresh()).filter(|_| !self.is_fresh())?;
        Some(self.look(&turn, look))
    }

    /// Before a value is opened: looks if a look is due and nobody else is looking. What is loaded opens
    /// what it can, so nobody waits.
    pub(crate) fn before_opening<T, E>(&self, look: impl FnOnce(Turn) -> Result<T, E>) -> Option<Result<T, E>> {
        if self.is_fresh() {
            return None;
        }
        let turn = self.turn().filter(|_| !self.is_fresh())?;
        Some(self.look(&turn, look))
    }

    /// After a value did not open: looks, unless that was done a moment ago. If another thread is looking,
    /// waits for it.
    pub(crate) fn after_failure<T, E>(&self, look: impl FnOnce(Turn) -> Result<T, E>) -> Option<Result<T, E>> {
        let turn = self.turn_or_wait(|| true)?;
        let now = self.clock.now();
        if self.is_before(&self.again, now) {
            return None;
        }
        let again = nanoseconds(AGAIN).min(self.follow);
        self.again.store(now.wrapping_add(again), Ordering::Release);
        Some(self.look(&turn, look))
    }

    /// Looks now, after the look that another thread has begun.
    ///
    /// # Errors
    ///
    /// What the look says.
    pub(crate) fn now<T, E>(&self, look: impl FnOnce(Turn) -> Result<T, E>) -> Result<T, E> {
        loop {
            if let Some(turn) = self.turn_or_wait(|| false) {
                return self.look(&turn, look);
            }
        }
    }

    /// Looks, and says when the next look is due. A look that succeeded is a lease from its beginning.
    fn look<T, E>(&self, turn: &Owned<'_>, look: impl FnOnce(Turn) -> Result<T, E>) -> Result<T, E> {
        let began = self.clock.now();
        let done = look(turn.turn);
        let due = if done.is_ok() {
            began.wrapping_add(self.follow)
        } else {
            let ended = self.clock.now();
            let wait = ended.wrapping_sub(began).saturating_mul(SHARE).max(self.follow);
            ended.wrapping_add(wait.min(nanoseconds(LONGEST)))
        };
        self.due.store(due, Ordering::Release);
        done
    }

    /// The right to look, which ends when it is dropped. None while another thread of this process has
    /// it.
    fn turn(&self) -> Option<Owned<'_>> {
        let owner = self.owner.load(Ordering::Acquire);
        if owner == 0 {
            return self.take(owner, Turn::Next);
        }
        // Its memory is a copy of this: nobody here will ever end it.
        if owner >> 32 == process() { None } else { self.take(owner, Turn::TakenOver) }
    }

    /// The right to look; none where another thread's look has ended and was `enough`. One that does not
    /// end is taken over, by one of those who waited for it.
    fn turn_or_wait(&self, enough: impl Fn() -> bool) -> Option<Owned<'_>> {
        loop {
            if let Some(turn) = self.turn() {
                return Some(turn);
            }
            let owner = self.owner.load(Ordering::Acquire);
            let began = self.clock.now();
            while owner != 0 && self.owner.load(Ordering::Acquire) == owner {
                if self.clock.now().wrapping_sub(began) > nanoseconds(PATIENCE) {
                    return self.take(owner, Turn::TakenOver);
                }
                self.clock.pause();
            }
            if enough() {
                return None;
            }
        }
    }

    fn take(&self, before: u64, turn: Turn) -> Option<Owned<'_>> {
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        let word = process() << 32 | u64::from(look);
        let taken = self.owner.compare_exchange(before, word, Ordering::AcqRel, Ordering::Acquire);
        taken.is_ok().then_some(Owned { owner: &self.owner, word, turn })
    }

    /// Whether a moment is still to come. One that is further away than any can be is that of a clock which
    /// was set back.
    fn is_before(&self, moment: &AtomicU64, now: u64) -> bool {
        let left = moment.load(Ordering::Acquire).wrapping_sub(now);
        left != 0 && left <= nanoseconds(LONGEST)
    }
}

/// The right to look.
struct Owned<'a> {
    owner: &'a AtomicU64,
    word: u64,
    turn: Turn,
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        // Whoever has taken it over meanwhile keeps it.
        let _ = self.owner.compare_exchange(self.word, 0, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// The number of this process, which is never 0.
fn process() -> u64 {
    u64::from(std::process::id())
}

const fn nanoseconds(time: Duration) -> u64 {
    time.as_secs() * 1_000_000_000 + time.subsec_nanos() as u64
}

#[cfg(test)]
mod tests;
