//! Contexts as C spells them.

use core::ffi::c_char;

use vault_core::{ContextHash, HARD_LIMIT, MAX_ENCODING, MAX_FIELD, MAX_FIELDS};

use crate::boundary::{self, CallFailure, MAX_TEXT};

/// A text of the caller's: UTF-8, not terminated. `data` NULL is an absent text, which differs from
/// an empty one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Str {
    /// The bytes.
    pub data: *const c_char,
    /// How many.
    pub len: usize,
}

/// A name and its value.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Pair {
    /// The name.
    pub key: Str,
    /// The value.
    pub value: Str,
}

/// What a token is bound to: it opens only for an equal context. Texts have at most 4096 bytes, and
/// there are at most 64 fields.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Context {
    /// What kind of secret it is, as in "user-secret".
    pub purpose: Str,
    /// Whose secret it is.
    pub tenant: Str,
    /// Which secret it is.
    pub name: Str,
    /// Further pairs, in any order; each key once.
    pub extra: *const Pair,
    /// How many.
    pub extra_len: usize,
    /// Not 0: bound to nothing is what is meant, and a token opens wherever it is moved to. With 0,
    /// a context without any field is refused with VAULT_USAGE, because a struct of zeros is an
    /// accident.
    pub unbound: u32,
}

impl Str {
    /// # Safety
    ///
    /// As [`boundary::elements`].
    pub(crate) unsafe fn read<'a>(self, what: &'static str, limit: usize) -> Result<Option<&'a str>, CallFailure> {
        // SAFETY: as the caller says.
        unsafe { boundary::optional_text(self.data, self.len, what, limit) }
    }
}

/// Names and values of the caller's.
///
/// # Errors
///
/// [`CallFailure::Usage`] for a pair without name or value; what is no text or too long.
///
/// # Safety
///
/// `data` is null or valid for reads of `len` pairs while the result is used, and so is what they point to.
pub unsafe fn pairs<'a>(data: *const Pair, len: usize) -> Result<Vec<(&'a str, &'a str)>, CallFailure> {
    // SAFETY: as the caller says.
    let pairs = unsafe { boundary::elements(data, len, "list of pairs", MAX_PAIRS)? };
    let mut read = Vec::with_capacity(pairs.len());
    for pair in pairs {
        // SAFETY: as the caller says.
        let (key, value) = unsafe { (pair.key.read("name", MAX_TEXT)?, pair.value.read("value", HARD_LIMIT)?) };
        read.push(key.zip(value).ok_or(CallFailure::Usage("a pair has no name or no value"))?);
    }
    Ok(read)
}

/// # Safety
///
/// `context` is null or valid for reads, and so is what it points to.
pub(crate) unsafe fn read(context: *const Context) -> Result<vault_core::Context, CallFailure> {
    // SAFETY: as the caller says.
    let given = unsafe { boundary::object(context, "the context is NULL")? };
    // SAFETY: as the caller says.
    let field = |text: Str| unsafe { text.read("context value", MAX_FIELD) };
    // SAFETY: as the caller says.
    let extra = unsafe { boundary::elements(given.extra, given.extra_len, "context", MAX_FIELDS)? };
    let mut context = vault_core::Context::none();
    let mut fields = 0;
    if let Some(purpose) = field(given.purpose)? {
        context = context.purpose(purpose);
        fields += 1;
    }
    if let Some(tenant) = field(given.tenant)? {
        context = context.tenant(tenant);
        fields += 1;
    }
    if let Some(name) = field(given.name)? {
        context = context.name(name);
        fields += 1;
    }
    let mut copied = 0;
    for (at, pair) in extra.iter().enumerate() {
        let (Some(key), Some(value)) = (field(pair.key)?, field(pair.value)?) else {
            return Err(CallFailure::Usage("a pair of the context has no key or no value"));
        };
        copied += key.len() + value.len();
        if copied > MAX_ENCODING {
            return Err(vault_core::Error::TooLarge { what: "encoded context", limit: MAX_ENCODING }.into());
        }
        for earlier in extra.iter().take(at) {
            if field(earlier.key)? == Some(key) {
                return Err(CallFailure::Usage("a key is given twice in the context"));
            }
        }
        context = context.extra(key, value);
        fields += 1;
    }
    match (fields, given.unbound) {
        (0, 0) => Err(CallFailure::Usage("the context has no field; set `unbound` if it is bound to nothing")),
        (0, _) | (_, 0) => Ok(context),
        _ => Err(CallFailure::Usage("the context has fields and is said to be unbound")),
    }
}

/// # Safety
///
/// `hash` is null or valid for reads of 32 bytes.
pub(crate) unsafe fn hash(hash: *const u8) -> Result<ContextHash, CallFailure> {
    // SAFETY: as the caller says.
    let hash = unsafe { boundary::object(hash.cast::<[u8; 32]>(), "the hash of a context is NULL")? };
    if *hash == [0; 32] {
        return Err(CallFailure::Usage("the hash of a context is zeros; vault_context_hash writes it"));
    }
    Ok(ContextHash::from_bytes(*hash))
}

/// Most pairs of a list.
const MAX_PAIRS: usize = 1 << 16;
