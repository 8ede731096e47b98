//! Leases of hosts: who was silent for too long is offline.
//!
//! Judged by the monotonic clock and only by what this leader heard itself. A leader that was paused
//! adds the pause to every lease before it judges, and when many leases end at once it waits one lease
//! longer, since the cause is then more likely a network or this controller than the hosts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use virtflow_types::{ObjectId, RequestId, Timestamp};

use super::table::Hosts;
use super::{Leader, Outcome, propose_all};
use crate::app::App;

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(250);
/// A tick that is later than this was a pause of this process.
const GAP_MIN: Duration = Duration::from_millis(750);
/// Leases that may end together without the brake: so many, or a quarter of the hosts.
const STORM_HOSTS_MIN: usize = 3;
const STORM_SHARE: usize = 4;
/// Hosts declared offline in one pass.
const OFFLINE_PER_PASS: usize = 64;

/// When a storm's brake was put on.
#[derive(Debug, Default)]
struct Brake {
    until: Option<Instant>,
}

pub(super) async fn run(app: App, leader: Arc<Leader>) {
    let lease = app.config().lease();
    let mut brake = Brake::default();
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(TICK).await;
        let now = Instant::now();
        let gap = now.duration_since(last).saturating_sub(TICK);
        last = now;
        let expired = {
            let mut hosts = leader.hosts();
            if gap > GAP_MIN {
                tracing::warn!(
                    gap_ms = gap.as_millis(),
                    "this controller was paused; leases are prolonged"
                );
                prolong(&mut hosts, gap);
            }
            expired(&hosts, &mut brake, lease, now)
        };
        if expired.is_empty() {
            continue;
        }
        let mut total = Outcome::default();
        for (host, session, host_epoch) in expired {
            tracing::warn!(%host, lease_s = lease.as_secs(), "the host is silent; it is offline from now on");
            let changesets = virtflow_logic::host_offline(
                &app.node().image(),
                RequestId::generate(),
                Timestamp::now(),
                host,
                host_epoch,
            );
            let outcome = propose_all(&app, changesets).await;
            total.committed += outcome.committed;
            if outcome.error.is_none() {
                let mut hosts = leader.hosts();
                // Unless it said hello meanwhile.
                if hosts
                    .live
                    .get(&host)
                    .is_some_and(|live| live.session == session)
                {
                    hosts.live.remove(&host);
                }
            }
            total.error = outcome.error.or(total.error);
        }
        leader.note_pass(&app, "leases", now, &total);
    }
}

fn prolong(hosts: &mut Hosts, gap: Duration) {
    for live in hosts.live.values_mut() {
        live.renewed += gap;
    }
}

/// Hosts to be declared offline now.
fn expired(
    hosts: &Hosts,
    brake: &mut Brake,
    lease: Duration,
    now: Instant,
) -> Vec<(ObjectId, u64, u64)> {
    let mut expired: Vec<_> = hosts
        .live
        .iter()
        .filter(|(_, live)| now.saturating_duration_since(live.renewed) > lease)
        .map(|(host, live)| (*host, live.session, live.host_epoch))
        .collect();
    let storm = STORM_HOSTS_MIN.max(hosts.live.len() / STORM_SHARE);
    if expired.len() <= storm && brake.until.is_none_or(|until| now >= until) {
        brake.until = None;
    } else {
        let until = *brake.until.get_or_insert_with(|| {
            tracing::warn!(
                hosts = expired.len(),
                "many leases end at once; waiting one lease longer"
            );
            now + lease
        });
        if now < until {
            return Vec::new();
        }
    }
    expired.sort_unstable();
    expired.truncate(OFFLINE_PER_PASS);
    expired
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtflow_state::State;

    const LEASE: Duration = Duration::from_secs(10);

    fn hosts(n: u128, renewed: Instant) -> Hosts {
        let mut hosts = Hosts::from_state(&State::empty(), renewed);
        for id in 1..=n {
            hosts.insert_for_test(ObjectId::from_u128(id), renewed);
        }
        hosts
    }

    #[test]
    fn a_silent_host_expires_after_its_lease_and_not_before() {
        let began = Instant::now();
        let hosts = hosts(1, began);
        let mut brake = Brake::default();
        assert!(expired(&hosts, &mut brake, LEASE, began + LEASE).is_empty());
        let later = began + LEASE + Duration::from_millis(1);
        assert_eq!(expired(&hosts, &mut brake, LEASE, later).len(), 1);
    }

    #[test]
    fn a_pause_of_the_leader_is_added() {
        let began = Instant::now();
        let mut hosts = hosts(1, began);
        prolong(&mut hosts, Duration::from_secs(60));
        let mut brake = Brake::default();
        assert!(expired(&hosts, &mut brake, LEASE, began + Duration::from_secs(65)).is_empty());
        assert_eq!(
            expired(&hosts, &mut brake, LEASE, began + Duration::from_secs(71)).len(),
            1
        );
    }

    #[test]
    fn a_storm_waits_one_lease_longer() {
        let began = Instant::now();
        let hosts = hosts(40, began);
        let mut brake = Brake::default();
        let storm = began + LEASE + Duration::from_millis(1);
        assert!(expired(&hosts, &mut brake, LEASE, storm).is_empty());
        assert!(expired(&hosts, &mut brake, LEASE, storm + LEASE / 2).is_empty());
        assert_eq!(expired(&hosts, &mut brake, LEASE, storm + LEASE).len(), 40);
    }
}
