//! Which processes hold a keyring, and which of them a change of its keys waits for.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::key::KeyId;
use crate::keyring::{Followed, KeyState};
use crate::registry::{Heartbeat, Presence, Whereabouts};
use crate::vault::Vault;

/// How often heartbeats are looked at while they are waited for.
const LOOK: Duration = Duration::from_millis(100);

/// A process that holds a keyring, or held it within a day.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Process {
    /// What it said last.
    pub heartbeat: Heartbeat,
    /// Whether it is still there.
    pub presence: Presence,
    /// What keeps it from following, if anything does: for people.
    pub lacks: Option<String>,
}

/// How processes are waited for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Waiting {
    /// How long. Two times of following are waited for in any case.
    pub patience: Duration,
    /// Names of processes that are gone, by the word of an operator.
    pub without: Vec<String>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { patience: Duration::from_secs(90), without: Vec::new() }
    }
}

/// What a process must have said.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// That it opens values under this key; else that it has read these states.
    opens: Option<KeyId>,
    generation: u64,
}

/// What is known of one process.
#[derive(Clone, Copy, Debug)]
struct Known<'a> {
    heartbeat: &'a Heartbeat,
    presence: Presence,
    /// It finds what this process finds: under the same paths, with the same rights.
    finds_the_same: bool,
    /// It had the time of following to look and say so: who did not use the keys since has not.
    leased: bool,
}

/// Whether a process follows, by the rule in docs/ARCHITECTURE.md, "Who is waited for": nothing, or what it
/// lacks.
fn lacks(known: &Known<'_>, asked: &Asked) -> Option<String> {
    let Known { heartbeat, presence, finds_the_same, leased } = *known;
    if presence == Presence::Gone {
        return None;
    }
    if let Some(failure) = &heartbeat.failure {
        return Some(format!("could not follow: {failure}"));
    }
    let said = match asked.opens {
        Some(kid) => heartbeat.kids.contains(&kid),
        None => heartbeat.generation >= asked.generation,
    };
    if said {
        return None;
    }
    // It looks before it seals, and when it meets a key that it does not know.
    let idle = presence == Presence::Here && heartbeat.follow.is_some() && finds_the_same;
    if idle && leased {
        return None;
    }
    let last = heartbeat.spoke;
    Some(match (presence, asked.opens) {
        (Presence::Stopped, _) => "is stopped; let it go on, or end it".to_owned(),
        (_, Some(kid)) => format!("has not said that it opens key {kid}; spoke last at {last}"),
        (_, None) => format!(
            "has read generation {} of the states, not {}; spoke last at {last}",
            heartbeat.generation, asked.generation
        ),
    })
}

impl Vault {
    /// The processes that hold a keyring, or held it within a day, and what each of them lacks: the key that
    /// waits to be promoted where there is one, else the present states.
    ///
    /// # Errors
    ///
    /// As [`heartbeats`](Self::heartbeats).
    pub fn processes(&self, keyring: &str) -> Result<Vec<Process>> {
        let loaded = self.keyring(keyring)?;
        let waits = loaded.keys().into_iter().find(|key| key.state == KeyState::Active && key.place.is_some());
        let asked = Asked { opens: waits.map(|key| key.kid), generation: loaded.generation() };
        let processes = self.heartbeats(keyring)?.into_iter().map(|heartbeat| {
            let presence = heartbeat.whereabouts.presence();
            let finds_the_same = self.finds_the_same(keyring, &asked, &heartbeat);
            let lacks = lacks(&Known { heartbeat: &heartbeat, presence, finds_the_same, leased: true }, &asked);
            Process { heartbeat, presence, lacks }
        });
        Ok(processes.collect())
    }

    /// Whether anybody has said who holds a keyring: a process that said so within a day, or `nodes = 1`.
    /// Where nobody has, only an operator knows who is there.
    ///
    /// # Errors
    ///
    /// As [`heartbeats`](Self::heartbeats).
    pub fn knows_processes(&self, keyring: &str) -> Result<bool> {
        Ok(self.manifest().nodes() == Some(1) || !self.heartbeats(keyring)?.is_empty())
    }

    /// Refuses where [nobody has said](Self::knows_processes) who holds a keyring.
    pub(crate) fn require_known(&self, keyring: &str) -> Result<()> {
        if self.knows_processes(keyring)? { Ok(()) } else { Err(unheard(keyring)) }
    }

