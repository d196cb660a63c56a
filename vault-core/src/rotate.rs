//! Changing the key or the format of the values in an application's own columns, while the
//! application runs (docs/ARCHITECTURE.md, "Rotation").
//!
//! A rotation applied twice equals one applied once: what is current is left alone, so every step
//! can be interrupted anywhere and run again.

mod batch;
mod convert;
mod count;

use core::ops::ControlFlow;
use std::time::Instant;

use crate::column::{Column, Finding, RowKey, Run, Selection};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::key::KeyId;
use crate::keyring::KeyState;
use crate::time::Timestamp;

use batch::{Pass, Tally};
use convert::Converter;

pub use convert::{ColumnKeys, Job, Recognised};
pub use count::{ColumnCount, Verification};

/// Most passes that a run makes over one column before it gives up on writers that keep
/// overtaking it.
const MAX_PASSES: u64 = 100;

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
    /// Rows in one transaction.
    pub batch: usize,
    /// Most rows in a second.
    pub rows_per_second: Option<u32>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { app_stopped: false, batch: 500, rows_per_second: None }
    }
}

/// What a run is doing, told after every batch.
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
    /// It was asked to stop: run it again.
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
    /// Rows that somebody else changed in between; a later pass met them again.
    pub lost: u64,
    /// Rows that could not be moved, and why.
    pub failed: Vec<(RowKey, String)>,
    /// Rows that are still stale, by a count after the last pass.
    pub stale: u64,
    /// Passes made.
    pub passes: u64,
    /// Seconds taken.
    pub seconds: f64,
    /// What the database said about the column.
    pub findings: Vec<Finding>,
    /// How it ended.
    pub end: End,
}

/// The columns that one job is done to.
///
/// Blocks while it works, and uses one further thread while it does. Not to be called inside an
/// async runtime's thread.
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
    /// A rotation over `targets`, begun at `generation` of the keyring. `guard` is called before
    /// every batch and says whether the keyring is still the one that was begun with.
    pub fn new(targets: Vec<Target>, generation: u64, guard: impl Fn() -> Result<()> + 'a) -> Self {
        Self { targets, generation, covers: None, guard: Box::new(guard) }
    }

    /// Says that these are all columns that use a keyring, so that verification can prove that
    /// none of its values needs a key.
    pub(crate) fn of_all_that_use(self, keyring_id: Option<&str>) -> Self {
        Self { covers: keyring_id.map(str::to_owned), ..self }
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
    pub fn check(&mut self, job: &Job, options: &RunOptions) -> Result<()> {
        for target in &mut self.targets {
            target.refuse_unsafe(job, options)?;
            target.column.check()?;
        }
        Ok(())
    }

    /// Does everything but write: every value is read, opened and converted.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] and [`Error::Database`] where a column could not be worked on at all.
    /// Values that cannot be moved are listed in the summary.
    pub fn plan(&mut self, job: &Job, options: &RunOptions) -> Result<Vec<Summary>> {
        self.targets.iter_mut().map(|target| target.plan(job, options)).collect()
    }

    /// Converts batch by batch until a pass over everything changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where an application that knows one key would be broken, or another run
    /// is open; [`Error::Temporary`] where the keyring changed or the database stayed locked;
    /// [`Error::Database`]. Whatever was committed before stays, and a further run goes on there.
    pub fn run(
        &mut self,
        job: &Job,
        options: &RunOptions,
        observe: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Summary>> {
        for target in &mut self.targets {
            target.refuse_unsafe(job, options)?;
        }
        let (guard, generation) = (&self.guard, self.generation);
        if !options.app_stopped {
            return self
                .targets
                .iter_mut()
                .map(|target| target.run(job, options, generation, guard, observe))
                .collect();
        }
        let mut summaries = Vec::new();
        for mut group in by_database(&mut self.targets) {
            guard()?;
            summaries.extend(run_exclusively(&mut group, job, options, generation, observe)?);
        }
        Ok(summaries)
    }

    /// Makes the databases refuse every write of a value under a key that was replaced, or beside
    /// what they refuse already only under `kid`.
    ///
    /// Columns in foreign formats and immutable ones have no fence. Returns the columns that are
    /// fenced now.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] while a row is stale.
    pub fn fence(&mut self, kid: Option<KeyId>) -> Result<Vec<String>> {
        let mut fenced = Vec::new();
        for target in &mut self.targets {
            let mut kids = match kid {
                Some(kid) => vec![kid],
                None => target.replaced_keys(),
            };
            let spec = target.column.spec();
            if spec.writes != Format::Vs1 || spec.immutable || kids.is_empty() {
                continue;
            }
            if kid.is_some() {
                kids.extend(target.column.fenced()?);
                kids.sort();
                kids.dedup();
            }
            target.column.fence(&kids)?;
            fenced.push(target.column.spec().name.clone());
        }
        Ok(fenced)
    }

    /// Takes the fences down.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn unfence(&mut self) -> Result<()> {
        self.targets.iter_mut().try_for_each(|target| target.column.unfence())
    }

    /// The keys that some column refuses to take.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn fenced(&mut self) -> Result<Vec<KeyId>> {
        let mut kids = Vec::new();
        for target in &mut self.targets {
            kids.extend(target.column.fenced()?);
        }
        kids.sort();
        kids.dedup();
        Ok(kids)
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

    /// Opens every value, and where none is stale or failed forgets the open runs: the tables
    /// that they were recorded in are removed.
    ///
    /// # Errors
    ///
    /// [`Error::Database`]. Stale and failed values are in the result.
    pub fn verify(&mut self) -> Result<Verification> {
        let verification = self.verified()?;
        if verification.is_clean() {
            self.abort()?;
        }
        Ok(verification)
    }

    /// Opens every value, and changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn verified(&mut self) -> Result<Verification> {
        Ok(Verification::new(self.count(true)?, self.generation, self.covers.clone()))
    }

    /// Forgets the open runs. Rows that were rewritten stay rewritten: all their keys are loaded.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn abort(&mut self) -> Result<()> {
        self.targets.iter_mut().try_for_each(|target| {
            target.column.close_run()?;
            target.column.finish()
        })
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

