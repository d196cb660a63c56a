//! tests/vectors/apps: what the applications wrote is read, and what is written they could read.

use std::str::FromStr;

use vault_core::foreign::{ForeignKey, identify, open, owner, seal};
use vault_core::{Error, Format, TextKey, Trim};

use crate::{cases, hex, text, vector_file};

fn key(text: &str, trim: Trim) -> ForeignKey {
    ForeignKey::new(TextKey::parse(text.as_bytes(), trim).unwrap())
}

/// A strong Fernet key for writing: most of the recorded keys are weak on purpose.
const STRONG: &str = "5I7ARqW4n3bZ0kcdBhU2xX1fYtGmVsLpQeJr9uTaOio=";

#[test]
fn fernet_tokens_are_accepted_as_required() {
    let file = vector_file("vs1/fernet_compat.json");
    let key = key(text(&file["key"]), Trim::Python);
    for case in cases(&file["tests"], 21) {
        let required = text(&case["required"]);
        let opened = open(Format::Fernet, &key, None, text(&case["token"]).as_bytes());
        assert_eq!(opened.is_ok(), required.starts_with("accept"), "{}: {required}", case["name"]);
    }
}

/// The cases that the Fernet specification gives: one to read, and eight to refuse, of which the
/// two that expire do so only where a time to live is asked for.
#[test]
fn the_cases_of_the_fernet_specification() {
    let key = key("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=", Trim::Python);
    let token = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
    assert_eq!(open(Format::Fernet, &key, None, token.as_bytes()).unwrap().expose_secret(), b"hello");
    for wrong in [
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFBQUFBQQ==",
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA==",
        "%%%%%%%%%%%%%AECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyudzUm",
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw==",
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAnja1xKYyhd-Y6mSkTOyTGJmw2Xc2a6kBd-iX9b_qXQcw==",
    ] {
        assert!(open(Format::Fernet, &key, None, wrong.as_bytes()).is_err(), "{wrong}");
    }
    assert!(matches!(seal(Format::Fernet, &key, None, b"x"), Err(Error::CannotSeal { .. })), "the key is published");
}

/// The files of the Fernet specification, in the directory that `VAULT_PUBLIC_VECTORS` names.
/// Where it names one, every file must be there with its full count.
#[test]
fn the_published_files_of_the_fernet_specification() {
    #[expect(clippy::disallowed_methods, reason = "a test is told where the sets are")]
    let Some(directory) = std::env::var_os("VAULT_PUBLIC_VECTORS").map(std::path::PathBuf::from) else {
        return;
    };
    let load = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(directory.join(name)).unwrap()).unwrap()
    };
    for name in ["fernet_spec_generate.json", "fernet_spec_verify.json"] {
        for case in cases(&load(name), 1) {
            let key = key(text(&case["secret"]), Trim::Python);
            let opened = open(Format::Fernet, &key, None, text(&case["token"]).as_bytes()).unwrap();
            assert_eq!(opened.expose_secret(), text(&case["src"]).as_bytes());
        }
    }
    let mut refused = 0;
    for case in cases(&load("fernet_spec_invalid.json"), 8) {
        let key = key(text(&case["secret"]), Trim::Python);
        let opened = open(Format::Fernet, &key, None, text(&case["token"]).as_bytes());
        // Two are wrong by their time alone, and no time to live is asked for here.
        let by_time = ["far-future", "expired"].iter().any(|word| text(&case["desc"]).contains(word));
        assert_eq!(opened.is_ok(), by_time, "{}", case["desc"]);
        refused += usize::from(!by_time);
    }
    assert_eq!(refused, 6);
}

