//! What holds at every moment of a rotation, and which gate it rests on.
#![allow(clippy::panic, clippy::print_stdout, missing_docs, reason = "tests, and figures for people")]

use vault_model_test::{Gate, Rule, Scenario, explore};

/// Three nodes that look when they are told to, two keys, three rows.
const ONE_ROTATOR: Scenario =
    Scenario { nodes: 3, rotators: 1, writes: 2, crashes: 2, rollbacks: 1, follows: false, shows_writers: false };
const TWO_ROTATORS: Scenario = Scenario { nodes: 1, rotators: 2, ..ONE_ROTATOR };
/// Nodes that follow by themselves, beside a database that shows who writes, and one that does not.
const FOLLOWING: Scenario = Scenario { nodes: 2, crashes: 1, follows: true, shows_writers: true, ..ONE_ROTATOR };
const UNSEEN: Scenario = Scenario { shows_writers: false, ..FOLLOWING };

#[test]
fn the_invariants_hold_at_every_moment() {
    for scenario in [ONE_ROTATOR, TWO_ROTATORS, FOLLOWING, UNSEEN] {
        let explored = explore(&scenario, &[]);
        println!("{scenario:?}: {} states, {} steps, {} finished", explored.states, explored.steps, explored.done);
        assert!(explored.violation.is_none(), "{:#?}", explored.violation);
        assert!(explored.done > 0 && explored.states > 10_000, "{explored:?}");
    }
}

#[test]
fn each_gate_is_needed() {
    let mut looked_at: Vec<Gate> = Vec::new();
    for (scenario, removed, rule) in [
        (ONE_ROTATOR, &[Gate::PromoteNodes][..], Rule::I1),
        // Every node follows before a fence goes up, and once more before its key is disabled.
        (ONE_ROTATOR, &[Gate::DisableNodes, Gate::Lease], Rule::I2),
        (ONE_ROTATOR, &[Gate::Verified], Rule::I2),
        (ONE_ROTATOR, &[Gate::Fence], Rule::I2),
        (ONE_ROTATOR, &[Gate::FenceClean], Rule::Blocked),
        (ONE_ROTATOR, &[Gate::FenceStays], Rule::I2),
        (ONE_ROTATOR, &[Gate::UnfenceNodes], Rule::I3),
        (ONE_ROTATOR, &[Gate::NodeStart], Rule::I1),
        (ONE_ROTATOR, &[Gate::CompareAndSwap, Gate::RowLock], Rule::Lost),
        (FOLLOWING, &[Gate::PromoteNodes], Rule::I1),
        (UNSEEN, &[Gate::DisableNodes, Gate::Lease], Rule::I1),
        (UNSEEN, &[Gate::Fence], Rule::I2),
        (UNSEEN, &[Gate::FenceStays], Rule::I2),
        (FOLLOWING, &[Gate::Lease], Rule::Refused),
        (FOLLOWING, &[Gate::InFlight], Rule::Refused),
        (FOLLOWING, &[Gate::FencedKey], Rule::Refused),
    ] {
        let explored = explore(&scenario, removed);
        let violation = explored.violation.unwrap_or_else(|| panic!("nothing is broken without {removed:?}"));
        println!("without {removed:?}: {} after {} steps", violation.rule, violation.way.len());
        assert_eq!(violation.rule, rule, "{violation:#?}");
        looked_at.extend(removed);
    }
    assert!(Gate::ALL.iter().all(|gate| looked_at.contains(gate)), "{looked_at:?}");
}

/// The lock saves work, the comparison saves values, and each does alone.
#[test]
fn either_a_lock_or_a_comparison_suffices() {
    for scenario in [ONE_ROTATOR, TWO_ROTATORS] {
        for gate in [Gate::CompareAndSwap, Gate::RowLock] {
            let explored = explore(&scenario, &[gate]);
            println!("without {gate:?}: {} states", explored.states);
            assert!(explored.violation.is_none(), "{:#?}", explored.violation);
        }
    }
}
