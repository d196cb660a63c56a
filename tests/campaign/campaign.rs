//! One campaign: who takes part, the kills, and what must be there at the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::deployment::Deployment;
use crate::engine::{Engine, context, counters};
use crate::ledger::Ledger;
use crate::process::Slot;
use crate::random::Random;
use crate::rotators::Rotators;
use crate::server::server;

pub(crate) struct Plan {
    pub(crate) engine: Engine,
    pub(crate) kills: u64,
    pub(crate) time: Duration,
    pub(crate) seed: u64,
}

/// How long the end may take: a last rotation, the last writes, a look at every row.
const END: Duration = Duration::from_secs(120);

/// Runs a campaign and prints its figures.
pub(crate) fn run(plan: &Plan) -> ExitCode {
    let Plan { engine, kills, time, seed } = *plan;
    println!("campaign on {}, {kills} kills, at most {} minutes, seed {seed}", engine.name(), time.as_secs() / 60);
    let deployment = Deployment::new(engine);
    // The command may have had to be built.
    let started = Instant::now();
    let ledger = Mutex::new(Ledger::new(engine));
    let rotators = Rotators::new(&deployment, &ledger);
    let members: Vec<Member> =
        (0..engine.writers()).map(Member::writer).chain((0..engine.readers()).map(Member::reader)).collect();
    let (delivered, at_end) = (AtomicBool::new(false), AtomicBool::new(false));
    let deadline = started + time.saturating_sub(3 * END).max(time / 4);
    let fire = thread::scope(|scope| {
        let (rotators, deployment, ledger, at_end) = (&rotators, &deployment, &ledger, &at_end);
        let delivery = scope.spawn(|| deployment.deliver_late(Random::of(seed, 2), &delivered));
        for member in &members {
            scope.spawn(move || member.live(deployment, ledger, at_end, seed));
        }
        let helper = scope.spawn(|| rotators.help(Random::of(seed, 3)));
        let lead = scope.spawn(|| rotators.lead(Random::of(seed, 4)));
        let fire = Fire::all(plan, deadline, &members, rotators);
        // One rotator finishes, undisturbed.
        rotators.ending.store(true, Ordering::SeqCst);
        helper.join().unwrap();
        let ending = Instant::now();
        while !lead.is_finished() {
            if ending.elapsed() > END {
                rotators.given_up.store(true, Ordering::SeqCst);
            }
            thread::sleep(Duration::from_millis(20));
        }
        if rotators.given_up.load(Ordering::SeqCst) {
            let mut ledger = ledger.lock().unwrap();
            ledger.other(format!("the last rotation did not finish in {END:?}"));
            // The last writes may hide it.
            find_stale(deployment, &mut ledger);
        }
        at_end.store(true, Ordering::SeqCst);
        members.iter().for_each(|member| member.slot.dismiss());
        delivered.store(true, Ordering::SeqCst);
        delivery.join().unwrap();
        fire
    });
    let mut ledger = ledger.lock().unwrap();
    look(&deployment, &mut ledger);
    let rotations = rotators.figures.rotations.load(Ordering::SeqCst);
    if rotations == 0 {
        ledger.other("no rotation was completed".to_owned());
    }
    if fire.sum() < kills && !ledger.is_violated() {
        ledger.other(format!("{} kills of {kills} in the time there was", fire.sum()));
    }
    let figures = &rotators.figures;
    let mut table: Vec<(String, u64)> =
        fire.kills.iter().map(|(who, kills)| (format!("kills of {who}"), *kills)).collect();
    table.extend(
        [
            ("server restarts", fire.restarts),
            ("rotations completed", rotations),
            ("rows rewritten, by completed rotations", figures.rewritten.load(Ordering::SeqCst)),
            ("rows passed over: changed or held by others", figures.lost.load(Ordering::SeqCst)),
            ("writes acknowledged", ledger.acknowledgements),
            ("writes over a row that changed, refused and repeated", ledger.conflicts),
            ("late writes refused by a fence", ledger.fenced),
            ("values read", ledger.reads),
            ("lost updates, as often as they were seen", ledger.lost),
            ("unreadable values, as often as they were seen", ledger.unreadable),
            ("stale rows", ledger.stale),
            ("other failures", ledger.other),
            ("seconds", started.elapsed().as_secs()),
        ]
        .map(|(what, number)| (what.to_owned(), number)),
    );
    for (what, number) in table {
        println!("{number:>9}  {what}");
    }
    println!("commands that ended, by exit status: {}", list(&figures.ends.lock().unwrap()));
    println!("of the application: {}", list(&ledger.troubles));
    for violation in ledger.violations() {
        println!("FAILED: {violation}");
    }
    if ledger.is_violated() {
        println!("campaign failed; the seed was {seed}");
        return ExitCode::FAILURE;
    }
    println!("campaign passed: each writer's last acknowledged value is what is read");
    ExitCode::SUCCESS
}

/// A process of the application, started again whenever it was killed.
struct Member {
    role: &'static str,
    number: usize,
    slot: Slot,
}

