//! tests/vectors/vs1 through the public interface. Known answers that need a fixed random value
//! run inside the crate.

use serde_json::Value;
use vault_core::{
    Context, Error, Found, KeyFormat, KeyTextError, Keyring, KeyringState, MasterKey, Result, Sealer, TextKey, Token,
    Trim,
};

use crate::{cases, hex, text, vector_file};

#[test]
fn tokens_are_refused_with_the_kind_that_they_are_wrong_in() {
    let file = vector_file("vs1/negatives.json");
    let sealer = two_keys(&file["keks"]);
    let open = |case: &Value| -> Result<Vec<u8>> {
        let token: Token = text(&case["token"]).parse()?;
        Ok(sealer.open(&context(&case["context"]), &token)?.expose_secret().to_vec())
    };
    assert_eq!(open(&file["valid"]).unwrap(), hex(&file["valid"]["plaintext"]));
    for case in cases(&file["negatives"], 37) {
        let kind = open(case).map(drop).unwrap_err().kind();
        assert_eq!(kind.as_str(), case["expect"], "{}", case["why"]);
    }
    assert_eq!(open(&file["replay"]).unwrap(), hex(&file["replay"]["plaintext"]), "a documented limit");
}

#[test]
fn a_payload_that_opens_under_two_data_keys_is_refused_under_the_second() {
    let attack = &vector_file("vs1/negatives.json")["commitment_attack"];
    let context = context(&attack["context"]);
    let open = |kek: &str, token: &str| {
        let sealer = Sealer::new(Keyring::single(MasterKey::parse(&hex(&attack[kek])).unwrap()));
        sealer.open(&context, &text(&attack[token]).parse::<Token>().unwrap())
    };
    let opened = open("kek1", "token_ok").unwrap();
    assert_eq!(opened.expose_secret(), hex(&attack["plaintext_of_token_ok_hex"]));
    let refused = open("kek2", "token_must_fail").unwrap_err();
    assert!(matches!(refused, Error::Corrupt { .. } | Error::ContextMismatch), "{refused}");
}

#[test]
fn a_rewrapped_copy_of_a_commitment_opens_nothing() {
    let attack = &vector_file("vs1/negatives.json")["rewrap_copied_commitment"];
    let keys = ["old_kek", "new_kek"].map(|name| MasterKey::parse(&hex(&attack[name])).unwrap());
    let planted: Token = text(&attack["planted"]).parse().unwrap();
    let victim: Token = text(&attack["victim"]).parse().unwrap();
    let sealer = sealer_under(keys, 1);
    let moved = sealer.rewrap(&planted).unwrap();
    assert_eq!(moved.to_string(), attack["rewrapped"]);
    // The two wraps are of different keys under one commitment: their bytes share nothing.
    let wrap = |token: &Token| token.to_string()[22..86].to_owned();
    assert_ne!(wrap(&moved), wrap(&victim));
    let context = Context::new("user-secret").tenant("42").name("prod_db");
    assert!(matches!(sealer.open(&context, &moved), Err(Error::ContextMismatch)));
}

#[test]
fn key_texts_are_accepted_and_refused_as_known() {
    for case in cases(&vector_file("vs1/master_key_text.json")["tests"], 32) {
        let content = hex(&case["file_hex"]);
        let parsed = MasterKey::parse(&content);
        if case["expect"] == "accept" {
            let key = parsed.unwrap();
            let format = match key.format() {
                KeyFormat::Raw => "raw32",
                KeyFormat::Hex => "hex64",
                KeyFormat::Base64Standard => "base64std",
                KeyFormat::Base64Url => "base64url",
                other => panic!("{other:?}"),
            };
            assert_eq!(format, case["format"]);
            let same = MasterKey::parse(&hex(&case["key"])).unwrap();
            assert_eq!(key.kid(), same.kid(), "the bytes are the known ones");
            continue;
        }
        let reason = parsed.unwrap_err();
        let expected = text(&case["reason"]);
        let class = match reason {
            KeyTextError::Empty => "empty",
            KeyTextError::ByteOrderMark => "byte order mark",
            KeyTextError::InnerSpace => "whitespace inside",
            KeyTextError::HalfHex => "32 hex digits",
            KeyTextError::Weak(_) => "weak key",
            KeyTextError::Published => "published key",
            KeyTextError::Base64 => "bad base64",
            KeyTextError::Quoted | KeyTextError::Variable | KeyTextError::Unrecognised(_) => "unrecognised",
            other => panic!("{other:?}"),
        };
        assert!(expected.starts_with(class), "{reason:?} for {expected}");
        if matches!(reason, KeyTextError::Weak(_) | KeyTextError::Published) {
            let key = MasterKey::parse_for_opening(&content).unwrap();
            assert_eq!(key.flaw(), Some(reason));
            let sealer = Sealer::new(Keyring::single(key));
            assert!(
                matches!(sealer.seal(&Context::none(), b"x"), Err(Error::CannotSeal { .. })),
                "it opens, and never seals"
            );
        }
        assert_eq!(case["published"] == 1, reason == KeyTextError::Published);
    }
}

