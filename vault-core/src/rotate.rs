//! Changing the key or the format of the values in an application's own columns, while the
//! application runs (docs/ARCHITECTURE.md, "Rotation").
//!
//! A rotation applied twice equals one applied once: what is current is left alone, so every step
//! can be interrupted anywhere and run again.

mod attention;
mod batch;
mod convert;
mod count;
mod exclusive;
mod fence;
mod plan;
mod run;
mod schedule;
mod select;

use core::ops::ControlFlow;
use core::time::Duration;

use crate::column::{Column, ColumnFinding, RowKey, Run};
use crate::error::{Error, Result};
use crate::key::KeyId;
use crate::keyring::KeyState;
use crate::sealer::Sealer;
use crate::token::DEFAULT_LIMIT;

use exclusive::run_exclusively;
use run::Order;

pub use attention::{Attention, Urgency};
pub use convert::{ColumnKeys, Job, Recognised};
pub use count::{ColumnCount, Verification};

/// A column and the keys that its values may be under.
pub struct Target {
    /// The column.
    pub column: Box<dyn Column>,
    /// Its keys.
    pub keys: ColumnKeys,
}

impl core::fmt::Debug for Target {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Target").field(&self.column.spec().name).finish()
    }
}

/// How a run goes about its work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// Every process that holds the key is stopped: columns that unlinked applications read may
    /// be rewritten, in one exclusive transaction for each database.
    pub app_stopped: bool,
    /// An exclusive run is made although others have the database open.
    pub despite_sessions: bool,
    /// Most rows in one transaction.
    pub batch: usize,
    /// Most rows written in a second, in about fifty transactions where they have a hundred rows.
    pub rows_per_second: Option<u32>,
    /// The longest plaintext that a migration seals, in bytes: applications open no more unless their
    /// limit is raised.
    pub max_plaintext: usize,
    /// How far a replica of the database may be behind before the next batch is written. Replicas
    /// that are not connected are not waited for.
    pub max_replica_lag: Option<Duration>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            app_stopped: false,
            despite_sessions: false,
            batch: 500,
            rows_per_second: None,
            max_plaintext: DEFAULT_LIMIT,
            max_replica_lag: None,
        }
    }
}

/// What a run is doing, told after every batch, and again and again while it waits for a replica.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Step<'a> {
    /// The column.
    pub column: &'a str,
    /// Which pass over it, from 1.
    pub pass: u64,
    /// Rows read in this pass.
    pub rows: u64,
    /// Rows written in this pass.
    pub rewritten: u64,
    /// How far the replica is behind that the run waits for, if it waits.
    pub replica_lag: Option<Duration>,
}

/// How the work on a column ended.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum End {
    /// No row is stale.
    Clean,
    /// Nothing more to do: the rows of an immutable column stay as they are.
    Pinned,
    /// Only rows remain that others keep changing or holding: run it again.
    Locked,
    /// It was asked to stop, or undone because another column could not be finished: run it again.
    Stopped,
    /// Rows are stale and cannot be moved: each is listed.
    Stale,
}

/// What a run, or a dry run, did to one column.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// The column.
    pub column: String,
    /// Rows read in the first pass.
    pub rows: u64,
    /// Rows written; in a dry run, rows to be written.
    pub rewritten: u64,
    /// Rows that other writers changed or removed in between; a later pass met them again.
    pub lost: u64,
    /// Rows that another run moved in between.
    pub moved: u64,
    /// Rows in a legacy format where tokens are written, which a rotation met and a migration
    /// moves.
    pub unmigrated: u64,
    /// Rows that could not be moved, all of them.
    pub failed_rows: u64,
    /// The first thousand of these, and why.
    pub failed: Vec<(RowKey, String)>,
    /// Rows that are still stale, whatever the filter says: by the last look at every row that is not
    /// current, and in a dry run now.
    pub stale: u64,
    /// Passes made.
    pub passes: u64,
    /// Seconds taken.
    pub seconds: f64,
    /// What the database said about the column.
    pub findings: Vec<ColumnFinding>,
    /// What the column holds, by format and key; of a dry run only.
    pub count: Option<ColumnCount>,
    /// How long the run would take, from how long it took to read and convert what it would write;
    /// of a dry run only. Locks, slow disks and a network are not in it.
    pub estimate: Option<Duration>,
    /// How it ended; of a dry run, how the run would.
    pub end: End,
    /// Nothing was changed: an exclusive run could not finish every column.
    pub undone: bool,
}

/// A run that an error ended.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
#[non_exhaustive]
pub struct Unfinished {
    /// What was done to columns before.
    pub summaries: Vec<Summary>,
    /// What ended the run.
    pub error: Error,
}

