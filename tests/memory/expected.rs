//! What the library derives from a key, computed with other code.

use aes::cipher::BlockCipherEncrypt;
use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use cmac::{Cmac, Mac};
use hkdf::Hkdf;
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::scan::Needles;

/// The `length` bytes that belong to a name: secrets that are the same in every run.
pub(crate) fn fixed(name: &str, length: usize) -> Vec<u8> {
    let blocks = (0_u32..).flat_map(|block| Sha256::digest([name.as_bytes(), &block.to_be_bytes()].concat()));
    blocks.take(length).collect()
}

/// A fixed key as text, which is a Fernet key too.
pub(crate) fn fixed_text(name: &str) -> String {
    URL_SAFE.encode(fixed(name, 32))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A master key and everything that follows from it.
pub(crate) struct Master {
    name: String,
    key_wrap: [u8; 64],
}

impl Master {
    pub(crate) fn new(name: &str, key: &[u8], needles: &mut Needles) -> Self {
        needles.add(&format!("{name}: key"), key);
        needles.add(&format!("{name}: text"), URL_SAFE.encode(key).as_bytes());
        needles.add(&format!("{name}: text"), hex(key).as_bytes());
        mac_key(&format!("{name}: as MAC message key"), key, needles);
        let (prk, hkdf) = Hkdf::<Sha256>::extract(Some(b"vault-core/kek/v1"), key);
        needles.add(&format!("{name}: PRK"), &prk);
        mac_key(&format!("{name}: PRK state"), &prk, needles);
        let kid = kid(b'k', &hkdf);
        let hedge: [u8; 32] = expand(&hkdf, &[b"vault-core/hedge/v1\0"]);
        needles.add(&format!("{name}: hedge key"), &hedge);
        mac_key(&format!("{name}: hedge state"), &hedge, needles);
        let state: [u8; 32] = expand(&hkdf, &[b"vault-core/keyring-mac/v1\0", kid.as_bytes()]);
        needles.add(&format!("{name}: keyring MAC key"), &state);
        mac_key(&format!("{name}: keyring MAC state"), &state, needles);
        let key_wrap = expand(&hkdf, &[b"vault-core/wrap/v1\0"]);
        needles.add(&format!("{name}: wrap key"), &key_wrap);
        siv(name, &key_wrap, &format!("vs1.{kid}."), needles);
        Self { name: name.to_owned(), key_wrap }
    }

    /// The data key of a token under this key, and what follows from that.
    pub(crate) fn token(&self, token: &str, needles: &mut Needles) {
        let [label, wrap, body] = parts(token);
        let dek = self.unwrap(&[&label, &body[6..38]], &wrap);
        let name = &self.name;
        needles.add(&format!("{name}: DEK"), &dek);
        mac_key(&format!("{name}: DEK state"), &dek, needles);
        let payload: [u8; 32] = expand(&Hkdf::from_prk(&dek).unwrap(), &[b"vs1/p", &body[..6]]);
        needles.add(&format!("{name}: payload key"), &payload);
    }

    /// The master key that is wrapped under this one.
    pub(crate) fn wrapped(&self, name: &str, wrapped: &str, needles: &mut Needles) -> Self {
        let [label, wrap, body] = parts(wrapped);
        Self::new(name, &self.unwrap(&[&label, &body], &wrap), needles)
    }

    fn unwrap(&self, associated: &[&[u8]], wrap: &[u8]) -> Vec<u8> {
        Aes256Siv::new((&self.key_wrap).into()).decrypt(associated, wrap).expect("a wrap under this key")
    }
}

/// What a key of AES-SIV is expanded to: the round keys of both halves, the subkeys of CMAC, and what S2V
/// makes of no string and of the one that comes first in every token.
fn siv(name: &str, key: &[u8; 64], label: &str, needles: &mut Needles) {
    for (half, round_keys) in [("MAC", round_keys(&key[..32])), ("stream", round_keys(&key[32..]))] {
        needles.add(&format!("{name}: {half} round keys"), &round_keys);
        // As a processor without AES instructions keeps them is not searched for.
    }
    let mac = |message: &[u8]| -> u128 {
        let mac = Cmac::<aes::Aes256>::new_from_slice(&key[..32]).unwrap().chain_update(message).finalize();
        u128::from_be_bytes(mac.into_bytes().into())
    };
    let double = |block: u128| block << 1 ^ if block >> 127 == 1 { 0x87 } else { 0 };
    let encrypted_zeros = {
        let mut block = aes::Block::default();
        aes::Aes256::new_from_slice(&key[..32]).unwrap().encrypt_block(&mut block);
        u128::from_be_bytes(block.into())
    };
    let start = mac(&[0; 16]);
    for (what, value) in [
        ("K1 of CMAC", double(encrypted_zeros)),
        ("K2 of CMAC", double(double(encrypted_zeros))),
        ("CMAC of zeros", start),
        ("label", double(start) ^ mac(label.as_bytes())),
    ] {
        needles.add(&format!("{name}: {what}"), &value.to_be_bytes());
    }
}

/// The round keys of AES-256 behind the key itself (FIPS 197, 5.2), with an S-box that is computed.
fn round_keys(key: &[u8]) -> Vec<u8> {
    let double = |x: u8| x << 1 ^ if x & 0x80 == 0 { 0 } else { 0x1b };
    let times =
        |x: u8, y: u8| (0..8).fold((0, x), |(sum, x), bit| (sum ^ if y >> bit & 1 == 1 { x } else { 0 }, double(x))).0;
    let substitute = |x: u8| {
        let inverse = (0..=255).find(|y| times(x, *y) == 1).unwrap_or(0);
        (0..5).fold(0x63, |sum, turn| sum ^ inverse.rotate_left(turn))
    };
    let mut words: Vec<[u8; 4]> = key.as_chunks().0.to_vec();
    let mut round = 1;
    while words.len() < 60 {
        let mut word = words[words.len() - 1];
        match words.len() % 8 {
            0 => {
                word.rotate_left(1);
                word = word.map(substitute);
                word[0] ^= round;
                round = double(round);
            }
            4 => word = word.map(substitute),
            _ => {}
        }
        let before = words[words.len() - 8];
        words.push(core::array::from_fn(|at| word[at] ^ before[at]));
    }
    words.split_off(8).concat()
}

/// A key text and everything that the legacy formats derive from it.
pub(crate) fn text_key(text: &str, users: &[u64], needles: &mut Needles) {
    let add = |name: &str, key: &[u8], needles: &mut Needles| {
        needles.add(&format!("text key: {name}"), key);
        // Of each kind of Fernet key, the first half signs.
        mac_key(&format!("text key: {name}, MAC state"), &key[..16], needles);
    };
    let text = text.as_bytes();
    needles.add("text key: text", text);
    mac_key("text key: text, MAC state", text, needles);
    add("decoded", &URL_SAFE.decode(text).unwrap(), needles);
    let mut id = [0; 32];
    scrypt::scrypt(text, b"vault-core/text-key/v1", &scrypt::Params::new(14, 8, 1).unwrap(), &mut id).unwrap();
    needles.add("text key: id PRK", &id);
    mac_key("text key: id PRK state", &id, needles);
    let hkdf = Hkdf::from_prk(&id).unwrap();
    let nonces: [u8; 32] = expand(&hkdf, &[b"vault-core/nonce/v1\0"]);
    needles.add("text key: nonce key", &nonces);
    mac_key("text key: nonce key state", &nonces, needles);
    let state: [u8; 32] = expand(&hkdf, &[b"vault-core/keyring-mac/v1\0", kid(b'f', &hkdf).as_bytes()]);
    needles.add("text key: keyring MAC key", &state);
    mac_key("text key: keyring MAC state", &state, needles);
    let mut face = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(text, b"homomorphic_face_salt", 100_000, &mut face);
    add("PBKDF2", &face, needles);
    let (prk, hkdf) = Hkdf::<Sha256>::extract(Some(b"flowfile-secrets-v1"), text);
    needles.add("text key: users' PRK", &prk);
    mac_key("text key: users' PRK state", &prk, needles);
    for user in users {
        add("user", &expand::<32>(&hkdf, &[b"user-", user.to_string().as_bytes()]), needles);
    }
    let mut social = [0; 32];
    scrypt::scrypt(text, b"salt", &scrypt::Params::new(14, 8, 1).unwrap(), &mut social).unwrap();
    needles.add("text key: scrypt", &social);
    needles.add("text key: MD5", &evp(text));
}

/// What the legacy social-publisher writes.
pub(crate) fn social_legacy(text: &str, plaintext: &[u8]) -> String {
    let key = evp(text.as_bytes());
    let cipher = cbc::Encryptor::<aes::Aes256>::new_from_slices(&key[..32], &key[32..]).unwrap();
    let mut data = [plaintext, &[0; 16]].concat();
    hex(cipher.encrypt_padded::<Pkcs7>(&mut data, plaintext.len()).unwrap())
}

fn evp(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while out.len() < 48 {
        let last = out.len().saturating_sub(16);
        out.extend(Md5::digest([&out[last..], text].concat()));
    }
    out
}

/// The forms in which HMAC-SHA-256 keeps a key: padded, and as the states after the padded key.
fn mac_key(name: &str, key: &[u8], needles: &mut Needles) {
    for pad in [0x36, 0x5c] {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(place, byte)| *place ^= byte);
        needles.add(name, &block[..key.len()]);
        let mut state = SHA256;
        sha2::block_api::compress256(&mut state, &[block]);
        needles.add(name, &state.map(u32::to_ne_bytes).concat());
        needles.add(name, &state.map(u32::to_be_bytes).concat());
    }
}

fn expand<const N: usize>(hkdf: &Hkdf<Sha256>, info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    hkdf.expand_multi_info(info, &mut out).unwrap();
    out
}

fn kid(letter: u8, hkdf: &Hkdf<Sha256>) -> String {
    let hash: [u8; 10] = expand(hkdf, &[b"vault-core/kid/v1\0", &[letter]]);
    let bits = hash.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    let digits = (0..16).map(|place| b"abcdefghijklmnopqrstuvwxyz234567"[(bits >> (75 - 5 * place) & 31) as usize]);
    core::iter::once(letter).chain(digits).map(char::from).collect()
}

/// Magic and key id with their dots, wrapped key, body.
fn parts(token: &str) -> [Vec<u8>; 3] {
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    [token.as_bytes()[..22].to_vec(), decode(&token[22..86]), decode(&token[87..])]
}

/// The initial state of SHA-256 (FIPS 180-4, 5.3.3).
const SHA256: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
