//! What a rotation on PostgreSQL costs, in one run with what it is to be compared with.
//!
//! - Rows in a second beside the least that it could cost: the same pages locked, and written with
//!   values that were made ready before. The rotation runs in a process of its own, which tells the
//!   most memory that it had. They take turns, and the figures are medians. Then two processes at once.
//! - Seconds of the other commands.
//! - What two scripts with `MultiFernet.rotate` reach, one row by row and one with the same pages.
//! - How long an application waits for its reads and writes meanwhile, with a throttle and without.
//!
//! `ci/python && cargo bench -p vault-core --features postgres --bench postgres`, or with numbers of
//! rows behind `--`. Needs Debian's `postgresql`, and the Python environment of `ci/python`.
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
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::types::Type;
use vault_core::rotate::{Job, Rotation, RunOptions};
use vault_core::{Access, Change, Config, Context, Followed, KeyId, MasterKey, Scope, Token, Vault};

use server::Database;

const BATCH: usize = 500;
/// The rotation and its floor take turns.
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [rotate, config, rate] = arguments.as_slice()
        && rotate == "rotate"
    {
        return rotate_alone(Path::new(config), rate.parse().ok());
    }
    let sizes: Vec<usize> = arguments.iter().map(|size| size.parse().unwrap()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 100_000, 1_000_000] } else { sizes };
    // What a server of this size would have.
    let database = Database::named("postgres");
    database.execute("ALTER SYSTEM SET shared_buffers = '1GB'");
    // The tables are vacuumed between what is measured.
    database.execute("ALTER SYSTEM RESET autovacuum_naptime");
    server::server().restart();
    println!(
        "{:>10}{:>11}{:>10}{:>7}{:>8}{:>10}{:>7}{:>9}{:>9}{:>9}",
        "rows", "rotated/s", "floor/s", "ratio", "us/row", "by two/s", "MiB", "status s", "fence s", "verify s"
    );
    for size in sizes {
        let home = Home::new(size);
        let (mut floors, mut rotations, mut peak) = (Vec::new(), Vec::new(), 0_f64);
        for round in 0..ROUNDS {
            if round > 0 {
                home.turn();
            }
            floors.push(home.floor());
            let (seconds, most) = home.rotate();
            rotations.push(seconds);
            peak = peak.max(most);
        }
        let (floor, seconds) = (quantile(&floors, 0.5), quantile(&rotations, 0.5));
        let [status, fence, verify] = home.commands();
        home.turn();
        let two = home.rotate_by_two();
        let rows = f64::from(u32::try_from(size).unwrap());
        println!(
            "{size:>10}{:>11.0}{:>10.0}{:>7.2}{:>8.1}{:>10.0}{peak:>7.1}{status:>9.3}{fence:>9.3}{verify:>9.2}",
            rows / seconds,
            rows / floor,
            floor / seconds,
            seconds * 1e6 / rows,
            rows / two
        );
    }
    scripts();
    latencies();
}

/// Two equal tables of tokens under a key that is no longer primary.
struct Home {
    directory: tempfile::TempDir,
    database: Database,
}

/// No process but this one holds the keys.
fn vouched(vault: &Vault, opens: Option<KeyId>) -> Followed {
    Followed::by_the_word_of_an_operator_who_looked(vault, "main", opens).unwrap()
}

