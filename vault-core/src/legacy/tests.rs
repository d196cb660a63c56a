//! What is derived from a key text, and what is kept of it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::Value;

use super::*;
use crate::Trim;
use crate::hex;
use crate::primitives;

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/apps").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn cases(list: &Value, count: usize) -> &[Value] {
    let list = list.as_array().unwrap();
    assert!(list.len() >= count, "{} of {count} cases", list.len());
    list
}

fn text(value: &Value) -> &[u8] {
    value.as_str().unwrap().as_bytes()
}

fn key(text: &str) -> LegacyKey {
    LegacyKey::new(TextKey::parse(text.as_bytes(), Trim::Nothing).unwrap())
}

#[test]
fn user_keys_are_those_of_flowfile() {
    for case in cases(&vectors("flowfile.json")["derive_user_key"], 20) {
        let derived = flowfile::user_key(text(&case["master_key"]), case["user_id"].as_u64().unwrap());
        assert_eq!(hex::encode(&*derived), case["derived_hex"], "user {}", case["user_id"]);
    }
}

#[test]
fn column_keys_are_those_of_the_face_api() {
    for case in cases(&vectors("face.json")["derived_keys"], 6) {
        assert_eq!(
            hex::encode(&*face::key(text(&case["db_encryption_key"]))),
            case["derived_hex"],
            "{}",
            case["key_case"]
        );
    }
}

#[test]
fn token_keys_are_those_of_social_publisher() {
    let file = vectors("social-publisher.json");
    for case in cases(&file["derived_keys"], 6) {
        assert_eq!(
            hex::encode(&*social::key(text(&case["encryption_key"]))),
            case["scrypt_hex"],
            "{}",
            case["key_case"]
        );
    }
    for case in cases(&file["legacy_cbc"], 16) {
        let expected = [&case["evp_key_hex"], &case["evp_iv_hex"]].map(|hex| hex.as_str().unwrap()).concat();
        assert_eq!(
            hex::encode(social::legacy_key(text(&case["encryption_key"])).bytes()),
            expected,
            "{}",
            case["key_case"]
        );
    }
}

#[test]
fn keys_of_users_are_kept_up_to_a_bound() {
    let key = key("5I7ARqW4n3bZ0kcdBhU2xX1fYtGmVsLpQeJr9uTaOio=");
    let first = key.user(0).unwrap();
    assert!(Arc::ptr_eq(&first, &key.user(0).unwrap()), "derived once");
    for uid in 1..1_500 {
        key.user(uid).unwrap();
    }
    assert_eq!(key.users.lock().unwrap().len(), MAX_USERS);
    assert!(!Arc::ptr_eq(&first, &key.user(0).unwrap()), "the oldest has gone");
    let token = first.seal(&key.nonces(), b"x").unwrap();
    let opened = open(Format::FlowfileLegacyUser, &key, Some("0"), token.as_bytes());
    assert_eq!(opened.unwrap().expose_secret(), b"x", "and comes back the same");
}

/// As in the child of a fork that happened while another thread had the lock.
#[test]
fn a_lock_that_nobody_gives_back_is_not_waited_for() {
    let key = key("5I7ARqW4n3bZ0kcdBhU2xX1fYtGmVsLpQeJr9uTaOio=");
    let kept = key.user(7).unwrap();
    let held = key.users.lock().unwrap();
    let derived = key.user(7).unwrap();
    assert!(!Arc::ptr_eq(&kept, &derived));
    let opened =
        open(Format::FlowfileLegacyUser, &key, Some("7"), derived.seal(&key.nonces(), b"x").unwrap().as_bytes());
    assert_eq!(opened.unwrap().expose_secret(), b"x");
    drop(held);
    assert!(Arc::ptr_eq(&kept, &key.user(7).unwrap()));
}

#[test]
fn slow_derivations_wait_for_their_first_use() {
    let key = key("correct horse battery staple, twice");
    for format in Format::ALL {
        assert!(open(format, &key, Some("1"), b"no value in any format\0").is_err());
    }
    assert!(key.face.0.load().is_none() && key.social.0.load().is_none() && key.social_legacy.0.load().is_none());
}

#[test]
fn a_key_is_shared_between_threads() {
    let key = key("correct horse battery staple, twice");
    let value = seal(Format::SocialV1, &key, None, b"x").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(open(Format::SocialV1, &key, None, value.as_bytes()).unwrap().len(), 1));
        }
    });
}

#[test]
fn errors_name_the_format() {
    for format in Format::ALL {
        assert_eq!(value_name(format), format!("{format} value"));
    }
}

#[test]
fn no_time_is_too_late() {
    let key = key("5I7ARqW4n3bZ0kcdBhU2xX1fYtGmVsLpQeJr9uTaOio=");
    let cipher = Cipher::new(fernet::key(key.exact_text()).unwrap());
    let mut token = URL_SAFE.decode(cipher.seal(&key.nonces(), b"x").unwrap()).unwrap();
    token[1..9].copy_from_slice(&[0xff; 8]);
    assert!(matches!(cipher.open(&token), Err(Error::Corrupt { .. })), "the time is signed");
    let end = token.len() - 32;
    let mac = primitives::hmac(&fernet::key(key.exact_text()).unwrap()[..16], &token[..end]);
    token[end..].copy_from_slice(&*mac);
    assert_eq!(cipher.open(&token).unwrap().expose_secret(), b"x");
}

/// The crate `fernet` reads what is written here, and the reverse.
#[test]
fn fernet_is_that_of_another_implementation() {
    let text = "5I7ARqW4n3bZ0kcdBhU2xX1fYtGmVsLpQeJr9uTaOio=";
    let (other, key) = (::fernet::Fernet::new(text).unwrap(), key(text));
    for length in (0..70).chain([4_096]) {
        let plaintext = vec![0xa5; length];
        assert_eq!(other.decrypt(&seal(Format::Fernet, &key, None, &plaintext).unwrap()).unwrap(), plaintext);
        let value = other.encrypt(&plaintext);
        assert_eq!(open(Format::Fernet, &key, None, value.as_bytes()).unwrap().expose_secret(), plaintext);
        let mut forged = URL_SAFE.decode(&value).unwrap();
        for at in [0, 5, 20, 30, forged.len() - 1] {
            forged[at] ^= 1;
            let value = URL_SAFE.encode(&forged);
            assert!(other.decrypt(&value).is_err() && open(Format::Fernet, &key, None, value.as_bytes()).is_err());
            forged[at] ^= 1;
        }
    }
}