    /// Waits until every process that holds a keyring follows it: opens values under the key `opens`, or
    /// has read the present states. In any case it waits for the time in which a process follows by itself.
    ///
    /// Every process that spoke within a day is waited for, but for those that are provably gone and those
    /// in [`without`](Waiting::without).
    ///
    /// # Errors
    ///
    /// [`Error::Temporary`] naming those that do not follow in time, and where nobody has ever said who
    /// holds the keyring; [`Error::Refused`] where more processes hold it than `nodes` declares; as
    /// [`heartbeats`](Self::heartbeats).
    pub fn await_processes(&self, keyring: &str, opens: Option<KeyId>, waiting: &Waiting) -> Result<Followed> {
        let asked = Asked { opens, generation: self.keyring(keyring)?.generation() };
        self.require_known(keyring)?;
        let start = Instant::now();
        let before: BTreeMap<String, u64> =
            self.heartbeats(keyring)?.iter().map(|heartbeat| (heartbeat.id(), heartbeat.beats)).collect();
        loop {
            let heartbeats = self.heartbeats(keyring)?;
            let leased = start.elapsed() >= self.time_of_following(&heartbeats);
            let mut waits = BTreeSet::new();
            let mut there = BTreeSet::new();
            for heartbeat in &heartbeats {
                if waiting.without.contains(&heartbeat.process) {
                    continue;
                }
                let presence = heartbeat.whereabouts.presence();
                let spoke = before.get(&heartbeat.id()).is_none_or(|beats| *beats < heartbeat.beats);
                if presence != Presence::Gone && (presence != Presence::Elsewhere || spoke) {
                    there.insert(&heartbeat.process);
                }
                let finds_the_same = self.finds_the_same(keyring, &asked, heartbeat);
                if let Some(lacks) = lacks(&Known { heartbeat, presence, finds_the_same, leased }, &asked) {
                    waits.insert(format!("process {} {lacks}", heartbeat.process));
                }
            }
            let unmet = self.unmet(keyring, there.len(), waits);
            match unmet {
                None if leased => return self.followed(keyring, opens),
                Some(error) if leased && start.elapsed() >= waiting.patience => return Err(error),
                _ => thread::sleep(LOOK),
            }
        }
    }

    /// Why the processes do not follow yet.
    fn unmet(&self, keyring: &str, there: usize, waits: BTreeSet<String>) -> Option<Error> {
        let declared = self.manifest().nodes().map(|nodes| nodes as usize);
        if let Some(declared) = declared.filter(|declared| *declared < there) {
            return Some(Error::Refused {
                reason: format!("{there} processes hold keyring {keyring}, and `nodes` declares {declared}"),
                remedy: "`nodes` counts processes, not machines or pods: raise it, or leave it out; `vault status` lists them".to_owned(),
            });
        }
        if !waits.is_empty() {
            return Some(Error::Temporary {
                reason: waits.into_iter().collect::<Vec<_>>().join("; "),
                remedy: "deliver keys and states to these processes and run the command again; `--without NAME` says that one is gone".to_owned(),
            });
        }
        let declared = declared.filter(|declared| *declared > 1 && there < *declared)?;
        Some(Error::Temporary {
            reason: format!(
                "{there} processes of the {declared} that `nodes` declares have said that they hold keyring {keyring}"
            ),
            remedy: "start the others, or lower `nodes`; --all-nodes-loaded says that you have looked yourself"
                .to_owned(),
        })
    }

    /// How long it takes until a process has looked that uses its keys, by what processes say and by what is
    /// declared here, and a little more.
    pub(crate) fn time_of_following(&self, heartbeats: &[Heartbeat]) -> Duration {
        let follow = heartbeats.iter().filter_map(|heartbeat| heartbeat.follow).chain([self.manifest().follow()]).max();
        follow.unwrap_or_default().mul_f64(1.25)
    }

    fn followed(&self, keyring: &str, opens: Option<KeyId>) -> Result<Followed> {
        let loaded = self.keyring(keyring)?;
        Ok(Followed::new(loaded.keyring_id(), loaded.generation(), opens))
    }

