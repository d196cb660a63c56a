//! The only file that names cipher, hash and random crates.
//!
//! Key side (RFC 2104, RFC 5869, RFC 5297): crates that wipe their state. Payload side
//! (AES-256-GCM, SHA-256 of public data, OS randomness): ring, or without it RustCrypto, with
//! equal bytes.

use core::cell::RefCell;
use std::sync::Mutex;

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;
#[cfg(feature = "foreign")]
use zeroize::Zeroizing;

use crate::secret::wipe;

/// Why nothing can be sealed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CannotSeal(pub(crate) &'static str);

/// Length of a GCM tag and of a synthetic IV.
pub(crate) const TAG: usize = 16;

/// 32 secret bytes.
pub(crate) type Key32 = Wiped<32>;

/// Secret bytes that are wiped when dropped.
pub(crate) struct Wiped<const N: usize>([u8; N]);

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
pub(crate) struct Prk(Hkdf<Sha256>);

impl Prk {
    /// `Extract(salt, ikm)`.
    pub(crate) fn extract(salt: &[u8], ikm: &[u8]) -> Self {
        Self(Hkdf::new(Some(salt), ikm))
    }

    /// Uniform bytes need no extract step (RFC 5869, 3.3).
    pub(crate) fn from_uniform(key: &[u8; 32]) -> Self {
        // 32 bytes are the least that `from_prk` takes; the other branch cannot be reached.
        Self(Hkdf::from_prk(key).unwrap_or_else(|_| Hkdf::new(None, key)))
    }

    /// `Expand(self, info, out.len())`, with `info` in parts.
    pub(crate) fn expand<const N: usize>(&self, info: &[&[u8]]) -> Wiped<N> {
        const { assert!(N <= 255 * 32, "longer than HKDF-SHA-256 gives") };
        let mut out = Wiped::default();
        if self.0.expand_multi_info(info, &mut *out).is_err() {
            out.zeroize();
        }
        out
    }
}

/// A key of HMAC-SHA-256, kept as its two inner states.
pub(crate) struct MacKey(Hmac<Sha256>);

impl MacKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(keyed(key))
    }

    /// `HMAC-SHA-256(self, parts)`, with the message in parts.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> Key32 {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        Wiped(mac.finalize().into_bytes().into())
    }
}

/// `HMAC-SHA-256(key, message)`, for keys of other lengths.
#[cfg(feature = "foreign")]
pub(crate) fn hmac(key: &[u8], message: &[u8]) -> Key32 {
    MacKey(keyed(key)).mac(&[message])
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of every length; the other branch cannot be reached.
    Hmac::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::default()))
}

/// A key of AES-256-SIV, used as a deterministic key wrap.
pub(crate) struct WrapKey {
    key: Wiped<64>,
    /// The key as the cipher expands it, for one thread at a time.
    expanded: Mutex<Aes256Siv>,
}

impl WrapKey {
    pub(crate) fn new(key: Wiped<64>) -> Self {
        Self { expanded: Mutex::new(Aes256Siv::new((&*key).into())), key }
    }

    /// Synthetic IV and encrypted key: 48 bytes.
    pub(crate) fn wrap(&self, associated: [&[u8]; 2], key: &[u8; 32]) -> Result<[u8; 48], CannotSeal> {
        let mut out = [0; 48];
        let (iv, body) = out.split_at_mut(TAG);
        body.copy_from_slice(key);
        let tag = self
            .with_siv(|siv| siv.encrypt_inout_detached(associated, (&mut *body).into()))
            .map_err(|_| CannotSeal("the key wrap failed"))?;
        iv.copy_from_slice(&tag);
        Ok(out)
    }

    /// The wrapped key, or `None` if anything was altered.
    pub(crate) fn unwrap(&self, associated: [&[u8]; 2], wrapped: &[u8; 48]) -> Option<Key32> {
        let (iv, body) = wrapped.split_at(TAG);
        let mut out = Key32::default();
        out.copy_from_slice(body);
        let tag = aes_siv::Tag::try_from(iv).ok()?;
        self.with_siv(|siv| siv.decrypt_inout_detached(associated, (&mut out[..]).into(), &tag)).ok()?;
        Some(out)
    }

