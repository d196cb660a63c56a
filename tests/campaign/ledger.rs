//! What was acknowledged, and what was seen of it.

use std::collections::BTreeMap;

use crate::engine::{Counters, Engine, MOST_WRITERS, numbers};

/// Most violations that are told one by one.
const MOST_TOLD: usize = 20;

#[derive(Default)]
pub(crate) struct Ledger {
    rows: usize,
    acknowledged: Vec<Counters>,
    attempted: Vec<Counters>,
    pub(crate) acknowledgements: u64,
    pub(crate) conflicts: u64,
    pub(crate) fenced: u64,
    pub(crate) reads: u64,
    /// Lost connections and keys that could not be loaded, by kind.
    pub(crate) troubles: BTreeMap<String, u64>,
    pub(crate) lost: u64,
    pub(crate) unreadable: u64,
    pub(crate) stale: u64,
    pub(crate) other: u64,
    told: Vec<String>,
}

impl Ledger {
    pub(crate) fn new(engine: Engine) -> Self {
        let rows = usize::try_from(engine.rows()).unwrap();
        let none = vec![[0; MOST_WRITERS]; rows + 1];
        Self { rows, acknowledged: none.clone(), attempted: none, ..Self::default() }
    }

    /// What every read that begins now must show at least.
    pub(crate) fn floor(&self) -> Vec<Counters> {
        self.acknowledged.clone()
    }

    pub(crate) fn is_violated(&self) -> bool {
        self.lost + self.unreadable + self.stale + self.other > 0
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.told
    }

    /// What a writer said.
    pub(crate) fn writer(&mut self, writer: usize, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        match (words[0], number(1).and_then(|id| usize::try_from(id).ok()), number(2)) {
            ("try", Some(id), Some(counter)) => {
                let attempted = &mut self.attempted[id][writer];
                *attempted = counter.max(*attempted);
            }
            ("ack", Some(id), Some(counter)) => {
                self.acknowledgements += 1;
                self.acknowledged[id][writer] = counter;
            }
            ("found", Some(id), Some(counter)) => {
                let (least, most) = (self.acknowledged[id][writer], self.attempted[id][writer]);
                if counter < least || counter > most {
                    self.lost(&format!(
                        "row {id}: writer {writer} finds {counter}, acknowledged {least}, tried {most}"
                    ));
                }
                // Who reads it may rely on it.
                self.acknowledged[id][writer] = counter.max(least);
            }
            ("lost", Some(id), Some(known)) => {
                self.lost(&format!("row {id}: writer {writer} wrote {known} and finds {}", words[3]));
            }
            ("conflict", ..) => self.conflicts += 1,
            ("fenced", ..) => self.fenced += 1,
            ("end", ..) => {}
            _ => self.anybody(&format!("writer {writer}"), &words),
        }
    }

    /// What a reader said, of a read that began when `floor` was the floor.
    pub(crate) fn reader(&mut self, reader: usize, line: &str, floor: &[Counters]) {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] != "saw" {
            return self.anybody(&format!("reader {reader}"), &words);
        }
        if words[1].parse() != Ok(self.rows) {
            self.lost(&format!("reader {reader} sees {} rows of {}", words[1], self.rows));
        }
        for word in &words[2..] {
            let (id, counters) = word.split_once(':').unwrap();
            let (id, counters): (usize, Counters) = (id.parse().unwrap(), numbers(counters).unwrap());
            self.reads += 1;
            let back = |writer: &usize| counters[*writer] < floor[id][*writer];
            if let Some(writer) = (0..MOST_WRITERS).find(back) {
                let (found, least) = (counters[writer], floor[id][writer]);
                self.lost(&format!("row {id}: reader {reader} sees {found} of writer {writer}, acknowledged {least}"));
            }
        }
    }

    /// What is there at the end, when nobody writes: just what was acknowledged last.
    pub(crate) fn settle(&mut self, id: u64, counters: &Counters) {
        let last = self.acknowledged[usize::try_from(id).unwrap()];
        if last != *counters {
            self.lost(&format!("row {id}: {counters:?} at the end, acknowledged last {last:?}"));
        }
    }

    pub(crate) fn lost(&mut self, what: &str) {
        self.lost += 1;
        self.tell(format!("lost update: {what}"));
    }

    pub(crate) fn unreadable(&mut self, what: &str) {
        self.unreadable += 1;
        self.tell(format!("unreadable: {what}"));
    }

    pub(crate) fn stale(&mut self, what: &str) {
        self.stale += 1;
        self.tell(format!("stale: {what}"));
    }

    pub(crate) fn other(&mut self, what: String) {
        self.other += 1;
        self.tell(what);
    }

    fn anybody(&mut self, who: &str, words: &[&str]) {
        match words {
            ["unreadable", id, kind] => self.unreadable(&format!("row {id}, {who}: {kind}")),
            ["gone" | "load", _] => *self.troubles.entry(words.join(" ")).or_default() += 1,
            _ => self.other(format!("{who} says {}", words.join(" "))),
        }
    }

    fn tell(&mut self, what: String) {
        if self.told.len() < MOST_TOLD {
            self.told.push(what);
        }
    }
}
