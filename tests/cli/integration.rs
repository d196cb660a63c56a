//! What docs/INTEGRATION.md shows of Rust.

use std::fs;
use std::path::Path;

use crate::Directory;
use crate::documents::{blocks_of, part};
use crate::integration_example;

const PAGE: &str = "docs/INTEGRATION.md";

#[test]
fn the_example_in_rust_runs_as_it_stands() {
    let part = part(PAGE, "Rust");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cli/integration_example.rs");
    assert_eq!(blocks_of(&part, "rust"), [fs::read_to_string(source).unwrap()]);
    let directory = Directory::new();
    directory
        .write("vault.toml", blocks_of(&part, "toml").into_iter().find(|toml| toml.starts_with("version")).unwrap());
    fs::create_dir(directory.path("keys")).unwrap();
    fs::create_dir(directory.path("secrets")).unwrap();
    fs::write(directory.path("secrets/database_url"), "postgresql://app@db/app\n").unwrap();
    directory.vault("key generate --out keys/vault_kek_1").ok();
    integration_example::application(&directory.path("vault.toml")).unwrap();
}
