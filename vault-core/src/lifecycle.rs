//! The life of a keyring's keys: added, promoted, values moved to it, fenced off once it was replaced,
//! proved unneeded, disabled, destroyed (docs/ARCHITECTURE.md, "The life of a key").
//!
//! What comes next is a function of what is there, [`next_step`]; [`Lifecycle::perform`] does it. So a
//! rotation that was killed anywhere goes on from anywhere, on another machine and in another language.
//! Nothing is promoted and nothing disabled before every process follows: that is what
//! [`Followed`](crate::Followed) proves.

mod processes;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod rotation;
mod steps;

pub use processes::{Process, Waiting};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use rotation::{Done, Lifecycle, Options, Unperformed};
pub use steps::{ColumnSituation, Situation, Step, Wanted, next_step};
