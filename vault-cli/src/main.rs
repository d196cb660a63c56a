//! The `vault` command: makes keys, seals and opens, and rotates the master key of applications'
//! databases while they run.
#![forbid(unsafe_code)]

mod args;
mod check;
mod demo;
mod doctor;
mod failure;
mod findings;
mod init;
mod input;
mod key;
#[cfg(feature = "os-keyring")]
mod os_keyring;
mod output;
mod rotate;
mod run;
mod seal;
mod secret;
mod signals;
mod status;
mod swarm;
mod transfer;

use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use args::{Cli, Command};
use failure::{Failure, Outcome};
use output::Output;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    let core_limit = hide_memory(matches!(cli.command, Some(Command::Run(_))));
    let mut output = Output::new(cli.global.json);
    match run(&cli, core_limit, &mut output) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => ExitCode::from(output.failure(&failure)),
    }
}

fn run(cli: &Cli, core_limit: Rlimit, output: &mut Output) -> Outcome {
    let global = &cli.global;
    if cli.which_config {
        return input::which_config(global, output);
    }
    let Some(command) = &cli.command else {
        return Err(Failure::usage("no command is given").with_hint("`vault --help` lists them"));
    };
    if only_writes(command) {
        output.refuse_closed()?;
    }
    match command {
        Command::Init(args) => init::run(args, global, output),
        Command::Set(args) => secret::set(args, global, output),
        Command::Get(args) => secret::get(args, global, output),
        Command::List(args) => secret::list(args, global, output),
        Command::Rm(args) => secret::rm(args, global, output),
        Command::Rollback(args) => secret::rollback(args, global, output),
        Command::Import(args) => transfer::import(args, global, output),
        Command::Export(args) => transfer::export(args, global, output),
        Command::Run(args) => run::run(args, global, core_limit, output),
        Command::Check(args) => check::run(args, global, output),
        Command::Schema => {
            output.bytes(vault_core::Manifest::schema().as_bytes())?;
            Ok(0)
        }
        Command::Doctor(args) => doctor::run(args, global, output),
        Command::Seal(args) => seal::seal(args, global, output),
        Command::Open(args) => seal::open(args, global, output),
        Command::Inspect(args) => seal::inspect(args, output),
        Command::Status(args) => status::run(args, global, output),
        Command::Key(args) => key::run(args, global, output),
        Command::Rotate(args) => rotate::run(args, global, output),
        Command::Migrate(args) => rotate::migrate(args, global, output),
        Command::Reseal(args) => rotate::reseal(args, global, output),
        Command::Swarm(args) => swarm::run(args, global, output),
        Command::Demo(args) => {
            demo::run(args, output)?;
            Ok(0)
        }
    }
}

/// Whether all that a command does is to write data to standard output.
fn only_writes(command: &Command) -> bool {
    match command {
        Command::Get(_) | Command::List(_) | Command::Schema | Command::Seal(_) | Command::Open(_) => true,
        Command::Inspect(_) => true,
        Command::Export(args) => args.out.is_none(),
        _ => false,
    }
}

/// Keys must reach neither a core file nor a debugger of the same user. Returns the limit that the
/// caller set. What `lends` this process to a program gives that back, so it keeps the hard limit,
/// which only an administrator can raise again.
fn hide_memory(lends: bool) -> Rlimit {
    let limit = getrlimit(Resource::Core);
    let maximum = if lends { limit.maximum } else { Some(0) };
    // Where the system refuses, everything still works as documented, without this protection.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    limit
}

fn usage(mut error: clap::Error) -> ExitCode {
    // What stands where it does not belong may be a secret, and standard error goes to logs.
    let hidden = || ContextValue::String("…".to_owned());
    match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => {
            let what = if error.kind() == ErrorKind::UnknownArgument {
                ContextKind::InvalidArg
            } else {
                ContextKind::InvalidSubcommand
            };
            if matches!(error.get(what), Some(ContextValue::String(word)) if !word.starts_with("--")) {
                error.insert(what, hidden());
            }
        }
        ErrorKind::InvalidValue | ErrorKind::TooManyValues | ErrorKind::ValueValidation => {
            if matches!(error.get(ContextKind::InvalidValue), Some(ContextValue::String(value)) if !value.is_empty()) {
                error.insert(ContextKind::InvalidValue, hidden());
            }
        }
        _ => {}
    }
    // Help and version are answers; the rest is for people. A closed pipe is no error.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(Failure::usage("").kind.exit_code()),
    }
}
