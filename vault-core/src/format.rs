//! The names of the formats that a value may be in, and the syntax that tells them apart.

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod sealed;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::error::{Error, Result};
use crate::key::Trim;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::token;

/// A format of stored values: this project's own, or one that an application invented.
///
/// Formats are declared, never guessed (docs/FORMAT.md, "Legacy formats").
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Format {
    /// Fernet token as ASCII bytes under a PBKDF2 key.
    FaceColumn,
    /// As [`FaceColumn`](Self::FaceColumn), with JSON inside.
    FaceJson,
    /// As [`FaceJson`](Self::FaceJson), encrypted again: a JSON string that holds Python's
    /// notation of the inner token.
    FaceJsonDouble,
    /// Fernet token; the key text is a Fernet key.
    Fernet,
    /// Fernet token under Flowfile's master key itself.
    FlowfileLegacyMaster,
    /// Fernet token under a key that Flowfile derived for a user.
    FlowfileLegacyUser,
    /// Fernet token over one JSON object: Flowfile's store of a desktop user.
    FlowfileStore,
    /// `$ffsec$1$<user id>$<Fernet token>`.
    FlowfileV1,
    /// No encryption. Read only by a migration.
    Plaintext,
    /// AES-256-CBC in hex, without authentication. Read only.
    SocialCbcLegacy,
    /// AES-256-GCM in hex with a 16-byte nonce.
    SocialGcm16,
    /// `v1:<nonce>:<tag>:<ciphertext>`, AES-256-GCM in hex.
    SocialV1,
    /// This project's token.
    Vs1,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 13] = [
        Self::FaceColumn,
        Self::FaceJson,
        Self::FaceJsonDouble,
        Self::Fernet,
        Self::FlowfileLegacyMaster,
        Self::FlowfileLegacyUser,
        Self::FlowfileStore,
        Self::FlowfileV1,
        Self::Plaintext,
        Self::SocialCbcLegacy,
        Self::SocialGcm16,
        Self::SocialV1,
        Self::Vs1,
    ];

    /// The name in configuration and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FaceColumn => "face-column",
            Self::FaceJson => "face-json",
            Self::FaceJsonDouble => "face-json-double",
            Self::Fernet => "fernet",
            Self::FlowfileLegacyMaster => "flowfile-legacy-master",
            Self::FlowfileLegacyUser => "flowfile-legacy-user",
            Self::FlowfileStore => "flowfile-store",
            Self::FlowfileV1 => "flowfile-v1",
            Self::Plaintext => "plaintext",
            Self::SocialCbcLegacy => "social-cbc-legacy",
            Self::SocialGcm16 => "social-gcm16",
            Self::SocialV1 => "social-v1",
            Self::Vs1 => "vs1",
        }
    }

    /// Whether an application invented it: its keys are key texts.
    #[must_use]
    pub fn is_legacy(self) -> bool {
        !matches!(self, Self::Plaintext | Self::Vs1)
    }

    /// Whether values are ever written in it.
    #[must_use]
    pub fn writable(self) -> bool {
        !matches!(self, Self::Plaintext | Self::SocialCbcLegacy)
    }

    /// Whether a wrong key or an altered value is always noticed.
    #[must_use]
    pub fn authenticated(self) -> bool {
        !matches!(self, Self::Plaintext | Self::SocialCbcLegacy)
    }

    /// What its application removes from a configured key text.
    #[must_use]
    pub fn trim(self) -> Trim {
        match self {
            Self::Fernet
            | Self::FlowfileLegacyMaster
            | Self::FlowfileLegacyUser
            | Self::FlowfileStore
            | Self::FlowfileV1 => Trim::Python,
            _ => Trim::LineBreak,
        }
    }

    /// Whether the syntax fits. Bare Fernet tokens fit several formats; which of them a value is
    /// in, a declaration and a key tell.
    #[must_use]
    pub fn fits(self, value: &[u8]) -> bool {
        match self {
            Self::FaceColumn
            | Self::FaceJson
            | Self::FaceJsonDouble
            | Self::Fernet
            | Self::FlowfileLegacyMaster
            | Self::FlowfileLegacyUser
            | Self::FlowfileStore => fernet_bytes(value).is_some(),
            Self::FlowfileV1 => flowfile_parts(value).is_some(),
            Self::Plaintext => core::str::from_utf8(value).is_ok(),
            Self::SocialCbcLegacy => {
                !value.is_empty() && value.len().is_multiple_of(32) && value.iter().all(is_lower_hex)
            }
            Self::SocialGcm16 => social_parts(value, 32).is_some(),
            Self::SocialV1 => value.strip_prefix(b"v1:").is_some_and(|rest| social_parts(rest, 24).is_some()),
            Self::Vs1 => value.starts_with(b"vs1."),
        }
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    /// Whether the syntax fits, or would fit if one byte were another: a damaged value must not go
    /// for plain text.
    pub(crate) fn resembles(self, value: &[u8]) -> bool {
        let differs = |at: usize, byte: u8| value.get(at) != Some(&byte);
        self.fits(value)
            || match self {
                Self::FaceColumn
                | Self::FaceJson
                | Self::FaceJsonDouble
                | Self::Fernet
                | Self::FlowfileLegacyMaster
                | Self::FlowfileLegacyUser
                | Self::FlowfileStore => {
                    let text = value.trim_ascii();
                    // Version 0x80, and times before the year 2106.
                    text.len() >= SHORTEST_FERNET
                        && text.iter().zip(b"gAAAAA").filter(|(is, must)| is != must).count() <= 1
                }
                Self::FlowfileV1 => {
                    let mut parts = value.rsplitn(2, |byte| *byte == b'$');
                    let token = parts.next().unwrap_or_default();
                    value.starts_with(b"$ffsec$") || parts.next().is_some() && inner_fernet_bytes(token).is_some()
                }
                Self::Plaintext => false,
                Self::SocialCbcLegacy => {
                    value.len().is_multiple_of(32) && value.iter().filter(|byte| !is_lower_hex(byte)).count() == 1
                }
                Self::SocialGcm16 => {
                    let odd = value.iter().enumerate().filter(|(at, byte)| match at {
                        32 | 65 => differs(*at, b':'),
                        _ => !byte.is_ascii_hexdigit(),
                    });
                    value.len() >= 66 && value.len().is_multiple_of(2) && odd.count() <= 1
                }
                Self::SocialV1 => {
                    value.starts_with(b"v1:") || value.get(3..).is_some_and(|rest| social_parts(rest, 24).is_some())
                }
                Self::Vs1 => {
                    let version = |rest: &[u8]| {
                        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                        digits > 0 && rest.get(digits) == Some(&b'.')
                    };
                    [b"vs", b"vk"].iter().any(|head| value.strip_prefix(*head).is_some_and(version))
                        || token::kid_of(value).is_some() && !differs(token::PREFIX - 1, b'.')
                }
            }
    }
}

