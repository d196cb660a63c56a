//! What a job does to one column.

use core::ops::ControlFlow;
use core::time::Duration;
use std::thread;
use std::time::Instant;

use crate::column::{Column, Finding, Run, Selection};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::key::KeyId;
use crate::keyring::KeyState;
use crate::time::Timestamp;

use super::batch::{Failures, Pass, Record, Tally};
use super::convert::{Converter, Job};
use super::{End, RunOptions, Step, Summary, Target};

/// Most passes that a run makes over one column before it gives up on writers that keep
/// overtaking it.
const MAX_PASSES: u64 = 100;
/// Most looks at every value that is not current, where passes look for less: writers may keep
/// overtaking these too, and each takes a scan.
const MAX_LOOKS: u32 = 3;
/// How many batches a throttled run makes in a second, as long as they are larger than small ones.
const BATCHES_PER_SECOND: usize = 50;
/// A batch of which there is no use in being smaller: each waits for the disk.
const SMALL_BATCH: usize = 100;
/// Most passes in a row that write nothing.
const MAX_FUTILE: u32 = 20;
/// How long such a pass is rested from.
const PAUSE: Duration = Duration::from_millis(100);
/// What a row costs a database that is near, beside reading it.
const WRITE: Duration = Duration::from_micros(60);

/// What is asked of every column.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) job: &'a Job,
    pub(super) options: &'a RunOptions,
    pub(super) generation: u64,
    /// Whether the keyring is still of this generation.
    pub(super) guard: &'a dyn Fn() -> Result<()>,
}

impl Target {
    pub(super) fn plan(&mut self, job: &Job, options: &RunOptions) -> Result<Summary> {
        let started = Instant::now();
        let spec = self.column.spec().clone();
        let mut findings = self.column.check()?;
        let count = self.count(false)?;
        if spec.immutable {
            let stale = count.stale;
            let summary = Summary::new(spec.name, Tally::default(), 0, stale, started, findings, End::Pinned);
            return Ok(Summary { count: Some(count), ..summary });
        }
        let mut hindered = findings.iter().any(|finding| finding.refusal().is_some());
        let open = self.column.run()?;
        let wanted = new_run(job, &Converter::new(&spec, &self.keys, job), 0)?;
        let joined = open.map_or(Ok(()), |open| open.refuse_other(&spec.name, &wanted));
        for refusal in [self.refuse_unsafe(job, options), joined] {
            match refusal {
                Err(Error::Refused { reason, remedy }) => {
                    hindered = true;
                    findings.push(Finding::new(format!("{reason}; {remedy}")));
                }
                other => other?,
            }
        }
        let select = self.not_current(job)?;
        let converter = Converter::new(&spec, &self.keys, job).afresh();
        let left_over = left(&mut *self.column, &converter, &select, false, options)?;
        let tally = match spec.filter {
            Some(_) => left(&mut *self.column, &converter, &select, true, options)?,
            None => left_over.clone(),
        };
        if let Some(capacity) = self.column.capacity().filter(|capacity| *capacity < tally.longest) {
            hindered = true;
            findings.push(Finding::obstacle(
                format!(
                    "column {} of table {} takes {capacity} characters, and a value would have {}",
                    spec.value, spec.table, tally.longest
                ),
                "make the column longer, or of type text",
            ));
        }
        let estimate = estimate(started.elapsed(), &tally, options);
        // The filter keeps a run from what is outside of it.
        let all = !hindered && left_over.failed.rows == 0 && left_over.rewritten == tally.rewritten;
        let end = if all { End::Clean } else { End::Stale };
        let stale = left_over.rewritten + left_over.failed.rows;
        let summary = Summary::new(spec.name, tally, 1, stale, started, findings, end);
        Ok(Summary { count: Some(count), estimate: Some(estimate), ..summary })
    }

    /// What people should know about the column; refused where something is in the way of a run.
    pub(super) fn checked(&mut self) -> Result<Vec<Finding>> {
        let findings = self.column.check()?;
        findings.iter().find_map(Finding::refusal).map_or(Ok(findings), Err)
    }

