//! Key text, master keys and key ids (docs/FORMAT.md, "Keys").

use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox};
use zeroize::{Zeroize, Zeroizing};

use base64::Engine as _;

use crate::error::{Error, Result};
use crate::primitives::{self, MacKey, Prk, WrapKey};
use crate::secret::SecretBytes;

/// Longest key text, in bytes.
pub const MAX_KEY_TEXT: usize = 4_096;

const KID_LENGTH: usize = 17;
const KID_LABEL: &[u8] = b"vault-core/kid/v1\0";

/// Names a key: 17 characters computed from the key itself.
///
/// The first letter is the type: `k` a local master key, `t` a tenant key, `f` the key text of a
/// foreign format. It is public and may be logged.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyId([u8; KID_LENGTH]);

impl KeyId {
    /// Reads the 17 characters `[a-z][a-z2-7]{16}`.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if the text has another form.
    pub fn parse(text: &str) -> Result<Self> {
        Self::from_bytes(text.as_bytes())
            .ok_or(Error::Malformed { what: "key id: it has 17 characters, a letter and then letters or 2 to 7" })
    }

    pub(crate) fn from_bytes(text: &[u8]) -> Option<Self> {
        let id: [u8; KID_LENGTH] = text.try_into().ok()?;
        let (kind, rest) = id.split_first()?;
        let good =
            kind.is_ascii_lowercase() && rest.iter().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(b));
        good.then_some(Self(id))
    }

    /// An id that no key has.
    pub(crate) fn none() -> Self {
        Self(*b"aaaaaaaaaaaaaaaaa")
    }

    /// The 17 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Every constructor allows ASCII only.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The type letter.
    #[must_use]
    pub fn letter(&self) -> char {
        char::from(self.0.first().copied().unwrap_or_default())
    }

    fn compute(letter: u8, prk: &Prk) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let hash = prk.expand::<10>(&[KID_LABEL, &[letter]]);
        let bits = hash.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        let mut id = [letter; KID_LENGTH];
        for (place, character) in id.iter_mut().skip(1).enumerate() {
            let index = usize::try_from(bits >> (75 - 5 * place) & 31).unwrap_or_default();
            *character = ALPHABET.get(index).copied().unwrap_or_default();
        }
        Self(id)
    }
}

impl core::fmt::Display for KeyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::str::FromStr for KeyId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// The written form of a 32-byte key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KeyFormat {
    /// Standard base64, or base64 in which the two alphabets do not differ.
    Base64Standard,
    /// URL-safe base64.
    Base64Url,
    /// 64 hex digits.
    Hex,
    /// The 32 bytes themselves.
    Raw,
}

/// Why a text is not accepted as a key. Holds lengths and classes, never content.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyTextError {
    /// Base64 of the right length whose padding or last character is not canonical.
    #[error("bad base64: wrong padding, or a last character that no encoder writes")]
    Base64,
    /// A byte order mark in front.
    #[error("it begins with a byte order mark; save the file without one")]
    ByteOrderMark,
    /// Nothing, or only white space.
    #[error("it is empty")]
    Empty,
    /// 32 hex digits.
    #[error("32 hex digits are 128 bits; 64 are needed")]
    HalfHex,
    /// White space inside.
    #[error("it has white space inside")]
    InnerSpace,
    /// Letters of both base64 alphabets.
    #[error("it mixes the two base64 alphabets")]
    MixedAlphabets,
    /// NUL or bytes that are not UTF-8, in a key text.
    #[error("it is not text: it holds a NUL byte or bytes that are not UTF-8")]
    NotText,
    /// A key that is public because somebody printed it.
    #[error("it is a published key; it may open, and never seals")]
    Published,
    /// Surrounded by quotes.
    #[error("it is in quotes; remove them")]
    Quoted,
    /// Longer than [`MAX_KEY_TEXT`].
    #[error("it is longer than {MAX_KEY_TEXT} bytes")]
    TooLong,
    /// Anything else.
    #[error("unrecognised key text ({0} bytes): 64 hex digits, base64 of 32 bytes, or 32 raw bytes are accepted")]
    Unrecognised(usize),
    /// A name and an equals sign in front.
    #[error("it looks like NAME=value; keep the value only")]
    Variable,
    /// A pattern instead of random bytes.
    #[error("weak key: {0}; it may open, and never seals")]
    Weak(Weakness),
}

