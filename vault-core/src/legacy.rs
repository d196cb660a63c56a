//! Formats that applications invented: read exactly, written exactly, until their values move to
//! tokens (docs/FORMAT.md, "Legacy formats").

pub(crate) mod ciphers;
mod face;
mod fernet;
mod flowfile;
mod nonce;
mod social;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, TryLockError};

use arc_swap::ArcSwapOption;

use crate::error::{Error, Result};
use crate::file;
use crate::format::{self, Format};
use crate::key::{KeyId, KeyTextError, TextKey};
use crate::keyring::sealed::Sealed;
use crate::keyring::{Keyring, KeyringKind, Material, state_mac};
use crate::primitives::{Key32, Prk, on_wiped_stack, wipe_stack_at_thread_end};
use crate::secret::SecretBytes;
use crate::token::HARD_LIMIT;

use self::ciphers::EvpKey;
use self::fernet::Cipher;
use self::nonce::Nonces;

/// Longest value that is opened, and longest that is written.
pub const MAX_VALUE: usize = HARD_LIMIT;

/// A key text and what the formats derive from it.
///
/// Each derivation is done at its first use and kept: the slow ones (PBKDF2, scrypt) for good,
/// those of single users up to a bound. All of it is wiped when the key is dropped. May be shared
/// between threads.
pub struct LegacyKey {
    // In boxes, so that moving the key leaves no copies behind.
    own: Made<Option<Cipher>>,
    face: Made<Cipher>,
    social: Made<Key32>,
    social_legacy: Made<EvpKey>,
    nonces: Made<Nonces>,
    users: Mutex<VecDeque<(u64, Arc<Cipher>)>>,
    // Dropped last, as it wipes the stack.
    text: TextKey,
}

impl LegacyKey {
    /// Takes over a key text.
    #[must_use]
    pub fn new(text: TextKey) -> Self {
        Self {
            own: Made::default(),
            face: Made::default(),
            social: Made::default(),
            social_legacy: Made::default(),
            nonces: Made::default(),
            users: Mutex::default(),
            text,
        }
    }

