//! The text of tokens and of wrapped keys, to fields and back. No keys here (docs/FORMAT.md,
//! "Layout").

use base64::Engine as _;
use base64::engine::Simd;
use base64::engine::general_purpose::NO_PAD;

use crate::error::{Error, Result};
use crate::key::KeyId;
use crate::primitives::TAG;
use crate::time::Timestamp;

/// Longest plaintext unless a sealer is told otherwise, in bytes.
pub const DEFAULT_LIMIT: usize = 1 << 20;
/// Longest plaintext that any sealer can be told to accept, in bytes.
pub const HARD_LIMIT: usize = 16 << 20;

/// The only payload suite: AES-256-GCM under a single-use key, HMAC commitment.
pub(crate) const SUITE: u8 = 0x01;
/// Flag bit 0: the plaintext is padded to a multiple of [`PAD_BLOCK`].
pub(crate) const PADDED: u8 = 0x01;
/// Padded plaintexts are multiples of this.
pub(crate) const PAD_BLOCK: usize = 32;
/// Suite, flags and time.
pub(crate) const HEADER: usize = 6;
/// Header and commitment.
pub(crate) const PREAMBLE: usize = HEADER + 32;

/// How many characters of a token or wrapped key tell its kind and its key: `vs1.`, the key id, a dot.
pub(crate) const PREFIX: usize = 22;
/// Where the key id is in it.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
const KID: core::ops::Range<usize> = 4..21;
/// The same for SQL, which counts from 1: where the key id begins, and its length.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) const KID_IN_SQL: &str = "5, 17";
/// What tokens and wrapped keys begin with.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) const MAGICS: [&str; 2] = ["vs1.", "vk1."];

const MAGIC: &str = "vs1";
const WRAPPED_MAGIC: &str = "vk1";
const WRAPPED_KEY_LENGTH: usize = 161;
const WRAPPED_BODY: usize = 55;

/// A sealed secret: `vs1.<key id>.<wrapped data key>.<body>`.
///
/// A value of this type has the right form; whether it is authentic only a key can tell. The text
/// comes from [`Display`](core::fmt::Display) and is canonical: one token has one text.
///
/// ```
/// # fn main() -> vault_core::Result<()> {
/// # let text = "vs1.k45z7zlqvrslf5k3v.JEVndnTWw2meLKvCmbMFQrjmpI8iSHt9r6I6rZ6T4qGhp83zhGdhIHseXNsc7eQN.AQBo53gAIE2watOXIXCf6kG_hw7ZjHyJ7A0MWTMOcggWDFyzOEhQAs_Y5oO1x9NAflP-blFArIUHDiGQOCWHiTWe4GwXGmkzEBXrrOhMdAfCzA";
/// let token: vault_core::Token = text.parse()?;
/// assert_eq!(token.kid().as_str(), "k45z7zlqvrslf5k3v");
/// assert_eq!(token.to_string(), text);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Token {
    kid: KeyId,
    wrapped: [u8; 48],
    body: Vec<u8>,
}

impl Token {
    /// Reads a token whose plaintext may have up to `limit` bytes, at most [`HARD_LIMIT`].
    ///
    /// Nothing is trimmed. [`FromStr`](core::str::FromStr) is the same with [`DEFAULT_LIMIT`].
    ///
    /// # Errors
    ///
    /// In this order: [`Error::TooLarge`]; [`Error::Unsupported`] for another version of the
    /// format; [`Error::Malformed`]; then [`Error::Unsupported`] for a key type, suite or flag
    /// that is not known.
    pub fn parse(text: &str, limit: usize) -> Result<Self> {
        let limit = limit.min(HARD_LIMIT);
        if text.len() > 87 + (4 * (86 + limit)).div_ceil(3) {
            return Err(Error::TooLarge { what: "token", limit });
        }
        let (kid, wrapped, body) = match usual(text) {
            Some((kid, wrapped, body)) => (kid, Some(wrapped), body),
            None => {
                let [kid, wrapped, body] = segments(text, MAGIC, "vs")?;
                (KeyId::parse(kid)?, decode(wrapped)?.try_into().ok(), decode(body)?)
            }
        };
        if !matches!(kid.letter(), 'k' | 't') {
            return Err(Error::Unsupported { what: "key type of the token" });
        }
        let Some(wrapped) = wrapped else {
            return Err(Error::Malformed { what: "token: its wrapped key is not 48 bytes" });
        };
        let (Some([suite, flags]), Some(payload)) = (body.first_chunk(), body.len().checked_sub(PREAMBLE + TAG)) else {
            return Err(Error::Malformed { what: "token: its body is cut short" });
        };
        if *suite != SUITE {
            return Err(Error::Unsupported { what: "payload suite of the token" });
        }
        if flags & !PADDED != 0 {
            return Err(Error::Unsupported { what: "flags of the token" });
        }
        if flags & PADDED != 0 && (payload == 0 || payload % PAD_BLOCK != 0) {
            return Err(Error::Malformed { what: "token: its padded payload has a wrong length" });
        }
        Ok(Self { kid, wrapped, body })
    }

