//! What the applications themselves wrote, in columns as theirs: read, rotated, moved to tokens.

use std::fs;

use serde_json::Value;
use vault_core::legacy::{LegacyKey, open};
use vault_core::rotate::{End, Job, RunOptions};
use vault_core::{Format, TextKey, Token, Trim};

use crate::{cases, text, vector_file};

use super::application::{App, context, stopped};

/// Puts an application's own key where the column's keyring finds its first one.
fn under(key: &str, column: &str) -> App {
    let app = App::new(column);
    fs::write(app.path("text_1"), key).unwrap();
    app
}

/// The cases of a list that were written under one key.
fn of<'a>(list: &'a Value, field: &str, key: &str) -> Vec<&'a Value> {
    list.as_array().unwrap().iter().filter(|case| text(&case[field]) == key).collect()
}

fn opens_as(format: Format, key: &LegacyKey, tenant: Option<&str>, value: &str, secret: &str) {
    assert_eq!(open(format, key, tenant, value.as_bytes()).unwrap().expose_secret(), secret.as_bytes());
}

/// Its three formats and plain text in one column, as years left them.
#[test]
fn what_social_publisher_wrote_is_rotated_and_becomes_tokens() {
    let file = vector_file("apps/social-publisher.json");
    let mut written = Vec::new();
    let key = text(&cases(&file["v1"], 16)[0]["encryption_key"]);
    for (list, field) in
        [("v1", "encryption_key"), ("encryption_ts", "encryption_key"), ("legacy_cbc", "encryption_key")]
    {
        let found = of(&file[list], field, key);
        assert!(found.len() > 1, "{list}");
        written.extend(found.iter().map(|case| (text(&case["token"]).to_owned(), text(&case["plaintext"]).to_owned())));
    }
    // Without a MAC nothing tells an empty secret from another key's.
    written.retain(|(token, secret)| token.contains(':') || !secret.is_empty());
    written.push(("123456:a-bot-token".to_owned(), "123456:a-bot-token".to_owned()));
    let rows = u64::try_from(written.len()).unwrap();
    let at = |id: u64| &written[usize::try_from(id - 1).unwrap()];
    for member in ["", "member = \"refresh_token\"\n"] {
        let reads = "\"social-v1\", \"social-gcm16\", \"social-cbc-legacy\", \"plaintext\"";
        let own = format!(
            "{member}reads = [{reads}]\nwrites = \"social-v1\"\nkeyring = \"text\"\nreads_keyring = \"main\"\nlinked = false\n"
        );
        let app = under(key, &own);
        app.fill(rows, |id| at(id).0.clone());
        let mut select = "SELECT id, v FROM secrets ORDER BY id";
        if !member.is_empty() {
            select = "SELECT id, v ->> 'refresh_token' FROM secrets ORDER BY id";
            app.database.execute(
                "DROP INDEX secrets_left_idx; ALTER TABLE secrets ALTER v TYPE jsonb USING jsonb_build_object('refresh_token', v, 'open', 'to all')",
            );
        }
        let values = || -> Vec<(u64, String)> {
            let rows = app.database.connect().query(select, &[]).unwrap();
            rows.iter().map(|row| (u64::try_from(row.get::<_, i64>(0)).unwrap(), row.get(1))).collect()
        };
        app.promote_new("text");
        let new = app.text_key("text_2");
        // While the application is stopped, under the new key in its present format.
        let summary = app.run(&Job::Migrate(Format::SocialV1), &stopped()).unwrap();
        assert_eq!((summary.rewritten, summary.end), (rows, End::Clean), "{summary:?}");
        for (id, value) in values() {
            opens_as(Format::SocialV1, &new, None, &value, &at(id).1);
        }
        app.vault().rotation(vault_core::Scope::Column("c"), vault_core::Access::Write).unwrap().abort().unwrap();
        // With the new version beside it.
        let tokens = own.replace("reads = [", "reads = [\"vs1\", ").replace("linked = false", "linked = true");
        app.configure(
            &app.database.url(),
            &tokens.replace(
                "writes = \"social-v1\"\nkeyring = \"text\"\nreads_keyring = \"main\"",
                "writes = \"vs1\"\nkeyring = \"main\"\nreads_keyring = \"text\"",
            ),
        );
        assert_eq!(app.run(&Job::Migrate(Format::Vs1), &RunOptions::default()).unwrap().end, End::Clean);
        for (id, value) in values() {
            let opened = app.vault().open(&context(id), &value.parse::<Token>().unwrap()).unwrap();
            assert_eq!(opened.expose_secret(), at(id).1.as_bytes());
        }
        app.vault().rotation(vault_core::Scope::Column("c"), vault_core::Access::Write).unwrap().abort().unwrap();
        // And back.
        app.configure(&app.database.url(), &tokens);
        assert_eq!(app.run(&Job::Migrate(Format::SocialV1), &RunOptions::default()).unwrap().end, End::Clean);
        for (id, value) in values() {
            opens_as(Format::SocialV1, &new, None, &value, &at(id).1);
        }
    }
}

