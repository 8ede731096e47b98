//! How hosts fare. What heartbeats say of it stays in the leader's memory; what a host is called goes into the state
//! when it has been something else for a while, so that a moment's trouble writes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use virtflow_logic::{HostSigns, Limits, host_health_differs, hosts_fare};
use virtflow_model::kinds::baremetal::Health;
use virtflow_types::{ObjectId, Timestamp};

use super::{Leader, propose_all};
use crate::app::App;

/// How often hosts are looked at.
const TICK: Duration = Duration::from_secs(2);
/// So long a host has to fare otherwise than it is called.
const HOLD: Duration = Duration::from_secs(10);

/// Since when hosts have fared otherwise than they are called.
#[derive(Debug, Default)]
struct Differing(BTreeMap<ObjectId, Instant>);

impl Differing {
    /// Of those that fare otherwise than what they are called, here beside them, those of which it is written down.
    /// A host that nothing was known of waits for nothing.
    fn due(&mut self, now_differ: &BTreeMap<ObjectId, Health>, now: Instant) -> Vec<ObjectId> {
        self.0.retain(|host, _| now_differ.contains_key(host));
        let mut due = Vec::new();
        for (host, called) in now_differ {
            let since = *self.0.entry(*host).or_insert(now);
            if *called == Health::Unknown || now.saturating_duration_since(since) >= HOLD {
                due.push(*host);
            }
        }
        due
    }
}

pub(super) async fn run(app: App, leader: Arc<Leader>) {
    let limits = Limits::default();
    let mut differing = Differing::default();
    loop {
        tokio::time::sleep(TICK).await;
        let began = Instant::now();
        let image = app.node().image();
        let mut told: BTreeMap<ObjectId, HostSigns> = leader.hosts().signs();
        let mut called = BTreeMap::new();
        told.retain(|host, signs| {
            let differs = host_health_differs(&image, *host, signs);
            called.extend(differs.map(|before| (*host, before)));
            differs.is_some()
        });
        let due = differing.due(&called, began);
        if due.is_empty() {
            continue;
        }
        let due = due.into_iter();
        let told: Vec<_> = due.filter_map(|host| told.remove_entry(&host)).collect();
        let changesets = hosts_fare(&image, Timestamp::now(), &limits, &told);
        let outcome = propose_all(&app, changesets).await;
        leader.note_pass(&app, "hosts_fare", began, &outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_for_a_while_is_written_and_what_passes_is_not() {
        let (known, new) = (ObjectId::from_u128(1), ObjectId::from_u128(2));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut differing = Differing::default();
        let both = BTreeMap::from([(known, Health::Healthy), (new, Health::Unknown)]);
        let one = BTreeMap::from([(known, Health::Healthy)]);
        let nothing: Vec<ObjectId> = Vec::new();
        assert_eq!(differing.due(&both, at(0)), [new], "it was not known");
        assert_eq!(differing.due(&one, at(9)), nothing);
        assert_eq!(differing.due(&BTreeMap::new(), at(9)), nothing, "it passed");
        assert_eq!(differing.due(&one, at(10)), nothing, "it begins anew");
        assert_eq!(differing.due(&one, at(19)), nothing);
        assert_eq!(differing.due(&one, at(20)), [known]);
    }
}
