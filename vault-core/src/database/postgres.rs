//! PostgreSQL: connections whose every statement is in a transaction that says how it is run, so
//! that nothing is asked of the session and a pooler may give each transaction to another one.

mod client;
mod failure;
mod tls;

use core::fmt::Write as _;
use core::mem::ManuallyDrop;
use core::time::Duration;
use std::net::ToSocketAddrs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::runtime::Handle;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Config, NoTls, Row};

use crate::error::{Error, Result};

use super::Access;
use super::url::{Host, Mode, PostgresUrl};

use client::ConnectError;

pub(crate) use client::{Client, runs_tasks};
pub(crate) use failure::{failed, is_answer, is_fault_of_row, is_held, reason};

/// A value and the type that it is sent as: statements are never prepared by name.
pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// How long the statements of a transaction may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Patience {
    /// As long as a look at every row takes.
    Endless,
    /// As long as a whole run takes, which may do other work between two statements.
    Exclusive,
    /// As long as a batch may keep rows locked.
    Short,
}

/// A connection to an application's database, shared by the columns that are in it.
///
/// It blocks, on an async runtime of its own, and is not to be used on a thread that runs the tasks of
/// another one; by `spawn_blocking` it may be. It is opened again where it was lost between
/// transactions, and after `fork()`.
#[derive(Clone)]
pub struct PostgresDatabase {
    name: Arc<str>,
    url: PostgresUrl,
    access: Access,
    session: Arc<Mutex<Session>>,
}

impl PostgresDatabase {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] if the server cannot be reached, does not prove who it is, or does not
    /// let the user in; [`Error::Refused`] for a standby, which would not show what is current.
    pub fn open(url: &PostgresUrl, access: Access) -> Result<Self> {
        let database = Self {
            name: url.to_string().into(),
            url: url.clone(),
            access,
            session: Arc::new(Mutex::new(Session { connected: None, open: false, exclusive: false })),
        };
        database.transact(Patience::Short, |_| Ok(()))?;
        Ok(database)
    }

    /// Its URL without the password and without parameters.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &PostgresUrl {
        &self.url
    }

    /// Another view of the same connection, for tables that are looked up by another URL.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the other URL asks for another connection: by other means of encryption,
    /// or with other `options`, which may name another schema.
    pub fn for_url(&self, url: &PostgresUrl) -> Result<Self> {
        let [this, other] = [self.url.address(), url.address()];
        if (&this.tls, this.bound) != (&other.tls, other.bound) {
            return Err(Error::Refused {
                reason: format!("two URLs of {} demand different encryption", self.name),
                remedy: "give both the same sslmode, channel_binding and certificates".to_owned(),
            });
        }
        if this.options != other.options {
            return Err(Error::Refused {
                reason: format!("two URLs of {} have different options", self.name),
                remedy: "give both the same, and name schemas in `table` or with ?schema=".to_owned(),
            });
        }
        Ok(Self { url: url.clone(), ..self.clone() })
    }

    /// Whether it may be changed.
    pub(crate) fn writes(&self) -> bool {
        self.access == Access::Write
    }

    /// Whether the exclusive transaction is open.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.lock().exclusive
    }

    /// Runs `work` in a transaction of its own, or inside the exclusive one. Where it fails, its
    /// transaction is undone; the exclusive one can then only be undone, too.
    pub(crate) fn transact<T>(&self, patience: Patience, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<T> {
        self.transact_behind(patience, "", work)
    }

    /// [`transact`](Self::transact) behind the statements `opening`, which go to the server together
    /// with those that begin the transaction.
    pub(crate) fn transact_behind<T>(
        &self,
        patience: Patience,
        opening: &str,
        work: impl FnOnce(&mut Client) -> Result<T>,
    ) -> Result<T> {
        let mut session = self.lock();
        let fail = |error: tokio_postgres::Error| failed(format!("use {}", self.name), &error);
        if session.exclusive {
            let client = session.client(self)?;
            if !opening.is_empty() {
                client.batch_execute(opening).map_err(fail)?;
            }
            return work(client);
        }
        session.begin(self, patience, opening)?;
        let client = session.client(self)?;
        match work(client) {
            Ok(done) => match client.batch_execute("COMMIT") {
                Ok(()) => {
                    session.open = false;
                    Ok(done)
                }
                Err(error) => {
                    session.undo();
                    Err(fail(error))
                }
            },
            Err(error) => {
                session.undo();
                Err(error)
            }
        }
    }

    /// Begins the transaction that all further work is done in until it is ended.
    pub(crate) fn begin_exclusive(&self) -> Result<()> {
        let mut session = self.lock();
        session.begin(self, Patience::Exclusive, "")?;
        session.exclusive = true;
        Ok(())
    }

    /// Ends the exclusive transaction: `COMMIT` keeps it.
    pub(crate) fn end_exclusive(&self, keep: bool) -> Result<()> {
        let mut session = self.lock();
        if !core::mem::take(&mut session.exclusive) {
            return Ok(());
        }
        if !keep {
            session.undo();
            return Ok(());
        }
        let fail = |error: tokio_postgres::Error| failed(format!("commit to {}", self.name), &error);
        let client = session.client(self)?;
        // A transaction that failed answers COMMIT with ROLLBACK, and no error.
        if let Err(error) = client.query_typed_one("SELECT true", &[]) {
            session.undo();
            return Err(fail(error));
        }
        let Err(error) = client.batch_execute("COMMIT") else {
            session.open = false;
            return Ok(());
        };
        session.undo();
        Err(if is_answer(&error) { fail(error) } else { Error::CommitUnknown { location: self.name.to_string() } })
    }

    fn lock(&self) -> MutexGuard<'_, Session> {
        // Whatever state a panic of another thread left: the next transaction finds out.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn preamble(&self, patience: Patience) -> String {
        let mode = match self.access {
            Access::Read => "READ ONLY",
            Access::Write => "READ WRITE",
        };
        // Who is not heard from any more, a machine that lost its power for one, keeps nothing locked.
        let (timeout, idle) = match patience {
            Patience::Endless => ("0", "'60s'"),
            Patience::Exclusive => {
                ("0", "0; SET LOCAL tcp_keepalives_idle = 60; SET LOCAL tcp_keepalives_interval = 10")
            }
            Patience::Short => ("30s", "'60s'"),
        };
        // A policy then is an error, and does not hide rows.
        let mut text = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED {mode}; SET LOCAL row_security = off; SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '{timeout}'; SET LOCAL idle_in_transaction_session_timeout = {idle}"
        );
        // Texts of row keys read back as what they are.
        text.push_str(
            "; SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL extra_float_digits = 1",
        );
        // Whatever a pooled session was told by others.
        let schemas: Vec<_> = self.url.address().schemas.iter().map(|schema| quoted(schema)).collect();
        let schemas = if schemas.is_empty() { "DEFAULT".to_owned() } else { schemas.join(", ") };
        let _ = write!(text, "; SET LOCAL search_path = {schemas}");
        text
    }
}

