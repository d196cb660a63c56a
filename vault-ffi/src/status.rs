//! Status numbers: the classes of error of `vault-core`. Numbers are never reused.

use core::ffi::c_char;

use vault_core::Kind;

/// What a call returns: VAULT_OK, or one of the numbers below. A newer library may return numbers
/// that this header does not list.
pub type Status = u32;

/// The call did what it says.
pub const VAULT_OK: Status = 0;
/// Anything without a status of its own, and bugs of the library.
pub const VAULT_UNCLASSIFIED: Status = 1;
/// The caller broke a rule of this header: a NULL where there must be none, a context without a field.
pub const VAULT_USAGE: Status = 2;
/// The user said no. Commands only.
pub const VAULT_ABORTED: Status = 3;
/// There is a vault already. Commands only.
pub const VAULT_ALREADY_INITIALISED: Status = 4;
/// There is no configuration yet. Commands only.
pub const VAULT_NOT_INITIALISED: Status = 5;
/// Nothing has this name.
pub const VAULT_NOT_FOUND: Status = 6;
/// A text is not of the expected form.
pub const VAULT_MALFORMED: Status = 7;
/// A version, suite, key type, flag or format that this release does not know.
pub const VAULT_UNSUPPORTED: Status = 8;
/// Longer than the limit.
pub const VAULT_TOO_LARGE: Status = 9;
/// Damaged, forged, or for legacy formats under another key.
pub const VAULT_CORRUPT: Status = 10;
/// The token is authentic and belongs to another context.
pub const VAULT_CONTEXT_MISMATCH: Status = 11;
/// What a remote caller may be told of any of these: see vault_error_public_status.
pub const VAULT_OPEN_FAILED: Status = 12;
/// The primary key must not seal, or the operating system gives no randomness.
pub const VAULT_CANNOT_SEAL: Status = 13;
/// A check found something. Commands only.
pub const VAULT_FINDINGS: Status = 14;
/// A declaration in vault.toml or a state file is wrong, or a secret is not as declared.
pub const VAULT_CONFIG: Status = 15;
/// A file could not be read or written.
pub const VAULT_IO: Status = 16;
/// A store or database refused, failed, or is not as declared.
pub const VAULT_DATABASE: Status = 17;
/// No key where one is needed.
pub const VAULT_KEY_MISSING: Status = 18;
/// A key file holds something that is not a key.
pub const VAULT_KEY_MALFORMED: Status = 19;
/// The token names a key that the keyring does not list.
pub const VAULT_UNKNOWN_KEY: Status = 20;
/// The keyring lists the key, and its material was not found.
pub const VAULT_KEY_UNAVAILABLE: Status = 21;
/// The doctor found failures. Commands only.
pub const VAULT_DOCTOR_FAILURES: Status = 22;
/// The key exists and is disabled.
pub const VAULT_KEY_DISABLED: Status = 23;
/// The key was destroyed.
pub const VAULT_KEY_DESTROYED: Status = 24;
/// Refused because it could lose data.
pub const VAULT_REFUSED: Status = 25;
/// Written, but it may not survive a power loss.
pub const VAULT_DURABILITY_UNKNOWN: Status = 26;
/// Locked or interrupted: try again.
pub const VAULT_TEMPORARY: Status = 27;

/// The number that rises whenever something in this header changes its meaning or goes. What is
/// only added does not change it.
pub const VAULT_ABI_VERSION: u32 = 0;

/// The VAULT_ABI_VERSION that the library was built with: a program compares it with its header's.
#[unsafe(no_mangle)]
pub extern "C" fn vault_abi_version() -> u32 {
    VAULT_ABI_VERSION
}

/// The library's release, as in "0.1.0". Static.
#[unsafe(no_mangle)]
pub extern "C" fn vault_version() -> *const c_char {
    VERSION.as_ptr().cast()
}

/// The stable name of a status, as in "context-mismatch", and "ok" for VAULT_OK. Static. "unclassified" for
/// numbers that the library does not know.
#[unsafe(no_mangle)]
pub extern "C" fn vault_status_name(status: Status) -> *const c_char {
    let name = NAMES.iter().find(|(kind, _)| *kind as Status == status);
    match (status, name) {
        (VAULT_OK, _) => c"ok".as_ptr(),
        (_, Some((_, name))) => name.as_ptr(),
        (_, None) => c"unclassified".as_ptr(),
    }
}

