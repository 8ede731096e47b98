//! Binds pending VMs to hosts.
//!
//! It keeps an inventory of its own beside the state and takes in every change; its own bindings come
//! back to it as changes like anyone's. A pass begins only after all bindings of the pass before have
//! been committed or refused and taken in, so it never counts one twice or not at all.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use virtflow_logic::{Limits, Placer};
use virtflow_model::kinds::VirtualMachine;
use virtflow_raft::ChangeEvent;
use virtflow_state::{Change, State};
use virtflow_types::Timestamp;

use super::{Leader, host_row, propose_all};
use crate::app::App;

/// Without a change, pending VMs are looked at so often.
const PERIOD: Duration = Duration::from_secs(5);

pub(super) async fn run(app: App, leader: Arc<Leader>) {
    let limits = Limits::default();
    let (image, mut changes) = app.node().changes();
    let mut view = View {
        placer: Placer::new(&image),
        image,
        wanted: true,
    };
    let mut next = Instant::now();
    // What the last pass committed has been taken in once the view is this new.
    let mut rests_on = 0;
    loop {
        while !view.wanted || view.image.index() < rests_on {
            tokio::select! {
                event = changes.next() => match event {
                    Some(event) => view.take(&app, event),
                    None => return,
                },
                () = tokio::time::sleep_until(next) => view.wanted = true,
            }
            if view.image.index() < rests_on {
                continue;
            }
        }
        view.wanted = false;
        let began = Instant::now();
        view.note_loads(&leader);
        let changesets = view.placer.pass(&view.image, Timestamp::now(), &limits);
        app.metrics()
            .placer_pass_seconds
            .observe(began.elapsed().as_secs_f64());
        let full = changesets.len() >= limits.placements_per_pass;
        let outcome = propose_all(&app, changesets).await;
        leader.note_pass(&app, "placer", began, &outcome);
        // A full pass left some over; a refused binding was decided on an older state.
        view.wanted = full || outcome.error.is_some();
        rests_on = outcome.index;
        next = Instant::now() + PERIOD;
        if outcome.error.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The state as the placer has taken it in.
struct View {
    placer: Placer,
    image: Arc<State>,
    wanted: bool,
}

impl View {
    /// What heartbeats said of each host goes into the inventory: the books alone do not show what runs
    /// on a host besides our VMs.
    fn note_loads(&mut self, leader: &Leader) {
        let loads = leader.hosts().loads();
        for (host, used_mib, busy_ppm) in loads {
            let memory_mib = host_row(&self.image, host)
                .and_then(|row| row.status.inventory.get("memory_mib")?.as_u64());
            // A load without figures says nothing.
            if let Some(memory_mib) = memory_mib.filter(|_| used_mib > 0) {
                self.placer
                    .set_load(host, memory_mib.saturating_sub(used_mib), busy_ppm);
            }
        }
    }

    fn take(&mut self, app: &App, event: ChangeEvent) {
        match event {
            ChangeEvent::Entry(entry) => {
                self.image = Arc::new(entry.image.clone());
                self.placer.absorb(&self.image, &entry.changes);
                self.wanted |= entry.changes.iter().any(virtflow_logic::wakes_placer);
                for change in &entry.changes {
                    note_binding(app, change);
                }
            }
            ChangeEvent::Resync(image) => {
                self.placer = Placer::new(&image);
                self.image = image;
                self.wanted = true;
            }
        }
    }
}

/// Measures the way from creation to the first binding.
fn note_binding(app: &App, change: &Change) {
    let (Some(before), Some(after)) = (&change.before, &change.after) else {
        return;
    };
    if after.kind != virtflow_model::Kind::VirtualMachine.name() {
        return;
    }
    let read = |object| virtflow_logic::decoded::<VirtualMachine>(object).ok();
    if let (Some(before), Some(after)) = (read(before), read(after))
        && before.status.placement.is_none()
        && let Some(placement) = &after.status.placement
    {
        let waited = placement.placed_at.since(after.stamps.created_at);
        app.metrics()
            .placement_seconds
            .observe(waited.as_secs_f64());
    }
}
