//! What a column holds, by format and key, and the proof that a key may go.

use std::collections::BTreeMap;

use crate::column::{Page, Row, RowKey, Selection};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::key::KeyId;
use crate::keyring::{KeyState, Retired};
use crate::token;

use super::Target;
use super::attention::PUT_BACK;
use super::batch::MAX_LISTED;
use super::convert::{Converter, Job, Recognised, reason};

/// Rows read at a time while counting.
const PAGE: usize = 1_000;

/// What one column holds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ColumnCount {
    /// The column.
    pub column: String,
    /// Its table.
    pub table: String,
    /// Which table was found under that name.
    pub place: String,
    /// The format that it is written in.
    pub writes: Format,
    /// Values by format and key.
    pub by: BTreeMap<Recognised, u64>,
    /// Values that did not open, all of them.
    pub failed: u64,
    /// The first thousand of these, and why.
    pub failures: Vec<(RowKey, String)>,
    /// Values that a rotation has to move: tokens under a key that is not primary, and in a
    /// column that writes a legacy format whatever else is sealed.
    pub stale: u64,
    /// Values in a legacy format in a column that writes tokens, and plain text.
    pub unmigrated: u64,
    /// Whether the rows may never be updated, so that stale ones keep their key.
    pub immutable: bool,
    /// NULL and empty values, which hold no secret.
    pub empty: u64,
    /// Of the values that do not open, those that name a key, and the key's state; none where the
    /// keyring does not list it.
    pub closed: BTreeMap<KeyId, (Option<KeyState>, u64)>,
    /// The keys that the database refuses to take.
    pub fenced: Vec<KeyId>,
    /// Whether that fence is on a table of somebody whom the role does not act for.
    pub fence_is_of_others: bool,
    /// Keys that open nothing any more and that the database takes all the same.
    pub unfenced: Vec<KeyId>,
    /// How the database knows newer states of the keyring than those that were loaded, if it does.
    pub rolled_back: Option<String>,
    /// Whether the database can be made to refuse keys here.
    pub has_fence: bool,
    /// Whether every value was opened; otherwise tokens were counted by the key that they name.
    pub opened: bool,
}

impl ColumnCount {
    /// Values that name `kid` or open under it, whatever their format.
    #[must_use]
    pub fn under(&self, kid: KeyId) -> u64 {
        let open = self.by.iter().filter(|(recognised, _)| recognised.kid == Some(kid)).map(|(_, rows)| rows);
        open.sum::<u64>() + self.closed.get(&kid).map_or(0, |(_, rows)| *rows)
    }

    /// Whether values under `kid` are in a format from which only a migration takes them: tokens
    /// where none are written, or the other way round.
    fn to_migrate(&self, kid: KeyId) -> bool {
        let is_token = |format| format == Format::Vs1;
        self.by.keys().any(|found| found.kid == Some(kid) && is_token(found.format) != is_token(self.writes))
    }

    /// All values.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.by.values().sum::<u64>() + self.failed
    }
}

/// The result of opening every value of every column.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verification {
    /// Column by column.
    pub columns: Vec<ColumnCount>,
    generation: u64,
    covers: Option<String>,
}

impl Verification {
    pub(super) fn new(columns: Vec<ColumnCount>, generation: u64, covers: Option<String>) -> Self {
        Self { columns, generation, covers }
    }

    /// Whether there are columns, nothing is stale and nothing failed. Stale rows of immutable
    /// columns are pinned and do not count.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let clean = |column: &ColumnCount| {
            column.failed == 0 && (column.stale == 0 || column.immutable) && column.rolled_back.is_none()
        };
        !self.columns.is_empty() && self.columns.iter().all(clean)
    }

    /// Values in a legacy format in columns that write tokens: each opens, and has to be migrated.
    #[must_use]
    pub fn unmigrated(&self) -> u64 {
        self.columns.iter().map(|column| column.unmigrated).sum()
    }

    /// The proof that no value needs `kid` and none can come to need it, which disabling it demands.
    ///
    /// # Errors
    ///
    /// As [`unneeded`](Self::unneeded), and [`Error::Refused`] where a column was not fenced against
    /// the key before its values were counted.
    pub fn retired(&self, kid: KeyId) -> Result<Retired> {
        let keyring_id = self.unneeded(kid)?;
        // No database can tell which key a value of a legacy format is under.
        let open = |column: &&ColumnCount| column.has_fence && kid.letter() != 'f' && !column.fenced.contains(&kid);
        let of_others = |column: &&ColumnCount| column.has_fence && column.fence_is_of_others;
        if let Some(column) = self.columns.iter().find(of_others) {
            return Err(Error::Refused {
                reason: format!(
                    "the fence of column {} is on a table of somebody whom this role does not act for",
                    column.column
                ),
                remedy: "see that vault.toml names the schema of the table, and connect as the owner of the table"
                    .to_owned(),
            });
        }
        if let Some(column) = self.columns.iter().find(open) {
            return Err(Error::Refused {
                reason: format!("the database still takes values under key {kid} in column {}", column.column),
                remedy: "run `vault rotate fence`, then try again".to_owned(),
            });
        }
        Ok(Retired::new(kid, keyring_id.to_owned(), self.generation))
    }

    /// Whether no value needs `kid` now. Returns the id of its keyring.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], naming column and count, while a value is under the key or cannot be
    /// told to be under another; and if other columns than these may use the keyring.
    pub fn unneeded(&self, kid: KeyId) -> Result<&str> {
        for column in &self.columns {
            if let Some(reason) = &column.rolled_back {
                let reason = format!("column {}: {reason}", column.column);
                return Err(Error::Refused { reason, remedy: PUT_BACK.to_owned() });
            }
            let under = column.under(kid);
            if under > 0 {
                let kept = if column.immutable { " and may never be updated" } else { "" };
                return Err(Error::Refused {
                    reason: format!(
                        "column {} holds {under} values under key {kid} in table {}{kept}",
                        column.column, column.table
                    ),
                    remedy: if column.immutable {
                        "keep the key: without it these values cannot be read".to_owned()
                    } else if column.closed.contains_key(&kid) {
                        format!("run `vault key enable {kid}` and `vault rotate run`, then try again")
                    } else if column.to_migrate(kid) {
                        format!("run `vault migrate {} --to {}`, then try again", column.column, column.writes)
                    } else {
                        "run `vault rotate run`, then try again".to_owned()
                    },
                });
            }
            if column.failed > 0 {
                return Err(Error::Refused {
                    reason: format!(
                        "column {} holds {} values that open under no loaded key",
                        column.column, column.failed
                    ),
                    remedy: "find their key or repair them; `vault rotate verify` lists them".to_owned(),
                });
            }
        }
        self.covers.as_deref().ok_or_else(|| Error::Refused {
            reason: format!("not every column that may hold a value under key {kid} was verified"),
            remedy: "verify all columns that use the keyring, which must have a state file".to_owned(),
        })
    }
}

