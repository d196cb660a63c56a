//! `rotate`, `migrate` and `reseal`: moving the values of applications' columns.

use core::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use vault_core::column::{ContextTemplate, RowKey};
use vault_core::rotate::{ColumnCount, End, Job, Rotation, RunOptions, Summary, Verification};
use vault_core::{Access, Error, Format, KeyId, KeyState, Kind, Scope, Timestamp, Vault};

use crate::args::{Global, MigrateArgs, ResealArgs, RotateArgs, RotateCommand, RunArgs, ScopeArgs};
use crate::failure::{Failure, Outcome};
use crate::key::{self, Awaited};
use crate::output::Output;
use crate::signals::RunSignals;
use crate::{input, status};

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
        Some(RotateCommand::Run { scope, run, accept_rollback }) => {
            let vault = input::vault(global)?;
            if run.dry_run {
                return plan(&mut rotation(&vault, scope, Access::Read)?, &job(run), run, output);
            }
            vault.settle(*accept_rollback)?;
            convert(&mut rotation(&vault, scope, Access::Write)?, &job(run), run, output)
        }
        Some(RotateCommand::Fence { scope, drop: true, all_nodes_loaded, dry_run }) => {
            unfence(&input::vault(global)?, scope, *all_nodes_loaded, global.wait, *dry_run, output)
        }
        Some(RotateCommand::Fence { scope, dry_run, .. }) => fence(&input::vault(global)?, scope, *dry_run, output),
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

/// What the whole sequence begins with.
enum Next {
    /// An interrupted one is gone on with.
    GoOn,
    /// A key is generated.
    Generate,
    /// The key that waits is promoted.
    Promote(KeyId),
}

/// The whole sequence: a new key, promoted, all values under it, proved.
fn whole(args: &RotateArgs, global: &Global, output: &mut Output) -> Outcome {
    let job = job(&args.run);
    let vault = input::vault(global)?;
    let keyring = keyring_of(&vault, &args.scope)?;
    let mut before = rotation(&vault, &args.scope, if args.run.dry_run { Access::Read } else { Access::Write })?;
    before.check(&job, &options(&args.run))?;
    if before.columns().is_empty() {
        return Err(Error::NotFound { what: format!("a column that is written under keyring {keyring}") }.into());
    }
    let next = next(&vault, keyring, args.retire, &mut before)?;
    if args.run.dry_run {
        return rehearse(&next, &vault, args, &mut before, output);
    }
    drop(before);
    let promoted = begin(&next, &vault, args, global, output)?;

    let vault = input::vault(global)?;
    let mut rotation = rotation(&vault, &args.scope, Access::Write)?;
    let code = convert(&mut rotation, &job, &args.run, output)?;
    if code != 0 {
        return Ok(code);
    }
    rotation.fence(None)?;
    let verification = rotation.verify()?;
    let code = tell_verification(&verification, output)?;
    if code != 0 || !args.retire {
        return Ok(code);
    }
    if promoted && !args.run.app_stopped {
        return Err(retire_later());
    }
    let followed = Awaited { keyring, opens: None };
    let loaded = args.all_nodes_loaded || args.run.app_stopped;
    key::nodes_ready(&vault, &followed, loaded, global.wait, key::READ_STATES)?;
    for old in keys_in(&vault, keyring, KeyState::DecryptOnly)? {
        // Each disabling is a new generation of the state file.
        key::disable(&input::vault(global)?, keyring, old, None)?;
        output.note(&format!("key {old} is disabled"));
    }
    Ok(0)
}

fn next(vault: &Vault, keyring: &str, retire: bool, before: &mut Rotation<'_>) -> Result<Next, Failure> {
    let replaced = keys_in(vault, keyring, KeyState::DecryptOnly)?;
    let runs = before.runs()?;
    match keys_in(vault, keyring, KeyState::Active)?.as_slice() {
        [kid] => {
            key::check_promotion(vault, keyring, *kid)?;
            match runs.first() {
                Some((column, run)) => Err(Failure::from(Error::Refused {
                    reason: format!("column {column} has an open run of {} to {}", run.job, run.target),
                    remedy: format!(
                        "finish it with `vault rotate run` and `vault rotate verify`, or forget it with `vault rotate abort`, before key {kid} is promoted"
                    ),
                })),
                None => Ok(Next::Promote(*kid)),
            }
        }
        [] => {
            let left = |count: &ColumnCount| !count.immutable && replaced.iter().any(|kid| count.under(*kid) > 0);
            let unfinished =
                retire && !replaced.is_empty() || !runs.is_empty() || before.count(false)?.iter().any(left);
            Ok(if unfinished { Next::GoOn } else { Next::Generate })
        }
        _ => Err(Failure::from(Error::Refused {
            reason: format!("several keys of keyring {keyring} wait to be promoted"),
            remedy: "promote one with `vault key promote`, then run `vault rotate run`".to_owned(),
        })),
    }
}

