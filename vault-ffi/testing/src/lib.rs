//! libvault with a vault in memory, for the tests of programs that use libvault: all that
//! `vault-ffi` exports, and what `vault_testing.h` lists. A library of its own keeps it out of what
//! is delivered.
#![allow(unsafe_code, reason = "pointers from C")]
#![deny(unsafe_op_in_unsafe_fn)]

use vault_ffi::{Error, Handle, Pair, Status, guard, out, pairs};
use vault_testing::TestVault;

/// A vault in memory: one fresh key, and these secrets by name. It reads no file and no variable,
/// and what it sealed opens nowhere else. vault_free frees it.
///
/// Fails with VAULT_CANNOT_SEAL if the operating system gives no randomness, VAULT_USAGE,
/// VAULT_MALFORMED or VAULT_TOO_LARGE.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_testing_vault(
    secrets: *const Pair,
    secrets_len: usize,
    vault: *mut *mut Handle,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (secrets, vault) = unsafe { (pairs(secrets, secrets_len)?, out(vault)?) };
        let made =
            secrets.into_iter().try_fold(TestVault::new()?, |vault, (name, value)| vault.with_secret(name, value))?;
        vault.give(Handle::new(made.sealer().clone(), made.resolver()));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// Fails as a call does that meets a bug of the library: with VAULT_UNCLASSIFIED, after a panic that
/// does not unwind into the caller. For tests of what a program does then.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
#[allow(clippy::missing_panics_doc, clippy::panic, reason = "it is what this is for")]
pub unsafe extern "C" fn vault_testing_panic(error: *mut *mut Error) -> Status {
    // SAFETY: the rules of the header.
    unsafe { guard(error, || panic!("a panic that a test asked for")) }
}
