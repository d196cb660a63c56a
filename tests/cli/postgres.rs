//! Columns and a store of PostgreSQL, as they are typed.

mod initialising;
mod machines;
mod plan;
mod replicas;
mod restored;
mod running;
mod status;

use std::fs;
use std::process::{Child, Command, Stdio};

use vault_core::{Config, Sealer, Vault};

use crate::server::Database;
use crate::{Directory, context, secret};

/// An application whose URL, in the form of its own driver, is in a secret.
struct Service {
    directory: Directory,
    database: Database,
}

impl Service {
    fn new(rows: u64) -> Self {
        let service = Self { directory: Directory::new(), database: Database::new() };
        service.directory.write(
            "vault.toml",
            "version = 1\n[vault]\nnodes = 1\nfollow = \"100ms\"\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"main.keyring.toml\"\n\
             [store]\nurl = \"secret:DATABASE_URL\"\n[secrets.DATABASE_URL]\ntype = \"url\"\npath = \"url\"\n\
             [[column]]\nname = \"app.secrets\"\ndatabase = \"secret:DATABASE_URL\"\ntable = \"secrets\"\nrow = [\"id\"]\nvalue = \"v\"\n\
             reads = [\"vs1\"]\nwrites = \"vs1\"\nlinked = true\n\
             context = { tenant = \"{user_id}\", name = \"{name}\", purpose = \"user-secret\" }\n",
        );
        let url = service.database.url().replace("postgresql:", "postgresql+asyncpg:");
        service.directory.write("url", format!("{url}&prepared_statement_cache_size=0\n"));
        service.directory.vault("key generate --out kek_1").ok();
        service.database.execute(
            "CREATE TABLE secrets (id bigint PRIMARY KEY, user_id bigint, name text, v text); CREATE INDEX ON secrets (left(v, 22))",
        );
        let sealer = Sealer::from_key_file(service.directory.path("kek_1")).unwrap();
        let mut client = service.database.connect();
        for id in 1..=rows {
            let token = sealer.seal(&context(id), secret(id).as_bytes()).unwrap().to_string();
            let (number, tenant) = (i64::try_from(id).unwrap(), i64::try_from(id % 7).unwrap());
            client
                .execute("INSERT INTO secrets VALUES ($1, $2, $3, $4)", &[&number, &tenant, &format!("n{id}"), &token])
                .unwrap();
        }
        service
    }

    /// Has the service connect elsewhere.
    fn connect_by(&self, url: &str) {
        self.directory.write("url", format!("{url}\n"));
    }

    /// Without a store, and with the next key primary. Returns its id.
    fn promote(&self) -> String {
        let text = fs::read_to_string(self.directory.path("vault.toml")).unwrap();
        self.directory.write("vault.toml", text.replace("[store]\nurl = \"secret:DATABASE_URL\"\n", ""));
        self.directory.vault("key generate --out new").ok();
        self.directory.vault("key add new --label 2").ok();
        let new = self.key("active");
        self.directory.vault(&format!("key promote {new} --yes")).ok();
        new
    }

