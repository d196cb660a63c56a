//! What is accepted as a wrapped key has one text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vault_core::WrappedKey;

fuzz_target!(|text: &str| {
    if let Ok(wrapped) = text.parse::<WrappedKey>() {
        assert_eq!(wrapped.to_string(), text);
    }
});
