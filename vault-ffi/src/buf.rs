//! Results that the library owns.

use core::ptr;

use vault_core::SecretBytes;
use zeroize::Zeroizing;

use crate::boundary;

/// Bytes that the library owns: a secret or a token. vault_buf_free wipes them.
#[derive(Debug)]
pub struct Buf(SecretBytes);

impl Buf {
    /// The bytes and a NUL, in memory of exactly that size.
    pub(crate) fn secret(secret: &SecretBytes) -> Self {
        let mut own = Zeroizing::new(Vec::with_capacity(secret.len() + 1));
        own.extend_from_slice(secret.expose_secret());
        own.push(0);
        Self(SecretBytes::from(own))
    }

    /// A text and a NUL.
    pub(crate) fn text(text: String) -> Self {
        let mut own = text.into_bytes();
        own.push(0);
        Self(SecretBytes::from(Zeroizing::new(own)))
    }

    pub(crate) fn data(&self) -> *const u8 {
        self.0.expose_secret().as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len() - 1
    }
}

/// The bytes. A NUL that vault_buf_len does not count follows them, for tokens and other texts;
/// a secret may have NUL within. They live until vault_buf_free. NULL for NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_buf_data(buf: *const Buf) -> *const u8 {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(buf, Buf::data, ptr::null()) }
}

/// How many bytes. 0 for NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_buf_len(buf: *const Buf) -> usize {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(buf, Buf::len, 0) }
}

/// Wipes the bytes and frees them. NULL is nothing.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_buf_free(buf: *mut Buf) {
    // SAFETY: the rules of the header.
    unsafe { boundary::free(buf) }
}
