//! Addresses of PostgreSQL databases, as libpq, SQLAlchemy and Prisma write them.

use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::hex;
use crate::secret::SecretBytes;

/// Where a PostgreSQL database is, and how it is spoken to.
///
/// Its `Debug` and `Display` show user, host and database; the password is in neither.
#[derive(Clone)]
pub struct PostgresUrl(Arc<Address>);

/// The parts of a URL.
pub(in crate::database) struct Address {
    pub(in crate::database) host: Host,
    pub(in crate::database) port: u16,
    pub(in crate::database) user: Option<String>,
    pub(in crate::database) password: Option<SecretBytes>,
    pub(in crate::database) database: Option<String>,
    /// The schema in which tables are looked up first: Prisma's parameter.
    pub(in crate::database) schema: Option<String>,
    pub(in crate::database) tls: Tls,
    /// Whether the login must be bound to the encrypted connection.
    pub(in crate::database) bound: bool,
    pub(in crate::database) connect_timeout: Duration,
    pub(in crate::database) application_name: String,
    pub(in crate::database) options: Option<String>,
}

/// Where the server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::database) enum Host {
    /// The directory of a Unix socket.
    Directory(PathBuf),
    Name(String),
}

/// Whether and how the connection is encrypted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::database) struct Tls {
    pub(in crate::database) mode: Mode,
    /// A file of trusted authorities, in place of those that browsers trust.
    pub(in crate::database) roots: Option<PathBuf>,
    /// Files of a client's certificate and key.
    pub(in crate::database) client: Option<(PathBuf, PathBuf)>,
}

/// What is demanded of the server: libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::database) enum Mode {
    Disable,
    /// Encrypted where the server can.
    Prefer,
    /// Encrypted, by whomever.
    Require,
    /// Encrypted, by somebody whom an authority vouches for.
    VerifyCa,
    /// Encrypted, by the host itself.
    VerifyFull,
}

impl PostgresUrl {
    /// Reads `postgresql://user:password@host:port/database?parameters`. The scheme may be
    /// `postgres` and may name a driver, as in `postgresql+asyncpg`.
    ///
    /// Without `sslmode`, the certificate of a host that is not this machine is verified in full.
    ///
    /// # Errors
    ///
    /// What is wrong, as a text that repeats nothing of the URL.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or(NOT_POSTGRES)?;
        let name = scheme.split_once('+').map_or(scheme, |(name, _)| name);
        if !name.eq_ignore_ascii_case("postgres") && !name.eq_ignore_ascii_case("postgresql") {
            return Err(NOT_POSTGRES);
        }
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = address.split_once('/').unwrap_or((address, ""));
        let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let mut parts = Parts {
            user: filled(decoded(user)?),
            password: password.map(decoded).transpose()?.and_then(filled),
            database: filled(decoded(path)?),
            ..Parts::default()
        };
        parts.place(place)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or("one of its parameters has no value")?;
            parts.parameter(&decoded(key)?, decoded(value)?)?;
        }
        parts.finish()
    }

    /// Whether it carries a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.0.password.is_some()
    }

    pub(in crate::database) fn address(&self) -> &Address {
        &self.0
    }

    /// Whether one connection serves both: they lead to the same database as the same user.
    pub(crate) fn same_session(&self, other: &Self) -> bool {
        let [this, other] = [&self.0, &other.0];
        (&this.host, this.port, &this.user, &this.database) == (&other.host, other.port, &other.user, &other.database)
    }
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        let same_session = self.same_session(other);
        let [this, other] = [&self.0, &other.0];
        same_session
            && (&this.schema, &this.tls, this.bound, &this.options)
                == (&other.schema, &other.tls, other.bound, &other.options)
            && this.password.as_ref().map(SecretBytes::expose_secret)
                == other.password.as_ref().map(SecretBytes::expose_secret)
    }
}

impl Eq for PostgresUrl {}

#[derive(Default)]
struct Parts {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    schema: Option<String>,
    mode: Option<Mode>,
    roots: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    bound: bool,
    /// Whether `sslrootcert` asks for the authorities that everybody trusts.
    public_roots: bool,
    connect_timeout: Option<u64>,
    application_name: Option<String>,
    options: Option<String>,
}

