//! The functions of the C library that change files, taken over by this program.
//!
//! A symbol of the program goes before that of a shared library, so linking this crate is enough. Each
//! function does what the original does; while something is recorded, it notes the change under the
//! lock that also orders it among the others.
#![expect(
    unsafe_code,
    reason = "the functions are those of the C library, with its types"
)]

use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::record::{active, noted};

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// `RTLD_NEXT`: the same symbol in what was loaded after the program.
const NEXT: *mut c_void = std::ptr::without_provenance_mut(usize::MAX);

/// The original function of that name and type.
macro_rules! original {
    ($name:literal as $type:ty) => {{
        static FOUND: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
        let mut found = FOUND.load(Ordering::Relaxed);
        if found.is_null() {
            // SAFETY: the handle is a constant of the C library, the name ends in a zero.
            found = unsafe { dlsym(NEXT, $name.as_ptr()) };
            assert!(!found.is_null(), "the C library lacks {:?}", $name);
            FOUND.store(found, Ordering::Relaxed);
        }
        // SAFETY: the function of that name has that type.
        unsafe { std::mem::transmute::<*mut c_void, $type>(found) }
    }};
}

/// # Safety
/// `path` is a C string.
unsafe fn path_of<'a>(path: *const c_char) -> &'a Path {
    // SAFETY: the caller's promise.
    Path::new(OsStr::from_bytes(
        unsafe { CStr::from_ptr(path) }.to_bytes(),
    ))
}

/// # Safety
/// `fd` stays open while the result lives; a wrong number only makes the calls on it fail.
unsafe fn file_of<'a>(fd: c_int) -> Option<BorrowedFd<'a>> {
    // SAFETY: not -1, and the caller's promise.
    (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// # Safety
/// `bytes` points to as many bytes as a call said it wrote.
unsafe fn written<'a>(bytes: *const c_void, count: isize) -> &'a [u8] {
    match usize::try_from(count) {
        // SAFETY: the caller's promise.
        Ok(count) if count > 0 => unsafe { std::slice::from_raw_parts(bytes.cast(), count) },
        _ => &[],
    }
}

/// Makes sure that the functions below are linked into the program.
#[inline(never)]
pub(crate) fn linked() -> usize {
    let functions: [*const (); 12] = [
        open as *const (),
        open64 as *const (),
        write as *const (),
        pwrite as *const (),
        pwrite64 as *const (),
        writev as *const (),
        ftruncate as *const (),
        ftruncate64 as *const (),
        fsync as *const (),
        fdatasync as *const (),
        rename as *const (),
        unlink as *const (),
    ];
    functions
        .iter()
        .filter(|function| !function.is_null())
        .count()
}

type Open = unsafe extern "C" fn(*const c_char, c_int, c_uint) -> c_int;

/// # Safety
/// As the original.
unsafe fn opened(path: *const c_char, flags: c_int, mode: c_uint, original: Open) -> c_int {
    // SAFETY: the caller keeps to the original's contract. Its third argument is variadic, which for an
    // integer is passed no other way.
    unsafe {
        if !active() {
            return original(path, flags, mode);
        }
        noted(
            || original(path, flags, mode),
            |recordings, fd| {
                if let Some(file) = file_of(*fd) {
                    recordings.opened(path_of(path), flags, file);
                }
            },
        )
    }
}

/// # Safety
/// As the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let original = original!(c"open" as Open);
    // SAFETY: passed on.
    unsafe { opened(path, flags, mode, original) }
}

/// # Safety
/// As the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let original = original!(c"open64" as Open);
    // SAFETY: passed on.
    unsafe { opened(path, flags, mode, original) }
}

/// # Safety
/// As the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize {
    type Write = unsafe extern "C" fn(c_int, *const c_void, usize) -> isize;
    let original = original!(c"write" as Write);
    // SAFETY: passed on.
    unsafe {
        match file_of(fd).filter(|file| active() && crate::record::is_file(*file)) {
            None => original(fd, bytes, count),
            Some(file) => {
                noted(
                    || (crate::record::place(file), original(fd, bytes, count)),
                    |recordings, (at, done)| recordings.written(file, *at, written(bytes, *done)),
                )
                .1
            }
        }
    }
}

/// # Safety
/// As the original.
unsafe fn written_at(
    fd: c_int,
    bytes: *const c_void,
    count: usize,
    offset: i64,
    original: WriteAt,
) -> isize {
    // SAFETY: passed on.
    unsafe {
        match file_of(fd).filter(|_| active()) {
            None => original(fd, bytes, count, offset),
            Some(file) => noted(
                || original(fd, bytes, count, offset),
                |recordings, done| {
                    let at = u64::try_from(offset).unwrap_or(0);
                    recordings.written(file, at, written(bytes, *done));
                },
            ),
        }
    }
}

type WriteAt = unsafe extern "C" fn(c_int, *const c_void, usize, i64) -> isize;

