//! Values in an application's own tables: what rotation needs of a database.

mod fence;
#[cfg(feature = "postgres")]
mod postgres;
mod session;
#[cfg(feature = "sqlite")]
mod sqlite;

use core::fmt::Write as _;
use core::time::Duration;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::hex;
use crate::key::KeyId;
use crate::time::Timestamp;

pub use crate::column_spec::{Cell, ColumnFinding, ColumnSpec, ContextTemplate};
pub use fence::Fence;
#[cfg(feature = "postgres")]
pub use postgres::PostgresColumn;
pub use session::Session;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteColumn;

/// Values in an application's own table.
///
/// Rows are visited in the order of their key, page by page. A page is read outside of any
/// transaction; what is written is compared with the value that was read, and changed together
/// with the record of how far the run is.
pub trait Column: Send {
    /// How the column was declared.
    fn spec(&self) -> &ColumnSpec;

    /// Which database it is in. Columns of equal databases share a connection, and a transaction.
    fn database(&self) -> &str;

    /// Which table was found, so that another one of the same name is told from it.
    fn place(&self) -> String {
        self.spec().table.clone()
    }

    /// Whether it can be changed in one transaction with others of its database. A store cannot,
    /// and need not: nobody reads one without this library.
    fn transactional(&self) -> bool {
        true
    }

    /// Whether the table looks as declared, and what people should know about it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] or [`Error::Database`] where it could not be worked on safely.
    fn check(&mut self) -> Result<Vec<ColumnFinding>>;

    /// Counts values by what they begin with, in one pass.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn survey(&mut self) -> Result<Survey>;

    /// Counts the tokens and wrapped keys under `kids`, where that takes no look at every row but
    /// only at an index. None where the database cannot tell so.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn count_under(&mut self, kids: &[KeyId]) -> Result<Option<u64>> {
        let _ = kids;
        Ok(None)
    }

    /// The most characters that a value may have, where the database says so.
    fn capacity(&self) -> Option<usize> {
        None
    }

    /// How far the replica that is furthest behind is behind the database, in time. None where the
    /// database has no replicas by itself.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where that cannot be seen; [`Error::Database`].
    fn replica_lag(&mut self) -> Result<Option<Duration>> {
        Ok(None)
    }

    /// The next rows, at most as many as asked for and fewer where values are long. None are left
    /// when none are returned.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn read(&mut self, page: &Page<'_>) -> Result<Vec<Row>>;

    /// Writes a batch in one transaction, or inside the exclusive one: each value only where it
    /// still is what was read. Where one row fails, the others are written.
    ///
    /// # Errors
    ///
    /// [`Error::Temporary`] if the database stays locked or the run was forgotten meanwhile; what
    /// the guard of `progress` says; [`Error::Database`]. Nothing of the batch is written then.
    fn write(&mut self, changes: &[RowChange], progress: &Progress<'_>) -> Result<Written>;

    /// Begins a transaction that nobody else can write beside.
    ///
    /// # Errors
    ///
    /// [`Error::Temporary`] if somebody else uses the database.
    fn begin_exclusive(&mut self) -> Result<()>;

    /// Ends the exclusive transaction and keeps what was done.
    ///
    /// # Errors
    ///
    /// [`Error::Database`]; nothing was changed then. [`Error::CommitUnknown`].
    fn commit(&mut self) -> Result<()>;

    /// Ends the exclusive transaction and undoes what was done.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn rollback(&mut self) -> Result<()>;

    /// The open run, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn run(&mut self) -> Result<Option<Run>>;

    /// Records a run, or joins the open one of the same job and target.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] while a run of another job or target is open.
    fn open_run(&mut self, run: &Run) -> Result<Run>;

    /// Forgets the open run, and removes what it was recorded in when it was the last.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn close_run(&mut self) -> Result<()>;

    /// Lists the rows that fail, and why, in place of those that were listed before: a whole pass
    /// of the run met these. Does nothing if the run is closed.
    ///
    /// # Errors
    ///
    /// [`Error::Temporary`] if the database stays locked; [`Error::Database`].
    fn list_failures(&mut self, run: &str, failed: &[(RowKey, String)]) -> Result<()>;

    /// The rows that failed when the open run met them last, and why.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn failures(&mut self) -> Result<Vec<(RowKey, String)>>;

    /// What keeps a fence against `kids` from being put up.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn fence_obstacle(&mut self, kids: &[KeyId]) -> Result<Option<Error>>;

    /// Makes the database refuse values under the keys of `fence` from now on, in place of any fence
    /// before. One that stands already is not put up again.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with what [`fence_obstacle`](Self::fence_obstacle) finds, asked again in
    /// the transaction.
    fn fence(&mut self, fence: &Fence) -> Result<()>;

    /// The fence that stands, exactly as [`fence`](Self::fence) puts it up; one without keys where
    /// there is none, or where anything of it is missing or another.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn standing_fence(&mut self) -> Result<Fence>;

    /// The keys that the database refuses.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn fenced(&mut self) -> Result<Vec<KeyId>> {
        Ok(self.standing_fence()?.kids)
    }

    /// Has the database prove by itself, where it can, that no value is beyond the fence.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if some value is.
    fn prove_fence(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes the fence down.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn unfence(&mut self) -> Result<()>;

    /// Who else has the database open, as far as that can be seen.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn sessions(&mut self) -> Result<Vec<Session>> {
        Ok(Vec::new())
    }

    /// What keeps any fence from being put up, whatever the rows are.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn fence_refusal(&mut self) -> Result<Option<Error>> {
        Ok(None)
    }

    /// Waits until no transaction of others is open that is open now; false where the database does not
    /// show who writes.
    ///
    /// # Errors
    ///
    /// [`Error::Temporary`] naming those that are still open after `patience`; [`Error::Database`].
    fn await_writers(&mut self, patience: Duration) -> Result<bool> {
        let _ = patience;
        Ok(false)
    }

    /// Lets the database tidy up after a run.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    fn finish(&mut self) -> Result<()>;
}

