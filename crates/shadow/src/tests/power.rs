//! Power cuts: of each file only what was flushed is left.
//!
//! A file layer under SQLite keeps, at each flush, what the file holds. A cut is the set of these images
//! at one moment: everything that was written and not flushed is gone.
#![expect(
    unsafe_code,
    reason = "SQLite takes its file layer as a table of C functions"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, c_char, c_int};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Mutex, Once};
use std::time::Duration;

use libsqlite3_sys as ffi;
use sqlx::sqlite::SqliteConnectOptions;
use virtflow_state::port::Shadow as _;

use super::machine::{Machine, assert_same, open, options};
use crate::{ShadowOptions, SqliteShadow, Timing};

const NAME: &CStr = c"flushed";

type Images = BTreeMap<PathBuf, Vec<u8>>;

/// Folders whose files are watched.
static WATCHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// What each watched file held when it was last flushed.
static IMAGES: Mutex<Images> = Mutex::new(BTreeMap::new());
/// Open watched files by the address of SQLite's handle.
static FILES: Mutex<BTreeMap<usize, Watched>> = Mutex::new(BTreeMap::new());

#[derive(Clone)]
struct Watched {
    path: PathBuf,
    methods: &'static ffi::sqlite3_io_methods,
}

/// Puts the layer under connections to files of watched folders.
pub(crate) fn watch(path: &Path, options: SqliteConnectOptions) -> SqliteConnectOptions {
    let watched = WATCHED.lock().unwrap();
    if watched.iter().any(|dir| path.starts_with(dir)) {
        options.vfs(NAME.to_str().unwrap())
    } else {
        options
    }
}

fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the default layer lives for ever; ours is a copy of it that differs in how files are
        // opened and deleted, and is leaked, so that it lives for ever too.
        unsafe {
            let mut layer = *ffi::sqlite3_vfs_find(ptr::null());
            layer.zName = NAME.as_ptr();
            layer.pNext = ptr::null_mut();
            layer.xOpen = Some(open_watched);
            layer.xDelete = Some(delete_watched);
            let layer = Box::leak(Box::new(layer));
            assert_eq!(ffi::sqlite3_vfs_register(layer, 0), ffi::SQLITE_OK);
        }
    });
}

unsafe extern "C" fn open_watched(
    _layer: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: called by SQLite with what its contract promises; the default layer gets the same. After
    // it succeeded, `file` has a method table, which is replaced by a copy that lives for ever.
    unsafe {
        let real = ffi::sqlite3_vfs_find(ptr::null());
        let result = (*real).xOpen.unwrap()(real, name, file, flags, out_flags);
        if result != ffi::SQLITE_OK || name.is_null() {
            return result;
        }
        let methods: &'static ffi::sqlite3_io_methods = &*(*file).pMethods;
        let path = PathBuf::from(CStr::from_ptr(name).to_str().unwrap());
        if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
            // It had another name when it was flushed.
            let content = content_of(methods, file);
            IMAGES
                .lock()
                .unwrap()
                .entry(path.clone())
                .or_insert(content);
        }
        let watched = Watched { path, methods };
        FILES.lock().unwrap().insert(file.addr(), watched);
        (*file).pMethods = Box::leak(Box::new(ffi::sqlite3_io_methods {
            xSync: Some(sync_watched),
            xClose: Some(close_watched),
            ..*methods
        }));
        result
    }
}

unsafe extern "C" fn delete_watched(
    _layer: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    sync_dir: c_int,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        let real = ffi::sqlite3_vfs_find(ptr::null());
        let path = PathBuf::from(CStr::from_ptr(name).to_str().unwrap());
        IMAGES.lock().unwrap().remove(&path);
        (*real).xDelete.unwrap()(real, name, sync_dir)
    }
}

