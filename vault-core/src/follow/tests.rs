use core::cell::Cell;
use std::sync::mpsc;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// A clock that stands still but for those who wait.
struct Stopped(AtomicU64);

impl Clock for Stopped {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn pause(&self) {
        self.0.fetch_add(SECOND / 10, Ordering::SeqCst);
        thread::yield_now();
    }
}

/// A vault, and how often it looked.
struct Vault {
    follower: Follower<Stopped>,
    looks: Cell<usize>,
    fails: Cell<bool>,
    takes: Cell<u64>,
}

impl Vault {
    fn new() -> Self {
        let follower = Follower::with_clock(Duration::from_secs(1), Stopped(AtomicU64::new(5 * SECOND)));
        Self { follower, looks: Cell::new(0), fails: Cell::new(false), takes: Cell::new(0) }
    }

    fn look(&self) -> Result<(), ()> {
        self.looks.set(self.looks.get() + 1);
        self.passes(self.takes.get());
        if self.fails.get() { Err(()) } else { Ok(()) }
    }

    fn passes(&self, time: u64) {
        self.follower.clock.0.fetch_add(time, Ordering::SeqCst);
    }

    fn seals(&self) -> usize {
        let _ = self.follower.before_sealing(|_| self.look());
        self.looks.get()
    }

    fn opens(&self) -> usize {
        let _ = self.follower.before_opening(|_| self.look());
        self.looks.get()
    }

    fn fails_to_open(&self) -> usize {
        let _ = self.follower.after_failure(|_| self.look());
        self.looks.get()
    }
}

#[test]
fn a_vault_looks_before_it_seals_if_its_last_look_is_older_than_follow() {
    let vault = Vault::new();
    assert_eq!([vault.seals(), vault.seals()], [1, 1]);
    vault.passes(SECOND - 1);
    assert_eq!([vault.seals(), vault.opens()], [1, 1]);
    vault.passes(1);
    assert_eq!([vault.seals(), vault.seals(), vault.opens()], [2, 2, 2]);
    vault.passes(SECOND);
    assert_eq!([vault.opens(), vault.seals()], [3, 3]);
}

/// What it saw may be as old as its beginning.
#[test]
fn a_look_is_a_lease_from_its_beginning() {
    let vault = Vault::new();
    vault.takes.set(SECOND / 4);
    assert_eq!(vault.seals(), 1);
    vault.passes(SECOND * 3 / 4 - 1);
    assert_eq!(vault.seals(), 1);
    vault.passes(1);
    assert_eq!(vault.seals(), 2);
}

#[test]
fn a_machine_that_slept_and_a_clock_that_was_set_back_look() {
    let vault = Vault::new();
    assert_eq!(vault.seals(), 1);
    vault.passes(1_000_000 * SECOND);
    assert_eq!(vault.seals(), 2);
    vault.follower.clock.0.store(3, Ordering::SeqCst);
    assert_eq!(vault.seals(), 3);
}

#[test]
fn a_look_that_fails_is_done_again_after_follow_and_takes_a_tenth_of_the_time() {
    let vault = Vault::new();
    vault.fails.set(true);
    assert_eq!([vault.seals(), vault.seals()], [1, 1]);
    vault.passes(SECOND);
    vault.takes.set(2 * SECOND);
    assert_eq!([vault.seals(), vault.seals()], [2, 2]);
    vault.passes(20 * SECOND - 1);
    assert_eq!(vault.seals(), 2);
    vault.passes(1);
    vault.takes.set(100 * SECOND);
    assert_eq!(vault.seals(), 3);
    vault.passes(60 * SECOND - 1);
    assert_eq!(vault.seals(), 3);
    vault.passes(1);
    vault.fails.set(false);
    vault.takes.set(0);
    assert_eq!(vault.seals(), 4);
}

#[test]
fn values_that_do_not_open_cause_four_looks_a_second_and_no_more() {
    let vault = Vault::new();
    assert_eq!(vault.seals(), 1);
    assert_eq!((0..1_000).map(|_| vault.fails_to_open()).last(), Some(2));
    for look in 3..=6 {
        vault.passes(SECOND / 4);
        assert_eq!((0..1_000).map(|_| vault.fails_to_open()).last(), Some(look));
    }
}

#[test]
fn whoever_asks_for_a_look_gets_one_and_what_it_says() {
    let vault = Vault::new();
    assert_eq!(vault.seals(), 1);
    assert_eq!(vault.follower.now(|_| vault.look()), Ok(()));
    vault.fails.set(true);
    assert_eq!(vault.follower.now(|_| vault.look()), Err(()));
    assert_eq!(vault.looks.get(), 3);
}

/// Threads at one moment: one looks, those that seal wait for it, and those that open do not.
#[test]
fn one_look_serves_all_threads() {
    let follower = Follower::new(Duration::from_secs(1));
    let looks = AtomicU32::new(0);
    let (opened, all_opened) = mpsc::channel();
    let look = move |looks: &AtomicU32| {
        looks.fetch_add(1, Ordering::SeqCst);
        // Ends after all who open have come and gone.
        for _ in 0..4 {
            all_opened.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        Ok::<(), ()>(())
    };
    thread::scope(|scope| {
        let (began, has_begun) = mpsc::channel();
        let (follower, looks) = (&follower, &looks);
        let first = scope.spawn(move || {
            follower.before_sealing(|_| {
                began.send(()).unwrap();
                look(looks)
            })
        });
        has_begun.recv_timeout(Duration::from_secs(60)).unwrap();
        for _ in 0..4 {
            let opened = opened.clone();
            scope.spawn(move || {
                assert_eq!(follower.before_opening(|_| Ok::<_, ()>("a second look")), None);
                opened.send(()).unwrap();
            });
            scope.spawn(move || {
                assert_eq!(follower.before_sealing(|_| Ok::<_, ()>("a second look")), None);
                assert!(follower.is_fresh(), "sealed before the look had ended");
            });
        }
        assert_eq!(first.join().unwrap(), Some(Ok(())));
    });
    assert_eq!(looks.into_inner(), 1);
}

#[test]
fn the_look_of_another_process_is_taken_over_at_once() {
    let vault = Vault::new();
    vault.follower.owner.store((process() + 1) << 32, Ordering::SeqCst);
    let before = vault.follower.clock.now();
    let mut turn = None;
    let _ = vault.follower.before_sealing(|taken| {
        turn = Some(taken);
        vault.look()
    });
    assert_eq!((turn, vault.looks.get(), vault.follower.clock.now()), (Some(Turn::TakenOver), 1, before));
    assert_eq!(vault.follower.owner.load(Ordering::SeqCst), 0);
}

/// In another PID namespace the child may have its parent's number.
#[test]
fn a_look_that_never_ends_is_taken_over_after_a_while() {
    let vault = Vault::new();
    vault.follower.owner.store(process() << 32 | 77, Ordering::SeqCst);
    assert_eq!(vault.opens(), 0);
    let mut turn = None;
    let _ = vault.follower.before_sealing(|taken| {
        turn = Some(taken);
        vault.look()
    });
    assert_eq!((turn, vault.looks.get()), (Some(Turn::TakenOver), 1));
    // The one that hung ends after all, and ends nobody else's.
    let next = vault.follower.turn().unwrap();
    drop(Owned { owner: &vault.follower.owner, word: process() << 32 | 77, turn: Turn::Next });
    assert!(vault.follower.turn().is_none());
    drop(next);
    assert!(vault.follower.turn().is_some());
}

#[test]
fn the_clock_runs() {
    let before = SinceBoot.now();
    SinceBoot.pause();
    assert!(before > 0 && SinceBoot.now() > before);
}
