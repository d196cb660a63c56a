//! Tests of the C ABI.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod abi;
mod c;
mod conformance;
#[path = "../conformance/list.rs"]
mod conformance_list;
mod header;
