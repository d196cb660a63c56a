//! The remaining rows of tests/vectors/apps: each preset gives what its application gave. By the
//! strict rule the applications get the same, but for the white space that each trims its own way;
//! what is refused there is what they let through.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::Value;
use vault_core::legacy::{LegacyKey, open, seal};
use vault_core::{
    Error, Format, Generate, Kind, Manifest, Note, Preset, Resolved, Resolver, Result, SecretName, TextKey, Trim,
};

use crate::{cases, hex, text, vector_file};

/// What the strict rule gives for a name in an environment and a directory of mounts.
fn strict(name: &str, environment: &BTreeMap<String, OsString>, mounts: &Path) -> Result<Vec<u8>> {
    let nothing = Manifest::parse("version = 1\n", Path::new("/nowhere/vault.toml"), None).unwrap();
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
        let user_key = LegacyKey::new(TextKey::parse(user_key.as_bytes(), Trim::Nothing).unwrap());
        let token = seal(Format::Fernet, &user_key, None, b"probe").unwrap();
        let Ok(master) = TextKey::parse(used.as_bytes(), Trim::Nothing) else { continue };
        match open(Format::FlowfileLegacyUser, &LegacyKey::new(master), Some("1"), token.as_bytes()) {
            Ok(secret) => {
                assert_eq!(secret.expose_secret(), b"probe");
                derived += 1;
            }
            Err(error) => assert_eq!(error.kind(), Kind::Malformed, "{}: {error}", case["case"]),
        }
    }
    assert!(derived >= 4, "{derived} forms");
}

/// One row: what is there, and what the application makes of it.
struct Row {
    file: &'static str,
    case: String,
    preset: Preset,
    declared: String,
    variables: BTreeMap<String, String>,
    /// Files in an empty directory, which `$DIR` in a variable stands for.
    files: Vec<(String, Vec<u8>)>,
    expected: Vec<(String, Expected)>,
}

enum Expected {
    Value(Vec<u8>),
    Absent,
    /// With these words, where the application has some of its own.
    Error(Option<String>),
}

impl Row {
    fn new(file: &'static str, case: &Value, preset: Preset) -> Self {
        let variables = case.get("env").and_then(Value::as_object).into_iter().flatten();
        let name = ["case", "file_case", "env", "call"].into_iter().find_map(|field| case.get(field)).unwrap();
        Self {
            file,
            case: name.as_str().map_or_else(|| name.to_string(), str::to_owned),
            preset,
            declared: String::new(),
            variables: variables.map(|(name, value)| (name.clone(), text(value).to_owned())).collect(),
            files: Vec::new(),
            expected: Vec::new(),
        }
    }

    fn with_file(mut self, variable: &str, content: &[u8]) -> Self {
        self.files.push(("file".to_owned(), content.to_vec()));
        self.variables.insert(variable.to_owned(), "$DIR/file".to_owned());
        self
    }

    fn declaring(self, declared: impl Into<String>) -> Self {
        Self { declared: declared.into(), ..self }
    }

    fn expecting(mut self, name: &str, expected: Expected) -> Self {
        self.expected.push((name.to_owned(), expected));
        self
    }

    fn found(&self, preset: Preset, secret: &str) -> Result<Option<Resolved>> {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in &self.files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let at = directory.path().display().to_string();
        let declared = self.declared.replace("$DIR", &at);
        let config = Manifest::parse(&format!("version = 1\n{declared}"), &directory.path().join("vault.toml"), None);
        let variables = self.variables.iter().map(|(name, value)| (name.clone(), value.replace("$DIR", &at).into()));
        let resolver = Resolver::new(&config.unwrap()).with_environment(variables.collect(), directory.path());
        resolver.with_preset(preset).optional(&SecretName::parse(secret).unwrap())
    }

    fn passes(&self) -> bool {
        self.expected.iter().all(|(name, expected)| match (self.found(self.preset, name), expected) {
            (Ok(Some(found)), Expected::Value(value)) => found.value.expose_secret() == value,
            (Ok(None), Expected::Absent) | (Err(_), Expected::Error(None)) => true,
            (Err(error), Expected::Error(Some(words))) => error.to_string().contains(words),
            _ => false,
        })
    }
}