impl Target {
    fn plan(&mut self, job: &Job, options: &RunOptions) -> Result<Summary> {
        let started = Instant::now();
        let mut findings = self.column.check()?;
        if let Err(Error::Refused { reason, .. }) = self.refuse_unsafe(job, options) {
            findings.push(Finding::new(reason));
        }
        let select = self.selection(job)?;
        let spec = self.column.spec().clone();
        let converter = Converter::new(&spec, &self.keys, job);
        let pass = Pass { select: &select, filtered: true, batch: options.batch, rows_per_second: None, run: None };
        let tally = pass.run(&mut *self.column, &converter, None, &mut |_| Ok(ControlFlow::Continue(())))?;
        let end = match (spec.immutable, tally.failed.is_empty()) {
            (true, _) => End::Pinned,
            (_, true) => End::Clean,
            (_, false) => End::Stale,
        };
        let stale = tally.rewritten;
        Ok(Summary::new(spec.name, tally, 1, stale, started, findings, end))
    }

    fn run(
        &mut self,
        job: &Job,
        options: &RunOptions,
        generation: u64,
        guard: &dyn Fn() -> Result<()>,
        observe: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Summary> {
        let started = Instant::now();
        let findings = self.column.check()?;
        let spec = self.column.spec().clone();
        if spec.immutable {
            let count = self.count(false)?;
            return Ok(Summary::new(spec.name, Tally::default(), 0, count.stale, started, findings, End::Pinned));
        }
        let select = self.selection(job)?;
        let converter = Converter::new(&spec, &self.keys, job);
        let run = self.column.open_run(&new_run(job, &converter, generation)?)?;
        let pass = Pass {
            select: &select,
            filtered: true,
            batch: options.batch,
            rows_per_second: options.rows_per_second,
            run: Some(&run.id),
        };
        let mut total = Tally::default();
        let mut passes = 0;
        let mut cursor = run.cursor;
        let settled = loop {
            let from_start = cursor.is_none();
            passes += 1;
            let tally = pass.run(&mut *self.column, &converter, cursor.take(), &mut |tally| {
                guard()?;
                Ok(observe(Step { column: &spec.name, pass: passes, rows: tally.rows, rewritten: tally.rewritten }))
            })?;
            total.rows = total.rows.max(tally.rows);
            total.rewritten += tally.rewritten;
            total.lost += tally.lost;
            total.stopped = tally.stopped;
            let changed = tally.rewritten + tally.lost > 0;
            total.failed = tally.failed;
            if total.stopped || !changed && from_start {
                break true;
            }
            if passes >= MAX_PASSES {
                break false;
            }
        };
        self.column.finish()?;
        let stale = self.stale_left(job, &select, options)?;
        let end = match stale {
            _ if total.stopped => End::Stopped,
            0 if total.failed.is_empty() => End::Clean,
            _ if total.failed.is_empty() || !settled => End::Locked,
            _ => End::Stale,
        };
        Ok(Summary::new(spec.name, total, passes, stale, started, findings, end))
    }

    /// The same inside the open transaction of the column's database, in one pass.
    fn run_inside(
        &mut self,
        job: &Job,
        options: &RunOptions,
        generation: u64,
        findings: Vec<Finding>,
        observe: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Summary> {
        let started = Instant::now();
        let spec = self.column.spec().clone();
        if spec.immutable {
            let count = self.count(false)?;
            return Ok(Summary::new(spec.name, Tally::default(), 0, count.stale, started, findings, End::Pinned));
        }
        let select = self.selection(job)?;
        let converter = Converter::new(&spec, &self.keys, job);
        let run = self.column.open_run(&new_run(job, &converter, generation)?)?;
        let pass =
            Pass { select: &select, filtered: true, batch: options.batch, rows_per_second: None, run: Some(&run.id) };
        let tally = pass.run(&mut *self.column, &converter, None, &mut |tally| {
            Ok(observe(Step { column: &spec.name, pass: 1, rows: tally.rows, rewritten: tally.rewritten }))
        })?;
        let stale = self.stale_left(job, &select, options)?;
        let end = match stale {
            _ if tally.stopped => End::Stopped,
            0 => End::Clean,
            _ => End::Stale,
        };
        Ok(Summary::new(spec.name, tally, 1, stale, started, findings, end))
    }

    /// Rows that the job would still have to move, whatever the filter says.
    fn stale_left(&mut self, job: &Job, select: &Selection, options: &RunOptions) -> Result<u64> {
        let spec = self.column.spec().clone();
        let converter = Converter::new(&spec, &self.keys, job);
        let pass = Pass { select, filtered: false, batch: options.batch, rows_per_second: None, run: None };
        let tally = pass.run(&mut *self.column, &converter, None, &mut |_| Ok(ControlFlow::Continue(())))?;
        Ok(tally.rewritten + u64::try_from(tally.failed.len()).unwrap_or(u64::MAX))
    }

    /// A value that is rewritten under the feet of an application that cannot read it is lost to
    /// that application: such a run needs the application to be stopped.
    fn refuse_unsafe(&self, job: &Job, options: &RunOptions) -> Result<()> {
        let spec = self.column.spec();
        let goal = Converter::new(spec, &self.keys, job).goal();
        if !goal.writable() {
            return Err(Error::Refused {
                reason: format!("nothing is ever written as {goal}"),
                remedy: "choose a format that can be written".to_owned(),
            });
        }
        if options.app_stopped || spec.immutable {
            return Ok(());
        }
        match job {
            Job::Migrate(_) if spec.writes != goal => Err(Error::Refused {
                reason: format!("the applications of column {} go on writing {}, not {goal}", spec.name, spec.writes),
                remedy: format!(
                    "set `writes = \"{goal}\"` once every process reads it, or stop every process and add --app-stopped"
                ),
            }),
            Job::Migrate(_) if !spec.linked => Err(unlinked(&spec.name)),
            Job::Rotate | Job::RotateDeep if goal != Format::Vs1 && !spec.linked => Err(unlinked(&spec.name)),
            _ => Ok(()),
        }
    }

    /// Which values the job has to look at.
    fn selection(&self, job: &Job) -> Result<Selection> {
        match (job, self.column.spec().writes) {
            (Job::Rotate | Job::RotateDeep, Format::Vs1) => {
                Ok(Selection::Prefixes(self.stale_keys().iter().flat_map(prefixes).collect()))
            }
            _ => Ok(Selection::All),
        }
    }

    /// The keys of the column's tokens that are not the primary one.
    fn stale_keys(&self) -> Vec<KeyId> {
        self.keys_in(|state| state != KeyState::Primary)
    }

    /// The keys that a promotion replaced: a key that still waits may become primary, and is not
    /// among them.
    fn replaced_keys(&self) -> Vec<KeyId> {
        self.keys_in(|state| !matches!(state, KeyState::Primary | KeyState::Active))
    }

    fn keys_in(&self, wanted: impl Fn(KeyState) -> bool) -> Vec<KeyId> {
        let keys = self.keys.sealer.iter().flat_map(|sealer| sealer.keyring().keys());
        keys.filter(|key| wanted(key.state)).map(|key| key.kid).collect()
    }
}

impl Summary {
    fn new(
        column: String,
        tally: Tally,
        passes: u64,
        stale: u64,
        started: Instant,
        findings: Vec<Finding>,
        end: End,
    ) -> Self {
        Self {
            column,
            rows: tally.rows,
            rewritten: tally.rewritten,
            lost: tally.lost,
            failed: tally.failed,
            stale,
            passes,
            seconds: started.elapsed().as_secs_f64(),
            findings,
            end,
        }
    }
}

/// All columns of one database in one exclusive transaction: whoever reads it sees the values as
/// they were, or all of them moved.
fn run_exclusively(
    group: &mut [&mut Target],
    job: &Job,
    options: &RunOptions,
    generation: u64,
    observe: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
) -> Result<Vec<Summary>> {
    let findings = group.iter_mut().map(|target| target.column.check()).collect::<Result<Vec<_>>>()?;
    let Some(first) = group.first_mut() else { return Ok(Vec::new()) };
    first.column.begin_exclusive()?;
    let moved = group
        .iter_mut()
        .zip(findings)
        .map(|(target, findings)| target.run_inside(job, options, generation, findings, observe))
        .collect::<Result<Vec<_>>>();
    let Some(first) = group.first_mut() else { return Ok(Vec::new()) };
    match moved {
        Ok(summaries) if summaries.iter().any(|summary| summary.end == End::Stopped) => {
            first.column.rollback()?;
            Err(Error::Temporary {
                reason: "stopped; nothing was changed".to_owned(),
                remedy: "run the command again".to_owned(),
            })
        }
        Ok(summaries) => {
            first.column.commit()?;
            first.column.finish()?;
            Ok(summaries)
        }
        Err(error) => {
            first.column.rollback()?;
            Err(error)
        }
    }
}

/// Groups of targets that can share a transaction.
fn by_database(targets: &mut [Target]) -> Vec<Vec<&mut Target>> {
    let mut groups: Vec<Vec<&mut Target>> = Vec::new();
    for target in targets {
        let database = target.column.database().to_owned();
        match groups.iter_mut().find(|group| group.first().is_some_and(|first| first.column.database() == database)) {
            Some(group) => group.push(target),
            None => groups.push(vec![target]),
        }
    }
    groups
}

fn new_run(job: &Job, converter: &Converter<'_>, generation: u64) -> Result<Run> {
    let now = Timestamp::now();
    Ok(Run {
        id: String::new(),
        job: job.as_str().to_owned(),
        target: format!("{} {}", converter.goal(), converter.target()?),
        generation,
        cursor: None,
        rewritten: 0,
        lost: 0,
        started: now,
        heartbeat: now,
    })
}

/// What the values of a column under `kid` begin with.
fn prefixes(kid: &KeyId) -> [String; 2] {
    [format!("vs1.{kid}."), format!("vk1.{kid}.")]
}

fn unlinked(column: &str) -> Error {
    Error::Refused {
        reason: format!("column {column} is read by applications that know one key and do not use this library"),
        remedy: "stop every process that holds the key, back up the database, run again with --app-stopped, deliver the new key, start, run once more for late rows, and verify".to_owned(),
    }
}
