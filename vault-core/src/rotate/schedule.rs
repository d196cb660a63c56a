//! Which passes a run makes over a column, and when it has made enough.

use core::time::Duration;

use super::batch::Tally;

/// What a pass goes over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// Every value, to seal it again. No row shows that it was: what the cursor of the run passed is done.
    Everything,
    /// What shows by how it begins that it is stale, and is soon found.
    Stale,
    /// Every value that is not current, which takes a scan.
    NotCurrent,
}

/// What a run meets.
pub(super) struct Circumstances {
    /// Whether every value is sealed again.
    pub(super) deep: bool,
    /// Whether the first pass goes on where another one stopped.
    pub(super) resumed: bool,
    /// Whether what is stale by how it begins is a narrower selection than what is not current.
    pub(super) told_apart: bool,
    /// Whether nobody else can write.
    pub(super) alone: bool,
    /// Whether every value that is not current is looked at after the passes, whatever they were.
    pub(super) looked_after: bool,
}

/// What follows a pass.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// Another one, after a rest.
    Pass {
        /// How long others are left alone.
        rest: Duration,
    },
    /// Nothing: a pass changed nothing, or one is enough, or the run is to stop.
    Settled,
    /// Nothing: writers overtake the run again and again.
    GiveUp,
}

/// The passes of one run, one after the other.
pub(super) struct Schedule {
    scope: Scope,
    told_apart: bool,
    alone: bool,
    from_start: bool,
    /// Looks at every value that is not current which the run may still make where passes look for less.
    looks: u32,
    passes: u64,
    /// Passes in a row that wrote nothing.
    futile: u32,
}

impl Schedule {
    pub(super) fn new(circumstances: &Circumstances) -> Self {
        let &Circumstances { deep, resumed, told_apart, alone, looked_after } = circumstances;
        Self {
            scope: match (deep, told_apart) {
                (true, _) => Scope::Everything,
                (false, true) => Scope::Stale,
                (false, false) => Scope::NotCurrent,
            },
            told_apart,
            alone,
            from_start: !deep && !resumed,
            looks: if looked_after { 0 } else { MAX_LOOKS },
            passes: 1,
            futile: 0,
        }
    }

    /// What the pass goes over.
    pub(super) fn scope(&self) -> Scope {
        self.scope
    }

    /// The number of the pass, from 1.
    pub(super) fn passes(&self) -> u64 {
        self.passes
    }

    /// What follows a pass that did what the tally says.
    pub(super) fn after(&mut self, tally: &Tally) -> Next {
        let changed = tally.rewritten + tally.lost > 0;
        let looked = self.scope == Scope::NotCurrent;
        let enough = self.from_start && (self.alone || !changed && (looked || self.looks == 0));
        if tally.stopped || enough {
            return Next::Settled;
        }
        self.futile = if tally.rewritten == 0 { self.futile + 1 } else { 0 };
        if self.passes >= MAX_PASSES || self.futile >= MAX_FUTILE {
            return Next::GiveUp;
        }
        self.looks = self.looks.saturating_sub(u32::from(looked));
        // A look that changes nothing is the last pass. There is no use in one while it is known that
        // something is left, nor right after another.
        let look = self.looks > 0 && !looked && tally.lost == 0;
        self.scope = if look || !self.told_apart { Scope::NotCurrent } else { Scope::Stale };
        self.from_start = true;
        self.passes += 1;
        // Only rows are left that others hold or have just changed.
        Next::Pass { rest: if self.futile > 0 && changed { REST } else { Duration::ZERO } }
    }
}

