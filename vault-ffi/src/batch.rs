//! Many secrets or tokens in one call.

use core::ffi::c_char;
use core::ptr;

use vault_core::{Token, Vault};

use crate::boundary::{self, CallFailure, out};
use crate::buf::Buf;
use crate::context::{self, Context};
use crate::error::{Error, guard};
use crate::handle::{Handle, vault_of};
use crate::status::{Status, VAULT_OK, VAULT_USAGE};
use crate::token;

/// One secret or token of a batch, and its context.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Item {
    /// What it is bound to.
    pub context: *const Context,
    /// The secret, or the text of the token.
    pub data: *const u8,
    /// How many bytes.
    pub len: usize,
}

/// What became of each item, in the order of the items. vault_batch_free wipes it.
#[derive(Debug)]
pub struct Batch(Vec<Result<Buf, Error>>);

/// Seals many secrets. Returns VAULT_OK also where single ones fail: vault_batch_status tells of
/// each. All are sealed under one primary key.
///
/// Fails with VAULT_USAGE, VAULT_KEY_MISSING where the handle has no master keys, and VAULT_TOO_LARGE for
/// more than 1048576 items.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_seal_batch(
    vault: *const Handle,
    items: *const Item,
    items_len: usize,
    batch: *mut *mut Batch,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, batch) = unsafe { (vault_of(vault)?, out(batch)?) };
        // SAFETY: the rules of the header.
        let items = unsafe { boundary::elements(items, items_len, "batch", MAX_ITEMS)? };
        let sealed = vault.keys.sealing(|sealer| {
            let each = |item: &Item, context: &vault_core::Context| {
                // SAFETY: the rules of the header.
                let secret = unsafe { boundary::elements(item.data, item.len, "secret", vault.limit())? };
                Ok(Buf::text(sealer.seal(context, secret)?.text()))
            };
            // SAFETY: the rules of the header.
            unsafe { results(items, each) }
        })?;
        batch.give(Batch::of(sealed));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// Opens many tokens. Returns VAULT_OK also where single ones fail: vault_batch_status tells of
/// each.
///
/// Fails as vault_seal_batch.
///
/// # Safety
///
/// The rules of the header.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_open_batch(
    vault: *const Handle,
    items: *const Item,
    items_len: usize,
    batch: *mut *mut Batch,
    error: *mut *mut Error,
) -> Status {
    let call = || {
        // SAFETY: the rules of the header.
        let (vault, batch) = unsafe { (vault_of(vault)?, out(batch)?) };
        // SAFETY: the rules of the header.
        let items = unsafe { boundary::elements(items, items_len, "batch", MAX_ITEMS)? };
        let mut opened = Vec::new();
        vault.keys.opening_many(|sealer| {
            let each = |item: &Item, context: &vault_core::Context| {
                // SAFETY: the rules of the header.
                let text = unsafe { token::token_text(item.data.cast::<c_char>(), item.len, vault.limit())? };
                Ok(Buf::secret(&sealer.open(context, &Token::parse(text, vault.limit())?)?))
            };
            if opened.is_empty() {
                // SAFETY: the rules of the header.
                opened = unsafe { results(items, each) };
            } else {
                for (item, result) in items.iter().zip(&mut opened).filter(|(_, result)| may_be_newer(result)) {
                    // SAFETY: the rules of the header.
                    *result = unsafe { context::read(item.context) }.and_then(|context| each(item, &context));
                }
            }
            opened.iter().any(may_be_newer)
        })?;
        batch.give(Batch::of(opened));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { guard(error, call) }
}

/// Whether newer keys may open what did not open.
fn may_be_newer(result: &Result<Buf, CallFailure>) -> bool {
    matches!(result, Err(CallFailure::Core(error)) if Vault::may_be_newer(error))
}

/// What is done to an item.
trait Each: Fn(&Item, &vault_core::Context) -> Result<Buf, CallFailure> {}

impl<F: Fn(&Item, &vault_core::Context) -> Result<Buf, CallFailure>> Each for F {}

/// Does items one after the other. Those that follow each other often share a context.
///
/// # Safety
///
/// The contexts of the items are null or valid for reads, and so is what they point to.
unsafe fn results(items: &[Item], each: impl Each) -> Vec<Result<Buf, CallFailure>> {
    let mut known: Option<(*const Context, vault_core::Context)> = None;
    let one = |item: &Item| {
        let (_, context) = match known.take() {
            Some(same) if same.0 == item.context => known.insert(same),
            // SAFETY: as the caller says.
            _ => known.insert((item.context, unsafe { context::read(item.context)? })),
        };
        each(item, context)
    };
    items.iter().map(one).collect()
}

impl Batch {
    fn of(results: Vec<Result<Buf, CallFailure>>) -> Self {
        Self(results.into_iter().map(|result| result.map_err(|failure| Error::new(&failure))).collect())
    }
}

/// How many items. 0 for NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_batch_len(batch: *const Batch) -> usize {
    // SAFETY: the rules of the header.
    unsafe { boundary::view(batch, |batch| batch.0.len(), 0) }
}

/// The status of an item. VAULT_USAGE for an item that there is not.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_batch_status(batch: *const Batch, item: usize) -> Status {
    let status = |batch: &Batch| match batch.0.get(item) {
        Some(Ok(_)) => VAULT_OK,
        Some(Err(error)) => error.status(),
        None => VAULT_USAGE,
    };
    // SAFETY: the rules of the header.
    unsafe { boundary::view(batch, status, VAULT_USAGE) }
}

/// What an item became: the text of a token, or a secret; `*len` bytes, followed by a NUL. NULL and
/// 0 where it failed. Lives as long as the batch. `len` may be NULL.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_batch_data(batch: *const Batch, item: usize, len: *mut usize) -> *const u8 {
    let data = |batch: &Batch| match batch.0.get(item) {
        Some(Ok(buf)) => (buf.data(), buf.len()),
        _ => (ptr::null(), 0),
    };
    // SAFETY: the rules of the header.
    let (data, found) = unsafe { boundary::view(batch, data, (ptr::null(), 0)) };
    // SAFETY: the rules of the header.
    if let Ok(len) = unsafe { out(len) } {
        len.write(found);
    }
    data
}

/// Why an item failed. It belongs to the batch: do not free it. NULL where the item did not fail.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_batch_error(batch: *const Batch, item: usize) -> *const Error {
    let error = |batch: &Batch| match batch.0.get(item) {
        Some(Err(error)) => ptr::from_ref(error),
        _ => ptr::null(),
    };
    // SAFETY: the rules of the header.
    unsafe { boundary::view(batch, error, ptr::null()) }
}

/// Wipes what the items became and frees it, with the errors. NULL is nothing.
///
/// # Safety
///
/// The rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vault_batch_free(batch: *mut Batch) {
    // SAFETY: the rules of the header.
    unsafe { boundary::free(batch) }
}

/// Most items of a batch.
const MAX_ITEMS: usize = 1 << 20;