#[test]
fn flowfile_values_are_read() {
    let file = vector_file("apps/flowfile.json");
    // What a user's key is shows in what opens under it: a bare token of that user.
    for case in cases(&file["derive_user_key"], 20) {
        let derived = key(text(&case["derived_fernet_key"]), Trim::Python);
        let strong_enough = seal(Format::Fernet, &derived, None, b"probe").unwrap();
        let master = key(text(&case["master_key"]), Trim::Python);
        let tenant = case["user_id"].to_string();
        let opened = open(Format::FlowfileLegacyUser, &master, Some(&tenant), strong_enough.as_bytes());
        assert_eq!(opened.unwrap().expose_secret(), b"probe", "user {tenant}");
    }
    for case in cases(&file["envelope_v1"], 25) {
        let master = key(text(&case["master_key"]), Trim::Python);
        let value = text(&case["encrypted_value"]);
        let opened = open(Format::FlowfileV1, &master, None, value.as_bytes()).unwrap();
        assert_eq!(opened.expose_secret(), text(&case["plaintext"]).as_bytes(), "{}", case["case"]);
        assert_eq!(owner(value.as_bytes()), case["user_id"].as_u64());
        assert_eq!(identify(value.as_bytes()), [Format::FlowfileV1]);
    }
    for case in cases(&file["legacy"], 18) {
        let master = key(text(&case["master_key"]), Trim::Python);
        let format =
            if case["kind"] == "legacy_master" { Format::FlowfileLegacyMaster } else { Format::FlowfileLegacyUser };
        let tenant = case.get("user_id").map(ToString::to_string);
        let opened = open(format, &master, tenant.as_deref(), text(&case["encrypted_value"]).as_bytes()).unwrap();
        assert_eq!(opened.expose_secret(), text(&case["plaintext"]).as_bytes(), "{}", case["case"]);
    }
}

/// The application takes user ids and tokens in many spellings; only the one that it writes is
/// read here.
#[test]
fn flowfile_edge_cases_are_read_strictly() {
    for case in cases(&vector_file("apps/flowfile.json")["decrypt_edge_cases"], 13) {
        let master = key(text(&case["master_key"]), Trim::Python);
        let opened = open(Format::FlowfileV1, &master, None, text(&case["encrypted_value"]).as_bytes());
        match text(&case["case"]) {
            "canonical" => assert_eq!(opened.unwrap().expose_secret(), text(&case["plaintext"]).as_bytes()),
            // The application refuses it for its padding, which carries nothing.
            "no_padding" => assert_eq!(opened.unwrap().expose_secret(), b"probe"),
            "leading_space" => assert!(opened.is_ok(), "white space around a value is ignored"),
            "truncated" => assert!(opened.is_err()),
            "tampered_last" => assert!(opened.is_err()),
            other => assert!(matches!(opened, Err(Error::Malformed { .. })), "{other}: {opened:?}"),
        }
    }
}

#[test]
fn a_flowfile_store_is_read() {
    let file = vector_file("apps/flowfile-secure-storage.json");
    let store_key = key(text(&file["files"][".secret_key"]), Trim::Python);
    let store =
        open(Format::FlowfileStore, &store_key, None, text(&file["files"]["flowfile.json.enc"]).as_bytes()).unwrap();
    assert_eq!(store.expose_secret(), text(&file["store_plaintext_json"]).as_bytes());
    let master = key(text(&file["master_key"]), Trim::Python);
    let value = open(Format::FlowfileV1, &master, None, text(&file["encrypted_value"]).as_bytes()).unwrap();
    assert_eq!(value.expose_secret(), text(&file["plaintext"]).as_bytes());
}

#[test]
fn face_values_are_read() {
    let file = vector_file("apps/face.json");
    for case in cases(&file["derived_keys"], 6) {
        // The derived key is the key of any value that was written under its text.
        let derived = hex(&case["derived_hex"]);
        assert_eq!(derived[..16], hex(&case["signing_key_hex"])[..]);
        let text_key = key(text(&case["db_encryption_key"]), Trim::Nothing);
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE, derived);
        let token = seal(Format::Fernet, &key(&encoded, Trim::Python), None, b"probe").unwrap();
        assert_eq!(open(Format::FaceColumn, &text_key, None, token.as_bytes()).unwrap().expose_secret(), b"probe");
    }
    for case in cases(&file["encrypt_column_data"], 12) {
        let key = key(text(&case["db_encryption_key"]), Trim::Nothing);
        let opened = open(Format::FaceColumn, &key, None, text(&case["column_bytes_ascii"]).as_bytes()).unwrap();
        assert_eq!(opened.expose_secret(), text(&case["plaintext"]).as_bytes());
    }
    let json = &file["json_columns"];
    let key = key(text(&json["db_encryption_key"]), Trim::Nothing);
    let inner = text(&json["json_text"]).as_bytes();
    for single in ["single", "column_from_dict"] {
        let opened = open(Format::FaceJson, &key, None, text(&json[single]["bytes_ascii"]).as_bytes()).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(opened.expose_secret()).unwrap(), json["metadata"]);
    }
    let double = text(&json["double"]["column_bytes_ascii"]);
    assert_eq!(open(Format::FaceJsonDouble, &key, None, double.as_bytes()).unwrap().expose_secret(), inner);
}