impl From<Unfinished> for Error {
    fn from(unfinished: Unfinished) -> Self {
        unfinished.error
    }
}

/// Most sessions that are named.
const MAX_SESSIONS: usize = 20;

/// The columns that one job is done to.
///
/// Blocks while it works, on SQLite with one further thread for each batch. Not to be called on a
/// thread that runs the tasks of an async runtime.
pub struct Rotation<'a> {
    targets: Vec<Target>,
    generation: u64,
    /// The keyring of which these are all columns, if they are.
    covers: Option<String>,
    guard: Box<dyn Fn() -> Result<()> + 'a>,
}

impl core::fmt::Debug for Rotation<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Rotation").field("targets", &self.targets).finish_non_exhaustive()
    }
}

impl<'a> Rotation<'a> {
    /// A rotation over `targets`, begun at `generation` of the keyring. `guard` is called inside the
    /// transaction of every batch and says whether the keyring is still the one that was begun with.
    pub fn new(targets: Vec<Target>, generation: u64, guard: impl Fn() -> Result<()> + 'a) -> Self {
        Self { targets, generation, covers: None, guard: Box::new(guard) }
    }

    /// Says that these are all columns that use a keyring, so that verification can prove that
    /// none of its values needs a key.
    pub(crate) fn of_all_that_use(self, keyring_id: Option<&str>) -> Self {
        Self { covers: keyring_id.map(str::to_owned), ..self }
    }

    /// The same as if `kid` were promoted, to plan what follows. Nothing can be moved to a key that is not.
    #[must_use]
    pub fn as_if_promoted(mut self, kid: KeyId) -> Self {
        for Target { keys, .. } in &mut self.targets {
            let sealer = keys.sealer.as_ref().and_then(|sealer| sealer.keyring().as_if_promoted(kid));
            keys.sealer = sealer.map(Sealer::new).or_else(|| keys.sealer.take());
            let legacy = keys.legacy.as_ref().and_then(|legacy| legacy.as_if_promoted(kid));
            keys.legacy = legacy.or_else(|| keys.legacy.take());
        }
        self.guard = Box::new(|| {
            Err(Error::Refused {
                reason: "this is a plan for after a promotion".to_owned(),
                remedy: "promote the key first".to_owned(),
            })
        });
        self
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        self.targets.iter().map(|target| target.column.spec().name.as_str()).collect()
    }

    /// Whether the job may be done at all, before anything is touched.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where an application that knows one key would be broken or a table
    /// cannot be worked on safely; [`Error::CannotSeal`] without a key to seal under.
    pub fn check(&mut self, job: &Job, options: &RunOptions) -> Result<(), Error> {
        for target in &mut self.targets {
            target.refuse_unsafe(job, options)?;
            target.checked()?;
            if options.max_replica_lag.is_some() {
                target.column.replica_lag()?;
            }
        }
        self.refuse_sessions(options)
    }

    /// Who is said to be stopped and has the database open would read what it cannot open, and write what
    /// nobody moves.
    fn refuse_sessions(&mut self, options: &RunOptions) -> Result<(), Error> {
        if !options.app_stopped || options.despite_sessions {
            return Ok(());
        }
        let mut sessions = std::collections::BTreeSet::new();
        for target in &mut self.targets {
            sessions.extend(target.column.sessions()?);
        }
        let names: Vec<String> = sessions.iter().take(MAX_SESSIONS).map(ToString::to_string).collect();
        let more = if sessions.len() > names.len() { ", and more" } else { "" };
        let Some(first) = sessions.first() else { return Ok(()) };
        Err(Error::Refused {
            reason: format!("others have {} open: {}{more}", first.database, names.join(", ")),
            remedy:
                "stop them and run the command again; --despite-sessions goes on where none of them uses the values"
                    .to_owned(),
        })
    }

    /// Does everything but write: every value is read, opened and converted. A deep rotation is
    /// shown from its start, however far it is.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] and [`Error::Database`] where a column could not be worked on at all.
    /// Values that cannot be moved are listed in the summary, and what would keep the run from its
    /// work is among the findings: it ends as [`End::Stale`] then.
    pub fn plan(&mut self, job: &Job, options: &RunOptions) -> Result<Vec<Summary>> {
        self.targets.iter_mut().map(|target| target.plan(job, options)).collect()
    }

