//! The table of hosts that are online, as heartbeats show them. In the leader's memory only.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use virtflow_logic::HostSigns;
use virtflow_model::Kind;
use virtflow_model::kinds::baremetal::Liveness;
use virtflow_proto::agent::v1::{Condition, Heartbeat, Load};
use virtflow_state::State;
use virtflow_types::{ObjectId, Timestamp};

use super::host_row;
use crate::app::{GuestLive, HostLive};

/// At least so long between two requests for one host's full report.
const REPORT_REQUEST_PAUSE: Duration = Duration::from_secs(2);
/// Full reports asked for in one [`REPORT_WINDOW`]: a new leader does not ask ten thousand hosts at once.
const REPORT_REQUESTS_MAX: u32 = 500;
const REPORT_WINDOW: Duration = Duration::from_secs(1);
/// A heartbeat of the boot before the granted one that arrives later than this after the grant was sent
/// by a machine that runs beside it.
const REBOOT_OVERLAP: Duration = Duration::from_secs(3);

/// A boot of a host that another one took the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BootBefore {
    pub(super) boot_id: String,
    /// The last session of it; 0 if none was heard by this leader.
    pub(super) session: u64,
    pub(super) ended: Instant,
}

impl BootBefore {
    /// Whether what arrives now from this boot comes of a machine that runs beside the present one.
    fn runs_beside(&self, now: Instant) -> bool {
        now.duration_since(self.ended) > REBOOT_OVERLAP
    }
}

/// One host that is online.
#[derive(Debug)]
pub(super) struct Live {
    /// Number of its session; 0 until its agent was heard by this leader.
    pub(super) session: u64,
    pub(super) host_epoch: u64,
    pub(super) boot_id: String,
    /// The boot that this one took the place of.
    pub(super) boot_before: Option<BootBefore>,
    /// Whether more was heard of this boot than its introduction.
    has_beaten: bool,
    /// When its lease was last renewed.
    pub(super) renewed: Instant,
    pub(super) beat_sequence: u64,
    pub(super) report_sequence: u64,
    pub(super) load: Load,
    condition: Condition,
    clock_offset_ms: i64,
    pub(super) holder: ObjectId,
    /// Hash of the observed state that was last taken in whole.
    pub(super) observed_hash: Vec<u8>,
    report_asked: Option<Instant>,
}

impl Live {
    pub(super) fn new(host_epoch: u64, boot_id: String, now: Instant) -> Self {
        Self {
            session: 0,
            host_epoch,
            boot_id,
            boot_before: None,
            has_beaten: false,
            renewed: now,
            beat_sequence: 0,
            report_sequence: 0,
            load: Load::default(),
            condition: Condition::default(),
            clock_offset_ms: 0,
            holder: ObjectId::NIL,
            observed_hash: Vec::new(),
            report_asked: None,
        }
    }
}

/// All hosts that are online.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    pub(super) live: BTreeMap<ObjectId, Live>,
    window: Option<(Instant, u32)>,
}

impl Hosts {
    /// A new leader knows who was online and gives each a full new lease.
    pub(super) fn from_state(state: &State, now: Instant) -> Self {
        let live = state
            .of_kind(Kind::Baremetal.name(), None)
            .filter_map(|object| {
                let host = host_row(state, object.id)?;
                (host.status.liveness == Liveness::Online).then(|| {
                    let status = &host.status;
                    (
                        object.id,
                        Live::new(status.host_epoch, status.boot_id.clone(), now),
                    )
                })
            })
            .collect();
        Self { live, window: None }
    }

    #[cfg(test)]
    pub(super) fn insert_for_test(&mut self, host: ObjectId, renewed: Instant) {
        self.live.insert(host, Live::new(1, "boot".into(), renewed));
    }

    /// Forgets hosts that are no longer in the state.
    pub(super) fn keep_known(&mut self, state: &State) {
        self.live.retain(|host, _| state.get(*host).is_some());
    }