/// Asks, and makes the next key primary; whether there was one.
fn begin(next: &Next, vault: &Vault, args: &RotateArgs, global: &Global, output: &mut Output) -> Result<bool, Failure> {
    let keyring = keyring_of(vault, &args.scope)?;
    let stopped = args.run.app_stopped;
    let then =
        if args.retire && stopped { ", and then stop opening values under the keys that were replaced" } else { "" };
    match next {
        Next::GoOn => {
            if args.retire {
                input::confirm("stop opening values under the keys that were replaced?", args.yes)?;
            }
            return Ok(false);
        }
        Next::Generate => {
            tell_stale_outside(vault, &args.scope, output)?;
            let question = format!(
                "generate a key for keyring {keyring}, seal under it from now on, and move every value to it{then}?"
            );
            input::confirm(&question, args.yes)?;
            let kid = Vault::key_generate(&input::config(global)?, keyring, None)?;
            output.note(&format!("key {kid} was generated and added to keyring {keyring}"));
            let vault = input::vault(global)?;
            // Nobody can have loaded it before.
            let loaded = Awaited { keyring, opens: Some(kid) };
            key::nodes_ready(&vault, &loaded, stopped, global.wait, &has_loaded(kid))?;
            key::promote(&vault, keyring, kid, None, output)?;
            output.note(&format!("key {kid} is primary"));
        }
        Next::Promote(kid) => {
            let loaded = Awaited { keyring, opens: Some(*kid) };
            key::nodes_ready(vault, &loaded, args.all_nodes_loaded || stopped, global.wait, &has_loaded(*kid))?;
            tell_stale_outside(vault, &args.scope, output)?;
            let question = format!("seal under key {kid} from now on, and move every value to it{then}?");
            input::confirm(&question, args.yes)?;
            key::promote(vault, keyring, *kid, None, output)?;
            output.note(&format!("key {kid} is primary"));
        }
    }
    Ok(true)
}

/// Says what the sequence would do, and ends as it would.
fn rehearse(next: &Next, vault: &Vault, args: &RotateArgs, before: &mut Rotation<'_>, output: &mut Output) -> Outcome {
    let keyring = keyring_of(vault, &args.scope)?;
    let stopped = args.run.app_stopped;
    let counts = before.count(true)?;
    let to_move = |count: &ColumnCount| match next {
        _ if count.immutable => 0,
        Next::GoOn => count.stale,
        // What is current now is stale then.
        Next::Generate => count.values() - count.failed - count.unmigrated,
        Next::Promote(kid) => count.values() - count.failed - count.unmigrated - count.under(*kid),
    };
    let (values, failed): (u64, u64) =
        (counts.iter().map(to_move).sum(), counts.iter().map(|count| count.failed).sum());
    let mut steps = match next {
        Next::GoOn => Vec::new(),
        Next::Generate => vec!["generate a key".to_owned(), "promote that key".to_owned()],
        Next::Promote(kid) => vec![format!("promote key {kid}")],
    };
    steps.push(format!("rewrite {values} values"));
    steps.extend(before.fenceable().iter().map(|column| format!("fence column {column}")));
    for count in &counts {
        tell_failures(&count.column, &count.failures, output);
    }
    steps.push("verify".to_owned());
    let promotes = !matches!(next, Next::GoOn);
    if args.retire && (!promotes || stopped) {
        let mut going = keys_in(vault, keyring, KeyState::DecryptOnly)?;
        going.extend(promotes.then_some(vault.keyring(keyring)?.primary_kid()));
        steps.extend(going.iter().map(|kid| format!("disable key {kid}")));
    }
    if promotes {
        tell_stale_outside(vault, &args.scope, output)?;
    }
    let text: Vec<_> = steps.iter().map(|step| format!("would {step}")).collect();
    output.result(
        &text.join("\n"),
        json!({ "dry_run": true, "keyring": keyring, "steps": steps, "values": values, "failed": failed }),
    )?;
    match next {
        Next::Generate if !key::nodes_known(vault, stopped) => {
            return Err(key::nodes_unknown("has every process that opens values loaded the new key?"));
        }
        Next::Promote(kid) if !key::nodes_known(vault, args.all_nodes_loaded || stopped) => {
            return Err(key::nodes_unknown(&has_loaded(*kid)));
        }
        _ if failed > 0 => return Ok(Kind::Refused.exit_code()),
        _ if args.retire && promotes && !stopped => return Err(retire_later()),
        _ if args.retire && !key::nodes_known(vault, args.all_nodes_loaded || stopped) => {
            return Err(key::nodes_unknown(key::READ_STATES));
        }
        _ => {}
    }
    Ok(0)
}

