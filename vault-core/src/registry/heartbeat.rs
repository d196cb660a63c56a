//! What a process says of a keyring that it holds, as one line of JSON (docs/FORMAT.md, "Heartbeats").

use core::time::Duration;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::key::KeyId;
use crate::time::Timestamp;

use super::machine::Whereabouts;

/// Longest heartbeat, in bytes: 10,000 keys, and the rest.
pub(super) const MAX_HEARTBEAT: usize = 512 << 10;
/// Longest name of a process or a machine, and longest reason, in bytes.
const MAX_TEXT: usize = 512;

/// What a process says of a keyring that it holds. It holds no secret and is not signed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Heartbeat {
    /// The name of the process.
    pub process: String,
    /// Which of its vaults: a random name, which its forks share.
    pub vault: String,
    /// Where it runs.
    pub(crate) whereabouts: Whereabouts,
    /// The `vault.toml` that it loaded.
    pub config: PathBuf,
    /// Since when it holds the keyring, by its own clock.
    pub since: Timestamp,
    /// When it spoke, by its own clock.
    pub spoke: Timestamp,
    /// How often it spoke.
    pub beats: u64,
    /// The generation of the states that it has read.
    pub generation: u64,
    /// The keys with which it opens.
    pub kids: Vec<KeyId>,
    /// How old its last look at the keys may be when it seals. None for one that looks only when it is
    /// told to.
    pub follow: Option<Duration>,
    /// Why its last look failed, if it did: what it read before is what it uses.
    pub failure: Option<String>,
}

impl Heartbeat {
    /// The name of its machine.
    #[must_use]
    pub fn machine(&self) -> &str {
        &self.whereabouts.machine
    }

    /// The number of the process on its machine, or in its container.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.whereabouts.pid
    }

    /// What tells it from the heartbeats of all others.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.process, self.vault)
    }

    /// A heartbeat that cannot be read: somebody is there, and nothing is known of them.
    pub(super) fn unreadable(name: &str) -> Self {
        let failure = Some("its heartbeat cannot be read".to_owned());
        Self { process: plain(name), failure, ..Self::default() }
    }

    /// What stands in a place for the heartbeat of the process `id`.
    pub(super) fn told(id: &str, text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|| Self::unreadable(id))
    }

    pub(super) fn render(&self) -> String {
        let Self { process, vault, whereabouts: at, config, since, spoke, beats, generation, kids, follow, failure } =
            self;
        json!({
            "format": FORMAT, "process": process, "vault": vault,
            "machine": at.machine, "boot": at.boot, "pids": at.pids, "mounts": at.mounts, "pid": at.pid, "start": at.start,
            "config": config.to_string_lossy(), "since": since.0, "spoke": spoke.0, "beats": beats, "generation": generation,
            "keys": kids.iter().map(KeyId::as_str).collect::<Vec<_>>(),
            "follow_ms": follow.map(|follow| u64::try_from(follow.as_millis()).unwrap_or(u64::MAX)),
            "failure": failure,
        })
        .to_string()
    }

    /// None where it is not what [`render`](Self::render) writes. Unknown fields are passed over.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let text = |field: &str| value.get(field)?.as_str().map(plain);
        let number = |field: &str| value.get(field)?.as_u64();
        if value.get("format")?.as_str()? != FORMAT {
            return None;
        }
        let kids = value.get("keys")?.as_array()?.iter().map(|kid| KeyId::parse(kid.as_str()?).ok());
        Some(Self {
            process: text("process")?,
            vault: text("vault")?,
            whereabouts: Whereabouts {
                machine: text("machine")?,
                boot: text("boot")?,
                pids: text("pids")?,
                mounts: text("mounts")?,
                pid: u32::try_from(number("pid")?).ok()?,
                start: number("start")?,
            },
            config: PathBuf::from(value.get("config")?.as_str()?),
            since: Timestamp(number("since")?),
            spoke: Timestamp(number("spoke")?),
            beats: number("beats")?,
            generation: number("generation")?,
            kids: kids.collect::<Option<_>>()?,
            follow: number("follow_ms").map(Duration::from_millis),
            failure: text("failure"),
        })
    }
}

const FORMAT: &str = "vault-heartbeat/1";

/// A text for one line of a terminal or a log, whoever wrote it.
pub(crate) fn plain(text: &str) -> String {
    let mut plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if plain.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|at| plain.is_char_boundary(*at)).unwrap_or_default();
        plain.truncate(end);
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_heartbeat_reads_back() {
        let kid = KeyId::parse("kaaaaaaaaaaaaaaaa").unwrap_or_else(|_| KeyId::none());
        let mut heartbeat = Heartbeat::unreadable("process 1");
        heartbeat.whereabouts = Whereabouts::here();
        heartbeat.kids = vec![kid];
        heartbeat.follow = Some(Duration::from_millis(250));
        assert_eq!(Heartbeat::parse(&heartbeat.render()), Some(heartbeat.clone()));
        heartbeat.failure = None;
        heartbeat.follow = None;
        assert_eq!(Heartbeat::parse(&heartbeat.render()), Some(heartbeat));
    }

    #[test]
    fn what_somebody_else_wrote_does_not_reach_a_terminal_as_it_is() {
        let told = Heartbeat::unreadable("a\u{1b}]0;owned\u{7}\n");
        assert_eq!(Heartbeat::parse(&told.render()).map(|read| read.process), Some("a ]0;owned  ".to_owned()));
        assert!(plain(&"é".repeat(4_000)).len() <= MAX_TEXT);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            prop_assert_eq!(Heartbeat::parse(&text), None);
        }
    }
}