    /// The one key text in a file, read as the application of `format` reads it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if there is no such file or it cannot be read, [`Error::Oversized`],
    /// [`Error::KeyMalformed`] if it holds no key text.
    pub fn from_key_file(path: impl AsRef<Path>, format: Format) -> Result<Self> {
        let path = path.as_ref();
        let content = file::read(path, file::MAX_KEY_FILE)?;
        TextKey::parse(content.expose_secret(), format.trim())
            .map(Self::new)
            .map_err(|reason| Error::KeyMalformed { place: path.display().to_string(), reason })
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

    /// The text decoded, if it is a Fernet key.
    fn own<T>(&self, work: impl FnOnce(&Cipher) -> Result<T>) -> Result<T> {
        let own = self.own.get(|| fernet::key(self.exact_text()).map(Cipher::new));
        work(Option::as_ref(&own).ok_or(Error::Malformed { what: NOT_A_FERNET_KEY })?)
    }

    fn face(&self) -> Arc<Cipher> {
        self.face.get(|| Cipher::new(face::key(self.exact_text())))
    }

    /// The key of one user. Flowfile derives it from any text but starts only with a Fernet key.
    fn user(&self, uid: u64) -> Result<Arc<Cipher>> {
        self.own(|_| Ok(()))?;
        let mut users = match self.users.try_lock() {
            Ok(users) => Some(users),
            Err(TryLockError::Poisoned(users)) => Some(users.into_inner()),
            // Never waited for: after a fork, nobody may be there to give it back.
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some((_, cipher)) = users.iter().flat_map(|users| users.iter()).find(|(known, _)| *known == uid) {
            return Ok(Arc::clone(cipher));
        }
        let cipher = Arc::new(on_wiped_stack(|| Cipher::new(flowfile::user_key(self.exact_text(), uid))));
        if let Some(users) = &mut users {
            if users.len() >= MAX_USERS {
                users.pop_front();
            }
            users.push_back((uid, Arc::clone(&cipher)));
        }
        Ok(cipher)
    }

    fn social(&self) -> Arc<Key32> {
        self.social.get(|| social::key(self.exact_text()))
    }

    fn social_legacy(&self) -> Arc<EvpKey> {
        self.social_legacy.get(|| social::legacy_key(self.exact_text()))
    }

    fn nonces(&self) -> Arc<Nonces> {
        self.nonces.get(|| Nonces::of(self.prk()))
    }
}

/// What is derived when it is first needed, and kept. Threads that need it at the same time each derive
/// it: one that waits for another would wait for ever in the child of a fork.
struct Made<T>(ArcSwapOption<T>);

impl<T> Made<T> {
    fn get(&self, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(made) = self.0.load_full() {
            return made;
        }
        let made = on_wiped_stack(|| Arc::new(make()));
        self.0.store(Some(Arc::clone(&made)));
        made
    }
}

impl<T> Default for Made<T> {
    fn default() -> Self {
        Self(ArcSwapOption::empty())
    }
}

impl core::fmt::Debug for LegacyKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("LegacyKey").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

impl Sealed for LegacyKey {
    const KIND: KeyringKind = KeyringKind::Text;

    fn mac(&self, canonical: &[u8]) -> [u8; 32] {
        state_mac(canonical, self.kid(), self.prk())
    }

    fn exact_text(&self) -> &[u8] {
        self.exact_text()
    }
}

impl Material for LegacyKey {
    fn kid(&self) -> KeyId {
        self.kid()
    }

    fn flaw(&self) -> Option<KeyTextError> {
        self.flaw()
    }
}

/// Opens a value in a legacy format.
///
/// `tenant` is the decimal user id where the format needs one and the value does not carry it.
/// White space around a value that is a bare Fernet token is ignored; every other format is read
/// in the spelling that its application writes, hex digits of either case aside.
///
/// # Errors
///
/// [`Error::TooLarge`]; [`Error::Malformed`] if the syntax does not fit, the key text is not of
/// the format's kind, the tenant is no user id, or what was opened is not the JSON that the format
/// holds; [`Error::Corrupt`] for a wrong key or an altered value, which no legacy format can tell
/// apart; [`Error::Unsupported`] for formats that are not legacy.
pub fn open(format: Format, key: &LegacyKey, tenant: Option<&str>, value: &[u8]) -> Result<SecretBytes> {
    if !format.is_legacy() {
        return Err(Error::Unsupported { what: "format: it is not a legacy one" });
    }
    if value.len() > MAX_VALUE {
        return Err(Error::TooLarge { what: value_name(format), limit: MAX_VALUE });
    }
    // Before any key is derived, some of which are slow.
    if !format.fits(value) {
        return Err(Error::Malformed { what: "value: the syntax of its format does not fit" });
    }
    wipe_stack_at_thread_end();
    let opened = match format {
        Format::FaceColumn => key.face().open(&bare(value)?),
        Format::FaceJson => face::open_json(&key.face(), &bare(value)?),
        Format::FaceJsonDouble => face::open_double(&key.face(), &bare(value)?),
        Format::Fernet | Format::FlowfileLegacyMaster => key.own(|own| own.open(&bare(value)?)),
        Format::FlowfileLegacyUser => key.user(user_id(tenant)?)?.open(&bare(value)?),
        Format::FlowfileStore => key.own(|own| flowfile::open_store(own, &bare(value)?)),
        Format::FlowfileV1 => {
            let (uid, token) = format::flowfile_parts(value).ok_or(Error::Malformed { what: "flowfile-v1 value" })?;
            key.user(uid)?.open(&token)
        }
        Format::SocialCbcLegacy => social::open_legacy(&key.social_legacy(), value),
        Format::SocialGcm16 => social::open(&key.social(), value, 16),
        Format::SocialV1 => social::open(&key.social(), value.strip_prefix(b"v1:").unwrap_or_default(), 12),
        Format::Plaintext | Format::Vs1 => Err(Error::Unsupported { what: "format: it is not a legacy one" }),
    };
    opened.map_err(|error| match error {
        Error::Corrupt { .. } => Error::Corrupt { what: value_name(format) },
        other => other,
    })
}

/// Writes a value in a legacy format.
///
/// `tenant` is the decimal user id where the format has one key for each user.
///
/// # Errors
///
/// [`Error::TooLarge`] if the value would be longer than [`MAX_VALUE`]; [`Error::CannotSeal`] for a
/// weak or published key, for a key text that is not of the format's kind, and for formats that are
/// never written; [`Error::Malformed`] if the tenant is no user id, or the plaintext is not the JSON
/// that the format holds.
pub fn seal(format: Format, key: &LegacyKey, tenant: Option<&str>, plaintext: &[u8]) -> Result<String> {
    if !format.is_legacy() || !format.writable() {
        return Err(Error::CannotSeal { why: "nothing is ever written in this format here" });
    }
    if plaintext.len() > MAX_VALUE {
        return Err(Error::TooLarge { what: "secret", limit: MAX_VALUE });
    }
    if key.flaw().is_some() {
        return Err(Error::CannotSeal { why: "the key is weak or published; promote another one" });
    }
    if needs_fernet_key(format) && key.own(|_| Ok(())).is_err() {
        return Err(Error::CannotSeal { why: NOT_A_FERNET_KEY });
    }
    wipe_stack_at_thread_end();
    let nonces = &key.nonces();
    let value = match format {
        Format::FaceColumn => key.face().seal(nonces, plaintext)?,
        Format::FaceJson => face::seal_json(&key.face(), nonces, plaintext)?,
        Format::FaceJsonDouble => face::seal_double(&key.face(), nonces, plaintext)?,
        Format::Fernet | Format::FlowfileLegacyMaster => key.own(|own| own.seal(nonces, plaintext))?,
        Format::FlowfileLegacyUser => key.user(user_id(tenant)?)?.seal(nonces, plaintext)?,
        Format::FlowfileStore => key.own(|own| flowfile::seal_store(own, nonces, plaintext))?,
        Format::FlowfileV1 => {
            let uid = user_id(tenant)?;
            format!("$ffsec$1${uid}${}", key.user(uid)?.seal(nonces, plaintext)?)
        }
        Format::SocialGcm16 => social::seal::<16>(&key.social(), nonces, plaintext)?,
        Format::SocialV1 => format!("v1:{}", social::seal::<12>(&key.social(), nonces, plaintext)?),
        Format::Plaintext | Format::SocialCbcLegacy | Format::Vs1 => {
            return Err(Error::CannotSeal { why: "nothing is ever written in this format here" });
        }
    };
    // A value that `open` refuses would be lost.
    if value.len() > MAX_VALUE {
        return Err(Error::TooLarge { what: value_name(format), limit: MAX_VALUE });
    }
    Ok(value)
}

/// Opens a value whose format names no key: under each key that may open, the primary one first.
///
/// # Errors
///
/// As [`open`], for the last key that was tried; [`Error::KeyMissing`] if no key is loaded that may
/// open; [`Error::Corrupt`] where a format without authentication gives a plausible secret under two
/// keys.
pub fn open_under(
    keyring: &Keyring<LegacyKey>,
    format: Format,
    tenant: Option<&str>,
    value: &[u8],
) -> Result<SecretBytes> {
    let mut failure = Error::KeyMissing { place: "no key of the keyring may open".to_owned() };
    let mut found = None;
    for key in keyring.opening_keys() {
        match open(format, key, tenant, value) {
            Ok(secret) if format.authenticated() => return Ok(secret),
            Ok(_) if found.is_some() => {
                return Err(Error::Corrupt { what: "value, which gives a plausible secret under two keys," });
            }
            Ok(secret) => found = Some(secret),
            Err(error) => failure = error,
        }
    }
    found.ok_or(failure)
}

/// The user id inside a `flowfile-v1` value: who shares a secret is not who owns it.
#[must_use]
pub fn owner(value: &[u8]) -> Option<u64> {
    format::flowfile_parts(value).map(|(uid, _)| uid)
}

/// Every format whose syntax fits, plain text aside.
///
/// Several only for a bare Fernet token: `fernet`, which is all that the syntax tells, and then the
/// formats that it may be a value of.
#[must_use]
pub fn identify(value: &[u8]) -> Vec<Format> {
    let mut found: Vec<_> =
        Format::ALL.into_iter().filter(|format| *format != Format::Plaintext && format.fits(value)).collect();
    found.sort_by_key(|format| *format != Format::Fernet);
    found
}

fn user_id(tenant: Option<&str>) -> Result<u64> {
    tenant
        .and_then(|text| text.parse::<u64>().ok().filter(|uid| uid.to_string() == text))
        .ok_or(Error::Malformed { what: "tenant: this format needs a decimal user id" })
}

fn bare(value: &[u8]) -> Result<Vec<u8>> {
    format::fernet_bytes(value).ok_or(Error::Malformed { what: "value: not a Fernet token" })
}

fn needs_fernet_key(format: Format) -> bool {
    matches!(
        format,
        Format::Fernet
            | Format::FlowfileLegacyMaster
            | Format::FlowfileLegacyUser
            | Format::FlowfileStore
            | Format::FlowfileV1
    )
}

/// What an error calls a value.
fn value_name(format: Format) -> &'static str {
    match format {
        Format::FaceColumn => "face-column value",
        Format::FaceJson => "face-json value",
        Format::FaceJsonDouble => "face-json-double value",
        Format::Fernet => "fernet value",
        Format::FlowfileLegacyMaster => "flowfile-legacy-master value",
        Format::FlowfileLegacyUser => "flowfile-legacy-user value",
        Format::FlowfileStore => "flowfile-store value",
        Format::FlowfileV1 => "flowfile-v1 value",
        Format::Plaintext => "plaintext value",
        Format::SocialCbcLegacy => "social-cbc-legacy value",
        Format::SocialGcm16 => "social-gcm16 value",
        Format::SocialV1 => "social-v1 value",
        Format::Vs1 => "vs1 value",
    }
}

/// Whether `text` is one JSON value. Only the syntax is read, so that no part of a secret is copied.
fn is_json(text: &[u8]) -> bool {
    core::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

const NOT_A_FERNET_KEY: &str = "key text for this format: it is not a Fernet key, base64 of 32 bytes";

/// Most users whose keys are kept for one key text.
const MAX_USERS: usize = 1_024;

#[cfg(test)]
mod tests;
