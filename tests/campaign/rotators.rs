//! Two rotators, which type the command as an operator does: one leads through whole rotations, the
//! other joins it where values are moved.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::deployment::Deployment;
use crate::ledger::Ledger;
use crate::process::Slot;
use crate::random::Random;

/// How a command ended.
#[derive(Debug)]
struct Ran {
    /// None for one that was killed.
    code: Option<i32>,
    out: String,
    err: String,
}

/// What rotators share.
pub(crate) struct Rotators<'a> {
    pub(crate) deployment: &'a Deployment,
    pub(crate) ledger: &'a Mutex<Ledger>,
    pub(crate) lead: Slot,
    pub(crate) helper: Slot,
    /// No rotation is begun any more.
    pub(crate) ending: AtomicBool,
    /// What is under way is given up.
    pub(crate) given_up: AtomicBool,
    /// The helper may join.
    pub(crate) moving: AtomicBool,
    /// Held while the helper is at work.
    turn: Mutex<()>,
    pub(crate) figures: Figures,
}

#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) rotations: AtomicU64,
    pub(crate) rewritten: AtomicU64,
    /// Rows that others had changed or held when they were to be written.
    pub(crate) lost: AtomicU64,
    /// How commands ended: what was typed and the exit status, "killed" for none.
    pub(crate) ends: Mutex<BTreeMap<String, u64>>,
}

impl<'a> Rotators<'a> {
    pub(crate) fn new(deployment: &'a Deployment, ledger: &'a Mutex<Ledger>) -> Self {
        Self {
            deployment,
            ledger,
            lead: Slot::default(),
            helper: Slot::default(),
            ending: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            moving: AtomicBool::new(false),
            turn: Mutex::new(()),
            figures: Figures::default(),
        }
    }

