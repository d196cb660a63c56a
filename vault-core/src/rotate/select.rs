//! Which values a job goes over.

use crate::column::Selection;
use crate::error::Result;
use crate::format::Format;
use crate::key::KeyId;
use crate::keyring::KeyState;

use super::Target;
use super::convert::{Converter, Job};

impl Target {
    /// Which values the job can move.
    pub(super) fn selection(&self, job: &Job) -> Selection {
        match (job, self.column.spec().writes) {
            (Job::Rotate | Job::RotateDeep, Format::Vs1) => {
                Selection::Prefixes(self.stale_keys().iter().flat_map(KeyId::prefixes).collect())
            }
            _ => Selection::All,
        }
    }

    /// Which values may not be what the job makes of them: those that it can move, and what is
    /// under a key that nobody knows or in no known format. A deep rotation opens every token.
    pub(super) fn not_current(&self, job: &Job) -> Result<Selection> {
        let spec = self.column.spec();
        match job {
            Job::Rotate if spec.writes == Format::Vs1 => {
                let current = Converter::new(spec, &self.keys, job).target()?;
                Ok(Selection::Except(current.prefixes().into()))
            }
            _ => Ok(Selection::All),
        }
    }

    /// Whether a value says by what it begins with which key it is under.
    pub(super) fn is_told_by_prefix(&self) -> bool {
        self.column.spec().writes == Format::Vs1
    }

    /// The keys of the column's tokens that are not the primary one.
    pub(super) fn stale_keys(&self) -> Vec<KeyId> {
        self.keys_in(|state| state != KeyState::Primary)
    }

    /// The state of a key of the column's tokens, if its keyring lists the key.
    pub(super) fn state_of(&self, kid: KeyId) -> Option<KeyState> {
        let mut keys = self.keys.sealer.iter().flat_map(|sealer| sealer.keyring().keys());
        keys.find(|key| key.kid == kid).map(|key| key.state)
    }

    pub(super) fn keys_in(&self, wanted: impl Fn(KeyState) -> bool) -> Vec<KeyId> {
        let keys = self.keys.sealer.iter().flat_map(|sealer| sealer.keyring().keys());
        keys.filter(|key| wanted(key.state)).map(|key| key.kid).collect()
    }
}