/// The pattern that makes a key weak.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Weakness {
    /// Each byte differs from the one before by the same amount.
    #[error("an arithmetic sequence")]
    Arithmetic,
    /// One byte, repeated.
    #[error("constant")]
    Constant,
    /// Fewer than 12 different bytes.
    #[error("fewer than 12 different bytes")]
    FewBytes,
    /// A short block, repeated.
    #[error("a repeated block")]
    Periodic,
    /// Printable characters: a pass-phrase in disguise.
    #[error("printable text instead of random bytes")]
    Printable,
}

/// A 32-byte master key and the text that it was read from.
///
/// The text is kept exactly, because foreign formats derive from it.
pub struct MasterKey {
    kid: KeyId,
    format: KeyFormat,
    flaw: Option<KeyTextError>,
    text: SecretBytes,
    bytes: SecretBox<[u8; 32]>,
    prk: Prk,
    hedge: MacKey,
    wrap: WrapKey,
}

impl MasterKey {
    /// Reads the content of a key file or variable.
    ///
    /// Accepted are 32 raw bytes that are not all printable, and within ASCII white space 64 hex
    /// digits or base64 of either alphabet, with or without padding, in canonical form.
    ///
    /// # Errors
    ///
    /// [`KeyTextError`] with the reason; a weak or published key is refused.
    pub fn parse(content: &[u8]) -> Result<Self, KeyTextError> {
        let key = Self::parse_for_opening(content)?;
        match key.flaw {
            Some(flaw) => Err(flaw),
            None => Ok(key),
        }
    }

    /// As [`parse`](Self::parse), and lets weak and published keys through: whoever has one must
    /// be able to move away from it. [`flaw`](Self::flaw) tells, and such a key never seals.
    ///
    /// # Errors
    ///
    /// [`KeyTextError`] with the reason.
    pub fn parse_for_opening(content: &[u8]) -> Result<Self, KeyTextError> {
        let mut bytes = SecretBox::<[u8; 32]>::default();
        let format = decode(content, bytes.expose_secret_mut())?;
        let text = if format == KeyFormat::Raw { content } else { content.trim_ascii() };
        let flaw = flaw(bytes.expose_secret(), text);
        Ok(Self::build(b'k', bytes, format, flaw, SecretBytes::copy_of(text)))
    }

    /// A new key from the operating system's randomness; its text is URL-safe base64, which is
    /// also a Fernet key.
    ///
    /// # Errors
    ///
    /// [`Error::CannotSeal`] if the operating system gives no randomness.
    pub fn generate() -> Result<Self> {
        let random = primitives::random()?;
        let mut text = Zeroizing::new([0; 44]);
        base64::engine::general_purpose::URL_SAFE
            .encode_slice(*random, &mut *text)
            .map_err(|_| Error::CannotSeal { why: "a new key could not be written as text" })?;
        Self::parse(&*text).map_err(|_| Error::CannotSeal { why: "the operating system's randomness is not random" })
    }

    /// A tenant key, which has an id of type `t`.
    pub(crate) fn tenant(bytes: &[u8; 32]) -> Self {
        let mut own = SecretBox::<[u8; 32]>::default();
        own.expose_secret_mut().copy_from_slice(bytes);
        Self::build(b't', own, KeyFormat::Raw, None, SecretBytes::copy_of(bytes))
    }

    /// The key that `content` would be, without its text form: for unwrapped keys.
    pub(crate) fn from_raw(bytes: &[u8; 32]) -> Self {
        let mut own = SecretBox::<[u8; 32]>::default();
        own.expose_secret_mut().copy_from_slice(bytes);
        let flaw = flaw(bytes, bytes);
        Self::build(b'k', own, KeyFormat::Raw, flaw, SecretBytes::copy_of(bytes))
    }

