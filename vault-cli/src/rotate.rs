//! `rotate`, `migrate` and `reseal`: moving the values of applications' columns.

use core::ops::ControlFlow;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use vault_core::column::ContextTemplate;
use vault_core::rotate::{ColumnCount, End, Job, Rotation, RunOptions, Summary, Verification};
use vault_core::{Access, Error, Format, KeyId, KeyState, Kind, MasterKey, Scope, Timestamp, Vault};

use crate::args::{ChangeArgs, Global, MigrateArgs, ResealArgs, RotateArgs, RotateCommand, RunArgs, ScopeArgs};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::{input, key, status};

/// Most failed rows that are told one by one.
const MAX_TOLD: usize = 20;

/// `vault rotate` and its steps.
pub(crate) fn run(args: &RotateArgs, global: &Global, output: &mut Output) -> Outcome {
    match &args.command {
        None => whole(args, global, output),
        Some(RotateCommand::Plan { scope, run }) => {
            let vault = input::vault(global)?;
            plan(&mut rotation(&vault, scope, Access::Read)?, &job(run), run, output)
        }
        Some(RotateCommand::Run { scope, run }) => {
            let vault = input::vault(global)?;
            if run.dry_run {
                return plan(&mut rotation(&vault, scope, Access::Read)?, &job(run), run, output);
            }
            convert(&mut rotation(&vault, scope, Access::Write)?, &job(run), run, output)
        }
        Some(RotateCommand::Fence { scope, drop, dry_run }) => {
            let vault = input::vault(global)?;
            fence(&vault, scope, *drop, *dry_run, output)
        }
        Some(RotateCommand::Verify { scope, dry_run }) => {
            let vault = input::vault(global)?;
            let mut rotation = rotation(&vault, scope, if *dry_run { Access::Read } else { Access::Write })?;
            let verification = if *dry_run { rotation.verified()? } else { rotation.verify()? };
            tell_verification(&verification, output)
        }
        Some(RotateCommand::Abort { scope, dry_run }) => {
            let vault = input::vault(global)?;
            let mut rotation = rotation(&vault, scope, if *dry_run { Access::Read } else { Access::Write })?;
            let open = rotation.runs()?.len();
            if !*dry_run {
                rotation.abort()?;
            }
            output.result(
                &format!("{open} open runs {}forgotten", if *dry_run { "would be " } else { "" }),
                json!({ "runs": open }),
            )?;
            Ok(0)
        }
        Some(RotateCommand::Status { scope }) => {
            let vault = input::vault(global)?;
            let mut rotation = rotation(&vault, scope, Access::Read)?;
            let (runs, failures) = (rotation.runs()?, rotation.failures()?);
            let mut lines: Vec<_> = runs
                .iter()
                .map(|(column, run)| {
                    format!(
                        "{column}: {} to {}, {} rewritten, last batch {}",
                        run.job, run.target, run.rewritten, run.heartbeat
                    )
                })
                .collect();
            let rows = failures.iter().take(MAX_TOLD);
            lines.extend(rows.map(|(column, row, reason)| format!("{column}, row {row}: {reason}")));
            let text = if lines.is_empty() { "no run is open".to_owned() } else { lines.join("\n") };
            let runs: Vec<_> = runs
                .iter()
                .map(|(column, run)| json!({ "column": column, "job": run.job, "target": run.target, "rewritten": run.rewritten, "lost": run.lost }))
                .collect();
            let failures: Vec<_> = failures
                .iter()
                .map(|(column, row, reason)| json!({ "column": column, "row": row.to_string(), "reason": reason }))
                .collect();
            output.result(&text, json!({ "runs": runs, "failures": failures }))?;
            Ok(0)
        }
    }
}

/// `vault migrate`.
pub(crate) fn migrate(args: &MigrateArgs, global: &Global, output: &mut Output) -> Outcome {
    if args.to == Format::Plaintext {
        return Err(Failure::usage("nothing is ever written as plaintext"));
    }
    move_column(&args.column, &Job::Migrate(args.to), &args.run, global, output)
}

