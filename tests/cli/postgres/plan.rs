//! What is said before anything is written.

use vault_core::Format;
use vault_core::legacy::{self, LegacyKey};
use vault_core::{TextKey, Trim};

use crate::secret;
use crate::server::{Standby, role};

use super::Service;

#[test]
fn a_plan_tells_what_is_there_and_how_long_it_takes() {
    let service = Service::new(50);
    let old = service.key("primary");
    let new = service.promote();
    service
        .database
        .execute("UPDATE secrets SET v = replace(v, v, 'vs1.kunknownunknownun' || substr(v, 22)) WHERE id = 9");
    let told = service.directory.vault("rotate plan");
    assert_eq!(told.code, 23, "{told:?}");
    assert!(told.out.contains(&format!("{old}  49")) && told.out.contains("kunknownunknownun  1"), "{told:?}");
    assert!(
        told.out.contains("49 to rewrite, 0 lost to other writers, 1 failed") && told.out.contains("about "),
        "{told:?}"
    );
    service.database.execute("DELETE FROM secrets WHERE id = 9");
    let told = service.directory.vault("rotate plan --json").ok();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let column = &told["columns"][0];
    assert_eq!((&column["holds"]["by"][0]["kid"], &column["holds"]["by"][0]["values"]), (&old.into(), &49.into()));
    assert!(column["estimate"].as_f64().unwrap() > 0.0);
    let slow = service.directory.vault("rotate plan --json --rows-per-second 7").ok();
    let slow: serde_json::Value = serde_json::from_str(&slow).unwrap();
    assert!(slow["columns"][0]["estimate"].as_f64().unwrap() >= 7.0);
    assert_eq!(service.moved(&new), 0, "a plan writes nothing");
}

#[test]
fn a_plan_tells_of_replicas_and_of_a_missing_index() {
    let service = Service::new(3);
    service.promote();
    service.database.execute("DROP INDEX secrets_left_idx");
    let standby = Standby::new();
    let told = service.directory.vault("rotate plan").err;
    assert!(told.contains("replicas that follow the server: ") && told.contains("--max-replica-lag"), "{told}");
    drop(standby);
    let statement = told.split("CREATE INDEX").nth(1).unwrap().lines().next().unwrap();
    service.database.execute(&format!("CREATE INDEX{statement}"));
    let told = service.directory.vault("rotate plan");
    assert!(!told.err.contains("CREATE INDEX"), "{told:?}");
    told.ok();
}

/// The statement that a plan names for a member of a document can be typed as it stands.
#[test]
fn a_plan_names_the_index_of_a_member() {
    let service = Service::new(3);
    service.promote();
    service.database.execute(
        "DROP INDEX secrets_left_idx; ALTER TABLE secrets ALTER v TYPE jsonb USING jsonb_build_object('o''k', v)",
    );
    let text = std::fs::read_to_string(service.directory.path("vault.toml")).unwrap();
    service.directory.write("vault.toml", text.replace("value = \"v\"\n", "value = \"v\"\nmember = \"o'k\"\n"));
    let told = service.directory.vault("rotate plan").err;
    let statement = told.split("CREATE INDEX").nth(1).unwrap().lines().next().unwrap();
    service.database.execute(&format!("CREATE INDEX{statement}"));
    let told = service.directory.vault("rotate plan");
    assert!(!told.err.contains("CREATE INDEX"), "{told:?}");
}

/// By a role that lacks one privilege after the other: each is named as it is granted.
#[test]
fn a_plan_refuses_a_role_that_could_not_finish() {
    let service = Service::new(5);
    service.promote();
    role("planner", "");
    service.database.execute("GRANT SELECT (id, user_id, name) ON secrets TO planner; CREATE SCHEMA vault_core");
    service.connect_by(&service.database.url_as("planner"));
    for lacks in ["SELECT (\"v\")", "UPDATE (\"v\")", "USAGE, CREATE"] {
        // A value that may not be read is told before any is looked at.
        for line in ["rotate plan", "rotate run", "rotate run -n"] {
            let told = service.directory.vault(line);
            assert!(told.err.contains(&format!("GRANT {lacks} ON")), "{line}, {lacks}: {told:?}");
            assert_eq!(told.code, 23, "{line}, {lacks}: {told:?}");
        }
        let granted = service.directory.vault("rotate plan").err;
        let grant = granted.split("GRANT ").nth(1).unwrap().lines().next().unwrap();
        let (what, _) = grant.split_once(" TO the role of the URL").unwrap();
        service.database.execute(&format!("GRANT {what} TO planner"));
    }
    service.directory.vault("rotate plan").ok();
    service.directory.vault("rotate run").ok();
}

/// A value would be cut, or refused row by row: said before, with the figures.
#[test]
fn a_column_too_short_for_what_would_be_written_is_refused() {
    let service = Service::new(0);
    service.directory.vault("key generate --out text_1").ok();
    let key = std::fs::read(service.directory.path("text_1")).unwrap();
    let key = LegacyKey::new(TextKey::parse(&key, Trim::Python).unwrap());
    let mut client = service.database.connect();
    let mut longest = 0;
    for id in 1..=20_u64 {
        let tenant = (id % 7).to_string();
        let value = legacy::seal(Format::FlowfileV1, &key, Some(&tenant), secret(id).as_bytes()).unwrap();
        longest = longest.max(value.len());
        let number = i64::try_from(id).unwrap();
        let statement = "INSERT INTO secrets VALUES ($1, $2, $3, $4)";
        client.execute(statement, &[&number, &(number % 7), &format!("n{id}"), &value]).unwrap();
    }
    service.database.execute(&format!("ALTER TABLE secrets ALTER v TYPE varchar({})", longest + 5));
    let text = std::fs::read_to_string(service.directory.path("vault.toml")).unwrap();
    let text = text.replace(
        "[store]\nurl = \"secret:DATABASE_URL\"\n",
        "[keyring.text]\nkind = \"text\"\nsources = [\"file:text_*\"]\n",
    );
    service.directory.write(
        "vault.toml",
        text.replace(
            "reads = [\"vs1\"]\n",
            "reads = [\"vs1\", \"flowfile-v1\"]\nkeyring = \"main\"\nreads_keyring = \"text\"\n",
        ),
    );
    let told = service.directory.vault("migrate app.secrets --to vs1 -n").fails(23);
    let figures = format!("column v of table secrets takes {} characters, and a value would have ", longest + 5);
    assert!(told.contains(&figures), "{told}");
    let needed = told.split(&figures).nth(1).unwrap().split(';').next().unwrap();
    service.database.execute(&format!("ALTER TABLE secrets ALTER v TYPE varchar({needed})"));
    service.directory.vault("migrate app.secrets --to vs1 -n").ok();
    service.directory.vault("migrate app.secrets --to vs1").ok();
    // What would be padded is not looked at further.
    service.database.execute("ALTER TABLE secrets ALTER v TYPE char(200)");
    assert!(service.directory.vault("rotate plan").fails(23).contains("values are text, varchar or bytea"));
}
