//! Rotation under fire: writers, readers and rotators as processes, which are killed at random while
//! the server is restarted, and a ledger of every write that was acknowledged.
//!
//! `cargo run --release -p vault-campaign-test -- [--engine postgres|sqlite] [--kills 500] [--minutes 40] [--seed N]`
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that panics has failed, and prints its figures"
)]

mod application;
mod campaign;
mod deployment;
mod engine;
mod ledger;
mod process;
mod random;
mod rotators;
#[path = "../server.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod server;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use campaign::Plan;
use engine::Engine;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["writer", engine, directory, number, seed] => {
            application::write(
                Engine::named(engine),
                Path::new(directory),
                number.parse().unwrap(),
                seed.parse().unwrap(),
            );
            ExitCode::SUCCESS
        }
        ["reader", engine, directory] => {
            application::read(Engine::named(engine), Path::new(directory));
            ExitCode::SUCCESS
        }
        options => match plan(options) {
            Some(plan) => campaign::run(&plan),
            None => {
                eprintln!("campaign [--engine postgres|sqlite] [--kills N] [--minutes N] [--seed N]");
                ExitCode::from(2)
            }
        },
    }
}

fn plan(options: &[&str]) -> Option<Plan> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut plan = Plan {
        engine: Engine::Postgres,
        kills: 500,
        time: Duration::from_secs(40 * 60),
        seed: u64::from(now.subsec_nanos()) ^ now.as_secs(),
    };
    for option in options.chunks(2) {
        let [name, value] = option else { return None };
        match *name {
            "--engine" => plan.engine = Engine::of(value)?,
            "--kills" => plan.kills = value.parse().ok()?,
            "--minutes" => {
                let minutes: u64 = value.parse().ok().filter(|minutes| (8..=40).contains(minutes))?;
                plan.time = Duration::from_secs(60 * minutes);
            }
            "--seed" => plan.seed = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(plan)
}