impl core::fmt::Debug for PostgresDatabase {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("PostgresDatabase").field(&self.name).finish()
    }
}

/// The connection of a process to the database of its store, made when it is first used.
#[derive(Clone, Debug)]
pub(crate) struct SharedConnection {
    url: PostgresUrl,
    connected: Arc<Mutex<Option<PostgresDatabase>>>,
}

impl SharedConnection {
    pub(crate) fn new(url: PostgresUrl) -> Self {
        Self { url, connected: Arc::default() }
    }

    pub(crate) fn url(&self) -> &PostgresUrl {
        &self.url
    }

    pub(crate) fn database(&self) -> Result<PostgresDatabase> {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*connected {
            return Ok(database.clone());
        }
        let database = PostgresDatabase::open(&self.url, Access::Write)?;
        *connected = Some(database.clone());
        Ok(database)
    }
}

struct Session {
    /// The connection and the process that opened it: it does not survive a fork.
    connected: Option<(u32, Client)>,
    /// Whether a transaction is open. One that a panic left open ends with its connection.
    open: bool,
    exclusive: bool,
}

impl Session {
    fn client(&mut self, database: &PostgresDatabase) -> Result<&mut Client> {
        match &mut self.connected {
            Some((_, client)) => Ok(client),
            None => Err(Error::Temporary {
                reason: format!("the connection to {} was lost", database.name),
                remedy: "run the command again".to_owned(),
            }),
        }
    }

