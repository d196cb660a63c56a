//! Tokens on standard input and output.

use std::path::PathBuf;

use clap::Args;
use vault_core::{Format, KeyId};

#[derive(Args, Debug)]
pub(crate) struct Keys {
    /// Key file; repeated, all of them open
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Vec<PathBuf>,

    /// Keyring of the configuration, where no key file is given
    #[arg(long, value_name = "NAME", default_value = "main", conflicts_with = "key_file")]
    pub(crate) keyring: String,

    /// Format of the value
    #[arg(long, default_value = "vs1", value_name = "FORMAT")]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct ContextArgs {
    /// Whose secret it is; the user id of formats that need one
    #[arg(long)]
    pub(crate) tenant: Option<String>,

    /// Which secret it is
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// What kind of secret it is, such as user-secret
    #[arg(long)]
    pub(crate) purpose: Option<String>,

    /// A further pair that the token is bound to; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) extra: Vec<String>,

    /// Bind the token to nothing: it opens wherever it is moved to
    #[arg(long, conflicts_with_all = ["tenant", "name", "purpose", "extra"])]
    pub(crate) no_context: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Lines {
    /// One value a line
    #[arg(long)]
    pub(crate) lines: bool,

    /// Take standard input as it is, without removing one trailing line break
    #[arg(long, conflicts_with = "lines")]
    pub(crate) raw: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SealArgs {
    #[command(flatten)]
    pub(crate) keys: Keys,
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) lines: Lines,

    /// Which of several key files seals
    #[arg(long, value_name = "KID", requires = "key_file")]
    pub(crate) seal_with: Option<KeyId>,

    /// Pad to a multiple of 32 bytes, to tell less of the length
    #[arg(long)]
    pub(crate) padded: bool,

    /// Seal a secret that has no bytes at all
    #[arg(long)]
    pub(crate) allow_empty: bool,
}

#[derive(Args, Debug)]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    pub(crate) keys: Keys,
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) lines: Lines,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) lines: Lines,
}
