//! tests/vectors/apps: what the applications wrote is read, and what is written they could read.

use std::str::FromStr;

use proptest::prelude::*;
use vault_core::legacy::{LegacyKey, MAX_VALUE, identify, open, owner, seal};
use vault_core::{Error, Format, Kind, TextKey, Trim};

use crate::{cases, hex, text, vector_file};

fn key(text: &str, trim: Trim) -> LegacyKey {
    LegacyKey::new(TextKey::parse(text.as_bytes(), trim).unwrap())
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
        if let Err(error) = opened {
            let forged = matches!(
                text(&case["name"]),
                "MAC bit flipped" | "ciphertext bit flipped" | "no key known, forged, timestamp 2^64-1"
            );
            let kind = if forged { Kind::Corrupt } else { Kind::Malformed };
            assert_eq!(error.kind(), kind, "{}", case["name"]);
        }
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
        let value = text(&case["encrypted_value"]).as_bytes();
        let opened = open(Format::FlowfileV1, &master, None, value);
        let kind = match text(&case["case"]) {
            "canonical" => None,
            "tampered_last" => Some(Kind::Corrupt),
            "leading_space" | "no_dollar" | "no_padding" | "plus_uid" | "raw_garbage" | "std_alphabet"
            | "trailing_dollar" | "truncated" | "uid_empty" | "underscore_uid" | "version_2" => Some(Kind::Malformed),
            other => panic!("nothing is decided about {other}"),
        };
        assert_eq!(opened.as_ref().err().map(Error::kind), kind, "{}", case["case"]);
        assert_eq!(owner(value), (kind != Some(Kind::Malformed)).then_some(7), "{}", case["case"]);
        if let Ok(opened) = opened {
            assert_eq!(opened.expose_secret(), text(&case["plaintext"]).as_bytes());
        }
    }
}

/// Spellings that the recorded cases have not.
#[test]
fn flowfile_values_have_one_spelling() {
    let own = key(STRONG, Trim::Python);
    let value = seal(Format::FlowfileV1, &own, Some("7"), b"x").unwrap();
    let token = value.strip_prefix("$ffsec$1$7$").unwrap();
    for id in ["07", " 7", "7 ", "-7", "\u{667}", "18446744073709551616", "7$8"] {
        let wrong = format!("$ffsec$1${id}${token}");
        assert!(matches!(open(Format::FlowfileV1, &own, None, wrong.as_bytes()), Err(Error::Malformed { .. })), "{id}");
    }
    for wrong in [format!("{value}\n"), value.replacen('f', "F", 1), format!("$ffsec$1$7$ {token}")] {
        assert!(matches!(open(Format::FlowfileV1, &own, None, wrong.as_bytes()), Err(Error::Malformed { .. })));
    }
    let another = format!("$ffsec$1$8${token}");
    assert!(matches!(open(Format::FlowfileV1, &own, None, another.as_bytes()), Err(Error::Corrupt { .. })));
    // Who asks is not who owns: the user inside decides.
    assert_eq!(open(Format::FlowfileV1, &own, Some("8"), value.as_bytes()).unwrap().expose_secret(), b"x");
}

#[test]
fn a_flowfile_store_is_read() {
    let file = vector_file("apps/flowfile-secure-storage.json");
    let store_key = key(text(&file["files"][".secret_key"]), Trim::Python);
    let store =
        open(Format::FlowfileStore, &store_key, None, text(&file["files"]["flowfile.json.enc"]).as_bytes()).unwrap();
    assert_eq!(store.expose_secret(), text(&file["store_plaintext_json"]).as_bytes());
    let own = key(STRONG, Trim::Python);
    for wrong in [&b"[]"[..], b"{", b"{} {}", b"", b"null", b"{\"a\": \"\xff\"}"] {
        assert!(matches!(seal(Format::FlowfileStore, &own, None, wrong), Err(Error::Malformed { .. })));
        let bare = seal(Format::Fernet, &own, None, wrong).unwrap();
        assert!(matches!(open(Format::FlowfileStore, &own, None, bare.as_bytes()), Err(Error::Malformed { .. })));
    }
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
        let halves = [&case["signing_key_hex"], &case["aes128_key_hex"]].map(hex).concat();
        assert_eq!(derived, halves, "{}", case["key_case"]);
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
    let outer = open(Format::FaceColumn, &key, None, double.as_bytes()).unwrap();
    assert_eq!(outer.expose_secret(), text(&json["double"]["outer_plaintext"]).as_bytes());
}