/// `vault reseal`.
pub(crate) fn reseal(args: &ResealArgs, global: &Global, output: &mut Output) -> Outcome {
    let mut old = ContextTemplate::default();
    for pair in &args.old_context {
        let (field, template) =
            pair.split_once('=').ok_or_else(|| Failure::usage("--old-context takes FIELD=TEMPLATE"))?;
        old = old.with(field, template).map_err(|reason| Failure::usage(format!("--old-context: {reason}")))?;
    }
    move_column(&args.column, &Job::Reseal(old), &args.run, global, output)
}

fn move_column(column: &str, job: &Job, run: &RunArgs, global: &Global, output: &mut Output) -> Outcome {
    let vault = input::vault(global)?;
    let access = if run.dry_run { Access::Read } else { Access::Write };
    let mut rotation = vault.rotation(Scope::Column(column), access)?;
    if run.dry_run {
        return plan(&mut rotation, job, run, output);
    }
    let code = convert(&mut rotation, job, run, output)?;
    if code == 0 {
        // The count after the last pass found nothing left.
        rotation.abort()?;
    }
    Ok(code)
}

/// The whole sequence: a new key, promoted, all values under it, proved.
fn whole(args: &RotateArgs, global: &Global, output: &mut Output) -> Outcome {
    let keyring = args.scope.keyring.as_str();
    let job = job(&args.run);
    let options = options(&args.run);
    let vault = input::vault(global)?;
    let mut before = rotation(&vault, &args.scope, if args.run.dry_run { Access::Read } else { Access::Write })?;
    before.check(&job, &options)?;
    if before.columns().is_empty() {
        return Err(Error::NotFound { what: format!("a column that is written under keyring {keyring}") }.into());
    }
    let replaced = keys_in(&vault, keyring, KeyState::DecryptOnly)?;
    let left = |count: &ColumnCount| !count.immutable && replaced.iter().any(|kid| count.under(*kid) > 0);
    let unfinished = !before.runs()?.is_empty() || before.count(false)?.iter().any(left);
    if args.run.dry_run {
        return plan(&mut before, &job, &args.run, output);
    }
    drop(before);

    let waiting = keys_in(&vault, keyring, KeyState::Active)?;
    let next = match waiting.as_slice() {
        [kid] => Some(*kid),
        [] if unfinished => None,
        [] => Some(new_key(&vault, keyring, global, output)?),
        _ => {
            return Err(Error::Refused {
                reason: format!("several keys of keyring {keyring} wait to be promoted"),
                remedy: "promote one with `vault key promote`, then run `vault rotate run`".to_owned(),
            }
            .into());
        }
    };
    let vault = input::vault(global)?;
    if let Some(kid) = next {
        if !args.all_nodes_loaded && !args.run.app_stopped && vault.manifest().nodes() != Some(1) {
            return Err(Error::Temporary {
                reason: format!("key {kid} waits as active until every process has loaded it"),
                remedy: "deliver the key and the state file to every process, then run again with --all-nodes-loaded"
                    .to_owned(),
            }
            .into());
        }
        let change = ChangeArgs { out: None, yes: args.yes, dry_run: false };
        input::confirm(&format!("seal under key {kid} from now on, and move every value to it?"), args.yes)?;
        key::promote(&vault, keyring, kid, &change, true)?;
        output.note(&format!("key {kid} is primary"));
    }

    let vault = input::vault(global)?;
    let mut rotation = rotation(&vault, &args.scope, Access::Write)?;
    let code = convert(&mut rotation, &job, &args.run, output)?;
    if code != 0 {
        return Ok(code);
    }
    rotation.fence(None)?;
    let verification = rotation.verify()?;
    let code = tell_verification(&verification, output)?;
    if code == 0 && args.retire {
        let change = ChangeArgs { out: None, yes: args.yes, dry_run: false };
        for old in keys_in(&vault, keyring, KeyState::DecryptOnly)? {
            // Each disabling is a new generation of the state file.
            key::disable(&input::vault(global)?, keyring, old, &change)?;
            output.note(&format!("key {old} is disabled"));
        }
    }
    Ok(code)
}

