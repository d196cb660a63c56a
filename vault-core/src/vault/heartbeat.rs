//! What a process tells of the keyrings that it has read, and what others told.

use rustix::system::uname;

use crate::error::{Error, Place, Result};
use crate::primitives;
use crate::registry::Heartbeat;

use super::Vault;

impl Vault {
    /// Whether there is a place for heartbeats: a store in a database.
    #[must_use]
    pub fn has_heartbeats(&self) -> bool {
        self.registry.is_some()
    }

    /// What processes told of a keyring, where a store in a database has it: those that are there, and
    /// for a day those that are gone. Who lives tells again.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where no store in a database is declared; [`Error::Database`].
    pub fn heartbeats(&self, keyring: &str) -> Result<Vec<Heartbeat>> {
        self.manifest.keyring(keyring)?;
        let registry = self.registry.as_ref().ok_or_else(|| Error::Config {
            place: Place::file(self.manifest.path()),
            reason: "heartbeats are in a [store] that is a database, and none is declared".to_owned(),
        })?;
        registry.heartbeats(keyring)
    }

    /// Tells what was read. A process that cannot is silent, which holds changes of keys back and
    /// harms nothing.
    pub(super) fn beat(&self) {
        let (Some(registry), Some(node)) = (&self.registry, &self.node) else { return };
        for (name, keyring) in &self.keyrings {
            // A fork is a process of its own.
            let node = format!("{node}-{}", std::process::id());
            let heartbeat =
                Heartbeat { node, kids: keyring.opening_kids(), generation: keyring.generation(), beats: 0 };
            let _ = registry.beat(name, &heartbeat);
        }
    }
}

/// A name for a vault: its machine's, and random digits, because that may be given twice.
pub(super) fn name() -> Result<String> {
    let random = primitives::random()?;
    let machine = uname().nodename().to_string_lossy().into_owned();
    Ok(format!("{machine}-{}", primitives::hex(random.get(..8).unwrap_or_default())))
}