    /// Nobody waits: while another thread uses the expanded key, and for ever where one did when the
    /// process forked, the key is expanded again.
    fn with_siv<T>(&self, work: impl FnOnce(&mut Aes256Siv) -> T) -> T {
        wipe_stack_at_thread_end();
        match self.expanded.try_lock() {
            Ok(mut siv) => work(&mut siv),
            Err(_) => work(&mut Aes256Siv::new((&*self.key).into())),
        }
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

/// Overwrites the 64 KiB of stack below its caller.
#[inline(never)]
fn wipe_stack() {
    let mut below = [0_u64; 8_192];
    below.zeroize();
}

/// Whether two byte strings are equal, in time that depends only on their lengths.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Scrypt with N = 16384, r = 8, p = 1 (RFC 7914).
#[cfg(feature = "foreign")]
pub(crate) fn scrypt(password: &[u8], salt: &[u8]) -> Key32 {
    let mut out = Key32::default();
    let derived = scrypt::Params::new(14, 8, 1)
        .map_err(|_| ())
        .and_then(|params| scrypt::scrypt(password, salt, &params, &mut *out).map_err(|_| ()));
    debug_assert!(derived.is_ok(), "the parameters are constants within the function's limits");
    out
}

/// PBKDF2-HMAC-SHA-256 (RFC 8018).
#[cfg(feature = "foreign")]
pub(crate) fn pbkdf2(password: &[u8], salt: &[u8], rounds: u32) -> Key32 {
    let mut out = Key32::default();
    pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut *out);
    out
}

/// Key and initialisation vector of OpenSSL's `EVP_BytesToKey` with MD5, no salt and one round.
#[cfg(feature = "foreign")]
pub(crate) struct EvpKey(Zeroizing<[u8; 48]>);

#[cfg(all(test, feature = "foreign"))]
impl EvpKey {
    pub(crate) fn bytes(&self) -> &[u8] {
        &*self.0
    }
}

#[cfg(feature = "foreign")]
pub(crate) fn evp_bytes_to_key(password: &[u8]) -> EvpKey {
    use md5::{Digest, Md5};

    let mut out = Zeroizing::new([0; 48]);
    let mut last = Zeroizing::new([0; 16]);
    for (round, place) in out.chunks_exact_mut(16).enumerate() {
        let mut hash = Md5::new();
        if round > 0 {
            hash.update(*last);
        }
        hash.update(password);
        last.copy_from_slice(&hash.finalize());
        place.copy_from_slice(&*last);
    }
    EvpKey(out)
}

/// AES-256-CBC with PKCS #7 padding, which is all that it checks.
#[cfg(feature = "foreign")]
pub(crate) fn cbc_open(key: &EvpKey, ciphertext: Vec<u8>) -> Option<Zeroizing<Vec<u8>>> {
    use cbc::cipher::block_padding::Pkcs7;
    use cbc::cipher::{BlockModeDecrypt, KeyIvInit};

    let mut data = Zeroizing::new(ciphertext);
    let (key, iv) = key.0.split_at_checked(32)?;
    let length =
        cbc::Decryptor::<aes::Aes256>::new_from_slices(key, iv).ok()?.decrypt_padded::<Pkcs7>(&mut data).ok()?.len();
    data.truncate(length);
    Some(data)
}

/// AES-128-CBC with PKCS #7 padding, of a ciphertext that a MAC has shown to be genuine.
#[cfg(feature = "foreign")]
pub(crate) fn cbc128_open(key: &[u8; 16], iv: &[u8; 16], ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    use cbc::cipher::block_padding::Pkcs7;
    use cbc::cipher::{BlockModeDecrypt, KeyIvInit};

    let mut data = Zeroizing::new(ciphertext.to_vec());
    let cipher = cbc::Decryptor::<aes::Aes128>::new(key.into(), iv.into());
    let length = cipher.decrypt_padded::<Pkcs7>(&mut data).ok()?.len();
    data.truncate(length);
    Some(data)
}

/// The reverse of [`cbc128_open`].
#[cfg(feature = "foreign")]
pub(crate) fn cbc128_seal(key: &[u8; 16], iv: &[u8; 16], plaintext: &[u8]) -> Option<Vec<u8>> {
    use cbc::cipher::block_padding::Pkcs7;
    use cbc::cipher::{BlockModeEncrypt, KeyIvInit};

    let mut data = vec![0; (plaintext.len() / 16 + 1) * 16];
    data.get_mut(..plaintext.len())?.copy_from_slice(plaintext);
    let cipher = cbc::Encryptor::<aes::Aes128>::new(key.into(), iv.into());
    // On failure no ciphertext may be in use, so the plaintext is wiped.
    if cipher.encrypt_padded::<Pkcs7>(&mut data, plaintext.len()).is_err() {
        data.zeroize();
        return None;
    }
    Some(data)
}

/// AES-256-GCM with a nonce of 12 or 16 bytes and no associated data.
#[cfg(feature = "foreign")]
pub(crate) fn gcm_seal_with_nonce(key: &[u8; 32], nonce: &[u8], data: &mut [u8]) -> Option<[u8; TAG]> {
    use aes_gcm::AeadInOut;

    if let Ok(nonce) = nonce.try_into() {
        return Some(Gcm16::new(key.into()).encrypt_inout_detached(&nonce, &[], data.into()).ok()?.into());
    }
    let nonce = nonce.try_into().ok()?;
    Some(aes_gcm::Aes256Gcm::new(key.into()).encrypt_inout_detached(&nonce, &[], data.into()).ok()?.into())
}

/// The reverse of [`gcm_seal_with_nonce`].
#[cfg(feature = "foreign")]
pub(crate) fn gcm_open_with_nonce(key: &[u8; 32], nonce: &[u8], data: &mut [u8], tag: &[u8; TAG]) -> Option<()> {
    use aes_gcm::AeadInOut;

    let tag = (*tag).into();
    if let Ok(nonce) = nonce.try_into() {
        return Gcm16::new(key.into()).decrypt_inout_detached(&nonce, &[], data.into(), &tag).ok();
    }
    let nonce = nonce.try_into().ok()?;
    aes_gcm::Aes256Gcm::new(key.into()).decrypt_inout_detached(&nonce, &[], data.into(), &tag).ok()
}

#[cfg(feature = "foreign")]
type Gcm16 = aes_gcm::AesGcm<aes::Aes256, aes_gcm::aead::consts::U16>;

/// A field of what a MAC is over: its length and its bytes, or the mark of an absent one.
pub(crate) fn field(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let length = bytes.map_or(u32::MAX, |bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1));
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// Lower-case hex of public bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from_digit(u32::from(digit), 16).unwrap_or_default());
        }
        out
    })
}

