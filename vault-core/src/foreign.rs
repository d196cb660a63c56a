//! Formats that applications invented: read exactly, written exactly, until their values move to
//! tokens (docs/FORMAT.md, "Foreign formats").

mod face;
mod fernet;
mod flowfile;
mod social;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{Error, Result};
use crate::format::{self, Format};
use crate::key::{KeyId, KeyTextError, TextKey};
use crate::primitives::{self, Key32, Prk};
use crate::secret::SecretBytes;
use crate::token::HARD_LIMIT;

/// Most keys of single users that are kept for one key text.
const MAX_USER_KEYS: usize = 1_024;

/// A key text and what the formats derive from it.
///
/// Each derivation is done once and kept: the slow ones (PBKDF2, scrypt) for good, those of single
/// users up to a bound. All of it is wiped when the key is dropped. May be shared between threads.
pub struct ForeignKey {
    text: TextKey,
    fernet: OnceLock<Option<Key32>>,
    pbkdf2: OnceLock<Key32>,
    scrypt: OnceLock<Key32>,
    evp: OnceLock<primitives::EvpKey>,
    users: Mutex<VecDeque<(u64, Arc<Key32>)>>,
}

impl ForeignKey {
    /// Takes over a key text.
    #[must_use]
    pub fn new(text: TextKey) -> Self {
        Self {
            text,
            fernet: OnceLock::new(),
            pbkdf2: OnceLock::new(),
            scrypt: OnceLock::new(),
            evp: OnceLock::new(),
            users: Mutex::default(),
        }
    }

    /// The key's id, of type `f`.
    #[must_use]
    pub fn kid(&self) -> KeyId {
        self.text.kid()
    }

    /// Why nothing new is written under this key, if it is weak or published.
    #[must_use]
    pub fn flaw(&self) -> Option<KeyTextError> {
        self.text.flaw()
    }

    pub(crate) fn prk(&self) -> &Prk {
        self.text.prk()
    }

    pub(crate) fn exact_text(&self) -> &[u8] {
        self.text.text().expose_secret()
    }

    /// The text decoded as a Fernet key, if it is one.
    fn fernet(&self) -> Result<&Key32> {
        self.fernet
            .get_or_init(|| fernet::key(self.exact_text()))
            .as_ref()
            .ok_or(Error::Malformed { what: "key text for this format: it is not a Fernet key, base64 of 32 bytes" })
    }

    fn pbkdf2(&self) -> &Key32 {
        self.pbkdf2.get_or_init(|| primitives::pbkdf2(self.exact_text(), b"homomorphic_face_salt", 100_000))
    }

    fn scrypt(&self) -> &Key32 {
        self.scrypt.get_or_init(|| primitives::scrypt(self.exact_text(), b"salt"))
    }

    fn evp(&self) -> &primitives::EvpKey {
        self.evp.get_or_init(|| primitives::evp_bytes_to_key(self.exact_text()))
    }

    /// The key of one user.
    fn user(&self, uid: u64) -> Arc<Key32> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = users.iter().find(|(known, _)| *known == uid) {
            return Arc::clone(key);
        }
        let key = Arc::new(flowfile::user_key(self.exact_text(), uid));
        if users.len() >= MAX_USER_KEYS {
            users.pop_front();
        }
        users.push_back((uid, Arc::clone(&key)));
        key
    }
}

impl core::fmt::Debug for ForeignKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ForeignKey").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