    /// Begins a transaction, on a new connection where there is none that works.
    fn begin(&mut self, database: &PostgresDatabase, patience: Patience, opening: &str) -> Result<()> {
        if runs_tasks() {
            return Err(Error::Refused {
                reason: format!("use {} on a thread of an async runtime, which it would block", database.name),
                remedy: "call it where blocking is allowed, with `spawn_blocking` for example".to_owned(),
            });
        }
        let process = std::process::id();
        let mut preamble = database.preamble(patience);
        if !opening.is_empty() {
            let _ = write!(preamble, "; {opening}");
        }
        let unusable = |(owner, client): &(u32, Client)| *owner != process || client.is_closed();
        if core::mem::replace(&mut self.open, true) || self.connected.as_ref().is_some_and(unusable) {
            self.abandon();
        }
        if let Some((_, client)) = &mut self.connected {
            match client.batch_execute(&preamble) {
                Ok(()) => return Ok(()),
                // The server may have closed it meanwhile.
                Err(_) => self.abandon(),
            }
        }
        let mut client = connect(&database.url)?;
        refuse_standby(&mut client, database)?;
        let begun = client.batch_execute(&preamble);
        begun.map_err(|error| failed(format!("use {}", database.name), &error))?;
        self.connected = Some((process, client));
        Ok(())
    }

    /// Undoes the open transaction, and where that fails gives up the connection, which undoes it.
    fn undo(&mut self) {
        self.open = false;
        if let Some((_, client)) = &mut self.connected
            && client.batch_execute("ROLLBACK").is_err()
        {
            self.abandon();
        }
    }

    fn abandon(&mut self) {
        match self.connected.take() {
            // To close what the parent opened would end the parent's session.
            Some((owner, client)) if owner != std::process::id() => core::mem::forget(client),
            // A thread of an async runtime may not wait for the goodbye.
            Some((_, client)) if Handle::try_current().is_ok() => {
                // Where there is no other thread, it stays open as long as the process.
                let client = ManuallyDrop::new(client);
                drop(thread::Builder::new().spawn(|| drop(ManuallyDrop::into_inner(client))));
            }
            other => drop(other),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.abandon();
    }
}

fn connect(url: &PostgresUrl) -> Result<Client> {
    let (name, url) = (url, url.address());
    let action = || format!("connect to {name}");
    let mut config = Config::new();
    config.port(url.port).connect_timeout(url.connect_timeout).application_name(&url.application_name);
    match &url.host {
        Host::Directory(path) => {
            config.host_path(path);
        }
        Host::Name(name) => {
            // Found here, because the driver would start a thread for it.
            let addresses: Vec<_> = match url.ip {
                Some(ip) => vec![ip],
                None => {
                    let found = (name.as_str(), url.port).to_socket_addrs().map_err(|error| Error::Database {
                        action: action(),
                        reason: format!("the host is not found: {}", error.kind()),
                    })?;
                    found.map(|address| address.ip()).collect()
                }
            };
            for address in addresses {
                config.host(name).hostaddr(address);
            }
            config
                .keepalives_idle(KEEPALIVE)
                .keepalives_interval(PROBE)
                .keepalives_retries(3)
                .tcp_user_timeout(KEEPALIVE);
        }
    }
    if let Some(user) = &url.user {
        config.user(user);
    }
    if let Some(password) = &url.password {
        config.password(password.expose_secret());
    }
    if let Some(database) = &url.database {
        config.dbname(database);
    }
    if let Some(options) = &url.options {
        config.options(options);
    }
    if url.bound {
        config.channel_binding(ChannelBinding::Require);
    }
    config.ssl_negotiation(SslNegotiation::Postgres).ssl_mode(match url.tls.mode {
        Mode::Disable => SslMode::Disable,
        Mode::Prefer => SslMode::Prefer,
        Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
    });
    let connected = match url.tls.mode {
        Mode::Disable => Client::connect(&config, NoTls),
        _ => Client::connect(&config, tls::connector(&url.tls)?),
    };
    connected.map_err(|failure| match failure {
        ConnectError::Server(error) => failed(action(), &error),
        ConnectError::Runtime(error) => Error::Temporary {
            reason: format!("{}: the system gives this process nothing to wait with: {}", action(), error.kind()),
            remedy: "raise the limit of its open files, and run the command again".to_owned(),
        },
    })
}

/// Refuses a server that follows another one: of the same name, it may have been the other one before.
fn refuse_standby(client: &mut Client, database: &PostgresDatabase) -> Result<()> {
    let row = client.query_typed_one("SELECT pg_catalog.pg_is_in_recovery()", &[]);
    match row.and_then(|row| row.try_get(0)) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::Refused {
            reason: format!("{} is a standby: what it shows may be out of date", database.name),
            remedy: "name the primary server".to_owned(),
        }),
        Err(error) => Err(failed(format!("look at {}", database.name), &error)),
    }
}