impl Parts {
    /// Reads `host`, `host:port` or `[address]:port`.
    fn place(&mut self, place: &str) -> Result<(), &'static str> {
        if place.contains(',') {
            return Err("it names several hosts; name the one that takes writes");
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']').ok_or("a bracket of its host is not closed")?;
                (host, behind.strip_prefix(':').unwrap_or_default())
            }
            None => place.split_once(':').unwrap_or((place, "")),
        };
        self.host = filled(decoded(host)?);
        if !port.is_empty() {
            self.port = Some(port_of(port)?);
        }
        Ok(())
    }

    fn parameter(&mut self, key: &str, value: String) -> Result<(), &'static str> {
        match key {
            "host" => self.host = filled(value),
            "port" => self.port = Some(port_of(&value)?),
            "user" => self.user = filled(value),
            "password" => self.password = filled(value),
            "dbname" => self.database = filled(value),
            "schema" => self.schema = filled(value),
            // SQLAlchemy's asyncpg calls it `ssl`.
            "sslmode" | "ssl" => {
                self.mode = Some(match value.as_str() {
                    "disable" | "false" => Mode::Disable,
                    "allow" | "prefer" => Mode::Prefer,
                    "require" => Mode::Require,
                    "verify-ca" => Mode::VerifyCa,
                    "verify-full" | "true" => Mode::VerifyFull,
                    _ => return Err("its sslmode is none of disable, prefer, require, verify-ca and verify-full"),
                });
            }
            "sslrootcert" => {
                self.public_roots = value == "system";
                self.roots = filled(value).filter(|_| !self.public_roots).map(PathBuf::from);
            }
            "sslcert" => self.certificate = filled(value).map(PathBuf::from),
            "sslkey" => self.key = filled(value).map(PathBuf::from),
            "channel_binding" => self.bound = value == "require",
            "connect_timeout" => {
                self.connect_timeout = Some(value.parse().map_err(|_| "its connect_timeout is no number of seconds")?);
            }
            "application_name" => self.application_name = filled(value),
            "options" => self.options = filled(value),
            known if IGNORED.contains(&known) => {}
            _ => return Err("one of its parameters is not known; remove it"),
        }
        Ok(())
    }

    fn finish(self) -> Result<PostgresUrl, &'static str> {
        let host = self.host.ok_or("it names no host; a socket's directory is written as ?host=/path")?;
        let host = if host.starts_with('/') { Host::Directory(host.into()) } else { Host::Name(host) };
        let mode = match &host {
            // Who may have any name from these authorities proves nothing: libpq refuses it, too.
            Host::Name(_) if self.public_roots => match self.mode.unwrap_or(Mode::VerifyFull) {
                Mode::VerifyFull => Mode::VerifyFull,
                _ => return Err("sslrootcert=system goes with sslmode=verify-full and with no other"),
            },
            // What never leaves the machine is not encrypted: libpq does not do it either.
            Host::Directory(_) => Mode::Disable,
            Host::Name(name) => {
                self.mode.unwrap_or(if is_this_machine(name) { Mode::Prefer } else { Mode::VerifyFull })
            }
        };
        let texts = [&self.user, &self.password, &self.database, &self.schema, &self.application_name, &self.options];
        if texts.into_iter().flatten().any(|text| text.contains('\0')) {
            return Err("it holds a NUL character");
        }
        Ok(PostgresUrl(Arc::new(Address {
            host,
            port: self.port.unwrap_or(5432),
            user: self.user,
            password: self.password.map(|password| SecretBytes::from(Zeroizing::new(password.into_bytes()))),
            database: self.database,
            schema: self.schema,
            tls: Tls {
                mode,
                roots: self.roots,
                client: match (self.certificate, self.key) {
                    (None, None) => None,
                    (Some(certificate), Some(key)) => Some((certificate, key)),
                    _ => return Err("sslcert and sslkey go together"),
                },
            },
            bound: self.bound,
            connect_timeout: Duration::from_secs(self.connect_timeout.filter(|seconds| *seconds > 0).unwrap_or(10)),
            application_name: self.application_name.unwrap_or_else(|| "vault".to_owned()),
            options: self.options,
        })))
    }
}

impl core::fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("postgresql://")?;
        if let Some(user) = &self.0.user {
            write!(f, "{}@", user.escape_debug())?;
        }
        match &self.0.host {
            Host::Directory(path) => write!(f, "{}", path.display().to_string().escape_debug())?,
            Host::Name(name) if name.contains(':') => write!(f, "[{}]", name.escape_debug())?,
            Host::Name(name) => write!(f, "{}", name.escape_debug())?,
        }
        write!(f, ":{}", self.0.port)?;
        match &self.0.database {
            Some(database) => write!(f, "/{}", database.escape_debug()),
            None => Ok(()),
        }
    }
}

