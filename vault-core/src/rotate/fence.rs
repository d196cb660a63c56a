//! What makes databases refuse values under keys that were replaced.

use core::time::Duration;

use crate::column::Fence;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::key::KeyId;
use crate::keyring::{Followed, KeyState, Keyring, KeyringState};
use crate::sealer::Sealer;

use super::{Rotation, Target};

impl Rotation<'_> {
    /// Makes the databases refuse every write of a value under a key that was replaced, or beside
    /// what they refuse already only under `kid`.
    ///
    /// Columns in legacy formats and immutable ones have no fence. Returns the columns that are
    /// fenced now.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] while a row is stale.
    pub fn fence(&mut self, kid: Option<KeyId>) -> Result<Vec<String>> {
        let mut fenced = Vec::new();
        for target in &mut self.targets {
            let kids = target.kids_to_fence(kid)?;
            if !kids.is_empty() {
                let fence = target.fence_against(&kids);
                target.column.fence(&fence)?;
                fenced.push(target.column.spec().name.clone());
            }
        }
        Ok(fenced)
    }

    /// What would keep [`fence`](Self::fence) from its work: columns, and why each refuses.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn fence_obstacles(&mut self, kid: Option<KeyId>) -> Result<Vec<(String, Error)>> {
        let mut obstacles = Vec::new();
        for target in &mut self.targets {
            let kids = target.kids_to_fence(kid)?;
            if !kids.is_empty()
                && let Some(obstacle) = target.column.fence_obstacle(&kids)?
            {
                obstacles.push((target.column.spec().name.clone(), obstacle));
            }
        }
        Ok(obstacles)
    }

    /// Has the fences tell of these states, which are newer: whoever puts older ones back is noticed.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn renew_fences(&mut self, states: &KeyringState) -> Result<()> {
        for target in &mut self.targets {
            let fence = target.column.standing_fence()?;
            if !fence.kids.is_empty() && fence.keyring.as_deref() == Some(states.keyring_id()) {
                target.column.fence(&fence.of(Some(states.keyring_id()), states.generation()))?;
            }
        }
        Ok(())
    }

    /// The columns that can have a fence.
    #[must_use]
    pub fn fenceable(&self) -> Vec<&str> {
        let targets = self.targets.iter().filter(|target| target.has_fence());
        targets.map(|target| target.column.spec().name.as_str()).collect()
    }

    /// The columns whose values applications write in transactions of their own, and update.
    pub(crate) fn written_by_applications(&self) -> Vec<&str> {
        let targets = self.targets.iter().filter(|target| target.is_written_by_applications());
        targets.map(|target| target.column.spec().name.as_str()).collect()
    }

    /// Takes the fences down, so that a key that was replaced can be promoted again. Those against
    /// keys that are disabled or destroyed stay: a process may still hold a token that it sealed
    /// before, and once written nobody could open it.
    ///
    /// Returns the columns that stay fenced.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where `followed` is of another keyring, and [`Error::Temporary`] where it is of
    /// other states; [`Error::Database`].
    pub fn unfence(&mut self, followed: &Followed) -> Result<Vec<String>> {
        for keyring in self.targets.iter().filter_map(|target| Some(target.keys.sealer.as_ref()?.keyring())) {
            followed.check(keyring.keyring_id(), keyring.generation(), None)?;
        }
        for target in &mut self.targets {
            target.unfence()?;
        }
        Ok(self.fences()?.into_iter().map(|(column, _)| column).collect())
    }

    /// Whether [`fence`](Self::fence) has nothing to do.
    pub(crate) fn is_fenced(&mut self, kid: Option<KeyId>) -> Result<bool> {
        for target in &mut self.targets {
            let kids = target.kids_to_fence(kid)?;
            let fenced = target.column.fenced()?;
            if kids.iter().any(|kid| !fenced.contains(kid)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What keeps columns from being fenced at all.
    pub(crate) fn fence_refusals(&mut self) -> Result<Vec<(String, Error)>> {
        let mut refusals = Vec::new();
        for target in self.targets.iter_mut().filter(|target| target.has_fence()) {
            if let Some(refusal) = target.column.fence_refusal()? {
                refusals.push((target.column.spec().name.clone(), refusal));
            }
        }
        Ok(refusals)
    }

    /// What every column is fenced against, for [`put_back`](Self::put_back).
    pub(crate) fn column_fences(&mut self) -> Result<Vec<(String, Vec<KeyId>)>> {
        let fences =
            self.targets.iter_mut().map(|target| Ok((target.column.spec().name.clone(), target.column.fenced()?)));
        fences.collect()
    }

    /// Fences columns as they were.
    pub(crate) fn put_back(&mut self, fences: &[(String, Vec<KeyId>)]) -> Result<()> {
        for target in &mut self.targets {
            let Some((_, kids)) = fences.iter().find(|(column, _)| *column == target.column.spec().name) else {
                continue;
            };
            if target.column.fenced()? == *kids {
                continue;
            }
            if kids.is_empty() {
                target.column.unfence()?;
            } else {
                let fence = target.fence_against(kids);
                target.column.fence(&fence)?;
            }
        }
        Ok(())
    }

    /// Waits until no transaction of others is open that is open now; false where a database does not show
    /// who writes.
    pub(crate) fn await_writers(&mut self, patience: Duration) -> Result<bool> {
        let mut shown = true;
        for target in self.targets.iter_mut().filter(|target| target.is_written_by_applications()) {
            shown &= target.column.await_writers(patience)?;
        }
        Ok(shown)
    }

    /// The columns of which [`unfence`](Self::unfence) takes a fence down.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn unfenceable(&mut self) -> Result<Vec<String>> {
        let mut columns = Vec::new();
        for target in &mut self.targets {
            if !target.split_fence()?.0.is_empty() {
                columns.push(target.column.spec().name.clone());
            }
        }
        Ok(columns)
    }

    /// The columns that have a fence, and the keys that each refuses to take.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn fences(&mut self) -> Result<Vec<(String, Vec<KeyId>)>> {
        let mut fences = Vec::new();
        for target in &mut self.targets {
            let kids = target.column.fenced()?;
            if !kids.is_empty() {
                fences.push((target.column.spec().name.clone(), kids));
            }
        }
        Ok(fences)
    }

    /// The keys that some column refuses to take.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn fenced(&mut self) -> Result<Vec<KeyId>> {
        let mut kids: Vec<_> = self.fences()?.into_iter().flat_map(|(_, kids)| kids).collect();
        kids.sort();
        kids.dedup();
        Ok(kids)
    }
}