/// The keys of a keyring that are in a state and were found.
fn keys_in(vault: &Vault, keyring: &str, state: KeyState) -> Result<Vec<KeyId>, Error> {
    let keys = vault.keyring(keyring)?.keys().into_iter();
    Ok(keys.filter(|key| key.state == state && key.place.is_some()).map(|key| key.kid).collect())
}

/// Generates a key where nothing matches it yet, and adds it. An interrupted run is gone on with.
fn new_key(vault: &Vault, keyring: &str, global: &Global, output: &mut Output) -> Result<KeyId, Failure> {
    let spec = vault.manifest().keyring(keyring)?;
    let file = spec.destination(Path::new(""), "new")?.with_file_name(format!(".vault-generated-{keyring}"));
    if !file.exists() {
        key::write_new(&file, &MasterKey::generate()?)?;
    }
    let kid = Vault::key_add(&input::config(global)?, keyring, &file, None)?;
    std::fs::remove_file(&file).map_err(|source| Error::Io { action: "remove", path: file.clone(), source })?;
    output.note(&format!("key {kid} was generated and added to keyring {keyring}; back its file up"));
    Ok(kid)
}

fn plan(rotation: &mut Rotation<'_>, job: &Job, run: &RunArgs, output: &mut Output) -> Outcome {
    let summaries = rotation.plan(job, &options(run))?;
    tell(&summaries, true, output)
}

