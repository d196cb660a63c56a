//! Keys and their states.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use vault_core::KeyId;

use super::ProcessArgs;

#[derive(Args, Debug)]
pub(crate) struct KeyArgs {
    /// Keyring of the configuration
    #[arg(long, global = true, value_name = "NAME", default_value = "main")]
    pub(crate) keyring: String,

    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Write a new key to standard output, or to a new file that only its owner can read
    Generate {
        /// File to create
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Change nothing
        #[arg(short = 'n', long, requires = "out")]
        dry_run: bool,
    },
    /// List the keys of a keyring and their states
    List,
    /// Add the key in FILE to a keyring, waiting as active
    Add {
        /// File with the key
        file: PathBuf,
        /// A name for people, and part of the key's file name
        #[arg(long)]
        label: Option<String>,
        /// Write the next state file to FILE, for redeployment, and leave keys and states as they are
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Store the master key in FILE in the OS keyring, for a source "keyring:SERVICE/ACCOUNT"
    #[cfg(feature = "os-keyring")]
    Store {
        /// File with the key
        file: PathBuf,
        /// Service of the keyring's item
        #[arg(long)]
        service: String,
        /// Account of the keyring's item
        #[arg(long)]
        account: String,
        /// Overwrite what the item holds
        #[arg(long)]
        replace: bool,
        /// Change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Seal under this key from now on
    Promote {
        /// Key id
        kid: KeyId,
        #[command(flatten)]
        change: ChangeArgs,
        #[command(flatten)]
        processes: ProcessArgs,
    },
    /// Stop opening with this key, after proving that no value needs it
    Disable {
        /// Key id
        kid: KeyId,
        #[command(flatten)]
        change: ChangeArgs,
        #[command(flatten)]
        processes: ProcessArgs,
    },
    /// Undo disabling
    Enable {
        /// Key id
        kid: KeyId,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Give a disabled key up for ever; its file is yours to remove
    Destroy {
        /// Key id
        kid: KeyId,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

#[derive(Args, Debug)]
pub(crate) struct ChangeArgs {
    /// Write the next state file to FILE, for redeployment, and leave the present one
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,

    /// Change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}
