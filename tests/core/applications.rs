//! The remaining rows of tests/vectors/apps: what the applications read is what is delivered by the
//! strict rule, but for the white space that each trims its own way; what is refused here is what
//! they let through. Presets that reproduce each application are not part of this release.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::Value;
use vault_core::foreign::{ForeignKey, open, seal};
use vault_core::{Error, Format, Kind, Manifest, Resolver, Result, SecretName, TextKey, Trim};

use crate::{cases, hex, text, vector_file};

/// What the strict rule gives for a name in an environment and a directory of mounts.
fn strict(name: &str, environment: &BTreeMap<String, OsString>, mounts: &std::path::Path) -> Result<Vec<u8>> {
    let nothing = Manifest::parse("version = 1\n", std::path::Path::new("/nowhere/vault.toml"), None).unwrap();
    let resolver = Resolver::new(&nothing).with_environment(environment.clone(), mounts);
    Ok(resolver.text(&SecretName::parse(name).unwrap())?.value.expose_secret().to_vec())
}

fn without_line_break(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

/// `trim()` of JavaScript.
fn js_trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() && c != '\u{85}' || c == '\u{feff}')
}

#[test]
fn secrets_of_the_two_node_applications() {
    for (file, count) in [("apps/raqeem.json", 12), ("apps/social-publisher.json", 17)] {
        for case in cases(&vector_file(file)["getSecret"], count) {
            let directory = tempfile::tempdir().unwrap();
            let mut environment: BTreeMap<String, OsString> = BTreeMap::new();
            if let Some(content) = case.get("file_hex") {
                let path = directory.path().join("secret");
                fs::write(&path, hex(content)).unwrap();
                environment.insert("X_FILE".to_owned(), path.into());
                match strict("X", &environment, directory.path()) {
                    Ok(value) => {
                        let value = String::from_utf8(value).unwrap();
                        assert_eq!(value, without_line_break(std::str::from_utf8(&hex(content)).unwrap()));
                        let theirs = String::from_utf8(hex(&case["result_utf8_hex"])).unwrap();
                        assert_eq!(js_trim(&value), theirs, "{case}");
                    }
                    // Empty, or no text: the applications return something all the same.
                    Err(error) => assert!(matches!(error.kind(), Kind::Config | Kind::Malformed), "{case}: {error}"),
                }
                continue;
            }
            let Some(variables) = case.get("env").and_then(Value::as_object) else { continue };
            for (name, value) in variables {
                let value = text(value).replace("$DIR", &directory.path().display().to_string());
                environment.insert(name.clone(), value.into());
            }
            let set = |name: &str| variables.get(name).map(text).filter(|value| !value.is_empty());
            let found = strict("X", &environment, directory.path());
            match (set("X_FILE"), set("X")) {
                (Some(_), Some(_)) => assert_eq!(found.unwrap_err().kind(), Kind::Config, "{case}"),
                (Some(_), None) => assert!(matches!(found, Err(Error::Io { .. })), "{case}: {found:?}"),
                (None, Some(value)) => assert_eq!(found.unwrap(), without_line_break(value).as_bytes(), "{case}"),
                (None, None) => assert!(matches!(found, Err(Error::NotFound { .. })), "{case}: {found:?}"),
            }
        }
    }
}

#[test]
fn keys_of_the_face_api_have_no_default() {
    for case in cases(&vector_file("apps/face.json")["get_encryption_key"], 6) {
        let variables = case["env"].as_object().unwrap();
        let environment = variables.iter().map(|(name, value)| (name.clone(), text(value).into())).collect();
        let directory = tempfile::tempdir().unwrap();
        let found = strict("DB_ENCRYPTION_KEY", &environment, directory.path());
        match variables.get("DB_ENCRYPTION_KEY").map(text).filter(|key| !key.is_empty()) {
            Some(key) => assert_eq!(found.unwrap(), without_line_break(key).as_bytes()),
            None if variables.contains_key("DB_ENCRYPTION_KEY_FILE") => assert!(matches!(found, Err(Error::Io { .. }))),
            None => assert!(matches!(found, Err(Error::NotFound { .. })), "{case}"),
        }
    }
}

#[test]
fn settings_of_fingerflow() {
    let file = vector_file("apps/fingerflow.json");
    for case in cases(&file["settings"], 17) {
        let variables = case["env"].as_object().unwrap();
        let environment = variables.iter().map(|(name, value)| (name.clone(), text(value).into())).collect();
        let directory = tempfile::tempdir().unwrap();
        let found = strict("SECRET_KEY", &environment, directory.path());
        if let Some(key) = variables.get("SECRET_KEY").map(text) {
            assert_eq!(found.unwrap(), without_line_break(key).as_bytes());
            assert_eq!(case["settings"]["secret_key"], key);
        } else if variables.contains_key("SECRET_KEY_FILE") {
            assert!(matches!(found, Err(Error::Io { .. })), "a file that is named is not ignored");
        } else {
            assert!(matches!(found, Err(Error::NotFound { .. })), "no default, and no .env unless imported: {case}");
        }
    }
    for case in cases(&file["secrets_dir"], 5) {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in case["files"].as_object().unwrap() {
            fs::write(directory.path().join(name), text(content)).unwrap();
        }
        let found = strict("SECRET_KEY", &BTreeMap::new(), directory.path());
        match case["files"].get("secret_key").map(text) {
            Some(content) => assert_eq!(found.unwrap(), without_line_break(content).as_bytes()),
            None => assert!(matches!(found, Err(Error::NotFound { .. })), "{case}"),
        }
    }
    assert!(!cases(&file["tokens"]["rows"], 1).is_empty());
}

/// The text that Flowfile's core uses gives the key that it derives, or is refused because it is
/// no canonical Fernet key.
#[test]
fn master_key_forms_of_flowfile() {
    let mut derived = 0;
    for case in cases(&vector_file("apps/flowfile.json")["master_key_env_forms"], 11) {
        let Some(used) = case["core"]["result"].as_str() else { continue };
        let user_key = URL_SAFE.encode(hex(&case["core"]["user1_key_hex"]));
        let user_key = ForeignKey::new(TextKey::parse(user_key.as_bytes(), Trim::Nothing).unwrap());
        let token = seal(Format::Fernet, &user_key, None, b"probe").unwrap();
        let Ok(master) = TextKey::parse(used.as_bytes(), Trim::Nothing) else { continue };
        match open(Format::FlowfileLegacyUser, &ForeignKey::new(master), Some("1"), token.as_bytes()) {
            Ok(secret) => {
                assert_eq!(secret.expose_secret(), b"probe");
                derived += 1;
            }
            Err(error) => assert_eq!(error.kind(), Kind::Malformed, "{}: {error}", case["case"]),
        }
    }
    assert!(derived >= 4, "{derived} forms");
}
