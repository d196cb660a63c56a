//! `vault.toml`, and secrets by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use vault_core::{Error, Format, Kind, Manifest, Resolver, SecretName, Trim};

const EXAMPLE: &str = r#"
version = 1

[vault]
app = "flowfile"
preset = "strict"
nodes = 2

[keyring.main]
sources = ["file:/run/secrets/vault_kek_*"]
state = "main.keyring.toml"

[keyring.flowfile]
kind = "text"
sources = ["secret:FLOWFILE_MASTER_KEY", "file:/run/secrets/flowfile_master_key_*"]
state = "flowfile.keyring.toml"

[store]
url = "sqlite:vault.db"

[secrets.JWT_SECRET_KEY]
type = "text"
min_length = 32
rotate_every = "90d"
rotated = 2026-01-31
required = true

[secrets.DATABASE_URL]
type = "url"
composed = "postgresql://{POSTGRES_USER}:{POSTGRES_PASSWORD}@postgres:5432/app"

[profiles.staging.secrets.JWT_SECRET_KEY]
required = false

[[column]]
name = "flowfile.secrets"
database = "sqlite:app.db"
table = "secrets"
row = ["id"]
value = "encrypted_value"
reads = ["flowfile-v1", "flowfile-legacy-master"]
writes = "flowfile-v1"
keyring = "flowfile"
context = { tenant = "{user_id}", name = "{name}", purpose = "user-secret", extra = { k = "{{v}}" } }
filter = ""
immutable = false
linked = false
"#;

fn parse(text: &str) -> vault_core::Result<Manifest> {
    Manifest::parse(text, Path::new("/etc/app/vault.toml"), None)
}

#[test]
fn a_whole_configuration_is_read() {
    let manifest = parse(EXAMPLE).unwrap();
    assert_eq!(manifest.nodes(), Some(2));
    let column = manifest.column("flowfile.secrets").unwrap();
    assert_eq!(column.database, Path::new("/etc/app/app.db"), "paths are relative to the file");
    assert_eq!(column.context.columns(), ["name", "user_id"]);
    assert_eq!(column.filter, None);
    assert_eq!(manifest.keyring_for(column, Format::FlowfileV1).unwrap().name, "flowfile");
    assert_eq!(manifest.keyring_for(column, Format::Vs1).unwrap().name, "main");
    assert_eq!(manifest.keyring("flowfile").unwrap().trim, Trim::Python);
    assert_eq!(manifest.keyring("main").unwrap().state.as_deref(), Some(Path::new("/etc/app/main.keyring.toml")));
    Manifest::parse(EXAMPLE, Path::new("/etc/app/vault.toml"), Some("staging")).unwrap();
    assert!(Manifest::parse(EXAMPLE, Path::new("/etc/app/vault.toml"), Some("none")).is_err());
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (from, to, expected) in [
        (
            "filter = \"\"",
            "filtre = \"\"",
            "/etc/app/vault.toml:45:1: unknown field \"filtre\"; did you mean \"filter\"?",
        ),
        ("version = 1", "version = 2", "`version` is not 1"),
        ("nodes = 2", "nodes = 0", "`nodes` is 0"),
        ("nodes = 2", "nodes = \"two\"", "of another type"),
        ("linked = false\n", "linked = false\nlinked = true\n", "given twice"),
        ("writes = \"flowfile-v1\"", "writes = \"flowfile-v2\"", "an unknown format; known are"),
        ("writes = \"flowfile-v1\"", "writes = \"fernet\"", "`reads` does not contain"),
        ("writes = \"flowfile-v1\"", "writes = \"social-cbc-legacy\"", "nothing is ever written"),
        ("reads = [", "reads = [\"plaintext\", ", "must be the last"),
        ("keyring = \"flowfile\"", "keyring = \"flow\"", "no [keyring.flow] is declared; declared are: flowfile, main"),
        ("keyring = \"flowfile\"", "keyring = \"main\"", "needs a keyring of kind \"text\""),
        ("row = [\"id\"]", "row = []", "`row` is empty"),
        ("{user_id}", "{user_id", "a brace is not closed"),
        ("value = ", "member = \"a\\\"b\"\nvalue = ", "`member` is empty, or has a quote"),
        ("sqlite:app.db", "postgres://u:p@h/d", "not \"sqlite:PATH\""),
        ("file:/run/secrets/vault_kek_*", "file:/run/*/vault_kek", "a pattern in a directory"),
        ("file:/run/secrets/vault_kek_*", "/run/secrets/vault_kek_*", "neither \"file:PATH\" nor"),
        ("[secrets.DATABASE_URL]", "[secrets.jwt_secret_key]\n[secrets.DATABASE_URL]", "have one environment variable"),
        ("type = \"url\"", "type = \"uri\"", "`type` is none of"),
        ("table = \"secrets\"\n", "", "\"table\" is missing"),
        ("[store]", "[store", "this is not TOML"),
    ] {
        let text = EXAMPLE.replacen(from, to, 1);
        assert_ne!(text, EXAMPLE);
        let error = parse(&text).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains(expected), "{error}\n  instead of {expected}");
    }
}

