//! What agents say to the leader: hellos, heartbeats, reports.

use tokio::time::Instant;
use virtflow_logic::HostHello;
use virtflow_pki::KeyFingerprint;
use virtflow_proto::agent::v1::agent_message::Body as Said;
use virtflow_proto::agent::v1::controller_message::Body as Told;
use virtflow_proto::agent::v1::{
    AgentMessage, ControllerMessage, Goodbye, Heartbeat, HeartbeatAck, Hello, Inventory,
    ObservedState, ReportRequest, Stamp, Welcome,
};
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId, Timestamp};

use super::Leader;
use super::table::{Introduced, Live, Worth, judge};
use crate::agents::{enrolment::decide_error, inventory_of};
use crate::app::App;

/// Longest text a host may say of itself.
const TEXT_BYTES_MAX: usize = 256;

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
    let introduced = leader
        .hosts()
        .introduced(host, &hello.boot_id, Instant::now());
    match introduced {
        Introduced::Plausible => {}
        Introduced::JustReplaced => {
            return Ok(goodbye("another boot of this host has just begun", false));
        }
        Introduced::SecondMachine => return Ok(quarantine(leader, app, host).await),
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
    let now = Instant::now();
    let mut live = Live::new(committed.value, hello.boot_id, now);
    live.session = session;
    live.holder = holder;
    leader.hosts().granted(host, live, now);
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
        Worth::Taken {
            wants_report,
            since_last,
        } => {
            app.metrics().heartbeats.inc();
            if let Some(since_last) = since_last {
                let seconds = since_last.as_secs_f64();
                app.metrics().heartbeat_interval_seconds.observe(seconds);
            }
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
        Worth::TwoBoots => Ok(quarantine(leader, app, host).await),
    }
}

/// Two boots speak with one key: neither is believed until an operator decides.
async fn quarantine(leader: &Leader, app: &App, host: ObjectId) -> Option<ControllerMessage> {
    tracing::warn!(%host, "two boots speak with one key; the host is quarantined");
    let changesets = virtflow_logic::host_quarantine(
        &app.node().image(),
        RequestId::generate(),
        Timestamp::now(),
        host,
    );
    super::propose_all(app, changesets).await;
    leader.hosts().live.remove(&host);
    goodbye(
        "two boots speak with this host's key; it is quarantined",
        false,
    )
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
