//! The application: processes that write and read, and say on their standard output what they did.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vault_core::{Config, Vault};

use crate::engine::{Counters, Engine, Rows, Table, Update, context, counters, secret};
use crate::random::Random;

/// Writes until standard input ends, then each of its rows once more.
pub(crate) fn write(engine: Engine, directory: &Path, number: usize, seed: u64) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    thread::spawn(move || {
        std::io::stdin().lines().for_each(drop);
        stopped.store(true, Ordering::SeqCst);
    });
    let mut writer =
        Writer { node: Node::start(engine, directory), number, random: Random::of(seed, 1), known: BTreeMap::new() };
    let rows = Rows::of(number);
    while !stop.load(Ordering::SeqCst) {
        match writer.random.below(30) {
            // A request that takes long writes what it sealed before the states changed.
            0 => {
                let (id, held) = (writer.random.within(&rows.rare), writer.random.millis(100, 1_200));
                writer.write(id, false, held);
            }
            1 | 2 => {
                let id = engine.some_still(&mut writer.random);
                let open = writer.random.millis(1, engine.longest_touch());
                writer.node.asked(|table| table.touch(id, open));
            }
            3..=12 => {
                let id = writer.random.within(&rows.shared);
                writer.write(id, true, Duration::ZERO);
            }
            _ => {
                let id = writer.random.within(&rows.own);
                writer.write(id, false, Duration::ZERO);
            }
        }
        let rest = writer.random.millis(0, 6);
        thread::sleep(rest);
    }
    for id in rows.all() {
        while !writer.write(id, rows.shared.contains(&id), Duration::ZERO) {
            thread::sleep(Duration::from_millis(20));
        }
    }
    say("end");
}

struct Writer {
    node: Node,
    number: usize,
    random: Random,
    /// What this process wrote last, by row; unknown after a connection was lost.
    known: BTreeMap<u64, u64>,
}

impl Writer {
    /// Counts one further in a row; whether that was done.
    fn write(&mut self, id: u64, shared: bool, held: Duration) -> bool {
        let Some(old) = self.node.asked(|table| table.one(id)) else { return false };
        let Some(mut counters) = self.node.opened(id, &old) else { return false };
        let found = counters[self.number];
        match self.known.get(&id) {
            // Nobody else counts here, and who writes the row keeps what is there.
            Some(known) if *known != found => say(&format!("lost {id} {known} {found}")),
            Some(_) => {}
            None => say(&format!("found {id} {found}")),
        }
        counters[self.number] = found + 1;
        let Ok(token) = self.node.vault.seal(&context(id), secret(id, &counters).as_bytes()) else {
            say("odd cannot-seal");
            return false;
        };
        let new = token.to_string();
        thread::sleep(held);
        let open = if self.random.one_in(3) { self.random.millis(1, 6) } else { Duration::ZERO };
        say(&format!("try {id} {}", found + 1));
        self.known.remove(&id);
        match self.node.asked(|table| table.update(id, shared.then_some(old.as_str()), &new, open)) {
            Some(Update::Done) => {
                say(&format!("ack {id} {}", found + 1));
                self.known.insert(id, found + 1);
                true
            }
            Some(Update::Conflict) => {
                say("conflict");
                self.known.insert(id, found);
                false
            }
            Some(Update::Fenced) => {
                say("fenced");
                self.known.insert(id, found);
                false
            }
            None => false,
        }
    }
}

/// Reads everything again and again, each time after it was told to go, until standard input ends.
pub(crate) fn read(engine: Engine, directory: &Path) {
    let mut node = Node::start(engine, directory);
    let mut orders = std::io::stdin().lock().lines();
    loop {
        say("begin");
        if orders.next().is_none_or(|order| order.is_err()) {
            return;
        }
        let Some(rows) = node.asked(Table::all) else { continue };
        let mut line = format!("saw {}", rows.len());
        for (id, value) in rows {
            if let Some(counters) = node.opened(id, &value) {
                let _ = write!(line, " {id}:{}", counters.map(|counter| counter.to_string()).join(","));
            }
        }
        say(&line);
        thread::sleep(Duration::from_millis(40));
    }
}

/// A process of the application: keys and a connection.
struct Node {
    engine: Engine,
    directory: std::path::PathBuf,
    vault: Vault,
    table: Table,
}

impl Node {
    fn start(engine: Engine, directory: &Path) -> Self {
        let table = Table::connect(engine, directory);
        let started = Instant::now();
        let vault = loop {
            match Config::from_file(directory.join("vault.toml")).and_then(Vault::load) {
                Ok(vault) => break vault,
                Err(error) => say(&format!("load {}", error.kind().as_str())),
            }
            assert!(started.elapsed() < Duration::from_secs(60), "no keys in a minute");
            thread::sleep(Duration::from_millis(50));
        };
        Self { engine, directory: directory.to_owned(), vault, table }
    }

    /// What the database answers; nothing where the connection was lost, and it is there again.
    fn asked<T>(&mut self, ask: impl FnOnce(&mut Table) -> Result<T, crate::engine::Gone>) -> Option<T> {
        match ask(&mut self.table) {
            Ok(answer) => Some(answer),
            Err(gone) => {
                say(&format!("gone {}", gone.0));
                self.table = Table::connect(self.engine, &self.directory);
                None
            }
        }
    }

    fn opened(&self, id: u64, value: &str) -> Option<Counters> {
        let opened = value.parse().and_then(|token| self.vault.open(&context(id), &token));
        let counters = match opened {
            Ok(secret) => counters(id, secret.expose_secret()).ok_or("not-what-was-written"),
            Err(error) => Err(error.kind().as_str()),
        };
        counters.map_err(|kind| say(&format!("unreadable {id} {kind}"))).ok()
    }
}

fn say(line: &str) {
    // Whoever listens may be gone: then so is the reason to go on.
    if writeln!(std::io::stdout(), "{line}").is_err() {
        panic!("nobody listens");
    }
}
