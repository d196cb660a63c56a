//! The ciphers, hashes and randomness of tokens and keys: no other file names their crates, but
//! `legacy/ciphers.rs` for legacy formats.
//!
//! Key side (HMAC, AES): crates that wipe their state, composed here to HKDF (RFC 5869) and AES-SIV
//! (RFC 5297). Payload side (AES-256-GCM): ring, or without it RustCrypto, with equal bytes.

mod siv;

use aes::Aes256Enc;
use aes::cipher::KeyInit;
use aes::cipher::array::Array;
use aes::cipher::consts::{U32, U64};
use hmac::block_api::HmacCore;
use sha2::digest::block_api::{Buffer, FixedOutputCore, UpdateCore};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, optimization_barrier};

use crate::secret::wipe;

use self::siv::{S2v, Siv};

/// Why nothing can be sealed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CannotSeal(pub(crate) &'static str);

/// Length of a GCM tag and of a synthetic IV.
pub(crate) const TAG: usize = 16;

/// 32 secret bytes.
pub(crate) type Key32 = Wiped<32>;

/// Secret bytes that are wiped when dropped.
pub(crate) struct Wiped<const N: usize>([u8; N]);

impl<const N: usize> Wiped<N> {
    pub(crate) fn of(bytes: &[u8; N]) -> Self {
        Self(*bytes)
    }
}

impl<const N: usize> Default for Wiped<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> core::ops::Deref for Wiped<N> {
    type Target = [u8; N];

    fn deref(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> core::ops::DerefMut for Wiped<N> {
    fn deref_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Drop for Wiped<N> {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// A pseudorandom key of HKDF-SHA-256.
pub(crate) struct Prk(MacKey);

impl Prk {
    /// `Extract(salt, ikm)`.
    pub(crate) fn extract(salt: &[u8], ikm: &[u8]) -> Self {
        Self::from_uniform(&MacKey::of(salt).mac(&[ikm]))
    }

    /// Uniform bytes need no extract step (RFC 5869, 3.3).
    pub(crate) fn from_uniform(key: &[u8; 32]) -> Self {
        Self(MacKey::new(key))
    }

    /// `Expand(self, info, N)`, with `info` in parts.
    pub(crate) fn expand<const N: usize>(&self, info: &[&[u8]]) -> Wiped<N> {
        const { assert!(N <= 255 * 32, "longer than HKDF-SHA-256 gives") };
        let mut out = Wiped::default();
        self.expand_into(info, &mut *out);
        out
    }

    fn expand_into(&self, info: &[&[u8]], out: &mut [u8]) {
        let mut last = None;
        for (place, count) in out.chunks_mut(32).zip(1..=255_u8) {
            let before = last.as_deref().map_or(&[][..], <[u8; 32]>::as_slice);
            let block = self.0.mac_of([before].iter().chain(info).chain(&[&[count][..]]));
            place.iter_mut().zip(&*block).for_each(|(place, byte)| *place = *byte);
            last = Some(block);
        }
    }
}

/// A key of HMAC-SHA-256, kept as its two inner states.
pub(crate) struct MacKey(HmacCore<Sha256>);

impl MacKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self::of(key)
    }

    /// From a key of any length.
    fn of(key: &[u8]) -> Self {
        // HMAC takes keys of every length; the other branch cannot be reached.
        Self(HmacCore::new_from_slice(key).unwrap_or_else(|_| HmacCore::new(&Array::default())))
    }

    /// `HMAC-SHA-256(self, parts)`, with the message in parts.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> Key32 {
        self.mac_of(parts.iter())
    }

    /// On the states alone: a hasher of the crate has a buffer that would be copied and wiped with them.
    fn mac_of(&self, parts: impl Iterator<Item = impl AsRef<[u8]>>) -> Key32 {
        let mut states = self.0.clone();
        let mut buffer = Buffer::<HmacCore<Sha256>>::default();
        for part in parts {
            buffer.digest_blocks(part.as_ref(), |blocks| states.update_blocks(blocks));
        }
        let mut out = Key32::default();
        states.finalize_fixed_core(&mut buffer, (&mut *out).into());
        out
    }
}

/// `HMAC-SHA-256(key, message)`, for keys of other lengths.
#[cfg(feature = "formats")]
pub(crate) fn hmac(key: &[u8], message: &[u8]) -> Key32 {
    MacKey::of(key).mac(&[message])
}

/// A key of AES-256-SIV, used as a deterministic key wrap.
pub(crate) struct WrapKey(Siv<Aes256Enc>);

/// The first associated string of a wrap, as its key sees it.
pub(crate) struct Label(S2v);

impl WrapKey {
    /// Whoever calls this wipes the stack: the expanded key is moved.
    pub(crate) fn new(key: &Wiped<64>) -> Self {
        let key: &Array<u8, U64> = (&**key).into();
        let (mac, stream) = key.split_ref::<U32>();
        Self(Siv::new(Aes256Enc::new(mac), Aes256Enc::new(stream)))
    }

