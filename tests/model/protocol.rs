//! A model of the rotation protocol: nodes that load states and write, an operator who changes a
//! key, rotators that move rows, and crashes between any two steps. A step is what one transaction,
//! one replacement of a file, or one read does at once.
//!
//! What is left out: values (a row has a version instead), contexts, several tables. Of time there is one
//! thing: whether a node may seal by its last look, or has to look first.

#![allow(clippy::indexing_slicing, clippy::exhaustive_enums, clippy::exhaustive_structs, reason = "a part of a test")]

mod explore;
mod steps;

use core::fmt;

pub use explore::{Explored, Violation, explore};

/// Rows of the one table.
pub const ROWS: usize = 3;
/// Most nodes of a scenario.
pub const NODES: usize = 3;
/// Most rotators of a scenario.
pub const ROTATORS: usize = 2;

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Processes that read and write.
    pub nodes: usize,
    /// Processes that rotate.
    pub rotators: usize,
    /// Writes of the application.
    pub writes: u8,
    /// Crashes of nodes and rotators, each between any two steps.
    pub crashes: u8,
    /// Promotions of the old key after that of the new one, and disabled keys that are enabled again.
    pub rollbacks: u8,
    /// Nodes follow by themselves: they look before they seal by an old look, and when they meet a key that
    /// they cannot open with. Others look only when they are told to.
    pub follows: bool,
    /// The database shows what is about to be written. Otherwise it is waited for and not seen.
    pub shows_writers: bool,
}

/// What the protocol insists on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Gate {
    /// A batch replaces a value only if it is the one that was read.
    CompareAndSwap,
    /// A key is disabled only if every node seals under another, or has to look before it seals.
    DisableNodes,
    /// Rows are fenced against the old key before the last count.
    Fence,
    /// A fence is put up only if no row is stale.
    FenceClean,
    /// A key that the fence refuses is not promoted.
    FencedKey,
    /// The fence against a disabled key is not taken down.
    FenceStays,
    /// A fence is put up only when what was sealed before is written.
    InFlight,
    /// A fence is put up only when every node seals under the primary key, or has to look before it seals.
    Lease,
    /// A node starts only with every key that may be needed.
    NodeStart,
    /// A key is promoted only if every node opens with it, or finds it when it looks.
    PromoteNodes,
    /// A batch locks what it reads.
    RowLock,
    /// A fence is taken down only if every node can open with its key.
    UnfenceNodes,
    /// A key is disabled only after a count of zero that nothing has outdated.
    Verified,
}

impl Gate {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::CompareAndSwap,
        Self::DisableNodes,
        Self::Fence,
        Self::FenceClean,
        Self::FencedKey,
        Self::FenceStays,
        Self::InFlight,
        Self::Lease,
        Self::NodeStart,
        Self::PromoteNodes,
        Self::RowLock,
        Self::UnfenceNodes,
        Self::Verified,
    ];
}

/// The two keys.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Key {
    Old,
    New,
}

impl Key {
    fn other(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum KeyState {
    Absent,
    Active,
    Primary,
    DecryptOnly,
    Disabled,
}

/// The keyring's states.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct States {
    generation: u8,
    old: KeyState,
    new: KeyState,
}

impl States {
    fn of(self, key: Key) -> KeyState {
        match key {
            Key::Old => self.old,
            Key::New => self.new,
        }
    }

    fn primary(self) -> Key {
        if self.new == KeyState::Primary { Key::New } else { Key::Old }
    }

    fn opens(self, key: Key) -> bool {
        matches!(self.of(key), KeyState::Active | KeyState::Primary | KeyState::DecryptOnly)
    }

    fn with(self, key: Key, state: KeyState) -> Self {
        match key {
            Key::Old => Self { old: state, ..self },
            Key::New => Self { new: state, ..self },
        }
    }
}

/// A process of the application.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Node {
    /// The new key's file is mounted.
    has_new: bool,
    live: Option<Live>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Live {
    /// The states as it read them last, which its heartbeat tells.
    seen: States,
    /// It may seal by what it has seen, without another look.
    fresh: bool,
    /// What it has sealed and not yet written: the row and the key.
    writing: Option<(u8, Key)>,
}

impl Node {
    /// Whether it runs and has opened by what it has seen what is under a key.
    fn opens(&self, key: Key) -> bool {
        self.live.is_some_and(|live| live.seen.opens(key)) && (key == Key::Old || self.has_new)
    }

    /// What it seals with by what it has seen, if it runs.
    fn seals(&self) -> Option<Key> {
        let live = self.live?;
        Some(if self.has_new { live.seen.primary() } else { Key::Old })
    }

    fn is_fresh(&self) -> bool {
        self.live.is_some_and(|live| live.fresh)
    }
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Row {
    key: Key,
    /// Which write of the application it holds.
    version: u8,
}

/// A pass of a rotator over the rows.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Pass {
    target: Key,
    /// The row that comes next.
    at: u8,
    /// The version and key that were read, in an open transaction.
    read: Option<(Key, u8)>,
}

/// Everything at one moment.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct State {
    states: States,
    /// How many nodes there are; the places behind them stay empty.
    declared: u8,
    nodes: [Node; NODES],
    rows: [Row; ROWS],
    /// The last write of each row that the application was told to be done.
    acknowledged: [u8; ROWS],
    rotators: [Option<Pass>; ROTATORS],
    /// Where a new pass begins.
    checkpoint: u8,
    fence: Option<Key>,
    /// A count of zero stale rows that still holds.
    verified: bool,
    writes: u8,
    crashes: u8,
    rollbacks: u8,
    /// A write was refused by a fence, of a node that could have known better.
    refused: bool,
    follows: bool,
    shows_writers: bool,
}