    pub(super) fn live(&self, names: &BTreeMap<ObjectId, String>) -> BTreeMap<ObjectId, HostLive> {
        let heard = self.live.iter().filter(|(_, live)| live.session != 0);
        heard
            .map(|(host, live)| {
                let load = &live.load;
                let seen = HostLive {
                    last_heartbeat_ms_ago: u64::try_from(live.renewed.elapsed().as_millis())
                        .unwrap_or(u64::MAX),
                    cpu_used_ppm: load.cpu_used_ppm,
                    memory_used_mib: load.memory_used_mib,
                    storage_used_mib: load.storage_used_mib,
                    storage_available_mib: load.storage_available_mib,
                    load1_milli: load.load1_milli,
                    controller: names.get(&live.holder).cloned().unwrap_or_default(),
                    foreign_domains: load.foreign_domains,
                    clock_offset_ms: live.clock_offset_ms,
                    guests: load
                        .guests
                        .iter()
                        .filter_map(|guest| {
                            Some(GuestLive {
                                vm_id: ObjectId::from_slice(&guest.vm_id)?,
                                cpu_used_ppm: guest.cpu_used_ppm,
                                memory_used_mib: guest.memory_used_mib,
                                disk_read_bytes: guest.disk_read_bytes,
                                disk_write_bytes: guest.disk_write_bytes,
                            })
                        })
                        .collect(),
                };
                (*host, seen)
            })
            .collect()
    }

    /// Memory in use in MiB, and CPU in use in parts per million, of each host that was heard.
    pub(super) fn loads(&self) -> Vec<(ObjectId, u64, u32)> {
        let heard = self.live.iter().filter(|(_, live)| live.session != 0);
        heard
            .map(|(host, live)| (*host, live.load.memory_used_mib, live.load.cpu_used_ppm))
            .collect()
    }

    /// What the last heartbeat of each host that sent one says of how it fares.
    pub(super) fn signs(&self) -> BTreeMap<ObjectId, HostSigns> {
        let heard = self.live.iter().filter(|(_, live)| live.has_beaten);
        heard
            .map(|(host, live)| {
                let (load, condition) = (&live.load, &live.condition);
                let signs = HostSigns {
                    storage_used_mib: load.storage_used_mib,
                    storage_available_mib: load.storage_available_mib,
                    memory_used_mib: load.memory_used_mib,
                    memory_total_mib: load.memory_total_mib,
                    memory_stalled_ppm: load.memory_stalled_ppm,
                    clock_offset_ms: live.clock_offset_ms,
                    hypervisor_silent_ms: condition.hypervisor_silent_ms,
                    certificate_life_ms: condition.certificate_life_ms,
                    certificate_left_ms: condition.certificate_left_ms,
                    orders_not_stored: condition.orders_not_stored,
                };
                (*host, signs)
            })
            .collect()
    }

    /// What an introduction says of the machine behind it.
    pub(super) fn introduced(&self, host: ObjectId, boot_id: &str, now: Instant) -> Introduced {
        let Some(live) = self.live.get(&host).filter(|live| live.boot_id != boot_id) else {
            return Introduced::Plausible;
        };
        let before = live.boot_before.as_ref();
        match before.filter(|before| before.boot_id == boot_id) {
            Some(before) if !before.runs_beside(now) => Introduced::JustReplaced,
            Some(_) if live.has_beaten => Introduced::SecondMachine,
            // The one in its place may be a late introduction of a boot that is over.
            Some(_) | None => Introduced::Plausible,
        }
    }

    /// Puts a session that was granted in the place of the one before.
    pub(super) fn granted(&mut self, host: ObjectId, mut live: Live, now: Instant) {
        if let Some(before) = self.live.remove(&host) {
            if before.boot_id == live.boot_id {
                live.boot_before = before.boot_before;
                live.has_beaten = before.has_beaten;
            } else {
                live.boot_before = Some(BootBefore {
                    boot_id: before.boot_id,
                    session: before.session,
                    ended: now,
                });
            }
            live.load = before.load;
        }
        self.live.insert(host, live);
    }

    /// True if one more full report may be asked for now.
    fn may_ask(&mut self, now: Instant) -> bool {
        match &mut self.window {
            Some((began, asked)) if now.duration_since(*began) < REPORT_WINDOW => {
                *asked += 1;
                *asked <= REPORT_REQUESTS_MAX
            }
            window => {
                *window = Some((now, 1));
                true
            }
        }
    }

    /// Notes that a host's report up to this hash was taken in, or that it must be asked for again.
    pub(super) fn settled(&mut self, host: ObjectId, session: u64, hash: Option<Vec<u8>>) {
        if let Some(live) = self
            .live
            .get_mut(&host)
            .filter(|live| live.session == session)
        {
            live.observed_hash = hash.unwrap_or_default();
        }
    }
}

/// What an introduction says of the machine behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Introduced {
    /// It may be the host, as it was or after a reboot.
    Plausible,
    /// A boot that another one has just taken the place of: late, or a second machine.
    JustReplaced,
    /// A boot that another one took the place of a while ago. No machine goes back to an earlier boot.
    SecondMachine,
}

