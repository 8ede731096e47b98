//! A simulation's time and chance. One simulation a thread: its source is a thread's own.

use std::cell::RefCell;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Where a simulated process gets what a real one asks the system for.
struct Source {
    chance: StdRng,
    /// Milliseconds since the Unix epoch, as the process that asks sees them.
    clock_ms: Box<dyn Fn() -> u64>,
}

thread_local! {
    static SOURCE: RefCell<Option<Source>> = const { RefCell::new(None) };
}

/// From now on everything on this thread depends on `seed` and `clock_ms` alone.
pub fn begin(seed: u64, clock_ms: impl Fn() -> u64 + 'static) {
    SOURCE.with_borrow_mut(|source| {
        *source = Some(Source {
            chance: StdRng::seed_from_u64(seed),
            clock_ms: Box::new(clock_ms),
        });
    });
}

pub(crate) fn fill(bytes: &mut [u8]) {
    SOURCE.with_borrow_mut(|source| match source {
        Some(source) => source.chance.fill_bytes(bytes),
        None => panic!("chance was asked for outside a simulation: on another thread?"),
    });
}

pub(crate) fn clock_ms() -> u64 {
    SOURCE.with_borrow(|source| match source {
        Some(source) => (source.clock_ms)(),
        None => panic!("the clock was read outside a simulation: on another thread?"),
    })
}