/// The rows of a statement.
pub(crate) fn query(client: &mut Client, action: &str, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
    client.query_typed(sql, parameters).map_err(|error| failed(action, &error))
}

/// Runs a statement, and tells how many rows it changed.
pub(crate) fn execute(client: &mut Client, action: &str, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64> {
    client.execute_typed(sql, parameters, &|| false).map_err(|error| failed(action, &error))
}

/// Runs statements that have no parameters.
pub(crate) fn batch(client: &mut Client, action: &str, sql: &str) -> Result<()> {
    client.batch_execute(sql).map_err(|error| failed(action, &error))
}

/// A column of a row that came from a statement of ours.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T> {
    row.try_get(at).map_err(|error| failed("read an answer of the server", &error))
}

/// Refuses tables in schema `vault_core` to which somebody added what would run with the rights of
/// whoever writes them. The transaction has locked them, so that nothing is added any more.
pub(crate) fn refuse_additions(client: &mut Client, action: &str, tables: &[&str]) -> Result<()> {
    let rows = query(client, action, ADDITIONS, &[(&tables, Type::TEXT_ARRAY)])?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (table, what): (String, String) = (get(row, 0)?, get(row, 1)?);
    Err(Error::Refused {
        reason: format!("table vault_core.{} has {what}, which would run with the rights of this role", quoted(&table)),
        remedy: "see who put it there and what it did; drop it, then run the command again".to_owned(),
    })
}

/// Tables that are not only made of columns and keys, and what they have.
const ADDITIONS: &str = "
    SELECT c.relname::text, CASE
        WHEN c.relkind <> 'r' THEN 'another kind than a table'
        WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = c.oid) THEN 'a trigger'
        WHEN EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE ev_class = c.oid) THEN 'a rule'
        WHEN c.relrowsecurity OR EXISTS (SELECT FROM pg_catalog.pg_policy WHERE polrelid = c.oid) THEN 'row-level security'
        WHEN EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = c.oid AND contype NOT IN ('n', 'p', 'u'))
            THEN 'a constraint of others'
        WHEN EXISTS (SELECT FROM pg_catalog.pg_attrdef WHERE adrelid = c.oid) THEN 'a default or a generated column'
        WHEN EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = c.oid AND (indexprs IS NOT NULL OR indpred IS NOT NULL))
            THEN 'an index on an expression'
        WHEN EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = c.oid OR inhrelid = c.oid) THEN 'a table that inherits'
        WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
                     JOIN pg_catalog.pg_namespace m ON m.oid = y.typnamespace
                     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND m.nspname <> 'pg_catalog')
            THEN 'a column of a type of others' END AS vault_what
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'vault_core' AND c.relname::text = ANY ($1) AND (
        c.relkind <> 'r' OR c.relrowsecurity
        OR EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = c.oid)
        OR EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE ev_class = c.oid)
        OR EXISTS (SELECT FROM pg_catalog.pg_policy WHERE polrelid = c.oid)
        OR EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = c.oid AND contype NOT IN ('n', 'p', 'u'))
        OR EXISTS (SELECT FROM pg_catalog.pg_attrdef WHERE adrelid = c.oid)
        OR EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = c.oid AND (indexprs IS NOT NULL OR indpred IS NOT NULL))
        OR EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = c.oid OR inhrelid = c.oid)
        OR EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
                   JOIN pg_catalog.pg_namespace m ON m.oid = y.typnamespace
                   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND m.nspname <> 'pg_catalog'))
    ORDER BY 1 LIMIT 1";

/// An identifier in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in quotes, whatever the server takes a backslash for.
pub(crate) fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// How long a connection is silent before the other side is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long each of the questions waits for an answer.
const PROBE: Duration = Duration::from_secs(10);
