//! What a job would do to one column.

use core::time::Duration;
use std::time::Instant;

use crate::column::ColumnFinding;
use crate::error::{Error, Result};

use super::attention::PUT_BACK;
use super::batch::Tally;
use super::convert::{Converter, Job};
use super::run::{left, new_run};
use super::{End, RunOptions, Summary, Target};

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
        if let Some(reason) = self.older_states()? {
            hindered = true;
            findings.push(ColumnFinding::obstacle(reason, PUT_BACK));
        }
        if self.has_fence()
            && let Some(refusal) = self.column.fence_refusal()?
        {
            let hint = refusal.hint().unwrap_or_default();
            findings.push(ColumnFinding::new(format!("{refusal}, and a run goes without it; {hint}")));
        }
        let open = self.column.run()?;
        let wanted = new_run(job, &Converter::new(&spec, &self.keys, job), 0, self.column.place())?;
        let joined = open.map_or(Ok(()), |open| open.refuse_other(&spec.name, &wanted));
        for refusal in [self.refuse_unsafe(job, options), joined] {
            match refusal {
                Err(Error::Refused { reason, remedy }) => {
                    hindered = true;
                    findings.push(ColumnFinding::new(format!("{reason}; {remedy}")));
                }
                other => other?,
            }
        }
        let select = self.not_current(job)?;
        let converter = Converter::new(&spec, &self.keys, job).limited(options.max_plaintext).afresh();
        let left_over = left(&mut *self.column, &converter, &select, false, options)?;
        let tally = match spec.filter {
            Some(_) => left(&mut *self.column, &converter, &select, true, options)?,
            None => left_over.clone(),
        };
        if let Some(capacity) = self.column.capacity().filter(|capacity| *capacity < tally.longest) {
            hindered = true;
            findings.push(ColumnFinding::obstacle(
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

/// What a row costs a database that is near, beside reading it.
const WRITE: Duration = Duration::from_micros(60);
