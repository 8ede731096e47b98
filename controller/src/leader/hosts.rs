//! The hosts as heartbeats show them: sessions, leases, load. In the leader's memory only.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use virtflow_logic::HostHello;
use virtflow_model::Kind;
use virtflow_model::kinds::baremetal::Liveness;
use virtflow_pki::KeyFingerprint;
use virtflow_proto::agent::v1::agent_message::Body as Said;
use virtflow_proto::agent::v1::controller_message::Body as Told;
use virtflow_proto::agent::v1::{
    AgentMessage, ControllerMessage, Goodbye, Heartbeat, HeartbeatAck, Hello, Inventory, Load,
    ObservedState, ReportRequest, Stamp, Welcome,
};
use virtflow_state::State;
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId, Timestamp};

use super::{Leader, host_row};
use crate::agents::{enrolment::decide_error, inventory_of};
use crate::app::{App, GuestLive, HostLive};

/// At least so long between two requests for one host's full report.
const REPORT_REQUEST_PAUSE: Duration = Duration::from_secs(2);
/// Full reports asked for in one [`REPORT_WINDOW`]: a new leader does not ask ten thousand hosts at once.
const REPORT_REQUESTS_MAX: u32 = 500;
const REPORT_WINDOW: Duration = Duration::from_secs(1);
/// A heartbeat of the boot before the granted one that arrives later than this after the grant was sent
/// by a machine that runs beside it.
const REBOOT_OVERLAP: Duration = Duration::from_secs(3);
/// Longest text a host may say of itself.
const TEXT_BYTES_MAX: usize = 256;

/// One host that is online.
#[derive(Debug)]
pub(super) struct Live {
    /// Number of its session; 0 until its agent was heard by this leader.
    pub(super) session: u64,
    pub(super) host_epoch: u64,
    boot_id: String,
    /// The session before, if it was of another boot, and when it ended.
    boot_before: Option<(u64, Instant)>,
    /// When its lease was last renewed.
    pub(super) renewed: Instant,
    beat_sequence: u64,
    report_sequence: u64,
    load: Load,
    clock_offset_ms: i64,
    holder: ObjectId,
    /// Hash of the observed state that was last taken in whole.
    observed_hash: Vec<u8>,
    report_asked: Option<Instant>,
}

