//! How fast a rotation on PostgreSQL is, beside the least that it could cost in the same run: the
//! same pages locked, and written with values that were made ready before. The rotation runs in a
//! process of its own, which tells the most memory that it had.
//!
//! `cargo bench -p vault-core --features postgres --bench postgres`, or with numbers of rows behind
//! `--`. Needs Debian's `postgresql`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a program for people"
)]

#[path = "../tests/server.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod server;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use postgres::types::Type;
use vault_core::rotate::{Job, RunOptions};
use vault_core::{Access, Change, Config, Context, MasterKey, Scope, Token, Vault};

use server::Database;

const BATCH: usize = 500;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [rotate, config] = arguments.as_slice()
        && rotate == "rotate"
    {
        return rotate_alone(Path::new(config));
    }
    let sizes: Vec<usize> = arguments.iter().map(|size| size.parse().unwrap()).collect();
    println!("{:>10}{:>14}{:>14}{:>10}{:>14}{:>12}", "rows", "rotated/s", "floor/s", "ratio", "us a row", "peak MiB");
    for rows in if sizes.is_empty() { vec![100_000, 1_000_000] } else { sizes } {
        let home = Home::new(rows);
        let floor = home.floor();
        let (seconds, peak) = home.rotate();
        let rows = f64::from(u32::try_from(rows).unwrap());
        println!(
            "{rows:>10}{:>14.0}{:>14.0}{:>10.2}{:>14.1}{:>12.1}",
            rows / seconds,
            rows / floor,
            floor / seconds,
            seconds * 1e6 / rows,
            peak
        );
    }
}

/// Two equal tables of tokens under a key that is no longer primary.
struct Home {
    directory: tempfile::TempDir,
    database: Database,
    old: String,
}

impl Home {
    fn new(rows: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::new();
        let path = |name: &str| directory.path().join(name);
        let config = format!(
            "version = 1\n[vault]\nnodes = 1\n[keyring.main]\nsources = [\"file:kek_*\"]\nstate = \"main.keyring.toml\"\n\
             [[column]]\nname = \"secrets\"\ndatabase = \"{}\"\ntable = \"secrets\"\nrow = [\"id\"]\nvalue = \"v\"\n\
             reads = [\"vs1\"]\nwrites = \"vs1\"\nlinked = true\ncontext = {{ tenant = \"{{user_id}}\", purpose = \"user-secret\" }}\n",
            database.url()
        );
        fs::write(path("vault.toml"), config).unwrap();
        for name in ["kek_1", "new"] {
            fs::write(path(name), MasterKey::generate().unwrap().text().expose_secret()).unwrap();
        }
        let vault = Vault::load(Config::from_file(path("vault.toml")).unwrap()).unwrap();
        let old = vault.sealer().unwrap().primary().unwrap().to_string();
        let mut client = database.connect();
        client.batch_execute("CREATE TABLE secrets (id bigint, user_id bigint, v text)").unwrap();
        let mut copy = client.copy_in("COPY secrets FROM STDIN").unwrap();
        for id in 0..rows {
            let context = Context::new("user-secret").tenant((id % 1_000).to_string());
            let token = vault.seal(&context, format!("a secret of row {id}, as long as they are").as_bytes()).unwrap();
            writeln!(copy, "{id}\t{}\t{token}", id % 1_000).unwrap();
        }
        copy.finish().unwrap();
        client
            .batch_execute(
                "CREATE TABLE beside AS SELECT * FROM secrets ORDER BY id;
                 ALTER TABLE secrets ADD PRIMARY KEY (id); CREATE INDEX ON secrets (left(v, 22));
                 ALTER TABLE beside ADD PRIMARY KEY (id); CREATE INDEX ON beside (left(v, 22));
                 CREATE TABLE worker (id int PRIMARY KEY, cursor text, rewritten bigint); INSERT INTO worker VALUES (1, '', 0)",
            )
            .unwrap();
        client.batch_execute("VACUUM ANALYZE").unwrap();
        let config = Config::from_file(path("vault.toml")).unwrap();
        let kid = Vault::key_add(&config, "main", &path("new"), None, None).unwrap();
        Vault::load(config).unwrap().key_change("main", &Change::Promote(kid), None).unwrap();
        Self { directory, database, old }
    }