fn rows() -> Vec<Row> {
    [rows_of_flowfile(), rows_of_fingerflow(), rows_of_face(), rows_of_raqeem(), rows_of_social_publisher()]
        .into_iter()
        .flatten()
        .collect()
}

fn rows_of_flowfile() -> Vec<Row> {
    let mut rows = Vec::new();
    for case in cases(&vector_file("apps/flowfile.json")["master_key_env_forms"], 11) {
        for (component, preset) in [
            ("core", Preset::FlowfileCore),
            ("worker", Preset::FlowfileWorker),
            ("notifications", Preset::FlowfileWorker),
        ] {
            let result = &case[component];
            let expected = match (result.get("message"), result["result"].as_str()) {
                (Some(message), _) => Expected::Error(Some(text(message).to_owned())),
                (None, Some(used)) => Expected::Value(used.as_bytes().to_vec()),
                // Not configured, for which core has words where the key is asked for.
                (None, None) if component == "core" => {
                    Expected::Error(Some("Master key not configured. Set FLOWFILE_MASTER_KEY".to_owned()))
                }
                (None, None) => Expected::Error(None),
            };
            let mut row = Row::new("flowfile.json", case, preset);
            row.variables.insert("FLOWFILE_MASTER_KEY".to_owned(), text(&case["env_value"]).to_owned());
            rows.push(row.expecting("FLOWFILE_MASTER_KEY", expected));
        }
    }
    rows
}

/// The application's built-in defaults are stated, as its first row shows them.
fn rows_of_fingerflow() -> Vec<Row> {
    let file = vector_file("apps/fingerflow.json");
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let defaults = file["settings"][0]["settings"].as_object().unwrap();
    let declared: String = defaults
        .iter()
        .map(|(name, value)| {
            let kind = if value.is_number() { "int" } else { "text" };
            format!("[secrets.{}]\ntype = '{kind}'\ndefault = '{}'\n", name.to_uppercase(), plain(value))
        })
        .collect();
    let mut rows = Vec::new();
    for case in cases(&file["settings"], 17).iter().chain(cases(&file["secrets_dir"], 5)) {
        let mut row = Row::new("fingerflow.json", case, Preset::Pydantic).declaring(&declared);
        let files = case.get("files").and_then(Value::as_object).into_iter().flatten();
        // The byte that is no UTF-8 is recorded as what stands for such bytes in JSON.
        let bytes = |content: &str| content.split('\u{fffd}').map(str::as_bytes).collect::<Vec<_>>().join(&b"\xff"[..]);
        row.files.extend(files.map(|(name, content)| (name.clone(), bytes(text(content)))));
        let dotenv = case.get("dotenv").and_then(Value::as_str);
        // This row does not record its `.env`; its result does.
        let dotenv = dotenv.or_else(|| (case["case"] == ".env beats file").then_some("SECRET_KEY=dotenv\n"));
        row.files.extend(dotenv.map(|content| (".env".to_owned(), content.as_bytes().to_vec())));
        let settings = case["settings"].as_object().unwrap();
        if let Some(error) = settings.get("error").map(text) {
            let name = if row.files.is_empty() { "SMTP_PORT" } else { "SECRET_KEY" };
            let words = error.trim().rsplit("SettingsError: ").next().unwrap();
            row = row.expecting(name, Expected::Error(Some(words.to_owned())));
        } else {
            for (name, value) in settings {
                row = row.expecting(&name.to_uppercase(), Expected::Value(plain(value).into_bytes()));
            }
        }
        rows.push(row);
    }
    rows
}

