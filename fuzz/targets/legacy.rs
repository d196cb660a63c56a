//! No value makes a reader of a legacy format panic; the first byte chooses the format.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use vault_core::legacy::{self, LegacyKey};
use vault_core::{Format, TextKey, Trim};

static KEY: OnceLock<LegacyKey> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let key = KEY.get_or_init(|| {
        // The key of the vectors that the corpus is made of.
        let text = TextKey::parse(b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", Trim::Python).expect("a key");
        LegacyKey::new(text)
    });
    let Some((choice, value)) = data.split_first() else { return };
    let format = Format::ALL[usize::from(*choice) % Format::ALL.len()];
    let fits = format.fits(value);
    let opened = legacy::open(format, key, Some("1"), value);
    assert!(fits || opened.is_err() || !format.is_legacy());
    let _ = (legacy::identify(value), legacy::owner(value));
});
