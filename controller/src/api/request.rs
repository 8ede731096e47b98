//! What every request goes through, once and in this order: its id, the body within its limit, who
//! asks, how often, and whether this controller may answer or the leader must. Nothing below this
//! can forget one of these steps, because handlers are only reached through here.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State as Shared};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http_body_util::BodyExt;
use tokio::time::Instant;
use virtflow_logic::{Cx, Idempotency, IfMatch, Principal};
use virtflow_state::State;
use virtflow_types::{
    Error, ErrorCode, IDEMPOTENCY_KEY_BYTES_MAX, REQUEST_BODY_BYTES_MAX, RequestId, Timestamp,
};

use super::Api;
use super::credential::{self, Credential};
use super::envelope::{
    Answer, Failure, REQUEST_ID_HEADER, Seal, announced, no_leader, outcome_of, seal,
};
use super::forward;
use super::gate::network;
use super::query::Query;
use crate::app::Caller;

/// Names and values of a request's headers, in bytes.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a body that are read for the sake of a client that sends too much.
const DISCARDED_BYTES_MAX: usize = 16 * REQUEST_BODY_BYTES_MAX;
/// Headers that a request has once at most.
const ONCE: [http::HeaderName; 6] = [
    http::header::HOST,
    http::header::AUTHORIZATION,
    http::header::CONTENT_TYPE,
    http::header::CONTENT_LENGTH,
    http::header::TRANSFER_ENCODING,
    http::header::IF_MATCH,
];
/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a request may take in all: above the longest wait on an operation and the bounds of a
/// decision, so that it is reached only when something of ours hangs.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(100);

/// Stands for the route where there is none.
const UNMATCHED: &str = "unmatched";
/// Paths that need no credentials.
pub(crate) const PUBLIC: &[&str] = &["/api/v1/auth/login", "/api/v1/auth/refresh"];
/// Reads that rest on what only the leader knows: loads, and how far each member has come.
const LEADER_READS: &[&str] = &[
    "/api/v1/status",
    "/api/v1/capacity",
    "/api/v1/upgrade",
    "/api/v1/controllers",
    "/api/v1/controllers/{id}",
];
/// What the audit keeps of a `User-Agent`.
const USER_AGENT_CHARS_MAX: usize = 128;
/// Questions that are posed with a body.
const READS_BY_POST: &[&str] = &["/api/v1/auth/can-i"];

/// Who asks, and the image on which that was found true.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    /// Who.
    pub(crate) principal: Principal,
    /// Confirmed by a quorum after the request arrived.
    pub(crate) image: Arc<State>,
}

/// What a client calls itself, without what could upset a terminal, and no more of it than is worth keeping.
fn user_agent(call: &Call) -> String {
    let said = call.header("user-agent").unwrap_or_default().chars();
    let printable = said.filter(|c| matches!(c, ' '..='~'));
    printable.take(USER_AGENT_CHARS_MAX).collect()
}

/// One request, read whole.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request_id: RequestId,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) caller: Caller,
    signed: Option<Signed>,
}

impl Call {
    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Who asks. Present on every path that is not public.
    pub(crate) fn signed(&self) -> Result<&Signed, Failure> {
        self.signed
            .as_ref()
            .ok_or_else(|| Error::new(ErrorCode::Unauthenticated, "this needs credentials").into())
    }

    /// The confirmed image.
    pub(crate) fn image(&self) -> Result<&Arc<State>, Failure> {
        Ok(&self.signed()?.image)
    }

    /// The context in which logic decides and reads.
    pub(crate) fn cx(&self) -> Result<Cx, Failure> {
        let mut cx = self.cx_as(self.signed()?.principal.clone());
        cx.idempotency = self.idempotency()?;
        cx.if_match = self.if_match()?;
        Ok(cx)
    }

    /// The context of somebody who is not signed in yet: no idempotency key counts for it.
    pub(crate) fn cx_as(&self, principal: Principal) -> Cx {
        Cx {
            request_id: self.request_id,
            now: Timestamp::now(),
            principal,
            source: address_of(&self.caller).to_string(),
            user_agent: user_agent(self),
            idempotency: None,
            if_match: None,
            seal: None,
        }
    }

