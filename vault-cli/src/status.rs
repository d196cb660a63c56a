//! `status`: what the columns hold, and whether an old key may go.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use vault_core::column::Run;
use vault_core::lifecycle::Process;
use vault_core::rotate::{Attention, ColumnCount, Urgency};
use vault_core::{Access, KeyState, Kind, Presence, Scope, Vault};

use crate::args::{Global, StatusArgs};
use crate::failure::Outcome;
use crate::input;
use crate::output::{Output, one_line};

/// `vault status`.
pub(crate) fn run(args: &StatusArgs, global: &Global, output: &mut Output) -> Outcome {
    loop {
        let vault = input::vault(global)?;
        let code = show(&vault, args, output)?;
        if !args.watch || output.flow().is_break() {
            return Ok(if args.watch { 0 } else { code });
        }
        thread::sleep(Duration::from_secs(2));
    }
}

fn show(vault: &Vault, args: &StatusArgs, output: &mut Output) -> Outcome {
    let scope = args.column.as_deref().map_or(Scope::All, Scope::Column);
    let mut rotation = vault.rotation(scope, Access::Read)?;
    let by_index = rotation.stale()?;
    for (column, stale) in by_index.iter().filter_map(|(column, stale)| Some((column, (*stale)?))) {
        // Before every value is counted.
        output.note(&format!("{column}: {stale} stale"));
    }
    let counts = rotation.count(args.deep)?;
    let runs = rotation.runs()?;
    let mut lines = Vec::new();
    let mut columns = Vec::new();
    let mut waits = !runs.is_empty();
    for count in &counts {
        lines.push(format!("{}: {} values", count.column, count.values()));
        lines.extend(breakdown(count));
        columns.push(object(count));
    }
    for (column, run) in &runs {
        lines.push(format!("{column}: open run of {}", of(run)));
    }
    let (mut keys, mut processes) = (Vec::new(), Vec::new());
    let failed: u64 = counts.iter().map(|count| count.failed).sum();
    for spec in vault.manifest().keyrings() {
        for key in vault.keyring(&spec.name)?.keys() {
            let under: u64 = counts.iter().map(|count| count.under(key.kid)).sum();
            let verdict = match key.state {
                KeyState::Primary => "in use".to_owned(),
                KeyState::Active => {
                    waits = true;
                    "waits to be promoted".to_owned()
                }
                KeyState::Disabled | KeyState::Destroyed => format!("gone, {under} values name it"),
                _ if under > 0 => format!("must stay: {under} values need it"),
                _ if failed > 0 => format!("must stay: {failed} values open under no key"),
                _ if args.column.is_some() => "is not needed by this column".to_owned(),
                _ => "may go: `vault key disable` proves it and does it".to_owned(),
            };
            lines.push(format!("keyring {}: key {} {}: {verdict}", spec.name, key.kid, key.state));
            keys.push(json!({ "keyring": spec.name, "kid": key.kid.as_str(), "state": key.state.as_str(), "values": under, "verdict": verdict }));
        }
    }
    for spec in vault.manifest().keyrings() {
        let known = vault.processes(&spec.name).unwrap_or_else(|error| {
            // What is there is shown all the same.
            output.note(&format!("warning: which processes hold keyring {} cannot be seen: {error}", spec.name));
            Vec::new()
        });
        for process in known {
            lines.push(format!("keyring {}: {}", spec.name, one_line(&line_of(&process))));
            processes.push(object_of(&spec.name, &process));
        }
    }
    for attention in counts.iter().flat_map(ColumnCount::attention) {
        output.note(&told(&attention));
    }
    let runs: Vec<Value> = runs
        .iter()
        .map(|(column, run)| json!({ "column": column, "job": run.job, "target": run.target, "rewritten": run.rewritten, "heartbeat": run.heartbeat.to_string() }))
        .collect();
    output
        .result(&lines.join("\n"), json!({ "columns": columns, "runs": runs, "keys": keys, "processes": processes }))?;
    Ok(exit_status(&counts).max(if waits { Kind::Findings.exit_code() } else { 0 }))
}

/// Who a process is, where and since when, what it has read, and what it lacks.
fn line_of(process: &Process) -> String {
    let told = &process.heartbeat;
    let presence = match process.presence {
        Presence::Here => "runs here",
        Presence::Stopped => "is stopped",
        Presence::Gone => "has ended",
        _ => "is elsewhere",
    };
    let lacks = process.lacks.as_ref().map_or_else(String::new, |lacks| format!("; {lacks}"));
    format!(
        "process {} {presence}: {}, pid {}, since {}, spoke {}, generation {}{lacks}",
        told.process,
        told.machine(),
        told.pid(),
        told.since,
        told.spoke,
        told.generation
    )
}