    pub(crate) fn from_parts(kid: KeyId, wrapped: [u8; 48], body: Vec<u8>) -> Self {
        Self { kid, wrapped, body }
    }

    /// The master key that the token needs.
    #[must_use]
    pub fn kid(&self) -> KeyId {
        self.kid
    }

    /// The text, as [`Display`](core::fmt::Display) writes it.
    #[must_use]
    pub fn text(&self) -> String {
        encode(MAGIC, self.kid, &self.wrapped, &self.body)
    }

    /// What the token tells without a key. None of it is authenticated yet.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        Inspection {
            kid: self.kid,
            sealed_at: Timestamp(u64::from(self.sealed_at())),
            padded: self.padded(),
            payload: self.payload().0.len(),
        }
    }

    /// Suite, flags and time.
    pub(crate) fn header(&self) -> &[u8] {
        self.body.get(..HEADER).unwrap_or_default()
    }

    pub(crate) fn commitment(&self) -> &[u8] {
        self.body.get(HEADER..PREAMBLE).unwrap_or_default()
    }

    /// Header and commitment.
    pub(crate) fn preamble(&self) -> &[u8] {
        self.body.get(..PREAMBLE).unwrap_or_default()
    }

    /// Ciphertext and its tag.
    pub(crate) fn payload(&self) -> (&[u8], &[u8; TAG]) {
        self.body.get(PREAMBLE..).and_then(<[u8]>::split_last_chunk).unwrap_or((&[], &[0; TAG]))
    }

    pub(crate) fn wrapped(&self) -> &[u8; 48] {
        &self.wrapped
    }

    pub(crate) fn padded(&self) -> bool {
        self.body.get(1).is_some_and(|flags| flags & PADDED != 0)
    }

    /// The same body under another key.
    pub(crate) fn with_wrap(&self, kid: KeyId, wrapped: [u8; 48]) -> Self {
        Self { kid, wrapped, body: self.body.clone() }
    }

    fn sealed_at(&self) -> u32 {
        let bytes = self.body.get(2..HEADER).and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(bytes.unwrap_or_default())
    }
}

impl core::str::FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text, DEFAULT_LIMIT)
    }
}

impl core::fmt::Display for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.text())
    }
}

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Token").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// What a token tells without a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Inspection {
    /// The key that it needs.
    pub kid: KeyId,
    /// When it was sealed, by the sealer's clock, in whole seconds up to the year 2106.
    pub sealed_at: Timestamp,
    /// Whether the plaintext was padded to hide its length.
    pub padded: bool,
    /// Bytes of plaintext, padding included.
    pub payload: usize,
}

/// A key wrapped under another: `vk1.<key id of the wrapping key>.<wrapped key>.<body>`, 161
/// characters.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct WrappedKey {
    kid: KeyId,
    wrapped: [u8; 48],
    body: [u8; WRAPPED_BODY],
    inner: KeyId,
}

impl WrappedKey {
    /// The wrapping key.
    #[must_use]
    pub fn kid(&self) -> KeyId {
        self.kid
    }

    /// The key that is wrapped.
    #[must_use]
    pub fn inner(&self) -> KeyId {
        self.inner
    }

    pub(crate) fn from_parts(kid: KeyId, wrapped: [u8; 48], body: [u8; WRAPPED_BODY], inner: KeyId) -> Self {
        Self { kid, wrapped, body, inner }
    }

    pub(crate) fn body_of(created: u32, inner: KeyId, context_hash: &[u8; 32]) -> [u8; WRAPPED_BODY] {
        let mut body = [0; WRAPPED_BODY];
        let parts = [&[SUITE, 0][..], &created.to_be_bytes(), inner.as_str().as_bytes(), context_hash];
        for (place, byte) in body.iter_mut().zip(parts.into_iter().flatten()) {
            *place = *byte;
        }
        body
    }

    pub(crate) fn wrapped(&self) -> &[u8; 48] {
        &self.wrapped
    }

    pub(crate) fn body(&self) -> &[u8; WRAPPED_BODY] {
        &self.body
    }

    pub(crate) fn context_hash(&self) -> &[u8] {
        self.body.get(WRAPPED_BODY - 32..).unwrap_or_default()
    }

    /// The same body under another key.
    pub(crate) fn with_wrap(&self, kid: KeyId, wrapped: [u8; 48]) -> Self {
        Self { kid, wrapped, ..self.clone() }
    }
}

impl core::str::FromStr for WrappedKey {
    type Err = Error;

