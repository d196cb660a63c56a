//! Every moment that can be reached, each once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::steps::Step;
use super::{Gate, Rule, Scenario, State};

/// What was reached.
#[derive(Debug)]
pub struct Explored {
    /// Moments, of which those that differ only in which node is which are one.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// Moments at which the rotation is finished.
    pub done: usize,
    /// The first broken rule, on a shortest way to it.
    pub violation: Option<Violation>,
}

/// A broken rule.
#[derive(Debug)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// The steps from the beginning, and the moment after each.
    pub way: Vec<String>,
}

/// Takes every step that is possible at every moment that can be reached, without some gates.
#[must_use]
pub fn explore(scenario: &Scenario, removed: &[Gate]) -> Explored {
    let all = Step::all(scenario);
    let first = State::first(scenario);
    let mut known = HashMap::from([(first, 0_u32)]);
    let mut reached = vec![(first, None)];
    let mut into: Vec<(u32, u32)> = Vec::new();
    let mut done = Vec::new();
    let mut at = 0;
    while let Some((state, _)) = reached.get(at).copied() {
        let here = u32::try_from(at).unwrap_or(u32::MAX);
        let mut rule = state.broken();
        for step in &all {
            let Some(next) = step.take(&state, removed) else { continue };
            if step.can_be_repeated() && rule.is_none() && !same_twice(*step, &state, &next, removed) {
                rule = Some(Rule::I4);
            }
            let next = next.in_order();
            let number = u32::try_from(reached.len()).unwrap_or(u32::MAX);
            let there = match known.entry(next) {
                Entry::Occupied(there) => *there.get(),
                Entry::Vacant(free) => {
                    reached.push((next, Some((here, *step))));
                    *free.insert(number)
                }
            };
            into.push((there, here));
        }
        if let Some(rule) = rule {
            let violation = Some(Violation { rule, way: way(&reached, here) });
            return Explored { states: at + 1, steps: into.len(), done: done.len(), violation };
        }
        if state.is_done() {
            done.push(here);
        }
        at += 1;
    }
    let (states, steps, finished) = (reached.len(), into.len(), done.len());
    let dead = dead_end(states, into, done);
    let violation = dead.map(|state| Violation { rule: Rule::DeadEnd, way: way(&reached, state) });
    Explored { states, steps, done: finished, violation }
}

/// Whether a step that is taken again changes nothing more, or is refused.
fn same_twice(step: Step, before: &State, after: &State, removed: &[Gate]) -> bool {
    // The same batch, sent once more by somebody who did not hear that it was done.
    let again = match step {
        Step::Commit(_) => State { rotators: before.rotators, checkpoint: before.checkpoint, ..*after },
        _ => *after,
    };
    match step {
        // A crash and a start after it are two crashes and two starts.
        Step::NodeCrash(_)
        | Step::Wait
        | Step::NodeStart(_)
        | Step::RotatorCrash(_)
        | Step::Mount(_)
        | Step::Unmount(_) => true,
        _ => step.take(&again, removed).is_none_or(|twice| twice == *after),
    }
}

/// A moment from which none of `done` can be reached.
fn dead_end(states: usize, mut into: Vec<(u32, u32)>, done: Vec<u32>) -> Option<u32> {
    into.sort_unstable();
    let mut finishes = vec![false; states];
    let mut open = done;
    for state in &open {
        finishes[*state as usize] = true;
    }
    while let Some(state) = open.pop() {
        let from = into.partition_point(|(there, _)| *there < state);
        for (_, before) in into[from..].iter().take_while(|(there, _)| *there == state) {
            if !finishes[*before as usize] {
                finishes[*before as usize] = true;
                open.push(*before);
            }
        }
    }
    finishes.iter().position(|finishes| !finishes).and_then(|state| u32::try_from(state).ok())
}

type Reached = (State, Option<(u32, Step)>);

fn way(reached: &[Reached], last: u32) -> Vec<String> {
    let mut way = Vec::new();
    let mut at = last as usize;
    while let (state, Some((before, step))) = reached[at] {
        way.push(format!("{step:?} -> {state}"));
        at = before as usize;
    }
    way.reverse();
    way
}

impl State {
    /// The same moment with nodes and rotators in an order of their own: which is which does not
    /// matter.
    fn in_order(mut self) -> Self {
        self.nodes[..usize::from(self.declared)].sort_unstable();
        // Those that run first: a scenario with one has only the first place.
        self.rotators.sort_unstable_by(|one, other| other.cmp(one));
        self
    }
}