    fn idempotency(&self) -> Result<Option<Idempotency>, Error> {
        let Some(key) = self.single("idempotency-key")? else {
            return Ok(None);
        };
        let printable = key.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX || !printable {
            return Err(Error::invalid(
                "Idempotency-Key",
                format!("must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters"),
            ));
        }
        let mut hasher = blake3::Hasher::new();
        let target = self.uri.path_and_query().map_or("/", |path| path.as_str());
        for part in [
            self.method.as_str().as_bytes(),
            target.as_bytes(),
            &self.body,
        ] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Ok(Some(Idempotency {
            key: key.to_owned(),
            request_hash: hasher.finalize().to_hex().to_string(),
        }))
    }

    /// `If-Match: "<id>.7"`, or a generation alone, `"7"`; `*` asks for nothing, since a verb on what is not there fails anyway.
    fn if_match(&self) -> Result<Option<IfMatch>, Error> {
        let Some(text) = self.single("if-match")? else {
            return Ok(None);
        };
        if text == "*" {
            return Ok(None);
        }
        let bare = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
            .unwrap_or(text);
        let seen = || {
            let (object, generation) = match bare.split_once('.') {
                Some((id, generation)) => (Some(id.parse().ok()?), generation),
                None => (None, bare),
            };
            let generation = generation.parse().ok()?;
            Some(IfMatch { object, generation })
        };
        seen().map(Some).ok_or_else(|| {
            let problem = "must be one tag as `ETag` gives it, or a generation alone: `\"7\"`";
            Error::invalid("If-Match", problem)
        })
    }

    /// A header that may stand once.
    pub(crate) fn single(&self, name: &'static str) -> Result<Option<&str>, Error> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(Error::invalid(name, "stands twice"));
        }
        value
            .to_str()
            .map(Some)
            .map_err(|_| Error::invalid(name, "must be printable ASCII"))
    }
}

/// Marks a response that is not an answer but goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams;

/// What comes out of a request: our own answer, the leader's as it stands, or the beginning of a stream.
#[derive(Debug)]
enum Served {
    Here(Answer),
    Leader(Response),
    Stream(Response),
}

/// The one middleware.
pub(crate) async fn handle(Shared(api): Shared<Api>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    // Both ways in, the listener and another controller, say who calls. Should one forget, the caller
    // counts as unknown: from nowhere, without a certificate.
    let caller = request.extensions().get::<Caller>().cloned();
    let caller = caller.unwrap_or_else(|| Caller {
        remote_address: String::new(),
        client: None,
        hops: 0,
    });
    let request_id = request_id(&caller, request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or(UNMATCHED, MatchedPath::as_str);

    let work = tokio::time::timeout(
        REQUEST_TIMEOUT,
        api.serve(request_id, &caller, route, request, next),
    );
    let outcome = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(hangs(&method, request_id).into()),
        Err(_) => Err(panicked(request_id).into()),
    };
    let by = Seal {
        request_id,
        controller: api.app().name(),
    };
    let response = match outcome {
        Ok(Served::Here(answer)) => seal(Ok(answer), by),
        Ok(Served::Leader(response)) => response,
        Ok(Served::Stream(response)) => announced(response, by),
        Err(failure) => seal(Err(failure), by),
    };
    let took = started.elapsed();
    let status = response.status();
    api.metrics().observe(&method, route, status, took);
    tracing::info!(
        target: "virtflow::access",
        %request_id, %method, path, status = status.as_u16(), took_us = took.as_micros(),
        from = caller.remote_address, hops = caller.hops, "request"
    );
    response
}

/// Ours, or the one under which another controller passed the request on.
fn request_id(caller: &Caller, headers: &HeaderMap) -> RequestId {
    let given = headers.get(REQUEST_ID_HEADER).filter(|_| caller.hops > 0);
    given
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or_else(RequestId::generate)
}

fn hangs(method: &Method, request_id: RequestId) -> Error {
    if method.is_safe() {
        return Error::new(
            ErrorCode::Unavailable,
            format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()),
        );
    }
    Error::new(
        ErrorCode::OutcomeUnknown,
        format!(
            "no answer within {} s; it may or may not have happened",
            REQUEST_TIMEOUT.as_secs()
        ),
    )
    .advise("repeat it with the same Idempotency-Key, or look")
    .with_details(serde_json::json!({"request_id": request_id}).to_string())
}

