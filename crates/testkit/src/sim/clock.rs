//! Virtual time, and who is running: each simulated machine has a runtime of its own, by which it is known.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::runtime::{Handle, Id};

/// When every run begins: 2026-01-01T00:00:00Z.
pub(crate) const EPOCH_MS: u64 = 1_767_225_600_000;

#[derive(Default)]
struct Clocks {
    /// Virtual time between steps, when no machine runs.
    elapsed: Duration,
    names: BTreeMap<String, i64>,
    running: Vec<(Id, String)>,
}

thread_local! {
    static ASKED: Cell<bool> = const { Cell::new(false) };
    static CLOCKS: RefCell<Clocks> = RefCell::new(Clocks::default());
}

/// Begins a run: everything that asks for time or chance from now on gets what follows from `seed`.
pub(crate) fn begin(seed: u64) {
    CLOCKS.with_borrow_mut(|clocks| *clocks = Clocks::default());
    virtflow_types::simulated::begin(seed, wall_ms);
}

/// Says whose runtime this is. To be called first thing by what runs on a machine.
pub(crate) fn here_runs(name: &str) {
    let id = Handle::current().id();
    CLOCKS.with_borrow_mut(|clocks| {
        clocks.running.retain(|(_, known)| known != name);
        clocks.running.push((id, name.to_owned()));
    });
}

/// Who is running; empty between steps.
pub(crate) fn who() -> String {
    let Ok(handle) = Handle::try_current() else {
        return String::new();
    };
    let id = handle.id();
    CLOCKS.with_borrow(|clocks| {
        let found = clocks.running.iter().find(|(known, _)| *known == id);
        found.map(|(_, name)| name.clone()).unwrap_or_default()
    })
}

/// Virtual time since the run began.
///
/// While a machine's runtime is being taken down it has no time of its own, and what it asks comes back
/// here: then it is the time of the step.
pub(crate) fn elapsed() -> Duration {
    let of_the_step = || CLOCKS.with_borrow(|clocks| clocks.elapsed);
    if ASKED.replace(true) {
        return of_the_step();
    }
    let elapsed = turmoil::sim_elapsed();
    ASKED.set(false);
    elapsed.unwrap_or_else(of_the_step)
}

/// Told before each step.
pub(crate) fn set_elapsed(elapsed: Duration) {
    CLOCKS.with_borrow_mut(|clocks| clocks.elapsed = elapsed);
}

/// From now on that machine's wall clock is off by so much.
pub(crate) fn set_offset_ms(name: &str, offset_ms: i64) {
    CLOCKS.with_borrow_mut(|clocks| {
        clocks.names.insert(name.to_owned(), offset_ms);
    });
}

pub(crate) fn wall_ms() -> u64 {
    let now = EPOCH_MS + u64::try_from(elapsed().as_millis()).unwrap_or(0);
    let who = who();
    let offset = CLOCKS.with_borrow(|clocks| clocks.names.get(&who).copied().unwrap_or(0));
    now.saturating_add_signed(offset)
}
