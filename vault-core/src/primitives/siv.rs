//! AES-SIV (RFC 5297) over a block cipher of a crate: both keys are expanded once, and what S2V makes of
//! an associated string that comes first in every call is kept.
//!
//! No branch and no index depends on a secret; the one comparison takes the same time for all values.

use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherEncrypt, BlockSizeUser};

use super::{TAG, Wiped, equal};
use crate::secret::wipe;

/// An AES-SIV key, expanded. What is kept is wiped when it is dropped, as the crate wipes its round keys.
pub(super) struct Siv<C> {
    mac: C,
    stream: C,
    /// The subkeys of CMAC: of a whole last block, and of one that is padded.
    subkeys: [Kept; 2],
    /// Where S2V begins.
    start: S2v,
}

/// S2V after some associated strings.
pub(super) struct S2v(Kept);

/// A 128-bit string, first bit highest.
type Kept = Wiped<16>;

impl<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>> Siv<C> {
    /// From the first half of a key, which authenticates, and the second one, which encrypts.
    pub(super) fn new(mac: C, stream: C) -> Self {
        let once = double(encrypt(&mac, 0));
        let subkeys = [once, double(once)].map(kept);
        let mut siv = Self { mac, stream, subkeys, start: S2v(Kept::default()) };
        siv.start = S2v(kept(siv.cmac(&[0; 16])));
        siv
    }

    /// S2V after a first associated string.
    pub(super) fn first(&self, string: &[u8]) -> S2v {
        self.next(&self.start, string)
    }

    /// S2V after a further associated string.
    pub(super) fn next(&self, before: &S2v, string: &[u8]) -> S2v {
        S2v(kept(double(value(&before.0)) ^ self.cmac(string)))
    }

    /// Encrypts `data` in place and returns the synthetic IV.
    pub(super) fn seal(&self, associated: &S2v, data: &mut [u8]) -> [u8; TAG] {
        let iv = self.synthetic_iv(associated, data);
        self.xor_stream(iv, data);
        iv.to_be_bytes()
    }

    /// Decrypts `data` in place; `None` if anything was altered, and nothing of it is then left.
    pub(super) fn open(&self, associated: &S2v, iv: &[u8; TAG], data: &mut [u8]) -> Option<()> {
        self.xor_stream(u128::from_be_bytes(*iv), data);
        let expected = kept(self.synthetic_iv(associated, data));
        if equal(&*expected, iv) {
            return Some(());
        }
        wipe(data);
        None
    }

    /// The last step of S2V. `data` is changed on the way, and as before when this returns.
    fn synthetic_iv(&self, associated: &S2v, data: &mut [u8]) -> u128 {
        let before = value(&associated.0);
        if let Some(end) = data.last_chunk_mut::<16>() {
            *end = (u128::from_be_bytes(*end) ^ before).to_be_bytes();
            let iv = self.cmac(data);
            if let Some(end) = data.last_chunk_mut::<16>() {
                *end = (u128::from_be_bytes(*end) ^ before).to_be_bytes();
            }
            return iv;
        }
        self.cmac(&(double(before) ^ padded(data)).to_be_bytes())
    }

    /// AES-CTR from the IV without the two bits that RFC 5297 clears.
    fn xor_stream(&self, iv: u128, data: &mut [u8]) {
        let mut counter = iv & !(1 << 63 | 1 << 31);
        for chunk in data.chunks_mut(16) {
            let stream = encrypt(&self.stream, counter).to_be_bytes();
            chunk.iter_mut().zip(stream).for_each(|(byte, key)| *byte ^= key);
            counter = counter.wrapping_add(1);
        }
    }

    /// CMAC (RFC 4493).
    fn cmac(&self, message: &[u8]) -> u128 {
        let [whole, cut] = &self.subkeys;
        let (before, last) = message.split_at(message.len().saturating_sub(1) / 16 * 16);
        let state =
            before.as_chunks().0.iter().fold(0, |state, block| encrypt(&self.mac, state ^ u128::from_be_bytes(*block)));
        let last = match last.try_into() {
            Ok(last) => u128::from_be_bytes(last) ^ value(whole),
            Err(_) => padded(last) ^ value(cut),
        };
        encrypt(&self.mac, state ^ last)
    }
}

fn encrypt<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>>(cipher: &C, block: u128) -> u128 {
    let mut block = block.to_be_bytes().into();
    cipher.encrypt_block(&mut block);
    u128::from_be_bytes(block.into())
}

/// Less than a block, then one bit, then zeros.
fn padded(bytes: &[u8]) -> u128 {
    let mut block = [0; 16];
    block.iter_mut().zip(bytes.iter().chain(&[0x80])).for_each(|(place, byte)| *place = *byte);
    u128::from_be_bytes(block)
}

/// Multiplication by x in the field of CMAC.
fn double(block: u128) -> u128 {
    block << 1 ^ (block >> 127).wrapping_neg() & 0x87
}

fn kept(block: u128) -> Kept {
    Wiped(block.to_be_bytes())
}

fn value(kept: &Kept) -> u128 {
    u128::from_be_bytes(**kept)
}