/// A column that holds both must not give an inner token away as the secret, and a value that is
/// written has the layout of the application's rows.
#[test]
fn layers_of_the_face_columns_are_told_apart() {
    let own = key("correct horse battery staple, twice", Trim::Nothing);
    let json = br#"{"ip_address": "10.0.0.1"}"#;
    let single = seal(Format::FaceJson, &own, None, json).unwrap();
    let double = seal(Format::FaceJsonDouble, &own, None, json).unwrap();
    let outer = open(Format::FaceColumn, &own, None, double.as_bytes()).unwrap();
    let inner = core::str::from_utf8(outer.expose_secret()).unwrap();
    let inner = inner.strip_prefix("\"b'").unwrap().strip_suffix("'\"").unwrap();
    assert_eq!(open(Format::FaceJson, &own, None, inner.as_bytes()).unwrap().expose_secret(), json);

    let readable = seal(Format::FaceColumn, &own, None, format!("\"{single}\"").as_bytes()).unwrap();
    assert_eq!(open(Format::FaceJsonDouble, &own, None, readable.as_bytes()).unwrap().expose_secret(), json);
    for value in [&double, &readable] {
        assert!(matches!(open(Format::FaceJson, &own, None, value.as_bytes()), Err(Error::Malformed { .. })));
    }
    assert!(matches!(open(Format::FaceJsonDouble, &own, None, single.as_bytes()), Err(Error::Malformed { .. })));
    let encrypted = format!("\"b'{single}'\"");
    for format in [Format::FaceJson, Format::FaceJsonDouble] {
        assert!(matches!(seal(format, &own, None, encrypted.as_bytes()), Err(Error::Malformed { .. })), "{format}");
        assert!(matches!(seal(format, &own, None, b"no JSON"), Err(Error::Malformed { .. })), "{format}");
    }

    let other = key("another key text altogether", Trim::Nothing);
    let legacy_inner = seal(Format::FaceJson, &other, None, json).unwrap();
    let mixed = seal(Format::FaceColumn, &own, None, format!("\"b'{legacy_inner}'\"").as_bytes()).unwrap();
    let opened = open(Format::FaceJsonDouble, &own, None, mixed.as_bytes());
    assert!(matches!(opened, Err(Error::Corrupt { .. })), "one key opens every layer");
}