unsafe extern "C" fn sync_watched(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    let watched = FILES.lock().unwrap()[&file.addr()].clone();
    // SAFETY: the file is open, and the methods are its own.
    unsafe {
        let result = watched.methods.xSync.unwrap()(file, flags);
        if result == ffi::SQLITE_OK {
            let content = content_of(watched.methods, file);
            IMAGES.lock().unwrap().insert(watched.path, content);
        }
        result
    }
}

unsafe extern "C" fn close_watched(file: *mut ffi::sqlite3_file) -> c_int {
    let watched = FILES.lock().unwrap().remove(&file.addr()).unwrap();
    // SAFETY: as above; SQLite does not use the file after this.
    unsafe { watched.methods.xClose.unwrap()(file) }
}

/// # Safety
/// `file` is open, and `methods` are its own.
unsafe fn content_of(methods: &ffi::sqlite3_io_methods, file: *mut ffi::sqlite3_file) -> Vec<u8> {
    let mut size = 0;
    // SAFETY: the caller's promise; the buffer is as long as what is read into it.
    unsafe {
        assert_eq!(methods.xFileSize.unwrap()(file, &mut size), ffi::SQLITE_OK);
        let mut content = vec![0_u8; usize::try_from(size).unwrap()];
        let length = c_int::try_from(size).unwrap();
        if length > 0 {
            let read = methods.xRead.unwrap()(file, content.as_mut_ptr().cast(), length, 0);
            assert_eq!(read, ffi::SQLITE_OK);
        }
        content
    }
}

/// One cut: what had been promised, and what is left.
struct Cut {
    durable: u64,
    written: u64,
    images: Images,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_at_any_moment_keeps_what_was_durable() {
    register();
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    WATCHED.lock().unwrap().push(live.clone());
    let options = ShadowOptions {
        timing: Timing {
            linger: Duration::ZERO,
            durable_every: Duration::from_millis(40),
        },
        ..options()
    };
    let (shadow, _) = SqliteShadow::open(&live, options).await.unwrap();
    let mut machine = Machine::new();
    machine.fill(120);
    let mut cuts = Vec::new();
    for entry in &machine.entries {
        shadow.submit(entry.clone());
        shadow.log_flushed(entry.index);
        if entry.index % 3 == 0 {
            shadow.wait_written(entry.index).await.unwrap();
        }
        // What was promised is read first: what is left may only be more.
        let progress = shadow.progress();
        let images = IMAGES.lock().unwrap().clone();
        cuts.push(Cut {
            durable: progress.durable,
            written: progress.written,
            images,
        });
    }
    shadow.close().await.unwrap();
    drop(shadow);

    let mut found = BTreeSet::new();
    let mut lost = 0;
    for (number, cut) in cuts.iter().enumerate() {
        let left = dir.path().join(format!("left-{number}"));
        fs::create_dir_all(&left).unwrap();
        fs::copy(live.join("CURRENT"), left.join("CURRENT")).unwrap();
        for (path, content) in &cut.images {
            if path.parent() == Some(live.as_path()) {
                fs::write(left.join(path.file_name().unwrap()), content).unwrap();
            }
        }
        let (shadow, loaded) = open(&left).await;
        let index = loaded.state.index();
        assert!(
            index >= cut.durable,
            "{} was durable, {index} is left",
            cut.durable
        );
        found.insert(index);
        lost += u32::from(index < cut.written);
        if index > 0 {
            let image = &machine.entries[usize::try_from(index).unwrap() - 1].image;
            assert_same(&loaded, image);
        }
        machine.submit_after(&shadow, index);
        shadow.wait_durable(machine.index()).await.unwrap();
        assert_eq!(shadow.missing_records().await.unwrap(), vec![]);
        let report = shadow.verify_stream("audit").await.unwrap();
        assert_eq!(report.broken, None);
        assert_eq!(report.verified, machine.state.stream("audit").count);
        drop(shadow);
        fs::remove_dir_all(&left).unwrap();
    }
    // The cuts did cut something off, at several places.
    assert!(
        lost > 5 && found.len() > 3,
        "{lost} cuts lost something; left: {found:?}"
    );
}