    /// Reads a wrapped key, with the checks and errors of [`Token::parse`].
    fn from_str(text: &str) -> Result<Self> {
        if text.len() > WRAPPED_KEY_LENGTH {
            return Err(Error::TooLarge { what: "wrapped key", limit: WRAPPED_KEY_LENGTH });
        }
        let [kid, wrapped, body] = segments(text, WRAPPED_MAGIC, "vk")?;
        let kid = KeyId::parse(kid)?;
        let wrapped = decode(wrapped)?;
        let body = decode(body)?;
        if kid.letter() != 'k' {
            return Err(Error::Unsupported { what: "type of the wrapping key" });
        }
        let wrapped =
            wrapped.try_into().map_err(|_| Error::Malformed { what: "wrapped key: its key is not 48 bytes" })?;
        let body: [u8; WRAPPED_BODY] =
            body.try_into().map_err(|_| Error::Malformed { what: "wrapped key: its body is not 55 bytes" })?;
        if body.first_chunk() != Some(&[SUITE, 0]) {
            return Err(Error::Unsupported { what: "suite or flags of the wrapped key" });
        }
        let inner = body
            .get(HEADER..HEADER + 17)
            .and_then(KeyId::from_bytes)
            .ok_or(Error::Malformed { what: "wrapped key: the key id in its body has another form" })?;
        if !matches!(inner.letter(), 'k' | 't') {
            return Err(Error::Unsupported { what: "type of the wrapped key" });
        }
        Ok(Self { kid, wrapped, body, inner })
    }
}

impl core::fmt::Display for WrappedKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&encode(WRAPPED_MAGIC, self.kid, &self.wrapped, &self.body))
    }
}

impl core::fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WrappedKey").field("kid", &self.kid).field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// The key that a value names, if it begins as a token or wrapped key does.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn kid_of(value: &[u8]) -> Option<KeyId> {
    KeyId::from_bytes(value.get(KID)?)
}

impl KeyId {
    /// What the tokens and wrapped keys under this key begin with.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn prefixes(&self) -> [String; 2] {
        MAGICS.map(|magic| format!("{magic}{self}."))
    }
}

/// The parts of a text whose segments have the right lengths, alphabets and encodings. Of any other, the
/// long way says what is wrong with it.
fn usual(text: &str) -> Option<(KeyId, [u8; 48], Vec<u8>)> {
    let (head, rest) = text.as_bytes().split_at_checked(PREFIX)?;
    let (wrap, body) = rest.split_at_checked(64)?;
    let kid = KeyId::from_bytes(head.strip_prefix(b"vs1.")?.strip_suffix(b".")?)?;
    let body = body.strip_prefix(b".")?;
    let mut wrapped = [0; 48];
    let mut decoded = vec![0; base64::decoded_len_estimate(body.len())];
    BASE64.with(|engine| {
        (engine.decode_slice(wrap, &mut wrapped).ok()? == wrapped.len()).then_some(())?;
        let length = engine.decode_slice(body, &mut decoded).ok()?;
        decoded.truncate(length);
        Some((kid, wrapped, decoded))
    })
}

/// The three segments behind the magic.
fn segments<'a>(text: &'a str, magic: &str, family: &str) -> Result<[&'a str; 3]> {
    // The last part is as long as the secret; that it has no dot, its alphabet says.
    let mut parts = text.splitn(4, '.');
    let first = parts.next().unwrap_or_default();
    if first != magic {
        let version = first.strip_prefix(family).unwrap_or_default();
        return Err(if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) {
            Error::Unsupported { what: "version of the token format" }
        } else {
            Error::Malformed { what: "token: it begins with neither vs1. nor vk1. as expected here" }
        });
    }
    match (parts.next(), parts.next(), parts.next()) {
        (Some(kid), Some(wrapped), Some(body)) => Ok([kid, wrapped, body]),
        _ => Err(Error::Malformed { what: "token: it does not have four segments" }),
    }
}

fn decode(text: &str) -> Result<Vec<u8>> {
    BASE64
        .with(|engine| engine.decode(text))
        .map_err(|_| Error::Malformed { what: "token: not canonical base64url without padding" })
}

/// With room for one byte more, so that who needs a terminator copies nothing.
fn encode(magic: &str, kid: KeyId, wrapped: &[u8; 48], body: &[u8]) -> String {
    let length = 87 + (4 * body.len()).div_ceil(3);
    let mut text = Vec::with_capacity(length + 1);
    for part in [magic.as_bytes(), b".", kid.as_str().as_bytes(), b"."] {
        text.extend_from_slice(part);
    }
    text.resize(length, b'.');
    let (_, segments) = text.split_at_mut(PREFIX);
    let (wrap, rest) = segments.split_at_mut(64);
    let encoded = BASE64.with(|engine| {
        engine.encode_slice(wrapped, wrap).and(engine.encode_slice(body, rest.get_mut(1..).unwrap_or_default()))
    });
    debug_assert!(encoded.is_ok(), "the lengths are those of the segments");
    // ASCII, whatever happens.
    String::from_utf8(text).unwrap_or_default()
}

thread_local! {
    /// Canonical base64url without padding. One of each thread and no lock: one that is held while a
    /// process forks stays locked in the child.
    static BASE64: Simd = Simd::url_safe(NO_PAD);
}
