//! Version skew: controllers run programs of several versions, which support cluster versions up to different
//! ones, and somebody in a hurry raises the cluster's again and again, also when a member cannot follow.
//!
//! Programs only become newer, and a machine made as new gets the newest: what an older one does with data of a
//! newer cluster version is not looked at here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use virtflow_controller::app::App;
use virtflow_state::{Changeset, Op};
use virtflow_types::{RequestId, Timestamp, chance};

use super::{clock, trace};

/// What the newest program supports; the oldest supports 1.
const NEWEST: u32 = 3;

thread_local! {
    /// By machine.
    static SUPPORTED: RefCell<BTreeMap<String, u32>> = const { RefCell::new(BTreeMap::new()) };
}

/// Begins a run: no machine has a program yet.
pub(crate) fn begin() {
    SUPPORTED.take();
    virtflow_controller::simulated::serve(|| supported_by(&clock::who()));
}

/// The highest cluster version that the program on a machine supports.
pub(crate) fn supported_by(name: &str) -> u32 {
    SUPPORTED.with_borrow(|supported| supported.get(name).copied().unwrap_or(1))
}

fn install(name: &str, supports: u32) {
    trace::note(format!(
        "{name} has a program for cluster version {supports}"
    ));
    SUPPORTED.with_borrow_mut(|supported| supported.insert(name.to_owned(), supports));
}

/// A controller's process is about to start: mostly from the program that was there, sometimes from the next.
pub(crate) fn starts(name: &str) {
    let (before, is_first) =
        SUPPORTED.with_borrow(|supported| (supported.get(name).copied(), supported.is_empty()));
    match before {
        // The cluster begins with what its first controller supports, which the others must support, too.
        None if is_first || chance::number().is_multiple_of(2) => install(name, 1),
        None => install(name, 2),
        Some(before) if before < NEWEST && chance::number().is_multiple_of(3) => {
            install(name, before + 1);
        }
        Some(_) => {}
    }
}

/// A machine is made as new.
pub(crate) fn is_made_new(name: &str) {
    install(name, NEWEST);
}

/// Raises the cluster version wherever this member leads, without asking who can follow: the state is to refuse.
pub(crate) async fn raise(app: App) {
    loop {
        tokio::time::sleep(Duration::from_millis(1000 + chance::number() % 4000)).await;
        if !app.leads() {
            continue;
        }
        let next = app.node().image().cluster_version() + 1;
        let (request_id, now) = (RequestId::generate(), Timestamp::now());
        let mut changeset = Changeset::new(request_id, now, "simulation");
        changeset.ops.push(Op::ClusterVersion(next));
        match app.node().propose(changeset).await {
            Ok(_) => trace::note(format!("the cluster version is {next}")),
            Err(error) => trace::note(format!("the cluster version is not {next}: {error}")),
        }
    }
}
