//! The steps of everybody who takes part.

use super::{Gate, Key, KeyState, Live, Node, Pass, ROWS, Row, Scenario, State};

/// One step of one participant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Add,
    Promote(Key),
    Fence,
    DropFence,
    Verify,
    Disable,
    Enable(Key),
    Mount(usize),
    Unmount(usize),
    Refresh(usize),
    Seal(usize, usize),
    Write(usize),
    Wait,
    NodeCrash(usize),
    NodeStart(usize),
    PassStart(usize),
    Read(usize),
    Commit(usize),
    RotatorCrash(usize),
}

impl Step {
    /// Every step that anybody could take in a scenario.
    pub(super) fn all(scenario: &Scenario) -> Vec<Self> {
        let mut steps = vec![
            Self::Add,
            Self::Promote(Key::New),
            Self::Promote(Key::Old),
            Self::Fence,
            Self::DropFence,
            Self::Verify,
            Self::Disable,
            Self::Enable(Key::New),
            Self::Enable(Key::Old),
        ];
        if scenario.follows {
            steps.push(Self::Wait);
        }
        for node in 0..scenario.nodes {
            steps.extend([Self::Mount, Self::Unmount, Self::Refresh, Self::Write].map(|step| step(node)));
            steps.extend([Self::NodeCrash, Self::NodeStart].map(|step| step(node)));
            steps.extend((0..ROWS).map(|row| Self::Seal(node, row)));
        }
        for rotator in 0..scenario.rotators {
            steps.extend([Self::PassStart, Self::Read, Self::Commit, Self::RotatorCrash].map(|step| step(rotator)));
        }
        steps
    }

    /// Steps of the operator and of rotators may be typed or sent again.
    pub(super) fn can_be_repeated(self) -> bool {
        !matches!(self, Self::Seal(..) | Self::Write(_) | Self::PassStart(_) | Self::Read(_))
    }