    /// Converts batch by batch until a pass over everything changes nothing. With
    /// [`app_stopped`](RunOptions::app_stopped), all columns are finished or none is changed: their
    /// summaries say [`undone`](Summary::undone) then.
    ///
    /// # Errors
    ///
    /// With what was done to other columns before: [`Error::Refused`] where an application that knows one key would be broken, or another run
    /// is open; [`Error::Temporary`] where the keyring changed or the database stayed locked;
    /// [`Error::Database`]. Whatever was committed before stays, and a further run goes on there.
    pub fn run(
        &mut self,
        job: &Job,
        options: &RunOptions,
        observe: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Summary>, Unfinished> {
        for target in &self.targets {
            if let Err(error) = target.refuse_unsafe(job, options) {
                return Err(Unfinished { summaries: Vec::new(), error });
            }
        }
        self.refuse_sessions(options).map_err(|error| Unfinished { summaries: Vec::new(), error })?;
        let order = Order { job, options, generation: self.generation, guard: &self.guard };
        // Stores come last, and do without: nobody has to be stopped for them.
        let together = self.targets.iter().take_while(|target| options.app_stopped && target.column.transactional());
        let together = together.count();
        let (together, others) = self.targets.split_at_mut(together);
        let mut summaries = if together.is_empty() { Vec::new() } else { run_exclusively(together, &order, observe)? };
        let options = &RunOptions { app_stopped: false, ..options.clone() };
        for target in others {
            let order = Order { options, ..order };
            match target.checked().and_then(|findings| target.run(&order, findings, observe)) {
                Ok(summary) => summaries.push(summary),
                Err(error) => return Err(Unfinished { summaries, error }),
            }
        }
        Ok(summaries)
    }

    /// Counts every value by format and key. With `deep`, what can be counted by a token's first
    /// characters is opened all the same.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn count(&mut self, deep: bool) -> Result<Vec<ColumnCount>> {
        self.targets.iter_mut().map(|target| target.count(deep)).collect()
    }

    /// How many tokens are under keys that were replaced, column by column, where the database tells
    /// that by an index: at once where there are none. None where only a count of every value tells.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn stale(&mut self) -> Result<Vec<(String, Option<u64>)>> {
        let stale = |target: &mut Target| {
            // What names another key does not open, and is no affair of a rotation.
            let kids = target.keys_in(|state| matches!(state, KeyState::Active | KeyState::DecryptOnly));
            let name = target.column.spec().name.clone();
            let count = if target.is_told_by_prefix() { target.column.count_under(&kids)? } else { None };
            Ok((name, count))
        };
        self.targets.iter_mut().map(stale).collect()
    }

    /// Opens every value, and where none is stale or failed has the databases prove their fences,
    /// and forgets the open rotations to the present primary key: the tables that they were recorded
    /// in are removed. Other runs stay.
    ///
    /// # Errors
    ///
    /// [`Error::Database`]; [`Error::Refused`] if a value is beyond a fence. Stale and failed values
    /// are in the result.
    pub fn verify(&mut self) -> Result<Verification> {
        let verification = self.verified()?;
        if verification.is_clean() {
            self.targets.iter_mut().try_for_each(|target| target.column.prove_fence())?;
            self.targets.iter_mut().try_for_each(Target::close_rotation)?;
        }
        Ok(verification)
    }

    /// Opens every value, and changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Database`], [`Error::Refused`] or [`Error::Altered`] where a table or a store is
    /// not in order.
    pub fn verified(&mut self) -> Result<Verification> {
        for target in &mut self.targets {
            target.column.check()?;
            // What was moved is what is verified.
            if let Some(run) = target.column.run()? {
                run.refuse_elsewhere(&target.column.spec().name, &target.column.place())?;
            }
        }
        Ok(Verification::new(self.count(true)?, self.generation, self.covers.clone()))
    }

    /// Forgets the open runs. Rows that were rewritten stay rewritten: all their keys are loaded.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn abort(&mut self) -> Result<()> {
        self.targets.iter_mut().try_for_each(Target::close_run)
    }

    /// The rows that failed when the open runs met them last: column, row and reason. What became
    /// current or vanished since is among them until the command is typed again.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn failures(&mut self) -> Result<Vec<(String, RowKey, String)>> {
        let mut failures = Vec::new();
        for target in &mut self.targets {
            let column = target.column.spec().name.clone();
            let rows = target.column.failures()?.into_iter();
            failures.extend(rows.map(|(row, reason)| (column.clone(), row, reason)));
        }
        Ok(failures)
    }

    /// The open runs, with their columns.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn runs(&mut self) -> Result<Vec<(String, Run)>> {
        let mut runs = Vec::new();
        for target in &mut self.targets {
            if let Some(run) = target.column.run()? {
                runs.push((target.column.spec().name.clone(), run));
            }
        }
        Ok(runs)
    }
}
