//! What a process says of the keyrings that it holds, and what others said.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::hex;
use crate::manifest::{KeyringSpec, StateLocation};
use crate::primitives;
use crate::registry::{Heartbeat, HeartbeatFiles, Whereabouts, plain};
use crate::time::Timestamp;

use super::Vault;

impl Vault {
    /// What the processes said that hold a keyring: in the database of the store where there is one, else
    /// in files beside the state file. It is there for a day, also of processes that are gone. Nothing
    /// where neither is declared: then no key ever changes.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a keyring that is not declared; [`Error::Database`] or [`Error::Io`].
    pub fn heartbeats(&self, keyring: &str) -> Result<Vec<Heartbeat>> {
        let spec = self.manifest.keyring(keyring)?;
        match (&self.connected()?.registry, heartbeat_files(spec)) {
            (Some(registry), _) => registry.heartbeats(keyring),
            (None, Some(files)) => files.heartbeats(),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// Says what was read, and why more could not be. A process that cannot say it is silent, which holds
    /// changes of keys back and harms nothing.
    pub(super) fn beat(&self, failure: Option<&Error>) {
        let (loaded, Some(node)) = (self.loaded(), &self.node) else { return };
        for (name, keyring) in &loaded.keyrings {
            let Ok(spec) = self.manifest.keyring(name) else { continue };
            let heartbeat = Heartbeat {
                kids: keyring.opening_kids(),
                generation: keyring.generation(),
                config: self.manifest.path().to_owned(),
                follow: Some(self.manifest.follow()),
                failure: failure.map(|error| plain(&error.to_string())),
                ..node.heartbeat()
            };
            let _ = match (&loaded.registry, heartbeat_files(spec)) {
                (Some(registry), _) => registry.beat(name, &heartbeat),
                (None, Some(files)) => files.beat(&heartbeat),
                (None, None) => Ok(()),
            };
        }
    }
}

fn heartbeat_files(spec: &KeyringSpec) -> Option<HeartbeatFiles> {
    match &spec.state {
        Some(StateLocation::File(path)) => Some(HeartbeatFiles::beside(path)),
        _ => None,
    }
}

/// Who sends heartbeats: a vault of a process.
#[derive(Debug)]
pub(super) struct Node {
    process: Option<String>,
    vault: String,
    since: Timestamp,
    beats: AtomicU64,
}

impl Node {
    pub(super) fn new(process: Option<String>) -> Result<Self> {
        let random = primitives::random()?;
        let vault = hex::encode(random.get(..8).unwrap_or_default());
        Ok(Self { process, vault, since: Timestamp::now(), beats: AtomicU64::new(0) })
    }

    /// The next heartbeat, without what was read.
    fn heartbeat(&self) -> Heartbeat {
        let at = Whereabouts::here();
        let process = self.process.clone().unwrap_or_else(|| format!("{}-{}-{}", at.machine, at.pid, at.start));
        Heartbeat {
            process,
            vault: self.vault.clone(),
            whereabouts: at,
            since: self.since,
            spoke: Timestamp::now(),
            beats: self.beats.fetch_add(1, Ordering::SeqCst) + 1,
            ..Heartbeat::default()
        }
    }
}
