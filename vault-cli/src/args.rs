//! What can be typed. Definitions only.

mod deliver;
mod key;
mod processes;
mod rotate;
mod seal;
mod secret;
mod swarm;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::demo::DemoArgs;

pub(crate) use deliver::{CheckArgs, DoctorArgs, RunCommandArgs};
pub(crate) use key::{ChangeArgs, KeyArgs, KeyCommand};
pub(crate) use processes::ProcessArgs;
pub(crate) use rotate::{
    FenceArgs, MigrateArgs, ResealArgs, RotateArgs, RotateCommand, RunArgs, ScopeArgs, StatusArgs,
};
pub(crate) use seal::{ContextArgs, InspectArgs, Keys, Lines, OpenArgs, SealArgs};
pub(crate) use secret::{
    ExportArgs, GetArgs, ImportArgs, InitArgs, ListArgs, References, RmArgs, RollbackArgs, SetArgs,
};
pub(crate) use swarm::{SwarmArgs, SwarmCommand, SwarmTarget};

/// Seals secrets, and changes the master key of databases while their applications run.
#[derive(Debug, Parser)]
#[command(name = "vault", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    /// Print which configuration would be used, its application and its databases, and do nothing
    #[arg(long, global = true)]
    pub(crate) which_config: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  vault demo
  printf %s \"$SECRET\" | vault seal --key-file kek --purpose user-secret --tenant 42
  vault rotate plan
  vault rotate --yes
  vault status";

#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Configuration; else VAULT_CORE_CONFIG, ./vault.toml and its parents, /etc/vault/vault.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Profile of the configuration; else VAULT_CORE_PROFILE
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// How long to wait for the processes that hold the keys, and for open transactions
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 90, hide_default_value = true)]
    pub(crate) wait: u64,

    /// Print one JSON object, or one a line, with schema_version
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)] // only the one that is asked for is built
pub(crate) enum Command {
    /// Write vault.toml, make a master key and an empty store, where there is nothing yet
    Init(InitArgs),
    /// Set a secret: from standard input, a file, a hidden prompt, or made anew
    Set(SetArgs),
    /// Write a secret's exact bytes, from the first source that has it
    Get(GetArgs),
    /// List the secrets of the store
    List(ListArgs),
    /// Remove a secret from the store
    Rm(RmArgs),
    /// Make an older version of a secret the newest again
    Rollback(RollbackArgs),
    /// Set secrets from an environment file, a JSON object, or a directory with a file for each
    Import(ImportArgs),
    /// Write secrets as an environment file, a JSON object, or a directory with a file for each
    Export(ExportArgs),
    /// Run a command with the secrets in its environment, or as files in memory
    Run(RunCommandArgs),
    /// Look for what is wrong with declared secrets: missing, weak, public, shadowed, overdue
    Check(CheckArgs),
    /// Write the JSON schema of vault.toml, for editors
    Schema,
    /// Look for what is wrong with keys, stores, databases and permissions
    Doctor(DoctorArgs),
    /// Seal standard input into a token
    Seal(SealArgs),
    /// Open the token on standard input
    Open(OpenArgs),
    /// Tell what a token or a legacy value is, without a key
    Inspect(InspectArgs),
    /// Count values by format and key: may the old key go?
    Status(StatusArgs),
    /// Generate keys and change their states
    Key(KeyArgs),
    /// Change the master key of the declared columns: the whole sequence, or one step of it
    #[command(args_conflicts_with_subcommands = true)]
    Rotate(RotateArgs),
    /// Write a column's values in another format
    Migrate(MigrateArgs),
    /// Seal a column's tokens again after the declared context changed
    Reseal(ResealArgs),
    /// Bring declared secrets into Docker Swarm, and give services their newest version
    Swarm(SwarmArgs),
    /// Show all of it on a throw-away database, with a rotator that is killed
    Demo(DemoArgs),
}
