//! What about a column somebody has to see to: the one answer of `status`, `doctor`, `verify` and `plan`.

use crate::format::Format;
use crate::keyring::KeyState;

use super::ColumnCount;

/// How much it matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Urgency {
    /// Something is overdue, or waits.
    Waits,
    /// Something does not open, or what says which keys are which is not to be trusted.
    Broken,
}

/// Something that somebody has to see to.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Attention {
    /// How much it matters.
    pub urgency: Urgency,
    /// A word that never changes, for programs.
    pub code: &'static str,
    /// What is so.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl ColumnCount {
    /// What somebody has to see to.
    #[must_use]
    pub fn attention(&self) -> Vec<Attention> {
        let mut found = Vec::new();
        let mut find = |urgency, code, what: String, remedy: String| {
            found.push(Attention { urgency, code, what: format!("{}: {what}", self.column), remedy });
        };
        if let Some(told) = &self.rolled_back {
            find(Urgency::Broken, "older-states", told.clone(), PUT_BACK.to_owned());
        }
        for (kid, (state, rows)) in &self.closed {
            let (is, remedy) = match state {
                Some(KeyState::Disabled) => {
                    ("is disabled", format!("`vault key enable {kid}`, then `vault rotate run`"))
                }
                Some(KeyState::Destroyed) => {
                    ("was destroyed", "restore these rows from a backup, or remove them".to_owned())
                }
                Some(_) => ("was not found", "put its file where a source of the keyring finds it".to_owned()),
                None => {
                    ("the keyring does not list", "add it with `vault key add`, then `vault rotate run`".to_owned())
                }
            };
            let what = format!("{rows} values do not open: they name key {kid}, which {is}");
            find(Urgency::Broken, "does-not-open", what, remedy);
        }
        let others = self.failed - self.closed.values().map(|(_, rows)| rows).sum::<u64>();
        if others > 0 {
            let remedy = "`vault rotate verify` lists them; repair or restore these rows".to_owned();
            find(Urgency::Broken, "does-not-open", format!("{others} values do not open"), remedy);
        }
        if self.stale > 0 && !self.immutable {
            let what = format!("{} values are stale", self.stale);
            let by_migration = self.by.keys().any(|found| found.format != self.writes);
            let remedy = if by_migration && self.writes != Format::Vs1 {
                format!("`vault migrate {} --to {}` moves them", self.column, self.writes)
            } else {
                "`vault rotate run` moves them".to_owned()
            };
            find(Urgency::Waits, "stale", what, remedy);
        }
        if !self.unfenced.is_empty() {
            let kids: Vec<_> = self.unfenced.iter().map(ToString::to_string).collect();
            let what = format!("not fenced against {}, under which nothing opens", kids.join(", "));
            let remedy = "`vault rotate fence`; whatever rebuilt the table took the fence away".to_owned();
            find(Urgency::Waits, "fence-lost", what, remedy);
        }
        found
    }
}

/// What to do where the states are older than what a database knows of them.
pub(super) const PUT_BACK: &str =
    "STOP: seal nothing, and put the newest states back; their file has a copy beside it, named as it is with .bak";
