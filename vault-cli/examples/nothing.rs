//! The floor of `benches/start`: a program with a command line that does nothing.

use clap::Parser;

#[derive(Parser)]
struct Cli {
    /// Not used
    #[arg(long)]
    name: Option<String>,
}

fn main() {
    let _ = Cli::parse().name;
}