fn object_of(keyring: &str, process: &Process) -> Value {
    let told = &process.heartbeat;
    json!({
        "keyring": keyring, "process": told.process, "machine": told.machine(), "pid": told.pid(),
        "presence": format!("{:?}", process.presence).to_lowercase(), "since": told.since.to_string(),
        "spoke": told.spoke.to_string(), "generation": told.generation,
        "opens": told.kids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "follow_seconds": told.follow.map(|follow| follow.as_secs_f64()), "failure": told.failure,
        "lacks": process.lacks,
    })
}

/// What a run does, as the database remembers it.
pub(crate) fn of(run: &Run) -> String {
    let (job, target) = (one_line(&run.job), one_line(&run.target));
    format!("{job} to {target}, {} rewritten, last batch {}", run.rewritten, run.heartbeat)
}

/// How a command ends that looked at columns: 0 where there is nothing to do, 14 where something is
/// overdue or waits, 23 where something does not open.
pub(crate) fn exit_status(counts: &[ColumnCount]) -> u8 {
    let urgency = counts.iter().flat_map(ColumnCount::attention).map(|attention| attention.urgency).max();
    match urgency {
        None => 0,
        Some(Urgency::Waits) => Kind::Findings.exit_code(),
        Some(_) => Kind::Refused.exit_code(),
    }
}

/// What somebody has to see to, on a line.
pub(crate) fn told(attention: &Attention) -> String {
    let word = if attention.urgency == Urgency::Waits { "waits" } else { "failure" };
    format!("{word}: {}; {}", attention.what, attention.remedy)
}

/// A line for each format and key, and for what stands out.
pub(crate) fn breakdown(count: &ColumnCount) -> Vec<String> {
    let mut lines = vec![format!("  table {}, {} rows", one_line(&count.place), count.values() + count.empty)];
    let by = count.by.iter().map(|(recognised, rows)| match recognised.kid {
        Some(kid) => format!("  {:<24} {kid}  {rows}", recognised.format),
        None => format!("  {:<24} {:<17}  {rows}", recognised.format, "-"),
    });
    lines.extend(by);
    lines.extend(count.closed.iter().map(|(kid, (_, rows))| format!("  {:<24} {kid}  {rows}", "does not open")));
    for (what, rows) in [
        ("failed", count.failed),
        ("stale", count.stale),
        ("in a legacy format", count.unmigrated),
        ("NULL or empty", count.empty),
    ] {
        if rows > 0 {
            lines.push(format!(
                "  {what}: {rows}{}",
                if what == "stale" && count.immutable { ", pinned: the column is immutable" } else { "" }
            ));
        }
    }
    if !count.fenced.is_empty() {
        let kids: Vec<_> = count.fenced.iter().map(ToString::to_string).collect();
        lines.push(format!("  fenced against {}", kids.join(", ")));
    }
    lines
}

/// The same as an object.
pub(crate) fn object(count: &ColumnCount) -> Value {
    let by: Vec<Value> = count
        .by
        .iter()
        .map(|(recognised, rows)| json!({ "format": recognised.format.as_str(), "kid": recognised.kid.map(|kid| kid.to_string()), "values": rows }))
        .collect();
    let failures: Vec<Value> =
        count.failures.iter().map(|(row, reason)| json!({ "row": row.to_string(), "reason": reason })).collect();
    let attention: Vec<Value> = count
        .attention()
        .iter()
        .map(|found| json!({ "code": found.code, "broken": found.urgency == Urgency::Broken, "what": found.what, "remedy": found.remedy }))
        .collect();
    let closed: Vec<Value> = count
        .closed
        .iter()
        .map(|(kid, (state, values))| json!({ "kid": kid.as_str(), "state": state.map(KeyState::as_str), "values": values }))
        .collect();
    json!({
        "attention": attention, "closed": closed,
        "column": count.column, "table": count.place, "values": count.values(), "by": by, "failed": count.failed, "failures": failures, "stale": count.stale,
        "unmigrated": count.unmigrated, "empty": count.empty, "immutable": count.immutable, "opened": count.opened,
        "fenced": count.fenced.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
