//! No text makes a reader of environment files panic, and any text that is written as a value is
//! read back, before another entry too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vault_core::dotenv::{Dialect, read, read_substituted, write};

fuzz_target!(|text: &str| {
    let _ = read_substituted(text, |_| None);
    for dialect in Dialect::ALL {
        if let Err(error) = read(text, dialect) {
            assert!(!error.to_string().contains('\n'));
        }
        match (write("A", text, dialect), write("B", text, dialect)) {
            (Ok(a), Ok(b)) => {
                let both = [a.expose_secret(), b.expose_secret()].concat();
                let reading = read(std::str::from_utf8(&both).unwrap(), dialect).unwrap();
                assert!(reading.passed_over.is_empty());
                assert!(reading.entries.iter().map(|entry| entry.name.as_str()).eq(["A", "B"]));
                assert!(reading.entries.iter().all(|entry| entry.value.expose_secret() == text.as_bytes()));
            }
            // The rules of the writers say no before the check that follows them has to.
            (Err(error), Err(_)) => assert!(!error.to_string().contains("reads it back")),
            _ => panic!("one name is written and another is not"),
        }
    }
});
