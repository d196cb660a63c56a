//! One pass over a column: read a page, convert it, write it with compare-and-swap together with
//! its checkpoint (docs/ARCHITECTURE.md, "Rotation").
//!
//! While the database writes a page, the next one is converted: a page costs both about as much. What
//! was worked on may be out of date when it is written: the compare-and-swap decides.

use core::ops::ControlFlow;
use core::time::Duration;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;
use std::vec;

use crate::column::{Column, Page, Progress, Row, RowChange, RowKey, Selection};
use crate::error::Result;

use super::convert::{Converter, Outcome, reason};

/// Most failed rows that are listed one by one.
pub(super) const MAX_LISTED: usize = 1_000;

/// How a pass goes about its work.
pub(super) struct Pass<'a> {
    pub(super) select: &'a Selection,
    /// Whether rows outside the column's `filter` are left alone.
    pub(super) filtered: bool,
    pub(super) batch: usize,
    /// Most rows written in a second. What is only looked at is no matter.
    pub(super) rows_per_second: Option<u32>,
    /// How far a replica may be behind before the next batch is written.
    pub(super) max_replica_lag: Option<Duration>,
    /// Whether rows that others have locked are waited for, and not left to the next pass.
    pub(super) waits: bool,
    /// Without a record, nothing is written.
    pub(super) record: Option<Record<'a>>,
}

/// How batches are recorded.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    /// The run that they belong to.
    pub(super) run: &'a str,
    /// Whether they move its cursor.
    pub(super) cursor: bool,
    /// Whether the keyring is still the one that the run began with.
    pub(super) guard: &'a dyn Fn() -> Result<()>,
}

/// What a pass did.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) rows: u64,
    /// Written, or in a dry run to be written.
    pub(super) rewritten: u64,
    /// Changed by somebody else between reading and writing.
    pub(super) lost: u64,
    /// Of these, moved by others.
    pub(super) moved: u64,
    /// Of these, still what was read, because others hold them.
    pub(super) held: u64,
    /// Open in a legacy format where tokens are written.
    pub(super) unmigrated: u64,
    /// Could not be converted.
    pub(super) failed: Failures,
    /// Were refused by the database.
    pub(super) refused: Failures,
    /// Bytes of the longest value that was made.
    pub(super) longest: usize,
    /// How far a replica is behind that is waited for.
    pub(super) lag: Option<Duration>,
    /// The observer asked to stop.
    pub(super) stopped: bool,
}

/// Rows that failed, and why: all are counted, the first are listed.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    pub(super) rows: u64,
    pub(super) listed: Vec<(RowKey, String)>,
}

impl Failures {
    fn add(&mut self, failed: impl IntoIterator<Item = (RowKey, String)>) {
        for row in failed {
            self.rows += 1;
            if self.listed.len() < MAX_LISTED {
                self.listed.push(row);
            }
        }
    }

    /// These and others, each row once.
    pub(super) fn and(mut self, others: Self) -> Self {
        self.rows += others.rows;
        for (row, reason) in others.listed {
            if self.listed.iter().any(|(known, _)| *known == row) {
                self.rows -= 1;
            } else if self.listed.len() < MAX_LISTED {
                self.listed.push((row, reason));
            }
        }
        self
    }
}

/// A page on its way: what is read, and what has become of it.
#[derive(Default)]
struct Batch {
    rows: vec::IntoIter<Row>,
    last: RowKey,
    read: u64,
    changes: Vec<RowChange>,
    failed: Vec<(RowKey, String)>,
    unmigrated: u64,
}

impl Batch {
    fn new(rows: Vec<Row>) -> Self {
        Self {
            last: rows.last().map(|row| row.key.clone()).unwrap_or_default(),
            read: u64::try_from(rows.len()).unwrap_or(u64::MAX),
            changes: Vec::with_capacity(rows.len()),
            rows: rows.into_iter(),
            ..Self::default()
        }
    }

