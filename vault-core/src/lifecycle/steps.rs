//! Which step comes next: a function of what is there, so that a rotation that was interrupted anywhere
//! goes on from anywhere.

use crate::error::{Error, Result};
use crate::key::KeyId;
use crate::time::Timestamp;

/// One step in the life of a keyring's keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// A new key is generated and added. It waits as active.
    Add,
    /// The key that waits is made primary, once every process opens values under it.
    Promote(KeyId),
    /// Values are moved to the primary key.
    Move,
    /// The databases are made to refuse values under keys that were replaced, once every process seals
    /// under the primary key and what is in flight is written. Where that left values to move, they are
    /// moved first.
    Fence,
    /// Every value is opened, and the record of the run is closed.
    Verify,
    /// A key that was replaced is disabled, once no process seals under it and no value needs it.
    Disable(KeyId),
    /// Nothing is to be done.
    Nothing,
}

impl core::fmt::Display for Step {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Add => f.write_str("generate a key and add it"),
            Self::Promote(kid) => write!(f, "promote key {kid}"),
            Self::Move => f.write_str("move values to the primary key"),
            Self::Fence => f.write_str("fence off the keys that were replaced"),
            Self::Verify => f.write_str("verify"),
            Self::Disable(kid) => write!(f, "disable key {kid}"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// What is wanted of a rotation, beside finishing what is open and promoting a key that waits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Wanted {
    /// A new key, if none waits and nothing is open.
    pub new_key: bool,
    /// The keys that were replaced are disabled at the end.
    pub retire: bool,
}

/// What is there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Situation {
    /// The keys that wait as active and were found.
    pub waiting: Vec<KeyId>,
    /// The keys that were replaced and still open.
    pub replaced: Vec<KeyId>,
    /// The keys that a fence refuses: all that were replaced, also those that open no more.
    pub to_fence: Vec<KeyId>,
    /// When the primary key was promoted, where states say so.
    pub promoted: Option<Timestamp>,
    /// The columns that are written under the keyring.
    pub columns: Vec<ColumnSituation>,
    /// Every value was moved since the last promotion, by whoever asks.
    pub moved: bool,
    /// Every value was opened since, by whoever asks.
    pub verified: bool,
    /// Every process seals under the primary key since, and what was in flight is written, by whoever asks.
    pub settled: bool,
}

/// What is there of one column.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ColumnSituation {
    /// Its name.
    pub name: String,
    /// Values under keys that were replaced: none of a column whose rows are never updated.
    pub stale: u64,
    /// Whether its database can refuse keys.
    pub has_fence: bool,
    /// The keys that its database refuses.
    pub fenced: Vec<KeyId>,
    /// What an open run does and to which target, if one is open that does not rotate to the primary key.
    pub other_run: Option<String>,
    /// Whether a rotation to the primary key is open.
    pub open: bool,
    /// Whether applications write it and its database does not refuse every key that was replaced.
    pub takes_replaced: bool,
}

/// The next step.
///
/// # Errors
///
/// [`Error::Refused`] where only an operator can say what is meant: several keys wait, a run of another
/// job is open, or a database refuses the key that waits.
pub fn next_step(now: &Situation, wanted: Wanted) -> Result<Step> {
    if let Some((column, run)) = now.columns.iter().find_map(|column| Some((&column.name, column.other_run.as_ref()?)))
    {
        return Err(Error::Refused {
            reason: format!("column {column} has an open run of {run}"),
            remedy: "finish it, or forget it with `vault rotate abort`".to_owned(),
        });
    }
    let open = now.columns.iter().any(|column| column.open);
    let unfenced =
        |column: &ColumnSituation| column.has_fence && now.to_fence.iter().any(|kid| !column.fenced.contains(kid));
    let awaited = |column: &ColumnSituation| unfenced(column) || !now.settled && column.takes_replaced;
    // An open run is finished before the next key makes its values stale once more. Values that are stale
    // without one are moved by the run that follows the promotion.
    let settled = if open && !now.moved {
        Some(Step::Move)
    } else if open && now.columns.iter().any(awaited) {
        Some(Step::Fence)
    } else {
        (open && !now.verified).then_some(Step::Verify)
    };
    if let Some(step) = settled {
        return Ok(step);
    }
    match now.waiting.as_slice() {
        [] => {}
        [kid] => {
            if let Some(column) = now.columns.iter().find(|column| column.fenced.contains(kid)) {
                return Err(refuses(&column.name, *kid));
            }
            return Ok(Step::Promote(*kid));
        }
        _ => {
            return Err(Error::Refused {
                reason: "several keys of the keyring wait to be promoted".to_owned(),
                remedy: "promote one with `vault key promote`, and disable the others with `vault key disable`"
                    .to_owned(),
            });
        }
    }
    Ok(if !now.moved && now.columns.iter().any(|column| column.stale > 0) {
        Step::Move
    } else if now.columns.iter().any(unfenced) {
        Step::Fence
    } else if now.moved && !now.verified {
        Step::Verify
    } else if let Some(kid) = now.replaced.first().filter(|_| wanted.retire) {
        Step::Disable(*kid)
    } else if wanted.new_key {
        Step::Add
    } else {
        Step::Nothing
    })
}

/// The refusal to promote a key that a database takes no value under.
pub(crate) fn refuses(column: &str, kid: KeyId) -> Error {
    Error::Refused {
        reason: format!("column {column} is fenced against key {kid}"),
        remedy: "take the fence down first, with `vault rotate fence --drop`".to_owned(),
    }
}

impl Situation {
    /// What is there after a step that goes well: what a dry run goes on from. A key that is to be made
    /// has no id yet, and stands for the primary key.
    #[must_use]
    pub fn after(&self, step: Step, primary: KeyId) -> Self {
        let mut next = self.clone();
        match step {
            Step::Add => next.waiting = vec![KeyId::none()],
            Step::Promote(kid) => {
                next.waiting.retain(|waiting| *waiting != kid);
                next.replaced.push(primary);
                next.to_fence.push(primary);
                next.to_fence.retain(|fenced| *fenced != kid);
                (next.moved, next.verified, next.settled) = (false, false, false);
                // How many there are is told by a count; that there are some is enough to go on.
                next.columns.iter_mut().for_each(|column| column.stale = 1);
            }
            Step::Move => {
                next.moved = true;
                next.columns.iter_mut().for_each(|column| column.stale = 0);
            }
            Step::Fence => {
                next.settled = true;
                next.columns.iter_mut().for_each(|column| column.fenced.clone_from(&next.to_fence));
            }
            Step::Verify => {
                next.verified = true;
                next.columns.iter_mut().for_each(|column| column.open = false);
            }
            Step::Disable(kid) => next.replaced.retain(|replaced| *replaced != kid),
            Step::Nothing => {}
        }
        next
    }
}

#[cfg(test)]
mod tests;
