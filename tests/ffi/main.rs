//! Tests of the C ABI.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unsafe_code,
    reason = "a test that panics has failed, and calls of the C ABI are unsafe"
)]

mod abi;
mod c;
mod conformance;
#[path = "../conformance/list.rs"]
mod conformance_list;
mod header;
mod refresh;
