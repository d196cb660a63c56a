//! Addresses of PostgreSQL databases, as libpq, SQLAlchemy and Prisma write them.

use core::net::IpAddr;
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
    /// Where the host is, if that is not asked of the machine.
    pub(in crate::database) ip: Option<IpAddr>,
    pub(in crate::database) port: u16,
    pub(in crate::database) user: Option<String>,
    pub(in crate::database) password: Option<SecretBytes>,
    pub(in crate::database) database: Option<String>,
    /// The schemas in which tables are looked up.
    pub(in crate::database) schemas: Vec<String>,
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
    /// Whom it trusts.
    pub(in crate::database) roots: Roots,
    /// A file of revoked certificates.
    pub(in crate::database) revoked: Option<PathBuf>,
    /// TLS 1.3 and nothing older.
    pub(in crate::database) newest_only: bool,
    /// TLS 1.2 and nothing newer.
    pub(in crate::database) older_only: bool,
    /// Files of a client's certificate and key.
    pub(in crate::database) client: Option<(PathBuf, PathBuf)>,
}

/// The authorities that may vouch for a server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::database) enum Roots {
    /// Those that browsers trust.
    #[default]
    Browsers,
    /// Those of a file.
    File(PathBuf),
    /// Those of this machine.
    Machine,
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
    /// `postgres` and may name a driver, as in `postgresql+asyncpg`. A password may hold `?`, `#`, `@`
    /// and `:` as they are.
    ///
    /// Without `sslmode`, the certificate of a host that is not this machine is verified in full.
    /// Parameters of pools and of other clients are passed over; one that would protect the
    /// connection, or lead it elsewhere, and that is not kept here, is refused.
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
        // The login ends before the path. It may hold a question mark where nothing before that ends it.
        let authority = rest.split('/').next().unwrap_or_default();
        let before_question = authority.split('?').next().unwrap_or_default();
        let end_of_login = before_question.rfind('@').or_else(|| authority.rfind('@'));
        let (login, rest) = match end_of_login {
            Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default()),
            None => ("", rest),
        };
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, path) = address.split_once('/').unwrap_or((address, ""));
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
        (&this.host, this.ip, this.port, &this.user, &this.database)
            == (&other.host, other.ip, other.port, &other.user, &other.database)
    }
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        let same_session = self.same_session(other);
        let [this, other] = [&self.0, &other.0];
        same_session
            && (&this.schemas, &this.tls, this.bound, &this.options)
                == (&other.schemas, &other.tls, other.bound, &other.options)
            && this.password.as_ref().map(SecretBytes::expose_secret)
                == other.password.as_ref().map(SecretBytes::expose_secret)
    }
}

impl Eq for PostgresUrl {}

#[derive(Default)]
struct Parts {
    host: Option<String>,
    ip: Option<IpAddr>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    schemas: Vec<String>,
    mode: Option<Mode>,
    /// Whether Prisma verifies certificates.
    strict: Option<bool>,
    roots: Roots,
    revoked: Option<PathBuf>,
    newest_only: bool,
    older_only: bool,
    /// Whether the user of the process behind a socket is to be checked.
    peer: bool,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    bound: bool,
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
            "hostaddr" => self.ip = Some(value.parse().map_err(|_| "its hostaddr is not an address of a machine")?),
            "port" => self.port = Some(port_of(&value)?),
            "user" => self.user = filled(value),
            "password" => self.password = filled(value),
            "dbname" => self.database = filled(value),
            // Prisma's, and those of pgx, Rails and JDBC.
            "schema" => self.schemas = filled(value).into_iter().collect(),
            "search_path" | "schema_search_path" | "currentSchema" => {
                let names = value.split(',').map(|name| name.trim().trim_matches('"').to_owned());
                self.schemas = names.filter(|name| !name.is_empty()).collect();
            }
            // SQLAlchemy's asyncpg and Node call it `ssl`.
            "sslmode" | "ssl" => {
                self.mode = match value.as_str() {
                    "" => None,
                    "disable" | "false" | "0" | "off" | "no" => Some(Mode::Disable),
                    "allow" | "prefer" => Some(Mode::Prefer),
                    "require" | "no-verify" => Some(Mode::Require),
                    "verify-ca" => Some(Mode::VerifyCa),
                    "verify-full" | "true" | "1" | "on" | "yes" => Some(Mode::VerifyFull),
                    _ => return Err("its sslmode is none of disable, prefer, require, verify-ca and verify-full"),
                };
            }
            "sslaccept" => self.strict = Some(value != "accept_invalid_certs"),
            "sslrootcert" => {
                self.roots = match value.as_str() {
                    "" => Roots::Browsers,
                    "system" => Roots::Machine,
                    _ => Roots::File(value.into()),
                };
            }
            "sslcrl" => self.revoked = filled(value).map(PathBuf::from),
            "ssl_min_protocol_version" => match value.as_str() {
                "" | "TLSv1" | "TLSv1.1" | "TLSv1.2" => {}
                "TLSv1.3" => self.newest_only = true,
                _ => return Err("its ssl_min_protocol_version is none of TLSv1 to TLSv1.3"),
            },
            "ssl_max_protocol_version" => match value.as_str() {
                "" | "TLSv1.3" => {}
                "TLSv1.2" => self.older_only = true,
                _ => return Err("its ssl_max_protocol_version is neither TLSv1.2 nor TLSv1.3"),
            },
            "requirepeer" => self.peer = !value.is_empty(),
            "replication" if ["", "0", "false", "no", "off"].contains(&value.as_str()) => {}
            "gssencmode" if value != "require" => {}

