//! What programs get, and what is wrong with it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

#[derive(Args, Debug)]
#[command(after_help = RUN_CODES)]
pub(crate) struct RunCommandArgs {
    /// Only these secrets, declared or not, and all of them; else every declared one
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Pass on nothing of the environment but PATH, HOME, USER, LANG, LC_*, TERM, TZ and TMPDIR
    #[arg(long)]
    pub(crate) pristine: bool,

    /// Give each secret as a file in memory that NAME_FILE names, and not as the variable NAME
    #[arg(long)]
    pub(crate) files: bool,

    /// Replace secrets in what the command prints by their names
    #[arg(long)]
    pub(crate) mask: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

const RUN_CODES: &str = "\
The exit status is the command's: 128 + N where signal N killed it, 126 where it cannot be run, 127
where it is not found. Every other failure comes before the command is started.";

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Only these secrets; else all that are declared
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Environment file that applications read; else .env in this directory, if there is one
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,

    /// Warnings are failures
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Keys and secrets that others can read are failures
    #[arg(long)]
    pub(crate) require_private_files: bool,
}