    /// Whether the database has rows to write, as far as it is converted.
    fn is_to_write(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Converts rows for about so long, at least one. Tells whether there are more.
    fn convert(&mut self, converter: &Converter<'_>, long: Duration) -> bool {
        let started = Instant::now();
        for row in self.rows.by_ref() {
            match converter.convert(&row) {
                Outcome::Current => {}
                Outcome::Failed(error) => self.failed.push((row.key, reason(&error))),
                Outcome::Unmigrated => self.unmigrated += 1,
                Outcome::Rewrite(new) => self.changes.push(RowChange { key: row.key, old: row.value, new }),
            }
            if started.elapsed() >= long {
                break;
            }
        }
        self.rows.len() > 0
    }
}

impl Pass<'_> {
    /// Runs from behind `after` to the end, or until `observe`, called after every page, breaks.
    pub(super) fn run(
        &self,
        column: &mut dyn Column,
        converter: &Converter<'_>,
        after: Option<&RowKey>,
        observe: &mut dyn FnMut(&Tally) -> ControlFlow<()>,
    ) -> Result<Tally> {
        let started = Instant::now();
        let mut tally = Tally::default();
        let columns = converter.columns(self.select);
        let read = |column: &mut dyn Column, after: Option<&RowKey>| {
            let (select, filtered) = (self.select, self.filtered);
            let page = Page { select, filtered, columns: &columns, after, limit: self.batch };
            column.read(&page).map(Batch::new)
        };
        let mut batch = read(column, after)?;
        while batch.read > 0 {
            batch.convert(converter, Duration::MAX);
            let next = Mutex::new(read(column, Some(&batch.last))?);
            if batch.is_to_write() && self.wait_for_replicas(column, &mut tally, observe)?.is_break() {
                tally.stopped = true;
                break;
            }
            self.write(column, &batch, &|| lock(&next).convert(converter, A_LITTLE), &mut tally)?;
            if observe(&tally).is_break() {
                tally.stopped = true;
                break;
            }
            self.throttle(started, tally.rewritten + tally.lost + tally.refused.rows);
            batch = next.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
        Ok(tally)
    }

    fn write(
        &self,
        column: &mut dyn Column,
        batch: &Batch,
        beside: &(dyn Fn() -> bool + Sync),
        tally: &mut Tally,
    ) -> Result<()> {
        let changes = u64::try_from(batch.changes.len()).unwrap_or(u64::MAX);
        tally.rows += batch.read;
        tally.unmigrated += batch.unmigrated;
        let known = tally.failed.listed.len();
        tally.failed.add(batch.failed.iter().cloned());
        // Those that are listed: there may be as many as there are rows.
        let failed = tally.failed.listed.get(known..).unwrap_or_default();
        tally.longest = batch.changes.iter().map(|change| change.new.len()).fold(tally.longest, usize::max);
        let Some(Record { run, cursor, guard }) = self.record else {
            tally.rewritten += changes;
            return Ok(());
        };
        if changes == 0 && failed.is_empty() {
            return Ok(());
        }
        let progress =
            Progress { run, cursor: cursor.then_some(&batch.last), failed, waits: self.waits, guard, beside };
        let written = column.write(&batch.changes, &progress)?;
        tally.rewritten += written.rewritten;
        tally.lost += written.lost;
        tally.moved += written.moved;
        tally.held += written.held;
        tally.refused.add(written.failed);
        Ok(())
    }

    /// Waits while a replica is too far behind, as long as `observe` lets it.
    fn wait_for_replicas(
        &self,
        column: &mut dyn Column,
        tally: &mut Tally,
        observe: &mut dyn FnMut(&Tally) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let Some(most) = self.max_replica_lag else { return Ok(ControlFlow::Continue(())) };
        while let Some(lag) = column.replica_lag()?.filter(|lag| *lag > most) {
            tally.lag = Some(lag);
            let asked = observe(tally);
            tally.lag = None;
            if asked.is_break() {
                return Ok(asked);
            }
            thread::sleep(LAG_PAUSE);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn throttle(&self, started: Instant, written: u64) {
        if let Some(rate) = self.rows_per_second.filter(|rate| *rate > 0) {
            let due = Duration::from_millis(written * 1_000 / u64::from(rate));
            thread::sleep(due.saturating_sub(started.elapsed()));
        }
    }
}

fn lock(batch: &Mutex<Batch>) -> MutexGuard<'_, Batch> {
    batch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a replica that lags is left alone.
const LAG_PAUSE: Duration = Duration::from_millis(200);
/// How long other work may keep a connection waiting.
const A_LITTLE: Duration = Duration::from_micros(50);