#[test]
fn social_values_are_read() {
    let file = vector_file("apps/social-publisher.json");
    let formats = [
        ("v1", 16, Format::SocialV1),
        ("encryption_ts", 5, Format::SocialGcm16),
        ("legacy_cbc", 16, Format::SocialCbcLegacy),
    ];
    for (list, count, format) in formats {
        for case in cases(&file[list], count) {
            let key = key(text(&case["encryption_key"]), Trim::Nothing);
            let value = text(&case["token"]).as_bytes();
            assert_eq!(identify(value), [format]);
            assert_eq!(format.authenticated(), format != Format::SocialCbcLegacy);
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
        let kind = match text(&case["case"]) {
            "canonical" => None,
            "tampered_ct" => Some(Kind::Corrupt),
            "V1_uppercase"
            | "encryption_ts_format"
            | "extra_colon"
            | "plaintext_hexlike"
            | "tag_truncated_12"
            | "trailing_newline" => Some(Kind::Malformed),
            other => panic!("nothing is decided about {other}"),
        };
        let opened = open(Format::SocialV1, &key, None, value);
        assert_eq!(opened.as_ref().err().map(Error::kind), kind, "{}", case["case"]);
        if let Ok(opened) = opened {
            assert_eq!(opened.expose_secret(), b"probe");
        }
        for format in [Format::SocialGcm16, Format::SocialCbcLegacy] {
            assert!(matches!(open(format, &key, None, value), Err(Error::Malformed { .. })), "{}", case["case"]);
        }
    }
}

#[test]
fn social_values_are_of_one_length_and_either_case() {
    let own = key("correct horse battery staple, twice", Trim::Nothing);
    let value = seal(Format::SocialV1, &own, None, b"probe").unwrap();
    assert_eq!(value, value.to_lowercase());
    let upper = format!("v1:{}", value.strip_prefix("v1:").unwrap().to_uppercase());
    assert_eq!(open(Format::SocialV1, &own, None, upper.as_bytes()).unwrap().expose_secret(), b"probe");
    let parts: Vec<_> = value.split(':').collect();
    let tags = [&parts[2][..8], &parts[2][..24], &parts[2][..30], &format!("{}00", parts[2])];
    for wrong in tags.map(|tag| ["v1", parts[1], tag, parts[3]].join(":")).into_iter().chain([
        format!("{value}zz"),
        format!("{value}0"),
        format!(" {value}"),
        value.replacen("v1:", "v2:", 1),
        ["v1", &parts[1][..22], parts[2], parts[3]].join(":"),
    ]) {
        assert!(
            matches!(open(Format::SocialV1, &own, None, wrong.as_bytes()), Err(Error::Malformed { .. })),
            "{wrong}"
        );
    }
}

/// Only the padding and the text tell whether a value without a MAC was opened with its key.
/// Written by Node's `createCipher`.
#[test]
fn values_without_a_mac_give_printable_text_or_nothing() {
    let own = key("correct horse battery staple, twice", Trim::Nothing);
    let text = "25e547388553beeb3b608a10c4494787";
    let opened = open(Format::SocialCbcLegacy, &own, None, text.as_bytes()).unwrap();
    assert_eq!(opened.expose_secret(), b"\t\n\rA");
    for (why, value) in [
        ("NUL", "f8ecda1cb8eb9f30041ef341c3053ba3"),
        ("an escape sequence", "cd67b3c365cb5bbe603beed7dda2dd61"),
        ("no UTF-8", "6d32b66816e04fbf9c9c1e24b78ade15"),
        ("no padding", "25e547388553beeb3b608a10c4494788"),
    ] {
        let opened = open(Format::SocialCbcLegacy, &own, None, value.as_bytes());
        assert!(matches!(opened, Err(Error::Corrupt { .. })), "{why}");
    }
    for value in [&text[1..], &text[2..], &text.to_uppercase(), &format!("{text}\n"), ""] {
        let opened = open(Format::SocialCbcLegacy, &own, None, value.as_bytes());
        assert!(matches!(opened, Err(Error::Malformed { .. })), "{value}");
    }
}

#[test]
fn what_is_written_is_read_and_needs_its_key_and_its_user() {
    let own = key(STRONG, Trim::Python);
    let other = key("k9m0xR2vWqYb7LcTzNf3HsJdPgUe5AoIiK1B4C6D8Es=", Trim::Python);
    for format in Format::ALL.into_iter().filter(|format| format.is_legacy() && format.writable()) {
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
        assert!(wrong.to_string().starts_with(&format!("{format} value ")), "{wrong}");
        if format == Format::FlowfileLegacyUser {
            assert!(open(format, &own, Some("8"), value.as_bytes()).is_err());
            assert!(matches!(open(format, &own, Some("07"), value.as_bytes()), Err(Error::Malformed { .. })));
        }
    }
    for format in [Format::Plaintext, Format::SocialCbcLegacy, Format::Vs1] {
        assert!(matches!(seal(format, &own, None, b"x"), Err(Error::CannotSeal { .. })), "{format}");
    }
}

/// Whoever has a weak or published key must be able to move away from it, and no further.
#[test]
fn weak_and_published_keys_open_and_never_seal() {
    for weak in ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="] {
        let weak = key(weak, Trim::Python);
        assert!(weak.flaw().is_some());
        for format in Format::ALL {
            assert!(matches!(seal(format, &weak, Some("1"), b"{}"), Err(Error::CannotSeal { .. })), "{format}");
        }
    }
    let case = &vector_file("apps/flowfile.json")["envelope_v1"][1];
    let weak = key(text(&case["master_key"]), Trim::Python);
    assert!(open(Format::FlowfileV1, &weak, None, text(&case["encrypted_value"]).as_bytes()).is_ok());
}

/// The formats of Flowfile need a Fernet key, though most of them would work with any text.
#[test]
fn a_key_text_of_the_wrong_kind_is_named() {
    let words = key("correct horse battery staple, twice", Trim::Python);
    let own = key(STRONG, Trim::Python);
    for format in [
        Format::Fernet,
        Format::FlowfileLegacyMaster,
        Format::FlowfileLegacyUser,
        Format::FlowfileStore,
        Format::FlowfileV1,
    ] {
        let value = seal(format, &own, Some("1"), b"{}").unwrap();
        let opened = open(format, &words, Some("1"), value.as_bytes()).unwrap_err();
        assert!(matches!(opened, Error::Malformed { .. }) && opened.to_string().contains("Fernet key"), "{opened}");
        let sealed = seal(format, &words, Some("1"), b"{}").unwrap_err();
        assert!(matches!(sealed, Error::CannotSeal { .. }) && sealed.to_string().contains("Fernet key"), "{sealed}");
    }
}