    pub(crate) fn label(&self, text: &[u8]) -> Label {
        Label(self.0.first(text))
    }

    /// Synthetic IV and encrypted key: 48 bytes.
    pub(crate) fn wrap(&self, label: &Label, associated: &[u8], key: &[u8; 32]) -> [u8; 48] {
        wipe_stack_at_thread_end();
        let mut out = [0; 48];
        let (iv, body) = out.split_at_mut(TAG);
        body.copy_from_slice(key);
        iv.copy_from_slice(&self.0.seal(&self.0.next(&label.0, associated), body));
        out
    }

    /// The wrapped key, or `None` if anything was altered.
    pub(crate) fn unwrap(&self, label: &Label, associated: &[u8], wrapped: &[u8; 48]) -> Option<Key32> {
        wipe_stack_at_thread_end();
        let (iv, body) = wrapped.split_first_chunk()?;
        let mut out = Key32::default();
        out.copy_from_slice(body);
        self.0.open(&self.0.next(&label.0, associated), iv, &mut *out)?;
        Some(out)
    }
}

/// Runs what makes keys, and then overwrites the stack that it used: the crates wipe their state, and
/// not the copies that the compiler made of it.
pub(crate) fn on_wiped_stack<T>(work: impl FnOnce() -> T) -> T {
    #[inline(never)]
    fn apart<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    let out = apart(work);
    wipe_stack();
    out
}

/// The last field of a key: when the key is dropped, overwrites the stack on which it was used.
///
/// Once for each key and not for each use, as it takes longer than a use does.
pub(crate) struct WipesStack;

impl Drop for WipesStack {
    fn drop(&mut self) {
        wipe_stack();
    }
}

/// Has the calling thread, which is about to use a key, overwrite its stack when it ends: another
/// one may drop the key.
pub(crate) fn wipe_stack_at_thread_end() {
    thread_local! {
        static AT_END: WipesStack = const { WipesStack };
    }
    // A thread that is ending already wipes what is below it now.
    if AT_END.try_with(|_| ()).is_err() {
        wipe_stack();
    }
}

/// Overwrites up to 64 KiB of stack below its caller: as much of it as there is, and room for a signal.
#[inline(never)]
fn wipe_stack() {
    let steps = vault_memory::stack_left().saturating_sub(FOR_SIGNALS) / FRAME;
    wipe_steps(steps.min(16));
}

#[inline(never)]
fn wipe_steps(steps: usize) {
    if steps > 0 {
        let mut below = [0_u64; 512];
        below.zeroize();
        wipe_steps(steps - 1);
        // Looked at after the call, which can then be no jump that uses this frame again.
        optimization_barrier(&below);
    }
}

/// What a step takes at most: 4 KiB and what belongs to the call.
const FRAME: usize = 4_096 + 512;

/// What a handler of a signal may need on the same stack.
const FOR_SIGNALS: usize = 12 << 10;

/// Whether two byte strings are equal, in time that depends only on their lengths.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Scrypt with N = 16384, r = 8, p = 1 (RFC 7914).
#[cfg(feature = "formats")]
pub(crate) fn scrypt(password: &[u8], salt: &[u8]) -> Key32 {
    let mut out = Key32::default();
    let derived = scrypt::Params::new(14, 8, 1)
        .map_err(|_| ())
        .and_then(|params| scrypt::scrypt(password, salt, &params, &mut *out).map_err(|_| ()));
    debug_assert!(derived.is_ok(), "the parameters are constants within the function's limits");
    out
}

/// A field of what a MAC is over: its length and its bytes, or the mark of an absent one.
pub(crate) fn field(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let length = bytes.map_or(u32::MAX, |bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1));
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// SHA-256 of public data.
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

/// 32 bytes of OS randomness, from the operating system at every call: what is kept for later can be
/// handed out twice, by a child of a fork or by a machine that was restored.
pub(crate) fn random() -> Result<Key32, CannotSeal> {
    let mut out = Key32::default();
    getrandom::fill(&mut *out).map_err(|_| CannotSeal("the operating system gave no randomness"))?;
    Ok(out)
}

/// Encrypts `data` in place and returns the tag. The nonce is twelve zero bytes, so a key must
/// encrypt one message only.
pub(crate) fn gcm_seal(single_use_key: &[u8; 32], aad: &[u8], data: &mut [u8]) -> Result<[u8; TAG], CannotSeal> {
    payload::seal(single_use_key, aad, data).ok_or(CannotSeal("the payload cipher refused its input"))
}

/// Decrypts `data` in place; `None` if anything was altered.
pub(crate) fn gcm_open(key: &[u8; 32], aad: &[u8], data: &mut [u8], tag: &[u8; TAG]) -> Option<()> {
    payload::open(key, aad, data, tag)
}

#[cfg(feature = "ring")]
use with_ring as payload;
#[cfg(not(feature = "ring"))]
use with_rustcrypto as payload;

#[cfg(feature = "ring")]
mod with_ring {
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    use super::TAG;