/// Opens a value in a foreign format.
///
/// `tenant` is the decimal user id where the format needs one and the value does not carry it.
/// White space around a value is ignored; nothing else is.
///
/// # Errors
///
/// [`Error::TooLarge`]; [`Error::Malformed`] if the syntax does not fit, the key text is not of
/// the format's kind, or the tenant is no user id; [`Error::Corrupt`] for a wrong key or an
/// altered value, which no foreign format can tell apart; [`Error::Unsupported`] for formats that
/// are not foreign.
pub fn open(format: Format, key: &ForeignKey, tenant: Option<&str>, value: &[u8]) -> Result<SecretBytes> {
    // Two layers of base64 at most around the longest plaintext.
    if value.len() > 2 * HARD_LIMIT {
        return Err(Error::TooLarge { what: "value", limit: 2 * HARD_LIMIT });
    }
    if format.is_foreign() && !format.fits(value) {
        return Err(Error::Malformed { what: "value: the syntax of its format does not fit" });
    }
    match format {
        Format::FaceColumn => fernet::open(key.pbkdf2(), value),
        Format::FaceJson => face::open_json(key.pbkdf2(), value),
        Format::FaceJsonDouble => face::open_double(key.pbkdf2(), value),
        Format::Fernet | Format::FlowfileLegacyMaster => fernet::open(key.fernet()?, value),
        Format::FlowfileLegacyUser => {
            key.fernet()?;
            fernet::open(&key.user(user_id(tenant)?), value)
        }
        Format::FlowfileStore => flowfile::open_store(key.fernet()?, value),
        Format::FlowfileV1 => {
            key.fernet()?;
            let (uid, token) =
                format::flowfile_parts(value).ok_or(Error::Malformed { what: "value: not $ffsec$1$" })?;
            fernet::open(&key.user(uid), token)
        }
        Format::SocialCbcLegacy => social::open_cbc(key.evp(), value),
        Format::SocialGcm16 => social::open(key.scrypt(), value, 32),
        Format::SocialV1 => social::open(key.scrypt(), value.strip_prefix(b"v1:").unwrap_or_default(), 24),
        Format::Plaintext | Format::Vs1 => Err(Error::Unsupported { what: "format: it is not a foreign one" }),
    }
}

/// Writes a value in a foreign format.
///
/// # Errors
///
/// [`Error::TooLarge`]; [`Error::CannotSeal`] for a weak or published key and for formats that are
/// never written; [`Error::Malformed`] if the key text is not of the format's kind, the tenant is
/// no user id, or the plaintext is not the JSON that the format holds.
pub fn seal(format: Format, key: &ForeignKey, tenant: Option<&str>, plaintext: &[u8]) -> Result<String> {
    if plaintext.len() > HARD_LIMIT {
        return Err(Error::TooLarge { what: "secret", limit: HARD_LIMIT });
    }
    if key.flaw().is_some() {
        return Err(Error::CannotSeal { why: "the key is weak or published; promote another one" });
    }
    match format {
        Format::FaceColumn => fernet::seal(key.pbkdf2(), plaintext),
        Format::FaceJson => face::seal_json(key.pbkdf2(), plaintext),
        Format::FaceJsonDouble => face::seal_double(key.pbkdf2(), plaintext),
        Format::Fernet | Format::FlowfileLegacyMaster => fernet::seal(key.fernet()?, plaintext),
        Format::FlowfileLegacyUser => {
            key.fernet()?;
            fernet::seal(&key.user(user_id(tenant)?), plaintext)
        }
        Format::FlowfileStore => flowfile::seal_store(key.fernet()?, plaintext),
        Format::FlowfileV1 => {
            key.fernet()?;
            let uid = user_id(tenant)?;
            Ok(format!("$ffsec$1${uid}${}", fernet::seal(&key.user(uid), plaintext)?))
        }
        Format::SocialGcm16 => social::seal::<16>(key.scrypt(), plaintext),
        Format::SocialV1 => Ok(format!("v1:{}", social::seal::<12>(key.scrypt(), plaintext)?)),
        Format::Plaintext | Format::SocialCbcLegacy | Format::Vs1 => {
            Err(Error::CannotSeal { why: "nothing is ever written in this format here" })
        }
    }
}

/// The user id inside a `flowfile-v1` value: who shares a secret is not who owns it.
#[must_use]
pub fn owner(value: &[u8]) -> Option<u64> {
    format::flowfile_parts(value).map(|(uid, _)| uid)
}

/// Every format whose syntax fits, plain text aside.
#[must_use]
pub fn identify(value: &[u8]) -> Vec<Format> {
    Format::candidates(value)
}

fn user_id(tenant: Option<&str>) -> Result<u64> {
    tenant
        .and_then(|text| text.parse::<u64>().ok().filter(|uid| uid.to_string() == text))
        .ok_or(Error::Malformed { what: "tenant: this format needs a decimal user id" })
}

/// Whether `json` is one JSON value, and where asked an object.
fn check_json(json: &[u8], object: bool) -> Result<()> {
    // A reader that looks at the syntax only copies no part of the secret.
    let good = serde_json::from_slice::<serde::de::IgnoredAny>(json).is_ok()
        && (!object || json.trim_ascii().starts_with(b"{"));
    if good { Ok(()) } else { Err(Error::Malformed { what: "secret: it is not the JSON that its format holds" }) }
}