    #[inline(never)]
    fn build(
        letter: u8,
        bytes: SecretBox<[u8; 32]>,
        format: KeyFormat,
        flaw: Option<KeyTextError>,
        text: SecretBytes,
    ) -> Self {
        let prk = Prk::extract(b"vault-core/kek/v1", bytes.expose_secret());
        Self {
            kid: KeyId::compute(letter, &prk),
            format,
            flaw,
            text,
            hedge: MacKey::new(&prk.expand::<32>(&[b"vault-core/hedge/v1\0"])),
            wrap: WrapKey::new(prk.expand::<64>(&[b"vault-core/wrap/v1\0"])),
            bytes,
            prk,
        }
    }

    /// The key's id, of type `k`, or `t` for a tenant key.
    #[must_use]
    pub fn kid(&self) -> KeyId {
        self.kid
    }

    /// How the key was written.
    #[must_use]
    pub fn format(&self) -> KeyFormat {
        self.format
    }

    /// Why this key never seals, if it is weak or published.
    #[must_use]
    pub fn flaw(&self) -> Option<KeyTextError> {
        self.flaw
    }

    /// The exact text, without surrounding ASCII white space; the bytes of a raw key.
    #[must_use]
    pub fn text(&self) -> &SecretBytes {
        &self.text
    }

    /// The 32 bytes.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        self.bytes.expose_secret()
    }

    pub(crate) fn prk(&self) -> &Prk {
        &self.prk
    }

    pub(crate) fn hedge(&self) -> &MacKey {
        &self.hedge
    }

    pub(crate) fn wrap(&self) -> &WrapKey {
        &self.wrap
    }
}

impl core::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MasterKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// What an application removes from a configured key text before it derives from it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Trim {
    /// Exactly one trailing line break, the rule for every secret that is text.
    #[default]
    LineBreak,
    /// Nothing.
    Nothing,
    /// White space as Python's `str.strip()` has it.
    Python,
}

impl Trim {
    fn apply(self, text: &str) -> &str {
        match self {
            Self::LineBreak => text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text),
            Self::Nothing => text,
            Self::Python => text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)),
        }
    }
}

/// The key text of a foreign format: what an application hands to its own key derivation.
#[cfg(feature = "foreign")]
pub struct TextKey {
    kid: KeyId,
    flaw: Option<KeyTextError>,
    text: SecretBytes,
    prk: Prk,
}

#[cfg(feature = "foreign")]
impl TextKey {
    /// Reads the content of a key file or variable and trims it as the application does.
    ///
    /// This takes some 50 ms: the id of a text that may be a password is derived by scrypt.
    ///
    /// # Errors
    ///
    /// [`KeyTextError`] if it is empty, longer than [`MAX_KEY_TEXT`], or not text.
    pub fn parse(content: &[u8], trim: Trim) -> Result<Self, KeyTextError> {
        if content.len() > MAX_KEY_TEXT {
            return Err(KeyTextError::TooLong);
        }
        let text = core::str::from_utf8(content).map_err(|_| KeyTextError::NotText)?;
        if text.contains('\0') {
            return Err(KeyTextError::NotText);
        }
        let text = trim.apply(text);
        if text.is_empty() {
            return Err(KeyTextError::Empty);
        }
        let prk = Prk::from_uniform(&primitives::scrypt(text.as_bytes(), b"vault-core/text-key/v1"));
        let mut decoded = Zeroizing::new([0; 32]);
        let flaw = match decode(text.as_bytes(), &mut decoded) {
            Ok(_) => flaw(&decoded, text.as_bytes()),
            Err(_) => published(text.as_bytes()).then_some(KeyTextError::Published),
        };
        Ok(Self { kid: KeyId::compute(b'f', &prk), flaw, text: SecretBytes::copy_of(text.as_bytes()), prk })
    }

    /// The key's id, of type `f`.
    #[must_use]
    pub fn kid(&self) -> KeyId {
        self.kid
    }