impl core::fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

fn is_this_machine(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<core::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn port_of(text: &str) -> Result<u16, &'static str> {
    text.parse().ok().filter(|port| *port > 0).ok_or("its port is no number from 1 to 65535")
}

fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Percent-encoding undone. A plus stands for itself, as it does for libpq.
fn decoded(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "a percent sign in it is not followed by two hexadecimal digits of UTF-8 text";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (rest.next(), rest.next()) else { return Err(WRONG) };
        bytes.push(hex::byte(high, low).ok_or(WRONG)?);
    }
    String::from_utf8(bytes).map_err(|_| WRONG)
}

/// What a URL may say that is only for other programs: pools and caches that are not kept here.
const IGNORED: [&str; 22] = [
    "async_fallback",
    "command_timeout",
    "connection_limit",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "max_idle_connection_lifetime",
    "pgbouncer",
    "pool_timeout",
    "prepare_threshold",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "server_version",
    "socket_timeout",
    "statement_cache_size",
    "target_session_attrs",
    "tcp_user_timeout",
    "timeout",
    "uselibpqcompat",
];

const NOT_POSTGRES: &str = "it is no PostgreSQL URL, which begins with postgresql://";

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Arc<Address> {
        PostgresUrl::parse(text).unwrap().0
    }

    #[test]
    fn what_drivers_write_is_read() {
        let read =
            url("postgresql+asyncpg://app:p%40ss%2Fw@db.example:6432/app?ssl=require&prepared_statement_cache_size=0");
        assert_eq!((read.port, read.tls.mode), (6432, Mode::Require));
        assert_eq!(read.password.as_ref().unwrap().expose_secret(), b"p@ss/w");
        let read = url("postgres://u:a:b@c@[::1]/d?schema=My+App&connection_limit=1&pgbouncer=true");
        assert_eq!((read.schema.as_deref(), read.tls.mode), (Some("My+App"), Mode::Prefer));
        assert_eq!(read.password.as_ref().unwrap().expose_secret(), b"a:b@c");
        for text in ["postgresql:///d?host=/run/postgresql&user=u", "postgresql+psycopg://u@%2Frun%2Fpostgresql/d"] {
            let read = url(text);
            assert_eq!((&read.host, read.tls.mode), (&Host::Directory("/run/postgresql".into()), Mode::Disable));
            assert_eq!((read.user.as_deref(), read.database.as_deref(), read.port), (Some("u"), Some("d"), 5432));
        }
        assert_eq!(url("postgresql://h/d").tls.mode, Mode::VerifyFull, "also inside a private network");
        assert_eq!(url("postgresql://127.0.0.1/d").tls.mode, Mode::Prefer);
        assert_eq!(url("postgresql://h/d?sslmode=disable").tls.mode, Mode::Disable);
        assert_eq!(url("postgresql://localhost/d?sslrootcert=system").tls.mode, Mode::VerifyFull);
        assert_eq!(url("postgresql://h/d?connect_timeout=3").connect_timeout, Duration::from_secs(3));
    }

    #[test]
    fn what_could_mean_something_else_is_refused_and_not_repeated() {
        for text in [
            "sqlite:x",
            "mysql://h/d",
            "h",
            "postgresql:///hunter2",
            "postgresql://hunter2:x/d",
            "postgresql://h:0/d",
            "postgresql://a,b/d",
            "postgresql://h/d?sslmode=verify_full",
            "postgresql://h/d?hunter2=1",
            "postgresql://h/d?hunter2",
            "postgresql://u:hunter2%zz@h/d",
            "postgresql://u:%ff@h/d",
            "postgresql://[::1/d",
            "postgresql://h/d?sslcert=/x",
            "postgresql://h/d?sslrootcert=system&sslmode=require",
            "postgresql://h/d?sslmode=verify-ca&sslrootcert=system",
            "postgresql://h/d?connect_timeout=hunter2",
            "postgresql://u:a%00b@h/d",
        ] {
            assert!(!PostgresUrl::parse(text).unwrap_err().contains("hunter2"), "{text}");
        }
        let read = PostgresUrl::parse("postgresql://u:hunter2@h/d?password=hunter2").unwrap();
        assert_eq!(format!("{read} {read:?}"), "postgresql://u@h:5432/d PostgresUrl(postgresql://u@h:5432/d)");
    }
}
