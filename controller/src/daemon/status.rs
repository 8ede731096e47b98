//! What monitoring sees: `/healthz`, `/readyz`, `/status`, `/metrics`. No tenant's data.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use virtflow_model::Kind;
use virtflow_model::kinds::Baremetal;
use virtflow_model::kinds::baremetal::{Health, Liveness};
use virtflow_pki::{BearerFile, bearer_of};
use virtflow_raft::RaftStatus;
use virtflow_state::State;
use virtflow_types::Timestamp;

use super::room;
use crate::app::{App, Caller, VERSION};
use crate::metrics::{HealthLabel, LivenessLabel};
use crate::off_loop::off_loop;

/// How long a quorum may take to confirm that this controller is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(1);
/// Overdue objects that are named; more are only counted.
const OVERDUE_NAMED_MAX: usize = 20;

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Anyone on this machine.
    Open,
    /// A client's certificate or the monitoring token; `/healthz` is free.
    Credential,
}

/// The routes of the status listener.
pub fn routes(app: App, guard: Guard) -> Router {
    let guarded = Router::new()
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(answer_metrics));
    let guarded = match guard {
        Guard::Open => guarded,
        Guard::Credential => guarded.layer(from_fn_with_state(app.clone(), credential)),
    };
    Router::new()
        .route("/healthz", get(healthz))
        .merge(guarded)
        .with_state(app)
}

