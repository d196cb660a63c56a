//! Why a command ends without having done what it was asked.

use vault_core::{Error, Kind};

/// The exit status of a command that ended as meant, or why it did not.
pub(crate) type Outcome = Result<u8, Failure>;

/// An error for the person who must act.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, message: message.into(), hint: None }
    }

    pub(crate) fn aborted() -> Self {
        Self { kind: Kind::Aborted, message: "not confirmed; nothing was changed".to_owned(), hint: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error of writing to standard output.
    pub(crate) fn stdout(error: &std::io::Error) -> Self {
        Self { kind: Kind::Io, message: format!("write to standard output: {error}"), hint: None }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { kind: error.kind(), message: error.to_string(), hint: error.hint().map(str::to_owned) }
    }
}