/// # Safety
/// As the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(fd: c_int, bytes: *const c_void, count: usize, at: i64) -> isize {
    let original = original!(c"pwrite" as WriteAt);
    // SAFETY: passed on.
    unsafe { written_at(fd, bytes, count, at, original) }
}

/// # Safety
/// As the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, count: usize, at: i64) -> isize {
    let original = original!(c"pwrite64" as WriteAt);
    // SAFETY: passed on.
    unsafe { written_at(fd, bytes, count, at, original) }
}

/// `struct iovec`.
#[repr(C)]
struct Piece {
    bytes: *const c_void,
    count: usize,
}

/// # Safety
/// As the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, pieces: *const Piece, count: c_int) -> isize {
    type WriteV = unsafe extern "C" fn(c_int, *const Piece, c_int) -> isize;
    let original = original!(c"writev" as WriteV);
    // SAFETY: passed on; the pieces are as many as the caller says.
    unsafe {
        match file_of(fd).filter(|file| active() && crate::record::is_file(*file)) {
            None => original(fd, pieces, count),
            Some(file) => {
                noted(
                    || (crate::record::place(file), original(fd, pieces, count)),
                    |recordings, (at, done)| {
                        let mut all = Vec::new();
                        for piece in
                            std::slice::from_raw_parts(pieces, usize::try_from(count).unwrap_or(0))
                        {
                            all.extend_from_slice(written(piece.bytes, piece.count.cast_signed()));
                        }
                        all.truncate(usize::try_from(*done).unwrap_or(0));
                        recordings.written(file, *at, &all);
                    },
                )
                .1
            }
        }
    }
}

type Truncate = unsafe extern "C" fn(c_int, i64) -> c_int;

/// # Safety
/// As the original.
unsafe fn truncated(fd: c_int, length: i64, original: Truncate) -> c_int {
    // SAFETY: passed on.
    unsafe {
        match file_of(fd).filter(|_| active()) {
            None => original(fd, length),
            Some(file) => noted(
                || original(fd, length),
                |recordings, done| {
                    if *done == 0 {
                        recordings.cut(file, u64::try_from(length).unwrap_or(0));
                    }
                },
            ),
        }
    }
}

/// # Safety
/// As the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate(fd: c_int, length: i64) -> c_int {
    let original = original!(c"ftruncate" as Truncate);
    // SAFETY: passed on.
    unsafe { truncated(fd, length, original) }
}

/// # Safety
/// As the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate64(fd: c_int, length: i64) -> c_int {
    let original = original!(c"ftruncate64" as Truncate);
    // SAFETY: passed on.
    unsafe { truncated(fd, length, original) }
}

type Sync = unsafe extern "C" fn(c_int) -> c_int;

/// # Safety
/// As the original.
unsafe fn flushed(fd: c_int, original: Sync) -> c_int {
    // SAFETY: passed on.
    unsafe {
        match file_of(fd).filter(|_| active()) {
            None => original(fd),
            Some(file) => noted(
                || original(fd),
                |recordings, done| {
                    if *done == 0 {
                        recordings.flushed(file);
                    }
                },
            ),
        }
    }
}

/// # Safety
/// As the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    let original = original!(c"fsync" as Sync);
    // SAFETY: passed on.
    unsafe { flushed(fd, original) }
}

/// # Safety
/// As the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    let original = original!(c"fdatasync" as Sync);
    // SAFETY: passed on. What it leaves out (times) is in no image.
    unsafe { flushed(fd, original) }
}

/// # Safety
/// As the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    type Rename = unsafe extern "C" fn(*const c_char, *const c_char) -> c_int;
    let original = original!(c"rename" as Rename);
    // SAFETY: passed on.
    unsafe {
        if !active() {
            return original(from, to);
        }
        noted(
            || original(from, to),
            |recordings, done| {
                if *done == 0 {
                    recordings.renamed(path_of(from), path_of(to));
                }
            },
        )
    }
}

/// # Safety
/// As the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    type Unlink = unsafe extern "C" fn(*const c_char) -> c_int;
    let original = original!(c"unlink" as Unlink);
    // SAFETY: passed on.
    unsafe {
        if !active() {
            return original(path);
        }
        noted(
            || original(path),
            |recordings, done| {
                if *done == 0 {
                    recordings.removed(path_of(path));
                }
            },
        )
    }
}

/// # Safety
/// As the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: c_uint) -> c_int {
    type MakeDir = unsafe extern "C" fn(*const c_char, c_uint) -> c_int;
    let original = original!(c"mkdir" as MakeDir);
    // SAFETY: passed on.
    unsafe {
        if !active() {
            return original(path, mode);
        }
        noted(
            || original(path, mode),
            |recordings, done| {
                if *done == 0 {
                    recordings.made_folder(path_of(path));
                }
            },
        )
    }
}
