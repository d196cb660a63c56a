//! `rotate`, `migrate` and `reseal`: moving the values of applications' columns.

use core::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use vault_core::column::{ContextTemplate, RowKey};
use vault_core::lifecycle::{Done, Lifecycle, Options, Step, Unperformed};
use vault_core::rotate::{self, ColumnCount, End, Job, Rotation, RunOptions, Summary, Verification};
use vault_core::{Access, Error, Format, KeyId, KeyState, Kind, Scope, Timestamp, Vault};

use crate::args::{FenceArgs, Global, MigrateArgs, ResealArgs, RotateArgs, RotateCommand, RunArgs, ScopeArgs};
use crate::failure::{Failure, Outcome};
use crate::key::{self, Question};
use crate::output::{Output, one_line};
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
            let mut rotation = rotation(&vault, scope, Access::Read)?;
            if let Some(kid) = waiting_key(&vault, scope)? {
                output.note(&format!("key {kid} waits to be promoted; this is what follows its promotion"));
                rotation = rotation.as_if_promoted(kid);
            }
            plan(&mut rotation, &job(run), &run_options(run), output)
        }
        Some(RotateCommand::Run { scope, run, accept_rollback }) => {
            let vault = input::vault(global)?;
            if run.dry_run {
                return plan(&mut rotation(&vault, scope, Access::Read)?, &job(run), &run_options(run), output);
            }
            vault.settle(*accept_rollback)?;
            convert(&mut rotation(&vault, scope, Access::Write)?, &job(run), run, &run_options(run), output)
        }
        Some(RotateCommand::Fence(fence_args)) => fence(fence_args, global, output),
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
            let mut lines: Vec<_> = runs.iter().map(|(column, run)| format!("{column}: {}", status::of(run))).collect();
            let rows = failures.iter().take(MAX_TOLD);
            lines.extend(rows.map(|(column, row, reason)| format!("{column}, row {row}: {}", one_line(reason))));
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
    let mut options = run_options(&args.run);
    options.max_plaintext = usize::try_from(args.max_plaintext).unwrap_or(usize::MAX);
    move_column(&args.column, &Job::Migrate(args.to), &args.run, &options, global, output)
}

/// `vault reseal`.
pub(crate) fn reseal(args: &ResealArgs, global: &Global, output: &mut Output) -> Outcome {
    let mut old = ContextTemplate::default();
    for pair in &args.old_context {
        let (field, template) =
            pair.split_once('=').ok_or_else(|| Failure::usage("--old-context takes FIELD=TEMPLATE"))?;
        old = old.with_former(field, template).map_err(|reason| Failure::usage(format!("--old-context: {reason}")))?;
    }
    move_column(&args.column, &Job::Reseal(old), &args.run, &run_options(&args.run), global, output)
}

fn move_column(
    column: &str,
    job: &Job,
    run: &RunArgs,
    options: &RunOptions,
    global: &Global,
    output: &mut Output,
) -> Outcome {
    let vault = input::vault(global)?;
    let access = if run.dry_run { Access::Read } else { Access::Write };
    let mut rotation = vault.rotation(Scope::Column(column), access)?;
    if run.dry_run {
        return plan(&mut rotation, job, options, output);
    }
    let code = convert(&mut rotation, job, run, options, output)?;
    if code == 0 {
        // The count after the last pass found nothing left.
        rotation.abort()?;
    }
    Ok(code)
}