/// The development default is stated where a row shows it.
fn rows_of_face() -> Vec<Row> {
    let mut rows = Vec::new();
    for case in cases(&vector_file("apps/face.json")["get_encryption_key"], 6) {
        let mut row = Row::new("face.json", case, Preset::Face);
        let expected = match (case.get("message"), case.get("result")) {
            (Some(message), _) => Expected::Error(Some(text(message).to_owned())),
            (None, result) => {
                let result = text(result.unwrap());
                if !row.variables.contains_key("DB_ENCRYPTION_KEY") {
                    row = row.declaring(format!("[secrets.DB_ENCRYPTION_KEY]\ndefault = '{result}'"));
                }
                Expected::Value(result.as_bytes().to_vec())
            }
        };
        rows.push(row.expecting("DB_ENCRYPTION_KEY", expected));
    }
    rows
}

/// What `getSecret` gives, what the shell entry point passes on, and what it says when there is
/// nothing.
fn rows_of_raqeem() -> Vec<Row> {
    let file = vector_file("apps/raqeem.json");
    let mut rows = Vec::new();
    for case in cases(&file["getSecret"], 12) {
        let mut row = Row::new("raqeem.json", case, Preset::Raqeem);
        let expected = match (case.get("error"), case.get("result"), case.get("result_utf8_hex")) {
            (Some(error), ..) => Expected::Error(Some(text(error).to_owned())),
            (_, Some(result), _) => Expected::Value(text(result).as_bytes().to_vec()),
            (.., result) => Expected::Value(hex(result.unwrap())),
        };
        if let Some(content) = case.get("file_hex").map(hex) {
            let shell = Row { preset: Preset::DockerLibrary, ..Row::new("raqeem.json", case, Preset::Raqeem) };
            let passed = Expected::Value(hex(&case["entrypoint_sh_hex"]));
            rows.push(shell.with_file("X_FILE", &content).expecting("X", passed));
            row = row.with_file("X_FILE", &content);
            row.variables.insert("X".to_owned(), text(&case["X"]).to_owned());
        }
        if case.get("call").is_some() {
            // A file that is named by another variable is declared by its path.
            row.files.push(("file".to_owned(), b"value\n".to_vec()));
            row = row.declaring("[secrets.X]\npath = '$DIR/file'");
        }
        rows.push(row.expecting("X", expected));
    }
    for (field, name) in
        [("getDatabaseUrl_missing_error", "DATABASE_URL"), ("getBetterAuthSecret_missing_error", "BETTER_AUTH_SECRET")]
    {
        let row = Row::new("raqeem.json", &serde_json::json!({ "case": field }), Preset::Raqeem);
        rows.push(row.expecting(name, Expected::Error(Some(text(&file[field]).to_owned()))));
    }
    for case in cases(&file["better_auth_session_cookie"]["vectors"], 2) {
        let row = Row::new("raqeem.json", &serde_json::json!({ "case": case["label"] }), Preset::Raqeem);
        let used = Expected::Value(text(&case["secret_used"]).as_bytes().to_vec());
        let content = text(&case["secret_file_content"]).as_bytes();
        rows.push(row.with_file("BETTER_AUTH_SECRET_FILE", content).expecting("BETTER_AUTH_SECRET", used));
    }
    rows
}

fn rows_of_social_publisher() -> Vec<Row> {
    let mut rows = Vec::new();
    for case in cases(&vector_file("apps/social-publisher.json")["getSecret"], 17) {
        let required = case["required"].as_bool().unwrap();
        let mut row = Row::new("social-publisher.json", case, Preset::SocialPublisher)
            .declaring(format!("[secrets.X]\nrequired = {required}"));
        if let Some(content) = case.get("file_hex") {
            row = row.with_file("X_FILE", &hex(content));
            row.variables.insert("X".to_owned(), text(&case["X"]).to_owned());
        }
        rows.push(row.expecting(
            "X",
            match text(&case["result"]) {
                "<undefined>" => Expected::Absent,
                result => Expected::Value(case.get("result_utf8_hex").map_or_else(|| result.as_bytes().to_vec(), hex)),
            },
        ));
    }
    rows
}

