//! Flowfile's own tables, filled with secrets in its three formats, and what must be true of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};
use vault_core::legacy::{self, LegacyKey};
use vault_core::{Context, Error, Format, Result, Sealer, Token};

/// A column that holds secrets: table, value column.
pub(super) const COLUMNS: [(&str, &str); 2] =
    [("secrets", "encrypted_value"), ("notification_channels", "webhook_url_encrypted")];

const USERS: u64 = 50;

/// The application's database.
pub(super) struct Catalog(pub(super) Connection);

/// How often each row was rewritten by the application: table and id to version, from 0.
pub(super) type Versions = BTreeMap<(String, u64), u64>;

/// How many values opened to what they must be, and how many did not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Opened {
    pub(super) good: u64,
    pub(super) bad: u64,
}

impl Catalog {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(10)).map_err(failed)?;
        Ok(Self(connection))
    }

    /// Creates the tables as Flowfile does and seals `values` secrets as it does.
    pub(super) fn create(path: &Path, values: u64, key: &LegacyKey) -> Result<Self> {
        let mut catalog = Self::open(path)?;
        catalog.0.execute_batch(SCHEMA).map_err(failed)?;
        let transaction = catalog.0.transaction().map_err(failed)?;
        for user in 1..=USERS {
            transaction
                .execute(
                    "INSERT INTO users (id, username, email) VALUES (?1, 'user' || ?1, 'user' || ?1 || '@example.com')",
                    [user],
                )
                .map_err(failed)?;
        }
        for number in 0..values {
            let (table, id) = place(number);
            let tenant = tenant(number);
            let format = match number % 10 {
                0..=5 => Format::FlowfileV1,
                6..=7 => Format::FlowfileLegacyUser,
                _ => Format::FlowfileLegacyMaster,
            };
            let value = legacy::seal(format, key, Some(&tenant), secret(table, id, 0).as_bytes())?;
            match table {
                "secrets" => transaction.execute(
                    "INSERT INTO secrets (id, name, encrypted_value, iv, user_id) VALUES (?1, 'secret_' || ?1, ?2, '', ?3)",
                    params![id, value, tenant],
                ),
                _ => transaction.execute(
                    "INSERT INTO notification_channels (id, user_id, name, channel_type, webhook_url_encrypted, created_at)
                     VALUES (?1, ?3, 'channel_' || ?1, 'generic', ?2, '2026-01-08 00:00:00')",
                    params![id, value, tenant],
                ),
            }
            .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(catalog)
    }

    /// Opens every value under one key of the application's own formats.
    pub(super) fn open_all_legacy(&self, key: &LegacyKey) -> Result<Opened> {
        self.each(|table, id, tenant, _, value| {
            let formats = [Format::FlowfileV1, Format::FlowfileLegacyUser, Format::FlowfileLegacyMaster];
            formats.iter().any(|format| {
                format.fits(value.as_bytes())
                    && legacy::open(*format, key, Some(tenant), value.as_bytes())
                        .is_ok_and(|opened| opened.expose_secret() == secret(table, id, 0).as_bytes())
            })
        })
    }

    /// Opens every token, and compares with what the application wrote last.
    pub(super) fn open_all(&self, sealer: &Sealer, versions: &Versions) -> Result<Opened> {
        self.each(|table, id, tenant, name, value| {
            let version = versions.get(&(table.to_owned(), id)).copied().unwrap_or_default();
            value
                .parse::<Token>()
                .and_then(|token| sealer.open(&context(tenant, name), &token))
                .is_ok_and(|opened| opened.expose_secret() == secret(table, id, version).as_bytes())
        })
    }

    /// Checks every token with the loaded keys; the contexts do not matter.
    pub(super) fn authentic(&self, sealer: &Sealer) -> Result<Opened> {
        self.each(|_, _, _, _, value| value.parse::<Token>().and_then(|token| sealer.verify(&token)).is_ok())
    }

    /// Everything that is not a secret value, as one text: it must never change.
    pub(super) fn everything_else(&self) -> Result<String> {
        let mut text = String::new();
        for query in [
            "SELECT group_concat(type || name || coalesce(sql, ''), ';') FROM (SELECT * FROM sqlite_master WHERE name NOT LIKE 'vault\\_core\\_%' ESCAPE '\\' ORDER BY rowid)",
            "SELECT group_concat(id || username || email, ';') FROM users",
            "SELECT group_concat(id || name || iv || user_id, ';') FROM secrets",
            "SELECT group_concat(id || user_id || name || channel_type || created_at, ';') FROM notification_channels",
            "SELECT journal_mode FROM pragma_journal_mode",
        ] {
            text.push_str(&self.0.query_row(query, [], |row| row.get::<_, String>(0)).map_err(failed)?);
            text.push('\n');
        }
        Ok(text)
    }

    /// Rows that the open run has rewritten so far; none where no run is open.
    pub(super) fn progress(&self) -> Option<u64> {
        self.0.query_row("SELECT sum(rewritten) FROM vault_core_rotation", [], |row| row.get(0)).ok().flatten()
    }

    fn each(&self, good: impl Fn(&str, u64, &str, &str, &str) -> bool) -> Result<Opened> {
        let mut opened = Opened::default();
        for (table, column) in COLUMNS {
            let mut statement = self
                .0
                .prepare(&format!("SELECT id, CAST(user_id AS TEXT), name, {column} FROM {table}"))
                .map_err(failed)?;
            let mut rows = statement.query([]).map_err(failed)?;
            while let Some(row) = rows.next().map_err(failed)? {
                let read = || -> rusqlite::Result<(u64, String, String, String)> {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                };
                let (id, tenant, name, value) = read().map_err(failed)?;
                if good(table, id, &tenant, &name, &value) {
                    opened.good += 1;
                } else {
                    opened.bad += 1;
                }
            }
        }
        Ok(opened)
    }
}