/// FORMAT.md, "Fernet keys": either alphabet, white space around it, padding or none.
#[test]
fn fernet_keys_are_read_in_either_alphabet() {
    let bytes = *b"\xfb\xef\xbe\x01\x9a\x23\x45\x67\x89\xab\xcd\xef\x10\x32\x54\x76\x98\xba\xdc\xfe\x55\x13\x37\xff\xfe\x2b\x4d\x6f\x80\x71\x62\x3e";
    let encode = |engine: &dyn Fn(&[u8]) -> String| engine(&bytes);
    let url = encode(&|b| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE, b));
    let standard = encode(&|b| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, b));
    assert_ne!(url, standard);
    let value = seal(Format::Fernet, &key(&url, Trim::Python), None, b"x").unwrap();
    for accepted in [standard.clone(), format!(" {url}\r\n"), url.trim_end_matches('=').to_owned()] {
        let key = key(&accepted, Trim::LineBreak);
        assert_eq!(open(Format::Fernet, &key, None, value.as_bytes()).unwrap().expose_secret(), b"x");
    }
    let last = format!("{}/=", &url[..42]);
    for refused in
        [format!("\"{url}\""), format!("{url}x"), format!("{} {}", &url[..20], &url[20..]), last, "ab".repeat(32)]
    {
        let key = key(&refused, Trim::LineBreak);
        assert!(matches!(open(Format::Fernet, &key, None, value.as_bytes()), Err(Error::Malformed { .. })));
    }
    // The same bytes and other texts: one key for bare tokens, two masters of user keys.
    let value = seal(Format::FlowfileV1, &key(&url, Trim::Python), Some("1"), b"x").unwrap();
    let opened = open(Format::FlowfileV1, &key(&standard, Trim::Python), None, value.as_bytes());
    assert!(matches!(opened, Err(Error::Corrupt { .. })));
}

#[test]
fn a_tenant_is_a_user_id() {
    let own = key(STRONG, Trim::Python);
    let value = seal(Format::FlowfileLegacyUser, &own, Some("7"), b"x").unwrap();
    for wrong in [None, Some(""), Some("+7"), Some("7 "), Some("07"), Some("seven"), Some("18446744073709551616")] {
        let opened = open(Format::FlowfileLegacyUser, &own, wrong, value.as_bytes());
        assert!(matches!(opened, Err(Error::Malformed { .. })), "{wrong:?}");
        for format in [Format::FlowfileLegacyUser, Format::FlowfileV1] {
            assert!(matches!(seal(format, &own, wrong, b"x"), Err(Error::Malformed { .. })), "{wrong:?}");
        }
    }
}

#[test]
fn what_is_too_long_is_neither_read_nor_written() {
    let own = key(STRONG, Trim::Python);
    let long = vec![b'0'; MAX_VALUE + 1];
    for format in Format::ALL.into_iter().filter(|format| format.is_legacy()) {
        assert!(matches!(open(format, &own, Some("1"), &long), Err(Error::TooLarge { .. })), "{format}");
        if format.writable() {
            assert!(matches!(seal(format, &own, Some("1"), &long), Err(Error::TooLarge { .. })), "{format}");
        }
    }
    // What is written can be read, up to the last byte.
    let longest = &long[..(MAX_VALUE - "v1:".len() - 24 - 1 - 32 - 1) / 2];
    let value = seal(Format::SocialV1, &own, None, longest).unwrap();
    assert!(value.len() > MAX_VALUE - 2);
    assert_eq!(open(Format::SocialV1, &own, None, value.as_bytes()).unwrap().len(), longest.len());
    let one_more = &long[..longest.len() + 1];
    assert!(matches!(seal(Format::SocialV1, &own, None, one_more), Err(Error::TooLarge { .. })));
}

#[test]
fn formats_are_identified_by_their_syntax() {
    let own = key(STRONG, Trim::Python);
    let bare = seal(Format::Fernet, &own, None, b"x").unwrap();
    let found = identify(bare.as_bytes());
    assert_eq!(found[0], Format::Fernet, "all that the syntax tells");
    assert_eq!(
        found[1..],
        [
            Format::FaceColumn,
            Format::FaceJson,
            Format::FaceJsonDouble,
            Format::FlowfileLegacyMaster,
            Format::FlowfileLegacyUser,
            Format::FlowfileStore
        ]
    );
    for format in [Format::FlowfileV1, Format::SocialGcm16, Format::SocialV1] {
        assert_eq!(identify(seal(format, &own, Some("1"), b"x").unwrap().as_bytes()), [format]);
    }
    assert_eq!(identify(b"vs1.anything"), [Format::Vs1]);
    assert!(identify(b"a password").is_empty() && identify(b"").is_empty() && identify(b"\xff").is_empty());
}

