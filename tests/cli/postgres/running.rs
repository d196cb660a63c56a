//! Runs that end early, wait, are killed, or share their work.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::thread;

use crate::server::Pooler;
use crate::until;

use super::Service;

/// Waits for a batch that a run tells. It goes on to tell into a pipe that is read.
fn first_batch(run: &mut Child) -> thread::JoinHandle<String> {
    let mut told = BufReader::new(run.stderr.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    assert!(line.contains(": pass 1, "), "{line}");
    thread::spawn(move || told.lines().map(|line| line.unwrap() + "\n").collect())
}

fn signal(run: &Child, name: &str) {
    let mut kill = std::process::Command::new("kill");
    assert!(kill.args([format!("-{name}"), run.id().to_string()]).status().unwrap().success());
}

fn summary(run: Child) -> (i32, serde_json::Value) {
    let output = run.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}")))
}

#[test]
fn sigterm_and_sigint_end_a_run_between_two_batches() {
    let service = Service::new(300);
    let new = service.promote();
    for name in ["TERM", "INT"] {
        let mut run = service.start("rotate run --batch 10 --rows-per-second 100 --json");
        let told = first_batch(&mut run);
        signal(&run, name);
        let (code, summary) = summary(run);
        told.join().unwrap();
        assert_eq!((code, &summary["columns"][0]["end"]), (75, &"stopped".into()), "{summary}");
        let left = 300 - u64::try_from(service.moved(&new)).unwrap();
        assert_eq!(summary["columns"][0]["stale"], left);
        assert!(left > 0);
    }
    service.directory.vault("rotate run").ok();
    assert_eq!(service.moved(&new), 300);
    service.all_open();
}

/// SIGTSTP, which a terminal sends for Ctrl-Z, stops a run where it holds no lock.
#[test]
fn a_run_is_paused_by_a_signal_without_holding_locks() {
    let service = Service::new(1_000);
    let new = service.promote();
    // Time enough, of which it needs a few batches.
    let mut run = service.start("rotate run --batch 10 --rows-per-second 20");
    let told = first_batch(&mut run);
    signal(&run, "TSTP");
    let stat = format!("/proc/{}/stat", run.id());
    until("the run does not stop", || fs::read_to_string(&stat).unwrap().contains(") T "));
    let moved = service.moved(&new);
    assert!(moved < 1_000);
    let held = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'vault' AND a.datname = current_database() AND l.pid <> pg_backend_pid()";
    assert_eq!(service.database.connect().query_one(held, &[]).unwrap().get::<_, i64>(0), 0);
    service.database.execute("UPDATE secrets SET name = name; LOCK TABLE secrets");
    assert_eq!(service.moved(&new), moved);
    signal(&run, "CONT");
    until("the run does not go on", || service.moved(&new) > moved);
    signal(&run, "TERM");
    assert_eq!(run.wait().unwrap().code(), Some(75));
    told.join().unwrap();
    service.directory.vault("rotate run").ok();
    assert_eq!(service.moved(&new), 1_000);
}

#[test]
fn a_pause_file_holds_a_run_until_it_goes_and_not_beyond_its_time() {
    let service = Service::new(100);
    let new = service.promote();
    service.directory.write("pause", "");
    service.directory.vault("rotate run --batch 10 --pause-file pause --until +1s").fails(75);
    assert_eq!(service.moved(&new), 10);
    let mut run = service.start("rotate run --batch 10 --pause-file pause");
    let told = first_batch(&mut run);
    assert_eq!(service.moved(&new), 20);
    fs::remove_file(service.directory.path("pause")).unwrap();
    assert_eq!(run.wait_with_output().unwrap().status.code(), Some(0));
    told.join().unwrap();
    assert_eq!(service.moved(&new), 100);
}

#[test]
fn a_run_that_is_killed_is_gone_on_with() {
    let service = Service::new(400);
    let new = service.promote();
    let mut before = 0;
    for _ in 0..4 {
        let mut run = service.start("rotate run --batch 5 --rows-per-second 100");
        let told = first_batch(&mut run);
        until("the run does not go on", || service.moved(&new) >= before + 20);
        signal(&run, "KILL");
        run.wait().unwrap();
        told.join().unwrap();
        // The server may still be committing what it was sent.
        until("a session outlives its process", || service.sessions() == 0);
        before = service.moved(&new);
        service.all_open();
        let status = service.directory.vault("rotate status").ok();
        // The record is written with the rows.
        assert!(status.contains(&format!(", {before} rewritten")), "{before}: {status}");
    }
    assert!(before < 400);
    service.directory.vault("rotate run").ok();
    service.directory.vault("rotate fence").ok();
    service.directory.vault("rotate verify").ok();
    assert_eq!(service.moved(&new), 400);
    service.all_open();
}

/// Two processes, each of which has begun before either goes on.
fn two_processes_share(service: &Service) {
    let new = service.promote();
    service.directory.write("pause", "");
    let runs: Vec<_> = (0..2)
        .map(|_| {
            let mut run = service.start("rotate run --batch 10 --pause-file pause --json");
            let told = first_batch(&mut run);
            (run, told)
        })
        .collect();
    fs::remove_file(service.directory.path("pause")).unwrap();
    let mut rewritten = Vec::new();
    for (run, told) in runs {
        let (code, summary) = summary(run);
        told.join().unwrap();
        assert_eq!((code, &summary["columns"][0]["end"]), (0, &"clean".into()), "{summary}");
        rewritten.push(summary["columns"][0]["rewritten"].as_u64().unwrap());
    }
    assert!(rewritten.iter().all(|rows| *rows >= 10), "{rewritten:?}");
    assert_eq!(rewritten.iter().sum::<u64>(), 600, "{rewritten:?}");
    assert_eq!(service.moved(&new), 600);
    service.directory.vault("rotate verify").ok();
    service.all_open();
}

#[test]
fn two_processes_share_a_run() {
    two_processes_share(&Service::new(600));
}

#[test]
fn two_processes_share_a_run_through_a_pooler() {
    let service = Service::new(600);
    let pooler = Pooler::new();
    service.connect_by(&pooler.url(&service.database.name));
    two_processes_share(&service);
}
