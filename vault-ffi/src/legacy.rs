//! Values in the formats that applications invented.

use core::ffi::c_char;

use vault_core::{Format, HARD_LIMIT};

use crate::boundary::{self, CallFailure, MAX_TEXT, out};
use crate::buf::Buf;
use crate::error::{Error, guard};
use crate::handle::{Handle, Keys, vault_of};
use crate::status::Status;

/// Opens a value in a legacy format, as in "flowfile-v1". `keyring` names a keyring of key texts in
/// `vault.toml`, and is NULL for a vault of one text key file. `tenant` is the decimal user id where
/// the format needs one and the value does not carry it, else NULL. Where the keyring has several
/// keys, each that may open is tried: such values name no key.
///
/// Fails with VAULT_UNSUPPORTED for a format that is not known or not legacy; VAULT_TOO_LARGE;
/// VAULT_MALFORMED if the syntax does not fit; VAULT_CORRUPT for a wrong key or an altered value;
/// VAULT_CONFIG for a keyring that is not declared or holds master keys; VAULT_USAGE.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_legacy_open(
    vault: *const Handle,
    keyring: *const c_char,
    keyring_len: usize,
    format: *const c_char,
    format_len: usize,
    tenant: *const c_char,
    tenant_len: usize,
    value: *const u8,
    value_len: usize,
    secret: *mut *mut Buf,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, secret) = unsafe { (vault_of(vault)?, out(secret)?) };
        // SAFETY: the rules of the header.
        let keyring = unsafe { boundary::optional_text(keyring, keyring_len, "keyring", MAX_TEXT)? };
        // SAFETY: the rules of the header.
        let format: Format = unsafe { boundary::text(format, format_len, "format", MAX_TEXT)? }.parse()?;
        // SAFETY: the rules of the header.
        let tenant = unsafe { boundary::optional_text(tenant, tenant_len, "tenant", MAX_TEXT)? };
        // SAFETY: the rules of the header.
        let value = unsafe { boundary::elements(value, value_len, "value", HARD_LIMIT)? };
        let opened = match (&vault.keys, keyring) {
            (Keys::Declared(vault), Some(keyring)) => vault.open_legacy(keyring, format, tenant, value)?,
            (Keys::TextKeyFile(vault), None) => vault.open_legacy(ONLY, format, tenant, value)?,
            (keys, _) => return Err(wrong_keyring(keys)),
        };
        secret.give(Buf::secret(&opened));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// Writes a value in a legacy format under the primary key of a keyring of key texts. The
/// parameters are those of vault_legacy_open; `*value` becomes a text.
///
/// Fails as there, and with VAULT_CANNOT_SEAL for a weak or published key, for a key text that is
/// not of the format's kind, and for formats that are never written.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_legacy_seal(
    vault: *const Handle,
    keyring: *const c_char,
    keyring_len: usize,
    format: *const c_char,
    format_len: usize,
    tenant: *const c_char,
    tenant_len: usize,
    secret: *const u8,
    secret_len: usize,
    value: *mut *mut Buf,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, value) = unsafe { (vault_of(vault)?, out(value)?) };
        // SAFETY: the rules of the header.
        let keyring = unsafe { boundary::optional_text(keyring, keyring_len, "keyring", MAX_TEXT)? };
        // SAFETY: the rules of the header.
        let format: Format = unsafe { boundary::text(format, format_len, "format", MAX_TEXT)? }.parse()?;
        // SAFETY: the rules of the header.
        let tenant = unsafe { boundary::optional_text(tenant, tenant_len, "tenant", MAX_TEXT)? };
        // SAFETY: the rules of the header.
        let secret = unsafe { boundary::elements(secret, secret_len, "secret", HARD_LIMIT)? };
        let sealed = match (&vault.keys, keyring) {
            (Keys::Declared(vault), Some(keyring)) => vault.seal_legacy(keyring, format, tenant, secret)?,
            (Keys::TextKeyFile(vault), None) => vault.seal_legacy(ONLY, format, tenant, secret)?,
            (keys, _) => return Err(wrong_keyring(keys)),
        };
        value.give(Buf::text(sealed));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

fn wrong_keyring(keys: &Keys) -> CallFailure {
    CallFailure::Usage(match keys {
        Keys::Declared(_) => "a vault of a vault.toml needs the name of a keyring",
        Keys::TextKeyFile(_) => "a vault of one text key file has no keyrings by name",
        Keys::InMemory { .. } | Keys::KeyFile(_) => "the vault has no key texts, which legacy formats need",
    })
}

/// The keyring of a vault of one text key file.
const ONLY: &str = "main";
