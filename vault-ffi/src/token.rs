//! Tokens: seal, open, rewrap, verify, inspect.

use core::ffi::c_char;

use vault_core::{ContextHash, HARD_LIMIT, KeyId, Sealer, Token};

use crate::boundary::{self, CallFailure, out};
use crate::buf::Buf;
use crate::context::{self, Context};
use crate::error::{Error, guard};
use crate::handle::{Handle, vault_of};
use crate::status::Status;

/// Seals a secret for a context under the primary key. `*token` becomes a text to keep.
///
/// Fails with VAULT_TOO_LARGE, VAULT_MALFORMED, VAULT_USAGE for the context, VAULT_CANNOT_SEAL,
/// VAULT_KEY_MISSING where the handle has no master keys.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_seal(
    vault: *const Handle,
    context: *const Context,
    secret: *const u8,
    secret_len: usize,
    token: *mut *mut Buf,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, context, token) = unsafe { (vault_of(vault)?, context::read(context)?, out(token)?) };
        // SAFETY: the rules of the header.
        let secret = unsafe { boundary::elements(secret, secret_len, "secret", vault.limit())? };
        token.give(Buf::text(vault.keys.seal(&context, secret)?.text()));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// The secret that was sealed for a context.
///
/// Fails with VAULT_TOO_LARGE, VAULT_UNSUPPORTED or VAULT_MALFORMED for a text that is no token;
/// VAULT_KEY_MISSING where the handle has no master keys; VAULT_UNKNOWN_KEY, VAULT_KEY_UNAVAILABLE,
/// VAULT_KEY_DISABLED or VAULT_KEY_DESTROYED by its key; VAULT_CORRUPT if any byte was altered;
/// VAULT_CONTEXT_MISMATCH if it belongs elsewhere. Remote callers learn vault_error_public_status only.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_open(
    vault: *const Handle,
    context: *const Context,
    token: *const c_char,
    token_len: usize,
    secret: *mut *mut Buf,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, context, secret) = unsafe { (vault_of(vault)?, context::read(context)?, out(secret)?) };
        // SAFETY: the rules of the header.
        let token = unsafe { token_text(token, token_len, vault.limit())? };
        secret.give(Buf::secret(&vault.keys.open(&context, &Token::parse(token, vault.limit())?)?));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// The hash of a context: `hash` has room for 32 bytes. vault_seal_for and vault_open_for take it in
/// place of the context, for which it stands: a program that uses one context often has it hashed once.
///
/// Fails as vault_seal does for the context.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_context_hash(context: *const Context, hash: *mut u8, error: *mut *mut Error) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (context, hash) = unsafe { (context::read(context)?, out(hash.cast::<[u8; 32]>())?) };
        hash.write(*ContextHash::of(&context)?.as_bytes());
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// vault_seal for the context of a hash, the 32 bytes that vault_context_hash wrote.
///
/// Fails as vault_seal, and with VAULT_USAGE for zeros, because they are an accident.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_seal_for(
    vault: *const Handle,
    context_hash: *const u8,
    secret: *const u8,
    secret_len: usize,
    token: *mut *mut Buf,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, context, token) = unsafe { (vault_of(vault)?, context::hash(context_hash)?, out(token)?) };
        // SAFETY: the rules of the header.
        let secret = unsafe { boundary::elements(secret, secret_len, "secret", vault.limit())? };
        token.give(Buf::text(vault.keys.seal_for(&context, secret)?.text()));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// vault_open for the context of a hash, the 32 bytes that vault_context_hash wrote.
///
/// Fails as vault_open, and with VAULT_USAGE for zeros, because they are an accident.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_open_for(
    vault: *const Handle,
    context_hash: *const u8,
    token: *const c_char,
    token_len: usize,
    secret: *mut *mut Buf,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, context, secret) = unsafe { (vault_of(vault)?, context::hash(context_hash)?, out(secret)?) };
        // SAFETY: the rules of the header.
        let token = Token::parse(unsafe { token_text(token, token_len, vault.limit())? }, vault.limit())?;
        secret.give(Buf::secret(&vault.keys.open_for(&context, &token)?));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// The same secret under the primary key: only the wrapped data key changes. A token that is under