/// Most passes over one column before a run gives up on writers that keep overtaking it.
const MAX_PASSES: u64 = 100;
/// Most looks at every value that is not current, where passes look for less: writers may keep
/// overtaking these too.
const MAX_LOOKS: u32 = 3;
/// Most passes in a row that write nothing.
const MAX_FUTILE: u32 = 20;
/// How long such a pass is rested from.
const REST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const ONLINE: Circumstances =
        Circumstances { deep: false, resumed: false, told_apart: true, alone: false, looked_after: false };

    fn tally(rewritten: u64, lost: u64) -> Tally {
        Tally { rewritten, lost, ..Tally::default() }
    }

    /// What each pass goes over that does what a tally says, and what follows the last.
    fn scopes(circumstances: &Circumstances, tallies: &[Tally]) -> (Vec<Scope>, Next) {
        let mut schedule = Schedule::new(circumstances);
        let mut scopes = Vec::new();
        let mut next = Next::Pass { rest: Duration::ZERO };
        for tally in tallies {
            assert!(matches!(next, Next::Pass { .. }), "{next:?} after {scopes:?}");
            scopes.push(schedule.scope());
            next = schedule.after(tally);
        }
        (scopes, next)
    }

    #[test]
    fn the_last_pass_is_a_look_at_what_is_not_current_and_changes_nothing() {
        let (passes, next) = scopes(&ONLINE, &[tally(100, 0), tally(0, 0)]);
        assert_eq!(passes, [Scope::Stale, Scope::NotCurrent]);
        assert_eq!(next, Next::Settled);
        let (passes, next) = scopes(&ONLINE, &[tally(0, 0), tally(2, 0), tally(0, 0), tally(0, 0)]);
        assert_eq!(passes, [Scope::Stale, Scope::NotCurrent, Scope::Stale, Scope::NotCurrent]);
        assert_eq!(next, Next::Settled);
    }

    #[test]
    fn what_was_lost_is_met_again_before_a_look() {
        let (passes, next) = scopes(&ONLINE, &[tally(99, 1), tally(1, 0), tally(0, 0)]);
        assert_eq!(passes, [Scope::Stale, Scope::Stale, Scope::NotCurrent]);
        assert_eq!(next, Next::Settled);
        let (passes, next) = scopes(&ONLINE, &[tally(1, 0), tally(0, 1), tally(1, 0), tally(0, 0)]);
        assert_eq!(passes, [Scope::Stale, Scope::NotCurrent, Scope::Stale, Scope::NotCurrent]);
        assert_eq!(next, Next::Settled);
    }

    #[test]
    fn a_steady_writer_costs_three_scans_at_most() {
        let mut schedule = Schedule::new(&ONLINE);
        let mut looks = 0;
        for _ in 0..50 {
            looks += u32::from(schedule.scope() == Scope::NotCurrent);
            assert!(matches!(schedule.after(&tally(1, 0)), Next::Pass { .. }));
        }
        assert_eq!(looks, 3);
        assert_eq!(schedule.after(&tally(0, 0)), Next::Settled);
    }

    #[test]
    fn a_pass_that_goes_on_where_another_stopped_is_never_the_last() {
        let resumed = Circumstances { resumed: true, told_apart: false, ..ONLINE };
        let (passes, next) = scopes(&resumed, &[tally(0, 0), tally(0, 0)]);
        assert_eq!(passes, [Scope::NotCurrent, Scope::NotCurrent]);
        assert_eq!(next, Next::Settled);
        let resumed = Circumstances { resumed: true, looked_after: true, ..ONLINE };
        assert_eq!(scopes(&resumed, &[tally(0, 0), tally(0, 0)]), (vec![Scope::Stale; 2], Next::Settled));
    }

    #[test]
    fn a_deep_run_seals_everything_again_and_then_looks() {
        let deep = Circumstances { deep: true, ..ONLINE };
        let (passes, next) = scopes(&deep, &[tally(100, 0), tally(0, 0)]);
        assert_eq!(passes, [Scope::Everything, Scope::NotCurrent]);
        assert_eq!(next, Next::Settled);
    }

    #[test]
    fn one_pass_from_the_start_is_enough_where_nobody_writes() {
        let alone = Circumstances { alone: true, looked_after: true, ..ONLINE };
        assert_eq!(scopes(&alone, &[tally(100, 0)]), (vec![Scope::Stale], Next::Settled));
        let deep = Circumstances { deep: true, ..alone };
        let (passes, next) = scopes(&deep, &[tally(100, 0), tally(0, 0)]);
        assert_eq!(passes, [Scope::Everything, Scope::Stale]);
        assert_eq!(next, Next::Settled);
    }

    #[test]
    fn rows_that_others_hold_are_tried_again_after_rests_and_given_up_in_the_end() {
        let mut schedule = Schedule::new(&ONLINE);
        for _ in 1..MAX_FUTILE {
            assert_eq!(schedule.after(&tally(0, 1)), Next::Pass { rest: REST });
        }
        assert_eq!(schedule.after(&tally(0, 1)), Next::GiveUp);
        let mut schedule = Schedule::new(&ONLINE);
        for round in 1..=2 * MAX_FUTILE {
            // Whoever writes a row now and then comes forward.
            let rewritten = u64::from(round % (MAX_FUTILE - 1) == 0);
            let rest = if rewritten == 0 { REST } else { Duration::ZERO };
            assert_eq!(schedule.after(&tally(rewritten, 1)), Next::Pass { rest });
        }
        let mut schedule = Schedule::new(&ONLINE);
        for _ in 1..MAX_PASSES {
            assert!(matches!(schedule.after(&tally(1, 1)), Next::Pass { .. }));
        }
        assert_eq!(schedule.after(&tally(1, 1)), Next::GiveUp);
        assert_eq!(schedule.passes(), MAX_PASSES);
        let mut schedule = Schedule::new(&ONLINE);
        for _ in 1..MAX_PASSES {
            schedule.after(&tally(1, 0));
        }
        assert_eq!(schedule.after(&tally(0, 0)), Next::Settled, "the last one that is allowed counts");
    }

    #[test]
    fn who_asks_to_stop_is_not_kept() {
        let stopped = Tally { stopped: true, ..tally(10, 10) };
        assert_eq!(scopes(&ONLINE, &[stopped]), (vec![Scope::Stale], Next::Settled));
    }
}