    /// The real thing, on one connection.
    fn rotate(&self) -> (f64, f64) {
        self.database.execute("CHECKPOINT");
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.arg("rotate").arg(self.directory.path().join("vault.toml")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8(output.stdout).unwrap();
        let mut numbers = told.split_whitespace().map(|number| number.parse::<f64>().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    /// The statements of a batch, with nothing to convert.
    fn floor(&self) -> f64 {
        let mut client = self.database.connect();
        let sealer = Vault::load(Config::from_file(self.directory.path().join("vault.toml")).unwrap()).unwrap();
        let sealer = sealer.sealer().unwrap();
        let mut ready = Vec::new();
        for row in client.query("SELECT v FROM beside ORDER BY id", &[]).unwrap() {
            ready.push(sealer.rewrap(&row.get::<_, String>(0).parse::<Token>().unwrap()).unwrap().to_string());
        }
        client.batch_execute("CHECKPOINT").unwrap();
        let stale = vec![format!("vs1.{}.", self.old), format!("vk1.{}.", self.old)];
        let (mut after, mut ready) = (-1_i64, ready.as_slice());
        let started = Instant::now();
        loop {
            client.batch_execute("BEGIN; SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '30s'").unwrap();
            let page = client
                .query_typed(
                    "SELECT id AS k, v AS old FROM beside WHERE left(v, 22) = ANY ($1) AND id > $2 ORDER BY beside.id LIMIT 500 FOR UPDATE SKIP LOCKED",
                    &[(&stale, Type::TEXT_ARRAY), (&after, Type::INT8)],
                )
                .unwrap();
            let ids: Vec<i64> = page.iter().map(|row| row.get(0)).collect();
            let old: Vec<&str> = page.iter().map(|row| row.get(1)).collect();
            let Some(last) = ids.last() else { break };
            let (new, rest) = ready.split_at(ids.len());
            let written = client
                .execute_typed(
                    "UPDATE beside SET v = u.new FROM unnest($1::int8[], $2::text[], $3::text[]) AS u(id, old, new) WHERE beside.id = u.id AND beside.v = u.old",
                    &[(&ids, Type::INT8_ARRAY), (&old, Type::TEXT_ARRAY), (&new, Type::TEXT_ARRAY)],
                )
                .unwrap();
            assert_eq!(written, u64::try_from(ids.len()).unwrap());
            let mut cursor = String::new();
            write!(cursor, "{last}").unwrap();
            client
                .execute_typed(
                    "UPDATE worker SET cursor = $1, rewritten = rewritten + $2 WHERE id = 1",
                    &[(&cursor, Type::TEXT), (&i64::try_from(ids.len()).unwrap(), Type::INT8)],
                )
                .unwrap();
            client.batch_execute("COMMIT").unwrap();
            after = *last;
            ready = rest;
        }
        client.batch_execute("COMMIT").unwrap();
        assert!(ready.is_empty());
        started.elapsed().as_secs_f64()
    }
}

/// Rotates, and tells the seconds and the most memory in MiB.
fn rotate_alone(config: &Path) {
    let vault = Vault::load(Config::from_file(config).unwrap()).unwrap();
    let mut rotation = vault.rotation(Scope::Keyring("main"), Access::Write).unwrap();
    let mut options = RunOptions::default();
    options.batch = BATCH;
    let started = Instant::now();
    let summaries = rotation.run(&Job::Rotate, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert!(summaries[0].rewritten > 0 && summaries[0].stale == 0);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: f64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{seconds} {}", peak / 1024.0);
}
