//! Which branches were taken, in a build that counts them.
//!
//! `cargo xtask fuzz` builds with the compiler's own counters, one byte a branch, all in one table that the
//! program hands over at its start. In any other build there is no table and nothing is known.
#![cfg_attr(
    fuzz_coverage,
    expect(unsafe_code, reason = "the table comes as two raw pointers")
)]

/// The counters, and what was ever seen of each.
#[derive(Debug)]
pub(super) struct Coverage {
    table: &'static [std::sync::atomic::AtomicU8],
    /// For each counter the powers of two that it reached.
    seen: Vec<u8>,
    taken: usize,
}

impl Coverage {
    pub(super) fn find() -> Self {
        let table = table();
        Self {
            seen: vec![0; table.len()],
            table,
            taken: 0,
        }
    }

    pub(super) fn is_there(&self) -> bool {
        !self.table.is_empty()
    }

    /// Whether anything happened since the last call that never happened before; forgets the counts.
    pub(super) fn is_new(&mut self) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        let mut is_new = false;
        for (counter, seen) in self.table.iter().zip(&mut self.seen) {
            let count = counter.load(Relaxed);
            if count != 0 {
                counter.store(0, Relaxed);
                let bit = 1 << count.ilog2();
                if *seen & bit == 0 {
                    self.taken += usize::from(*seen == 0);
                    *seen |= bit;
                    is_new = true;
                }
            }
        }
        is_new
    }

    pub(super) fn said(&self) -> String {
        if self.is_there() {
            format!("{} of {} branches taken", self.taken, self.table.len())
        } else {
            "not guided by branches".to_owned()
        }
    }
}

#[cfg(not(fuzz_coverage))]
fn table() -> &'static [std::sync::atomic::AtomicU8] {
    &[]
}

#[cfg(fuzz_coverage)]
use handed::table;

#[cfg(fuzz_coverage)]
mod handed {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU8;

    static TABLE: Mutex<(usize, usize)> = Mutex::new((0, 0));

    /// Called by every instrumented module before `main`, each time with the whole table.
    ///
    /// # Safety
    /// Only the compiler's own code calls it, with the ends of a table that lives for ever.
    #[unsafe(no_mangle)]
    extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
        if let Ok(mut table) = TABLE.lock() {
            *table = (start as usize, end as usize);
        }
    }

    pub(super) fn table() -> &'static [AtomicU8] {
        let (start, end) = TABLE.lock().map(|table| *table).unwrap_or_default();
        assert!(start != 0, "this build was to count branches and does not");
        // SAFETY: the table is static memory of this program, and bytes that are only touched one by one
        // may be looked at as atomic ones.
        unsafe { std::slice::from_raw_parts(start as *const AtomicU8, end - start) }
    }
}
