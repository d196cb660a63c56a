//! Doing what comes next.

use core::ops::ControlFlow;
use core::time::Duration;
use std::path::Path;
use std::thread;

use crate::database::Access;
use crate::error::{Error, Result};
use crate::file;
use crate::key::KeyId;
use crate::keyring::{Change, Followed, KeyState, KeyringState, Retired};
use crate::primitives;
use crate::rotate::{self, End, Job, RunOptions, Summary, Verification};
use crate::vault::{Scope, Vault};

use super::processes::Waiting;
use super::steps::{ColumnSituation, Situation, Step, Wanted, next_step, refuses};

/// How a rotation goes about its work.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// What is wanted beside finishing what is open and promoting a key that waits.
    pub wanted: Wanted,
    /// How values are moved.
    pub run: RunOptions,
    /// Values are opened and sealed again under new data keys.
    pub deep: bool,
    /// How processes are waited for.
    pub waiting: Waiting,
    /// The word of an operator who looked: every process follows each of these steps. None is waited for
    /// then, but for the time in which it follows by itself.
    pub vouched: bool,
    /// One column only, of those that are written under the keyring.
    pub column: Option<String>,
}

/// What a step did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Done {
    /// A key was generated, and waits as active.
    Added(KeyId),
    /// A key seals from now on.
    Promoted(KeyId),
    /// What a run did to each column.
    Moved {
        /// What it did.
        summaries: Vec<Summary>,
        /// Values are still written under a key that was replaced. What this run did not catch is moved
        /// before the fence goes up, once every process follows.
        overtaken: bool,
    },
    /// The columns that refuse the keys that were replaced.
    Fenced(Vec<String>),
    /// What opening every value showed.
    Verified(Verification),
    /// A key opens no more.
    Disabled(KeyId),
    /// Nothing was to be done.
    Nothing,
}

impl Done {
    /// Whether the next step may follow: otherwise something remains that this one could not do.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        match self {
            Self::Moved { summaries, overtaken } => *overtaken || worst(summaries) <= End::Pinned,
            Self::Verified(verification) => verification.is_clean(),
            _ => true,
        }
    }
}

fn worst(summaries: &[Summary]) -> End {
    summaries.iter().map(|summary| summary.end).max().unwrap_or(End::Clean)
}

/// How often values are moved once more that were written late, before the fence refuses to go up.
const MAX_LATE: u32 = 3;

/// A step that an error ended.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
#[non_exhaustive]
pub struct Unperformed {
    /// What a run did to columns before.
    pub summaries: Vec<Summary>,
    /// What ended it.
    pub error: Error,
}

impl From<Error> for Unperformed {
    fn from(error: Error) -> Self {
        Self { summaries: Vec::new(), error }
    }
}

impl From<rotate::Unfinished> for Unperformed {
    fn from(unfinished: rotate::Unfinished) -> Self {
        Self { summaries: unfinished.summaries, error: unfinished.error }
    }
}

/// The life of one keyring's keys. Every step reads keys and states anew, so that several may work at
/// once: who comes too late is told so, or finds nothing to do.
#[derive(Debug)]
pub struct Lifecycle {
    vault: Vault,
    keyring: String,
    options: Options,
    /// The generation with which this began: a new key is made for the states that somebody looked at.
    begun: u64,
    moved: bool,
    verified: bool,
    settled: bool,
    /// How often values were found that were written after everybody followed.
    late: u32,
    checked: bool,
}

impl Lifecycle {
    /// That of a keyring of `vault`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a keyring that is not declared; [`Error::NotFound`] for a column that is not.
    pub fn new(vault: Vault, keyring: &str, options: Options) -> Result<Self> {
        let begun = vault.keyring(keyring)?.generation();
        if let Some(column) = &options.column {
            vault.written_under(column)?;
        }
        Ok(Self {
            vault,
            keyring: keyring.to_owned(),
            options,
            begun,
            moved: false,
            verified: false,
            settled: false,
            late: 0,
            checked: false,
        })
    }

    /// Gives the word of an operator who looked that every process follows the next steps, or takes it back.
    pub fn vouch(&mut self, vouched: bool) {
        self.options.vouched = vouched;
    }