#[test]
fn social_values_are_read() {
    let file = vector_file("apps/social-publisher.json");
    assert_eq!(cases(&file["derived_keys"], 6).len(), 6);
    let formats = [
        ("v1", 16, Format::SocialV1),
        ("encryption_ts", 5, Format::SocialGcm16),
        ("legacy_cbc", 16, Format::SocialCbcLegacy),
    ];
    for (list, count, format) in formats {
        for case in cases(&file[list], count) {
            let key = key(text(&case["encryption_key"]), Trim::Nothing);
            let value = text(&case["token"]).as_bytes();
            assert!(identify(value).contains(&format));
            let opened = open(format, &key, None, value).unwrap();
            assert_eq!(opened.expose_secret(), text(&case["plaintext"]).as_bytes());
        }
    }
}

/// Where the application accepts truncated tags and returns ciphertext as if it were the secret,
/// there is an error.
#[test]
fn social_edge_cases_are_read_strictly() {
    let file = vector_file("apps/social-publisher.json");
    let derived = cases(&file["derived_keys"], 6);
    let key_text = derived.iter().find(|case| case["key_case"] == "openssl_base64_32").unwrap();
    let key = key(text(&key_text["encryption_key"]), Trim::Nothing);
    for case in cases(&file["decrypt_edge_cases"], 8) {
        let value = text(&case["token"]).as_bytes();
        let opened = [Format::SocialV1, Format::SocialGcm16, Format::SocialCbcLegacy]
            .into_iter()
            .find_map(|format| open(format, &key, None, value).ok());
        let expected = (case["case"] == "canonical").then_some(&b"probe"[..]);
        assert_eq!(opened.as_ref().map(vault_core::SecretBytes::expose_secret), expected, "{}", case["case"]);
    }
}

#[test]
fn what_is_written_is_read_and_needs_its_key_and_its_user() {
    let own = key(STRONG, Trim::Python);
    let other = key("k9m0xR2vWqYb7LcTzNf3HsJdPgUe5AoIiK1B4C6D8Es=", Trim::Python);
    for format in Format::ALL.into_iter().filter(|format| format.is_foreign() && format.writable()) {
        let secret: &[u8] = if matches!(format, Format::FaceJson | Format::FaceJsonDouble | Format::FlowfileStore) {
            br#"{"a": "b", "n": [1, 2]}"#
        } else {
            "pässwörd\n".as_bytes()
        };
        let value = seal(format, &own, Some("7"), secret).unwrap();
        assert!(format.fits(value.as_bytes()), "{format}");
        assert_eq!(open(format, &own, Some("7"), value.as_bytes()).unwrap().expose_secret(), secret, "{format}");
        assert_ne!(seal(format, &own, Some("7"), secret).unwrap(), value, "{format}: every value is fresh");
        let wrong = open(format, &other, Some("7"), value.as_bytes()).unwrap_err();
        assert!(matches!(wrong, Error::Corrupt { .. }), "{format}: {wrong}");
        if format == Format::FlowfileLegacyUser {
            assert!(open(format, &own, Some("8"), value.as_bytes()).is_err());
            assert!(matches!(open(format, &own, Some("07"), value.as_bytes()), Err(Error::Malformed { .. })));
        }
    }
    for format in [Format::Plaintext, Format::SocialCbcLegacy, Format::Vs1] {
        assert!(matches!(seal(format, &own, None, b"x"), Err(Error::CannotSeal { .. })), "{format}");
    }
}

#[test]
fn names_of_formats_read_back() {
    for format in Format::ALL {
        assert_eq!(Format::from_str(format.as_str()).unwrap(), format);
    }
    assert!(Format::from_str("flowfile").is_err());
}

proptest::proptest! {
    #[test]
    fn no_value_makes_a_reader_panic(value: Vec<u8>, near in "(\\$ffsec\\$1\\$[0-9]{1,3}\\$)?(gAAAAA)?[A-Za-z0-9_=-]{0,200}", hexes in "(v1:)?[0-9a-f]{0,40}:?[0-9a-f]{0,40}:?[0-9a-f]{0,40}") {
        thread_local! {
            static KEY: ForeignKey = key(STRONG, Trim::Python);
        }
        KEY.with(|key| {
            for value in [value.as_slice(), near.as_bytes(), hexes.as_bytes()] {
                for format in Format::ALL {
                    let _ = open(format, key, Some("1"), value);
                }
                let _ = (identify(value), owner(value));
            }
        });
    }
}