fn convert(rotation: &mut Rotation<'_>, job: &Job, run: &RunArgs, output: &mut Output) -> Outcome {
    let until = run.until.as_deref().map(deadline).transpose()?;
    let result = rotation.run(job, &options(run), &mut |step| {
        output.step(step);
        while run.pause_file.as_ref().is_some_and(|file| file.exists()) {
            thread::sleep(Duration::from_millis(200));
        }
        if until.is_some_and(|until| Timestamp::now() >= until) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    output.done();
    match result {
        Ok(summaries) => tell(&summaries, false, output),
        Err(unfinished) => {
            if !unfinished.summaries.is_empty() {
                tell(&unfinished.summaries, false, output)?;
            }
            Err(unfinished.error.into())
        }
    }
}

fn fence(vault: &Vault, scope: &ScopeArgs, down: bool, dry_run: bool, output: &mut Output) -> Outcome {
    let mut rotation = rotation(vault, scope, if dry_run { Access::Read } else { Access::Write })?;
    if dry_run && down {
        let fences = rotation.fences()?;
        let columns: Vec<_> = fences.iter().map(|(column, _)| column.as_str()).collect();
        let text = match columns.as_slice() {
            [] => "no column is fenced".to_owned(),
            columns => format!("these fences would go: {}", columns.join(", ")),
        };
        output.result(&text, json!({ "fenced": columns }))?;
        return Ok(0);
    }
    if dry_run {
        let obstacles = rotation.fence_obstacles(None)?;
        let text = match obstacles.as_slice() {
            [] => "nothing stands in the way of a fence".to_owned(),
            found => found.iter().map(|(_, obstacle)| obstacle.to_string()).collect::<Vec<_>>().join("\n"),
        };
        let objects: Vec<_> = obstacles
            .iter()
            .map(|(column, obstacle)| json!({ "column": column, "reason": obstacle.to_string(), "hint": obstacle.hint() }))
            .collect();
        output.result(&text, json!({ "obstacles": objects }))?;
        return Ok(if obstacles.is_empty() { 0 } else { Kind::Refused.exit_code() });
    }
    if down {
        rotation.unfence()?;
        output.result("no column is fenced", json!({ "fenced": [] }))?;
        return Ok(0);
    }
    let fenced = rotation.fence(None)?;
    let text = if fenced.is_empty() {
        "no column has a fence to put up".to_owned()
    } else {
        format!("fenced: {}", fenced.join(", "))
    };
    output.result(&text, json!({ "fenced": fenced }))?;
    Ok(0)
}

fn tell(summaries: &[Summary], planned: bool, output: &mut Output) -> Outcome {
    let mut lines = Vec::new();
    let mut objects = Vec::new();
    for summary in summaries {
        let end = match summary.end {
            End::Clean => "",
            End::Pinned => "; immutable: stale values stay, and keep their key",
            End::Locked => "; rows remain that others hold or keep changing: run again",
            End::Stopped => "; stopped: run again",
            _ => "; rows remain that cannot be moved",
        };
        let undone = if summary.undone { "; nothing was changed" } else { "" };
        lines.push(format!(
            "{}: {} rows, {} {}, {} lost to other writers, {} failed, {} stale after {} passes, {:.2} s{end}{undone}",
            summary.column,
            summary.rows,
            summary.rewritten,
            if planned { "to rewrite" } else { "rewritten" },
            summary.lost,
            summary.failed.len(),
            summary.stale,
            summary.passes,
            summary.seconds
        ));
        for finding in &summary.findings {
            output.note(&format!("warning: {}: {finding}", summary.column));
        }
        for (row, reason) in summary.failed.iter().take(MAX_TOLD) {
            output.note(&format!("warning: {}, row {row}: {reason}", summary.column));
        }
        let failures: Vec<Value> =
            summary.failed.iter().map(|(row, reason)| json!({ "row": row.to_string(), "reason": reason })).collect();
        objects.push(json!({
            "column": summary.column, "rows": summary.rows, "rewritten": summary.rewritten, "lost": summary.lost, "failed": failures,
            "stale": summary.stale, "passes": summary.passes, "seconds": summary.seconds,
            "findings": summary.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "undone": summary.undone,
            "end": format!("{:?}", summary.end).to_lowercase(),
        }));
    }
    if summaries.is_empty() {
        lines.push("no column is declared for this keyring".to_owned());
    }
    output.result(&lines.join("\n"), json!({ "dry_run": planned, "columns": objects }))?;
    let worst = summaries.iter().map(|summary| summary.end).max().unwrap_or(End::Clean);
    Ok(match worst {
        End::Clean | End::Pinned => 0,
        End::Locked | End::Stopped => Kind::Temporary.exit_code(),
        _ => Kind::Refused.exit_code(),
    })
}

fn tell_verification(verification: &Verification, output: &mut Output) -> Outcome {
    let mut lines = Vec::new();
    for count in &verification.columns {
        lines.push(format!(
            "{}: {} values opened, {} stale, {} failed",
            count.column,
            count.values() - count.failed,
            count.stale,
            count.failed
        ));
        lines.extend(status::breakdown(count));
        for (row, reason) in count.failures.iter().take(MAX_TOLD) {
            output.note(&format!("warning: {}, row {row}: {reason}", count.column));
        }
    }
    let clean = verification.is_clean();
    lines.push(if clean { "verified: nothing is stale" } else { "not verified" }.to_owned());
    let columns: Vec<Value> = verification.columns.iter().map(status::object).collect();
    output.result(&lines.join("\n"), json!({ "verified": clean, "columns": columns }))?;
    Ok(if clean { 0 } else { Kind::Refused.exit_code() })
}

fn rotation<'a>(vault: &'a Vault, scope: &'a ScopeArgs, access: Access) -> Result<Rotation<'a>, Error> {
    vault.keyring(&scope.keyring)?;
    vault.rotation(scope.column.as_deref().map_or(Scope::Keyring(&scope.keyring), Scope::Column), access)
}

fn job(run: &RunArgs) -> Job {
    if run.deep { Job::RotateDeep } else { Job::Rotate }
}

fn options(run: &RunArgs) -> RunOptions {
    let mut options = RunOptions::default();
    options.app_stopped = run.app_stopped;
    options.batch = usize::from(run.batch);
    options.rows_per_second = run.rows_per_second;
    options
}

/// A time of day in UTC, or a span from now such as `+30m`.
fn deadline(text: &str) -> Result<Timestamp, Failure> {
    let wrong = || Failure::usage("--until takes a time such as 2026-02-03T06:00:00Z, or a span such as +30m");
    let Some(span) = text.strip_prefix('+') else { return Timestamp::parse(text).ok_or_else(wrong) };
    let unit = match span.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        _ => return Err(wrong()),
    };
    let number: u64 = span.get(..span.len() - 1).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    Ok(Timestamp(Timestamp::now().0.saturating_add(number.saturating_mul(unit))))
}
