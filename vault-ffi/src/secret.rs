//! Deployment secrets by name.

use core::ffi::c_char;
use core::ptr;
use std::ffi::CString;

use vault_core::{Entry, EntryName, SecretName, Source, Version};

use crate::boundary::{self, CallFailure, MAX_TEXT, out};
use crate::buf::Buf;
use crate::error::{Error, c_text, guard};
use crate::handle::{Handle, Keys, vault_of};
use crate::status::Status;

/// A secret that was found by its name, and where. vault_resolved_free wipes it.
#[derive(Debug)]
pub struct Resolved {
    value: Buf,
    source: CString,
    kind: CString,
    version: u64,
    notes: Vec<CString>,
}

/// A deployment secret by name, from the first source that has it. NAME@previous or NAME@2 is an
/// older version from the store. Files and stores are read anew every time.
///
/// Fails with VAULT_NOT_FOUND, which says where it was looked for; VAULT_MALFORMED for a name that
/// no secret can have; VAULT_CONFIG if it is empty, not text where it should be, or set twice;
/// VAULT_IO, VAULT_TOO_LARGE or VAULT_DATABASE if a source cannot be read; as vault_open for what a
/// store holds; VAULT_USAGE for a vault that was loaded from a key file.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_secret(
    vault: *const Handle,
    name: *const c_char,
    name_len: usize,
    secret: *mut *mut Resolved,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, secret) = unsafe { (vault_of(vault)?, out(secret)?) };
        // SAFETY: the rules of the header.
        let name = unsafe { boundary::text(name, name_len, "secret name", MAX_TEXT)? };
        let resolved = match &vault.keys {
            Keys::Declared(vault) => vault.secret(name)?,
            Keys::InMemory { resolver, .. } => match Version::parse(name)? {
                (name, Version::Current) => resolver.secret(&name)?,
                (name, _) => {
                    let what = format!("another version of secret {name}: a vault in memory keeps none;");
                    return Err(vault_core::Error::NotFound { what }.into());
                }
            },
            Keys::KeyFile(_) | Keys::TextKeyFile(_) => return Err(NO_SECRETS),
        };
        secret.give(Resolved::new(&resolved));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// As vault_secret without versions, but `*secret` becomes NULL where the secret is declared as not
/// required and no source has it.
///
/// Fails as there.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_optional_secret(
    vault: *const Handle,
    name: *const c_char,
    name_len: usize,
    secret: *mut *mut Resolved,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, secret) = unsafe { (vault_of(vault)?, out(secret)?) };
        // SAFETY: the rules of the header.
        let name = unsafe { boundary::text(name, name_len, "secret name", MAX_TEXT)? };
        let resolved = match &vault.keys {
            Keys::Declared(vault) => vault.optional_secret(name)?,
            Keys::InMemory { resolver, .. } => resolver.optional(&SecretName::parse(name)?)?,
            Keys::KeyFile(_) | Keys::TextKeyFile(_) => return Err(NO_SECRETS),
        };
        match &resolved {
            Some(resolved) => secret.give(Resolved::new(resolved)),
            None => secret.write(ptr::null_mut()),
        }
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

impl Resolved {
    fn new(resolved: &vault_core::Resolved) -> Self {
        Self {
            value: Buf::secret(&resolved.value),
            source: c_text(&resolved.source.to_string()),
            kind: c_text(resolved.source.kind()),
            version: match resolved.source {
                Source::Store { version, .. } => version,
                _ => 0,
            },
            notes: resolved.notes.iter().map(|note| c_text(&note.to_string())).collect(),
        }
    }
}

/// The secret: `*len` bytes, followed by a NUL that is not counted. Lives as long as the object. `len`
/// may be NULL. NULL and 0 for NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_resolved_value(secret: *const Resolved, len: *mut usize) -> *const u8 {
    let value = |secret: &Resolved| (secret.value.data(), secret.value.len());
    // SAFETY: the rules of the header.
    let (data, found) = unsafe { boundary::view(secret, value, (ptr::null(), 0)) };
    // SAFETY: the rules of the header.
    if let Ok(len) = unsafe { out(len) } {
        len.write(found);
    }
    data
}