    /// The vault, with keys and states as the last step left them.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// What is there now.
    ///
    /// # Errors
    ///
    /// Whatever a column says that cannot be looked at.
    pub fn situation(&self) -> Result<Situation> {
        let loaded = self.vault.keyring(&self.keyring)?;
        let keys = loaded.keys();
        let of = |wanted: fn(KeyState) -> bool, found: bool| -> Vec<KeyId> {
            let keys = keys.iter().filter(|key| wanted(key.state) && (!found || key.place.is_some()));
            keys.map(|key| key.kid).collect()
        };
        let primary = loaded.primary_kid();
        let mut rotation = self.vault.rotation(self.scope(), Access::Read)?;
        let (runs, fences) = (rotation.runs()?, rotation.fences()?);
        let fenceable: Vec<String> = rotation.fenceable().into_iter().map(str::to_owned).collect();
        let written: Vec<String> = rotation.written_by_applications().into_iter().map(str::to_owned).collect();
        let to_fence = of(|state| !matches!(state, KeyState::Primary | KeyState::Active), false);
        let mut columns = Vec::new();
        for count in rotation.count(false)? {
            let run = runs.iter().find(|(column, _)| *column == count.column).map(|(_, run)| run);
            let rotates = run.is_some_and(|run| {
                [Job::Rotate, Job::RotateDeep].iter().any(|job| run.job == job.as_str())
                    && run.target.ends_with(primary.as_str())
            });
            let fenced = fences.iter().find(|(column, _)| *column == count.column).map(|(_, kids)| kids.clone());
            let fenced = fenced.unwrap_or_default();
            columns.push(ColumnSituation {
                has_fence: fenceable.contains(&count.column),
                stale: if count.immutable { 0 } else { to_fence.iter().map(|kid| count.under(*kid)).sum() },
                takes_replaced: written.contains(&count.column) && to_fence.iter().any(|kid| !fenced.contains(kid)),
                fenced,
                other_run: run.filter(|_| !rotates).map(|run| format!("{} to {}", run.job, run.target)),
                open: rotates,
                name: count.column,
            });
        }
        Ok(Situation {
            waiting: of(|state| state == KeyState::Active, true),
            replaced: of(|state| state == KeyState::DecryptOnly, true),
            to_fence,
            promoted: keys.iter().find(|key| key.kid == primary).and_then(|key| key.promoted),
            columns,
            moved: self.moved,
            verified: self.verified,
            settled: self.settled,
        })
    }

    /// The next step.
    ///
    /// # Errors
    ///
    /// As [`next_step`] and [`situation`](Self::situation).
    pub fn next_step(&mut self) -> Result<Step> {
        self.vault.refresh()?;
        next_step(&self.situation()?, self.options.wanted)
    }

    /// All steps to the end, where each of them goes well: what a dry run shows.
    ///
    /// # Errors
    ///
    /// As [`next_step`](Self::next_step).
    pub fn steps(&mut self) -> Result<Vec<Step>> {
        self.vault.refresh()?;
        let primary = self.vault.keyring(&self.keyring)?.primary_kid();
        let (mut now, mut wanted) = (self.situation()?, self.options.wanted);
        let mut steps = Vec::new();
        loop {
            let step = next_step(&now, wanted)?;
            if step == Step::Nothing {
                return Ok(steps);
            }
            now = now.after(step, primary);
            // A key is made for who begins, and not for who goes on.
            wanted.new_key = false;
            steps.push(step);
        }
    }

