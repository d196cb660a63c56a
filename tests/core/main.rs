//! Public behaviour of vault-core, one module for each subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

#[cfg(feature = "sqlite")]
mod sqlite_columns;
