//! Who leads, and whether this node may speak as leader.

use serde::Serialize;
use tokio::sync::watch;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use crate::machine::Applied;
use crate::types::Raft;

/// Who leads as this node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Leadership {
    /// The term this node is in.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<u64>,
    /// Whether it is this node.
    pub is_leader: bool,
    /// Whether this node leads and has applied its own first entry: only then does its image hold all
    /// that was ever acknowledged, and only then does it decide.
    pub is_leader_ready: bool,
}

/// Follows the library's metrics until the node stops.
pub(crate) async fn follow(
    raft: Raft,
    mut applied: watch::Receiver<Applied>,
    leadership: watch::Sender<Leadership>,
) {
    let mut metrics = raft.metrics();
    loop {
        let now = {
            let metrics = metrics.borrow_watched();
            let is_leader = metrics.state == ServerState::Leader && metrics.running_state.is_ok();
            Leadership {
                term: metrics.current_term,
                leader: metrics.current_leader,
                is_leader,
                is_leader_ready: is_leader
                    && applied.borrow_and_update().term == metrics.current_term,
            }
        };
        leadership.send_if_modified(|known| std::mem::replace(known, now) != now);
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { break },
            // Entries come by the thousand; only the first of a leadership matters here.
            changed = applied.wait_for(|applied| now.is_leader && !now.is_leader_ready && applied.term == now.term) => {
                if changed.is_err() { break }
            }
        }
    }
    leadership.send_replace(Leadership::default());
}
