//! Tests of the library through its public interface.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod applications;
mod check;
mod columns;
mod conformance;
#[path = "../conformance/list.rs"]
mod conformance_list;
mod following;
mod keyring;
mod keyring_state;
mod layers;
mod legacy;
mod manifest;
mod postgres;
mod properties;
mod redaction;
mod resolver;
mod rotation;
mod schema;
#[path = "../server.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod server;
mod sqlite_columns;
mod stores;
mod vectors;

use std::path::Path;

use serde_json::Value;
use vault_core::{Change, Config, Followed, KeyId, KeyringState, Result, Retired, Vault};

/// The word of an operator who looked, for the states as they are now. Those tests are no deployment.
fn followed(vault: &Vault, keyring: &str, opens: Option<KeyId>) -> Followed {
    let now = Vault::load(Config::from_file(vault.manifest().path()).unwrap().without_heartbeats()).unwrap();
    Followed::by_the_word_of_an_operator_who_looked(&now, keyring, opens).unwrap()
}

fn promote(vault: &Vault, keyring: &str, kid: KeyId, out: Option<&Path>) -> Result<KeyringState> {
    vault.key_change(keyring, &Change::Promote(kid, followed(vault, keyring, Some(kid))), out)
}

fn disable(vault: &Vault, keyring: &str, retired: Retired) -> Result<KeyringState> {
    vault.key_change(keyring, &Change::Disable(retired, followed(vault, keyring, None)), None)
}

/// A file of tests/vectors.
fn vector_file(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The cases of a list, of which there are at least as many as the list was published with.
fn cases(list: &Value, count: usize) -> &[Value] {
    let list = list.as_array().unwrap();
    assert!(list.len() >= count, "{} of {count} cases", list.len());
    list
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
