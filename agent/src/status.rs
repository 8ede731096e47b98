//! How the agent is, for monitoring: plain HTTP on the loopback, beyond it TLS and a token.
//!
//! `/healthz` it runs · `/readyz` it can do its work · `/status` details as JSON · `/metrics` for
//! Prometheus. Nothing can be changed here, and no tenant's data is told: VMs appear by id and phase.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use virtflow_pki::net::TcpListener;
use virtflow_pki::{
    BearerFile, CertStore, ListenerLimits, ServerPolicy, TlsListener, bearer_of, server_config,
};
use virtflow_proto::agent::v1::{self, Phase};
use virtflow_types::{ObjectId, Timestamp};

use crate::config::StatusConfig;
use crate::inventory::serial_number;
use crate::metrics::{PhaseLabels, VmNumbers};
use crate::off_loop::off_loop;
use crate::session::{SILENCE_MAX, SessionContext};

/// Connections at once; those beyond wait for a place.
const CONNECTIONS_MAX: usize = 16;
/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one connection may last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after accepting failed, for want of file descriptors as a rule.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Where the status is told.
#[derive(Debug)]
pub(crate) enum Listener {
    /// To this machine.
    Loopback(TcpListener),
    /// To others that know the token.
    Network(TlsListener, BearerFile),
}

impl Listener {
    /// Binds what the configuration says.
    ///
    /// # Errors
    /// If the address is taken or is none of this machine's.
    pub(crate) async fn bind(
        config: &StatusConfig,
        certificates: &Arc<CertStore>,
    ) -> anyhow::Result<Self> {
        let address = config.listen;
        let cannot = || format!("cannot listen for status on {address}");
        let tcp = virtflow_pki::net::listen(address)
            .await
            .with_context(cannot)?;
        if address.ip().is_loopback() {
            return Ok(Self::Loopback(tcp));
        }
        let token = config.token_file.as_ref();
        let token = BearerFile::new(token.context("`status.token_file` is missing")?);
        if let Err(error) = token.read() {
            tracing::warn!(%error, "the status is told to nobody until there is a token");
        }
        let tls = server_config(certificates, ServerPolicy::agent_status())?;
        let limits = ListenerLimits {
            handshake_timeout: HEAD_TIMEOUT,
            handshakes_max: CONNECTIONS_MAX,
            connections_max: CONNECTIONS_MAX,
        };
        let tls = TlsListener::from_tcp(tcp, tls, limits).with_context(cannot)?;
        Ok(Self::Network(tls, token))
    }

    /// The address that is bound.
    ///
    /// # Errors
    /// If the kernel does not tell it.
    pub(crate) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        match self {
            Self::Loopback(listener) => listener.local_addr(),
            Self::Network(listener, _) => Ok(listener.local_addr()),
        }
    }
}

/// Serves for ever.
pub(crate) async fn serve(listener: Listener, context: Arc<SessionContext>) {
    match listener {
        Listener::Loopback(listener) => serve_loopback(listener, context).await,
        Listener::Network(mut listener, token) => {
            let token = Arc::new(token);
            while let Some(connection) = listener.accept().await {
                let guard = Some(Arc::clone(&token));
                tokio::spawn(serve_connection(connection, guard, Arc::clone(&context)));
            }
        }
    }
}

