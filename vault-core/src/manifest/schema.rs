//! The JSON schema of `vault.toml`, by which editors complete and check it.
//!
//! The fields are those of [`text`](super::text), which a test compares.

use serde_json::{Map, Value, json};

use crate::format::Format;

use super::{Manifest, Preset, SecretKind};

impl Manifest {
    /// A JSON schema of the file: what `vault schema` prints, and `docs/vault.schema.json` is.
    #[must_use]
    pub fn schema() -> String {
        let schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "vault.toml",
            "description": "What an operator declares: keyrings, a store, secrets, and columns of applications' databases.",
            "definitions": {
                "vault": vault(), "keyring": keyring(), "store": store(), "profile": profile(), "secret": secret(),
                "column": column(), "context": context(),
            },
        });
        let mut all = file();
        if let (Value::Object(all), Value::Object(schema)) = (&mut all, schema) {
            all.extend(schema);
        }
        // A value that is made of literals always has a text.
        let mut text = serde_json::to_string_pretty(&all).unwrap_or_default();
        text.push('\n');
        text
    }
}

fn file() -> Value {
    table(&[
        ("version", true, "Version of this format.", json!({ "const": 1 })),
        ("vault", false, "The deployment as a whole.", of("vault")),
        ("keyring", false, "Keys that serve one purpose, by name; \"main\" seals tokens.", map_of("keyring", NAME)),
        ("store", false, "Where the vault keeps secrets of its own.", of("store")),
        ("secrets", false, "Deployment secrets, by name.", map_of("secret", SECRET_NAME)),
        (
            "profiles",
            false,
            "Changes to the declarations, chosen by --profile or VAULT_CORE_PROFILE.",
            map_of("profile", ""),
        ),
        ("column", false, "Columns of applications' databases.", list(&of("column"))),
    ])
}

fn vault() -> Value {
    table(&[
        ("app", false, "The application that it is for.", string()),
        ("preset", false, PRESET, presets()),
        ("stack", false, "The prefix that Swarm or Compose put before the names of mounted secrets.", matching(NAME)),
        (
            "nodes",
            false,
            "How many processes hold the keys, where that is known. Changes of keys wait until so many have said that they are there, but for 1; more are an error.",
            least(1),
        ),
        (
            "follow",
            false,
            "How old the last look at keys and their states may be before a process seals, from \"100ms\" to \"60s\"; 1s unless said otherwise.",
            matching("^[0-9]+m?s$"),
        ),
    ])
}

fn keyring() -> Value {
    table(&[
        (
            "kind",
            false,
            "\"kek\": 32-byte master keys, which seal tokens (the default). \"text\": key texts of a legacy format.",
            one_of(&["kek", "text"]),
        ),
        (
            "sources",
            true,
            "Where keys are: \"file:PATH\", with * or ? in the file's name, \"secret:NAME\", or \"keyring:SERVICE/ACCOUNT\".",
            some(&matching("^((file|secret):.|keyring:[^/]+/.)")),
        ),
        (
            "state",
            false,
            "State file, which says which key is primary, or \"store\" for the database of the store. Without it, exactly one key may be there.",
            path(),
        ),
        ("min_generation", false, "Least generation that is accepted of the state file.", least(0)),
        ("require_backup", false, "Reserved: this release refuses true.", json!({ "const": false })),
    ])
}

fn store() -> Value {
    table(&[
        (
            "url",
            true,
            "\"file:PATH\", \"sqlite:PATH\", \"secret:NAME\" or \"postgresql://…\".",
            matching(&format!("^(file:.|{DATABASE})")),
        ),
        ("keep", false, "How many previous versions of each secret are kept; 3 unless said otherwise.", least(0)),
    ])
}

fn presets() -> Value {
    one_of(&Preset::ALL.map(Preset::as_str))
}

fn profile() -> Value {
    table(&[("secrets", false, "Fields that replace those of the declaration.", map_of("secret", SECRET_NAME))])
}

fn secret() -> Value {
    let types = SecretKind::ALL.map(SecretKind::as_str);
    table(&[
        ("type", false, "What it is; text unless said otherwise.", one_of(&types)),
        ("preset", false, PRESET, presets()),
        ("path", false, "The file that holds it, where it is not found by its name.", path()),
        (
            "composed",
            false,
            "Other secrets and the text around them, as in \"postgresql://{USER}:{PASSWORD}@db/app\".",
            string(),
        ),
        ("key_of", false, "The keyring whose primary key it is, for an application that is handed its key.", string()),
        (
            "keyring",
            false,
            "The item SERVICE/ACCOUNT of the operating system's keyring, where no other source has it.",
            matching("^[^/]+/."),
        ),
        ("source", false, "\"env\": it may come from the environment.", one_of(&["env"])),
        ("default", false, "What it is where no source has it. Everybody who reads this file knows it.", string()),
        ("min_length", false, "Least length, in characters, or of binary in bytes.", least(0)),
        ("bytes", false, "Exact number of bytes, decoded.", least(0)),
        ("rotate_every", false, "How often it is to be changed, in days or weeks.", matching("^0*[1-9][0-9]*[dw]$")),
        (
            "rotated",
            false,
            "When it was last changed, where no store knows.",
            json!({ "type": "string", "format": "date" }),
        ),
        ("required", false, "Whether it must exist; true unless said otherwise.", boolean()),
    ])
}