/// Where it was found, for people: UTF-8 terminated by NUL. Lives as long as the object. NULL for
/// NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_resolved_source(secret: *const Resolved) -> *const c_char {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(secret, |secret| secret.source.as_ptr(), ptr::null()) }
}

/// The stable name of such a source, terminated by NUL: "composed", "credential", "declared",
/// "default", "environment-file", "keyring", "mount", "named", "os-keyring", "store" or "variable". Lives as long
/// as the object. NULL for NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_resolved_source_kind(secret: *const Resolved) -> *const c_char {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(secret, |secret| secret.kind.as_ptr(), ptr::null()) }
}

/// The version in the store, from 1. 0 for other sources, which keep none, and for NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_resolved_version(secret: *const Resolved) -> u64 {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(secret, |secret| secret.version, 0) }
}

/// How many notes there are on it for people, as on a default that was used. 0 for NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_resolved_notes(secret: *const Resolved) -> usize {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(secret, |secret| secret.notes.len(), 0) }
}

/// A note: UTF-8 terminated by NUL. Lives as long as the object. NULL for a note that there is not.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_resolved_note(secret: *const Resolved, note: usize) -> *const c_char {
    let text = |secret: &Resolved| secret.notes.get(note).map_or(ptr::null(), |note| note.as_ptr());
    // SAFETY: the rules of the header.
    unsafe { boundary::view(secret, text, ptr::null()) }
}

/// Wipes a secret and frees it. NULL is nothing.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_resolved_free(secret: *mut Resolved) {
    // SAFETY: the rules of the header.
    unsafe { boundary::free(secret) }
}

/// The versions of a secret in the store, the newest first.
#[derive(Debug)]
pub struct Versions(Vec<Entry>);

/// The versions of a secret in the store, the newest first; none if the store does not have it.
/// vault_secret with NAME@number gives their values.
///
/// Fails with VAULT_CONFIG if no store is declared, VAULT_MALFORMED for the name, VAULT_DATABASE,
/// VAULT_CORRUPT or VAULT_REFUSED by the store, VAULT_USAGE for a vault without a `vault.toml`.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_versions_list(
    vault: *const Handle,
    name: *const c_char,
    name_len: usize,
    versions: *mut *mut Versions,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, versions) = unsafe { (vault_of(vault)?, out(versions)?) };
        // SAFETY: the rules of the header.
        let name = unsafe { boundary::text(name, name_len, "secret name", MAX_TEXT)? };
        match &vault.keys {
            Keys::Declared(vault) => {
                versions.give(Versions(vault.versions(&EntryName::new(SecretName::parse(name)?))?));
                Ok(())
            }
            _ => Err(NO_SECRETS),
        }
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// How many versions. 0 for NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_versions_len(versions: *const Versions) -> usize {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(versions, |versions| versions.0.len(), 0) }
}

/// The number of a version, from 1. 0 for one that there is not.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_versions_number(versions: *const Versions, at: usize) -> u64 {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(versions, |versions| versions.0.get(at).map_or(0, |entry| entry.key.version), 0) }
}

/// When a version was set, in seconds since 1970. 0 for one that there is not.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_versions_created(versions: *const Versions, at: usize) -> u64 {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(versions, |versions| versions.0.get(at).map_or(0, |entry| entry.created.0), 0) }
}

/// Frees a list of versions. NULL is nothing.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_versions_free(versions: *mut Versions) {
    // SAFETY: the rules of the header.
    unsafe { boundary::free(versions) }
}

const NO_SECRETS: CallFailure =
    CallFailure::Usage("the vault was loaded without a vault.toml and has no secrets by name");