    /// Whether a process finds the key that is asked about, or that seals: it says so, or this process
    /// finds it in a file of the same directory, owner and mode as a key that the other one opens.
    fn finds_the_same(&self, keyring: &str, asked: &Asked, heartbeat: &Heartbeat) -> bool {
        let Ok(loaded) = self.keyring(keyring) else { return false };
        let kid = asked.opens.unwrap_or_else(|| loaded.primary_kid());
        if !heartbeat.whereabouts.shares_paths_with(&Whereabouts::here()) || heartbeat.config != self.manifest().path()
        {
            return false;
        }
        let keys = loaded.keys();
        let place =
            |of: KeyId| keys.iter().find(|key| key.kid == of).and_then(|key| key.place.as_deref()).map(Path::new);
        let Some(new) = place(kid) else { return false };
        heartbeat.kids.contains(&kid) || heartbeat.kids.iter().filter_map(|old| place(*old)).any(|old| alike(old, new))
    }
}

impl Followed {
    /// The word of an operator that every process follows, in the place of waiting for them: that each
    /// opens values under the key `opens`, or has read the present states. A process of which that is not
    /// so cannot read what is sealed after a promotion, and loses what it writes after a key is disabled.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a keyring that is not declared.
    pub fn by_the_word_of_an_operator_who_looked(vault: &Vault, keyring: &str, opens: Option<KeyId>) -> Result<Self> {
        vault.followed(keyring, opens)
    }
}

/// Whether who can read the one file can read the other.
fn alike(one: &Path, other: &Path) -> bool {
    let (Ok(left), Ok(right)) = (fs::symlink_metadata(one), fs::symlink_metadata(other)) else { return false };
    let of = |file: &fs::Metadata| (file.is_file(), file.uid(), file.gid(), file.mode() & 0o7777);
    one.parent() == other.parent() && left.is_file() && of(&left) == of(&right)
}

fn unheard(keyring: &str) -> Error {
    Error::Temporary {
        reason: format!("no process has said that it holds keyring {keyring}: is the application stopped, or can it not say so?"),
        remedy: "start the application, which writes a heartbeat beside the keyring's states; --all-nodes-loaded says that you have looked yourself".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The rule of docs/ARCHITECTURE.md, "Who is waited for", row by row.
    #[test]
    fn who_is_waited_for() {
        use Presence::{Elsewhere, Gone, Here, Stopped};

        let (old, new) = (KeyId::parse("kaaaaaaaaaaaaaaaa").unwrap(), KeyId::parse("kbbbbbbbbbbbbbbbb").unwrap());
        let open = Asked { opens: Some(new), generation: 2 };
        let read = Asked { opens: None, generation: 2 };
        let behind =
            Heartbeat { kids: vec![old], generation: 1, follow: Some(Duration::from_secs(1)), ..Heartbeat::default() };
        let has_key = Heartbeat { kids: vec![old, new], ..behind.clone() };
        let has_states = Heartbeat { generation: 2, ..behind.clone() };
        let failed = Heartbeat { failure: Some("no".to_owned()), generation: 2, ..has_key.clone() };
        let told = Heartbeat { follow: None, ..behind.clone() };
        // (heartbeat, presence, finds the same, had the time) and for each question whether it is waited for.
        for (number, (heartbeat, presence, same, leased, waits)) in [
            (&behind, Here, true, false, [true, true]),
            (&behind, Here, true, true, [false, false]),
            (&behind, Here, false, true, [true, true]),
            (&behind, Stopped, true, true, [true, true]),
            (&behind, Elsewhere, true, true, [true, true]),
            (&behind, Gone, false, false, [false, false]),
            (&told, Here, true, true, [true, true]),
            (&has_key, Elsewhere, false, false, [false, true]),
            (&has_key, Stopped, false, false, [false, true]),
            (&has_states, Elsewhere, false, false, [true, false]),
            (&has_states, Here, false, true, [true, false]),
            (&failed, Here, true, true, [true, true]),
            (&failed, Elsewhere, true, true, [true, true]),
            (&failed, Gone, true, true, [false, false]),
        ]
        .into_iter()
        .enumerate()
        {
            let known = Known { heartbeat, presence, finds_the_same: same, leased };
            let found = [&open, &read].map(|asked| lacks(&known, asked).is_some());
            assert_eq!(found, waits, "row {number}: {presence:?}");
        }
    }
}
