//! An application that links the library: it reads and writes secrets until it is told to stop,
//! and remembers the last version of every row that the database acknowledged.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::params;
use vault_core::{Config, Error, Result, Token, Vault};

use super::catalog::{Catalog, Versions, context, failed, place, secret};
use super::{CATALOG, CONFIG, broken, stdout_failed};

/// How often the application looks whether the keyring changed.
const REFRESH_AFTER: Duration = Duration::from_millis(50);

/// What the application did until it was stopped.
pub(super) struct Report {
    pub(super) reads: u64,
    pub(super) writes: u64,
    /// Reads that did not give the last acknowledged version, and writes that failed.
    pub(super) failures: u64,
    pub(super) versions: Versions,
}

/// The running application, as the demonstration sees it.
pub(super) struct Application {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Application {
    pub(super) fn start(executable: &Path, dir: &Path) -> Result<Self> {
        let mut child = Command::new(executable)
            .args(["demo", "--application"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Io { action: "start", path: executable.to_owned(), source })?;
        let output = child.stdout.take().ok_or_else(|| broken("the application has no output"))?;
        let mut application = Self { child, output: BufReader::new(output) };
        if application.line()? != "ready" {
            return Err(broken("the application did not start"));
        }
        Ok(application)
    }

    /// Ends its input and waits for its report.
    pub(super) fn stop(mut self) -> Result<Report> {
        drop(self.child.stdin.take());
        let mut numbers = [0; 3];
        for number in &mut numbers {
            *number = self.line()?.parse().map_err(|_| broken("the application's report is not readable"))?;
        }
        let [reads, writes, failures] = numbers;
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).map_err(|_| broken("the application's report is not readable"))?;
        let mut versions = Versions::new();
        for line in rest.lines() {
            let mut words = line.split(' ');
            if let (Some(table), Some(Ok(id)), Some(Ok(version))) =
                (words.next(), words.next().map(str::parse), words.next().map(str::parse))
            {
                versions.insert((table.to_owned(), id), version);
            }
        }
        match self.child.wait() {
            Ok(status) if status.success() => Ok(Report { reads, writes, failures, versions }),
            _ => Err(broken("the application failed")),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(|_| broken("the application went away"))?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // A demonstration that fails half-way leaves no process behind; one that is over already
        // cannot be killed, and that is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the application: reads and writes until standard input ends, then reports on `out`.
pub(super) fn run(dir: &Path, out: &mut dyn Write) -> Result<()> {
    let vault = Vault::load(Config::from_file(dir.join(CONFIG))?)?;
    let catalog = Catalog::open(&dir.join(CATALOG))?;
    let rows: u64 = catalog
        .0
        .query_row("SELECT (SELECT count(*) FROM secrets) + (SELECT count(*) FROM notification_channels)", [], |row| {
            row.get(0)
        })
        .map_err(failed)?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    thread::spawn(move || {
        // Whatever ends the input ends the application.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    writeln!(out, "ready").and_then(|()| out.flush()).map_err(stdout_failed)?;

    let mut report = Report { reads: 0, writes: 0, failures: 0, versions: Versions::new() };
    let mut refreshed = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        if refreshed.elapsed() > REFRESH_AFTER {
            vault.refresh()?;
            refreshed = Instant::now();
        }
        // A prime step visits every row before it visits one again.
        number = (number + 7_919) % rows;
        work(&vault, &catalog, number, report.reads % 4 == 3, &mut report)?;
        thread::sleep(Duration::from_millis(1));
    }

    writeln!(out, "{}\n{}\n{}", report.reads, report.writes, report.failures).map_err(stdout_failed)?;
    for ((table, id), version) in &report.versions {
        writeln!(out, "{table} {id} {version}").map_err(stdout_failed)?;
    }
    Ok(())
}

/// Reads one secret and compares it with the last acknowledged version; then writes the next one,
/// if `write` says so.
fn work(vault: &Vault, catalog: &Catalog, number: u64, write: bool, report: &mut Report) -> Result<()> {
    let (table, id) = place(number);
    let column = if table == "secrets" { "encrypted_value" } else { "webhook_url_encrypted" };
    let (tenant, name, value): (String, String, String) = catalog
        .0
        .prepare_cached(&format!("SELECT CAST(user_id AS TEXT), name, {column} FROM {table} WHERE id = ?1"))
        .and_then(|mut select| select.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))))
        .map_err(failed)?;
    let context = context(&tenant, &name);
    let version = report.versions.get(&(table.to_owned(), id)).copied().unwrap_or_default();
    let opened = value.parse::<Token>().and_then(|token| vault.open(&context, &token));
    report.reads += 1;
    if !opened.is_ok_and(|opened| opened.expose_secret() == secret(table, id, version).as_bytes()) {
        report.failures += 1;
        return Ok(());
    }
    if write {
        let token = vault.seal(&context, secret(table, id, version + 1).as_bytes())?;
        let written = catalog
            .0
            .prepare_cached(&format!("UPDATE {table} SET {column} = ?2 WHERE id = ?1"))
            .and_then(|mut update| update.execute(params![id, token.to_string()]));
        if written == Ok(1) {
            report.writes += 1;
            report.versions.insert((table.to_owned(), id), version + 1);
        } else {
            report.failures += 1;
        }
    }
    Ok(())
}