impl State {
    fn first(scenario: &Scenario) -> Self {
        let states = States { generation: 0, old: KeyState::Primary, new: KeyState::Absent };
        let live = Some(Live { seen: states, fresh: true, writing: None });
        let mut nodes = [Node { has_new: false, live: None }; NODES];
        nodes.iter_mut().take(scenario.nodes).for_each(|node| node.live = live);
        Self {
            states,
            declared: u8::try_from(scenario.nodes).unwrap_or(u8::MAX),
            nodes,
            rows: [Row { key: Key::Old, version: 0 }; ROWS],
            acknowledged: [0; ROWS],
            rotators: [None; ROTATORS],
            checkpoint: 0,
            fence: None,
            verified: false,
            writes: scenario.writes,
            crashes: scenario.crashes,
            rollbacks: scenario.rollbacks,
            refused: false,
            follows: scenario.follows,
            shows_writers: scenario.shows_writers,
        }
    }

    /// What a node has after another look: the states as they are, unless it lacks a key that it needs.
    fn after_a_look(&self, node: &Node) -> Node {
        let needed = matches!(self.states.new, KeyState::Primary | KeyState::DecryptOnly);
        let live = node.live.map(|live| match needed && !node.has_new {
            false => Live { seen: self.states, fresh: true, ..live },
            true => live,
        });
        Node { live, ..*node }
    }

    /// What a node seals with next: by a look, if it has to look first.
    fn seals_next(&self, node: &Node) -> Option<Key> {
        if node.is_fresh() { node.seals() } else { self.after_a_look(node).seals() }
    }

    /// Whether a node opens what is under a key, at once or by looking when it meets it.
    fn reads(&self, node: &Node, key: Key) -> bool {
        node.opens(key) || self.follows && self.after_a_look(node).opens(key)
    }

    fn live(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.live.is_some())
    }

    fn is_stale(&self, key: Key) -> bool {
        self.rows.iter().any(|row| row.key == key)
    }

    /// A key is retired, and everything is under the other.
    fn is_done(&self) -> bool {
        let primary = self.states.primary();
        self.states.of(primary.other()) == KeyState::Disabled && !self.is_stale(primary.other())
    }

    /// The first rule that this moment breaks.
    fn broken(&self) -> Option<Rule> {
        let sealed_with = || self.live().filter_map(|node| self.seals_next(node));
        let seals_unopened = sealed_with().any(|key| self.live().any(|node| !self.reads(node, key)));
        let disabled = [Key::Old, Key::New].into_iter().find(|key| self.states.of(*key) == KeyState::Disabled);
        let used = disabled.is_some_and(|key| self.is_stale(key) || sealed_with().any(|sealed| sealed == key));
        let unreadable = self
            .rows
            .iter()
            .any(|row| !self.states.opens(row.key) || self.live().any(|node| !self.reads(node, row.key)));
        let lost = self.rows.iter().zip(self.acknowledged).any(|(row, acknowledged)| row.version != acknowledged);
        let blocked = self.fence.is_some_and(|key| self.is_stale(key));
        [
            (lost, Rule::Lost),
            (seals_unopened, Rule::I1),
            (used, Rule::I2),
            (unreadable, Rule::I3),
            (blocked, Rule::Blocked),
            (self.refused, Rule::Refused),
        ]
        .into_iter()
        .find_map(|(broken, rule)| broken.then_some(rule))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let States { generation, old, new } = self.states;
        write!(f, "generation {generation}, old {old:?}, new {new:?}; nodes")?;
        for node in self.nodes.iter().take(usize::from(self.declared)) {
            let file = if node.has_new { "+new" } else { "" };
            match node.live {
                Some(Live { seen, writing: Some((row, key)), .. }) => {
                    write!(f, " {}{file} writing {key:?} to {row},", seen.generation)?;
                }
                Some(live) => write!(f, " {}{file},", live.seen.generation)?,
                None => write!(f, " down{file},")?,
            }
        }
        f.write_str(" rows")?;
        for row in self.rows {
            write!(f, " {:?}.{}", row.key, row.version)?;
        }
        for pass in self.rotators.iter().flatten() {
            let read = if pass.read.is_some() { " read" } else { "" };
            write!(f, "; rotator to {:?} at {}{read}", pass.target, pass.at)?;
        }
        if let Some(key) = self.fence {
            write!(f, "; fence against {key:?}{}", if self.verified { ", verified" } else { "" })?;
        }
        Ok(())
    }
}

/// What must hold at every moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// No node seals under a key before every live node can open it.
    I1,
    /// No key is disabled while a row, or a node that can still write with it, uses it.
    I2,
    /// A row always opens under some loaded key.
    I3,
    /// A step applied twice equals once.
    I4,
    /// The last write that was acknowledged is what is read.
    Lost,
    /// No row is behind a fence, where its other columns could not be changed.
    Blocked,
    /// No write fails of a node that follows.
    Refused,
    /// From everywhere, the rotation can still be finished.
    DeadEnd,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::I1 => "I1",
            Self::I2 => "I2",
            Self::I3 => "I3",
            Self::I4 => "I4",
            Self::Lost => "lost update",
            Self::Blocked => "row behind a fence",
            Self::Refused => "write refused",
            Self::DeadEnd => "dead end",
        })
    }
}