/// Where the secret of a number is: every tenth is a notification channel.
pub(super) fn place(number: u64) -> (&'static str, u64) {
    if number % 10 == 9 { ("notification_channels", number / 10 + 1) } else { ("secrets", number - number / 10 + 1) }
}

/// The secret in a row after the application wrote it `version` times.
pub(super) fn secret(table: &str, id: u64, version: u64) -> String {
    format!("the secret of {table} {id}, version {version}")
}

pub(super) fn context(tenant: &str, name: &str) -> Context {
    Context::new("user-secret").tenant(tenant).name(name)
}

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
pub(super) fn failed(error: rusqlite::Error) -> Error {
    let reason = error.sqlite_error_code().map_or_else(|| "unexpected result".to_owned(), |code| format!("{code:?}"));
    Error::Database { action: "the demonstration's own database".to_owned(), reason }
}

fn tenant(number: u64) -> String {
    (number % USERS + 1).to_string()
}

const SCHEMA: &str = "
CREATE TABLE users (
    id INTEGER NOT NULL, username VARCHAR, email VARCHAR, full_name VARCHAR, disabled BOOLEAN,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX ix_users_username ON users (username);
CREATE TABLE secrets (
    id INTEGER NOT NULL, name VARCHAR, encrypted_value TEXT, iv VARCHAR, user_id INTEGER,
    PRIMARY KEY (id), FOREIGN KEY(user_id) REFERENCES users (id)
);
CREATE INDEX ix_secrets_name ON secrets (name);
CREATE TABLE notification_channels (
    id INTEGER NOT NULL, user_id INTEGER NOT NULL, name VARCHAR NOT NULL, channel_type VARCHAR NOT NULL,
    webhook_url_encrypted TEXT NOT NULL, created_at DATETIME,
    PRIMARY KEY (id), FOREIGN KEY(user_id) REFERENCES users (id)
);
";