/// What identifies a row: the values of the columns that `row` declares. Not secret.
#[derive(Clone, Default, PartialEq)]
pub struct RowKey(Vec<Cell>);

impl RowKey {
    pub(crate) fn new(cells: Vec<Cell>) -> Self {
        Self(cells)
    }

    pub(crate) fn cells(&self) -> &[Cell] {
        &self.0
    }

    /// A text from which [`parse`](Self::parse) makes the same key: `["i7", "t…"]`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let cells = self.0.iter().map(|cell| match cell {
            Cell::Blob(bytes) => format!("b{}", hex::encode(bytes)),
            Cell::Integer(number) => format!("i{number}"),
            Cell::Null => "n".to_owned(),
            Cell::Real(number) => format!("r{:016x}", number.to_bits()),
            Cell::Text(text) => format!("t{text}"),
        });
        json!(cells.collect::<Vec<_>>()).to_string()
    }

    /// Reads what [`to_text`](Self::to_text) wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let Value::Array(cells) = serde_json::from_str(text).ok()? else { return None };
        let cell = |text: &Value| -> Option<Cell> {
            let text = text.as_str()?;
            let rest = text.get(1..)?;
            Some(match text.get(..1)? {
                "b" => {
                    let pairs = rest.as_bytes().chunks(2).map(|pair| match *pair {
                        [high, low] => hex::byte(high, low),
                        _ => None,
                    });
                    Cell::Blob(pairs.collect::<Option<_>>()?)
                }
                "i" => Cell::Integer(rest.parse().ok()?),
                "n" => Cell::Null,
                "r" => Cell::Real(f64::from_bits(u64::from_str_radix(rest, 16).ok()?)),
                "t" => Cell::Text(rest.to_owned()),
                _ => return None,
            })
        };
        cells.iter().map(cell).collect::<Option<_>>().map(Self)
    }
}

impl core::fmt::Display for RowKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (place, cell) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            match cell {
                Cell::Blob(bytes) => write!(f, "x'{}'", hex::encode(bytes))?,
                Cell::Integer(number) => write!(f, "{number}")?,
                Cell::Null => f.write_str("null")?,
                Cell::Real(number) => write!(f, "{number}")?,
                Cell::Text(text) => text.escape_debug().try_for_each(|c| f.write_char(c))?,
            }
        }
        Ok(())
    }
}

impl core::fmt::Debug for RowKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "RowKey({self})")
    }
}

/// One row: its key, its value, and the cells that contexts are made of.
#[derive(Clone, Debug)]
pub struct Row {
    /// What identifies it.
    pub key: RowKey,
    /// The value. What cannot be a sealed value, a number for example, is read as a byte that no
    /// format begins with: such a row is listed, and never written.
    pub value: Cell,
    names: Arc<[String]>,
    cells: Vec<Cell>,
}

impl Row {
    pub(crate) fn new(key: RowKey, value: Cell, names: Arc<[String]>, cells: Vec<Cell>) -> Self {
        Self { key, value, names, cells }
    }

    /// Bytes in all its cells.
    pub(crate) fn len(&self) -> usize {
        self.key.0.iter().chain(&self.cells).chain([&self.value]).map(|cell| cell.as_bytes().len()).sum()
    }

    /// The context of the value, by a template whose columns were read.
    pub(crate) fn context(&self, template: &ContextTemplate) -> Result<Context> {
        template.build(&|name| {
            let at = self.names.iter().position(|known| known == name)?;
            self.cells.get(at)
        })
    }
}

/// Which rows are read next.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Which values.
    pub select: &'a Selection,
    /// Whether rows outside the column's `filter` are left out.
    pub filtered: bool,
    /// Further columns whose cells are read, for contexts.
    pub columns: &'a Arc<[String]>,
    /// Only rows behind this one.
    pub after: Option<&'a RowKey>,
    /// At most so many.
    pub limit: usize,
}