#[test]
fn key_texts_have_the_known_ids() {
    for case in cases(&vector_file("vs1/text_key_ids.json")["tests"], 4) {
        let key = TextKey::parse(text(&case["text"]).as_bytes(), Trim::Nothing).unwrap();
        assert_eq!(key.kid().as_str(), case["kid"]);
    }
}

#[test]
fn published_values_are_known_as_such() {
    let file = vector_file("apps/known-public-values.json");
    for case in cases(&file["values"], 18) {
        let key = TextKey::parse(text(&case["value"]).as_bytes(), Trim::Nothing).unwrap();
        assert_eq!(key.flaw(), Some(KeyTextError::Published), "{}", case["what"]);
    }
}

#[test]
fn a_tenant_key_is_wrapped_and_unwrapped() {
    let file = vector_file("vs1/wrapped_key.json");
    let sealer = Sealer::new(Keyring::single(MasterKey::parse(&hex(&file["master"])).unwrap()));
    let wrapped = text(&file["wrapped"]).parse().unwrap();
    let tenant = sealer.unwrap_key(&wrapped, Some("42")).unwrap();
    assert_eq!(tenant.kid().as_str(), file["tenant_kid"]);
    let sealed = &file["sealed_with_tenant_key"];
    let opened = Sealer::new(Keyring::single(tenant))
        .open(&context(&sealed["context"]), &text(&sealed["token"]).parse().unwrap());
    assert_eq!(opened.unwrap().expose_secret(), hex(&sealed["plaintext"]));
    assert!(matches!(sealer.unwrap_key(&wrapped, None), Err(Error::ContextMismatch)));
    for (text, kind) in [
        ("vk2.x", "unsupported"),
        ("vs1.x", "malformed"),
        ("vk1.kbrt5vz3is5itz23y.AA.AA", "malformed"),
        (&"v".repeat(162), "too-large"),
    ] {
        assert_eq!(text.parse::<vault_core::WrappedKey>().unwrap_err().kind().as_str(), kind, "{text}");
    }
}

/// Both keys loaded; the first is primary.
fn two_keys(keys: &Value) -> Sealer {
    sealer_under(["k1", "k2"].map(|name| MasterKey::parse(&hex(&keys[name])).unwrap()), 0)
}

/// A sealer over two keys of which one is primary, by way of a state file on disk.
pub(crate) fn sealer_under(keys: [MasterKey; 2], primary: usize) -> Sealer {
    let directory = tempfile::tempdir().unwrap();
    let write =
        |name: &str, key: &MasterKey| std::fs::write(directory.path().join(name), key.text().expose_secret()).unwrap();
    std::fs::write(
        directory.path().join("vault.toml"),
        "version = 1\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"state.toml\"\n",
    )
    .unwrap();
    write("kek_0", &keys[0]);
    write("new_1", &keys[1]);
    let config = || vault_core::Config::from_file(directory.path().join("vault.toml")).unwrap();
    vault_core::Vault::key_add(&config(), "main", &directory.path().join("new_1"), None, None).unwrap();
    let vault = vault_core::Vault::load(config()).unwrap();
    if primary == 1 {
        crate::promote(&vault, "main", keys[1].kid(), None).unwrap();
    }
    let state = std::fs::read_to_string(directory.path().join("state.toml")).unwrap();
    let state = KeyringState::parse(&state, std::path::Path::new("state.toml")).unwrap();
    let found = keys.into_iter().map(|key| Found { key, place: "a test".to_owned() }).collect();
    Sealer::new(Keyring::load(found, Some(state), 0).unwrap())
}

pub(crate) fn context(value: &Value) -> Context {
    let mut context = Context::none();
    for (field, value) in value.as_object().unwrap() {
        context = match field.as_str() {
            "tenant" => context.tenant(text(value)),
            "name" => context.name(text(value)),
            "purpose" => context.purpose(text(value)),
            other => panic!("unknown field {other}"),
        };
    }
    context
}
