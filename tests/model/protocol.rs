//! A model of the rotation protocol: nodes that load states and write, an operator who changes a
//! key, rotators that move rows, and crashes between any two steps. A step is what one transaction,
//! one replacement of a file, or one read does at once.
//!
//! What is left out: values (a row has a version instead), contexts, several tables, time.

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
}

/// What the protocol insists on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Gate {
    /// A batch replaces a value only if it is the one that was read.
    CompareAndSwap,
    /// A key is disabled only if no node seals with it.
    DisableNodes,
    /// Rows are fenced against the old key before the last count.
    Fence,
    /// A fence is put up only if no row is stale.
    FenceClean,
    /// The fence against a disabled key is not taken down.
    FenceStays,
    /// A node starts only with every key that may be needed.
    NodeStart,
    /// A key is promoted only if every node can open with it.
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
    pub const ALL: [Self; 10] = [
        Self::CompareAndSwap,
        Self::DisableNodes,
        Self::Fence,
        Self::FenceClean,
        Self::FenceStays,
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
    /// What it has sealed and not yet written: the row and the key.
    writing: Option<(u8, Key)>,
}

impl Node {
    /// Whether it runs and opens what is under a key.
    fn opens(&self, key: Key) -> bool {
        self.live.is_some_and(|live| live.seen.opens(key)) && (key == Key::Old || self.has_new)
    }

    /// What it seals with, if it runs.
    fn seals(&self) -> Option<Key> {
        let live = self.live?;
        Some(if self.has_new { live.seen.primary() } else { Key::Old })
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
}

impl State {
    fn first(scenario: &Scenario) -> Self {
        let states = States { generation: 0, old: KeyState::Primary, new: KeyState::Absent };
        let live = Some(Live { seen: states, writing: None });
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
        }
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
        let seals_unopened = self.live().filter_map(Node::seals).any(|key| self.live().any(|node| !node.opens(key)));
        let disabled = [Key::Old, Key::New].into_iter().find(|key| self.states.of(*key) == KeyState::Disabled);
        let used = disabled.is_some_and(|key| self.is_stale(key) || self.live().any(|node| node.seals() == Some(key)));
        let unreadable =
            self.rows.iter().any(|row| !self.states.opens(row.key) || self.live().any(|node| !node.opens(row.key)));
        let lost = self.rows.iter().zip(self.acknowledged).any(|(row, acknowledged)| row.version != acknowledged);
        let blocked = self.fence.is_some_and(|key| self.is_stale(key));
        [
            (lost, Rule::Lost),
            (seals_unopened, Rule::I1),
            (used, Rule::I2),
            (unreadable, Rule::I3),
            (blocked, Rule::Blocked),
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
                Some(Live { seen, writing: Some((row, key)) }) => {
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
            Self::DeadEnd => "dead end",
        })
    }
}