fn panicked(request_id: RequestId) -> Error {
    tracing::error!(%request_id, "a request ended in a panic");
    Error::new(
        ErrorCode::Internal,
        "the controller made a mistake; if it was a change, it may or may not have happened",
    )
    .advise("report it with the request id and the controller's log")
}

impl Api {
    async fn serve(
        &self,
        request_id: RequestId,
        caller: &Caller,
        route: &str,
        request: Request,
        next: Next,
    ) -> Result<Served, Failure> {
        let (mut parts, body) = request.into_parts();
        let body = read_body(body).await?;
        check_headers(&parts.headers)?;
        if route == UNMATCHED {
            let request = Request::from_parts(parts, Body::empty());
            return outcome_of(&mut next.run(request).await).map(Served::Here);
        }
        if caller.hops == 0 {
            let from = network(address_of(caller));
            let refused = &self.gates().refused;
            refused.peek(from, Instant::now()).map_err(too_many)?;
        }
        let mut call = Call {
            request_id,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            query: Query::of(&parts.uri)?,
            headers: parts.headers.clone(),
            body,
            caller: caller.clone(),
            signed: None,
        };
        if !PUBLIC.contains(&route) {
            call.signed = Some(self.sign_in(&call).await?);
        }
        let here_only = !needs_leader(&call.method, route) || self.app().leads();
        let call = Arc::new(call);
        if !here_only {
            return self.pass_on(&call).await;
        }
        parts.extensions.insert(Arc::clone(&call));
        let request = Request::from_parts(parts, Body::empty());
        let mut response = next.run(request).await;
        if response.extensions_mut().remove::<Streams>().is_some() {
            return Ok(Served::Stream(response));
        }
        match outcome_of(&mut response) {
            Ok(answer) => Ok(Served::Here(answer)),
            Err(Failure::NotLeader) => self.pass_on(&call).await,
            Err(failure) => {
                self.refusals().note(&call, route, &failure);
                Err(failure)
            }
        }
    }

    /// Authenticates on an image that a quorum confirmed after the request arrived.
    async fn sign_in(&self, call: &Call) -> Result<Signed, Failure> {
        let now = Instant::now();
        let credential = credential::of(call, self.access_tokens());
        let credential = credential.map_err(|failure| self.count_refused(call, failure))?;
        let image = self.app().node().read().await;
        let image = image.map_err(|error| error.to_error())?;
        let principal = credential
            .principal(&image, Timestamp::now())
            .map_err(|failure| self.count_refused(call, failure))?;
        if call.caller.hops == 0
            && let Principal::User { user_id, .. } = &principal
        {
            // First, so that what is refused to a token is not taken from its user.
            if let (Some(gate), Credential::ApiToken(token, _)) =
                (&self.gates().tokens, &credential)
            {
                gate.take(*token, now).map_err(too_many_with_token)?;
            }
            self.gates().users.take(*user_id, now).map_err(too_many)?;
            let tenant = image.get(*user_id).and_then(|user| user.tenant);
            if let (Some(gate), Some(tenant)) = (&self.gates().tenants, tenant) {
                gate.take(tenant, now).map_err(too_many_of_tenant)?;
            }
        }
        self.uses().note(&image, &principal, Timestamp::now());
        Ok(Signed { principal, image })
    }

    fn count_refused(&self, call: &Call, error: Error) -> Failure {
        if call.caller.hops == 0 {
            let from = network(address_of(&call.caller));
            let _ = self.gates().refused.take(from, Instant::now());
        }
        let failure = Failure::from(error);
        self.refusals().note(call, "authenticate", &failure);
        failure
    }

    async fn pass_on(&self, call: &Call) -> Result<Served, Failure> {
        if call.caller.hops > 0 {
            return Err(no_leader().into());
        }
        let response = forward::to_leader(self.app(), call).await?;
        Ok(Served::Leader(response))
    }
}

/// Writes, and reads of what only the leader has in memory.
fn needs_leader(method: &Method, route: &str) -> bool {
    if method.is_safe() {
        LEADER_READS.contains(&route)
    } else {
        !READS_BY_POST.contains(&route)
    }
}