    /// Passes until one from the start over everything changes nothing; inside the open transaction of
    /// the column's database, beside which nobody writes, just one.
    pub(super) fn run(
        &mut self,
        order: &Order<'_>,
        findings: Vec<Finding>,
        observe: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Summary> {
        let started = Instant::now();
        let Order { job, options, generation, guard } = *order;
        let alone = options.app_stopped;
        let spec = self.column.spec().clone();
        if spec.immutable {
            let count = self.count(false)?;
            return Ok(Summary::new(spec.name, Tally::default(), 0, count.stale, started, findings, End::Pinned));
        }
        let (select, not_current) = (self.selection(job), self.not_current(job)?);
        let converter = Converter::new(&spec, &self.keys, job);
        let run = self.column.open_run(&new_run(job, &converter, generation)?)?;
        let deep = matches!(job, Job::RotateDeep) && converter.goal() == Format::Vs1;
        let afresh = Converter::new(&spec, &self.keys, job).afresh();
        let (mut total, mut not_afresh) = (Tally::default(), Failures::default());
        let (mut passes, mut futile) = (0, 0_u32);
        let mut last = None;
        // No row shows that it was sealed again: what a deep run did is what its cursor passed.
        let mut all = deep;
        let mut cursor = run.cursor.filter(|_| deep || !alone);
        // What shows by how it begins that it is stale is soon found; what does not takes a scan, which
        // the pass does that may be the last.
        let mut whole = select == not_current;
        // Behind a filter and after the only pass of an exclusive run, what is left is looked for anyway.
        let rate = options.rows_per_second.filter(|_| !alone);
        // Who asks for a slow run wants the database to be there for others: so often, and for a short time.
        let batch = rate.map_or(options.batch, |rate| {
            options.batch.min((usize::try_from(rate).unwrap_or(usize::MAX) / BATCHES_PER_SECOND).max(SMALL_BATCH))
        });
        let mut looks = if alone || spec.filter.is_some() { 0 } else { MAX_LOOKS };
        let settled = loop {
            let from_start = cursor.is_none() && !all;
            passes += 1;
            let pass = Pass {
                select: if all {
                    &Selection::All
                } else if whole {
                    &not_current
                } else {
                    &select
                },
                filtered: true,
                batch,
                rows_per_second: rate,
                max_replica_lag: options.max_replica_lag.filter(|_| !alone),
                // What the cursor passed counts as done.
                waits: all,
                record: Some(Record { run: &run.id, cursor: all || !deep, guard }),
            };
            let converter = if all { &afresh } else { &converter };
            let mut tally = pass.run(&mut *self.column, converter, cursor.take().as_ref(), &mut |tally| {
                observe(Step {
                    column: &spec.name,
                    pass: passes,
                    rows: tally.rows,
                    rewritten: tally.rewritten,
                    replica_lag: tally.lag,
                })
            })?;
            if passes == 1 {
                total.rows = tally.rows;
            }
            total.rewritten += tally.rewritten;
            total.lost += tally.lost;
            total.stopped = tally.stopped;
            let changed = tally.rewritten + tally.lost > 0;
            *(if all { &mut not_afresh } else { &mut total.refused }) = core::mem::take(&mut tally.refused);
            all = false;
            if total.stopped || from_start && (alone || !changed && (whole || looks == 0)) {
                last = (whole && !alone && spec.filter.is_none()).then_some(tally);
                break true;
            }
            looks -= u32::from(whole && looks > 0);
            whole = select == not_current || looks > 0 && !whole && tally.lost == 0;
            futile = if tally.rewritten == 0 { futile + 1 } else { 0 };
            if passes >= MAX_PASSES || futile >= MAX_FUTILE {
                break false;
            }
            if futile > 0 && changed {
                // Only rows are left that others hold or have just changed.
                thread::sleep(PAUSE);
            }
        };
        if !alone {
            self.column.finish()?;
        }
        if total.stopped
            && self.is_told_by_prefix()
            && let Some(stale) = self.column.count_under(&self.stale_keys())?
        {
            // Who asked to stop is not kept waiting while every value that is left is opened.
            total.failed = core::mem::take(&mut total.refused).and(not_afresh);
            return Ok(Summary::new(spec.name, total, passes, stale, started, findings, End::Stopped));
        }
        let left_over = match last.filter(|_| !total.stopped) {
            // Which changed nothing, so what it met is what there is.
            Some(Tally { failed, unmigrated, .. }) => {
                Tally { rewritten: total.refused.rows, failed, unmigrated, ..Tally::default() }
            }
            None => left(&mut *self.column, &converter, &not_current, false, options)?,
        };
        let stale = left_over.rewritten + left_over.failed.rows;
        total.unmigrated = left_over.unmigrated;
        total.failed = left_over.failed.and(core::mem::take(&mut total.refused)).and(not_afresh);
        if !total.stopped {
            self.column.list_failures(&run.id, &total.failed.listed)?;
        }
        let end = match stale {
            _ if total.stopped => End::Stopped,
            0 if total.failed.rows == 0 => End::Clean,
            _ if !settled => End::Locked,
            // Written since the last pass, unless the filter keeps the run from ever seeing it.
            _ if total.failed.rows == 0 && spec.filter.is_none() => End::Locked,
            _ => End::Stale,
        };
        Ok(Summary::new(spec.name, total, passes, stale, started, findings, end))
    }

    /// Forgets the open run if it is a rotation to the present primary key.
    pub(super) fn close_rotation(&mut self) -> Result<()> {
        let spec = self.column.spec().clone();
        let converter = Converter::new(&spec, &self.keys, &Job::Rotate);
        let Some(run) = self.column.run()? else { return Ok(()) };
        let rotations = [Job::Rotate, Job::RotateDeep];
        let is_done = rotations.iter().any(|job| run.job == job.as_str())
            && target(&converter).is_ok_and(|target| run.target == target);
        if is_done { self.close_run() } else { Ok(()) }
    }

    pub(super) fn close_run(&mut self) -> Result<()> {
        self.column.close_run()?;
        self.column.finish()
    }

    /// A value that is rewritten under the feet of an application that cannot read it is lost to
    /// that application: such a run needs the application to be stopped.
    pub(super) fn refuse_unsafe(&self, job: &Job, options: &RunOptions) -> Result<()> {
        let spec = self.column.spec();
        let goal = Converter::new(spec, &self.keys, job).goal();
        if !goal.writable() {
            return Err(Error::Refused {
                reason: format!("nothing is ever written as {goal}"),
                remedy: "choose a format that can be written".to_owned(),
            });
        }
        if !self.column.transactional() && matches!(job, Job::Migrate(_) | Job::Reseal(_)) {
            return Err(Error::Refused {
                reason: "a store holds tokens only, for contexts of its own".to_owned(),
                remedy: "export its secrets, and set them where they are to be".to_owned(),
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

    /// Which values the job can move.
    fn selection(&self, job: &Job) -> Selection {
        match (job, self.column.spec().writes) {
            (Job::Rotate | Job::RotateDeep, Format::Vs1) => {
                Selection::Prefixes(self.stale_keys().iter().flat_map(prefixes).collect())
            }
            _ => Selection::All,
        }
    }

    /// Which values may not be what the job makes of them: those that it can move, and what is
    /// under a key that nobody knows or in no known format. A deep rotation opens every token.
    fn not_current(&self, job: &Job) -> Result<Selection> {
        let spec = self.column.spec();
        match job {
            Job::Rotate if spec.writes == Format::Vs1 => {
                let current = Converter::new(spec, &self.keys, job).target()?;
                Ok(Selection::Except(prefixes(&current).into()))
            }
            _ => Ok(Selection::All),
        }
    }

    /// Whether a value says by what it begins with which key it is under.
    pub(super) fn is_told_by_prefix(&self) -> bool {
        self.column.spec().writes == Format::Vs1
    }

    /// The keys of the column's tokens that are not the primary one.
    pub(super) fn stale_keys(&self) -> Vec<KeyId> {
        self.keys_in(|state| state != KeyState::Primary)
    }

    /// The keys that a promotion replaced: a key that still waits may become primary, and is not
    /// among them.
    fn replaced_keys(&self) -> Vec<KeyId> {
        self.keys_in(|state| !matches!(state, KeyState::Primary | KeyState::Active))
    }

    /// The keys of a fence that refuses those that were replaced, or beside what is refused already
    /// only `kid`; none for a column that has no fence.
    pub(super) fn kids_to_fence(&mut self, kid: Option<KeyId>) -> Result<Vec<KeyId>> {
        if !self.has_fence() || kid.is_some_and(|kid| kid.letter() == 'f') {
            return Ok(Vec::new());
        }
        let Some(kid) = kid else { return Ok(self.replaced_keys()) };
        let mut kids = self.column.fenced()?;
        kids.push(kid);
        kids.sort();
        kids.dedup();
        Ok(kids)
    }

    pub(super) fn unfence(&mut self) -> Result<()> {
        match self.split_fence()? {
            (taken, _) if taken.is_empty() => Ok(()),
            (_, kept) if kept.is_empty() => self.column.unfence(),
            (_, kept) => self.column.fence(&kept),
        }
    }

    /// The keys of the fence that may go, and those that nothing opens any more.
    pub(super) fn split_fence(&mut self) -> Result<(Vec<KeyId>, Vec<KeyId>)> {
        let retired = self.keys_in(|state| matches!(state, KeyState::Disabled | KeyState::Destroyed));
        Ok(self.column.fenced()?.into_iter().partition(|kid| !retired.contains(kid)))
    }

    /// Whether the column can have a fence. A value of a foreign format does not say which key it
    /// is under, and a store takes no token that is not under the primary key as it is.
    pub(super) fn has_fence(&self) -> bool {
        let spec = self.column.spec();
        spec.writes == Format::Vs1 && !spec.immutable && self.column.transactional()
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
            unmigrated: tally.unmigrated,
            failed_rows: tally.failed.rows,
            failed: tally.failed.listed,
            stale,
            passes,
            seconds: started.elapsed().as_secs_f64(),
            findings,
            count: None,
            estimate: None,
            end,
            undone: false,
        }
    }
}

/// Looks for rows that the job would still have to move, and for those that it cannot.
fn left(
    column: &mut dyn Column,
    converter: &Converter<'_>,
    select: &Selection,
    filtered: bool,
    options: &RunOptions,
) -> Result<Tally> {
    let pass = Pass {
        select,
        filtered,
        batch: options.batch,
        rows_per_second: None,
        max_replica_lag: None,
        waits: false,
        record: None,
    };
    pass.run(column, converter, None, &mut |_| ControlFlow::Continue(()))
}

/// How long a run takes that has as much to do as a dry run found in `looked`: it reads and converts
/// the same, writes it, and looks at everything once more.
fn estimate(looked: Duration, tally: &Tally, options: &RunOptions) -> Duration {
    let written = u32::try_from(tally.rewritten).unwrap_or(u32::MAX);
    let run = looked.saturating_mul(2).saturating_add(WRITE.saturating_mul(written));
    match options.rows_per_second.filter(|rate| *rate > 0 && !options.app_stopped) {
        Some(rate) => run.max(Duration::from_secs_f64(f64::from(written) / f64::from(rate))),
        None => run,
    }
}

fn new_run(job: &Job, converter: &Converter<'_>, generation: u64) -> Result<Run> {
    let now = Timestamp::now();
    Ok(Run {
        id: String::new(),
        job: job.as_str().to_owned(),
        target: target(converter)?,
        generation,
        cursor: None,
        rewritten: 0,
        lost: 0,
        started: now,
        heartbeat: now,
    })
}

/// What a run makes of values, as it is recorded.
fn target(converter: &Converter<'_>) -> Result<String> {
    Ok(format!("{} {}", converter.goal(), converter.target()?))
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
