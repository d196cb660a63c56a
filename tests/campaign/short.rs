//! The campaign in short, on either engine.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test that panics has failed, and prints its figures")]

use std::process::Command;

#[test]
fn nothing_is_lost_on_postgresql() {
    passes("postgres");
}

#[test]
fn nothing_is_lost_on_sqlite() {
    passes("sqlite");
}

fn passes(engine: &str) {
    let mut campaign = Command::new(env!("CARGO_BIN_EXE_campaign"));
    campaign.args(["--engine", engine, "--kills", "20", "--minutes", "20", "--seed", "1"]);
    let output = campaign.output().unwrap();
    // Shown with --nocapture.
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
}