    /// Starts a command and goes on.
    fn start(&self, line: &str) -> Child {
        // What started the tests may have chosen to ignore signals.
        let mut command = Command::new("env");
        command.arg("--default-signal").arg(crate::binary()).args(line.split_whitespace());
        command
            .current_dir(self.directory.home.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn moved(&self, kid: &str) -> usize {
        self.values().iter().filter(|value| value.starts_with(&format!("vs1.{kid}."))).count()
    }

    /// Sessions of commands that the server has.
    fn sessions(&self) -> i64 {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vault' AND datname = current_database()";
        self.database.connect().query_one(sql, &[]).unwrap().get(0)
    }

    /// Every value opens, and is the secret of its row.
    fn all_open(&self) {
        let config = Config::from_file(self.directory.path("vault.toml")).unwrap().without_heartbeats();
        let vault = Vault::load(config).unwrap();
        for (id, value) in (1..).zip(self.values()) {
            let opened = vault.open(&context(id), &value.parse().unwrap()).unwrap();
            assert_eq!(opened.expose_secret(), secret(id).as_bytes());
        }
    }

    fn values(&self) -> Vec<String> {
        let rows = self.database.connect().query("SELECT v FROM secrets ORDER BY id", &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn key(&self, state: &str) -> String {
        let told = self.directory.vault("key list").ok();
        let line = told.lines().find(|line| line.contains(state)).unwrap();
        line.split_whitespace().find(|word| word.len() == 17 && word.starts_with('k')).unwrap().to_owned()
    }
}

/// What a transaction sealed before the promotion and writes after the fence would fail.
#[test]
fn a_fence_waits_for_transactions_that_are_open() {
    let service = Service::new(10);
    service.directory.vault("init --store-only").ok();
    service.directory.vault("key generate --out next").ok();
    service.directory.vault("key add next").ok();
    let new = service.key("active");
    service.directory.vault(&format!("key promote {new} --yes")).ok();
    service.directory.vault("rotate run").ok();
    let mut application = service.database.connect();
    let late = service.values();
    let mut transaction = application.transaction().unwrap();
    let pid: i32 = transaction.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    let told = service.directory.vault("rotate fence --wait 1").fails(75);
    assert!(told.contains(&format!("session {pid} (")) && told.contains("pg_terminate_backend"), "{told}");
    assert!(!service.directory.vault("status").out.contains("fenced against"));
    transaction.execute("UPDATE secrets SET v = $1 WHERE id = 1", &[&late[0]]).unwrap();
    transaction.commit().unwrap();
    service.directory.vault("rotate fence").ok();
}

#[test]
fn rotate_alone_does_all_of_it_on_postgresql() {
    let service = Service::new(120);
    let old_values = service.values();
    let told = service.directory.vault("init --store-only").ok();
    assert!(told.contains("store postgresql://postgres@"), "{told}");
    service.directory.vault_with("set API_KEY", b"from the store").ok();
    let told = service.directory.vault("rotate plan").ok();
    assert!(told.contains("app.secrets: 0 rows, 0 to rewrite"), "{told}");
    let told = service.directory.vault("rotate --new-key --without-backup --yes --batch 30");
    assert!(
        told.code == 0 && told.out.contains("120 rewritten") && told.out.contains("verified: nothing is stale"),
        "{told:?}"
    );
    assert_eq!(service.directory.vault("get API_KEY").ok(), "from the store");
    let new = service.key("primary");
    assert!(service.values().iter().all(|value| value.starts_with(&format!("vs1.{new}."))));
    let status = service.directory.vault("status");
    assert!(status.err.contains("app.secrets: 0 stale"), "{status:?}");
    assert!(status.ok().contains("may go"));

    // A late writer fails loudly, and a value that came past the fence keeps its key.
    let old = service.key("decrypt-only");
    let mut client = service.database.connect();
    let late = client.execute("UPDATE secrets SET v = $1 WHERE id = 5", &[&old_values[4]]);
    assert_eq!(late.unwrap_err().code().unwrap().code(), "23514");
    service.directory.vault("rotate fence --drop").ok();
    client.execute("UPDATE secrets SET v = $1 WHERE id = 5", &[&old_values[4]]).unwrap();
    let refused = service.directory.vault(&format!("key disable {old} --yes")).fails(23);
    assert!(
        refused.contains(&format!("column app.secrets holds 1 values under key {old} in table secrets")),
        "{refused}"
    );
    assert!(service.directory.vault("status").err.contains("app.secrets: 1 stale"));
    service.directory.vault("rotate fence").fails(23);
    service.directory.vault("rotate run").ok();
    service.directory.vault("rotate fence").ok();
    service.directory.vault("rotate verify").ok();
    service.directory.vault(&format!("key disable {old} --yes")).ok();
    service.directory.vault("doctor").ok();
    let left = client
        .query_one("SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'vault_core' AND relname LIKE 'rotation%'", &[])
        .unwrap();
    assert_eq!(left.get::<_, i64>(0), 0, "our own tables are gone");
}

#[test]
fn a_run_stops_in_time_and_goes_on() {
    let service = Service::new(100);
    let new = service.promote();
    service.directory.vault("rotate run --batch 10 --until 2020-01-01T00:00:00Z").fails(75);
    let moved = || service.moved(&new);
    assert_eq!(moved(), 10);
    assert!(service.directory.vault("rotate status").ok().contains("10 rewritten"));
    let started = std::time::Instant::now();
    service.directory.vault("rotate run --batch 10 --rows-per-second 60").ok();
    assert!(started.elapsed().as_secs_f64() > 1.2, "90 rows at 60 a second");
    assert_eq!(moved(), 100);
}

#[test]
fn no_message_repeats_a_url() {
    let service = Service::new(1);
    for url in
        ["postgresql://u:hunter2@localhost:1/d?sslmode=disable", "postgresql://u:hunter2@h/d?hunter2=1", "hunter2"]
    {
        fs::write(service.directory.path("url"), url).unwrap();
        for line in ["status", "rotate run", "doctor", "init --store-only", "get API_KEY"] {
            let ran = service.directory.vault(line);
            assert_ne!(ran.code, 0, "{line}");
            assert!(!format!("{ran:?}").contains("hunter2"), "{line}: {ran:?}");
        }
    }
    let text = fs::read_to_string(service.directory.path("vault.toml")).unwrap();
    service.directory.write("vault.toml", text.replace("secret:DATABASE_URL", "postgresql://u:hunter2@h/d"));
    let told = service.directory.vault("status").fails(16);
    assert!(told.contains("a password does not belong here") && !told.contains("hunter2"), "{told}");
}

/// Of two that read the same states, one changes them: what the other read is not there any more.
#[test]
fn states_in_postgresql_are_replaced_only_at_the_generation_that_was_read() {
    let service = Service::new(2);
    let text = fs::read_to_string(service.directory.path("vault.toml")).unwrap();
    service.directory.write("vault.toml", text.replace("state = \"main.keyring.toml\"", "state = \"store\""));
    service.directory.vault("init --store-only").ok();
    for name in ["a", "b"] {
        service.directory.vault(&format!("key generate --out next_{name}")).ok();
    }
    service.directory.vault("key add next_a --label a").ok();
    let mut other = service.database.connect();
    let mut change = other.transaction().unwrap();
    let row = change.query_one("SELECT generation, states FROM vault_core.keyring FOR UPDATE", &[]).unwrap();
    let (generation, states): (i64, String) = (row.get(0), row.get(1));
    let command = service.start("key add next_b --label b");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vault' AND wait_event_type = 'Lock' AND datname = current_database()";
    let mut looking = service.database.connect();
    crate::until("the command does not wait for the row", || {
        looking.query_one(waits, &[]).unwrap().get::<_, i64>(0) > 0
    });
    change.execute("UPDATE vault_core.keyring SET generation = $1", &[&(generation + 1)]).unwrap();
    change.commit().unwrap();
    let output = command.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", String::from_utf8_lossy(&output.stderr));
    let now = looking.query_one("SELECT generation, states FROM vault_core.keyring", &[]).unwrap();
    assert_eq!((now.get::<_, i64>(0), now.get::<_, String>(1)), (generation + 1, states));
}

/// First changes at once: each is made or to be typed again, and no other error is seen.
#[test]
fn first_changes_of_states_in_postgresql_take_turns() {
    let service = Service::new(2);
    let text = fs::read_to_string(service.directory.path("vault.toml")).unwrap();
    service.directory.write("vault.toml", text.replace("state = \"main.keyring.toml\"", "state = \"store\""));
    service.directory.vault("init --store-only").ok();
    let names: Vec<String> = (0..6).map(|number| format!("next_{number}")).collect();
    for name in &names {
        service.directory.vault(&format!("key generate --out {name}")).ok();
    }
    let commands: Vec<_> = names.iter().map(|name| service.start(&format!("key add {name} --label {name}"))).collect();
    let mut added = 0;
    for (name, command) in names.iter().zip(commands) {
        let output = command.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {
                added += 1;
                assert!(service.directory.vault("key list").ok().contains(&format!("  {name}  ")), "{name} is lost");
            }
            code => assert_eq!(code, Some(75), "{told}"),
        }
    }
    assert!(added > 0);
}
