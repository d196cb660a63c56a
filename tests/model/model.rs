//! What holds at every moment of a rotation, and which gate it rests on.
#![allow(clippy::panic, clippy::print_stdout, missing_docs, reason = "tests, and figures for people")]

use vault_model_test::{Gate, Rule, Scenario, explore};

/// Three nodes, two keys, three rows.
const ONE_ROTATOR: Scenario = Scenario { nodes: 3, rotators: 1, writes: 2, crashes: 2, rollbacks: 1 };
const TWO_ROTATORS: Scenario = Scenario { nodes: 1, rotators: 2, writes: 2, crashes: 2, rollbacks: 1 };

#[test]
fn the_invariants_hold_at_every_moment() {
    for scenario in [ONE_ROTATOR, TWO_ROTATORS] {
        let explored = explore(&scenario, &[]);
        println!("{scenario:?}: {} states, {} steps, {} finished", explored.states, explored.steps, explored.done);
        assert!(explored.violation.is_none(), "{:#?}", explored.violation);
        assert!(explored.done > 0 && explored.states > 10_000, "{explored:?}");
    }
}

#[test]
fn each_gate_is_needed() {
    let mut looked_at: Vec<Gate> = Vec::new();
    for (removed, rule) in [
        (&[Gate::PromoteNodes][..], Rule::I1),
        (&[Gate::DisableNodes], Rule::I2),
        (&[Gate::Verified], Rule::I2),
        (&[Gate::Fence], Rule::I2),
        (&[Gate::FenceClean], Rule::Blocked),
        (&[Gate::FenceStays], Rule::I2),
        (&[Gate::UnfenceNodes], Rule::I3),
        (&[Gate::NodeStart], Rule::I1),
        (&[Gate::CompareAndSwap, Gate::RowLock], Rule::Lost),
    ] {
        let explored = explore(&ONE_ROTATOR, removed);
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
