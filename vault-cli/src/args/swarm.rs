//! Secrets of Docker Swarm.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub(crate) struct SwarmArgs {
    #[command(subcommand)]
    pub(crate) command: SwarmCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SwarmCommand {
    /// Print the commands that apply would run, and run none
    Plan {
        #[command(flatten)]
        target: SwarmTarget,
    },
    /// Create what is new, update the services, and remove what --prune names
    Apply {
        #[command(flatten)]
        target: SwarmTarget,
        /// Append one line of JSON for each action to this file
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
        /// Change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct SwarmTarget {
    /// What the names in Swarm begin with; else `app` of vault.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) stack: Option<String>,

    /// Only these secrets; else all that are declared
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// A service that gets the newest versions of what it mounts, and of what --only names; repeatable
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Vec<String>,

    /// User inside the containers who reads the files, which get mode 0400; else as mounted before
    #[arg(long, value_name = "UID", requires = "service")]
    pub(crate) uid: Option<u32>,

    /// Keep so many older versions of each secret, and remove the others that no service mounts
    #[arg(long, value_name = "K")]
    pub(crate) prune: Option<usize>,

    /// Create a new version even of what is unchanged
    #[arg(long)]
    pub(crate) force: bool,

    /// The client; it finds its daemon itself, by DOCKER_HOST for example
    #[arg(long, value_name = "PATH", default_value = "docker")]
    pub(crate) docker: PathBuf,
}