impl core::fmt::Display for Format {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}

impl core::str::FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == name)
            .ok_or(Error::Unsupported { what: "format: no format has this name" })
    }
}

/// The bytes of a Fernet token that stands alone: within ASCII white space, with correct padding
/// or none.
pub(crate) fn fernet_bytes(value: &[u8]) -> Option<Vec<u8>> {
    let text = value.trim_ascii();
    if text.contains(&b'=') && !text.len().is_multiple_of(4) {
        return None;
    }
    decode_fernet(text)
}

/// The bytes of a Fernet token inside another format: in the one spelling that Fernet writes.
pub(crate) fn inner_fernet_bytes(token: &[u8]) -> Option<Vec<u8>> {
    if token.len().is_multiple_of(4) { decode_fernet(token) } else { None }
}

/// Canonical base64url of version 0x80 and a possible length.
fn decode_fernet(text: &[u8]) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, CONFIG);

    let bytes = ENGINE.decode(text).ok()?;
    // Version, time, initialisation vector, at least one block, MAC.
    let blocks = bytes.len().checked_sub(1 + 8 + 16 + 32)?;
    (bytes.first() == Some(&0x80) && blocks >= 16 && blocks % 16 == 0).then_some(bytes)
}

/// User id and bytes of the Fernet token of a `$ffsec$1$` value, in the one spelling that Flowfile
/// writes. Its own reader takes more: `7_0` is user 70 there.
pub(crate) fn flowfile_parts(value: &[u8]) -> Option<(u64, Vec<u8>)> {
    let rest = value.strip_prefix(b"$ffsec$1$")?;
    let at = rest.iter().position(|byte| *byte == b'$')?;
    let (digits, token) = (rest.get(..at)?, rest.get(at + 1..)?);
    let digits = core::str::from_utf8(digits).ok()?;
    let uid = digits.parse::<u64>().ok()?;
    if uid.to_string() != digits {
        return None;
    }
    Some((uid, inner_fernet_bytes(token)?))
}

/// Nonce, tag and ciphertext in hex, of either case as the application reads it.
pub(crate) fn social_parts(value: &[u8], nonce: usize) -> Option<[&[u8]; 3]> {
    let mut parts = value.split(|byte| *byte == b':');
    let found = [parts.next()?, parts.next()?, parts.next()?];
    let [iv, tag, text] = found;
    let good = parts.next().is_none()
        && iv.len() == nonce
        && tag.len() == 32
        && text.len() % 2 == 0
        && found.iter().all(|part| part.iter().all(u8::is_ascii_hexdigit));
    good.then_some(found)
}

fn is_lower_hex(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Base64 of version, time, initialisation vector, one block and MAC, without padding.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
const SHORTEST_FERNET: usize = 98;
