//! What safe code cannot ask the operating system for: pages that stay out of core files and of swap,
//! and how much stack is left.
//!
//! All unsafe code that `vault-core` rests on, its dependencies aside, is here.
#![allow(unsafe_code, reason = "mmap, mlock and the bounds of stacks")]
#![deny(unsafe_op_in_unsafe_fn)]

use core::cell::Cell;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use std::alloc::{Layout, handle_alloc_error};

/// A value on pages of its own, which are not written to core files and, as far as the limit of the
/// process (`RLIMIT_MEMLOCK`) allows, not to swap.
///
/// Both are tried and neither is promised. What is dropped is not wiped here: the value does that.
#[derive(Debug)]
pub struct Kept<T: ?Sized>(NonNull<T>);

// SAFETY: a `Kept` owns its value as a box does, and gives out what a box gives out.
unsafe impl<T: ?Sized + Send> Send for Kept<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for Kept<T> {}

impl<T> Kept<T> {
    /// Moves a value there.
    ///
    /// Ends the process where there is no memory, as a box does.
    #[must_use]
    pub fn new(value: T) -> Self {
        let place = pages(Layout::new::<T>()).cast::<T>();
        // SAFETY: the pages are new, writable, aligned and large enough.
        unsafe { place.write(value) };
        Self(place)
    }
}

impl Kept<[u8]> {
    /// Copies bytes there.
    ///
    /// Ends the process where there is no memory, as a box does.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let place = pages(Layout::for_value(bytes));
        // SAFETY: the pages are new, writable and as long, so that they do not overlap the bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place.as_ptr(), bytes.len()) };
        Self(NonNull::slice_from_raw_parts(place, bytes.len()))
    }
}

impl<T: ?Sized> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it points to the value, which lives as long as this does.
        unsafe { self.0.as_ref() }
    }
}

impl Kept<[u8]> {
    /// The bytes, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: it points to the bytes, which live as long as this does and are borrowed once.
        unsafe { self.0.as_mut() }
    }
}

impl<T: ?Sized> Drop for Kept<T> {
    fn drop(&mut self) {
        let length = mapped(Layout::for_value::<T>(self));
        // SAFETY: the value is not used again.
        unsafe { ptr::drop_in_place(self.0.as_ptr()) };
        // SAFETY: the pages are those of `pages`, and nothing points to them any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), length) };
    }
}

/// New pages of zeros.
fn pages(layout: Layout) -> NonNull<u8> {
    let length = mapped(layout);
    // SAFETY: asks for new memory and touches no other.
    let place = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    let Some(place) =
        NonNull::new(place.cast::<u8>()).filter(|_| place != libc::MAP_FAILED && layout.align() <= SMALLEST_PAGE)
    else {
        handle_alloc_error(layout)
    };
    // SAFETY: changes nothing of what is read or written in these pages; a refusal leaves them as they are.
    unsafe {
        libc::madvise(place.as_ptr().cast(), length, libc::MADV_DONTDUMP);
        libc::mlock(place.as_ptr().cast(), length);
    }
    place
}

/// The length of a mapping, which is never empty.
fn mapped(layout: Layout) -> usize {
    layout.size().max(1)
}

const SMALLEST_PAGE: usize = 4_096;

/// How many bytes of stack there are below the caller. 0 where it is not the thread's own stack, as in a
/// coroutine, or the system does not say.
#[must_use]
pub fn stack_left() -> usize {
    thread_local! {
        // No destructor, so that threads that end can ask, too.
        static STACK: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
    }
    let (lowest, end) = STACK.get().unwrap_or_else(|| {
        let stack = own_stack().unwrap_or_default();
        STACK.set(Some(stack));
        stack
    });
    let here = 0_u8;
    let here = (&raw const here).addr();
    if (lowest..end).contains(&here) { here - lowest } else { 0 }
}

/// The lowest address of the thread's stack, and the one behind its highest.
fn own_stack() -> Option<(usize, usize)> {
    let mut attributes = core::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: fills the attributes, which are destroyed below, of a thread that is running.
    if unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) } != 0 {
        return None;
    }
    let (mut lowest, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the attributes are filled, and both places may be written.
    let failed = unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut lowest, &raw mut size) };
    // SAFETY: the attributes are filled, and not used again.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    (failed == 0).then(|| (lowest.addr(), lowest.addr().saturating_add(size)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// The flags of the mapping that an address is in, as the kernel tells them.
    fn flags(address: usize) -> String {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            if let Some((Ok(start), Ok(end))) =
                range.map(|(start, end)| (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16)))
            {
                inside = (start..end).contains(&address);
            }
            if inside && line.starts_with("VmFlags:") {
                return line.to_owned();
            }
        }
        panic!("no mapping holds {address:x}")
    }

    #[test]
    fn values_stay_out_of_core_files_and_of_swap() {
        let value = Kept::new([7_u8; 5_000]);
        let bytes = Kept::copy_of(b"a key");
        assert_eq!((value[4_999], &bytes[..]), (7, &b"a key"[..]));
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limit may be written.
        unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
        for address in [(&raw const value[4_999]).addr(), bytes.as_ptr().addr()] {
            let flags = flags(address);
            assert!(flags.contains(" dd"), "not kept out of core files: {flags}");
            assert!(limit.rlim_cur < 1 << 16 || flags.contains(" lo"), "not locked: {flags}");
        }
        let empty = Kept::copy_of(b"");
        assert!(empty.is_empty());
    }

    #[test]
    fn a_value_is_dropped_once() {
        struct Counts<'a>(&'a AtomicUsize);
        impl Drop for Counts<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = AtomicUsize::new(0);
        let value = Kept::new(Counts(&count));
        assert_eq!(count.load(Ordering::Relaxed), 0);
        drop(value);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_thread_knows_its_stack() {
        for size in [64 << 10, 1 << 20] {
            let left = std::thread::Builder::new().stack_size(size).spawn(stack_left).unwrap().join().unwrap();
            assert!(left > size / 2 && left <= size + SMALLEST_PAGE, "{left} of {size}");
        }
        assert!(stack_left() > 0);
    }

    /// As coroutines have.
    #[test]
    #[cfg(target_env = "gnu")]
    fn the_stack_of_somebody_else_is_not_known() {
        static LEFT: AtomicUsize = AtomicUsize::new(1);
        extern "C" fn look() {
            LEFT.store(stack_left(), Ordering::Relaxed);
        }
        let mut stack = vec![0_u8; 256 << 10];
        let (mut here, mut there) =
            (core::mem::MaybeUninit::uninit(), core::mem::MaybeUninit::<libc::ucontext_t>::uninit());
        // SAFETY: the context is filled before it is changed, runs on a stack that outlives it, and comes
        // back to this one.
        unsafe {
            assert_eq!(libc::getcontext(there.as_mut_ptr()), 0);
            (*there.as_mut_ptr()).uc_stack.ss_sp = stack.as_mut_ptr().cast();
            (*there.as_mut_ptr()).uc_stack.ss_size = stack.len();
            (*there.as_mut_ptr()).uc_link = here.as_mut_ptr();
            libc::makecontext(there.as_mut_ptr(), look, 0);
            assert_eq!(libc::swapcontext(here.as_mut_ptr(), there.as_ptr()), 0);
        }
        assert_eq!(LEFT.load(Ordering::Relaxed), 0);
    }
}