/// The whole sequence, from wherever it is: what is open is finished, a key that waits is promoted, values
/// are moved to it and proved. A new key is made only where that is asked for.
fn whole(args: &RotateArgs, global: &Global, output: &mut Output) -> Outcome {
    let vault = input::vault(global)?;
    let keyring = keyring_of(&vault, &args.scope)?.to_owned();
    let mut options = Options::default();
    key::wait_for(&mut options, &args.processes, global);
    options.wanted.new_key = args.new_key;
    options.wanted.retire = args.retire;
    options.run = run_options(&args.run);
    options.deep = args.run.deep;
    options.column.clone_from(&args.scope.column);
    let mut life = Lifecycle::new(vault, &keyring, options)?;
    if args.run.dry_run {
        return rehearse(&mut life, &keyring, args, output);
    }
    if args.new_key && args.backup.is_none() && !args.without_backup && !input::can_ask() {
        return Err(Failure::usage("a new key is made only where its text is kept")
            .with_hint("add --backup FILE, or --without-backup where its file is kept by other means"));
    }
    let mut ceremony = Ceremony { args, keyring: &keyring, confirmed: false, kept: None };
    let mut acted = false;
    loop {
        let step = life.next_step()?;
        if step == Step::Nothing {
            break;
        }
        ceremony.prepare(step, &mut life, output)?;
        let done = perform(&mut life, step, args, output)?;
        let code = tell_done(&done, &keyring, output)?;
        if code != 0 {
            return Ok(code);
        }
        acted = true;
    }
    if !acted {
        return tell_nothing(&life, &keyring, output);
    }
    if args.run.app_stopped {
        output.note(&format!(
            "start the applications with the new key; what was written late is moved by \
             `vault rotate run --keyring {keyring} --app-stopped`, which makes no key"
        ));
    }
    Ok(0)
}

/// What is asked before steps, and what was answered.
struct Ceremony<'a> {
    args: &'a RotateArgs,
    keyring: &'a str,
    confirmed: bool,
    /// The key of which somebody keeps the text.
    kept: Option<KeyId>,
}

impl Ceremony<'_> {
    fn prepare(&mut self, step: Step, life: &mut Lifecycle, output: &mut Output) -> Result<(), Failure> {
        let Self { args, keyring, .. } = *self;
        let then = if args.retire { ", and then stop opening values under the keys that were replaced" } else { "" };
        let question = match step {
            Step::Add => {
                self.refuse_other_backup()?;
                Some(format!(
                    "generate a key for keyring {keyring}, seal under it from now on, and move every value to it{then}?"
                ))
            }
            Step::Promote(kid) => Some(format!("seal under key {kid} from now on, and move every value to it{then}?")),
            Step::Disable(_) => Some("stop opening values under the keys that were replaced?".to_owned()),
            _ => None,
        };
        if let Some(question) = question.filter(|_| !self.confirmed) {
            if !matches!(step, Step::Disable(_)) {
                tell_stale_outside(life.vault(), &args.scope, output)?;
            }
            input::confirm(&question, args.yes)?;
            self.confirmed = true;
        }
        match step {
            Step::Promote(kid) => {
                self.keep(kid, life, output)?;
                self.ask_about_processes(step, &key::has_loaded(kid), life)
            }
            Step::Fence | Step::Disable(_) => self.ask_about_processes(step, key::READ_STATES, life),
            _ => Ok(()),
        }
    }

    fn ask_about_processes(&self, step: Step, text: &str, life: &mut Lifecycle) -> Result<(), Failure> {
        if self.args.run.app_stopped {
            return Ok(());
        }
        key::ask_about_processes(life, self.keyring, &Question { step, text }, &self.args.processes)
    }

    /// Before a key is made: a backup that exists is that of another one.
    fn refuse_other_backup(&self) -> Result<(), Failure> {
        match &self.args.backup {
            Some(path) if path.symlink_metadata().is_ok() => {
                let source = std::io::ErrorKind::AlreadyExists.into();
                Err(Error::Io { action: "create", path: path.clone(), source }.into())
            }
            _ => Ok(()),
        }
    }

    /// Before values depend on a key: its text is kept elsewhere, too.
    fn keep(&mut self, kid: KeyId, life: &Lifecycle, output: &mut Output) -> Result<(), Failure> {
        if self.kept.replace(kid) == Some(kid) {
            return Ok(());
        }
        if let Some(path) = &self.args.backup {
            life.back_up(kid, path)?;
            output.note(&format!("the text of key {kid} is in {}", path.display()));
        } else if self.args.new_key && !self.args.without_backup {
            let place = place_of(life.vault(), self.keyring, kid)?;
            return match input::ask(&format!("key {kid} is in {place}; is a copy of it in the safe?")) {
                Some(true) => Ok(()),
                _ => Err(Failure::aborted()
                    .with_hint(format!("key {kid} waits; copy {place} to the safe and type `vault rotate`"))),
            };
        } else {
            output.note(&format!("back up the file of key {kid} before values depend on it"));
        }
        Ok(())
    }
}