    /// Why nothing new is written under this key, if it is weak or published.
    #[must_use]
    pub fn flaw(&self) -> Option<KeyTextError> {
        self.flaw
    }

    /// The trimmed text.
    #[must_use]
    pub fn text(&self) -> &SecretBytes {
        &self.text
    }

    pub(crate) fn prk(&self) -> &Prk {
        &self.prk
    }
}

#[cfg(feature = "foreign")]
impl core::fmt::Debug for TextKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TextKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Decodes any accepted form into `out`.
pub(crate) fn decode(content: &[u8], out: &mut [u8; 32]) -> Result<KeyFormat, KeyTextError> {
    if content.len() > MAX_KEY_TEXT {
        return Err(KeyTextError::TooLong);
    }
    let printable = |b: &u8| b.is_ascii_graphic() || b.is_ascii_whitespace() || *b == 0x0b;
    if content.len() == 32 && !content.iter().all(printable) {
        out.copy_from_slice(content);
        return Ok(KeyFormat::Raw);
    }
    if [&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| content.starts_with(mark)) {
        return Err(KeyTextError::ByteOrderMark);
    }
    let text = content.trim_ascii();
    if text.is_empty() {
        return Err(KeyTextError::Empty);
    }
    if text.iter().any(|b| b.is_ascii_whitespace() || *b == 0x0b) {
        return Err(KeyTextError::InnerSpace);
    }
    if text.len() == 64 && text.iter().all(u8::is_ascii_hexdigit) {
        for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |byte, digit| byte << 4 | hex_digit(*digit));
        }
        return Ok(KeyFormat::Hex);
    }
    let padded = text.len() == 44 && text.iter().filter(|b| **b == b'=').count() == 1 && text.ends_with(b"=");
    if text.len() == 43 && !text.contains(&b'=') || padded {
        return decode_base64(text.strip_suffix(b"=").unwrap_or(text), out);
    }
    if text.len() == 32 && text.iter().all(u8::is_ascii_hexdigit) {
        return Err(KeyTextError::HalfHex);
    }
    if text.first().is_some_and(|quote| matches!(quote, b'"' | b'\'') && text.last() == Some(quote)) {
        return Err(KeyTextError::Quoted);
    }
    let name = text.iter().position(|b| *b == b'=').and_then(|at| text.get(..at));
    if name.is_some_and(|name| {
        name.len() < 40
            && name.first().is_some_and(u8::is_ascii_alphabetic)
            && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
    }) {
        return Err(KeyTextError::Variable);
    }
    if text.len() == 44 && text.iter().all(|b| b.is_ascii_alphanumeric() || b"+/-_=".contains(b)) {
        return Err(KeyTextError::Base64);
    }
    Err(KeyTextError::Unrecognised(text.len()))
}