    /// What it makes of a moment; nothing if it is refused or has nothing to do there.
    pub(super) fn take(self, state: &State, removed: &[Gate]) -> Option<State> {
        let gate = |gate| !removed.contains(&gate);
        let mut next = *state;
        match self {
            Self::Add => {
                (state.states.new == KeyState::Absent).then_some(())?;
                next.change(Key::New, KeyState::Active);
            }
            Self::Promote(key) => {
                let first = state.states.of(key) == KeyState::Active;
                let back = state.states.of(key) == KeyState::DecryptOnly && state.rollbacks > 0;
                (first || back).then_some(())?;
                // A key that a fence refuses could not be written.
                (!gate(Gate::FencedKey) || state.fence != Some(key)).then_some(())?;
                let opens = |node: &Node| node.opens(key) || state.is_idle(node) && state.reads(node, key);
                (!gate(Gate::PromoteNodes) || state.live().all(opens)).then_some(())?;
                next.change(key.other(), KeyState::DecryptOnly);
                next.states = next.states.with(key, KeyState::Primary);
                next.checkpoint = 0;
                next.rollbacks -= u8::from(back);
            }
            Self::Fence => {
                let stale = state.stale()?;
                (gate(Gate::Fence) && state.fence.is_none()).then_some(())?;
                (!gate(Gate::FenceClean) || !state.is_stale(stale)).then_some(())?;
                (!gate(Gate::Lease) || state.live().all(|node| state.follows_from(node, stale))).then_some(())?;
                let writes = |node: &Node| node.live.and_then(|live| live.writing).is_some_and(|(_, key)| key == stale);
                let seen = gate(Gate::InFlight) && state.shows_writers;
                (!seen || !state.live().any(writes)).then_some(())?;
                next.fence = Some(stale);
            }
            Self::DropFence => {
                let key = next.fence.take()?;
                (!gate(Gate::FenceStays) || state.states.of(key) != KeyState::Disabled).then_some(())?;
                let opens = |node: &Node| node.opens(key) || state.is_idle(node) && state.reads(node, key);
                (!gate(Gate::UnfenceNodes) || state.live().all(opens)).then_some(())?;
                next.verified = false;
            }
            Self::Verify => {
                let stale = state.stale()?;
                (!gate(Gate::Fence) || state.fence == Some(stale)).then_some(())?;
                (!state.is_stale(stale)).then_some(())?;
                next.verified = true;
            }
            Self::Disable => {
                let stale = state.stale()?;
                (!gate(Gate::Verified) || state.verified).then_some(())?;
                let follows = |node: &Node| state.follows_from(node, stale);
                (!gate(Gate::DisableNodes) || state.live().all(follows)).then_some(())?;
                next.change(stale, KeyState::Disabled);
            }
            Self::Enable(key) => {
                (state.states.of(key) == KeyState::Disabled && state.rollbacks > 0).then_some(())?;
                next.change(key, KeyState::DecryptOnly);
                next.rollbacks -= 1;
            }
            Self::Mount(node) => {
                (state.states.new != KeyState::Absent && !state.nodes[node].has_new).then_some(())?;
                next.nodes[node].has_new = true;
            }
            Self::Unmount(node) => {
                // A redeployment of what ran before, with a start.
                let node = &mut next.nodes[node];
                (node.has_new && node.live.is_none() && state.crashes > 0).then_some(())?;
                node.has_new = false;
                next.crashes -= 1;
            }
            Self::Refresh(node) => {
                let node = &mut next.nodes[node];
                let live = node.live.as_mut()?;
                // What cannot be loaded changes nothing.
                state.can_load(node.has_new, removed).then_some(())?;
                (live.seen, live.fresh) = (state.states, true);
            }
            Self::Wait => {
                // Longer than a node may seal by one look.
                state.live().any(Node::is_fresh).then_some(())?;
                next.nodes.iter_mut().filter_map(|node| node.live.as_mut()).for_each(|live| live.fresh = false);
            }
            Self::Seal(node, row) => {
                let key = state.seals_next(&state.nodes[node])?;
                if !state.nodes[node].is_fresh() {
                    next.nodes[node] = state.after_a_look(&state.nodes[node]);
                }
                let live = next.nodes[node].live.as_mut()?;
                (live.writing.is_none() && state.writes > 0).then_some(())?;
                live.writing = Some((u8::try_from(row).ok()?, key));
                next.writes -= 1;
            }
            Self::Write(node) => {
                let (row, key) = next.nodes[node].live.as_mut()?.writing.take()?;
                let row = usize::from(row);
                (!gate(Gate::RowLock) || !state.is_locked(row)).then_some(())?;
                // A write that the fence refuses fails, and is not acknowledged.
                if state.fence == Some(key) {
                    next.refused = state.follows && state.shows_writers;
                } else {
                    next.acknowledged[row] += 1;
                    next.rows[row] = Row { key, version: next.acknowledged[row] };
                }
            }
            Self::NodeCrash(node) => {
                next.nodes[node].live.take()?;
                next.crashes = next.crashes.checked_sub(1)?;
            }
            Self::NodeStart(node) => {
                let node = &mut next.nodes[node];
                (node.live.is_none() && state.can_load(node.has_new, removed)).then_some(())?;
                node.live = Some(Live { seen: state.states, fresh: true, writing: None });
            }
            Self::PassStart(rotator) => {
                let pass = &mut next.rotators[rotator];
                (pass.is_none() && state.stale().is_some()).then_some(())?;
                *pass = Some(Pass { target: state.states.primary(), at: state.checkpoint, read: None });
            }
            Self::Read(rotator) => {
                let pass = next.rotators[rotator].as_mut().filter(|pass| pass.read.is_none())?;
                let row = state.rows[usize::from(pass.at)];
                if row.key == pass.target || gate(Gate::RowLock) && state.is_locked(usize::from(pass.at)) {
                    next.go_on(rotator);
                } else {
                    pass.read = Some((row.key, row.version));
                }
            }
            Self::Commit(rotator) => {
                let pass = state.rotators[rotator]?;
                let (key, version) = pass.read?;
                let row = &mut next.rows[usize::from(pass.at)];
                let unchanged = *row == Row { key, version } || !gate(Gate::CompareAndSwap);
                if unchanged && state.fence != Some(pass.target) {
                    *row = Row { key: pass.target, version };
                }
                next.go_on(rotator);
            }
            Self::RotatorCrash(rotator) => {
                next.rotators[rotator].take()?;
                next.crashes = next.crashes.checked_sub(1)?;
            }
        }
        Some(next)
    }
}

impl State {
    fn change(&mut self, key: Key, state: KeyState) {
        self.states = self.states.with(key, state);
        self.states.generation += 1;
        self.verified = false;
    }

    /// The key that rows are moved away from.
    fn stale(&self) -> Option<Key> {
        let stale = self.states.primary().other();
        (self.states.of(stale) == KeyState::DecryptOnly).then_some(stale)
    }

    /// Whether a node has to look before it seals: it is not waited for.
    fn is_idle(&self, node: &Node) -> bool {
        self.follows && !node.is_fresh()
    }

    /// Whether a node seals under another key than one that was replaced, from now on.
    fn follows_from(&self, node: &Node, stale: Key) -> bool {
        let seals = if self.is_idle(node) { self.seals_next(node) } else { node.seals() };
        seals != Some(stale)
    }

    fn can_load(&self, has_new: bool, removed: &[Gate]) -> bool {
        let needed = matches!(self.states.new, KeyState::Primary | KeyState::DecryptOnly);
        has_new || !needed || removed.contains(&Gate::NodeStart)
    }

    fn is_locked(&self, row: usize) -> bool {
        self.rotators.iter().flatten().any(|pass| pass.read.is_some() && usize::from(pass.at) == row)
    }

    /// The next row, kept with the batch; after the last one the pass is over.
    fn go_on(&mut self, rotator: usize) {
        if let Some(pass) = self.rotators[rotator].as_mut() {
            pass.read = None;
            pass.at += 1;
            if usize::from(pass.at) == ROWS {
                self.rotators[rotator] = None;
                self.checkpoint = 0;
            } else {
                self.checkpoint = pass.at;
            }
        }
    }
}