/// Which values are of interest.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Selection {
    /// Every value that is neither NULL nor empty.
    All,
    /// Every value but those whose first 22 characters are one of these. Takes a scan.
    Except(Vec<String>),
    /// Values whose first 22 characters are one of these.
    Prefixes(Vec<String>),
}

/// A value to be replaced. The new one is stored in the class of the old one.
#[derive(Clone, Debug)]
pub struct RowChange {
    /// Which row.
    pub key: RowKey,
    /// What was read.
    pub old: Cell,
    /// What it becomes.
    pub new: String,
}

/// The record of a batch.
#[derive(Clone, Copy)]
pub struct Progress<'a> {
    /// The run that it belongs to.
    pub run: &'a str,
    /// The last row of the batch; none where the run's cursor stays as it is.
    pub cursor: Option<&'a RowKey>,
    /// Rows that could not be converted, and why.
    pub failed: &'a [(RowKey, String)],
    /// Whether rows that somebody else has locked are waited for. Otherwise they may be passed over
    /// and counted as lost.
    pub waits: bool,
    /// Whether the batch may be written at all, asked inside its transaction before it is
    /// committed.
    pub guard: &'a dyn Fn() -> Result<()>,
    /// Does a little of other work, and tells whether there is more of it: for the time that the
    /// database takes. Nobody has to call it.
    pub beside: &'a (dyn Fn() -> bool + Sync),
}

impl core::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Progress").field("run", &self.run).field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

/// What became of a batch.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Values replaced.
    pub rewritten: u64,
    /// Rows that were not replaced, because they are not what was read, or somebody else has them locked.
    pub lost: u64,
    /// Of these, rows that hold by now what was to be written: somebody else moved them.
    pub moved: u64,
    /// Of these, rows that still are what was read.
    pub held: u64,
    /// Rows that the database refused, and why.
    pub failed: Vec<(RowKey, String)>,
}

impl Written {
    /// Counts a row that somebody else moved.
    #[cfg(feature = "sqlite")]
    fn add_moved(&mut self) {
        self.lost += 1;
        self.moved += 1;
    }
}

/// How many values begin with what.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Survey {
    /// Tokens and wrapped keys by their first 22 characters.
    pub tokens: Vec<(String, u64)>,
    /// All other values.
    pub other: u64,
    /// NULL and empty values, which hold no secret.
    pub empty: u64,
}

/// A run of a job over a column, as the database remembers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// A random name.
    pub id: String,
    /// What is done: rotate, rotate-deep, migrate or reseal.
    pub job: String,
    /// What values become: format and key id.
    pub target: String,
    /// The [`place`](Column::place) of the column when it began.
    pub place: String,
    /// How many rows the table had then.
    pub rows: u64,
    /// The generation of the keyring when it began.
    pub generation: u64,
    /// How far it is: a hint that only saves time, but in a deep rotation what is not sealed again.
    pub cursor: Option<RowKey>,
    /// Values replaced so far.
    pub rewritten: u64,
    /// Values that somebody else changed in between.
    pub lost: u64,
    /// When it began.
    pub started: Timestamp,
    /// When its last batch was written.
    pub heartbeat: Timestamp,
}

/// A text that a database kept of ours, of which others may have made another: on one line, and without
/// anything that a terminal obeys.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
fn of_one_line(text: &str) -> String {
    let unseen = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || unseen(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

impl Run {
    /// Refuses to join `self`, the open run over `column`, with a run of another job or target.
    pub(crate) fn refuse_other(&self, column: &str, other: &Self) -> Result<()> {
        self.refuse_elsewhere(column, &other.place)?;
        if (&self.job, &self.target) == (&other.job, &other.target) {
            return Ok(());
        }
        Err(Error::Refused {
            reason: format!("column {column} has an open run of {} to {}", self.job, self.target),
            remedy: "finish it, or forget it with `vault rotate abort`".to_owned(),
        })
    }
}

impl Run {
    /// Refuses `self`, the open run over `column`, where that is in another table by now.
    pub(crate) fn refuse_elsewhere(&self, column: &str, place: &str) -> Result<()> {
        if self.place == place {
            return Ok(());
        }
        Err(Error::Refused {
            reason: format!(
                "the open run over column {column} is over {} rows of {}, and vault.toml means {place} now",
                self.rows, self.place
            ),
            remedy: "see which table is meant; `vault rotate abort` forgets the run".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn row_keys_read_back(text in ".*", number: i64, real: f64, bytes: Vec<u8>) {
            let key = RowKey(vec![Cell::Text(text), Cell::Integer(number), Cell::Real(real), Cell::Blob(bytes), Cell::Null]);
            prop_assert_eq!(RowKey::parse(&key.to_text()).map(|read| read.to_text()), Some(key.to_text()));
        }

        #[test]
        fn no_text_makes_the_row_key_parser_panic(text in ".*") {
            let _ = RowKey::parse(&text);
            let _ = RowKey::parse(&json!([text]).to_string());
        }
    }
}
