//! What is read as a state file is written so that it reads back the same.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use vault_core::KeyringState;

fuzz_target!(|text: &str| {
    if let Ok(state) = KeyringState::parse(text, Path::new("state.toml")) {
        let again = KeyringState::parse(&state.render(), Path::new("state.toml")).expect("what is written reads back");
        assert_eq!(again, state);
    }
});
