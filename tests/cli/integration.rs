//! What docs/INTEGRATION.md shows of Rust, and how it moves the five applications.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, params};
use vault_core::legacy::{self, LegacyKey};
use vault_core::{Config, Context, Format, TextKey, Trim, Vault};

use crate::Directory;
use crate::documents::{blocks_of, part, run};
use crate::integration_example;

const PAGE: &str = "docs/INTEGRATION.md";

#[test]
fn the_example_in_rust_runs_as_it_stands() {
    let part = part(PAGE, "Rust");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cli/integration_example.rs");
    assert_eq!(blocks_of(&part, "rust"), [fs::read_to_string(source).unwrap()]);
    let directory = Directory::new();
    directory
        .write("vault.toml", blocks_of(&part, "toml").into_iter().find(|toml| toml.starts_with("version")).unwrap());
    fs::create_dir(directory.path("keys")).unwrap();
    fs::create_dir(directory.path("secrets")).unwrap();
    fs::write(directory.path("secrets/database_url"), "postgresql://app@db/app\n").unwrap();
    directory.vault("key generate --out keys/vault_kek_1").ok();
    integration_example::application(&directory.path("vault.toml")).unwrap();
}

#[test]
fn flowfile_moves_and_goes_back() {
    let app = App::new("From Flowfile");
    app.directory.vault("key generate --out keys/flowfile_master_key_1").ok();
    let key = app.key("flowfile_master_key_1", Trim::Python);
    let connection = app.database("flowfile_catalog.db");
    connection
        .execute_batch(
            "CREATE TABLE secrets (id INTEGER PRIMARY KEY, name VARCHAR, encrypted_value TEXT, iv VARCHAR, user_id INTEGER);
             CREATE TABLE notification_channels (id INTEGER PRIMARY KEY, owner_id INTEGER, name VARCHAR, webhook_url_encrypted TEXT)",
        )
        .unwrap();
    for id in 1..=20_u64 {
        let value = seal(&key, Format::FlowfileV1, Some(id % 3), &crate::secret(id));
        connection.execute("INSERT INTO secrets VALUES (?1, 'n', ?2, '', ?3)", params![id, value, id % 3]).unwrap();
        connection
            .execute("INSERT INTO notification_channels VALUES (?1, ?3, 'n', ?2)", params![id, value, id % 3])
            .unwrap();
    }
    let [migrate, rotate, back] = app.steps();
    for step in [migrate, rotate] {
        run(&step, &app.directory);
        let vault = Vault::load(Config::from_file(app.directory.path("vault.toml")).unwrap()).unwrap();
        for id in 1..=20 {
            // What `decrypt_secret` of the Python package opens with.
            let context = Context::new("user-secret").tenant((id % 3).to_string());
            for query in
                ["SELECT encrypted_value FROM secrets", "SELECT webhook_url_encrypted FROM notification_channels"]
            {
                let token = text(&connection, query, id);
                let opened = vault.open(&context, &token.parse().unwrap()).unwrap();
                assert_eq!(opened.expose_secret(), crate::secret(id).as_bytes());
            }
        }
    }
    run(&back, &app.directory);
    for id in 1..=20 {
        let value = text(&connection, "SELECT encrypted_value FROM secrets", id);
        assert_eq!(open(&key, Format::FlowfileV1, &value), crate::secret(id));
    }
}

#[test]
fn fingerflow_moves_and_goes_back() {
    let directory = Directory::new();
    let key = "bd5106243a3cf0fc9f6d998356abc4195d299cced700c6106d84bc4124a86c0f".to_owned();
    let before = format!("SECRET_KEY={key}\nPOSTGRES_PASSWORD='p@ss/word of 2026'\n");
    fs::write(directory.path(".env"), &before).unwrap();
    let [take, rotate, back] = steps("From FingerFlow");
    let told = run(&take, &directory);
    assert!(told.contains("0 failures"), "{told}");
    let url = directory.vault("get DATABASE_URL").ok();
    assert_eq!(url, "postgresql://fingerflow:p%40ss%2Fword%20of%202026@postgres:5432/fingerflow");
    run(&rotate, &directory);
    assert_ne!(directory.vault("get SECRET_KEY").ok(), key);
    run(&back, &directory);
    assert_eq!(directory.vault("get SECRET_KEY").ok(), key);
    assert!(fs::read_to_string(directory.path(".env")).unwrap().contains(&key));
}

#[test]
fn the_face_api_gets_a_new_key_and_goes_back() {
    let app = App::new("From the face-recognition API");
    fs::write(
        app.directory.path("keys/db_encryption_key_1"),
        "9dc9ec099321c79273c6baa9e10a1339e4d21ea5ceaf27e2ca2f4d38cd31d891\n",
    )
    .unwrap();
    let key = app.key("db_encryption_key_1", Trim::LineBreak);
    let connection = app.database("app.db");
    connection
        .execute_batch(
            "CREATE TABLE consent_records (id INTEGER PRIMARY KEY, ip_address_encrypted BLOB);
             CREATE TABLE audit_logs (id INTEGER PRIMARY KEY, metadata_encrypted BLOB)",
        )
        .unwrap();
    for id in 1..=5 {
        let ip = seal(&key, Format::FaceColumn, None, "203.0.113.9");
        let note = seal(&key, Format::FaceJson, None, "{\"a\": 1}");
        connection.execute("INSERT INTO consent_records VALUES (?1, CAST(?2 AS BLOB))", params![id, ip]).unwrap();
        connection.execute("INSERT INTO audit_logs VALUES (?1, CAST(?2 AS BLOB))", params![id, note]).unwrap();
    }
    // The application is stopped.
    drop(connection);
    let [rotate, back] = app.steps();
    run(&rotate, &app.directory);
    let query = "SELECT CAST(ip_address_encrypted AS TEXT) FROM consent_records";
    let moved = text(&app.database("app.db"), query, 3);
    assert!(legacy::open(Format::FaceColumn, &key, None, moved.as_bytes()).is_err());
    let kept = text(&app.database("app.db"), "SELECT CAST(metadata_encrypted AS TEXT) FROM audit_logs", 3);
    assert_eq!(open(&key, Format::FaceJson, &kept), "{\"a\": 1}");
    run(&back, &app.directory);
    assert_eq!(open(&key, Format::FaceColumn, &text(&app.database("app.db"), query, 3)), "203.0.113.9");
}

