//! Where pointers cross.

use core::ffi::c_char;
use core::ptr::NonNull;
use std::panic::{AssertUnwindSafe, catch_unwind};

use vault_core::Kind;

/// Why a call fails.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallFailure {
    /// What the library says.
    Core(vault_core::Error),
    /// The library has a bug: it panicked.
    Panic,
    /// The caller broke the contract of the header.
    Usage(&'static str),
}

impl From<vault_core::Error> for CallFailure {
    fn from(error: vault_core::Error) -> Self {
        Self::Core(error)
    }
}

/// A place for a result. Nothing is written there unless the call succeeds.
#[derive(Debug)]
pub struct Out<T>(NonNull<T>);

/// A place for a result.
///
/// # Errors
///
/// [`CallFailure::Usage`] for a null pointer.
///
/// # Safety
///
/// `place` is null or valid for a write until the call returns.
pub unsafe fn out<T>(place: *mut T) -> Result<Out<T>, CallFailure> {
    NonNull::new(place).map(Out).ok_or(CallFailure::Usage("a place for a result is NULL"))
}

impl<T> Out<T> {
    pub(crate) fn write(self, value: T) {
        // SAFETY: whoever made this said that the place may be written until the call returns.
        unsafe { self.0.write(value) }
    }
}

impl<T> Out<*mut T> {
    /// Hands an object to the caller, who gives it back to its free function.
    pub fn give(self, object: T) {
        self.write(Box::into_raw(Box::new(object)));
    }
}

/// An object that the caller was given.
///
/// # Safety
///
/// `object` is null or came from [`Out::give`], was not freed, and stays so while the result is
/// used.
pub(crate) unsafe fn object<'a, T>(object: *const T, null: &'static str) -> Result<&'a T, CallFailure> {
    // SAFETY: as the caller says.
    unsafe { object.as_ref() }.ok_or(CallFailure::Usage(null))
}

/// The same for objects that may be null where no failure can be told.
///
/// # Safety
///
/// As [`object`].
pub(crate) unsafe fn view<T, R>(object: *const T, look: impl FnOnce(&T) -> R, null: R) -> R {
    // SAFETY: as the caller says.
    unsafe { object.as_ref() }.map_or(null, look)
}

/// An object of the caller's that a call changes.
///
/// # Safety
///
/// As [`object`], and no other call uses it meanwhile.
pub(crate) unsafe fn object_mut<'a, T>(object: *mut T, null: &'static str) -> Result<&'a mut T, CallFailure> {
    // SAFETY: as the caller says.
    unsafe { object.as_mut() }.ok_or(CallFailure::Usage(null))
}

/// Takes an object back and drops it. Null is nothing.
///
/// # Safety
///
/// As [`object`], and the object is not used again.
pub(crate) unsafe fn free<T>(object: *mut T) {
    if object.is_null() {
        return;
    }
    // SAFETY: it came out of a box, and the caller gives it up.
    let object = unsafe { Box::from_raw(object) };
    // A panic while dropping would be a bug, and must not unwind into C either.
    drop(catch_unwind(AssertUnwindSafe(move || drop(object))));
}

/// Elements of the caller's. Their number is checked before they are touched.
///
/// # Safety
///
/// `data` is null or valid for reads of `len` elements while the result is used.
pub(crate) unsafe fn elements<'a, T>(
    data: *const T,
    len: usize,
    what: &'static str,
    limit: usize,
) -> Result<&'a [T], CallFailure> {
    if len > limit {
        return Err(vault_core::Error::TooLarge { what, limit }.into());
    }
    match (NonNull::new(data.cast_mut()), len) {
        (_, 0) => Ok(&[]),
        (None, _) => Err(CallFailure::Usage("a pointer is NULL and its length is not 0")),
        // SAFETY: it is not null, the caller says that it may be read, and no limit is near
        // `isize::MAX`.
        (Some(data), _) => Ok(unsafe { core::slice::from_raw_parts(data.as_ptr(), len) }),
    }
}

/// UTF-8 text of the caller's.
///
/// # Safety
///
/// As [`elements`].
pub(crate) unsafe fn text<'a>(
    data: *const c_char,
    len: usize,
    what: &'static str,
    limit: usize,
) -> Result<&'a str, CallFailure> {
    // SAFETY: as the caller says.
    let bytes = unsafe { elements(data.cast::<u8>(), len, what, limit)? };
    core::str::from_utf8(bytes).map_err(|_| vault_core::Error::Malformed { what: "text: it is not UTF-8" }.into())
}

/// UTF-8 text of the caller's, absent where the pointer is null.
///
/// # Safety
///
/// As [`elements`].
pub(crate) unsafe fn optional_text<'a>(
    data: *const c_char,
    len: usize,
    what: &'static str,
    limit: usize,
) -> Result<Option<&'a str>, CallFailure> {
    if data.is_null() && len == 0 {
        return Ok(None);
    }
    // SAFETY: as the caller says.
    unsafe { text(data, len, what, limit) }.map(Some)
}

impl CallFailure {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Core(error) => error.kind(),
            Self::Panic => Kind::Unclassified,
            Self::Usage(_) => Kind::Usage,
        }
    }

    pub(crate) fn public_kind(&self) -> Kind {
        match self {
            Self::Core(error) => error.public_code(),
            _ => self.kind(),
        }
    }
}

/// Longest name, path, tenant or other short text, in bytes.
pub(crate) const MAX_TEXT: usize = 4_096;