/// the primary key already is verified and given as it is. No context is needed.
///
/// Fails as vault_open without VAULT_CONTEXT_MISMATCH, and with VAULT_CANNOT_SEAL.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_rewrap(
    vault: *const Handle,
    token: *const c_char,
    token_len: usize,
    rewrapped: *mut *mut Buf,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, rewrapped) = unsafe { (vault_of(vault)?, out(rewrapped)?) };
        // SAFETY: the rules of the header.
        let token = unsafe { token_text(token, token_len, vault.limit())? };
        rewrapped.give(Buf::text(vault.keys.rewrap(&Token::parse(token, vault.limit())?)?.text()));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// Whether the whole token is authentic and its payload opens. The context is not checked: only
/// vault_open does.
///
/// Fails as vault_open without VAULT_CONTEXT_MISMATCH.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_verify(
    vault: *const Handle,
    token: *const c_char,
    token_len: usize,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let vault = unsafe { vault_of(vault)? };
        // SAFETY: the rules of the header.
        let token = unsafe { token_text(token, token_len, vault.limit())? };
        Ok(vault.keys.verify(&Token::parse(token, vault.limit())?)?)
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// What a token tells without a key. None of it is authenticated.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Inspection {
    /// The id of the master key that it needs, terminated by NUL.
    pub kid: [c_char; 18],
    /// 1 if the secret was padded to a multiple of 32 bytes, else 0.
    pub padded: u32,
    /// When it was sealed, in seconds since 1970.
    pub sealed_at: u64,
    /// How many bytes the secret has; with padding, as many as the padded one.
    pub payload: u64,
}

/// Reads a token without a key.
///
/// Fails with VAULT_TOO_LARGE, VAULT_UNSUPPORTED or VAULT_MALFORMED.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_inspect(
    token: *const c_char,
    token_len: usize,
    inspection: *mut Inspection,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (token, inspection) = unsafe { (token_text(token, token_len, HARD_LIMIT)?, out(inspection)?) };
        let seen = Token::parse(token, HARD_LIMIT)?.inspect();
        inspection.write(Inspection {
            kid: kid_text(seen.kid),
            padded: u32::from(seen.padded),
            sealed_at: seen.sealed_at.0,
            payload: u64::try_from(seen.payload).unwrap_or(u64::MAX),
        });
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// The id of the key that new tokens name: 17 characters and a NUL, so `kid` has room for 18.
///
/// Fails with VAULT_CANNOT_SEAL if that key is weak or published, and with VAULT_KEY_MISSING.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_primary(vault: *const Handle, kid: *mut c_char, error: *mut *mut Error) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, kid) = unsafe { (vault_of(vault)?, out(kid.cast::<[c_char; 18]>())?) };
        kid.write(kid_text(vault.keys.sealing(Sealer::primary)??));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// A text that is no longer than a token can be.
///
/// # Safety
///
/// As [`boundary::elements`].
pub(crate) unsafe fn token_text<'a>(token: *const c_char, len: usize, limit: usize) -> Result<&'a str, CallFailure> {
    // Longer than any token of a secret of `limit` bytes; the exact bound is the parser's affair.
    let longest = 2 * limit + 1_024;
    if len > longest {
        return Err(vault_core::Error::TooLarge { what: "token", limit }.into());
    }
    // SAFETY: as the caller says.
    let bytes = unsafe { boundary::elements(token.cast::<u8>(), len, "token", longest)? };
    core::str::from_utf8(bytes).map_err(|_| vault_core::Error::Malformed { what: "token: it is not text" }.into())
}

fn kid_text(kid: KeyId) -> [c_char; 18] {
    let mut text = [0; 18];
    for (place, byte) in text.iter_mut().zip(kid.as_str().bytes()) {
        // An ASCII character: `c_char` is signed on some targets and not on others.
        *place = c_char::try_from(byte).unwrap_or_default();
    }
    text
}