fn column() -> Value {
    let formats = Format::ALL.map(Format::as_str);
    let written: Vec<&str> = Format::ALL.into_iter().filter(|format| format.writable()).map(Format::as_str).collect();
    table(&[
        ("name", true, "Its name on the command line.", matching(NAME)),
        (
            "database",
            true,
            "\"sqlite:PATH\", \"secret:NAME\" or \"postgresql://…\".",
            matching(&format!("^({DATABASE})")),
        ),
        ("table", true, "Its table.", string()),
        ("row", true, "The columns that identify a row.", some(&string())),
        ("value", true, "The column that holds the values.", string()),
        ("member", false, "The member of a JSON object in that column.", string()),
        ("reads", true, "The formats that its values have, tried in this order.", some(&one_of(&formats))),
        ("writes", true, "The format of new values.", one_of(&written)),
        ("keyring", false, "Keys of `writes`; \"main\" unless said otherwise.", matching(NAME)),
        ("reads_keyring", false, "Keys of the formats of the other kind in `reads`.", matching(NAME)),
        (
            "context",
            true,
            "What a token belongs to. {column} stands for the row's value there, {{ for a brace.",
            of("context"),
        ),
        ("filter", false, "SQL condition of the rows that are meant.", string()),
        ("immutable", false, "Its rows may never be updated, so their old key stays.", boolean()),
        ("linked", false, "Every process that reads it uses this library.", boolean()),
    ])
}

fn context() -> Value {
    table(&[
        ("tenant", false, "Whose secret it is.", string()),
        ("name", false, "Which secret it is.", string()),
        ("purpose", false, "What kind of secret it is, such as \"user-secret\".", string()),
        ("extra", false, "Further pairs.", json!({ "type": "object", "additionalProperties": string() })),
    ])
}

/// A table of these fields and no others: name, whether it must be there, what it is, its values.
fn table(fields: &[(&str, bool, &str, Value)]) -> Value {
    let required: Vec<&str> = fields.iter().filter(|(_, required, ..)| *required).map(|(name, ..)| *name).collect();
    let mut properties = Map::new();
    for (name, _, description, values) in fields {
        // Before version 2019-09, what stands beside a reference is not read.
        let mut field = match values.get("$ref") {
            Some(_) => json!({ "allOf": [values] }),
            None => values.clone(),
        };
        if let Value::Object(field) = &mut field {
            field.insert("description".to_owned(), json!(description));
        }
        properties.insert((*name).to_owned(), field);
    }
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

fn of(definition: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{definition}") })
}

fn map_of(definition: &str, name: &str) -> Value {
    json!({ "type": "object", "propertyNames": { "pattern": name }, "additionalProperties": of(definition) })
}

fn list(items: &Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn some(items: &Value) -> Value {
    json!({ "type": "array", "items": items, "minItems": 1 })
}

fn one_of(values: &[&str]) -> Value {
    json!({ "enum": values })
}

fn matching(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn path() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

fn string() -> Value {
    json!({ "type": "string" })
}

fn boolean() -> Value {
    json!({ "type": "boolean" })
}

fn least(least: u32) -> Value {
    json!({ "type": "integer", "minimum": least })
}

const PRESET: &str = "By whose rules secrets are found: which source wins, what is trimmed.";
/// Where a database is.
const DATABASE: &str = "sqlite:.|secret:.|[Pp][Oo][Ss][Tt][Gg][Rr][Ee][Ss]([Qq][Ll])?(\\+[^:]*)?://.";

/// Names of keyrings and columns.
const NAME: &str = "^[A-Za-z0-9._-]{1,64}$";
/// Names of secrets.
const SECRET_NAME: &str = "^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The structures of `text.rs`: their fields, and whether each must be given.
    fn written() -> BTreeMap<String, BTreeMap<String, bool>> {
        let mut tables: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
        let mut table = String::new();
        let mut default = false;
        for line in include_str!("text.rs").lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("pub(super) struct ") {
                table = name.trim_end_matches(" {").to_lowercase();
            } else if let Some((name, kind)) = line
                .strip_prefix("pub(super) ")
                .filter(|line| !line.starts_with("fn "))
                .and_then(|line| line.split_once(": "))
            {
                let required = !default && !kind.starts_with("Option<");
                tables.entry(table.clone()).or_default().insert(name.replace("r#", ""), required);
                default = false;
            } else if line == "#[serde(default)]" {
                default = true;
            }
        }
        tables
    }

    #[test]
    fn the_schema_has_the_fields_that_are_read() {
        let schema: Value = serde_json::from_str(&Manifest::schema()).unwrap();
        let mut described = BTreeMap::new();
        let definitions = schema["definitions"].as_object().unwrap();
        for (name, table) in definitions.iter().map(|(name, table)| (name.as_str(), table)).chain([("file", &schema)]) {
            let required = table["required"].as_array().unwrap();
            assert_eq!(table["additionalProperties"], false, "{name}");
            let fields = table["properties"].as_object().unwrap().iter().map(|(field, values)| {
                assert!(values["description"].as_str().is_some_and(|text| text.ends_with('.')), "{name}.{field}");
                (field.clone(), required.contains(&json!(field)))
            });
            described.insert(name.to_owned(), fields.collect::<BTreeMap<_, _>>());
        }
        assert_eq!(described, written());
    }
}