#[test]
fn presets_give_what_the_applications_give() {
    let mut table: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut failed = Vec::new();
    for row in rows() {
        let (all, passed) = table.entry(row.file).or_default();
        *all += 1;
        if row.passes() {
            *passed += 1;
        } else {
            let found = row.expected.iter().map(|(name, _)| format!("{name}: {:?}", row.found(row.preset, name)));
            failed.push(format!("{} {} {}: {:?}", row.file, row.preset, row.case, found.collect::<Vec<_>>()));
        }
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{:<24}{:>6}{:>8}", "file", "rows", "passed").unwrap();
    for (file, (all, passed)) in &table {
        writeln!(stdout, "{file:<24}{all:>6}{passed:>8}").unwrap();
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let counts: Vec<_> = table.values().map(|(all, _)| *all).collect();
    assert_eq!(counts, [6, 22, 33, 24, 17], "no row is lost: {table:?}");
}

/// Each place where an application goes on and the strict rule does not, or not without a word.
#[test]
fn strict_refuses_what_the_applications_let_through() {
    let mut listed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for mut row in rows() {
        // Some applications do not require what they cannot do without.
        row.declared = row.declared.replace("required = false", "");
        for (name, expected) in &row.expected {
            let Expected::Value(theirs) = expected else { continue };
            let mut list = |why| {
                let entry = format!("{}: {} ({name}, {})", row.file, row.case, row.preset);
                listed.entry(why).or_default().push(entry.replace('\n', " "));
            };
            let mut found = row.found(Preset::Strict, name);
            if found.as_ref().is_err_and(|error| error.to_string().contains("is set too")) {
                list("set twice");
                let variables = row.variables.iter().filter(|(variable, _)| *variable != name);
                let variables = variables.map(|(variable, value)| (variable.clone(), value.clone())).collect();
                let alone = Row { variables, ..Row::new(row.file, &serde_json::json!({ "case": "" }), row.preset) };
                found = Row { files: row.files.clone(), declared: row.declared.clone(), ..alone }
                    .found(Preset::Strict, name);
            }
            match found {
                Err(error) if error.to_string().contains("it is empty") => list("empty"),
                Err(error) if error.to_string().contains("not UTF-8") => list("not UTF-8"),
                Err(error) if error.to_string().contains("NUL") => list("NUL"),
                Err(error) if error.kind() == Kind::Io => list("a file that is named and not read"),
                Err(error) if error.kind() == Kind::NotFound && theirs.is_empty() => list("empty"),
                Err(error) if error.kind() == Kind::NotFound => list("only where the application looks"),
                Ok(Some(found)) if found.notes == [Note::Default] => list("a public default, reported"),
                Ok(Some(found)) if name == "FLOWFILE_MASTER_KEY" && !is_key(found.value.expose_secret()) => {
                    list("no key");
                }
                Ok(Some(found)) if found.notes.is_empty() => {
                    let found = found.value.expose_secret();
                    if theirs.is_empty() {
                        list("white space that they make nothing of, kept");
                    } else if found != theirs {
                        list("another value");
                    }
                }
                other => panic!("{} {name}: {other:?}", row.case),
            }
        }
    }
    let mut stdout = std::io::stdout();
    for (why, rows) in &listed {
        writeln!(stdout, "{why}: {}\n  {}", rows.len(), rows.join("\n  ")).unwrap();
    }
    let counts: Vec<_> = listed.iter().map(|(why, rows)| (*why, rows.len())).collect();
    let expected = [
        ("NUL", 1),
        ("a file that is named and not read", 3),
        ("a public default, reported", 45),
        ("another value", 15),
        ("empty", 21),
        ("no key", 15),
        ("not UTF-8", 1),
        ("set twice", 20),
        ("white space that they make nothing of, kept", 2),
    ];
    assert_eq!(counts, expected);
}

/// Whether a text is a Fernet key without anything that a decoder has to pass over: then it is
/// tried, and is not the key of this token.
fn is_key(text: &[u8]) -> bool {
    let of = |text: &[u8]| TextKey::parse(text, Trim::Nothing).map(LegacyKey::new);
    let other = of(Generate::FernetKey.secret().unwrap().expose_secret()).unwrap();
    let token = seal(Format::Fernet, &other, None, b"probe").unwrap();
    of(text).is_ok_and(|key| open(Format::Fernet, &key, None, token.as_bytes()).unwrap_err().kind() == Kind::Corrupt)
}
