//! Ciphers and derivations that only legacy formats use, and no token: MD5, CBC, PBKDF2 and GCM with
//! nonces of 16 bytes. No other file names their crates.

use aes::cipher::KeyInit;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::primitives::{Key32, TAG};

/// PBKDF2-HMAC-SHA-256 (RFC 8018).
pub(crate) fn pbkdf2(password: &[u8], salt: &[u8], rounds: u32) -> Key32 {
    let mut out = Key32::default();
    pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut *out);
    out
}

/// Key and initialisation vector of OpenSSL's `EVP_BytesToKey` with MD5, no salt and one round.
pub(crate) struct EvpKey(pub(crate) Zeroizing<[u8; 48]>);

#[cfg(test)]
impl EvpKey {
    pub(crate) fn bytes(&self) -> &[u8] {
        &*self.0
    }
}

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
pub(crate) fn gcm_seal_with_nonce(key: &[u8; 32], nonce: &[u8], data: &mut [u8]) -> Option<[u8; TAG]> {
    use aes_gcm::AeadInOut;

    if let Ok(nonce) = nonce.try_into() {
        return Some(Gcm16::new(key.into()).encrypt_inout_detached(&nonce, &[], data.into()).ok()?.into());
    }
    let nonce = nonce.try_into().ok()?;
    Some(aes_gcm::Aes256Gcm::new(key.into()).encrypt_inout_detached(&nonce, &[], data.into()).ok()?.into())
}

/// The reverse of [`gcm_seal_with_nonce`].
pub(crate) fn gcm_open_with_nonce(key: &[u8; 32], nonce: &[u8], data: &mut [u8], tag: &[u8; TAG]) -> Option<()> {
    use aes_gcm::AeadInOut;

    let tag = (*tag).into();
    if let Ok(nonce) = nonce.try_into() {
        return Gcm16::new(key.into()).decrypt_inout_detached(&nonce, &[], data.into(), &tag).ok();
    }
    let nonce = nonce.try_into().ok()?;
    aes_gcm::Aes256Gcm::new(key.into()).decrypt_inout_detached(&nonce, &[], data.into(), &tag).ok()
}

type Gcm16 = aes_gcm::AesGcm<aes::Aes256, aes_gcm::aead::consts::U16>;