    pub(crate) fn seal(key: &[u8; 32], aad: &[u8], data: &mut [u8]) -> Option<[u8; TAG]> {
        let tag = cipher(key)?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key([0; 12]), Aad::from(aad), data)
            .ok()?;
        tag.as_ref().try_into().ok()
    }

    pub(crate) fn open(key: &[u8; 32], aad: &[u8], data: &mut [u8], tag: &[u8; TAG]) -> Option<()> {
        cipher(key)?
            .open_in_place_separate_tag(Nonce::assume_unique_for_key([0; 12]), Aad::from(aad), (*tag).into(), data, 0..)
            .ok()
            .map(drop)
    }

    fn cipher(key: &[u8; 32]) -> Option<LessSafeKey> {
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?))
    }
}

#[cfg(any(not(feature = "ring"), all(test, any(feature = "formats", feature = "rustcrypto"))))]
mod with_rustcrypto {
    use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce, Tag};

    use super::TAG;

    pub(crate) fn seal(key: &[u8; 32], aad: &[u8], data: &mut [u8]) -> Option<[u8; TAG]> {
        let tag = Aes256Gcm::new(key.into()).encrypt_inout_detached(&Nonce::default(), aad, data.into()).ok()?;
        Some(tag.into())
    }

    pub(crate) fn open(key: &[u8; 32], aad: &[u8], data: &mut [u8], tag: &[u8; TAG]) -> Option<()> {
        Aes256Gcm::new(key.into()).decrypt_inout_detached(&Nonce::default(), aad, data.into(), &Tag::from(*tag)).ok()
    }
}

#[cfg(test)]
mod tests;
