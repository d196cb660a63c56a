//! What a process tells of the keyrings that it has read, and what others told.

use rustix::system::uname;

use crate::error::{Error, Place, Result};
use crate::hex;
use crate::primitives;
use crate::registry::Heartbeat;

use super::Vault;

impl Vault {
    /// Whether there is a place for heartbeats: a store in a database.
    #[must_use]
    pub fn has_heartbeats(&self) -> bool {
        self.loaded().registry.is_some()
    }

    /// What processes told of a keyring, where a store in a database has it: those that are there, and
    /// for a day those that are gone. Who lives tells again.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where no store in a database is declared; [`Error::Database`].
    pub fn heartbeats(&self, keyring: &str) -> Result<Vec<Heartbeat>> {
        self.manifest.keyring(keyring)?;
        let loaded = self.connected()?;
        let registry = loaded.registry.as_ref().ok_or_else(|| Error::Config {
            place: Place::file(self.manifest.path()),
            reason: "heartbeats are in a [store] that is a database, and none is declared".to_owned(),
        })?;
        registry.heartbeats(keyring)
    }

    /// Tells what was read. A process that cannot is silent, which holds changes of keys back and
    /// harms nothing. After a look that failed, `failure` is why.
    pub(super) fn beat(&self, _failure: Option<&Error>) {
        let loaded = self.loaded();
        let (Some(registry), Some(node)) = (&loaded.registry, &self.node) else { return };
        for (name, keyring) in &loaded.keyrings {
            let heartbeat = Heartbeat {
                node: node.name(),
                kids: keyring.opening_kids(),
                generation: keyring.generation(),
                beats: 0,
            };
            let _ = registry.beat(name, &heartbeat);
        }
    }
}

/// Who sends heartbeats: a vault of a process.
#[derive(Debug)]
pub(super) struct Node {
    process: Option<String>,
    vault: String,
}

impl Node {
    pub(super) fn new(process: Option<String>) -> Result<Self> {
        let random = primitives::random()?;
        Ok(Self { process, vault: hex::encode(random.get(..8).unwrap_or_default()) })
    }

    /// The name of the process, asked for anew because a fork is one of its own, and of the vault.
    fn name(&self) -> String {
        let process = self.process.clone().unwrap_or_else(|| {
            let machine = uname().nodename().to_string_lossy().into_owned();
            format!("{machine}-{}-{}", std::process::id(), start())
        });
        format!("{process}/{}", self.vault)
    }
}

/// When this process began, in ticks of the machine's clock, as numbers of processes come again. In
/// containers they are few, and so may be the names of machines.
fn start() -> String {
    let told = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_the_name = told.rsplit(") ").next().unwrap_or_default();
    behind_the_name.split(' ').nth(19).unwrap_or("0").to_owned()
}
