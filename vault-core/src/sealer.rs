//! A keyring with seal, open, rewrap and verify: what a library should depend on.

use std::path::Path;

use crate::context::{Context, ContextHash};
use crate::envelope;
use crate::error::{Error, Result};
use crate::file;
use crate::key::{KeyId, MasterKey};
use crate::keyring::Keyring;
use crate::secret::SecretBytes;
use crate::token::{DEFAULT_LIMIT, HARD_LIMIT, Token, WrappedKey};

/// Seals and opens secrets under the keys of one keyring.
///
/// No call does I/O. A sealer may be shared between threads, and used after `fork()`: children
/// never repeat a data key.
///
/// ```
/// use vault_core::{Context, Keyring, MasterKey, Sealer};
///
/// # fn main() -> vault_core::Result<()> {
/// let sealer = Sealer::new(Keyring::single(MasterKey::generate()?));
/// let context = Context::new("user-secret").tenant("42").name("prod_db");
/// let token = sealer.seal(&context, b"correct horse")?;
/// assert_eq!(sealer.open(&context, &token)?.expose_secret(), b"correct horse");
/// assert!(sealer.open(&Context::new("user-secret").tenant("43"), &token).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sealer {
    keyring: Keyring<MasterKey>,
    limit: usize,
    padded: bool,
}

impl Sealer {
    /// A sealer over `keyring`, for plaintexts of up to [`DEFAULT_LIMIT`] bytes, unpadded.
    #[must_use]
    pub fn new(keyring: Keyring<MasterKey>) -> Self {
        Self { keyring, limit: DEFAULT_LIMIT, padded: false }
    }

    /// A sealer over the one key in a file, in any form that [`MasterKey::parse`] accepts.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if there is no such file or it cannot be read, [`Error::Oversized`],
    /// [`Error::KeyMalformed`] if it holds no key.
    pub fn from_key_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let content = file::read(path, file::MAX_KEY_FILE)?;
        let key = MasterKey::parse_for_opening(content.expose_secret())
            .map_err(|reason| Error::KeyMalformed { place: path.display().to_string(), reason })?;
        Ok(Self::new(Keyring::single(key)))
    }

    /// Accepts plaintexts of up to `limit` bytes; [`HARD_LIMIT`] is the most.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit.min(HARD_LIMIT);
        self
    }

    /// Pads what it seals to a multiple of 32 bytes, so that tokens tell less of the length.
    #[must_use]
    pub fn with_padding(mut self) -> Self {
        self.padded = true;
        self
    }

    /// The keys.
    #[must_use]
    pub fn keyring(&self) -> &Keyring<MasterKey> {
        &self.keyring
    }

    /// Seals `plaintext` for `context` under the primary key.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] or [`Error::Malformed`] for a plaintext or context over its limits;
    /// [`Error::CannotSeal`] if the primary key is weak or published, or the operating system
    /// gives no randomness.
    pub fn seal(&self, context: &Context, plaintext: &[u8]) -> Result<Token> {
        if plaintext.len() > self.limit {
            return Err(Error::TooLarge { what: "secret", limit: self.limit });
        }
        let key = self.keyring.primary()?;
        envelope::seal(key, &context.hash()?, plaintext, self.padded)
    }

    /// [`seal`](Self::seal) for the context of a hash.
    ///
    /// # Errors
    ///
    /// As [`seal`](Self::seal), without those of the context.
    pub fn seal_for(&self, context: &ContextHash, plaintext: &[u8]) -> Result<Token> {
        if plaintext.len() > self.limit {
            return Err(Error::TooLarge { what: "secret", limit: self.limit });
        }
        envelope::seal(self.keyring.primary()?, context.as_bytes(), plaintext, self.padded)
    }

    /// The secret that was sealed for `context`.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`]; [`Error::UnknownKey`], [`Error::KeyUnavailable`],
    /// [`Error::KeyDisabled`] or [`Error::KeyDestroyed`] by the state of the token's key;
    /// [`Error::Corrupt`] if any byte was altered; [`Error::ContextMismatch`] if it is authentic
    /// and belongs elsewhere. Send only [`Error::public_code`] to a remote caller.
    pub fn open(&self, context: &Context, token: &Token) -> Result<SecretBytes> {
        let key = self.opening(token)?;
        self.within_limit(envelope::open(key, &context.hash()?, token)?)
    }

    /// [`open`](Self::open) for the context of a hash.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), without those of the context.
    pub fn open_for(&self, context: &ContextHash, token: &Token) -> Result<SecretBytes> {
        self.within_limit(envelope::open(self.opening(token)?, context.as_bytes(), token)?)
    }

    /// The same secret under the primary key: only the wrapped data key changes.
    ///
    /// A token that is under the primary key already is verified and returned as it is.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), without [`Error::ContextMismatch`]; and [`Error::CannotSeal`] if
    /// the primary key is weak or published.
    pub fn rewrap(&self, token: &Token) -> Result<Token> {
        envelope::rewrap(self.opening(token)?, self.keyring.primary()?, token)
    }

    /// Whether the whole token is authentic and its payload opens. The context is not checked:
    /// only [`open`](Self::open) does.
    ///
    /// # Errors
    ///
    /// As [`rewrap`](Self::rewrap).
    pub fn verify(&self, token: &Token) -> Result<()> {
        envelope::verify(self.opening(token)?, token)
    }

    /// Wraps a tenant key for `tenant`, or with no tenant a master key for export.
    ///
    /// # Errors
    ///
    /// [`Error::CannotSeal`] if the primary key is no master key or must not seal,
    /// [`Error::ContextMismatch`] if a tenant is given for a master key or none for a tenant key.
    pub fn wrap_key(&self, key: &MasterKey, tenant: Option<&str>) -> Result<WrappedKey> {
        envelope::wrap_key(self.keyring.primary()?, key, tenant)
    }

    /// The key inside.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn unwrap_key(&self, wrapped: &WrappedKey, tenant: Option<&str>) -> Result<MasterKey> {
        envelope::unwrap_key(self.keyring.opening(wrapped.kid())?, wrapped, tenant)
    }

    /// The same wrapped key under the primary key.
    ///
    /// # Errors
    ///
    /// As [`rewrap`](Self::rewrap).
    pub fn rewrap_key(&self, wrapped: &WrappedKey) -> Result<WrappedKey> {
        envelope::rewrap_key(self.keyring.opening(wrapped.kid())?, self.keyring.primary()?, wrapped)
    }

    /// The key that new tokens name.
    ///
    /// # Errors
    ///
    /// [`Error::CannotSeal`] if there is none that may seal.
    pub fn primary(&self) -> Result<KeyId> {
        self.keyring.primary().map(|key| key.kid())
    }

    fn within_limit(&self, secret: SecretBytes) -> Result<SecretBytes> {
        if secret.len() > self.limit {
            return Err(Error::TooLarge { what: "secret", limit: self.limit });
        }
        Ok(secret)
    }

    fn opening(&self, token: &Token) -> Result<&MasterKey> {
        // A padded token may exceed the limit by one block and still hold a secret within it.
        if token.inspect().payload > self.limit + 32 {
            return Err(Error::TooLarge { what: "secret", limit: self.limit });
        }
        self.keyring.opening(token.kid()).map(|key| &**key)
    }
}
