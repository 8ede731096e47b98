//! From the change stream to the sessions: who must be told anew, and who must go.

use virtflow_model::Kind;
use virtflow_raft::ChangeEvent;
use virtflow_state::State;

use crate::app::App;

/// Runs until the node stops.
pub async fn run(app: App) {
    let (_, mut changes) = app.node().changes();
    while let Some(event) = changes.next().await {
        match event {
            ChangeEvent::Entry(entry) => {
                let mut a_host_changed = false;
                for change in &entry.changes {
                    app.agents().touch(virtflow_logic::hosts_touched(change));
                    a_host_changed |= [&change.before, &change.after]
                        .into_iter()
                        .flatten()
                        .any(|object| object.kind == Kind::Baremetal.name());
                }
                if a_host_changed {
                    end_unwanted(&app, &entry.image);
                }
            }
            ChangeEvent::Resync(image) => {
                app.agents().touch_all();
                end_unwanted(&app, &image);
            }
        }
    }
}

/// Ends sessions whose host was removed or has another key by now.
fn end_unwanted(app: &App, image: &State) {
    for (host, key) in app.agents().keys() {
        if virtflow_logic::host_admitted(image, host, &key.to_string()).is_err() {
            app.agents().remove_host(host);
        }
    }
}