/// What a heartbeat is worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Worth {
    Taken {
        wants_report: bool,
        /// Time since the heartbeat before, of the same session.
        since_last: Option<Duration>,
    },
    Stale,
    NotOnline,
    TwoBoots,
}

/// Takes a heartbeat in if it is newer than what is known.
pub(super) fn judge(
    hosts: &mut Hosts,
    host: ObjectId,
    beat: Heartbeat,
    received: Instant,
    holder: ObjectId,
) -> Worth {
    let now = Instant::now();
    let Some(live) = hosts.live.get_mut(&host) else {
        return Worth::NotOnline;
    };
    if let Some(before) = &live.boot_before
        && beat.session == before.session
        && before.runs_beside(received)
    {
        // An introduction can lie in the socket of a controller that stands still until its boot is over; then
        // nothing follows it, and this is the only machine.
        return if live.has_beaten {
            Worth::TwoBoots
        } else {
            Worth::NotOnline
        };
    }
    if beat.host_epoch != live.host_epoch {
        return if beat.host_epoch < live.host_epoch {
            Worth::Stale
        } else {
            Worth::NotOnline
        };
    }
    if beat.session < live.session
        || (beat.session == live.session && beat.sequence <= live.beat_sequence)
    {
        return Worth::Stale;
    }
    if beat.session > live.session {
        // Granted by an earlier leader: it goes on under this one.
        live.session = beat.session;
        live.beat_sequence = 0;
        live.report_sequence = 0;
        live.observed_hash = Vec::new();
    }
    let since_last = (live.beat_sequence > 0 && beat.sequence == live.beat_sequence + 1)
        .then(|| received.saturating_duration_since(live.renewed));
    live.beat_sequence = beat.sequence;
    live.has_beaten = true;
    live.renewed = live.renewed.max(received);
    live.holder = holder;
    if beat.sent_at_ms != 0 {
        let age = u64::try_from(received.elapsed().as_millis()).unwrap_or(0);
        let here = Timestamp::now().ms().saturating_sub(age);
        live.clock_offset_ms =
            i64::try_from(i128::from(beat.sent_at_ms) - i128::from(here)).unwrap_or(0);
    }
    live.load = beat.load.unwrap_or_default();
    live.condition = beat.condition.unwrap_or_default();
    let differs = live.observed_hash != beat.observed_hash;
    let asked_lately = live
        .report_asked
        .is_some_and(|asked| now.duration_since(asked) < REPORT_REQUEST_PAUSE);
    let wants_report = differs && !asked_lately && hosts.may_ask(now);
    if wants_report && let Some(live) = hosts.live.get_mut(&host) {
        live.report_asked = Some(now);
    }
    Worth::Taken {
        wants_report,
        since_last,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn taken(wants_report: bool, since_last: Option<Duration>) -> Worth {
        Worth::Taken {
            wants_report,
            since_last,
        }
    }

    fn beat(session: u64, sequence: u64, host_epoch: u64) -> Heartbeat {
        Heartbeat {
            session,
            sequence,
            host_epoch,
            observed_hash: vec![1],
            ..Heartbeat::default()
        }
    }

    fn hosts(host: ObjectId, session: u64) -> Hosts {
        let mut live = Live::new(7, "boot-a".into(), Instant::now());
        live.session = session;
        live.observed_hash = vec![1];
        Hosts {
            live: BTreeMap::from([(host, live)]),
            window: None,
        }
    }

    #[test]
    fn only_newer_heartbeats_of_the_epoch_count() {
        let host = ObjectId::from_u128(1);
        let mut hosts = hosts(host, 10);
        let start = Instant::now();
        let at = Cell::new(start);
        let mut judged = |beat| judge(&mut hosts, host, beat, at.get(), ObjectId::NIL);
        assert_eq!(judged(beat(10, 1, 7)), taken(false, None));
        at.set(start + Duration::from_secs(2));
        assert_eq!(judged(beat(10, 1, 7)), Worth::Stale, "the same again");
        assert_eq!(
            judged(beat(10, 2, 7)),
            taken(false, Some(Duration::from_secs(2)))
        );
        let gap = taken(false, None);
        assert_eq!(judged(beat(10, 4, 7)), gap, "one was lost between");
        assert_eq!(judged(beat(10, 3, 7)), Worth::Stale, "overtaken");
        assert_eq!(judged(beat(9, 9, 7)), Worth::Stale, "an older session");
        assert_eq!(judged(beat(10, 5, 6)), Worth::Stale, "an older epoch");
        assert_eq!(
            judged(beat(10, 5, 8)),
            Worth::NotOnline,
            "an epoch nobody granted here"
        );
    }

    #[test]
    fn a_session_of_an_earlier_leader_goes_on_and_is_asked_for_a_report() {
        let host = ObjectId::from_u128(1);
        let mut hosts = hosts(host, 0);
        let now = Instant::now();
        let first = judge(&mut hosts, host, beat(10, 40, 7), now, ObjectId::NIL);
        assert_eq!(first, taken(true, None));
        let second = judge(&mut hosts, host, beat(10, 41, 7), now, ObjectId::NIL);
        let at_once = Some(Duration::ZERO);
        assert_eq!(second, taken(false, at_once), "asked a moment ago");
        hosts.settled(host, 10, Some(vec![1]));
        hosts.live.get_mut(&host).unwrap().report_asked = None;
        let third = judge(&mut hosts, host, beat(10, 42, 7), now, ObjectId::NIL);
        assert_eq!(third, taken(false, at_once), "what it said is known");
    }

    #[test]
    fn a_boot_that_speaks_after_its_successor_began_is_a_second_machine() {
        let host = ObjectId::from_u128(1);
        let mut hosts = hosts(host, 11);
        let ended = Instant::now();
        hosts.live.get_mut(&host).unwrap().boot_before = Some(BootBefore {
            boot_id: "boot-0".into(),
            session: 10,
            ended,
        });
        let late = judge(&mut hosts, host, beat(10, 5, 7), ended, ObjectId::NIL);
        assert_eq!(late, Worth::Stale, "under way while the machine rebooted");
        let beside = ended + REBOOT_OVERLAP + Duration::from_millis(1);
        let of_successor = judge(&mut hosts, host, beat(11, 1, 7), beside, ObjectId::NIL);
        assert_eq!(of_successor, taken(false, None));
        let two = judge(&mut hosts, host, beat(10, 6, 7), beside, ObjectId::NIL);
        assert_eq!(two, Worth::TwoBoots);
    }

    #[test]
    fn a_boot_that_comes_back_is_a_second_machine() {
        let host = ObjectId::from_u128(1);
        let mut hosts = hosts(host, 10);
        let start = Instant::now();
        assert_eq!(
            hosts.introduced(host, "boot-b", start),
            Introduced::Plausible,
            "a reboot"
        );
        hosts.granted(host, Live::new(8, "boot-b".into(), start), start);
        let beat = judge(&mut hosts, host, beat(11, 1, 8), start, ObjectId::NIL);
        assert_eq!(beat, taken(true, None));
        // The new boot may lose its connection as often as it likes.
        hosts.granted(host, Live::new(8, "boot-b".into(), start), start);
        let again = hosts.introduced(host, "boot-b", start);
        assert_eq!(again, Introduced::Plausible);
        let late = hosts.introduced(host, "boot-a", start + REBOOT_OVERLAP);
        assert_eq!(late, Introduced::JustReplaced);
        let beside = start + REBOOT_OVERLAP + Duration::from_millis(1);
        let second = hosts.introduced(host, "boot-a", beside);
        assert_eq!(second, Introduced::SecondMachine);
        let third = hosts.introduced(host, "boot-c", beside);
        assert_eq!(third, Introduced::Plausible, "the next reboot");
    }

    /// It lay with a controller that stood still, while its machine rebooted again.
    #[test]
    fn a_late_introduction_makes_no_second_machine() {
        let host = ObjectId::from_u128(1);
        let mut hosts = hosts(host, 10);
        let start = Instant::now();
        let mut late = Live::new(8, "boot-late".into(), start);
        late.session = 11;
        hosts.granted(host, late, start);
        let beside = start + REBOOT_OVERLAP + Duration::from_millis(1);
        let present = judge(&mut hosts, host, beat(10, 2, 7), beside, ObjectId::NIL);
        assert_eq!(present, Worth::NotOnline, "it is to say hello again");
        let again = hosts.introduced(host, "boot-a", beside);
        assert_eq!(again, Introduced::Plausible);
        let mut present = Live::new(9, "boot-a".into(), beside);
        present.session = 12;
        hosts.granted(host, present, beside);
        let beat = judge(&mut hosts, host, beat(12, 1, 9), beside, ObjectId::NIL);
        assert_eq!(beat, taken(true, None));
    }

    #[test]
    fn full_reports_are_paced() {
        let mut hosts = Hosts::default();
        let now = Instant::now();
        for _ in 0..REPORT_REQUESTS_MAX {
            assert!(hosts.may_ask(now));
        }
        assert!(!hosts.may_ask(now), "one past the limit");
        assert!(hosts.may_ask(now + REPORT_WINDOW));
    }
}