fn place_of(vault: &Vault, keyring: &str, kid: KeyId) -> Result<String, Error> {
    let key = vault.keyring(keyring)?.keys().into_iter().find(|key| key.kid == kid);
    Ok(key.and_then(|key| key.place).unwrap_or_else(|| "no file".to_owned()))
}

fn perform(life: &mut Lifecycle, step: Step, args: &RotateArgs, output: &mut Output) -> Result<Done, Failure> {
    // Between two batches a signal ends a run; while something is waited for, it does what it does.
    let moving = if step == Step::Move { Some(Moving::begin(&args.run)?) } else { None };
    let done = life.perform(step, &mut |step| {
        moving.as_ref().map_or(ControlFlow::Continue(()), |moving| moving.observe(step, output))
    });
    drop(moving);
    output.done();
    done.or_else(|Unperformed { summaries, error, .. }| {
        if !summaries.is_empty() {
            tell(&summaries, false, output)?;
        }
        Err(error.into())
    })
}

fn tell_done(done: &Done, keyring: &str, output: &mut Output) -> Outcome {
    match done {
        Done::Added(kid) => output.note(&format!("key {kid} was generated and added to keyring {keyring}")),
        Done::Promoted(kid) => output.note(&format!("key {kid} is primary")),
        Done::Disabled(kid) => output.note(&format!("key {kid} is disabled")),
        Done::Fenced(columns) if !columns.is_empty() => output.note(&format!("fenced: {}", columns.join(", "))),
        Done::Moved { summaries, overtaken } => {
            let code = tell(summaries, false, output)?;
            if !overtaken {
                return Ok(code);
            }
            output.note(
                "values are still written under a key that was replaced; they are moved once every process follows",
            );
        }
        Done::Verified(verification) => return tell_verification(verification, output),
        _ => {}
    }
    Ok(0)
}

fn tell_nothing(life: &Lifecycle, keyring: &str, output: &mut Output) -> Outcome {
    let primary = life.vault().keyring(keyring)?.primary_kid();
    let since = life.situation()?.promoted;
    let when = since.map_or_else(String::new, |since| format!(" since {since}"));
    output.result(
        &format!("nothing is to be done: key {primary} seals{when}, and no key waits; --new-key makes one"),
        json!({ "keyring": keyring, "action": "nothing", "primary": primary.as_str(), "promoted": since.map(|since| since.to_string()) }),
    )?;
    Ok(0)
}

