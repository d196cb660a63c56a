//! Master keys, key texts and their ids (docs/FORMAT.md, "Keys").

pub(crate) mod flaw;
pub(crate) mod id;
mod text;

pub use flaw::{KeyTextError, MAX_KEY_TEXT, Weakness};
pub use id::{KeyId, MalformedKeyId};
pub(crate) use text::decode;
pub(crate) use text::flaw;
#[cfg(feature = "formats")]
pub(crate) use text::published;
pub use text::{KeyFormat, Trim};

use vault_memory::Kept;
use zeroize::Zeroizing;

use base64::Engine as _;

use crate::error::{Error, Result};
use crate::primitives::{self, Key32, Label, MacKey, Prk, WipesStack, WrapKey};
use crate::secret::SecretBytes;

const KID_LABEL: &[u8] = b"vault-core/kid/v1\0";

/// A 32-byte master key and the text that it was read from.
///
/// The text is kept exactly, because legacy formats derive from it.
pub struct MasterKey {
    kid: KeyId,
    format: KeyFormat,
    flaw: Option<KeyTextError>,
    text: SecretBytes,
    own: Kept<Own>,
    _stack: WipesStack,
}

/// In a place of its own, so that moving the key leaves no copies behind.
struct Own {
    bytes: Key32,
    prk: Prk,
    hedge: MacKey,
    wrap: WrapKey,
    token_label: Label,
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
        primitives::on_wiped_stack(|| {
            let mut bytes = Key32::default();
            let format = decode(content, &mut bytes)?;
            let text = if format == KeyFormat::Raw { content } else { content.trim_ascii() };
            let flaw = flaw(&bytes, text);
            Ok(Self::build(b'k', &bytes, format, flaw, text))
        })
    }

    /// A new key from the operating system's randomness; its text is URL-safe base64, which is
    /// also a Fernet key.
    ///
    /// # Errors
    ///
    /// [`Error::CannotSeal`] if the operating system gives no randomness.
    pub fn generate() -> Result<Self> {
        primitives::on_wiped_stack(|| {
            let random = primitives::random()?;
            let mut text = Zeroizing::new([0; 44]);
            base64::engine::general_purpose::URL_SAFE
                .encode_slice(*random, &mut *text)
                .map_err(|_| Error::CannotSeal { why: "a new key could not be written as text" })?;
            Self::parse(&*text)
                .map_err(|_| Error::CannotSeal { why: "the operating system's randomness is not random" })
        })
    }

    /// A tenant key, which has an id of type `t`.
    pub(crate) fn tenant(bytes: &[u8; 32]) -> Self {
        primitives::on_wiped_stack(|| Self::build(b't', bytes, KeyFormat::Raw, None, bytes))
    }

    /// The key that `content` would be, without its text form: for unwrapped keys.
    pub(crate) fn from_raw(bytes: &[u8; 32]) -> Self {
        primitives::on_wiped_stack(|| {
            let flaw = flaw(bytes, bytes);
            Self::build(b'k', bytes, KeyFormat::Raw, flaw, bytes)
        })
    }

    fn build(letter: u8, bytes: &[u8; 32], format: KeyFormat, flaw: Option<KeyTextError>, text: &[u8]) -> Self {
        let prk = Prk::extract(b"vault-core/kek/v1", bytes);
        let kid = kid(letter, &prk);
        let wrap = WrapKey::new(&prk.expand::<64>(&[b"vault-core/wrap/v1\0"]));
        Self {
            kid,
            format,
            flaw,
            text: SecretBytes::kept(text),
            own: Kept::new(Own {
                bytes: Key32::of(bytes),
                hedge: MacKey::new(&prk.expand::<32>(&[b"vault-core/hedge/v1\0"])),
                token_label: wrap.label(&kid.wrap_label(*b"vs1.")),
                wrap,
                prk,
            }),
            _stack: WipesStack,
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
        &self.own.bytes
    }

    pub(crate) fn prk(&self) -> &Prk {
        &self.own.prk
    }

    pub(crate) fn hedge(&self) -> &MacKey {
        &self.own.hedge
    }

    pub(crate) fn wrap(&self) -> &WrapKey {
        &self.own.wrap
    }

    /// What binds the data key of a token to this key's id.
    pub(crate) fn token_label(&self) -> &Label {
        &self.own.token_label
    }
}

/// The id of a key of type `letter`.
fn kid(letter: u8, prk: &Prk) -> KeyId {
    KeyId::of_hash(letter, &prk.expand::<10>(&[KID_LABEL, &[letter]]))
}

impl core::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MasterKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The key text of a legacy format: what an application hands to its own key derivation.
#[cfg(feature = "formats")]
pub struct TextKey {
    kid: KeyId,
    flaw: Option<KeyTextError>,
    text: SecretBytes,
    prk: Kept<Prk>,
    _stack: WipesStack,
}

#[cfg(feature = "formats")]
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
        Ok(primitives::on_wiped_stack(|| {
            let prk = Kept::new(Prk::from_uniform(&primitives::scrypt(text.as_bytes(), b"vault-core/text-key/v1")));
            let mut decoded = Zeroizing::new([0; 32]);
            let flaw = match decode(text.as_bytes(), &mut decoded) {
                Ok(_) => flaw(&decoded, text.as_bytes()),
                Err(_) => published(text.as_bytes()).then_some(KeyTextError::Published),
            };
            let text = SecretBytes::kept(text.as_bytes());
            Self { kid: kid(b'f', &prk), flaw, text, prk, _stack: WipesStack }
        }))
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

#[cfg(feature = "formats")]
impl core::fmt::Debug for TextKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TextKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}