impl Target {
    /// A fence against `kids`, of the keyring as it was loaded.
    fn fence_against(&self, kids: &[KeyId]) -> Fence {
        let keyring = self.keys.sealer.as_ref().map(Sealer::keyring);
        let generation = keyring.map_or(0, Keyring::generation);
        Fence::against(kids).of(keyring.and_then(Keyring::keyring_id), generation)
    }

    /// Keys that open nothing any more and that `fence` does not refuse.
    pub(super) fn retired_keys_beyond(&self, fence: &Fence) -> Vec<KeyId> {
        let mut kids = self.keys_in(|state| matches!(state, KeyState::Disabled | KeyState::Destroyed));
        kids.retain(|kid| self.has_fence() && !fence.kids.contains(kid));
        kids
    }

    /// How the database shows that the states that were loaded are older than what it knows.
    pub(super) fn older_states(&mut self) -> Result<Option<String>> {
        let fence = self.column.standing_fence()?;
        let name = &self.column.spec().name;
        Ok(self.states_behind(&fence).map(|reason| format!("column {name}: {reason}")))
    }

    /// How `fence` shows that the states that were loaded are older than those it was put up under.
    pub(super) fn states_behind(&self, fence: &Fence) -> Option<String> {
        let keyring = self.keys.sealer.as_ref()?.keyring();
        let primary = keyring.primary_kid();
        if fence.kids.contains(&primary) {
            return Some(format!(
                "the database is fenced against key {primary}, which the states call primary: they are older than the fence"
            ));
        }
        let newer = fence.keyring.is_some()
            && fence.keyring.as_deref() == keyring.keyring_id()
            && fence.generation > keyring.generation();
        newer.then(|| {
            format!(
                "the fence was put up under generation {} of the states, and those that were loaded have generation {}",
                fence.generation,
                keyring.generation()
            )
        })
    }

    /// The keys that a promotion replaced: a key that still waits may become primary, and is not
    /// among them.
    fn replaced_keys(&self) -> Vec<KeyId> {
        self.keys_in(|state| !matches!(state, KeyState::Primary | KeyState::Active))
    }

    /// The keys of a fence that refuses those that were replaced, or beside what is refused already
    /// only `kid`; none for a column that has no fence.
    fn kids_to_fence(&mut self, kid: Option<KeyId>) -> Result<Vec<KeyId>> {
        if !self.has_fence() || kid.is_some_and(|kid| kid.letter() == 'f') {
            return Ok(Vec::new());
        }
        let Some(kid) = kid else { return Ok(self.replaced_keys()) };
        let mut kids = self.column.fenced()?;
        kids.push(kid);
        kids.sort();
        kids.dedup();
        Ok(kids)
    }

    fn unfence(&mut self) -> Result<()> {
        match self.split_fence()? {
            (taken, _) if taken.is_empty() => Ok(()),
            (_, kept) if kept.is_empty() => self.column.unfence(),
            (_, kept) => {
                let fence = self.fence_against(&kept);
                self.column.fence(&fence)
            }
        }
    }

    /// The keys of the fence that may go, and those that nothing opens any more.
    fn split_fence(&mut self) -> Result<(Vec<KeyId>, Vec<KeyId>)> {
        let retired = self.keys_in(|state| matches!(state, KeyState::Disabled | KeyState::Destroyed));
        Ok(self.column.fenced()?.into_iter().partition(|kid| !retired.contains(kid)))
    }

    /// Whether the column can have a fence. A value of a legacy format does not say which key it
    /// is under, and a store takes no token that is not under the primary key as it is.
    pub(super) fn has_fence(&self) -> bool {
        self.column.spec().writes == Format::Vs1 && self.is_written_by_applications()
    }

    fn is_written_by_applications(&self) -> bool {
        !self.column.spec().immutable && self.column.transactional()
    }
}
