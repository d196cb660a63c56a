//! An application's own table, in either database.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::{Client, NoTls};
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};
use vault_core::Context;

use crate::random::Random;

/// Writers of which every row keeps a counter.
pub(crate) const MOST_WRITERS: usize = 3;
/// Rows that all write.
const SHARED: u64 = 30;
/// Rows of each writer alone that it writes rarely, and late: what is left stale in one of them stays so.
const RARE: u64 = 20;
/// Rows of each writer alone.
const OWN: u64 = 30;
/// Rows whose value nobody writes, while another column is.
const STILL: u64 = 60;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Engine {
    Postgres,
    Sqlite,
}

impl Engine {
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name {
            "postgres" => Some(Self::Postgres),
            "sqlite" => Some(Self::Sqlite),
            _ => None,
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        Self::of(name).expect("an engine")
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }

    pub(crate) fn writers(self) -> usize {
        match self {
            Self::Postgres => 3,
            Self::Sqlite => 2,
        }
    }

    pub(crate) fn readers(self) -> usize {
        self.writers()
    }

    /// How many rows there are, with the ids from 1.
    pub(crate) fn rows(self) -> u64 {
        self.still() + STILL
    }

    /// A row whose value nobody writes.
    pub(crate) fn some_still(self, random: &mut Random) -> u64 {
        self.still() + 1 + random.below(STILL)
    }

    /// Milliseconds for which another column's write keeps a row, or the whole database, locked.
    pub(crate) fn longest_touch(self) -> u64 {
        match self {
            Self::Postgres => 250,
            Self::Sqlite => 30,
        }
    }

    /// The last of the rows that are written.
    fn still(self) -> u64 {
        SHARED + self.writers() as u64 * (RARE + OWN)
    }
}

/// The ids of the rows that a writer writes.
pub(crate) struct Rows {
    pub(crate) shared: RangeInclusive<u64>,
    pub(crate) rare: RangeInclusive<u64>,
    pub(crate) own: RangeInclusive<u64>,
}

