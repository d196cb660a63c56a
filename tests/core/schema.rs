use std::fs;
use std::path::Path;

use regex_lite::Regex;
use serde_json::{Map, Value, json};
use vault_core::Manifest;

use crate::manifest::EXAMPLE;

/// Every example of the documents, every vector, and the example of the tests: the schema takes
/// what the reader takes.
#[test]
fn the_schema_takes_the_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut examples = vec![EXAMPLE.to_owned()];
    for directory in ["", "docs"] {
        for file in fs::read_dir(root.join(directory)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(path).unwrap();
                let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
                examples.extend(blocks.filter(|block| block.starts_with("version = 1")).map(str::to_owned));
            }
        }
    }
    for file in fs::read_dir(root.join("tests/vectors/manifest")).unwrap() {
        examples.push(fs::read_to_string(file.unwrap().path()).unwrap());
    }
    assert!(examples.len() >= 3, "{}", examples.len());
    let mut taken = 0;
    for example in &examples {
        let mistakes = mistakes(example);
        let read = Manifest::parse(example, Path::new("/etc/vault.toml"), None);
        assert_eq!(mistakes.is_empty(), read.is_ok(), "{mistakes:?} {:?}\n{example}", read.err());
        taken += usize::from(mistakes.is_empty());
    }
    assert!(taken >= 2, "{taken}");
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    for (from, to, place) in [
        ("version = 1", "version = 2", "/version"),
        ("version = 1", "", ""),
        ("nodes = 3", "nodes = 0", "/vault/nodes"),
        ("nodes = 3", "node = 3", "/vault/node"),
        ("preset = \"strict\"", "preset = \"guess\"", "/vault/preset"),
        ("kind = \"text\"", "kind = \"texts\"", "/keyring/flowfile/kind"),
        ("sources = [\"file:/run/secrets/vault_kek_*\"]", "sources = []", "/keyring/main/sources"),
        ("file:/run/secrets/vault_kek_*", "/run/secrets/vault_kek_*", "/keyring/main/sources/0"),
        ("sqlite:vault.db", "vault.db", "/store/url"),
        ("type = \"hex\"", "type = \"hexa\"", "/secrets/ENCRYPTION_KEY/type"),
        ("bytes = 32", "bytes = \"32\"", "/secrets/ENCRYPTION_KEY/bytes"),
        ("bytes = 32", "bytes = -1", "/secrets/ENCRYPTION_KEY/bytes"),
        ("\"90d\"", "\"3 months\"", "/secrets/JWT_SECRET_KEY/rotate_every"),
        ("\"90d\"", "\"0d\"", "/secrets/JWT_SECRET_KEY/rotate_every"),
        ("\nrotated = 2026-01-31", "\nrotated = 07:32:00", "/secrets/JWT_SECRET_KEY/rotated"),
        ("[secrets.ENCRYPTION_KEY]", "[secrets.'A B']", "/secrets/A B"),
        ("[keyring.main]", "[keyring.'a b']", "/keyring/a b"),
        ("writes = \"flowfile-v1\"", "writes = \"plaintext\"", "/column/0/writes"),
        ("row = [\"id\"]", "row = []", "/column/0/row"),
        ("table = \"secrets\"", "", "/column/0"),
        ("tenant = \"{user_id}\"", "owner = \"{user_id}\"", "/column/0/context/owner"),
    ] {
        let text = EXAMPLE.replacen(from, to, 1);
        assert_ne!(text, EXAMPLE, "{from}");
        assert!(Manifest::parse(&text, Path::new("/etc/vault.toml"), None).is_err(), "{to}");
        let mistakes = mistakes(&text);
        assert!(mistakes.iter().any(|mistake| mistake == place), "{to}: {mistakes:?}");
    }
}

/// Where a text does not fit the schema.
fn mistakes(text: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(&Manifest::schema()).unwrap();
    let value = as_json(&toml::Value::Table(text.parse().unwrap()));
    let mut mistakes = Vec::new();
    validate(&schema, &schema, &value, "", &mut mistakes);
    mistakes
}

/// As the plug-ins of editors hand TOML to a validator: dates are texts.
fn as_json(value: &toml::Value) -> Value {
    match value {
        toml::Value::Table(table) => table.iter().map(|(name, value)| (name.clone(), as_json(value))).collect(),
        toml::Value::Array(items) => items.iter().map(as_json).collect(),
        toml::Value::Boolean(value) => json!(value),
        toml::Value::Datetime(value) => json!(value.to_string()),
        toml::Value::Float(value) => json!(value),
        toml::Value::Integer(value) => json!(value),
        toml::Value::String(value) => json!(value),
    }
}

/// The part of JSON Schema that the schema uses; any other word fails.
fn validate(root: &Value, schema: &Value, value: &Value, at: &str, mistakes: &mut Vec<String>) {
    let none = Map::new();
    let object = value.as_object().unwrap_or(&none);
    for (word, rule) in schema.as_object().unwrap() {
        let mut check = |good: bool, at: &str| {
            if !good {
                mistakes.push(at.to_owned());
            }
        };
        match word.as_str() {
            "$schema" | "title" | "description" | "definitions" => {}
            "type" => check(
                match rule.as_str().unwrap() {
                    "array" => value.is_array(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64(),
                    "object" => value.is_object(),
                    _ => value.is_string(),
                },
                at,
            ),
            "const" => check(value == rule, at),
            "enum" => check(rule.as_array().unwrap().contains(value), at),
            "minimum" => check(value.as_i64().is_none_or(|value| value >= rule.as_i64().unwrap()), at),
            "minLength" => check(value.as_str().is_none_or(|text| !text.is_empty()), at),
            "minItems" => check(value.as_array().is_none_or(|items| !items.is_empty()), at),
            "pattern" => check(value.as_str().is_none_or(|text| matches(rule, text)), at),
            "format" => check(value.as_str().is_none_or(|text| matches(&json!(r"^\d{4}-\d\d-\d\d$"), text)), at),
            "required" => {
                check(rule.as_array().unwrap().iter().all(|name| object.contains_key(name.as_str().unwrap())), at);
            }
            "propertyNames" => {
                for name in object.keys() {
                    check(matches(&rule["pattern"], name), &format!("{at}/{name}"));
                }
            }
            "$ref" => {
                let name = rule.as_str().unwrap().strip_prefix("#/definitions/").unwrap();
                validate(root, &root["definitions"][name], value, at, mistakes);
            }
            "allOf" => rule.as_array().unwrap().iter().for_each(|rule| validate(root, rule, value, at, mistakes)),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    validate(root, rule, item, &format!("{at}/{index}"), mistakes);
                }
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(value) = object.get(name) {
                        validate(root, rule, value, &format!("{at}/{name}"), mistakes);
                    }
                }
            }
            "additionalProperties" => {
                for (name, value) in object {
                    let known = schema["properties"].get(name).is_some();
                    match rule {
                        Value::Bool(false) if !known => mistakes.push(format!("{at}/{name}")),
                        Value::Object(_) if !known => validate(root, rule, value, &format!("{at}/{name}"), mistakes),
                        _ => {}
                    }
                }
            }
            _ => panic!("unknown word {word}"),
        }
    }
}

fn matches(pattern: &Value, text: &str) -> bool {
    Regex::new(pattern.as_str().unwrap()).unwrap().is_match(text)
}