impl Live {
    fn new(host_epoch: u64, boot_id: String, now: Instant) -> Self {
        Self {
            session: 0,
            host_epoch,
            boot_id,
            boot_before: None,
            renewed: now,
            beat_sequence: 0,
            report_sequence: 0,
            load: Load::default(),
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
    pub(super) live: HashMap<ObjectId, Live>,
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

fn told(body: Told) -> Option<ControllerMessage> {
    Some(ControllerMessage { body: Some(body) })
}

fn goodbye(reason: &str, removed: bool) -> Option<ControllerMessage> {
    told(Told::Goodbye(Goodbye {
        reason: reason.into(),
        removed,
        r#try: Vec::new(),
    }))
}

pub(super) async fn receive(
    leader: &Leader,
    app: &App,
    host: ObjectId,
    key: &KeyFingerprint,
    message: AgentMessage,
    received: Instant,
    holder: ObjectId,
) -> Result<Option<ControllerMessage>, Error> {
    // The newest image here: what a deposed leader would say is never confirmed, see below.
    let image = app.node().image();
    if let Err(why) = virtflow_logic::host_admitted(&image, host, &key.to_string()) {
        leader.hosts().live.remove(&host);
        return Ok(goodbye(why, true));
    }
    match message.body {
        Some(Said::Hello(hello)) => grant(leader, app, host, key, hello, holder).await,
        Some(Said::Heartbeat(beat)) => heartbeat(leader, app, host, beat, received, holder).await,
        Some(Said::Observed(observed)) => Ok(report(leader, app, host, observed)),
        Some(Said::Inventory(inventory)) => inventory_changed(leader, app, host, &inventory).await,
        Some(Said::Console(_)) | None => Ok(None),
    }
}

/// Grants a session: the host is online from here on, and older sessions are void.
async fn grant(
    leader: &Leader,
    app: &App,
    host: ObjectId,
    key: &KeyFingerprint,
    hello: Hello,
    holder: ObjectId,
) -> Result<Option<ControllerMessage>, Error> {
    for (field, text) in [
        ("boot_id", &hello.boot_id),
        ("agent_version", &hello.agent_version),
        ("management_address", &hello.management_address),
    ] {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::invalid(
                field,
                format!("has more than {TEXT_BYTES_MAX} bytes"),
            ));
        }
    }
    if hello.boot_id.is_empty() {
        return Err(Error::invalid("boot_id", "must not be empty"));
    }
    let request = HostHello {
        host_id: host,
        key_fingerprint: key.to_string(),
        boot_id: hello.boot_id.clone(),
        agent_version: hello.agent_version.clone(),
        management_address: Some(hello.management_address.clone()).filter(|a| !a.is_empty()),
        inventory: inventory_of(&hello.inventory.unwrap_or_default()),
    };
    let (request_id, now) = (RequestId::generate(), Timestamp::now());
    let committed = app
        .node()
        .decide(move |head| virtflow_logic::host_online(head, request_id, now, &request))
        .await
        .map_err(|error| decide_error(app, error))?;
    let session = leader.next_session();
    let mut live = Live::new(committed.value, hello.boot_id, Instant::now());
    live.session = session;
    live.holder = holder;
    let mut hosts = leader.hosts();
    if let Some(before) = hosts.live.get(&host) {
        live.load = before.load.clone();
        if before.session != 0 && before.boot_id != live.boot_id {
            live.boot_before = Some((before.session, Instant::now()));
        }
    }
    hosts.live.insert(host, live);
    drop(hosts);
    let image = app.node().image();
    Ok(told(Told::Welcome(Welcome {
        session,
        host_epoch: committed.value,
        heartbeat_interval_ms: u32::try_from(app.config().hosts.heartbeat_ms).unwrap_or(u32::MAX),
        stamp: Some(Stamp {
            incarnation: image
                .incarnation()
                .map_or_else(Vec::new, |i| i.as_bytes().to_vec()),
            index: committed.index,
        }),
    })))
}

/// What a heartbeat is worth.
#[derive(Debug, PartialEq, Eq)]
enum Worth {
    Taken { wants_report: bool },
    Stale,
    NotOnline,
    TwoBoots,
}

async fn heartbeat(
    leader: &Leader,
    app: &App,
    host: ObjectId,
    beat: Heartbeat,
    received: Instant,
    holder: ObjectId,
) -> Result<Option<ControllerMessage>, Error> {
    if !leader.is_confirmed(app) {
        // Neither taken nor acknowledged: another may lead by now.
        return Ok(None);
    }
    let (session, sequence) = (beat.session, beat.sequence);
    let worth = judge(&mut leader.hosts(), host, beat, received, holder);
    match worth {
        Worth::Taken { wants_report } => {
            app.metrics().heartbeats.inc();
            Ok(if wants_report {
                told(Told::ReportRequest(ReportRequest { request: sequence }))
            } else {
                told(Told::HeartbeatAck(HeartbeatAck { sequence, session }))
            })
        }
        Worth::Stale => {
            app.metrics().report("stale");
            Ok(None)
        }
        Worth::NotOnline => Ok(goodbye("the host is not online; say hello again", false)),
        Worth::TwoBoots => {
            tracing::warn!(%host, "two boots speak with one key; the host is quarantined");
            let changesets = virtflow_logic::host_quarantine(
                &app.node().image(),
                RequestId::generate(),
                Timestamp::now(),
                host,
            );
            super::propose_all(app, changesets).await;
            leader.hosts().live.remove(&host);
            Ok(goodbye(
                "two boots speak with this host's key; it is quarantined",
                false,
            ))
        }
    }
}

fn judge(
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
    if let Some((session, ended)) = live.boot_before
        && beat.session == session
        && received.duration_since(ended) > REBOOT_OVERLAP
    {
        return Worth::TwoBoots;
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
        live.report_sequence = 0;
        live.observed_hash = Vec::new();
    }
    live.beat_sequence = beat.sequence;
    live.renewed = live.renewed.max(received);
    live.holder = holder;
    if beat.sent_at_ms != 0 {
        let age = u64::try_from(received.elapsed().as_millis()).unwrap_or(0);
        let here = Timestamp::now().ms().saturating_sub(age);
        live.clock_offset_ms =
            i64::try_from(i128::from(beat.sent_at_ms) - i128::from(here)).unwrap_or(0);
    }
    live.load = beat.load.unwrap_or_default();
    let differs = live.observed_hash != beat.observed_hash;
    let asked_lately = live
        .report_asked
        .is_some_and(|asked| now.duration_since(asked) < REPORT_REQUEST_PAUSE);
    let wants_report = differs && !asked_lately && hosts.may_ask(now);
    if wants_report && let Some(live) = hosts.live.get_mut(&host) {
        live.report_asked = Some(now);
    }
    Worth::Taken { wants_report }
}

/// Puts a report in the queue, if it is newer than what is known.
fn report(
    leader: &Leader,
    app: &App,
    host: ObjectId,
    observed: ObservedState,
) -> Option<ControllerMessage> {
    let mut hosts = leader.hosts();
    let Some(live) = hosts.live.get_mut(&host) else {
        return goodbye("the host is not online; say hello again", false);
    };
    let is_newer = observed.session > live.session
        || (observed.session == live.session && observed.sequence > live.report_sequence);
    let is_of_this_boot = live.boot_id.is_empty() || observed.boot_id == live.boot_id;
    if !is_newer || !is_of_this_boot || observed.host_epoch != live.host_epoch {
        app.metrics().report("stale");
        return None;
    }
    if observed.session > live.session {
        live.session = observed.session;
        live.beat_sequence = 0;
        live.observed_hash = Vec::new();
    }
    live.report_sequence = observed.sequence;
    let report = super::Report {
        host,
        session: observed.session,
        host_epoch: observed.host_epoch,
        observed,
    };
    drop(hosts);
    if leader.reports.try_send(report).is_err() {
        app.metrics().report("dropped");
    }
    None
}

async fn inventory_changed(
    leader: &Leader,
    app: &App,
    host: ObjectId,
    inventory: &Inventory,
) -> Result<Option<ControllerMessage>, Error> {
    if !leader.hosts().live.contains_key(&host) {
        return Ok(None);
    }
    let inventory = inventory_of(inventory);
    let (request_id, now) = (RequestId::generate(), Timestamp::now());
    let decided = app.node().decide(move |head| {
        virtflow_logic::inventory_changed(head, request_id, now, host, &inventory)
            .map(|changeset| (changeset, ()))
    });
    match decided.await {
        Ok(_) => Ok(None),
        Err(error) => {
            let error = decide_error(app, error);
            if error.code != ErrorCode::Unavailable {
                tracing::warn!(%host, %error, "a host's inventory could not be recorded");
            }
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            live: HashMap::from([(host, live)]),
            window: None,
        }
    }

    #[test]
    fn only_newer_heartbeats_of_the_epoch_count() {
        let host = ObjectId::from_u128(1);
        let mut hosts = hosts(host, 10);
        let mut judged = |beat| judge(&mut hosts, host, beat, Instant::now(), ObjectId::NIL);
        let taken = Worth::Taken {
            wants_report: false,
        };
        assert_eq!(judged(beat(10, 1, 7)), taken);
        assert_eq!(judged(beat(10, 1, 7)), Worth::Stale, "the same again");
        assert_eq!(judged(beat(10, 3, 7)), taken);
        assert_eq!(judged(beat(10, 2, 7)), Worth::Stale, "overtaken");
        assert_eq!(judged(beat(9, 9, 7)), Worth::Stale, "an older session");
        assert_eq!(judged(beat(10, 4, 6)), Worth::Stale, "an older epoch");
        assert_eq!(
            judged(beat(10, 4, 8)),
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
        assert_eq!(first, Worth::Taken { wants_report: true });
        let second = judge(&mut hosts, host, beat(10, 41, 7), now, ObjectId::NIL);
        assert_eq!(
            second,
            Worth::Taken {
                wants_report: false
            },
            "asked a moment ago"
        );
        hosts.settled(host, 10, Some(vec![1]));
        hosts.live.get_mut(&host).unwrap().report_asked = None;
        let third = judge(&mut hosts, host, beat(10, 42, 7), now, ObjectId::NIL);
        assert_eq!(
            third,
            Worth::Taken {
                wants_report: false
            },
            "what it said is known"
        );
    }

    #[test]
    fn a_boot_that_speaks_after_its_successor_began_is_a_second_machine() {
        let host = ObjectId::from_u128(1);
        let mut hosts = hosts(host, 11);
        let ended = Instant::now();
        hosts.live.get_mut(&host).unwrap().boot_before = Some((10, ended));
        let late = judge(&mut hosts, host, beat(10, 5, 7), ended, ObjectId::NIL);
        assert_eq!(late, Worth::Stale, "under way while the machine rebooted");
        let beside = ended + REBOOT_OVERLAP + Duration::from_millis(1);
        let two = judge(&mut hosts, host, beat(10, 6, 7), beside, ObjectId::NIL);
        assert_eq!(two, Worth::TwoBoots);
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