#[test]
fn names_of_formats_read_back() {
    for format in Format::ALL {
        assert_eq!(Format::from_str(format.as_str()).unwrap(), format);
    }
    assert!(Format::from_str("flowfile").is_err());
}

thread_local! {
    static OWN: LegacyKey = key(STRONG, Trim::Python);
}

/// Opens what `near` gives in every format: an answer or an error, and no panic.
fn open_as_everything(value: &[u8]) {
    OWN.with(|own| {
        for format in Format::ALL {
            let opened = open(format, own, Some("1"), value);
            assert!(format.fits(value) || opened.is_err(), "{format}");
        }
    });
    let fitting = Format::ALL.into_iter().filter(|format| *format != Format::Plaintext && format.fits(value)).count();
    assert_eq!(identify(value).len(), fitting);
    assert_eq!(owner(value).is_some(), Format::FlowfileV1.fits(value));
}

/// A secret that the format holds, made of any bytes.
fn secret_for(format: Format, bytes: &[u8]) -> Vec<u8> {
    match format {
        Format::FaceJson | Format::FaceJsonDouble | Format::FlowfileStore => {
            serde_json::to_vec(&serde_json::json!({ "secret": bytes })).unwrap()
        }
        _ => bytes.to_vec(),
    }
}

fn writable_format() -> impl Strategy<Value = Format> {
    let formats: Vec<_> = Format::ALL.into_iter().filter(|f| f.is_legacy() && f.writable()).collect();
    assert_eq!(formats.len(), 10);
    proptest::sample::select(formats)
}

proptest! {
    #![proptest_config({ let all = ProptestConfig::default(); ProptestConfig { cases: 2 * all.cases, ..all } })]

    #[test]
    fn any_bytes_are_read_or_refused(value: Vec<u8>) {
        open_as_everything(&value);
    }

    #[test]
    fn near_fernet_tokens_are_read_or_refused(value in "[ \n]?gAAAA[A-P]([A-Za-z0-9_-]{91}[AQgw]==|[A-Za-z0-9_-]{90,100}={0,3})[ \n]?") {
        open_as_everything(value.as_bytes());
    }

    #[test]
    fn near_flowfile_values_are_read_or_refused(value in " ?\\$ffsec\\$[12]\\$[+ ]?[0-9_]{0,21}\\$gAAAAA([A-Za-z0-9_-]{91}[AQgw]==|[A-Za-z0-9_-]{90,94}={0,2}\\$?)") {
        open_as_everything(value.as_bytes());
    }

    #[test]
    fn near_social_values_are_read_or_refused(value in "(v1:)?([0-9a-fA-F]{24}|[0-9a-f]{32})(:[0-9a-f]{24,32}|:[0-9a-f]{32})?:?([0-9a-f]{2}){0,20}:?") {
        open_as_everything(value.as_bytes());
    }

    #[test]
    fn hex_blocks_are_read_or_refused(value in "([0-9a-f]{32}){0,4}[0-9A-F]{0,2}") {
        open_as_everything(value.as_bytes());
    }

    #[test]
    fn what_is_sealed_opens(format in writable_format(), bytes: Vec<u8>, uid: u64) {
        let (secret, uid) = (secret_for(format, &bytes), uid.to_string());
        let (opened, owner) = OWN.with(|own| {
            let value = seal(format, own, Some(&uid), &secret).unwrap();
            (open(format, own, Some(&uid), value.as_bytes()).unwrap(), owner(value.as_bytes()))
        });
        prop_assert_eq!(opened.expose_secret(), &secret);
        prop_assert_eq!(owner.map(|uid| uid.to_string()), (format == Format::FlowfileV1).then_some(uid));
    }

    /// Every authenticated format notices every altered character, wherever it is.
    #[test]
    fn what_is_altered_does_not_open(format in writable_format(), bytes: Vec<u8>, at: proptest::sample::Index, to in "[A-Za-z0-9_=:$-]") {
        let secret = secret_for(format, &bytes);
        OWN.with(|own| {
            let value = seal(format, own, Some("7"), &secret).unwrap();
            let mut altered = value.clone();
            let at = at.index(value.len());
            altered.replace_range(at..=at, &to);
            // Hex digits of the other case are the same digits; the `v1:` before them has one case.
            let is_hex = format == Format::SocialGcm16 || format.as_str().starts_with("social") && altered.starts_with("v1:");
            if is_hex && altered.eq_ignore_ascii_case(&value) {
                return;
            }
            if altered != value {
                let error = open(format, own, Some("7"), altered.as_bytes()).unwrap_err();
                assert!(matches!(error, Error::Corrupt { .. } | Error::Malformed { .. }), "{error}");
            }
        });
    }
}