/// Says what the sequence would do, and ends as it would.
fn rehearse(life: &mut Lifecycle, keyring: &str, args: &RotateArgs, output: &mut Output) -> Outcome {
    let steps = life.steps()?;
    if steps.is_empty() {
        return tell_nothing(life, keyring, output);
    }
    let makes_stale = steps.iter().find_map(|step| match step {
        Step::Add => Some(None),
        Step::Promote(kid) => Some(Some(*kid)),
        _ => None,
    });
    let mut rotation = rotation(life.vault(), &args.scope, Access::Read)?;
    let counts = rotation.count(true)?;
    let to_move = |count: &ColumnCount| match makes_stale {
        _ if count.immutable => 0,
        None => count.stale,
        // What is current now is stale then.
        Some(kid) => count.values() - count.failed - count.unmigrated - kid.map_or(0, |kid| count.under(kid)),
    };
    let (values, failed): (u64, u64) =
        (counts.iter().map(to_move).sum(), counts.iter().map(|count| count.failed).sum());
    let mut told = Vec::new();
    for step in &steps {
        match step {
            Step::Move => told.push(format!("rewrite {values} values")),
            Step::Fence => told.extend(rotation.fenceable().iter().map(|column| format!("fence column {column}"))),
            Step::Add => told.push("generate a key".to_owned()),
            // That key is one that is not made yet.
            Step::Promote(_) if steps.contains(&Step::Add) => told.push("promote that key".to_owned()),
            step => told.push(step.to_string()),
        }
    }
    for count in &counts {
        tell_failures(&count.column, &count.failures, output);
    }
    drop(rotation);
    if makes_stale.is_some() {
        tell_stale_outside(life.vault(), &args.scope, output)?;
    }
    let text: Vec<_> = told.iter().map(|step| format!("would {step}")).collect();
    output.result(
        &text.join("\n"),
        json!({ "dry_run": true, "keyring": keyring, "steps": told, "values": values, "failed": failed }),
    )?;
    life.check()?;
    if args.new_key {
        Ceremony { args, keyring, confirmed: true, kept: None }.refuse_other_backup()?;
    }
    if let Some(first) = steps.iter().find(|step| !matches!(step, Step::Move | Step::Verify)) {
        life.await_processes(*first)?;
    }
    Ok(0)
}

fn plan(rotation: &mut Rotation<'_>, job: &Job, options: &RunOptions, output: &mut Output) -> Outcome {
    let allowed = rotation.check(job, options);
    let summaries = rotation.plan(job, options)?;
    let code = tell(&summaries, true, output)?;
    // What is refused is planned all the same, and ends as the run would.
    allowed?;
    Ok(code)
}

/// What a run answers between two batches: the end that was set, signals, and a file that says to wait.
struct Moving<'a> {
    run: &'a RunArgs,
    signals: RunSignals,
}

impl<'a> Moving<'a> {
    fn begin(run: &'a RunArgs) -> Result<Self, Error> {
        Ok(Self { run, signals: RunSignals::register()? })
    }