fn promote(vault: &Vault, kid: KeyId) {
    vault.key_change("main", &Change::Promote(kid, vouched(vault, Some(kid))), None).unwrap();
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
        promote(&Vault::load(config).unwrap(), kid);
        Self { directory, database }
    }

    /// The real thing, on one connection.
    fn rotate(&self) -> (f64, f64) {
        self.database.execute("CHECKPOINT");
        self.start(None).told()
    }

    /// The same by two processes. How long the slower one took.
    fn rotate_by_two(&self) -> f64 {
        self.database.execute("CHECKPOINT");
        let (one, other) = (self.start(None), self.start(None));
        one.told().0.max(other.told().0)
    }

    fn start(&self, rate: Option<u32>) -> Rotator {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("rotate").arg(self.config()).arg(rate.map_or("none".to_owned(), |rate| rate.to_string()));
        Rotator(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("vault.toml")
    }

    fn vault(&self) -> Vault {
        Vault::load(Config::from_file(self.config()).unwrap()).unwrap()
    }

    /// Makes the other key primary: every row is stale again.
    fn turn(&self) {
        self.vault().rotation(Scope::Keyring("main"), Access::Write).unwrap().abort().unwrap();
        promote(&self.vault(), self.other_key());
        self.database.execute("VACUUM ANALYZE");
    }

    fn other_key(&self) -> KeyId {
        let vault = self.vault();
        let primary = vault.sealer().unwrap().primary().unwrap();
        vault.keyring("main").unwrap().keys().into_iter().find(|key| key.kid != primary).unwrap().kid
    }

    /// Seconds of `status`, `rotate fence` and `rotate verify` where nothing is stale.
    fn commands(&self) -> [f64; 3] {
        let vault = self.vault();
        let mut rotation = vault.rotation(Scope::Keyring("main"), Access::Write).unwrap();
        let mut timed = |work: &mut dyn FnMut(&mut Rotation<'_>)| {
            let started = Instant::now();
            work(&mut rotation);
            started.elapsed().as_secs_f64()
        };
        let seconds = [
            timed(&mut |rotation| assert_eq!(rotation.stale().unwrap()[0].1, Some(0))),
            timed(&mut |rotation| assert_eq!(rotation.fence(None).unwrap().len(), 1)),
            timed(&mut |rotation| drop(rotation.verify().unwrap())),
        ];
        rotation.unfence(&vouched(&vault, None)).unwrap();
        seconds
    }

    /// The statements of a batch, with nothing to convert.
    fn floor(&self) -> f64 {
        let mut client = self.database.connect();
        let vault = self.vault();
        let sealer = vault.sealer().unwrap();
        let mut ready = Vec::new();
        for row in client.query("SELECT v FROM beside ORDER BY id", &[]).unwrap() {
            ready.push(sealer.rewrap(&row.get::<_, String>(0).parse::<Token>().unwrap()).unwrap().to_string());
        }
        client.batch_execute("CHECKPOINT").unwrap();
        let old = self.other_key();
        let stale = vec![format!("vs1.{old}."), format!("vk1.{old}.")];
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

    /// Reads and writes secrets of the application, some hundred in a second; seconds of each.
    fn user(&self, user: i64, ended: &AtomicBool) -> (Vec<f64>, Vec<f64>) {
        let vault = self.vault();
        let mut client = self.database.connect();
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        let mut id = user;
        while !ended.load(Ordering::Relaxed) {
            id = (id * 7_919 + 104_729) % 300_000;
            let context = Context::new("user-secret").tenant((id % 1_000).to_string());
            let started = Instant::now();
            let row = client.query_one("SELECT v FROM secrets WHERE id = $1", &[&id]).unwrap();
            let secret = vault.open(&context, &row.get::<_, String>(0).parse().unwrap()).unwrap();
            reads.push(started.elapsed().as_secs_f64());
            let started = Instant::now();
            let token = vault.seal(&context, secret.expose_secret()).unwrap().to_string();
            client.execute("UPDATE secrets SET v = $1 WHERE id = $2", &[&token, &id]).unwrap();
            writes.push(started.elapsed().as_secs_f64());
            thread::sleep(Duration::from_millis(5));
        }
        (reads, writes)
    }
}

/// A process that rotates.
struct Rotator(Child);

impl Rotator {
    /// The seconds that it took, and the most memory that it had in MiB.
    fn told(self) -> (f64, f64) {
        let output = self.0.wait_with_output().unwrap();
        assert!(output.status.success());
        let told = String::from_utf8(output.stdout).unwrap();
        let mut numbers = told.split_whitespace().map(|number| number.parse::<f64>().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }
}

/// Two scripts as people write them, on rows of the same length.
fn scripts() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let database = Database::new();
    for (manner, rows) in [("rows", "20000"), ("pages", "100000")] {
        let mut command = Command::new(project.join("target/python/bin/python"));
        command.arg(project.join("benches/python/rotate.py")).args([&database.url(), manner, rows]);
        let output = command.output().expect("no Python environment: run ci/python first");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        print!("{}", String::from_utf8(output.stdout).unwrap());
    }
}

/// An application's reads and writes, alone and while its rows are rotated.
fn latencies() {
    let home = Home::new(300_000);
    println!(
        "{:>22}{:>12}{:>12}{:>12}{:>12}",
        "ms of the application", "read p50", "read p99", "write p50", "write p99"
    );
    for (name, rate) in [("alone", None), ("5,000 rows/s", Some(Some(5_000))), ("no throttle", Some(None))] {
        home.database.execute("CHECKPOINT");
        let mut rotator = rate.map(|rate| home.start(rate));
        let ended = AtomicBool::new(false);
        let (reads, writes) = thread::scope(|scope| {
            let users: Vec<_> = (0..4)
                .map(|user| {
                    scope.spawn({
                        let ended = &ended;
                        let home = &home;
                        move || home.user(user, ended)
                    })
                })
                .collect();
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(20)
                && rotator.as_mut().is_none_or(|rotator| rotator.0.try_wait().unwrap().is_none())
            {
                thread::sleep(Duration::from_millis(20));
            }
            ended.store(true, Ordering::Relaxed);
            let (mut reads, mut writes) = (Vec::new(), Vec::new());
            for user in users {
                let (read, wrote) = user.join().unwrap();
                reads.extend(read);
                writes.extend(wrote);
            }
            (reads, writes)
        });
        if let Some(mut rotator) = rotator {
            rotator.0.kill().unwrap();
            rotator.0.wait().unwrap();
            // The run is finished for the next.
            home.rotate();
            home.turn();
        }
        let [read, read99, write, write99] = [(&reads, 0.5), (&reads, 0.99), (&writes, 0.5), (&writes, 0.99)]
            .map(|(times, part)| quantile(times, part) * 1_000.0);
        println!("{name:>22}{read:>12.2}{read99:>12.2}{write:>12.2}{write99:>12.2}");
    }
}

fn quantile(times: &[f64], part: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let at = (times.len() as f64 * part) as usize;
    times[at.min(times.len() - 1)]
}

/// Rotates, and tells the seconds and the most memory in MiB.
fn rotate_alone(config: &Path, rate: Option<u32>) {
    let vault = Vault::load(Config::from_file(config).unwrap()).unwrap();
    let mut rotation = vault.rotation(Scope::Keyring("main"), Access::Write).unwrap();
    let mut options = RunOptions::default();
    options.batch = BATCH;
    options.rows_per_second = rate;
    let started = Instant::now();
    let summaries = rotation.run(&Job::Rotate, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(summaries[0].stale, 0);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: f64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{seconds} {}", peak / 1024.0);
}