/// Its present format and both older ones.
#[test]
fn what_flowfile_wrote_is_rotated_and_becomes_tokens() {
    let file = vector_file("apps/flowfile.json");
    let envelopes = cases(&file["envelope_v1"], 25);
    let key = text(&envelopes[0]["master_key"]);
    let mut written: Vec<(String, String)> = Vec::new();
    for case in of(&file["envelope_v1"], "master_key", key) {
        written.push((text(&case["encrypted_value"]).to_owned(), text(&case["plaintext"]).to_owned()));
    }
    // Values of the oldest format are under a key of the user's own, whom only the table names.
    let mut users = Vec::new();
    for case in of(&file["legacy"], "master_key", key) {
        written.push((text(&case["encrypted_value"]).to_owned(), text(&case["plaintext"]).to_owned()));
        if text(&case["kind"]) == "legacy_user_derived" {
            let user = case["user_id"].as_str().map_or_else(|| case["user_id"].to_string(), str::to_owned);
            users.push((written.len(), user));
        }
    }
    assert!(written.len() > 10 && users.len() >= 3, "{} {}", written.len(), users.len());
    let reads = "\"flowfile-v1\", \"flowfile-legacy-user\", \"flowfile-legacy-master\"";
    let own = format!("reads = [{reads}]\nwrites = \"flowfile-v1\"\nkeyring = \"text\"\n");
    let app = under(key, &own);
    let rows = u64::try_from(written.len()).unwrap();
    let at = |id: u64| &written[usize::try_from(id - 1).unwrap()];
    app.fill(rows, |id| at(id).0.clone());
    // Whose a value is, the application's table says as well.
    app.database.execute("UPDATE secrets SET user_id = split_part(v, '$', 4)::bigint WHERE v LIKE '$ffsec$1$%'");
    for (id, user) in &users {
        app.database.execute(&format!("UPDATE secrets SET user_id = {user} WHERE id = {id}"));
    }
    let owners = app.database.connect().query("SELECT user_id::text FROM secrets ORDER BY id", &[]).unwrap();
    let owner = |id: u64| owners[usize::try_from(id - 1).unwrap()].get::<_, String>(0);
    app.promote_new("text");
    let new = app.text_key("text_2");
    assert_eq!(app.run(&Job::Rotate, &stopped()).unwrap().end, End::Clean);
    for (id, value) in app.values() {
        opens_as(Format::FlowfileV1, &new, None, &value, &at(id).1);
    }
    app.vault().rotation(vault_core::Scope::Column("c"), vault_core::Access::Write).unwrap().abort().unwrap();
    let both = own.replace("reads = [", "reads = [\"vs1\", ");
    app.configure(
        &app.database.url(),
        &both.replace(
            "writes = \"flowfile-v1\"\nkeyring = \"text\"\n",
            "writes = \"vs1\"\nkeyring = \"main\"\nreads_keyring = \"text\"\nlinked = true\n",
        ),
    );
    assert_eq!(app.run(&Job::Migrate(Format::Vs1), &RunOptions::default()).unwrap().end, End::Clean);
    for (id, value) in app.values() {
        let opened = app.vault().open(&context(id).tenant(owner(id)), &value.parse::<Token>().unwrap()).unwrap();
        assert_eq!(opened.expose_secret(), at(id).1.as_bytes());
    }
    app.vault().rotation(vault_core::Scope::Column("c"), vault_core::Access::Write).unwrap().abort().unwrap();
    app.configure(&app.database.url(), &format!("{both}reads_keyring = \"main\"\nlinked = true\n"));
    assert_eq!(app.run(&Job::Migrate(Format::FlowfileV1), &RunOptions::default()).unwrap().end, End::Clean);
    for (id, value) in app.values() {
        opens_as(Format::FlowfileV1, &new, None, &value, &at(id).1);
    }
}