impl Member {
    fn writer(number: usize) -> Self {
        Self { role: "writer", number, slot: Slot::default() }
    }

    fn reader(number: usize) -> Self {
        Self { role: "reader", number, slot: Slot::default() }
    }

    fn live(&self, deployment: &Deployment, ledger: &Mutex<Ledger>, at_end: &AtomicBool, seed: u64) {
        let engine = deployment.engine;
        let is_late = self.role == "reader" && self.number + 1 == engine.readers();
        let home: PathBuf = if is_late { deployment.late() } else { deployment.home().to_owned() };
        for life in 0.. {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args([self.role, engine.name()]).arg(&home);
            if self.role == "writer" {
                let seed = Random::of(seed, 100 * life + self.number as u64).draw();
                command.args([self.number.to_string(), seed.to_string()]);
            }
            let mut floor = Vec::new();
            let mut ended = false;
            let (status, killed) = self.slot.talk(&mut command, |line| {
                if line == "begin" {
                    floor = ledger.lock().unwrap().floor();
                    return self.slot.order("go");
                }
                let mut ledger = ledger.lock().unwrap();
                ended |= line == "end";
                match self.role {
                    "writer" => ledger.writer(self.number, line),
                    _ => ledger.reader(self.number, line, &floor),
                }
            });
            if at_end.load(Ordering::SeqCst) {
                if !status.success() || self.role == "writer" && !ended {
                    ledger.lock().unwrap().other(format!("{} {} did not end well: {status}", self.role, self.number));
                }
                return;
            }
            if !killed {
                ledger.lock().unwrap().other(format!("{} {} ended by itself: {status}", self.role, self.number));
                thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

/// What was killed and restarted.
#[derive(Default)]
struct Fire {
    kills: BTreeMap<&'static str, u64>,
    restarts: u64,
}

impl Fire {
    /// Kills until there were enough, time is up, or something was violated.
    fn all(plan: &Plan, deadline: Instant, members: &[Member], rotators: &Rotators<'_>) -> Self {
        let mut random = Random::of(plan.seed, 5);
        let mut fire = Self::default();
        let mut shot = 0_u64;
        while fire.sum() < plan.kills && Instant::now() < deadline && !rotators.ledger.lock().unwrap().is_violated() {
            let rest = random.millis(10, 400);
            thread::sleep(rest);
            shot += 1;
            if plan.engine == Engine::Postgres && shot % 13 == 4 {
                server().restart();
                fire.restarts += 1;
            }
            let writer = random.below(plan.engine.writers() as u64);
            let (who, slot) = match random.below(8) {
                0..=2 => ("the first rotator", &rotators.lead),
                3..=5 => ("the second rotator", &rotators.helper),
                _ => ("a writer", &members[usize::try_from(writer).unwrap()].slot),
            };
            if who != "a writer" && !random.one_in(4) {
                // While values move there is most to break.
                let aimed = Instant::now();
                while !rotators.moving.load(Ordering::SeqCst) && aimed.elapsed() < Duration::from_millis(1_000) {
                    thread::sleep(Duration::from_millis(5));
                }
                let rest = random.millis(10, 150);
                thread::sleep(rest);
            }
            let aimed = Instant::now();
            let mut hit = slot.kill();
            // Who is between two commands is waited for, and met somewhere in the next.
            while !hit && aimed.elapsed() < Duration::from_millis(500) {
                let rest = random.millis(3, 60);
                thread::sleep(rest);
                hit = slot.kill();
            }
            if hit {
                *fire.kills.entry(who).or_default() += 1;
            }
        }
        fire
    }

    fn sum(&self) -> u64 {
        self.kills.values().sum()
    }
}

/// Reads every row when nobody writes any more.
fn look(deployment: &Deployment, ledger: &mut Ledger) {
    find_stale(deployment, ledger);
    let vault = deployment.vault_itself();
    let rows = deployment.table().all().unwrap();
    if rows.len() as u64 != deployment.engine.rows() {
        ledger.lost(&format!("{} rows are left", rows.len()));
    }
    for (id, value) in rows {
        let opened = value.parse().and_then(|token| vault.open(&context(id), &token));
        match opened.map(|secret| counters(id, secret.expose_secret())) {
            Ok(Some(counters)) => ledger.settle(id, &counters),
            Ok(None) => ledger.unreadable(&format!("row {id} at the end: not what was written")),
            Err(error) => ledger.unreadable(&format!("row {id} at the end: {}", error.kind().as_str())),
        }
    }
}

/// Counts the rows that are not under the primary key.
fn find_stale(deployment: &Deployment, ledger: &mut Ledger) {
    let primary = deployment.vault_itself().keyring("main").unwrap().primary_kid();
    for (id, value) in deployment.table().all().unwrap() {
        if !value.starts_with(&format!("vs1.{primary}.")) {
            ledger.stale(&format!("row {id}"));
        }
    }
}

fn list(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<_> = counts.iter().map(|(what, number)| format!("{what}: {number}")).collect();
    if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") }
}
