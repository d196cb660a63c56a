//! How far replicas are behind.

use core::time::Duration;
use std::collections::VecDeque;
use std::time::Instant;

use crate::column::ColumnFinding;
use crate::database::postgres::{Client, get, query};
use crate::error::{Error, Result};

/// What a replica that lags is measured by: when the server's log was how long.
///
/// The server's own `replay_lag` alone does not tell: it stands still where a replica does, and is
/// NULL where it never moved.
#[derive(Default)]
pub(super) struct Replicas {
    seen: VecDeque<(Instant, i64)>,
}

impl Replicas {
    /// How far the last of the connected replicas is behind; nothing where there is none.
    pub(super) fn lag(&mut self, client: &mut Client) -> Result<Duration> {
        let rows = query(client, ACTION, STATE, &[])?;
        let (mut lag, mut end, mut last) = (Duration::ZERO, 0, i64::MAX);
        let now = Instant::now();
        for row in &rows {
            let (allowed, written): (bool, i64) = (get(row, 0)?, get(row, 1)?);
            if !allowed {
                return Err(Error::Refused {
                    reason: "the role may not see how far replicas are behind".to_owned(),
                    remedy: "GRANT pg_monitor TO the role of the URL, or run without --max-replica-lag".to_owned(),
                });
            }
            end = written;
            let Some(replayed) = get::<Option<i64>>(row, 2)? else { continue };
            last = last.min(replayed);
            if replayed >= written {
                continue;
            }
            let told = get::<Option<f64>>(row, 3)?.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let since = self.seen.iter().find(|(_, length)| *length > replayed).map(|(when, _)| now - *when);
            lag = lag.max(told.unwrap_or_default()).max(since.unwrap_or_default());
        }
        // What every replica has is of no further use. At a steady rate the rest is a few minutes long.
        while self.seen.front().is_some_and(|(_, length)| *length <= last) {
            self.seen.pop_front();
        }
        let is_new = self.seen.back().is_none_or(|(when, length)| *length < end && now - *when >= APART);
        if last < i64::MAX && is_new && self.seen.len() < MOST {
            self.seen.push_back((now, end));
        }
        Ok(lag)
    }
}

/// That the server has replicas, which every row that is written goes to.
pub(super) fn finding(client: &mut Client) -> Result<Option<ColumnFinding>> {
    let rows = query(client, ACTION, "SELECT count(*) FROM pg_catalog.pg_stat_replication", &[])?;
    let count: i64 = rows.first().map_or(Ok(0), |row| get(row, 0))?;
    Ok((count > 0).then(|| {
        ColumnFinding::new(format!(
            "replicas that follow the server: {count}; every row that is written goes to each, and --max-replica-lag keeps a run from outrunning them"
        ))
    }))
}

/// Whether the role sees it, the end of the log, and how far and how long ago each replica was there.
/// A copy that is being made replays nothing.
const STATE: &str = "
    SELECT pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'), (pg_catalog.pg_current_wal_flush_lsn() - '0/0')::int8,
           (r.replay_lsn - '0/0')::int8, extract(epoch FROM r.replay_lag)::float8
    FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_stat_replication r ON r.state IS DISTINCT FROM 'backup'";

const ACTION: &str = "look at the replicas";
/// How far apart lengths are noted.
const APART: Duration = Duration::from_millis(50);
const MOST: usize = 10_000;