    /// What would keep the steps from their end: asked before a key is made or promoted, so that none is
    /// promoted to a dead end.
    ///
    /// # Errors
    ///
    /// As [`Rotation::check`](rotate::Rotation::check); [`Error::NotFound`] where no column is written under
    /// the keyring; [`Error::Refused`] where a value does not open or a fence could not be put up.
    pub fn check(&self) -> Result<()> {
        let mut rotation = self.vault.rotation(self.scope(), Access::Write)?;
        if rotation.columns().is_empty() {
            return Err(Error::NotFound { what: format!("a column that is written under keyring {}", self.keyring) });
        }
        rotation.check(&self.job(None), &self.options.run)?;
        if let Some((_, obstacle)) = rotation.fence_refusals()?.into_iter().next() {
            return Err(obstacle);
        }
        let counts = rotation.count(true)?;
        match counts.iter().find(|count| count.failed > 0 && !count.immutable) {
            Some(count) => Err(Error::Refused {
                reason: format!(
                    "column {} holds {} values that do not open: no rotation could finish",
                    count.column, count.failed
                ),
                remedy: "`vault rotate verify` lists them; repair or remove them first".to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Does a step. Repeated, it does nothing more.
    ///
    /// # Errors
    ///
    /// What the step meets; with what a run did to other columns before. Whatever was done stays done, and
    /// [`next_step`](Self::next_step) goes on from there.
    pub fn perform(
        &mut self,
        step: Step,
        observe: &mut dyn FnMut(rotate::Step<'_>) -> ControlFlow<()>,
    ) -> Result<Done, Unperformed> {
        self.vault.refresh()?;
        // A key is made for who begins, and not for who goes on: also not for who types the command again.
        self.options.wanted.new_key = false;
        Ok(match step {
            Step::Nothing => Done::Nothing,
            Step::Add => {
                self.check_once()?;
                Done::Added(self.add()?)
            }
            Step::Promote(kid) => {
                self.check_once()?;
                self.promote(kid, None)?;
                Done::Promoted(kid)
            }
            Step::Move => {
                let mut rotation = self.vault.rotation(self.scope(), Access::Write)?;
                let deep = rotation.runs()?.iter().any(|(_, run)| run.job == Job::RotateDeep.as_str());
                let (job, options) = (self.job(Some(deep)), &self.options.run);
                if options.max_replica_lag.is_some() {
                    // Whether it can be seen at all, before anything is written.
                    rotation.check(&job, options)?;
                }
                let summaries = rotation.run(&job, options, observe)?;
                // Whoever does not follow yet goes on sealing under the key that was replaced.
                let overtaken = worst(&summaries) == End::Locked
                    && !self.settled
                    && self.situation()?.columns.iter().any(|column| column.takes_replaced);
                let done = Done::Moved { summaries, overtaken };
                self.moved = done.is_clean();
                done
            }
            Step::Fence => {
                if !self.settled {
                    self.settle()?;
                    self.settled = true;
                }
                if self.late < MAX_LATE && self.situation()?.columns.iter().any(|column| column.stale > 0) {
                    // Sealed before everybody followed, and written since the last pass.
                    self.late += 1;
                    self.moved = false;
                    return Ok(Done::Nothing);
                }
                Done::Fenced(self.vault.rotation(self.scope(), Access::Write)?.fence(None)?)
            }
            Step::Verify => {
                let done = Done::Verified(self.vault.rotation(self.scope(), Access::Write)?.verify()?);
                self.verified = done.is_clean();
                done
            }
            Step::Disable(kid) => {
                self.disable(kid, None)?;
                Done::Disabled(kid)
            }
        })
    }

    /// Whether every process is ready for a step: what [`perform`](Self::perform) waits for, and no more.
    ///
    /// # Errors
    ///
    /// As [`Vault::await_processes`].
    pub fn await_processes(&self, step: Step) -> Result<()> {
        match step {
            Step::Promote(kid) => self.followed(Some(kid)).map(drop),
            Step::Fence | Step::Disable(_) => self.followed(None).map(drop),
            // Nobody can have a key that is not there yet.
            Step::Add if !self.is_vouched() => self.vault.require_known(&self.keyring),
            Step::Add | Step::Move | Step::Verify | Step::Nothing => Ok(()),
        }
    }

    fn is_vouched(&self) -> bool {
        self.options.vouched || self.options.run.app_stopped
    }

    /// Looks at every value once, however many keys are promoted.
    fn check_once(&mut self) -> Result<()> {
        if !self.checked {
            self.check()?;
            self.checked = true;
        }
        Ok(())
    }

    /// Keeps the text of a key in a new file that only its owner can read. Repeated, it finds it there.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] where no file has the key; [`Error::Refused`] where the file exists and holds
    /// something else; [`Error::Io`].
    pub fn back_up(&self, kid: KeyId, path: &Path) -> Result<()> {
        let content = self.vault.key_text(&self.keyring, kid)?;
        match file::read(path, file::MAX_KEY_FILE) {
            Ok(there) if primitives::equal(there.expose_secret(), content.expose_secret()) => Ok(()),
            Ok(_) => Err(Error::Refused {
                reason: format!("{} exists and does not hold key {kid}", path.display()),
                remedy: "name another file for the backup".to_owned(),
            }),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                file::create_file(path, content.expose_secret(), 0o600)
            }
            Err(error) => Err(error),
        }
    }

    /// Generates a key and adds it, unless one was added meanwhile: of two at once, one makes a key.
    fn add(&mut self) -> Result<KeyId> {
        let kid = self.vault.key_generate_next(&self.keyring, self.begun)?;
        self.vault.refresh()?;
        Ok(kid)
    }

    /// Whether a key may become primary, but for the processes.
    ///
    /// # Errors
    ///
    /// As [`Vault::key_check`]; [`Error::Refused`] where a column takes no value under the key.
    pub fn check_promotion(&self, kid: KeyId) -> Result<()> {
        self.vault.key_check(&self.keyring, kid, KeyState::Primary)?;
        self.vault.refuse_fenced(&self.keyring, kid)
    }

    /// Whether a key may be disabled, but for the processes and the fence.
    ///
    /// # Errors
    ///
    /// As [`Vault::key_check`] and [`Verification::unneeded`].
    pub fn check_disabling(&self, kid: KeyId) -> Result<()> {
        self.vault.key_check(&self.keyring, kid, KeyState::Disabled)?;
        self.vault.rotation(self.all(), Access::Read)?.verified()?.unneeded(kid).map(drop)
    }

    /// Makes a key primary, once every process opens values under it. With `out`, the next states are
    /// written there for redeployment.
    ///
    /// # Errors
    ///
    /// As [`Vault::key_change`] and [`Vault::await_processes`].
    pub fn promote(&mut self, kid: KeyId, out: Option<&Path>) -> Result<KeyringState> {
        self.check_promotion(kid)?;
        let followed = self.followed(Some(kid))?;
        let state = self.vault.key_change(&self.keyring, &Change::Promote(kid, followed), out)?;
        (self.moved, self.verified, self.settled, self.late) = (false, false, false, 0);
        self.vault.refresh()?;
        Ok(state)
    }

    /// Makes the databases refuse values under keys that were replaced, once every process seals under the
    /// primary key and what was sealed before is written. Returns the columns that are fenced.
    ///
    /// # Errors
    ///
    /// As [`Rotation::fence`](rotate::Rotation::fence) and [`Vault::await_processes`];
    /// [`Error::Temporary`] naming transactions that stay open.
    pub fn fence(&mut self) -> Result<Vec<String>> {
        self.fence_off(None)
    }

    fn fence_off(&self, kid: Option<KeyId>) -> Result<Vec<String>> {
        let mut rotation = self.vault.rotation(if kid.is_some() { self.all() } else { self.scope() }, Access::Write)?;
        if !rotation.is_fenced(kid)? {
            self.followed(None)?;
            self.let_writers_finish(&mut rotation)?;
        }
        rotation.fence(kid)
    }

    /// Waits until every process seals under the primary key, and what was sealed before is written.
    fn settle(&self) -> Result<()> {
        let mut rotation = self.vault.rotation(self.scope(), Access::Write)?;
        self.followed(None)?;
        self.let_writers_finish(&mut rotation)
    }

    /// Waits for what was sealed before the processes followed and is not written yet.
    fn let_writers_finish(&self, rotation: &mut rotate::Rotation<'_>) -> Result<()> {
        if self.options.run.app_stopped {
            return Ok(());
        }
        if !rotation.await_writers(self.options.waiting.patience)? {
            // Where a database does not show who writes, as long again as a process takes to follow.
            thread::sleep(self.following()?);
        }
        Ok(())
    }

    /// Takes the fences down, once every process opens what may be written again. Those against keys that
    /// are disabled stay. Returns the columns that stay fenced.
    ///
    /// # Errors
    ///
    /// As [`Rotation::unfence`](rotate::Rotation::unfence) and [`Vault::await_processes`].
    pub fn unfence(&mut self) -> Result<Vec<String>> {
        let mut rotation = self.vault.rotation(self.scope(), Access::Write)?;
        if rotation.unfenceable()?.is_empty() {
            return Ok(rotation.fences()?.into_iter().map(|(column, _)| column).collect());
        }
        rotation.unfence(&self.followed(None)?)
    }

    /// Disables a key, after fencing it off and proving that no process seals under it and no value needs
    /// it. With `out`, the next states are written there for redeployment.
    ///
    /// Where the key is not disabled in the end, the columns are fenced as they were before.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] while a value needs the key; as [`Vault::key_change`] and
    /// [`Vault::await_processes`].
    pub fn disable(&mut self, kid: KeyId, out: Option<&Path>) -> Result<()> {
        // First the refusal that names column and count, before anybody waits.
        self.check_disabling(kid)?;
        let fences = self.vault.rotation(self.all(), Access::Read)?.column_fences()?;
        let Err(error) = self.fence_and_disable(kid, out) else {
            self.vault.refresh()?;
            return Ok(());
        };
        if self.may_be_disabled(kid) {
            // What a process sealed before must not be written: nothing would open it.
            return Err(error);
        }
        match self.vault.rotation(self.all(), Access::Write).and_then(|mut rotation| rotation.put_back(&fences)) {
            Ok(()) => Err(error),
            Err(_) => Err(Error::Refused {
                reason: format!("{error}; the fence against key {kid} still stands"),
                remedy: "run the command again, or take the fence down with `vault rotate fence --drop`".to_owned(),
            }),
        }
    }

    fn fence_and_disable(&self, kid: KeyId, out: Option<&Path>) -> Result<()> {
        self.fence_off(Some(kid))?;
        let followed = self.followed(None)?;
        let retired = self.vault.rotation(self.all(), Access::Read)?.verified()?.retired(kid)?;
        let states = self.vault.key_change(&self.keyring, &Change::Disable(retired, followed), out)?;
        if out.is_none() {
            // The states in force are newer than the fences know.
            self.vault.rotation(self.all(), Access::Write)?.renew_fences(&states)?;
        }
        Ok(())
    }

    /// Whether the states say that a key is disabled, or cannot be read.
    fn may_be_disabled(&mut self, kid: KeyId) -> bool {
        let disabled = |vault: &Vault| {
            let keys = vault.keyring(&self.keyring).map(|keyring| keyring.keys()).unwrap_or_default();
            keys.iter().find(|key| key.kid == kid).is_none_or(|key| key.state == KeyState::Disabled)
        };
        self.vault.refresh().is_err() || disabled(&self.vault)
    }

    /// The proof that a key may be destroyed.
    ///
    /// # Errors
    ///
    /// As [`destroy`](Self::destroy).
    pub fn check_destruction(&self, kid: KeyId) -> Result<Retired> {
        self.vault.key_check(&self.keyring, kid, KeyState::Destroyed)?;
        self.vault.rotation(self.all(), Access::Read)?.verified()?.retired(kid)
    }

    /// Gives a disabled key up for ever, after proving that no value, restored from a backup perhaps,
    /// needs it.
    ///
    /// # Errors
    ///
    /// As [`Vault::key_change`] and [`Verification::retired`].
    pub fn destroy(&mut self, kid: KeyId, out: Option<&Path>) -> Result<()> {
        let retired = self.check_destruction(kid)?;
        self.vault.key_change(&self.keyring, &Change::Destroy(retired), out)?;
        self.vault.refresh()
    }

    /// The proof that every process follows: by waiting, or by the word that was given.
    fn followed(&self, opens: Option<KeyId>) -> Result<Followed> {
        if !self.is_vouched() {
            return self.vault.await_processes(&self.keyring, opens, &self.options.waiting);
        }
        if !self.options.run.app_stopped {
            thread::sleep(self.following()?);
        }
        Followed::by_the_word_of_an_operator_who_looked(&self.vault, &self.keyring, opens)
    }

    fn following(&self) -> Result<Duration> {
        Ok(self.vault.time_of_following(&self.vault.heartbeats(&self.keyring)?))
    }

    /// The columns that are rotated.
    fn scope(&self) -> Scope<'_> {
        self.options.column.as_deref().map_or(Scope::Keyring(&self.keyring), Scope::Column)
    }

    /// Every column of which a value may need a key.
    fn all(&self) -> Scope<'_> {
        Scope::UsesKeyring(&self.keyring)
    }

    /// What moves values: that of the open run, where one is open.
    fn job(&self, open: Option<bool>) -> Job {
        if self.options.deep || open == Some(true) { Job::RotateDeep } else { Job::Rotate }
    }
}

impl Vault {
    /// Refuses a key that some column takes no value under.
    pub(crate) fn refuse_fenced(&self, keyring: &str, kid: KeyId) -> Result<()> {
        let fences = self.rotation(Scope::UsesKeyring(keyring), Access::Read)?.fences()?;
        match fences.iter().find(|(_, kids)| kids.contains(&kid)) {
            Some((column, _)) => Err(refuses(column, kid)),
            None => Ok(()),
        }
    }
}
