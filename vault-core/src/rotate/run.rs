//! What a job does to one column.

use core::ops::ControlFlow;
use std::thread;
use std::time::Instant;

use crate::column::{Column, ColumnFinding, Run, Selection};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::time::Timestamp;

use super::attention::PUT_BACK;
use super::batch::{Failures, Pass, Record, Tally};
use super::convert::{Converter, Job};
use super::schedule::{Circumstances, Next, Schedule, Scope};
use super::{End, RunOptions, Step, Summary, Target};

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
    /// What people should know about the column; refused where something is in the way of a run.
    pub(super) fn checked(&mut self) -> Result<Vec<ColumnFinding>> {
        let findings = self.column.check()?;
        if let Some(reason) = self.older_states()? {
            return Err(Error::Refused { reason, remedy: PUT_BACK.to_owned() });
        }
        findings.iter().find_map(ColumnFinding::refusal).map_or(Ok(findings), Err)
    }

    /// Passes until one from the start over everything changes nothing; inside the open transaction of
    /// the column's database, beside which nobody writes, just one.
    pub(super) fn run(
        &mut self,
        order: &Order<'_>,
        findings: Vec<ColumnFinding>,
        observe: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Summary> {
        let started = Instant::now();
        let spec = self.column.spec().clone();
        if spec.immutable {
            let stale = self.count(false)?.stale;
            return Ok(Summary::new(spec.name, Tally::default(), 0, stale, started, findings, End::Pinned));
        }
        let run =
            new_run(order.job, &Converter::new(&spec, &self.keys, order.job), order.generation, self.column.place())?;
        let run = self.column.open_run(&run)?;
        let passed = self.make_passes(order, &run, observe)?;
        if !order.options.app_stopped {
            self.column.finish()?;
        }
        let passes = passed.passes;
        let (tally, stale, end) = self.conclude(order, &run, passed)?;
        Ok(Summary::new(spec.name, tally, passes, stale, started, findings, end))
    }

    fn make_passes(
        &mut self,
        order: &Order<'_>,
        run: &Run,
        observe: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Passed> {
        let Order { job, options, guard, .. } = *order;
        let alone = options.app_stopped;
        let spec = self.column.spec().clone();
        let (stale, not_current) = (self.selection(job), self.not_current(job)?);
        let converter = Converter::new(&spec, &self.keys, job).limited(options.max_plaintext);
        let afresh = Converter::new(&spec, &self.keys, job).afresh();
        let deep = matches!(job, Job::RotateDeep) && converter.goal() == Format::Vs1;
        let mut cursor = run.cursor.clone().filter(|_| deep || !alone);
        let mut schedule = Schedule::new(&Circumstances {
            deep,
            resumed: cursor.is_some(),
            told_apart: stale != not_current,
            alone,
            // Behind a filter and after the only pass of an exclusive run, what is left is looked for anyway.
            looked_after: alone || spec.filter.is_some(),
        });
        let rows_per_second = options.rows_per_second.filter(|_| !alone);
        let (mut total, mut not_afresh) = (Tally::default(), Failures::default());
        loop {
            let scope = schedule.scope();
            let all = scope == Scope::Everything;
            let pass = Pass {
                select: match scope {
                    Scope::Everything => &Selection::All,
                    Scope::Stale => &stale,
                    Scope::NotCurrent => &not_current,
                },
                filtered: true,
                batch: rows_per_second.map_or(options.batch, |rate| options.batch.min(small_batch(rate))),
                rows_per_second,
                max_replica_lag: options.max_replica_lag.filter(|_| !alone),
                // What the cursor passed counts as done.
                waits: all,
                record: Some(Record { run: &run.id, cursor: all || !deep, guard }),
            };
            let converter = if all { &afresh } else { &converter };
            let number = schedule.passes();
            let mut tally = pass.run(&mut *self.column, converter, cursor.take().as_ref(), &mut |tally| {
                observe(Step {
                    column: &spec.name,
                    pass: number,
                    rows: tally.rows,
                    rewritten: tally.rewritten,
                    replica_lag: tally.lag,
                })
            })?;
            if number == 1 {
                total.rows = tally.rows;
            }
            total.rewritten += tally.rewritten;
            total.lost += tally.lost;
            total.moved += tally.moved;
            total.held += tally.held;
            total.stopped = tally.stopped;
            *(if all { &mut not_afresh } else { &mut total.refused }) = core::mem::take(&mut tally.refused);
            let settled = match schedule.after(&tally) {
                Next::Pass { rest } => {
                    thread::sleep(rest);
                    continue;
                }
                Next::Settled => true,
                Next::GiveUp => false,
            };
            let saw_all = settled && !total.stopped && scope == Scope::NotCurrent && !alone && spec.filter.is_none();
            let seen = saw_all.then_some(tally);
            return Ok(Passed { total, not_afresh, passes: number, settled, seen });
        }
    }

    /// What the passes did and left, how many rows are stale, and how the run ended.
    fn conclude(&mut self, order: &Order<'_>, run: &Run, passed: Passed) -> Result<(Tally, u64, End)> {
        let Passed { mut total, not_afresh, settled, seen, .. } = passed;
        let refused = core::mem::take(&mut total.refused);
        if total.stopped
            && self.is_told_by_prefix()
            && let Some(stale) = self.column.count_under(&self.stale_keys())?
        {
            // Who asked to stop is not kept waiting while every value that is left is opened.
            total.failed = refused.and(not_afresh);
            return Ok((total, stale, End::Stopped));
        }
        let left_over = match seen {
            // Which changed nothing, so what it met is what there is.
            Some(Tally { failed, unmigrated, .. }) => {
                Tally { rewritten: refused.rows, failed, unmigrated, ..Tally::default() }
            }
            None => {
                let spec = self.column.spec().clone();
                let not_current = self.not_current(order.job)?;
                let converter = Converter::new(&spec, &self.keys, order.job).limited(order.options.max_plaintext);
                left(&mut *self.column, &converter, &not_current, false, order.options)?
            }
        };
        let stale = left_over.rewritten + left_over.failed.rows;
        total.unmigrated = left_over.unmigrated;
        total.failed = left_over.failed.and(refused).and(not_afresh);
        if !total.stopped {
            self.column.list_failures(&run.id, &total.failed.listed)?;
        }
        let end = match stale {
            _ if total.stopped => End::Stopped,
            0 if total.failed.rows == 0 => End::Clean,
            _ if !settled => End::Locked,
            // Written since the last pass, unless the filter keeps the run from ever seeing it.
            _ if total.failed.rows == 0 && self.column.spec().filter.is_none() => End::Locked,
            _ => End::Stale,
        };
        Ok((total, stale, end))
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
}

/// What the passes of a run did.
struct Passed {
    /// Rows of the first pass, what all of them wrote and lost, and what the last one met and was told.
    total: Tally,
    /// Rows that a deep run could not seal again.
    not_afresh: Failures,
    passes: u64,
    /// Whether the run came to its end, and was not overtaken again and again.
    settled: bool,
    /// What the last pass met, if it looked at every value that is not current.
    seen: Option<Tally>,
}

impl Summary {
    pub(super) fn new(
        column: String,
        tally: Tally,
        passes: u64,
        stale: u64,
        started: Instant,
        findings: Vec<ColumnFinding>,
        end: End,
    ) -> Self {
        Self {
            column,
            rows: tally.rows,
            rewritten: tally.rewritten,
            lost: tally.lost.saturating_sub(tally.moved + tally.held),
            moved: tally.moved,
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
pub(super) fn left(
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

pub(super) fn new_run(job: &Job, converter: &Converter<'_>, generation: u64, place: String) -> Result<Run> {
    let now = Timestamp::now();
    Ok(Run {
        id: String::new(),
        job: job.as_str().to_owned(),
        target: target(converter)?,
        place,
        rows: 0,
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

fn unlinked(column: &str) -> Error {
    Error::Refused {
        reason: format!("column {column} is read by applications that know one key and do not use this library"),
        remedy: "stop every process that holds the key, back up the database, run again with --app-stopped, deliver the new key, start, and verify; `vault rotate run --app-stopped`, with the application stopped once more, moves rows that were written late".to_owned(),
    }
}

/// How many rows a throttled run writes at once: who asks for a slow run wants the database to be there
/// for others, so often, and for a short time.
fn small_batch(rows_per_second: u32) -> usize {
    (usize::try_from(rows_per_second).unwrap_or(usize::MAX) / BATCHES_PER_SECOND).max(SMALL_BATCH)
}

/// How many batches a throttled run makes in a second, as long as they are larger than small ones.
const BATCHES_PER_SECOND: usize = 50;
/// A batch of which there is no use in being smaller: each waits for the disk.
const SMALL_BATCH: usize = 100;