/// Both of its columns: addresses, and JSON that it encrypts once or twice.
#[test]
fn what_face_wrote_is_rotated_in_its_columns_of_bytes() {
    let file = vector_file("apps/face.json");
    let json = &file["json_columns"];
    let key = text(&json["db_encryption_key"]);
    let addresses = of(&file["encrypt_column_data"], "db_encryption_key", key);
    assert!(addresses.len() > 1);
    let app = under(key, "reads = [\"face-column\"]\nwrites = \"face-column\"\nkeyring = \"text\"\n");
    app.database.execute(
        "CREATE TABLE consent_records (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), at serial, ip_address_encrypted bytea);
         CREATE TABLE audit_logs (id bigserial PRIMARY KEY, metadata_encrypted bytea)",
    );
    let mut client = app.database.connect();
    for case in &addresses {
        let value = text(&case["column_bytes_ascii"]).as_bytes();
        client.execute("INSERT INTO consent_records (ip_address_encrypted) VALUES ($1)", &[&value]).unwrap();
    }
    for value in [
        &json["single"]["bytes_ascii"],
        &json["column_from_dict"]["bytes_ascii"],
        &json["double"]["column_bytes_ascii"],
    ] {
        client.execute("INSERT INTO audit_logs (metadata_encrypted) VALUES ($1)", &[&text(value).as_bytes()]).unwrap();
    }
    let column = |name: &str, table: &str, value: &str, reads: &str, writes: &str| {
        format!(
            "[[column]]\nname = \"{name}\"\ndatabase = \"{}\"\ntable = \"{table}\"\nrow = [\"id\"]\nvalue = \"{value}\"\nreads = [{reads}]\nwrites = \"{writes}\"\nkeyring = \"text\"\ncontext = {{}}\n",
            app.database.url()
        )
    };
    let text_keyring = "version = 1\n[vault]\nnodes = 1\n[keyring.text]\nkind = \"text\"\nsources = [\"file:text_*\"]\nstate = \"text.keyring.toml\"\n";
    fs::write(
        app.path("vault.toml"),
        [
            text_keyring,
            &column("consent", "consent_records", "ip_address_encrypted", "\"face-column\"", "face-column"),
            &column(
                "audit",
                "audit_logs",
                "metadata_encrypted",
                "\"face-json-double\", \"face-json\"",
                "face-json-double",
            ),
        ]
        .concat(),
    )
    .unwrap();
    app.promote_new("text");
    let new = LegacyKey::new(TextKey::parse(&fs::read(app.path("text_2")).unwrap(), Trim::LineBreak).unwrap());
    let vault = app.vault();
    let mut rotation = vault.rotation(vault_core::Scope::Keyring("text"), vault_core::Access::Write).unwrap();
    let summaries = rotation.run(&Job::Rotate, &stopped(), &mut |_| core::ops::ControlFlow::Continue(())).unwrap();
    assert!(summaries.iter().all(|summary| summary.end == End::Clean), "{summaries:?}");
    let rows = client.query("SELECT ip_address_encrypted FROM consent_records ORDER BY at", &[]).unwrap();
    for (row, case) in rows.iter().zip(addresses) {
        let value: Vec<u8> = row.get(0);
        opens_as(Format::FaceColumn, &new, None, core::str::from_utf8(&value).unwrap(), text(&case["plaintext"]));
    }
    for row in client.query("SELECT metadata_encrypted FROM audit_logs", &[]).unwrap() {
        let value: Vec<u8> = row.get(0);
        let opened = open(Format::FaceJsonDouble, &new, None, &value).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(opened.expose_secret()).unwrap(), json["metadata"]);
    }

    // As tokens once every reader links the library, and back.
    rotation.abort().unwrap();
    let declare = |tokens: bool| {
        let keyring = "[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"main.keyring.toml\"\n";
        let declared = |name: &str, table: &str, value: &str, reads: &str, own: &str| {
            let [writes, main, other] = if tokens { ["vs1", "main", "text"] } else { [own, "text", "main"] };
            column(name, table, value, &format!("\"vs1\", {reads}"), writes).replace(
                "keyring = \"text\"\ncontext = {}\n",
                &format!(
                    "keyring = \"{main}\"\nreads_keyring = \"{other}\"\nlinked = true\ncontext = {{ purpose = \"user-secret\" }}\n"
                ),
            )
        };
        let [consent, audit] = [
            declared("consent", "consent_records", "ip_address_encrypted", "\"face-column\"", "face-column"),
            declared("audit", "audit_logs", "metadata_encrypted", "\"face-json-double\"", "face-json-double"),
        ];
        fs::write(app.path("vault.toml"), [text_keyring, keyring, &consent, &audit].concat()).unwrap();
    };
    let migrate = |column: &str, to: Format| {
        let vault = app.vault();
        let mut rotation = vault.rotation(vault_core::Scope::Column(column), vault_core::Access::Write).unwrap();
        let summary = super::application::run(&mut rotation, &Job::Migrate(to), &RunOptions::default()).unwrap();
        assert_eq!((summary.end, summary.failed.len()), (End::Clean, 0), "{summary:?}");
        rotation.abort().unwrap();
    };
    let values = |sql: &str| -> Vec<Vec<u8>> {
        app.database.connect().query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    let [columns, documents] = [
        "SELECT ip_address_encrypted FROM consent_records ORDER BY at",
        "SELECT metadata_encrypted FROM audit_logs ORDER BY id",
    ];
    let addresses = of(&file["encrypt_column_data"], "db_encryption_key", key);
    declare(true);
    migrate("consent", Format::Vs1);
    migrate("audit", Format::Vs1);
    let vault = app.vault();
    let token = |value: &[u8]| {
        let token: Token = core::str::from_utf8(value).unwrap().parse().unwrap();
        vault.open(&vault_core::Context::new("user-secret"), &token).unwrap()
    };
    for (value, case) in values(columns).iter().zip(&addresses) {
        assert_eq!(token(value).expose_secret(), text(&case["plaintext"]).as_bytes());
    }
    for value in values(documents) {
        assert_eq!(serde_json::from_slice::<Value>(token(&value).expose_secret()).unwrap(), json["metadata"]);
    }
    declare(false);
    migrate("consent", Format::FaceColumn);
    migrate("audit", Format::FaceJsonDouble);
    for (value, case) in values(columns).iter().zip(&addresses) {
        opens_as(Format::FaceColumn, &new, None, core::str::from_utf8(value).unwrap(), text(&case["plaintext"]));
    }
    for value in values(documents) {
        let opened = open(Format::FaceJsonDouble, &new, None, &value).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(opened.expose_secret()).unwrap(), json["metadata"]);
    }
}