#[test]
fn raqeem_moves_and_goes_back() {
    let directory = Directory::new();
    let [take, back] = steps("From Raqeem");
    run(&take, &directory);
    let new = directory.vault("get BETTER_AUTH_SECRET").ok();
    assert!(run(&back, &directory).ends_with("better_auth_secret\ndatabase_url\n"));
    let old = fs::read_to_string(directory.path("secrets/better_auth_secret")).unwrap();
    assert!(!old.is_empty() && old != new);
}

#[test]
fn social_publisher_moves_and_goes_back() {
    let app = App::new("From social-publisher");
    fs::write(app.directory.path("keys/encryption_key_1"), "q0Zp2bV8sXw4LrT6yHk1NfGc9DmJ3eAu\n").unwrap();
    let key = app.key("encryption_key_1", Trim::LineBreak);
    let connection = app.database("app.db");
    connection
        .execute_batch("CREATE TABLE connected_channels (id INTEGER PRIMARY KEY, access_token TEXT, metadata TEXT)")
        .unwrap();
    for id in 1..=6_u64 {
        let access =
            if id == 6 { "6:telegram".to_owned() } else { seal(&key, Format::SocialV1, None, &format!("{id}:token")) };
        let metadata = format!("{{\"refresh_token\":\"{}\"}}", seal(&key, Format::SocialV1, None, "refresh"));
        connection
            .execute("INSERT INTO connected_channels VALUES (?1, ?2, ?3)", params![id, access, metadata])
            .unwrap();
    }
    drop(connection);
    let [migrate, rotate, back] = app.steps();
    run(&migrate, &app.directory);
    let query = "SELECT access_token FROM connected_channels";
    assert_eq!(open(&key, Format::SocialV1, &text(&app.database("app.db"), query, 6)), "6:telegram");
    run(&rotate, &app.directory);
    assert!(legacy::open(Format::SocialV1, &key, None, text(&app.database("app.db"), query, 6).as_bytes()).is_err());
    run(&back, &app.directory);
    for id in [1, 6] {
        let opened = open(&key, Format::SocialV1, &text(&app.database("app.db"), query, id));
        assert_eq!(opened.split_once(':').unwrap().0, id.to_string());
    }
    let refresh = text(&app.database("app.db"), "SELECT metadata ->> 'refresh_token' FROM connected_channels", 2);
    assert_eq!(open(&key, Format::SocialV1, &refresh), "refresh");
}

/// An application that has a column, with the `vault.toml` of the page.
struct App {
    directory: Directory,
    heading: &'static str,
}

impl App {
    fn new(heading: &'static str) -> Self {
        let directory = Directory::new();
        fs::create_dir(directory.path("keys")).unwrap();
        let toml = blocks_of(&section(heading), "toml").remove(0);
        // The engines are compared elsewhere.
        directory.write("vault.toml", toml.replace("secret:DATABASE_URL", "sqlite:app.db"));
        Self { directory, heading }
    }

    fn key(&self, name: &str, trim: Trim) -> LegacyKey {
        let text = fs::read(self.directory.path("keys").join(name)).unwrap();
        LegacyKey::new(TextKey::parse(&text, trim).unwrap())
    }

    fn database(&self, name: &str) -> Connection {
        Connection::open(self.directory.path(name)).unwrap()
    }

    fn steps<const N: usize>(&self) -> [String; N] {
        steps(self.heading)
    }
}

fn steps<const N: usize>(heading: &str) -> [String; N] {
    blocks_of(&section(heading), "sh").try_into().unwrap()
}

fn section(heading: &str) -> String {
    let part = part(PAGE, "The five applications");
    let mut sections = part.split("\n### ");
    sections.find(|section| section.starts_with(&format!("{heading}\n"))).unwrap().to_owned()
}

fn seal(key: &LegacyKey, format: Format, user: Option<u64>, secret: &str) -> String {
    legacy::seal(format, key, user.map(|user| user.to_string()).as_deref(), secret.as_bytes()).unwrap()
}

fn open(key: &LegacyKey, format: Format, value: &str) -> String {
    let opened = legacy::open(format, key, None, value.as_bytes()).unwrap();
    String::from_utf8(opened.expose_secret().to_vec()).unwrap()
}

fn text(connection: &Connection, query: &str, id: u64) -> String {
    connection.query_row(&format!("{query} WHERE id = ?1"), [id], |row| row.get(0)).unwrap()
}
