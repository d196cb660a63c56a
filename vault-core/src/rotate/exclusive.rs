//! A run beside which nobody writes: the columns of all databases, or none of them.

use core::ops::ControlFlow;

use crate::error::{Kind, Result};

use super::run::Order;
use super::{End, Step, Summary, Target, Unfinished};

/// All columns of a database in one exclusive transaction: whoever reads it sees the values as they
/// were, or all of them moved. Nothing is kept anywhere unless every column is finished: an
/// application that knows one key could not read the rest.
pub(super) fn run_exclusively(
    targets: &mut [Target],
    order: &Order<'_>,
    observe: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
) -> Result<Vec<Summary>, Unfinished> {
    let mut groups = by_database(targets);
    let moved = match move_all(&mut groups, order, observe) {
        Ok(moved) => moved,
        Err(error) => {
            // A transaction that cannot be undone ends with its connection, and what led here says more.
            groups.iter_mut().filter_map(|group| group.first_mut()).for_each(|first| drop(first.column.rollback()));
            return Err(Unfinished { summaries: Vec::new(), error });
        }
    };
    let mut keep = moved.iter().flatten().all(|summary| matches!(summary.end, End::Clean | End::Pinned));
    let (mut summaries, mut failure) = (Vec::new(), None);
    for (group, mut moved) in groups.iter_mut().zip(moved) {
        let Some(first) = group.first_mut() else { continue };
        if keep && let Err(error) = first.column.commit() {
            keep = false;
            let unknown = error.kind() == Kind::DurabilityUnknown;
            failure = Some(error);
            if unknown {
                // They are not told to be what they were.
                moved
                    .iter_mut()
                    .filter(|summary| summary.end == End::Clean)
                    .for_each(|summary| summary.end = End::Stopped);
                summaries.append(&mut moved);
                continue;
            }
        }
        if !keep {
            moved.iter_mut().for_each(undo);
            if let Err(error) = first.column.rollback() {
                failure.get_or_insert(error);
            }
        } else if let Err(error) = first.column.finish() {
            // What is committed stays so.
            failure.get_or_insert(error);
        }
        summaries.append(&mut moved);
    }
    match failure {
        None => Ok(summaries),
        Some(error) => Err(Unfinished { summaries, error }),
    }
}

/// Locks every database before anything is written, and leaves the transactions open.
fn move_all(
    groups: &mut [Vec<&mut Target>],
    order: &Order<'_>,
    observe: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
) -> Result<Vec<Vec<Summary>>> {
    let mut findings = Vec::new();
    for group in groups.iter_mut() {
        findings.push(group.iter_mut().map(|target| target.checked()).collect::<Result<Vec<_>>>()?);
    }
    for first in groups.iter_mut().filter_map(|group| group.first_mut()) {
        first.column.begin_exclusive()?;
    }
    (order.guard)()?;
    let mut moved = Vec::new();
    for (group, findings) in groups.iter_mut().zip(findings) {
        let targets = group.iter_mut().zip(findings);
        moved.push(targets.map(|(target, findings)| target.run(order, findings, observe)).collect::<Result<Vec<_>>>()?);
    }
    (order.guard)()?;
    Ok(moved)
}

/// Makes the summary of a column that of one whose transaction was undone.
fn undo(summary: &mut Summary) {
    if summary.end == End::Pinned {
        return;
    }
    summary.undone = true;
    summary.stale += core::mem::take(&mut summary.rewritten);
    if summary.end == End::Clean && summary.stale > 0 {
        summary.end = End::Stopped;
    }
}

/// Groups of targets that can share a transaction.
fn by_database(targets: &mut [Target]) -> Vec<Vec<&mut Target>> {
    let mut groups: Vec<Vec<&mut Target>> = Vec::new();
    for target in targets {
        let database = target.column.database().to_owned();
        match groups.iter_mut().find(|group| group.first().is_some_and(|first| first.column.database() == database)) {
            Some(group) => group.push(target),
            None => groups.push(vec![target]),
        }
    }
    groups
}
