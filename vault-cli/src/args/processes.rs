//! The processes that a change of keys waits for.

use clap::Args;

#[derive(Args, Clone, Debug)]
pub(crate) struct ProcessArgs {
    /// You have looked yourself: every process has loaded the key, or has read the present states
    #[arg(long)]
    pub(crate) all_nodes_loaded: bool,

    /// A process that is gone, by its name in `vault status`; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) without: Vec<String>,
}