impl Target {
    /// Counts values by format and key; tokens by their first characters unless `open_all`.
    pub(super) fn count(&mut self, open_all: bool) -> Result<ColumnCount> {
        let spec = self.column.spec().clone();
        let survey = self.column.survey()?;
        // Before values are counted: what a fence does not refuse yet may follow the count.
        let fence = self.column.standing_fence()?;
        let mut count = ColumnCount {
            column: spec.name.clone(),
            table: spec.table.clone(),
            place: self.column.place(),
            writes: spec.writes,
            by: BTreeMap::new(),
            failed: 0,
            failures: Vec::new(),
            stale: 0,
            unmigrated: 0,
            immutable: spec.immutable,
            empty: survey.empty,
            closed: BTreeMap::new(),
            fence_is_of_others: fence.is_of_others,
            unfenced: self.retired_keys_beyond(&fence),
            rolled_back: self.states_behind(&fence),
            fenced: fence.kids,
            has_fence: self.has_fence(),
            opened: open_all,
        };
        let job = Job::Rotate;
        let converter = Converter::new(&spec, &self.keys, &job);
        if !open_all {
            for (prefix, rows) in &survey.tokens {
                let kid = token::kid_of(prefix.as_bytes());
                if kid.is_some_and(|kid| converter.opens_under(kid)) {
                    *count.by.entry(Recognised { format: Format::Vs1, kid }).or_default() += rows;
                } else {
                    count.failed += rows;
                    if let Some(kid) = kid {
                        count.add_closed(kid, self.state_of(kid), *rows);
                    }
                }
            }
        }
        if open_all || survey.other > 0 {
            let columns = spec.context.columns().into();
            let mut after = None;
            // Tokens that were counted are not sent.
            let counted = survey.tokens.into_iter().map(|(prefix, _)| prefix).collect();
            let select = if open_all { Selection::All } else { Selection::Except(counted) };
            loop {
                let page =
                    Page { select: &select, filtered: false, columns: &columns, after: after.as_ref(), limit: PAGE };
                let rows = self.column.read(&page)?;
                let Some(last) = rows.last() else { break };
                after = Some(last.key.clone());
                for row in rows {
                    if open_all || !is_token(&row) {
                        count.add(&converter, |kid| self.state_of(kid), row);
                    }
                }
            }
        }
        let current = Recognised { format: converter.goal(), kid: converter.target().ok() };
        for (recognised, rows) in &count.by {
            match recognised.format {
                _ if *recognised == current => {}
                Format::Vs1 => count.stale += rows,
                Format::Plaintext => count.unmigrated += rows,
                _ if current.format == Format::Vs1 => count.unmigrated += rows,
                _ => count.stale += rows,
            }
        }
        Ok(count)
    }
}

impl ColumnCount {
    fn add(&mut self, converter: &Converter<'_>, state_of: impl Fn(KeyId) -> Option<KeyState>, row: Row) {
        match converter.recognise(&row) {
            Ok(recognised) => *self.by.entry(recognised).or_default() += 1,
            Err(error) => {
                self.failed += 1;
                if let Error::KeyDisabled { kid }
                | Error::KeyDestroyed { kid, .. }
                | Error::KeyUnavailable { kid }
                | Error::UnknownKey { kid } = error
                {
                    self.add_closed(kid, state_of(kid), 1);
                }
                if self.failures.len() < MAX_LISTED {
                    self.failures.push((row.key, reason(&error)));
                }
            }
        }
    }

    fn add_closed(&mut self, kid: KeyId, state: Option<KeyState>, rows: u64) {
        self.closed.entry(kid).or_insert((state, 0)).1 += rows;
    }
}

fn is_token(row: &Row) -> bool {
    let value = row.value.as_bytes();
    token::MAGICS.iter().any(|magic| value.starts_with(magic.as_bytes()))
}
