//! Why a call failed, and where panics stop.

use core::ffi::c_char;
use core::ptr::{self, NonNull};
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};

use vault_core::Kind;

use crate::boundary::{self, CallFailure};
use crate::status::{Status, VAULT_OK};

/// Runs one call. Its failure becomes a status and, unless `error` is null, an object there. A panic
/// ends here.
///
/// # Safety
///
/// `error` is null or valid for the write of a pointer.
pub unsafe fn guard(error: *mut *mut Error, call: impl FnOnce() -> Result<(), CallFailure>) -> Status {
    // What a call shares with others are immutable values behind atomic pointers and locks whose
    // poison is ignored, so nothing half-changed is seen after a panic.
    let failure = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => return VAULT_OK,
        Ok(Err(failure)) => failure,
        Err(_) => CallFailure::Panic,
    };
    let failure = Error::new(&failure);
    let status = failure.status();
    if let Some(error) = NonNull::new(error) {
        // SAFETY: it is not null, and the caller says that it may be written.
        unsafe { error.write(Box::into_raw(Box::new(failure))) };
    }
    status
}

/// Why a call failed: a status for programs, a text for people. Neither holds a secret, key text or
/// a token.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    public: Kind,
    name: CString,
    message: CString,
    hint: Option<CString>,
}

impl Error {
    pub(crate) fn new(failure: &CallFailure) -> Self {
        let (message, hint) = match failure {
            CallFailure::Core(error) => (error.to_string(), error.hint().map(str::to_owned)),
            CallFailure::Panic => ("the library failed: this is a bug in it".to_owned(), None),
            CallFailure::Usage(what) => ((*what).to_owned(), Some("see vault.h".to_owned())),
        };
        let (kind, public) = (failure.kind(), failure.public_kind());
        Self { kind, public, name: c_text(kind.as_str()), message: c_text(&message), hint: hint.as_deref().map(c_text) }
    }

    pub(crate) fn status(&self) -> Status {
        self.kind as Status
    }
}

/// The status that the call returned. VAULT_OK for NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_error_status(error: *const Error) -> Status {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(error, Error::status, VAULT_OK) }
}

/// What to tell a remote caller: the status, or VAULT_OPEN_FAILED for everything that a token or
/// value can be refused for, so that nobody learns from an answer why it was. VAULT_OK for NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_error_public_status(error: *const Error) -> Status {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(error, |error| error.public as Status, VAULT_OK) }
}

/// The stable name of the status, as in "context-mismatch", terminated by NUL. Lives as long as the
/// error. NULL for NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_error_kind(error: *const Error) -> *const c_char {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(error, |error| error.name.as_ptr(), ptr::null()) }
}

/// One line for people, UTF-8 terminated by NUL. Lives as long as the error. NULL for NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_error_message(error: *const Error) -> *const c_char {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(error, |error| error.message.as_ptr(), ptr::null()) }
}

/// What to do, where the message does not say it already: UTF-8 terminated by NUL, or NULL. Lives
/// as long as the error.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_error_hint(error: *const Error) -> *const c_char {
    let hint = |error: &Error| error.hint.as_ref().map_or(ptr::null(), |hint| hint.as_ptr());
    // SAFETY: the rules of the header.
    unsafe { boundary::view(error, hint, ptr::null()) }
}

/// Frees an error. NULL is nothing.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_error_free(error: *mut Error) {
    // SAFETY: the rules of the header.
    unsafe { boundary::free(error) }
}

/// A text that ends where a NUL in it would end it for C.
pub(crate) fn c_text(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(text.get(..end).unwrap_or_default()).unwrap_or_default()
}
