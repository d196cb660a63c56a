//! Values that are a pattern instead of random.

use zeroize::Zeroizing;

use crate::key::{KeyTextError, decode, flaw};
use crate::manifest::SecretKind;

use super::{Finding, placeholder};

/// Why a value protects nothing. What 32 bytes are written as is judged as a key is.
pub(super) fn find(kind: SecretKind, text: &str) -> Option<Finding> {
    if !matches!(kind, SecretKind::Base64 | SecretKind::FernetKey | SecretKind::Hex | SecretKind::Text) {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    let pattern = match decode(text.as_bytes(), &mut key) {
        Ok(_) => match flaw(&key, text.as_bytes())? {
            KeyTextError::Weak(weakness) => weakness.to_string(),
            _ => return Some(placeholder::public()),
        },
        Err(_) => pattern(text.as_bytes())?.to_owned(),
    };
    Some(Finding::failure(
        "weak",
        format!("it is no random value: {pattern}"),
        "make a random one: `openssl rand -hex 32`",
    ))
}

/// A short text may repeat itself by chance, and a very long one is no key.
fn pattern(text: &[u8]) -> Option<&'static str> {
    if !(8..=1_024).contains(&text.len()) {
        return None;
    }
    let periodic = |period: &usize| text.iter().zip(text.iter().skip(*period)).all(|(a, b)| a == b);
    let mut steps = text.iter().zip(text.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a));
    let first = steps.next();
    if periodic(&1) {
        Some("one character, repeated")
    } else if steps.all(|step| Some(step) == first) {
        Some("a sequence of characters")
    } else if (2..=text.len() / 2).any(|period| periodic(&period)) {
        Some("a repeated block")
    } else {
        None
    }
}
