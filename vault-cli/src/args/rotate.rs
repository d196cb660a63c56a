//! Values of columns and stores under other keys, and what is there.

use core::time::Duration;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use vault_core::{Format, Timestamp};

use super::ProcessArgs;

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// One column only
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,

    /// Open every value, instead of counting tokens by the key that they name
    #[arg(long)]
    pub(crate) deep: bool,

    /// Again every two seconds, until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RotateArgs {
    #[command(subcommand)]
    pub(crate) command: Option<RotateCommand>,

    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,

    /// Generate a key and move every value to it, unless one waits already or something is unfinished
    #[arg(long)]
    pub(crate) new_key: bool,

    /// With --new-key: keep the key's text in FILE, which must not exist, before anything is moved to it
    #[arg(long, value_name = "FILE", requires = "new_key")]
    pub(crate) backup: Option<PathBuf>,

    /// With --new-key: keep no copy of the key's text
    #[arg(long, requires = "new_key", conflicts_with = "backup")]
    pub(crate) without_backup: bool,

    /// Disable the keys that were replaced
    #[arg(long)]
    pub(crate) retire: bool,

    #[command(flatten)]
    pub(crate) processes: ProcessArgs,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ScopeArgs {
    /// Keyring whose columns are meant; else that of --column, or main
    #[arg(long, value_name = "NAME")]
    pub(crate) keyring: Option<String>,

    /// One column only
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// Every process that holds the key is stopped: rewrite also what unlinked applications read
    #[arg(long)]
    pub(crate) app_stopped: bool,

    /// With --app-stopped: go on although others have the database open
    #[arg(long, requires = "app_stopped")]
    pub(crate) despite_sessions: bool,

    /// Open and seal again under new data keys, instead of rewrapping
    #[arg(long)]
    pub(crate) deep: bool,

    /// Most rows in one transaction; with --rows-per-second, no more than a fiftieth of it, or a hundred
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch: u16,

    /// Most rows written in a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "app_stopped")]
    pub(crate) rows_per_second: Option<u32>,

    /// Wait before a batch while a replica of the database is further behind than so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "app_stopped")]
    pub(crate) max_replica_lag: Option<Duration>,

    /// Stop at this time, such as 2026-02-03T06:00:00Z, or after +30m
    #[arg(long, value_name = "TIME", value_parser = crate::rotate::deadline)]
    pub(crate) until: Option<Timestamp>,

    /// Wait while this file exists
    #[arg(long, value_name = "FILE", conflicts_with = "app_stopped")]
    pub(crate) pause_file: Option<PathBuf>,

    /// Change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or("it is no number of seconds above 0")
}

#[derive(Debug, Subcommand)]
pub(crate) enum RotateCommand {
    /// Do everything but write, and say what would be done
    Plan {
        #[command(flatten)]
        scope: ScopeArgs,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Rewrap until a full pass changes nothing; run again after any interruption
    Run {
        #[command(flatten)]
        scope: ScopeArgs,
        #[command(flatten)]
        run: RunArgs,
        /// Take the store and the keyring as they are, though one of them is older than the other
        #[arg(long)]
        accept_rollback: bool,
    },
    /// Make the databases refuse values under keys that were replaced
    Fence(FenceArgs),
    /// Open every value and prove that none is stale; forgets the run
    Verify {
        #[command(flatten)]
        scope: ScopeArgs,
        /// Change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Forget the open run; what was rewritten stays
    Abort {
        #[command(flatten)]
        scope: ScopeArgs,
        /// Change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Show the open runs
    Status {
        #[command(flatten)]
        scope: ScopeArgs,
    },
}

#[derive(Args, Debug)]
pub(crate) struct FenceArgs {
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,

    /// Take the fences down; those against keys that are disabled stay
    #[arg(long)]
    pub(crate) drop: bool,

    #[command(flatten)]
    pub(crate) processes: ProcessArgs,

    /// Change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct MigrateArgs {
    /// Column of the configuration
    pub(crate) column: String,

    /// Format that its values become
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: Format,

    /// Longest plaintext to seal, in bytes: applications open no more unless their limit is raised
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    pub(crate) max_plaintext: u32,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ResealArgs {
    /// Column of the configuration
    pub(crate) column: String,

    /// A field of the context that tokens were sealed for, such as 'tenant={user_id}'; repeatable
    #[arg(long, value_name = "FIELD=TEMPLATE", required = true)]
    pub(crate) old_context: Vec<String>,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}