/// SHA-256 of public data.
pub(crate) use payload::sha256;

/// 32 bytes of OS randomness.
///
/// The OS is asked for a few KiB at a time into a buffer of this thread; what is handed out is
/// wiped there, and a buffer that a forked child inherits is dropped.
pub(crate) fn random() -> Result<Key32, CannotSeal> {
    POOL.with_borrow_mut(Pool::take)
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

const POOL_SIZE: usize = 4_096;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_SIZE], left: 0, process: 0 }) };
}

struct Pool {
    bytes: [u8; POOL_SIZE],
    /// Bytes not handed out yet, at the front.
    left: usize,
    process: u32,
}

impl Pool {
    fn take(&mut self) -> Result<Key32, CannotSeal> {
        let process = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
        if self.process != process || self.left < 32 {
            payload::random(&mut self.bytes).ok_or(CannotSeal("the operating system gave no randomness"))?;
            self.left = POOL_SIZE;
            self.process = process;
        }
        let mut out = Key32::default();
        self.left -= 32;
        if let Some(taken) = self.bytes.get_mut(self.left..self.left + 32) {
            out.copy_from_slice(taken);
            wipe(taken);
        }
        Ok(out)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        wipe(&mut self.bytes);
    }
}

#[cfg(feature = "ring")]
use with_ring as payload;
#[cfg(not(feature = "ring"))]
use with_rustcrypto as payload;

#[cfg(feature = "ring")]
mod with_ring {
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    use ring::rand::{SecureRandom, SystemRandom};

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

    pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, data).as_ref());
        out
    }

    pub(super) fn random(out: &mut [u8]) -> Option<()> {
        SystemRandom::new().fill(out).ok()
    }

    fn cipher(key: &[u8; 32]) -> Option<LessSafeKey> {
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?))
    }
}

#[cfg(any(not(feature = "ring"), all(test, any(feature = "foreign", feature = "rustcrypto"))))]
mod with_rustcrypto {
    use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce, Tag};
    use sha2::{Digest, Sha256};

    use super::TAG;

    pub(crate) fn seal(key: &[u8; 32], aad: &[u8], data: &mut [u8]) -> Option<[u8; TAG]> {
        let tag = Aes256Gcm::new(key.into()).encrypt_inout_detached(&Nonce::default(), aad, data.into()).ok()?;
        Some(tag.into())
    }

    pub(crate) fn open(key: &[u8; 32], aad: &[u8], data: &mut [u8], tag: &[u8; TAG]) -> Option<()> {
        Aes256Gcm::new(key.into()).decrypt_inout_detached(&Nonce::default(), aad, data.into(), &Tag::from(*tag)).ok()
    }

    pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }

    #[cfg(not(feature = "ring"))]
    pub(super) fn random(out: &mut [u8]) -> Option<()> {
        getrandom::fill(out).ok()
    }
}

#[cfg(test)]
mod tests;