impl Rows {
    pub(crate) fn of(writer: usize) -> Self {
        let before = SHARED + writer as u64 * (RARE + OWN);
        Self { shared: 1..=SHARED, rare: before + 1..=before + RARE, own: before + RARE + 1..=before + RARE + OWN }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = u64> {
        self.shared.clone().chain(self.rare.clone()).chain(self.own.clone())
    }
}

pub(crate) fn tenant(id: u64) -> u64 {
    id % 7
}

pub(crate) fn name(id: u64) -> String {
    format!("n{id}")
}

/// What the value of a row is sealed for.
pub(crate) fn context(id: u64) -> Context {
    Context::new("user-secret").tenant(tenant(id).to_string()).name(name(id))
}

/// How often each writer has written a row.
pub(crate) type Counters = [u64; MOST_WRITERS];

/// The value of a row, as it is before it is sealed.
pub(crate) fn secret(id: u64, counters: &Counters) -> String {
    format!("row {id}: {}", counters.map(|counter| counter.to_string()).join(","))
}

pub(crate) fn counters(id: u64, secret: &[u8]) -> Option<Counters> {
    let text = std::str::from_utf8(secret).ok()?.strip_prefix(&format!("row {id}: "))?;
    numbers(text)
}

pub(crate) fn numbers(text: &str) -> Option<Counters> {
    let numbers: Vec<u64> = text.split(',').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// The connection is gone, or the database was busy for too long: what was asked last may have been done or not.
#[derive(Debug)]
pub(crate) struct Gone(pub(crate) String);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Update {
    /// The row held something else.
    Conflict,
    Done,
    /// The key of the value is no longer taken.
    Fenced,
}

/// A connection of the application's.
pub(crate) enum Table {
    Postgres(Box<Client>),
    Sqlite(Connection),
}

impl Table {
    /// Connects, as often as it takes while the server restarts.
    pub(crate) fn connect(engine: Engine, directory: &Path) -> Self {
        let started = Instant::now();
        loop {
            let gone = match Self::try_connect(engine, directory) {
                Ok(table) => return table,
                Err(gone) => gone,
            };
            assert!(started.elapsed() < Duration::from_secs(60), "no connection in a minute: {gone:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn try_connect(engine: Engine, directory: &Path) -> Result<Self, Gone> {
        let url = fs::read_to_string(directory.join("url")).unwrap();
        match engine {
            Engine::Postgres => Ok(Self::Postgres(Box::new(Client::connect(&url, NoTls)?))),
            Engine::Sqlite => {
                let connection = Connection::open(url)?;
                connection.busy_timeout(Duration::from_secs(20))?;
                Ok(Self::Sqlite(connection))
            }
        }
    }

    /// Makes the table and its rows.
    pub(crate) fn fill(&mut self, engine: Engine, seal: impl Fn(u64) -> String) {
        match self {
            Self::Postgres(client) => client.batch_execute(
                "CREATE TABLE secrets (id bigint PRIMARY KEY, user_id bigint, name text, touched bigint, v text); CREATE INDEX ON secrets (left(v, 22))",
            ).unwrap(),
            Self::Sqlite(connection) => connection.execute_batch(
                "PRAGMA journal_mode = WAL; CREATE TABLE secrets (id INTEGER PRIMARY KEY, user_id INTEGER, name TEXT, touched INTEGER, v TEXT);
                 CREATE INDEX prefix ON secrets (substr(v, 1, 22))",
            ).unwrap(),
        }
        for id in 1..=engine.rows() {
            let (number, user) = (signed(id), signed(tenant(id)));
            match self {
                Self::Postgres(client) => client
                    .execute("INSERT INTO secrets VALUES ($1, $2, $3, 0, $4)", &[&number, &user, &name(id), &seal(id)])
                    .map(drop)
                    .unwrap(),
                Self::Sqlite(connection) => connection
                    .execute(
                        "INSERT INTO secrets VALUES (?1, ?2, ?3, 0, ?4)",
                        params![number, user, name(id), seal(id)],
                    )
                    .map(drop)
                    .unwrap(),
            }
        }
    }

    pub(crate) fn all(&mut self) -> Result<Vec<(u64, String)>, Gone> {
        const ALL: &str = "SELECT id, v FROM secrets ORDER BY id";
        match self {
            Self::Postgres(client) => {
                let rows = client.query(ALL, &[])?;
                Ok(rows.iter().map(|row| (unsigned(row.get(0)), row.get(1))).collect())
            }
            Self::Sqlite(connection) => {
                let mut all = connection.prepare_cached(ALL)?;
                let rows = all.query_map([], |row| Ok((unsigned(row.get(0)?), row.get(1)?)))?;
                Ok(rows.collect::<Result<_, _>>()?)
            }
        }
    }

    pub(crate) fn one(&mut self, id: u64) -> Result<String, Gone> {
        match self {
            Self::Postgres(client) => {
                Ok(client.query_one("SELECT v FROM secrets WHERE id = $1", &[&signed(id)])?.get(0))
            }
            Self::Sqlite(connection) => Ok(connection
                .prepare_cached("SELECT v FROM secrets WHERE id = ?1")?
                .query_row([id], |row| row.get(0))?),
        }
    }

    /// Writes a value, where `old` is given only over that one. The transaction stays open for a while.
    pub(crate) fn update(&mut self, id: u64, old: Option<&str>, new: &str, open: Duration) -> Result<Update, Gone> {
        match self {
            Self::Postgres(client) => {
                let mut transaction = client.transaction()?;
                let statement = "UPDATE secrets SET v = $1 WHERE id = $2 AND ($3::text IS NULL OR v = $3)";
                match transaction.execute(statement, &[&new, &signed(id), &old]) {
                    Ok(0) => return Ok(Update::Conflict),
                    Ok(_) => {}
                    Err(error) if error.code() == Some(&SqlState::CHECK_VIOLATION) => return Ok(Update::Fenced),
                    Err(error) => return Err(error.into()),
                }
                thread::sleep(open);
                transaction.commit()?;
            }
            Self::Sqlite(connection) => {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let statement = "UPDATE secrets SET v = ?1 WHERE id = ?2 AND (?3 IS NULL OR v = ?3)";
                match transaction.execute(statement, params![new, signed(id), old]) {
                    Ok(0) => return Ok(Update::Conflict),
                    Ok(_) => {}
                    Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                        return Ok(Update::Fenced);
                    }
                    Err(error) => return Err(error.into()),
                }
                thread::sleep(open);
                transaction.commit()?;
            }
        }
        Ok(Update::Done)
    }

    /// Writes another column of a row, which is locked for a while.
    pub(crate) fn touch(&mut self, id: u64, open: Duration) -> Result<(), Gone> {
        match self {
            Self::Postgres(client) => {
                let mut transaction = client.transaction()?;
                transaction.execute("UPDATE secrets SET touched = touched + 1 WHERE id = $1", &[&signed(id)])?;
                thread::sleep(open);
                transaction.commit()?;
            }
            Self::Sqlite(connection) => {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                transaction.execute("UPDATE secrets SET touched = touched + 1 WHERE id = ?1", [signed(id)])?;
                thread::sleep(open);
                transaction.commit()?;
            }
        }
        Ok(())
    }
}

impl From<postgres::Error> for Gone {
    fn from(error: postgres::Error) -> Self {
        Self(error.code().map_or("closed", SqlState::code).to_owned())
    }
}

impl From<rusqlite::Error> for Gone {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.sqlite_error_code().map_or_else(|| "other".to_owned(), |code| format!("{code:?}")))
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap()
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap()
}
