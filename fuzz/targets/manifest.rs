//! No text makes the reader of `vault.toml` panic, and its errors are one line.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use vault_core::Manifest;

fuzz_target!(|text: &str| {
    if let Err(error) = Manifest::parse(text, Path::new("/vault.toml"), None) {
        assert!(!error.to_string().contains('\n'));
    }
});