fn has_loaded(kid: KeyId) -> String {
    format!("key {kid} waits as active; has every process that opens values loaded it?")
}

fn retire_later() -> Failure {
    Failure::from(Error::Temporary {
        reason: "everything is moved, and the keys that were replaced still open: a process that has not read the new states may seal under them".to_owned(),
        remedy: "run `vault rotate --retire` again once every process has read the new states".to_owned(),
    })
}

/// The keys of a keyring that are in a state and were found.
fn keys_in(vault: &Vault, keyring: &str, state: KeyState) -> Result<Vec<KeyId>, Error> {
    let keys = vault.keyring(keyring)?.keys().into_iter();
    Ok(keys.filter(|key| key.state == state && key.place.is_some()).map(|key| key.kid).collect())
}

fn plan(rotation: &mut Rotation<'_>, job: &Job, run: &RunArgs, output: &mut Output) -> Outcome {
    let options = options(run);
    let allowed = rotation.check(job, &options);
    let summaries = rotation.plan(job, &options)?;
    let code = tell(&summaries, true, output)?;
    // What is refused is planned all the same, and ends as the run would.
    allowed?;
    Ok(code)
}

fn convert(rotation: &mut Rotation<'_>, job: &Job, run: &RunArgs, output: &mut Output) -> Outcome {
    let signals = RunSignals::register()?;
    let options = options(run);
    if options.max_replica_lag.is_some() {
        // Whether it can be seen at all, before anything is written.
        rotation.check(job, &options)?;
    }
    let over = || signals.end() || run.until.is_some_and(|until| Timestamp::now() >= until);
    let result = rotation.run(job, &options, &mut |step| {
        output.step(step);
        signals.pause();
        while run.pause_file.as_ref().is_some_and(|file| file.exists()) && !over() {
            thread::sleep(Duration::from_millis(200));
        }
        if over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(signals);
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

fn unfence(
    vault: &Vault,
    scope: &ScopeArgs,
    all_loaded: bool,
    wait: u64,
    dry_run: bool,
    output: &mut Output,
) -> Outcome {
    let mut rotation = rotation(vault, scope, if dry_run { Access::Read } else { Access::Write })?;
    let columns = rotation.unfenceable()?;
    if dry_run {
        let text = match columns.as_slice() {
            [] => "no fence would go".to_owned(),
            columns => format!("these fences would go: {}", columns.join(", ")),
        };
        output.result(&text, json!({ "fenced": columns }))?;
        return Ok(0);
    }
    if !columns.is_empty() {
        // Then a value under these keys may be written again.
        let question = "does every process open values under the keys that are fenced off?";
        for keyring in vault.manifest().keyrings() {
            let followed = Awaited { keyring: &keyring.name, opens: None };
            key::nodes_ready(vault, &followed, all_loaded, wait, question)?;
        }
    }
    let fenced = rotation.unfence()?;
    let text = match fenced.as_slice() {
        [] => "no column is fenced".to_owned(),
        columns => format!("still fenced, against keys that are disabled or destroyed: {}", columns.join(", ")),
    };
    output.result(&text, json!({ "fenced": fenced }))?;
    Ok(0)
}

fn fence(vault: &Vault, scope: &ScopeArgs, dry_run: bool, output: &mut Output) -> Outcome {
    let mut rotation = rotation(vault, scope, if dry_run { Access::Read } else { Access::Write })?;
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
        if let Some(count) = summary.count.as_ref().filter(|_| planned) {
            lines.extend(status::breakdown(count));
        }
        if let Some(estimate) = summary.estimate.filter(|_| summary.rewritten > 0) {
            lines.push(format!("  about {:.1} s, where nobody is in the way", estimate.as_secs_f64()));
        }
        for finding in &summary.findings {
            output.note(&format!("warning: {}: {finding}", summary.column));
        }
        tell_failures(&summary.column, &summary.failed, output);
        let failures: Vec<Value> =
            summary.failed.iter().map(|(row, reason)| json!({ "row": row.to_string(), "reason": reason })).collect();
        objects.push(json!({
            "column": summary.column, "rows": summary.rows, "rewritten": summary.rewritten, "lost": summary.lost, "failed": failures,
            "stale": summary.stale, "passes": summary.passes, "seconds": summary.seconds,
            "findings": summary.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "undone": summary.undone, "holds": summary.count.as_ref().map(status::object),
            "estimate": summary.estimate.map(|estimate| estimate.as_secs_f64()),
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
        tell_failures(&count.column, &count.failures, output);
    }
    let clean = verification.is_clean();
    lines.push(if clean { "verified: nothing is stale" } else { "not verified" }.to_owned());
    let columns: Vec<Value> = verification.columns.iter().map(status::object).collect();
    output.result(&lines.join("\n"), json!({ "verified": clean, "columns": columns }))?;
    Ok(if clean { 0 } else { Kind::Refused.exit_code() })
}

fn rotation<'a>(vault: &'a Vault, scope: &'a ScopeArgs, access: Access) -> Result<Rotation<'a>, Failure> {
    let keyring = keyring_of(vault, scope)?;
    Ok(vault.rotation(scope.column.as_deref().map_or(Scope::Keyring(keyring), Scope::Column), access)?)
}

/// The keyring that is meant: a column is written under one, and no key of another moves it.
fn keyring_of<'a>(vault: &'a Vault, scope: &'a ScopeArgs) -> Result<&'a str, Failure> {
    let manifest = vault.manifest();
    let named = scope.keyring.as_deref();
    let Some(column) = &scope.column else {
        return Ok(manifest.keyring(named.unwrap_or("main"))?.name.as_str());
    };
    let own = vault.written_under(column)?;
    match named {
        Some(named) if named != own => Err(Failure::usage(format!(
            "column {column} is written under keyring {own}, not {named}: leave --keyring out"
        ))),
        _ => Ok(own),
    }
}

/// Says how many values of other columns the promotion of another key makes stale.
fn tell_stale_outside(vault: &Vault, scope: &ScopeArgs, output: &mut Output) -> Result<(), Failure> {
    let Some(column) = &scope.column else { return Ok(()) };
    let keyring = keyring_of(vault, scope)?;
    let primary = vault.keyring(keyring)?.primary_kid();
    let counts = vault.rotation(Scope::Keyring(keyring), Access::Read)?.count(false)?;
    let outside: u64 = counts.iter().filter(|count| count.column != *column).map(|count| count.under(primary)).sum();
    if outside > 0 {
        output.note(&format!(
            "{outside} values of other columns under keyring {keyring} become stale; `vault rotate run --keyring {keyring}` moves them"
        ));
    }
    Ok(())
}

/// Tells the first of the rows that failed.
fn tell_failures(column: &str, failures: &[(RowKey, String)], output: &mut Output) {
    for (row, reason) in failures.iter().take(MAX_TOLD) {
        output.note(&format!("warning: {column}, row {row}: {reason}"));
    }
}

fn job(run: &RunArgs) -> Job {
    if run.deep { Job::RotateDeep } else { Job::Rotate }
}

fn options(run: &RunArgs) -> RunOptions {
    let mut options = RunOptions::default();
    options.app_stopped = run.app_stopped;
    options.batch = usize::from(run.batch);
    options.rows_per_second = run.rows_per_second;
    options.max_replica_lag = run.max_replica_lag;
    options
}

/// A time of day in UTC, or a span from now such as `+30m`.
pub(crate) fn deadline(text: &str) -> Result<Timestamp, &'static str> {
    let wrong = "it is neither a time such as 2026-02-03T06:00:00Z nor a span such as +30m";
    let Some(span) = text.strip_prefix('+') else { return Timestamp::parse(text).ok_or(wrong) };
    let unit = match span.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        _ => return Err(wrong),
    };
    let number: u64 = span.get(..span.len() - 1).and_then(|number| number.parse().ok()).ok_or(wrong)?;
    Ok(Timestamp(Timestamp::now().0.saturating_add(number.saturating_mul(unit))))
}
