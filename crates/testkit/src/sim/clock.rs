//! Virtual time, and who is running: each simulated machine has a runtime of its own, by which it is known.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::sync::mpsc;
use tokio::time::Instant;
use virtflow_pki::net::simulated::{self, Request};

use super::controller::lock;
use super::kernel::Line;

/// When every run begins: 2026-01-01T00:00:00Z.
pub(crate) const EPOCH_MS: u64 = 1_767_225_600_000;

#[derive(Default)]
struct Clocks {
    /// Virtual time between steps, when no machine runs.
    elapsed: Duration,
    names: BTreeMap<String, i64>,
    running: Vec<Running>,
}

/// A process by its runtime.
struct Running {
    id: Id,
    name: String,
    line: Line,
    /// One moment by virtual time and by the process's own clock.
    began: (Duration, Instant),
}

thread_local! {
    static ASKED: Cell<bool> = const { Cell::new(false) };
    static CLOCKS: RefCell<Clocks> = RefCell::new(Clocks::default());
}

/// Begins a run: everything that asks for time or chance from now on gets what follows from `seed`.
pub(crate) fn begin(seed: u64) {
    CLOCKS.with_borrow_mut(|clocks| *clocks = Clocks::default());
    virtflow_types::simulated::begin(seed, wall_ms);
    simulated::serve(line);
}

/// Says whose runtime this is, and which machine it runs on.
pub(crate) fn here_runs(name: &str, line: Line) {
    let id = Handle::current().id();
    let instant = Instant::now();
    CLOCKS.with_borrow_mut(|clocks| {
        clocks.running.retain(|running| running.name != name);
        clocks.running.push(Running {
            id,
            name: name.to_owned(),
            line,
            began: (clocks.elapsed, instant),
        });
    });
}

/// What the process that runs has of its own, if one does.
fn of_running<T>(f: impl FnOnce(&Running) -> T) -> Option<T> {
    let id = Handle::try_current().ok()?.id();
    CLOCKS.with_borrow(|clocks| clocks.running.iter().find(|one| one.id == id).map(f))
}

/// Who is running; empty between steps and within the network.
pub(crate) fn who() -> String {
    of_running(|running| running.name.clone()).unwrap_or_default()
}

fn line() -> Option<mpsc::UnboundedSender<Request>> {
    of_running(|running| lock(&running.line).clone()).flatten()
}

/// Virtual time since the run began: by the clock of the process that runs, else that of the step.
pub(crate) fn elapsed() -> Duration {
    let of_the_step = || CLOCKS.with_borrow(|clocks| clocks.elapsed);
    // What is asked may ask for the time itself.
    if ASKED.replace(true) {
        return of_the_step();
    }
    let own = of_running(|running| running.began)
        .map(|(began, instant)| began + Instant::now().duration_since(instant));
    let elapsed = own.or_else(turmoil::sim_elapsed);
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