    fn observe(&self, step: rotate::Step<'_>, output: &mut Output) -> ControlFlow<()> {
        output.step(step);
        self.signals.pause();
        while self.run.pause_file.as_ref().is_some_and(|file| file.exists()) && !self.is_over() {
            thread::sleep(Duration::from_millis(200));
        }
        if self.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn is_over(&self) -> bool {
        self.signals.end() || self.run.until.is_some_and(|until| Timestamp::now() >= until)
    }
}

fn convert(
    rotation: &mut Rotation<'_>,
    job: &Job,
    run: &RunArgs,
    options: &RunOptions,
    output: &mut Output,
) -> Outcome {
    let moving = Moving::begin(run)?;
    if options.max_replica_lag.is_some() {
        // Whether it can be seen at all, before anything is written.
        rotation.check(job, options)?;
    }
    let result = rotation.run(job, options, &mut |step| moving.observe(step, output));
    drop(moving);
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

/// `rotate fence`.
fn fence(args: &FenceArgs, global: &Global, output: &mut Output) -> Outcome {
    let vault = input::vault(global)?;
    let keyring = keyring_of(&vault, &args.scope)?.to_owned();
    let mut options = Options::default();
    key::wait_for(&mut options, &args.processes, global);
    options.column.clone_from(&args.scope.column);
    if args.dry_run {
        return if args.drop { would_unfence(&vault, args, output) } else { would_fence(&vault, args, output) };
    }
    let mut life = Lifecycle::new(vault, &keyring, options)?;
    let text =
        if args.drop { "does every process open values under the keys that are fenced off?" } else { key::READ_STATES };
    let question = Question { step: Step::Fence, text };
    key::ask_about_processes(&mut life, &keyring, &question, &args.processes)?;
    let (fenced, text) = if args.drop {
        let left = life.unfence()?;
        let text = match left.as_slice() {
            [] => "no column is fenced".to_owned(),
            columns => format!("still fenced, against keys that are disabled or destroyed: {}", columns.join(", ")),
        };
        (left, text)
    } else {
        let fenced = life.fence()?;
        let text = match fenced.as_slice() {
            [] => "no column has a fence to put up".to_owned(),
            columns => format!("fenced: {}", columns.join(", ")),
        };
        (fenced, text)
    };
    output.result(&text, json!({ "fenced": fenced }))?;
    Ok(0)
}

fn would_unfence(vault: &Vault, args: &FenceArgs, output: &mut Output) -> Outcome {
    let columns = rotation(vault, &args.scope, Access::Read)?.unfenceable()?;
    let text = match columns.as_slice() {
        [] => "no fence would go".to_owned(),
        columns => format!("these fences would go: {}", columns.join(", ")),
    };
    output.result(&text, json!({ "fenced": columns }))?;
    Ok(0)
}

fn would_fence(vault: &Vault, args: &FenceArgs, output: &mut Output) -> Outcome {
    let obstacles = rotation(vault, &args.scope, Access::Read)?.fence_obstacles(None)?;
    let text = match obstacles.as_slice() {
        [] => "nothing stands in the way of a fence".to_owned(),
        found => found.iter().map(|(_, obstacle)| obstacle.to_string()).collect::<Vec<_>>().join("\n"),
    };
    let objects: Vec<_> = obstacles
        .iter()
        .map(|(column, obstacle)| json!({ "column": column, "reason": obstacle.to_string(), "hint": obstacle.hint() }))
        .collect();
    output.result(&text, json!({ "obstacles": objects }))?;
    Ok(if obstacles.is_empty() { 0 } else { Kind::Refused.exit_code() })
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
        let moved = if summary.moved > 0 { format!(", {} moved by others", summary.moved) } else { String::new() };
        lines.push(format!(
            "{}: {} rows, {} {}{moved}, {} lost to other writers, {} failed, {} stale after {} passes, {:.2} s{end}{undone}",
            summary.column,
            summary.rows,
            summary.rewritten,
            if planned { "to rewrite" } else { "rewritten" },
            summary.lost,
            summary.failed_rows,
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
            output.note(&format!("warning: {}: {}", summary.column, one_line(&finding.to_string())));
        }
        tell_failures(&summary.column, &summary.failed, output);
        let failures: Vec<Value> =
            summary.failed.iter().map(|(row, reason)| json!({ "row": row.to_string(), "reason": reason })).collect();
        objects.push(json!({
            "column": summary.column, "rows": summary.rows, "rewritten": summary.rewritten, "lost": summary.lost, "moved": summary.moved,
            "failed_rows": summary.failed_rows, "failed": failures, "stale": summary.stale, "passes": summary.passes, "seconds": summary.seconds,
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
        for attention in count.attention() {
            output.note(&status::told(&attention));
        }
    }
    let clean = verification.is_clean();
    lines.push(if clean { "verified: nothing is stale" } else { "not verified" }.to_owned());
    let columns: Vec<Value> = verification.columns.iter().map(status::object).collect();
    output.result(&lines.join("\n"), json!({ "verified": clean, "columns": columns }))?;
    Ok(match status::exit_status(&verification.columns) {
        // There is no column to verify.
        0 if !clean => Kind::Refused.exit_code(),
        code => code,
    })
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

/// The one key that waits to be promoted.
fn waiting_key(vault: &Vault, scope: &ScopeArgs) -> Result<Option<KeyId>, Failure> {
    let keys = vault.keyring(keyring_of(vault, scope)?)?.keys();
    let waits: Vec<_> = keys.iter().filter(|key| key.state == KeyState::Active && key.place.is_some()).collect();
    Ok(if let [only] = waits.as_slice() { Some(only.kid) } else { None })
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
        output.note(&format!("warning: {column}, row {row}: {}", one_line(reason)));
    }
}

fn job(run: &RunArgs) -> Job {
    if run.deep { Job::RotateDeep } else { Job::Rotate }
}

fn run_options(run: &RunArgs) -> RunOptions {
    let mut options = RunOptions::default();
    options.despite_sessions = run.despite_sessions;
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