fn decode_base64(text: &[u8], out: &mut [u8; 32]) -> Result<KeyFormat, KeyTextError> {
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

    let standard = text.iter().any(|b| matches!(b, b'+' | b'/'));
    let url = text.iter().any(|b| matches!(b, b'-' | b'_'));
    let (engine, format) = match (standard, url) {
        (true, true) => return Err(KeyTextError::MixedAlphabets),
        (false, true) => (&URL_SAFE_NO_PAD, KeyFormat::Base64Url),
        (_, false) => (&STANDARD_NO_PAD, KeyFormat::Base64Standard),
    };
    if !text.iter().all(|b| b.is_ascii_alphanumeric() || b"+/-_".contains(b)) {
        return Err(KeyTextError::Unrecognised(text.len()));
    }
    // The decoder may write up to 33 bytes before it knows the length.
    let mut buffer = Zeroizing::new([0; 36]);
    match engine.decode_slice(text, &mut *buffer) {
        Ok(32) => {
            out.copy_from_slice(buffer.get(..32).unwrap_or(&[0; 32]));
            Ok(format)
        }
        _ => {
            out.zeroize();
            Err(KeyTextError::Base64)
        }
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

fn flaw(bytes: &[u8; 32], text: &[u8]) -> Option<KeyTextError> {
    if published(text) || PUBLISHED_BYTES.contains(&primitives::hex(&primitives::sha256(bytes)).as_str()) {
        return Some(KeyTextError::Published);
    }
    weakness(bytes).map(KeyTextError::Weak)
}

fn weakness(bytes: &[u8; 32]) -> Option<Weakness> {
    let periodic = |period: usize| bytes.iter().zip(bytes.iter().skip(period)).all(|(a, b)| a == b);
    let mut steps = bytes.iter().zip(bytes.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a));
    let first_step = steps.next();
    let mut seen = [false; 256];
    for byte in bytes {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    if periodic(1) {
        Some(Weakness::Constant)
    } else if [2, 4, 8, 16].into_iter().any(periodic) {
        Some(Weakness::Periodic)
    } else if steps.all(|step| Some(step) == first_step) {
        Some(Weakness::Arithmetic)
    } else if seen.iter().filter(|seen| **seen).count() < 12 {
        Some(Weakness::FewBytes)
    } else if bytes.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        Some(Weakness::Printable)
    } else {
        None
    }
}

fn published(text: &[u8]) -> bool {
    PUBLISHED_TEXTS.contains(&primitives::hex(&primitives::sha256(text)).as_str())
}

/// SHA-256 of key bytes that are public: the key of the Fernet specification and a test key in
/// Flowfile's source.
const PUBLISHED_BYTES: [&str; 2] = [
    "cbeb362f1fa69a6691db592f4529cf6bea1ce089eb132a3350c9081279ff8f34",
    "6fbfa7da4a387749b717e5c23bdd2d7b4fca8b2deb532d6160408d5d68a97f33",
];

/// SHA-256 of texts that are public because applications carry them as defaults, examples or test
/// keys; one was tracked in a repository.
const PUBLISHED_TEXTS: [&str; 19] = [
    "039db6d2144e3f7e5b359e3195ad8c2cbb4840a7d52d1a1fe43934fd1feebac9",
    "cd83ecc2b41302ed7bc62c2bfe59cb04f2ff11ae16c3aa88b686cc490ab2eadf",
    "b2df98b30a94528ee5568a01ce29b3aa710182e8a4aed412d19a74a0881cc02c",
    "56be579e93e10585578ba16ee7647ea9cbdd33165d3f8e2facc73c83b4b332d8",
    "057ba03d6c44104863dc7361fe4578965d1887360f90a0895882e58a6248fc86",
    "276a9b5c4aa40041b83cd30d490d677b10314db9704dcfa81c2e42d885b5bdb4",
    "29bbcd49062be81a2926b00e80f6e6a73d567e14a22182c20b13a6d19d2e1a27",
    "579deb94a1600ea2cf4b2131ac8836fb4bbde0e99262e707857d9a911f0c8b8a",
    "78a6c76148cb9a58742db50123c5c63dde01cdcadb51683eaad0dc44ae9569b9",
    "92809ab604c9377285fbbcf82c4f30db65f107ecfd7217c7e62c17a2b3be7633",
    "231b700af92137f399ac7296e6b94970a71071cb247bfbe6b6fd091b8552fa8f",
    "4c37428ea946caca250c698d880131b8f62f45c5647d91d38ec02ea07c2e7031",
    "4cbdadb72ca40990542c9b36c1a1988609d7032c4ae135c00b4cc8556e5162c3",
    "c2ff755da3f53c381c39fe6d7ae85d2916b3b49b27acf127001a11c8cb33fcf2",
    "0537dfd229ccd644e29c82f0c27a1b3b075a1589fa75a186ed40abc25bfcd248",
    "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
    "e02cf339b33997a7b361a8bb53ed663e70543954b85807d56d844a91f485772f",
    "bdfc35bb19105e6d87871ebcb4605901c2bae1f64131d7aad6d32eb649382c8c",
    "01bf5d2a02d6b54006f6fcc26a8c93a33d644b58160b79ea7ad4589f7026a4c5",
];