            "sslcert" => self.certificate = filled(value).map(PathBuf::from),
            "sslkey" => self.key = filled(value).map(PathBuf::from),
            "channel_binding" => self.bound = value == "require",
            "connect_timeout" => {
                self.connect_timeout = Some(value.parse().map_err(|_| "its connect_timeout is no number of seconds")?);
            }
            "application_name" => self.application_name = filled(value),
            "options" => self.options = filled(value),
            _ => {
                if let Some((_, reason)) = REFUSED.iter().find(|(known, _)| *known == key) {
                    return Err(reason);
                }
                // Whatever protects a connection begins so.
                let protects = ["ssl", "tls", "gss"].iter().any(|begin| key.to_ascii_lowercase().starts_with(begin));
                if protects && !KEPT_WITHOUT.contains(&key) {
                    return Err("a parameter of it that begins with ssl, tls or gss is not known; remove it");
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<PostgresUrl, &'static str> {
        let host = match (self.host, self.ip) {
            (Some(host), None) if host.starts_with('/') => Host::Directory(host.into()),
            (Some(host), _) if !host.starts_with('/') => Host::Name(host),
            (_, Some(ip)) => Host::Name(ip.to_string()),
            _ => return Err("it names no host; a socket's directory is written as ?host=/path"),
        };
        let asked = match (self.mode, self.strict) {
            (Some(Mode::Require | Mode::Prefer) | None, Some(true)) => Some(Mode::VerifyFull),
            (None, Some(false)) => Some(Mode::Require),
            (mode, _) => mode,
        };
        let mode = match &host {
            // Who may have any name from these authorities proves nothing: libpq refuses it, too.
            Host::Name(_) if self.roots == Roots::Machine => match asked.unwrap_or(Mode::VerifyFull) {
                Mode::VerifyFull => Mode::VerifyFull,
                _ => return Err("sslrootcert=system goes with sslmode=verify-full and with no other"),
            },
            Host::Directory(_) if self.peer => {
                return Err("requirepeer is not kept here; remove it, or connect over TLS");
            }
            // What never leaves the machine is not encrypted: libpq does not do it either.
            Host::Directory(_) => Mode::Disable,
            Host::Name(name) => {
                let here = is_this_machine(name) && self.ip.is_none_or(|ip| ip.is_loopback());
                asked.unwrap_or(if here { Mode::Prefer } else { Mode::VerifyFull })
            }
        };
        let texts = [&self.user, &self.password, &self.database, &self.application_name, &self.options];
        if texts.into_iter().flatten().chain(&self.schemas).any(|text| text.contains('\0')) {
            return Err("it holds a NUL character");
        }
        Ok(PostgresUrl(Arc::new(Address {
            host,
            ip: self.ip,
            port: self.port.unwrap_or(5432),
            user: self.user,
            password: self.password.map(|password| SecretBytes::from(Zeroizing::new(password.into_bytes()))),
            database: self.database,
            schemas: self.schemas,
            tls: Tls {
                mode,
                roots: self.roots,
                revoked: self.revoked,
                newest_only: self.newest_only,
                older_only: self.older_only,
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
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
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

/// Parameters that would protect the connection, or lead it elsewhere, and are not kept here.
const REFUSED: [(&str, &str); 6] = [
    ("gssencmode", "gssencmode=require is not kept here; remove it, and demand TLS with sslmode=verify-full"),
    ("replication", "replication makes another kind of connection; remove it"),
    ("require_auth", "require_auth is not kept here; remove it, and demand channel_binding=require over TLS"),
    ("service", "service names a file that is not read here; write host, user and database into the URL"),
    ("servicefile", "servicefile is not read here; write host, user and database into the URL"),
    ("sslcrldir", "sslcrldir is not kept here; put the revoked certificates into one file, for sslcrl"),
];

/// Parameters that begin like those that protect, and need not be kept.
const KEPT_WITHOUT: [&str; 11] = [
    "gssdelegation",
    "gsslib",
    "sslcertmode",
    "sslcompression",
    "ssldirect",
    "sslfactory",
    "sslidentity",
    "sslnegotiation",
    "sslpassword",
    "sslresponsetimeout",
    "sslsni",
];

/// The path in `sqlite:PATH` or a URL of SQLAlchemy, `sqlite:///relative` and `sqlite:////absolute`
/// with a driver or without, and with parameters; none for another scheme.
///
/// # Errors
///
/// What is wrong, as a text that repeats nothing of the URL.
pub fn sqlite_path(url: &str) -> Option<Result<&str, &'static str>> {
    let (scheme, rest) = url.split_once(':')?;
    if scheme.split('+').next() != Some("sqlite") {
        return None;
    }
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) => match rest.strip_prefix('/') {
            None if rest.is_empty() => return Some(Err("it is a database in memory, which no other process sees")),
            None => {
                return Some(Err("it names a host; a path is written as sqlite:///relative or sqlite:////absolute"));
            }
            Some(path) => path.split('?').next().unwrap_or_default(),
        },
    };
    Some(match path {
        "" | ":memory:" => Err("it is a database in memory, which no other process sees"),
        path => Ok(path),
    })
}

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
        assert_eq!((&*read.schemas, read.tls.mode), (&["My+App".to_owned()][..], Mode::Prefer));
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
    fn parameters_of_pools_and_of_other_clients_are_passed_over() {
        for parameter in [
            "client_encoding=utf8",
            "passfile=/x",
            "krbsrvname=postgres",
            "load_balance_hosts=random",
            "sslsni=1",
            "requirepeer=x",
            "replication=0",
            "pool_max_conns=10",
            "binary_parameters=yes",
            "statement_timeout=1000",
            "conn_max_age=600",
            "gssencmode=prefer",
            "anything=else",
            "sslmode=",
            "sslnegotiation=postgres",
        ] {
            let read = url(&format!("postgresql://h/d?{parameter}"));
            assert_eq!(read.tls.mode, Mode::VerifyFull, "{parameter}");
        }
        for (parameter, mode) in [
            ("sslmode=no-verify", Mode::Require),
            ("ssl=0", Mode::Disable),
            ("ssl=1", Mode::VerifyFull),
            ("sslaccept=accept_invalid_certs", Mode::Require),
            ("sslmode=require&sslaccept=strict", Mode::VerifyFull),
            ("sslmode=verify-full&sslaccept=accept_invalid_certs", Mode::VerifyFull),
        ] {
            assert_eq!(url(&format!("postgresql://h/d?{parameter}")).tls.mode, mode, "{parameter}");
        }
        assert_eq!(url("postgresql://h/d?search_path=\"$user\",%20app").schemas, ["$user", "app"]);
        assert_eq!(url("postgresql://h/d?hostaddr=10.0.0.1").ip, Some("10.0.0.1".parse().unwrap()));
        // A name of this machine that leads elsewhere.
        assert_eq!(url("postgresql://localhost/d?hostaddr=10.0.0.1").tls.mode, Mode::VerifyFull);
        let tls = &url("postgresql://h/d?ssl_min_protocol_version=TLSv1.3&sslcrl=/r").tls;
        assert!(tls.newest_only && tls.revoked.is_some());
    }

    #[test]
    fn passwords_may_hold_what_ends_other_parts() {
        for (text, password) in [
            ("postgresql://u:p?w@h/d", "p?w"),
            ("postgresql://u:p#w@h/d?sslmode=disable", "p#w"),
            ("postgresql://u:p@w:x@h/d", "p@w:x"),
            ("postgresql://u:p?w@h", "p?w"),
        ] {
            let read = url(text);
            assert_eq!(read.password.as_ref().unwrap().expose_secret(), password.as_bytes(), "{text}");
            assert_eq!((&read.host, read.user.as_deref()), (&Host::Name("h".to_owned()), Some("u")), "{text}");
        }
        let read = url("postgresql://u:p@h?application_name=a@b");
        assert_eq!((&read.host, &*read.application_name), (&Host::Name("h".to_owned()), "a@b"));
    }

    #[test]
    fn urls_of_sqlite_are_read_as_sqlalchemy_means_them() {
        for (url, path) in [
            ("sqlite:app.db", "app.db"),
            ("sqlite:/srv/app.db", "/srv/app.db"),
            ("sqlite:///app.db", "app.db"),
            ("sqlite:////srv/app.db", "/srv/app.db"),
            ("sqlite+aiosqlite:///app.db?check_same_thread=0", "app.db"),
        ] {
            assert_eq!(sqlite_path(url), Some(Ok(path)), "{url}");
        }
        for url in
            ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite::memory:", "sqlite://host/app.db", "sqlite:"]
        {
            assert!(matches!(sqlite_path(url), Some(Err(_))), "{url}");
        }
        for url in ["postgresql://h/d", "sqlitex:a", "file:a", "a"] {
            assert_eq!(sqlite_path(url), None, "{url}");
        }
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
            "postgresql://h/d?sslhunter2=1",
            "postgresql://h/d?require_auth=hunter2",
            "postgresql://h/d?gssencmode=require",
            "postgresql://h/d?replication=database",
            "postgresql://h/d?service=hunter2",
            "postgresql://h/d?sslcrldir=/hunter2",
            "postgresql://h/d?hostaddr=hunter2",
            "postgresql://h/d?ssl_min_protocol_version=hunter2",
            "postgresql:///d?host=/run&requirepeer=hunter2",
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
