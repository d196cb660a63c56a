//! The driver's errors in our words: the server's messages may quote values.

use core::error::Error as _;
use std::io;

use rustls::CertificateError;
use tokio_postgres::error::SqlState;

use crate::error::Error;

/// An error of the server or of the connection to it.
pub(crate) fn failed(action: impl Into<String>, error: &tokio_postgres::Error) -> Error {
    let action = action.into();
    match error.code() {
        Some(
            &(SqlState::LOCK_NOT_AVAILABLE | SqlState::T_R_DEADLOCK_DETECTED | SqlState::T_R_SERIALIZATION_FAILURE),
        ) => Error::Temporary {
            reason: format!("{action}: rows or tables are locked by somebody else"),
            remedy: "run the command again when they are free".to_owned(),
        },
        Some(&SqlState::QUERY_CANCELED) => Error::Temporary {
            reason: format!("{action}: {}", reason(error)),
            remedy: "run the command again; where that comes again, with fewer rows in a batch".to_owned(),
        },
        Some(
            &(SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
            | SqlState::TOO_MANY_CONNECTIONS),
        ) => Error::Temporary { reason: format!("{action}: {}", reason(error)), remedy: AGAIN.to_owned() },
        None if error.is_closed() => Error::Temporary {
            reason: format!("{action}: the connection to the server was lost"),
            remedy: AGAIN.to_owned(),
        },
        _ => Error::Database { action, reason: reason(error) },
    }
}

/// Whether the server says that it did not do what it was asked to. When it goes away instead, nobody
/// knows.
pub(crate) fn is_answer(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| !["08", "57"].iter().any(|class| code.code().starts_with(class)))
}

/// Whether a row is at fault, and not the server, the connection or somebody's lock.
pub(crate) fn is_fault_of_row(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else { return false };
    // Connection, transaction, resources, operator, system, configuration, internal errors.
    !["08", "25", "40", "53", "57", "58", "F0", "XX"].iter().any(|class| code.code().starts_with(class))
        && *code != SqlState::LOCK_NOT_AVAILABLE
        && *code != SqlState::INSUFFICIENT_PRIVILEGE
}

/// Whether somebody else's lock was in the way.
pub(crate) fn is_held(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// The class of an error and the server's code for it, without values.
pub(crate) fn reason(error: &tokio_postgres::Error) -> String {
    let Some(code) = error.code() else { return of_connection(error) };
    let text = match *code {
        SqlState::INSUFFICIENT_PRIVILEGE => "the role lacks a privilege, or row-level security hides rows from it",
        SqlState::INVALID_PASSWORD => "the server does not accept the password",
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => "the server does not let this user in from here",
        SqlState::INVALID_CATALOG_NAME => "the database does not exist",
        SqlState::QUERY_CANCELED => "it took too long, or was cancelled",
        SqlState::STRING_DATA_RIGHT_TRUNCATION => "the new value is longer than the column",
        SqlState::TOO_MANY_CONNECTIONS => "the server has no connection left",
        SqlState::UNDEFINED_TABLE => "a table is missing",
        _ => match code.code().get(..2).unwrap_or_default() {
            "08" => "the connection failed",
            "22" => "a value does not fit",
            "23" => "a constraint refused it",
            "25" => "the transaction may not do that",
            "28" => "the server does not let this user in",
            "53" => "the server is out of a resource",
            "57" => "the server was shut down or is not ready",
            "P0" | "09" | "27" => "a trigger refused it",
            _ => "the statement failed",
        },
    };
    format!("{text} (SQLSTATE {})", code.code())
}

fn of_connection(error: &tokio_postgres::Error) -> String {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return of_tls(error).to_owned();
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            // A failed handshake is inside an error of the stream.
            if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return of_tls(error).to_owned();
            }
            if error.get_ref().is_none() || error.kind() != io::ErrorKind::Other {
                return format!("the connection failed: {}", error.kind());
            }
        }
        source = error.source();
    }
    match error.to_string() {
        text if text.contains("TLS") => "the server does not offer TLS, or the handshake failed".to_owned(),
        text if text.contains("authentication") => {
            "the login failed: a password or a kind of login is missing".to_owned()
        }
        text if text.contains("timed out") => "the connection timed out".to_owned(),
        text if text.contains("error connecting") => "the server cannot be reached".to_owned(),
        text if text.contains("configuration") => "the URL misses a part: user, host or password".to_owned(),
        _ => "the server sent what was not expected".to_owned(),
    }
}

fn of_tls(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "no trusted authority signed the server's certificate; name one with sslrootcert"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another host",
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the server's certificate has expired"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the server's certificate is not valid yet; look at the clocks",
        rustls::Error::InvalidCertificate(CertificateError::Revoked) => "the server's certificate was revoked",
        rustls::Error::InvalidCertificate(error) => of_form(&format!("{error:?}")),
        rustls::Error::AlertReceived(_) => "the server refused the TLS handshake; it may demand a client's certificate",
        _ => "the TLS handshake failed",
    }
}

/// What is wrong with the form of a certificate, as webpki names it.
fn of_form(named: &str) -> &'static str {
    if named.contains("CaUsedAsEndEntity") {
        "the server's certificate is that of an authority (CA:TRUE); make one for the server with `-addext basicConstraints=CA:FALSE -addext subjectAltName=DNS:HOST`, or use sslmode=verify-ca with it as sslrootcert"
    } else if named.contains("UnsupportedCertVersion") {
        "the server's certificate is X.509 v1, which names no host; sign one with `-extfile` and a subjectAltName, or use sslmode=verify-ca"
    } else if named.contains("Revocation") || named.contains("Crl") {
        "sslcrl does not say whether the server's certificate was revoked, or is out of date"
    } else {
        "the server's certificate is not valid"
    }
}

const AGAIN: &str = "run the command again";