pub(crate) fn address_of(caller: &Caller) -> std::net::IpAddr {
    let text = caller.remote_address.as_str();
    text.parse::<std::net::SocketAddr>()
        .map(|address| address.ip())
        .or_else(|_| text.parse())
        .unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

pub(crate) fn too_many(wait: Duration) -> Failure {
    too_often(
        "too many requests",
        "slow down; wait for operations with `?wait=` rather than asking often",
        wait,
    )
}

/// The refusal of a request with an API token whose user may still ask.
fn too_many_with_token(wait: Duration) -> Failure {
    too_often(
        "too many requests with this API token",
        "slow down, make a token for each program, or ask an operator for a higher `limits.token_requests_per_s`",
        wait,
    )
}

/// The refusal of a request whose sender asks no more than they may, while their tenant does.
fn too_many_of_tenant(wait: Duration) -> Failure {
    too_often(
        "your tenant's users together make too many requests",
        "slow down, or ask an operator for a higher `limits.tenant_requests_per_s`",
        wait,
    )
}

fn too_often(what: &str, advice: &str, wait: Duration) -> Failure {
    let next = wait.as_millis().max(1);
    let error = Error::new(
        ErrorCode::LimitExceeded,
        format!("{what}; the next is taken in {next} ms"),
    );
    Failure::later(error.advise(advice), wait)
}

/// Reads a body within its limit. What is beyond is read and thrown away, up to another limit: a
/// client that is cut off in the middle of sending never sees why.
async fn read_body(mut body: Body) -> Result<Bytes, Failure> {
    let mut kept = BytesMut::new();
    let mut seen = 0usize;
    let whole = async {
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| cut_off())?.into_data() else {
                continue;
            };
            seen = seen.saturating_add(data.len());
            if seen <= REQUEST_BODY_BYTES_MAX {
                kept.extend_from_slice(&data);
            } else if seen > DISCARDED_BYTES_MAX {
                break;
            }
        }
        Ok::<(), Failure>(())
    };
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(read) => read?,
        Err(_) => return Err(too_slow()),
    }
    if seen > REQUEST_BODY_BYTES_MAX {
        return Err(Failure::with_status(
            StatusCode::PAYLOAD_TOO_LARGE,
            Error::new(
                ErrorCode::LimitExceeded,
                format!("the request's body is larger than {REQUEST_BODY_BYTES_MAX} bytes"),
            ),
        ));
    }
    Ok(kept.freeze())
}

fn cut_off() -> Failure {
    let problem = "the request's body ended before it was complete";
    Error::new(ErrorCode::Invalid, problem).into()
}

fn too_slow() -> Failure {
    let problem = format!(
        "the request's body did not arrive within {} s",
        BODY_TIMEOUT.as_secs()
    );
    Failure::with_status(
        StatusCode::REQUEST_TIMEOUT,
        Error::new(ErrorCode::Invalid, problem),
    )
}

/// Refuses what no client of ours sends: more header than that, and what tells one thing twice.
fn check_headers(headers: &HeaderMap) -> Result<(), Failure> {
    // What stands twice could be read in two ways, by who stands between the client and us and by us.
    for name in &ONCE {
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(Error::invalid(name.as_str(), "stands twice").into());
        }
    }
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes <= HEADER_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::with_status(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Error::new(
            ErrorCode::LimitExceeded,
            format!("the request's headers are larger than {HEADER_BYTES_MAX} bytes"),
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_and_the_leaders_own_reads_need_the_leader() {
        assert!(needs_leader(&Method::POST, "/api/v1/vms"));
        assert!(needs_leader(&Method::DELETE, "/api/v1/vms/{id}"));
        assert!(needs_leader(&Method::POST, "/api/v1/auth/login"));
        assert!(needs_leader(&Method::GET, "/api/v1/status"));
        assert!(!needs_leader(&Method::GET, "/api/v1/vms"));
        assert!(!needs_leader(&Method::HEAD, "/api/v1/vms/{id}"));
        assert!(!needs_leader(&Method::POST, "/api/v1/auth/can-i"));
    }
}