    /// Rotation after rotation, the last of them to its end.
    pub(crate) fn lead(&self, mut random: Random) {
        let mut number = 0;
        while !self.ending.load(Ordering::SeqCst) {
            number += 1;
            let done =
                if number % 4 == 0 { self.all_at_once(&mut random) } else { self.step_by_step(number, &mut random) };
            if done.is_none() {
                return;
            }
            self.figures.rotations.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Joins whatever moves values.
    pub(crate) fn help(&self, mut random: Random) {
        while !self.ending.load(Ordering::SeqCst) {
            if self.moving.load(Ordering::SeqCst) {
                let turn = self.turn.lock().unwrap();
                self.move_values(&self.helper, &mut random);
                drop(turn);
            }
            let rest = random.millis(5, 40);
            thread::sleep(rest);
        }
    }

    /// `vault rotate`, typed again until it has done everything.
    fn all_at_once(&self, random: &mut Random) -> Option<()> {
        loop {
            let speed = speed(random);
            let ran =
                self.vault(&self.lead, &format!("rotate --new-key --without-backup --yes --wait 20 --json{speed}"));
            match ran.code {
                Some(0) => break,
                Some(23) => drop(self.vault(&self.lead, "rotate abort")),
                _ => {}
            }
            self.rest()?;
        }
        self.retire(random)
    }

    /// The same by its parts, where two rotators move the values.
    fn step_by_step(&self, number: u64, random: &mut Random) -> Option<()> {
        let file = (0..).map(|attempt| format!("next_{number}_{attempt}")).find(|file| {
            self.vault(&self.lead, &format!("key generate --out {file}")).code == Some(0) || self.rest().is_none()
        })?;
        self.insist(&format!("key add {file}"))?;
        let _ = fs::remove_file(self.deployment.home().join(file));
        let new = self.keys("active")?.into_iter().next();
        if let Some((new, _)) = new {
            self.insist(&format!("key promote {new} --yes --wait 20"))?;
        }
        self.move_and_prove(random)?;
        self.retire(random)
    }

    fn move_and_prove(&self, random: &mut Random) -> Option<()> {
        loop {
            self.moving.store(true, Ordering::SeqCst);
            while self.move_values(&self.lead, random) != Some(0) {
                self.rest()?;
            }
            let told = self.vault(&self.lead, "rotate status --json");
            if self.vault(&self.lead, "rotate fence --wait 20").code == Some(0)
                && self.vault(&self.lead, "rotate verify").code == Some(0)
            {
                self.moving.store(false, Ordering::SeqCst);
                self.count(&told.out);
                // The helper may have begun once more.
                drop(self.turn.lock().unwrap());
                return Some(());
            }
            self.rest()?;
        }
    }

    /// Disables the keys that were replaced, and destroys what was disabled before.
    fn retire(&self, random: &mut Random) -> Option<()> {
        let disabled = self.keys("disabled")?;
        for (old, _) in self.keys("decrypt-only")? {
            loop {
                let ran = self.vault(&self.lead, &format!("key disable {old} --yes --wait 20"));
                match ran.code {
                    Some(0) => break,
                    // A late value came past.
                    Some(23) => self.move_and_prove(random)?,
                    _ => {}
                }
                self.rest()?;
            }
        }
        for (kid, place) in disabled {
            if let Some(place) = place {
                self.deployment.unmount(Path::new(&place));
            }
            self.insist(&format!("key destroy {kid} --yes"))?;
        }
        Some(())
    }

    fn move_values(&self, slot: &Slot, random: &mut Random) -> Option<i32> {
        let speed = speed(random);
        let ran = self.vault(slot, &format!("rotate run --json{speed}"));
        let told: Value = serde_json::from_str(&ran.out).unwrap_or_default();
        for column in told["columns"].as_array().into_iter().flatten() {
            for failed in column["failed"].as_array().into_iter().flatten() {
                self.ledger.lock().unwrap().unreadable(&format!("rotate run: {failed}"));
            }
        }
        if ran.code == Some(23) && std::ptr::eq(slot, &raw const self.lead) {
            // A run of the rotation before is still open.
            self.vault(slot, "rotate abort");
        }
        ran.code
    }

    /// Adds what all rotators of the open run have done.
    fn count(&self, status: &str) {
        let told: Value = serde_json::from_str(status).unwrap_or_default();
        for run in told["runs"].as_array().into_iter().flatten() {
            self.figures.rewritten.fetch_add(run["rewritten"].as_u64().unwrap_or_default(), Ordering::SeqCst);
            self.figures.lost.fetch_add(run["lost"].as_u64().unwrap_or_default(), Ordering::SeqCst);
        }
    }

    /// The keys in a state, and where they are.
    fn keys(&self, state: &str) -> Option<Vec<(String, Option<String>)>> {
        let told: Value = serde_json::from_str(&self.insist("key list --json")?).unwrap();
        let keys = told["keys"].as_array().unwrap().iter().filter(|key| key["state"] == state);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(keys.map(|key| (text(&key["kid"]).unwrap(), text(&key["place"]))).collect())
    }

    /// Types a command until it has done what it does; none if that is given up.
    fn insist(&self, line: &str) -> Option<String> {
        loop {
            let ran = self.vault(&self.lead, line);
            if ran.code == Some(0) {
                return Some(ran.out);
            }
            self.rest()?;
        }
    }

    fn rest(&self) -> Option<()> {
        thread::sleep(Duration::from_millis(20));
        (!self.given_up.load(Ordering::SeqCst)).then_some(())
    }

    fn vault(&self, slot: &Slot, line: &str) -> Ran {
        let who = if std::ptr::eq(slot, &raw const self.lead) { "lead" } else { "helper" };
        let [out, err] = ["out", "err"].map(|stream| self.deployment.home().join(format!("{who}.{stream}")));
        let mut command = self.deployment.command(line);
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let (status, killed) = slot.wait(&mut command, PATIENCE);
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        let ran = Ran { code: status.code(), out: text(&out), err: text(&err) };
        let mut words: Vec<&str> = line.split(' ').take_while(|word| !word.starts_with('-')).take(2).collect();
        let end = ran.code.map_or_else(|| "killed".to_owned(), |code| code.to_string());
        words.push(&end);
        *self.figures.ends.lock().unwrap().entry(words.join(" ")).or_default() += 1;
        let last = ran.err.lines().last().unwrap_or_default();
        match ran.code {
            None if !killed => self.ledger.lock().unwrap().other(format!("{line}: hung for {PATIENCE:?}")),
            // A command must not panic, and find nothing in the data that does not open.
            Some(code @ (1 | 2 | 11 | 101)) => {
                self.ledger.lock().unwrap().other(format!("{line}: exit status {code}: {last}"));
            }
            _ => {}
        }
        ran
    }
}

/// How fast values are moved: mostly so slow that a kill finds the work half done.
fn speed(random: &mut Random) -> String {
    let batch = random.of_these(&[1, 3, 10, 40, 200]);
    let rate = random.of_these(&[60, 150, 400, 0]);
    if rate == 0 { format!(" --batch {batch}") } else { format!(" --batch {batch} --rows-per-second {rate}") }
}

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(60);
