//! What a token is bound to (docs/FORMAT.md, "Context").

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::primitives;

/// Longest value or extra key, in bytes.
pub const MAX_FIELD: usize = 4_096;
/// Most fields, counting extra pairs.
pub const MAX_FIELDS: usize = 64;
/// Longest encoding, in bytes.
pub const MAX_ENCODING: usize = 16_384;

const LABEL: &[u8] = b"vault-core/ctx/v1\0";
const TENANT: u8 = 0x01;
const NAME: u8 = 0x02;
const PURPOSE: u8 = 0x03;
const EXTRA: u8 = 0x10;

/// Tenant, name, purpose and extra pairs that a token is bound to: it opens only with an equal
/// context.
///
/// Values are UTF-8 and never normalised. An absent field differs from an empty one. Values and
/// extra keys have at most [`MAX_FIELD`] bytes, there are at most [`MAX_FIELDS`] fields, and the
/// encoding has at most [`MAX_ENCODING`] bytes; what exceeds that is refused with
/// [`Error::TooLarge`] when the context is used.
///
/// ```
/// use vault_core::Context;
///
/// let context = Context::new("user-secret").tenant("42").name("prod_db");
/// assert_ne!(context, Context::new("user-secret").tenant("42"));
/// ```
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Context {
    tenant: Option<String>,
    name: Option<String>,
    purpose: Option<String>,
    extra: BTreeMap<String, String>,
}

impl Context {
    /// A context for one purpose: `user-secret`, `tenant-key`, `app-config`, `store-entry`, or the
    /// application's own.
    #[must_use]
    pub fn new(purpose: impl Into<String>) -> Self {
        Self { purpose: Some(purpose.into()), ..Self::default() }
    }

    /// Bound to nothing: such a token opens wherever it is moved to.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What kind of secret it is, in place of the purpose given before.
    #[must_use]
    pub fn purpose(mut self, purpose: impl Into<String>) -> Self {
        self.purpose = Some(purpose.into());
        self
    }

    /// Whose secret it is.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Which secret it is.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A further pair; a key given twice keeps the last value.
    ///
    /// The key must not be empty: such a context is refused with [`Error::Malformed`] when used.
    #[must_use]
    pub fn extra(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra.insert(key.into(), value.into());
        self
    }

    /// The tenant, where there is one.
    #[must_use]
    pub fn tenant_value(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The encoding that is hashed: injective, so that two contexts never share a token.
    pub(crate) fn encode(&self) -> Result<Encoding> {
        let fixed = [(TENANT, &self.tenant), (NAME, &self.name), (PURPOSE, &self.purpose)];
        let count = fixed.iter().filter(|(_, value)| value.is_some()).count() + self.extra.len();
        if count > MAX_FIELDS {
            return Err(Error::TooLarge { what: "context with its number of fields", limit: MAX_FIELDS });
        }
        let mut out = Encoding::new();
        out.extend_from_slice(LABEL);
        out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
        for (tag, value) in fixed {
            if let Some(value) = value {
                out.extend_from_slice(&[tag]);
                push(&mut out, value)?;
            }
        }
        for (key, value) in &self.extra {
            if key.is_empty() {
                return Err(Error::Malformed { what: "context: an extra key is empty" });
            }
            out.extend_from_slice(&[EXTRA]);
            push(&mut out, key)?;
            push(&mut out, value)?;
        }
        if out.bytes().len() > MAX_ENCODING {
            return Err(Error::TooLarge { what: "encoded context", limit: MAX_ENCODING });
        }
        Ok(out)
    }

    pub(crate) fn hash(&self) -> Result<[u8; 32]> {
        Ok(primitives::sha256(self.encode()?.bytes()))
    }
}

/// All that sealing and opening need of a context: its hash. For callers that use one context many times.
///
/// ```
/// use vault_core::{Context, ContextHash, Keyring, MasterKey, Sealer};
///
/// # fn main() -> vault_core::Result<()> {
/// let sealer = Sealer::new(Keyring::single(MasterKey::generate()?));
/// let context = Context::new("user-secret").tenant("42").name("prod_db");
/// let token = sealer.seal_for(&ContextHash::of(&context)?, b"correct horse")?;
/// assert_eq!(sealer.open(&context, &token)?.expose_secret(), b"correct horse");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ContextHash([u8; 32]);

impl ContextHash {
    /// The hash of a context.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] or [`Error::Malformed`] for a context over its limits.
    pub fn of(context: &Context) -> Result<Self> {
        context.hash().map(Self)
    }

    /// A hash that [`as_bytes`](Self::as_bytes) gave. With any other, a token opens for no context.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, which tell nothing secret.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// An encoding, on the stack as long as it is short, as nearly every one is.
pub(crate) struct Encoding {
    short: [u8; 256],
    length: usize,
    long: Vec<u8>,
}

impl Encoding {
    fn new() -> Self {
        Self { short: [0; 256], length: 0, long: Vec::new() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        if self.long.is_empty() { self.short.get(..self.length).unwrap_or_default() } else { &self.long }
    }

    fn extend_from_slice(&mut self, part: &[u8]) {
        let end = self.length + part.len();
        match self.short.get_mut(self.length..end) {
            Some(place) if self.long.is_empty() => {
                place.copy_from_slice(part);
                self.length = end;
            }
            _ => {
                if self.long.is_empty() {
                    self.long = self.bytes().to_vec();
                }
                self.long.extend_from_slice(part);
            }
        }
    }
}

fn push(out: &mut Encoding, value: &str) -> Result<()> {
    if value.len() > MAX_FIELD {
        return Err(Error::TooLarge { what: "context value", limit: MAX_FIELD });
    }
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(value.as_bytes());
    Ok(())
}
