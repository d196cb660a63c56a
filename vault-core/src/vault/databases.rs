//! The databases of a configuration's columns, each connected to once.

#[cfg(feature = "postgres")]
use crate::column::PostgresColumn;
#[cfg(feature = "sqlite")]
use crate::column::SqliteColumn;
use crate::column::{Column, ColumnSpec};
#[cfg(feature = "sqlite")]
use crate::database::sqlite::SqliteDatabase;
use crate::database::{Access, DatabaseLocation};
#[cfg(feature = "postgres")]
use crate::database::{PostgresUrl, postgres::PostgresDatabase};
#[cfg(not(all(feature = "postgres", feature = "sqlite")))]
use crate::error::Error;
use crate::error::Result;
#[cfg(feature = "postgres")]
use crate::resolver::postgres_url;

use super::Vault;

/// Open databases. A second connection would wait for the locks of the first.
pub(super) struct Databases<'a> {
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "finds the URLs of servers"))]
    vault: &'a Vault,
    access: Access,
    #[cfg(feature = "postgres")]
    postgres: Vec<PostgresDatabase>,
    #[cfg(feature = "sqlite")]
    sqlite: Vec<SqliteDatabase>,
}

impl<'a> Databases<'a> {
    pub(super) fn new(vault: &'a Vault, access: Access) -> Self {
        Self {
            vault,
            access,
            #[cfg(feature = "postgres")]
            postgres: Vec::new(),
            #[cfg(feature = "sqlite")]
            sqlite: Vec::new(),
        }
    }

    /// The column of a declaration.
    pub(super) fn column(&mut self, spec: &ColumnSpec) -> Result<Box<dyn Column>> {
        match &spec.database {
            #[cfg(feature = "sqlite")]
            DatabaseLocation::Sqlite(path) => {
                // However its path is written.
                let opened = SqliteDatabase::open(path, self.access)?;
                let database = match self.sqlite.iter().find(|known| known.path() == opened.path()) {
                    Some(known) => known.clone(),
                    None => {
                        self.sqlite.push(opened.clone());
                        opened
                    }
                };
                Ok(Box::new(SqliteColumn::new(database, spec.clone())?))
            }
            #[cfg(not(feature = "sqlite"))]
            DatabaseLocation::Sqlite(_) => {
                Err(Error::Unsupported { what: "column in SQLite: this build has no feature `sqlite`" })
            }
            #[cfg(feature = "postgres")]
            DatabaseLocation::Postgres(url) => Ok(Box::new(PostgresColumn::new(self.connected(url)?, spec.clone())?)),
            #[cfg(feature = "postgres")]
            DatabaseLocation::Secret(name) => {
                // Unlike the store's own URL, it may be in the store.
                let url = postgres_url(name, &self.vault.resolve(name)?)?;
                Ok(Box::new(PostgresColumn::new(self.connected(&url)?, spec.clone())?))
            }
            #[cfg(not(feature = "postgres"))]
            DatabaseLocation::Postgres(_) | DatabaseLocation::Secret(_) => {
                Err(Error::Unsupported { what: "column in PostgreSQL: this build has no feature `postgres`" })
            }
        }
    }

    #[cfg(feature = "postgres")]
    fn connected(&mut self, url: &PostgresUrl) -> Result<PostgresDatabase> {
        if let Some(known) = self.postgres.iter().find(|known| known.url().same_session(url)) {
            return known.for_url(url);
        }
        let database = PostgresDatabase::open(url, self.access)?;
        self.postgres.push(database.clone());
        Ok(database)
    }
}
