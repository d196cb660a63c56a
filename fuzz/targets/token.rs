//! What is accepted as a token has one text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vault_core::{HARD_LIMIT, Token};

fuzz_target!(|text: &str| {
    if let Ok(token) = Token::parse(text, HARD_LIMIT) {
        assert_eq!(token.to_string(), text);
        let _ = token.inspect();
    }
});