#[test]
fn keyrings_of_applications_that_trim_differently_are_kept_apart() {
    let second = r#"
[[column]]
name = "face"
database = "sqlite:app.db"
table = "t"
row = ["id"]
value = "v"
reads = ["face-column"]
writes = "face-column"
keyring = "flowfile"
"#;
    assert!(parse(&format!("{EXAMPLE}{second}")).unwrap_err().to_string().contains("trim key texts differently"));
}

proptest::proptest! {
    /// Whatever is put where a value stands, the error repeats nothing of it.
    #[test]
    fn no_error_repeats_a_value(at in 0_usize..60, raw: bool) {
        let marker = "MARKERsecret0123456789";
        let mut lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
        let at = at % lines.len();
        if let Some((name, _)) = lines[at].clone().split_once(" = ") {
            lines[at] = if raw { format!("{name} = {marker}") } else { format!("{name} = \"{marker}\"") };
            if let Err(error) = parse(&lines.join("\n")) {
                // Names of tables and keyrings are not values; a marker in their place may be told.
                let told = format!("{error} {error:?}");
                let names = ["keyring", "name", "reads_keyring", "database", "table"];
                proptest::prop_assert!(!told.contains(marker) || names.contains(&name.trim()), "{}", told);
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(version = 1\n)?(\\[\\[?[a-z.]{1,12}\\]\\]?\n)?.{0,200}") {
        let _ = parse(&text);
    }
}

struct Sources {
    directory: tempfile::TempDir,
}

impl Sources {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("mounts")).unwrap();
        fs::create_dir(directory.path().join("credentials")).unwrap();
        Self { directory }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn get(&self, environment: &[(&str, &str)]) -> vault_core::Result<(Vec<u8>, String)> {
        let mut map: BTreeMap<String, String> =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let credentials = self.directory.path().join("credentials");
        map.insert("CREDENTIALS_DIRECTORY".to_owned(), credentials.display().to_string());
        let resolver = Resolver::with_environment(map, self.directory.path().join("mounts"));
        let found = resolver.text(&SecretName::parse("DB_PASSWORD").unwrap())?;
        Ok((found.value.expose_secret().to_vec(), found.source.to_string()))
    }
}

#[test]
fn the_first_source_that_exists_wins() {
    let sources = Sources::new();
    assert!(matches!(sources.get(&[]), Err(Error::NotFound { .. })));
    assert!(matches!(sources.get(&[("DB_PASSWORD", "")]), Err(Error::NotFound { .. })), "empty counts as unset");
    assert_eq!(
        sources.get(&[("DB_PASSWORD", "env")]).unwrap(),
        (b"env".to_vec(), "environment DB_PASSWORD".to_owned())
    );
    sources.file("mounts/db_password", "mount\n");
    assert_eq!(sources.get(&[("DB_PASSWORD", "env")]).unwrap().0, b"mount");
    sources.file("credentials/db_password", "credential\r\n");
    assert_eq!(sources.get(&[("DB_PASSWORD", "env")]).unwrap().0, b"credential");
    let named = sources.file("named", "named\n\n").display().to_string();
    assert_eq!(sources.get(&[("DB_PASSWORD_FILE", &named)]).unwrap().0, b"named\n", "one line break is removed");
    assert!(matches!(sources.get(&[("DB_PASSWORD_FILE", &named), ("DB_PASSWORD", "env")]), Err(Error::Refused { .. })));
    assert!(
        matches!(sources.get(&[("DB_PASSWORD_FILE", "/nowhere")]), Err(Error::Io { .. })),
        "never a reason to look further"
    );
}

#[test]
fn text_is_text() {
    let sources = Sources::new();
    for (content, good) in [
        (&b" a b \t"[..], true),
        (b"", false),
        (b"\n", false),
        (b"a\0b", false),
        (b"\xff", false),
        ("é".as_bytes(), true),
    ] {
        sources.file("mounts/db_password", content);
        assert_eq!(sources.get(&[]).is_ok(), good, "{content:?}");
    }
}
