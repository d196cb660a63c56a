//! Whatever is accepted as a key is accepted again by its own text, as the same key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vault_core::{KeyFormat, MasterKey};

fuzz_target!(|content: &[u8]| {
    if let Ok(key) = MasterKey::parse_for_opening(content) {
        let again = MasterKey::parse_for_opening(key.text().expose_secret()).expect("the text of a key is a key");
        assert_eq!((again.kid(), again.flaw()), (key.kid(), key.flaw()));
        assert_eq!(again.format() == KeyFormat::Raw, key.format() == KeyFormat::Raw);
    }
});