/// The status with which the command `vault` ends in such a case.
#[unsafe(no_mangle)]
pub extern "C" fn vault_status_exit_code(status: Status) -> u32 {
    match (status, NAMES.iter().find(|(kind, _)| *kind as Status == status)) {
        (VAULT_OK, _) => 0,
        (_, Some((kind, _))) => u32::from(kind.exit_code()),
        (_, None) => u32::from(Kind::Unclassified.exit_code()),
    }
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

const NAMES: [(Kind, &core::ffi::CStr); 27] = [
    (Kind::Unclassified, c"unclassified"),
    (Kind::Usage, c"usage"),
    (Kind::Aborted, c"aborted"),
    (Kind::AlreadyInitialised, c"already-initialised"),
    (Kind::NotInitialised, c"not-initialised"),
    (Kind::NotFound, c"not-found"),
    (Kind::Malformed, c"malformed"),
    (Kind::Unsupported, c"unsupported"),
    (Kind::TooLarge, c"too-large"),
    (Kind::Corrupt, c"corrupt"),
    (Kind::ContextMismatch, c"context-mismatch"),
    (Kind::OpenFailed, c"open-failed"),
    (Kind::CannotSeal, c"cannot-seal"),
    (Kind::Findings, c"findings"),
    (Kind::Config, c"config"),
    (Kind::Io, c"io"),
    (Kind::Database, c"database"),
    (Kind::KeyMissing, c"key-missing"),
    (Kind::KeyMalformed, c"key-malformed"),
    (Kind::UnknownKey, c"unknown-key"),
    (Kind::KeyUnavailable, c"key-unavailable"),
    (Kind::DoctorFailures, c"doctor-failures"),
    (Kind::KeyDisabled, c"key-disabled"),
    (Kind::KeyDestroyed, c"key-destroyed"),
    (Kind::Refused, c"refused"),
    (Kind::DurabilityUnknown, c"durability-unknown"),
    (Kind::Temporary, c"temporary"),
];

#[cfg(test)]
mod tests {
    use core::ffi::CStr;

    use super::*;

    #[test]
    fn numbers_and_names_are_those_of_the_library() {
        let listed = [
            (VAULT_UNCLASSIFIED, Kind::Unclassified),
            (VAULT_USAGE, Kind::Usage),
            (VAULT_ABORTED, Kind::Aborted),
            (VAULT_ALREADY_INITIALISED, Kind::AlreadyInitialised),
            (VAULT_NOT_INITIALISED, Kind::NotInitialised),
            (VAULT_NOT_FOUND, Kind::NotFound),
            (VAULT_MALFORMED, Kind::Malformed),
            (VAULT_UNSUPPORTED, Kind::Unsupported),
            (VAULT_TOO_LARGE, Kind::TooLarge),
            (VAULT_CORRUPT, Kind::Corrupt),
            (VAULT_CONTEXT_MISMATCH, Kind::ContextMismatch),
            (VAULT_OPEN_FAILED, Kind::OpenFailed),
            (VAULT_CANNOT_SEAL, Kind::CannotSeal),
            (VAULT_FINDINGS, Kind::Findings),
            (VAULT_CONFIG, Kind::Config),
            (VAULT_IO, Kind::Io),
            (VAULT_DATABASE, Kind::Database),
            (VAULT_KEY_MISSING, Kind::KeyMissing),
            (VAULT_KEY_MALFORMED, Kind::KeyMalformed),
            (VAULT_UNKNOWN_KEY, Kind::UnknownKey),
            (VAULT_KEY_UNAVAILABLE, Kind::KeyUnavailable),
            (VAULT_DOCTOR_FAILURES, Kind::DoctorFailures),
            (VAULT_KEY_DISABLED, Kind::KeyDisabled),
            (VAULT_KEY_DESTROYED, Kind::KeyDestroyed),
            (VAULT_REFUSED, Kind::Refused),
            (VAULT_DURABILITY_UNKNOWN, Kind::DurabilityUnknown),
            (VAULT_TEMPORARY, Kind::Temporary),
        ];
        assert_eq!(listed.len(), NAMES.len());
        for (at, (status, kind)) in listed.into_iter().enumerate() {
            assert_eq!(status, kind as Status);
            assert_eq!(status as usize, at + 1);
            // SAFETY: static and terminated.
            let name = unsafe { CStr::from_ptr(vault_status_name(status)) };
            assert_eq!(name.to_str().unwrap(), kind.as_str());
            assert_eq!(vault_status_exit_code(status), u32::from(kind.exit_code()));
        }
        // SAFETY: static and terminated.
        assert_eq!(unsafe { CStr::from_ptr(vault_status_name(28)) }, c"unclassified");
    }
}