async fn credential(
    Shared(app): Shared<App>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let certified = request
        .extensions()
        .get::<Caller>()
        .is_some_and(|caller| caller.client.is_some());
    if certified || is_monitoring_token(&app, bearer_of(request.headers())) {
        return next.run(request).await;
    }
    let mut response = (
        StatusCode::UNAUTHORIZED,
        "a client certificate or the monitoring token is needed\n",
    )
        .into_response();
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn is_monitoring_token(app: &App, presented: &str) -> bool {
    let Some(path) = &app.config().status.token_file else {
        return false;
    };
    BearerFile::new(path).is(presented).unwrap_or_else(|error| {
        tracing::warn!(%error, "nobody's monitoring token is accepted");
        false
    })
}

async fn healthz(Shared(app): Shared<App>) -> Response {
    match app.node().status().fatal {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn readyz(Shared(app): Shared<App>) -> Response {
    let problems = problems(&app).await;
    if problems.is_empty() {
        Json(json!({"ready": true})).into_response()
    } else {
        let body = Json(json!({"ready": false, "problems": problems}));
        (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
    }
}

/// Why this controller cannot serve now.
async fn problems(app: &App) -> Vec<String> {
    let status = app.node().status();
    let mut problems = Vec::new();
    problems.extend(status.fatal);
    problems.extend(status.writes_stopped);
    match tokio::time::timeout(READY_TIMEOUT, app.node().read()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => problems.push(error.to_error().to_string()),
        Err(_) => problems.push("no quorum confirmed a read in time".into()),
    }
    problems
}

async fn status(Shared(app): Shared<App>) -> Json<Value> {
    Json(report(&app))
}

/// The numbers of this moment, as text for Prometheus. It looks at the disk.
pub fn metrics(app: &App) -> Result<String, std::fmt::Error> {
    look_around(app);
    app.metrics().encode()
}

async fn answer_metrics(Shared(app): Shared<App>) -> Response {
    let encoded = off_loop(move || metrics(&app)).await;
    let encoded = encoded.unwrap_or(Err(std::fmt::Error));
    match encoded {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Sets what is only known by looking, for the moment of a scrape.
fn look_around(app: &App) {
    let metrics = app.metrics();
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let image = app.node().image();
    for (liveness, count) in hosts_by_liveness(&image) {
        let gauge = metrics
            .hosts
            .get_or_create_owned(&LivenessLabel { liveness });
        gauge.set(signed(count));
    }
    for (health, count) in online_by_health(&image) {
        let gauge = metrics
            .hosts_health
            .get_or_create_owned(&HealthLabel { health });
        gauge.set(signed(count));
    }
    let overdue = virtflow_logic::overdue(&image, Timestamp::now()).len();
    metrics.overdue_objects.set(signed(overdue as u64));
    let expires_ms = app.certificates().certificate().validity().not_after_ms;
    metrics.certificate_expiry_s.set(signed(expires_ms / 1000));
    if let Some(bytes) = room::free_bytes(app.config().folders().root()) {
        metrics.disk_free_bytes.set(signed(bytes));
    }
    if let Some(bytes) = resident_bytes() {
        metrics.resident_memory_bytes.set(signed(bytes));
    }
}

/// Bytes of this process that are resident, which the kernel tells in KiB.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// What this controller says of itself and, as far as it knows, of the cluster.
pub fn report(app: &App) -> Value {
    let status = app.node().status();
    let progress = app.shadow().progress();
    let image = app.node().image();
    let now = Timestamp::now();
    let overdue = virtflow_logic::overdue(&image, now);
    let leader = app.leader();
    let name_of = |id: u64| {
        let member = status.members.iter().find(|member| member.node_id == id);
        member.map(|member| member.info.name.clone())
    };
    json!({
        "name": app.name(),
        "version": VERSION,
        "cluster_id": app.cluster_id(),
        "store_id": app.store_id(),
        "node_id": status.node_id,
        "incarnation": status.incarnation,
        "cluster_version": status.cluster_version,
        "role": status.role,
        "term": status.term,
        "leader": status.leader.and_then(name_of),
        "leader_id": status.leader,
        "leads": status.is_leader_ready,
        "last_log_index": status.last_log,
        "flushed_index": status.log_flushed,
        "committed_index": status.committed,
        "applied_index": status.applied,
        "written_index": progress.written,
        "durable_index": progress.durable,
        "snapshot_index": status.snapshot,
        "purged_index": status.purged,
        "digest": format!("{:032x}", status.digest),
        "quorum_ack_ms_ago": status.quorum_ack_ms_ago,
        "writes_stopped": status.writes_stopped,
        "fatal": status.fatal,
        "members": members(&status),
        "clock_offset_ms": app.metrics().clock_offset_ms.get(),
        "now": now,
        "hosts": hosts_by_liveness(&image),
        "agent_sessions": app.agents().count(),
        "overdue": {
            "count": overdue.len(),
            "ids": overdue.iter().take(OVERDUE_NAMED_MAX).collect::<Vec<_>>(),
        },
        "objects": image.object_count(),
        "certificate_expires_at":
            Timestamp::from_ms(app.certificates().certificate().validity().not_after_ms),
        "timing": status.timing,
        "leading_for_s": leader.as_ref().map(|leader| leader.age().as_secs()),
        "loops": leader.map(|leader| leader.loop_statuses()),
    })
}

fn members(status: &RaftStatus) -> Vec<Value> {
    status
        .members
        .iter()
        .map(|member| {
            json!({
                "node_id": member.node_id,
                "name": member.info.name,
                "role": member.role,
                "leads": status.leader == Some(member.node_id),
                "peer_address": member.info.peer_address,
                "api_address": member.info.api_address,
                "agent_address": member.info.agent_address,
                "matched_index": member.matched,
                "lag_entries": member.matched.map(|matched| status.last_log.saturating_sub(matched)),
                "last_ack_ms_ago": member.last_ack_ms_ago,
            })
        })
        .collect()
}

/// How those fare that are heard: of the others it is what was last seen.
fn online_by_health(image: &State) -> BTreeMap<&'static str, u64> {
    let all = [
        Health::Unknown,
        Health::Healthy,
        Health::Warning,
        Health::Critical,
    ];
    let mut counts = BTreeMap::from(all.map(|health| (health.name(), 0)));
    for object in image.of_kind(Kind::Baremetal.name(), None) {
        if let Ok(host) = virtflow_logic::decoded::<Baremetal>(object)
            && host.status.liveness == Liveness::Online
        {
            *counts.entry(host.status.health.name()).or_insert(0) += 1;
        }
    }
    counts
}

fn hosts_by_liveness(image: &State) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for liveness in ["never", "online", "offline", "quarantined"] {
        counts.insert(liveness.to_owned(), 0);
    }
    for object in image.of_kind(Kind::Baremetal.name(), None) {
        if let Ok(host) = virtflow_logic::decoded::<Baremetal>(object)
            && let Ok(Value::String(word)) = serde_json::to_value(host.status.liveness)
        {
            *counts.entry(word).or_insert(0) += 1;
        }
    }
    counts
}
