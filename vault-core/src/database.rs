//! Connections to databases, shared by columns and stores.

#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Access {
    /// Looking only: nothing is changed, and the database may be read-only.
    Read,
    /// Looking and changing.
    Write,
}
