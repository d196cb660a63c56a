//! Bytes that must not leak.

use vault_memory::Kept;
use zeroize::{Zeroizing, optimization_barrier};

/// Secret bytes: wiped when dropped, redacted in `Debug`, reachable only through
/// [`expose_secret`](Self::expose_secret).
///
/// There is no `Clone`, `Display`, `PartialEq` or `Serialize`. What the bytes were copied from, and
/// what an application copies them to, is not wiped by this type; nor are swap and debuggers kept
/// out.
pub struct SecretBytes(Bytes);

enum Bytes {
    Boxed(Box<[u8]>),
    /// The text of a key.
    Kept(Kept<[u8]>),
}

impl SecretBytes {
    /// Copies `bytes` into a buffer of exactly their length.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self(Bytes::Boxed(bytes.into()))
    }

    /// Copies `bytes` of a key to where neither core files nor, as far as the limit allows, swap has them.
    pub(crate) fn kept(bytes: &[u8]) -> Self {
        Self(Bytes::Kept(Kept::copy_of(bytes)))
    }

    /// Takes over a buffer that wipes itself.
    ///
    /// A `Vec` with spare capacity would leave a copy behind when it is shrunk, so such a one is
    /// copied exactly and then wiped.
    pub(crate) fn from_zeroizing(mut bytes: Zeroizing<Vec<u8>>) -> Self {
        if bytes.capacity() == bytes.len() {
            Self(Bytes::Boxed(core::mem::take(&mut *bytes).into_boxed_slice()))
        } else {
            Self::copy_of(&bytes)
        }
    }

    /// The bytes themselves. Every use of a secret is a call of this method.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8] {
        match &self.0 {
            Bytes::Boxed(bytes) => bytes,
            Bytes::Kept(bytes) => bytes,
        }
    }

    /// The bytes, to be changed in place.
    pub(crate) fn expose_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Bytes::Boxed(bytes) => bytes,
            Bytes::Kept(bytes) => bytes.bytes_mut(),
        }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.expose_secret().len()
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expose_secret().is_empty()
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        wipe(self.expose_mut());
    }
}

impl From<Zeroizing<Vec<u8>>> for SecretBytes {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self::from_zeroizing(bytes)
    }
}

impl core::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SecretBytes([redacted])")
    }
}

/// Overwrites secret bytes, many at a time; `Zeroize` goes from byte to byte.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    optimization_barrier(bytes);
}
