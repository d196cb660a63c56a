//! The names of the rules by which secrets are found; what they say is in `resolver/preset.rs`.

use core::fmt;
use core::str::FromStr;

use crate::error::Error;

/// By whose rules a secret is found and read.
///
/// Every preset but [`Strict`](Self::Strict) reproduces what one application does today, its
/// mistakes included, so that nothing changes for it on the day that it moves.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Preset {
    /// The entry points of the official Docker images.
    DockerLibrary,
    /// The face recognition API: its variable and nothing else.
    Face,
    /// Flowfile's core.
    FlowfileCore,
    /// Flowfile's worker and notifications.
    FlowfileWorker,
    /// pydantic-settings, and so FingerFlow.
    Pydantic,
    /// Raqeem.
    Raqeem,
    /// social-publisher.
    SocialPublisher,
    /// The rule of this project.
    #[default]
    Strict,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 8] = [
        Self::DockerLibrary,
        Self::Face,
        Self::FlowfileCore,
        Self::FlowfileWorker,
        Self::Pydantic,
        Self::Raqeem,
        Self::SocialPublisher,
        Self::Strict,
    ];

    /// The name in `vault.toml` and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DockerLibrary => "docker-library",
            Self::Face => "face",
            Self::FlowfileCore => "flowfile-core",
            Self::FlowfileWorker => "flowfile-worker",
            Self::Pydantic => "pydantic",
            Self::Raqeem => "raqeem",
            Self::SocialPublisher => "social-publisher",
            Self::Strict => "strict",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == name).ok_or(Error::Unsupported {
            what: "preset; known are docker-library, face, flowfile-core, flowfile-worker, pydantic, raqeem, social-publisher, strict",
        })
    }
}
