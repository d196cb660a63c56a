//! Nonces and initialisation vectors of what is written.

use crate::error::Result;
use crate::primitives::{self, MacKey, Prk};

/// Makes nonces from randomness and the plaintext: where randomness repeats, as in a restored machine,
/// two plaintexts still have two nonces, and equal ones an equal value.
pub(super) struct Nonces(MacKey);

impl Nonces {
    pub(super) fn of(text_key: &Prk) -> Self {
        Self(MacKey::new(&text_key.expand(&[b"vault-core/nonce/v1\0"])))
    }

    pub(super) fn fresh<const N: usize>(&self, plaintext: &[u8]) -> Result<[u8; N]> {
        Ok(self.with(&*primitives::random()?, plaintext))
    }

    /// [`fresh`](Self::fresh) with given randomness.
    fn with<const N: usize>(&self, random: &[u8; 32], plaintext: &[u8]) -> [u8; N] {
        const { assert!(N <= 32, "longer than a MAC") };
        let mac = self.0.mac(&[random, plaintext]);
        mac.first_chunk().copied().unwrap_or([0; N])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// As in the child of a fork, or a snapshot that is started twice.
    #[test]
    fn repeated_randomness_repeats_no_nonce() {
        let [nonces, others] = [1, 2].map(|key| Nonces::of(&Prk::from_uniform(&[key; 32])));
        let mut seen = BTreeSet::new();
        for length in 0..100 {
            let nonce: [u8; 12] = nonces.with(&[7; 32], &vec![0; length]);
            assert!(seen.insert(nonce), "length {length}");
            assert!(seen.insert(others.with(&[7; 32], &vec![0; length])), "another key, length {length}");
            assert!(seen.insert(nonces.with(&[8; 32], &vec![0; length])), "other randomness, length {length}");
            assert_eq!(nonce, nonces.with(&[7; 32], &vec![0; length]));
        }
        assert_ne!(nonces.fresh::<16>(b"x").unwrap(), nonces.fresh::<16>(b"x").unwrap());
    }
}