async fn serve_loopback(listener: TcpListener, context: Arc<SessionContext>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "can't accept a status connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let context = Arc::clone(&context);
        tokio::spawn(async move {
            serve_connection(stream, None, context).await;
            drop(place);
        });
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    guard: Option<Arc<BearerFile>>,
    context: Arc<SessionContext>,
) {
    let service = service_fn(move |request| {
        let (guard, context) = (guard.clone(), Arc::clone(&context));
        async move { Ok::<_, Infallible>(admit(&request, guard, &context).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever a client did wrong is its own matter.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

/// That the agent lives is told to anybody; the rest, where it is guarded, to who shows the token.
async fn admit(
    request: &Request<Incoming>,
    guard: Option<Arc<BearerFile>>,
    context: &SessionContext,
) -> Response<Full<Bytes>> {
    if let Some(token) = guard
        && request.uri().path() != "/healthz"
    {
        let presented = bearer_of(request.headers()).to_owned();
        // The file may lie on a disk that hangs.
        let is_token = off_loop(move || token.is(&presented)).await;
        let is_token = is_token.unwrap_or(Ok(false)).unwrap_or_else(|error| {
            tracing::warn!(%error, "nobody's monitoring token is accepted");
            false
        });
        if !is_token {
            let refusal = "the monitoring token is needed: Authorization: Bearer TOKEN\n";
            let mut response = text(StatusCode::UNAUTHORIZED, refusal.to_owned());
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            return response;
        }
    }
    answer(request, context)
}

fn answer(request: &Request<Incoming>, context: &SessionContext) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let problems = problems(context);
            if problems.is_empty() {
                text(StatusCode::OK, "ready\n".to_owned())
            } else {
                text(StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n")
            }
        }
        "/status" => {
            let body = format!("{:#}\n", status(context));
            respond(StatusCode::OK, "application/json", body)
        }
        "/metrics" => match metrics(context) {
            Ok(body) => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                respond(StatusCode::OK, kind, body)
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz, /status and /metrics\n".to_owned(),
        ),
    }
}

fn text(code: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(code, "text/plain; charset=utf-8", body)
}

fn respond(code: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// What keeps the agent from its work.
fn problems(context: &SessionContext) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(problem) = context.reconciler.survey_problem() {
        problems.push(problem);
    } else if context.reconciler.last_survey().is_none() {
        problems.push("the hypervisor has not been reached yet".to_owned());
    }
    let session = context.state();
    let heard = session
        .heard_at
        .is_some_and(|at| at.elapsed() <= SILENCE_MAX);
    if session.number.is_none() || !heard {
        let why = session
            .last_problem
            .unwrap_or_else(|| "connecting".to_owned());
        problems.push(["no controller holds a session: ", &why].concat());
    }
    problems
}

fn status(context: &SessionContext) -> Value {
    let session = context.state();
    let membership = context.identity.membership();
    let certificate = context.identity.certificates().certificate();
    let survey = context.reconciler.last_survey();
    let (highest, tombstones) = context
        .reconciler
        .store()
        .read(|state| (state.highest, state.tombstones.len()));
    let vms: Vec<_> = context
        .reconciler
        .observations()
        .all()
        .into_iter()
        .map(|vm| {
            json!({
                "id": ObjectId::from_slice(&vm.vm_id).map(|id| id.to_string()),
                "placement_epoch": vm.placement_epoch,
                "phase": phase_name(vm.phase()),
                "reason": vm.reason,
                "since": Timestamp::from_ms(vm.since_ms).to_string(),
                "pid": vm.pid,
                "restarts": vm.restarts,
                "carried_out": vm.carried_out,
            })
        })
        .collect();
    let serial = serial_number(context.config.serial.as_deref()).ok();
    let inventory = context.inventory.borrow();
    let load = context.load.borrow();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "host_id": membership.host_id.to_string(),
        "cluster_id": membership.cluster_id.to_string(),
        "serial_number": serial.as_ref().map(|serial| serial.text.clone()),
        "serial_source": serial.as_ref().map(|serial| serial.source.as_str()),
        "boot_id": context.machine.boot_id().ok(),
        "ready": problems(context).is_empty(),
        "problems": problems(context),
        "session": {
            "controller": session.controller,
            "number": session.number,
            "host_epoch": session.host_epoch,
            "age_s": session.since.map(|at| at.elapsed().as_secs()),
            "silent_ms": session.heard_at.map(|at| at.elapsed().as_millis()),
            "removed": session.removed,
            "last_problem": session.last_problem,
        },
        "stamp": highest.map(|stamp| json!({
            "incarnation": stamp.incarnation.to_string(),
            "index": stamp.index,
        })),
        "certificate_expires": Timestamp::from_ms(certificate.validity().not_after_ms).to_string(),
        "hypervisor": {
            "type": inventory.hypervisor,
            "version": inventory.hypervisor_version,
            "libvirt_version": inventory.libvirt_version,
            "problem": context.reconciler.survey_problem(),
            "survey_age_ms": survey.as_ref().map(|last| last.at.elapsed().as_millis()),
            "domains": survey.as_ref().map(|last| last.survey.domains.len()),
            "foreign_domains": survey.as_ref().map(|last| last.survey.foreign.len()),
        },
        "machine": {
            "sockets": inventory.sockets,
            "cores": inventory.cores,
            "threads": inventory.threads,
            "memory_mib": inventory.memory_mib,
            "schedulable_cpu_milli": inventory.schedulable_cpu_milli,
            "schedulable_memory_mib": inventory.schedulable_memory_mib,
            "schedulable_storage_gib": inventory.schedulable_storage_gib,
        },
        "load": {
            "cpu_used_ppm": load.cpu_used_ppm,
            "memory_used_mib": load.memory_used_mib,
            "storage_used_mib": load.storage_used_mib,
            "storage_available_mib": load.storage_available_mib,
            "load1_milli": load.load1_milli,
        },
        "tombstones_pending": tombstones,
        "vms": vms,
    })
}

fn phase_name(phase: Phase) -> String {
    let name = phase.as_str_name();
    name.strip_prefix("PHASE_")
        .unwrap_or(name)
        .to_ascii_lowercase()
}

fn metrics(context: &SessionContext) -> Result<String, std::fmt::Error> {
    let metrics = &context.metrics;
    let mut phases: BTreeMap<String, i64> = BTreeMap::new();
    for vm in context.reconciler.observations().all() {
        *phases.entry(phase_name(vm.phase())).or_default() += 1;
    }
    // A phase that nobody is in any more says 0 and not what it said last.
    metrics.vms.clear();
    for (phase, count) in phases {
        metrics.vms.get_or_create(&PhaseLabels { phase }).set(count);
    }
    let load = context.load.borrow().clone();
    metrics.foreign_domains.set(i64::from(load.foreign_domains));
    let memory_mib = context.inventory.borrow().memory_mib;
    metrics.host.tell(&load, memory_mib);
    metrics.tell_vms(numbers_of_vms(context, &load));
    let open = context.state().number.is_some();
    metrics.session_open.set(i64::from(open));
    let up =
        context.reconciler.survey_problem().is_none() && context.reconciler.last_survey().is_some();
    metrics.hypervisor_up.set(i64::from(up));
    let certificate = context.identity.certificates().certificate();
    let expiry_s = certificate.validity().not_after_ms / 1000;
    metrics
        .certificate_expiry
        .set(i64::try_from(expiry_s).unwrap_or(i64::MAX));
    metrics.resident_memory.set(resident_memory_bytes());
    metrics.encode()
}

/// What is told of each VM, in the order of their ids.
fn numbers_of_vms(context: &SessionContext, load: &v1::Load) -> Vec<VmNumbers> {
    let guests: BTreeMap<&[u8], &v1::GuestLoad> = load
        .guests
        .iter()
        .map(|guest| (&guest.vm_id[..], guest))
        .collect();
    let numbers = |vm: v1::ObservedVm| {
        let guest = guests.get(&vm.vm_id[..]);
        Some(VmNumbers {
            vm: ObjectId::from_slice(&vm.vm_id)?,
            phase: phase_name(vm.phase()),
            cpu_used_ppm: guest.map(|guest| guest.cpu_used_ppm),
            memory_used_mib: guest.map(|guest| guest.memory_used_mib),
        })
    };
    let all = context.reconciler.observations().all();
    let mut told: Vec<VmNumbers> = all.into_iter().filter_map(numbers).collect();
    told.sort_by_key(|numbers| numbers.vm);
    told
}

fn resident_memory_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok());
    kib.unwrap_or(0) * 1024
}
