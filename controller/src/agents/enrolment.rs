//! How a machine gets its certificate: a join token the first time, its key on record after that.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status};
use virtflow_logic::{Enrol, Enrolled};
use virtflow_model::kinds::join_token::JoinRole;
use virtflow_pki::{ConnectInfo, Csr, LeafRequest, PkiError, Role, Token, TokenPrefix};
use virtflow_proto::agent::v1::enrolment_server::Enrolment;
use virtflow_proto::agent::v1::{EnrolReply, EnrolRequest, ReenrolRequest};
use virtflow_raft::DecideError;
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId, Timestamp};

use crate::app::App;
use crate::daemon::peer_calls;

/// How long an enrolment waits for a leader to be known.
const LEADER_WAIT: Duration = Duration::from_secs(5);
const LEADER_POLL: Duration = Duration::from_millis(100);
/// Longest text a machine may say of itself.
const TEXT_BYTES_MAX: usize = 256;

/// Service `Enrolment` on the API listener: the caller has no certificate yet.
#[derive(Debug, Clone)]
pub struct EnrolmentService {
    app: App,
}

impl EnrolmentService {
    /// Enrols with this controller's CA.
    pub fn new(app: App) -> Self {
        Self { app }
    }
}

fn remote(extensions: &tonic::Extensions) -> String {
    extensions
        .get::<ConnectInfo>()
        .map(|info| info.remote_addr.ip().to_string())
        .unwrap_or_default()
}

#[tonic::async_trait]
impl Enrolment for EnrolmentService {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let remote = remote(request.extensions());
        let request = request.into_inner();
        let deadline = Instant::now() + LEADER_WAIT;
        loop {
            let leadership = *self.app.node().leadership().borrow();
            if leadership.is_leader_ready {
                return enrol_here(&self.app, &request, &remote)
                    .await
                    .map(Response::new);
            }
            if let Some(leader) = leadership
                .leader
                .filter(|id| *id != self.app.node().node_id())
            {
                match peer_calls::enrol(&self.app, leader, &request, &remote).await {
                    Err(status) if status.code() == tonic::Code::Unavailable => {}
                    result => return result.map(Response::new),
                }
            }
            if Instant::now() >= deadline {
                return Err(Status::unavailable(
                    "no controller leads at the moment; try again",
                ));
            }
            sleep(LEADER_POLL).await;
        }
    }

    async fn reenrol(
        &self,
        request: Request<ReenrolRequest>,
    ) -> Result<Response<EnrolReply>, Status> {
        let request = request.into_inner();
        let csr = Csr::from_der(&request.csr_der).map_err(refused)?;
        let image = self
            .app
            .node()
            .read()
            .await
            .map_err(|e| status_of(&e.to_error()))?;
        let key = csr.fingerprint().to_string();
        let host = virtflow_logic::host_of_key(&image, &key).ok_or_else(|| {
            Status::permission_denied("no host with that key; join again with a new token")
        })?;
        virtflow_logic::host_admitted(&image, host, &key).map_err(|why| {
            Status::permission_denied(format!("{why}; join again with a new token"))
        })?;
        if serial_of(&image, host).is_none_or(|serial| serial != request.serial_number) {
            return Err(Status::permission_denied(
                "the key is on record for a machine with another serial number",
            ));
        }
        tracing::info!(%host, "a host renews its expired certificate with its key on record");
        agent_reply(&self.app, &csr, host).map(Response::new)
    }
}

fn serial_of(image: &virtflow_state::State, host: ObjectId) -> Option<String> {
    let object = image.get(host)?;
    let typed = virtflow_logic::decoded::<virtflow_model::kinds::Baremetal>(object).ok()?;
    Some(typed.spec.serial_number.clone())
}

/// Uses the token, as the leader, and signs.
pub async fn enrol_here(
    app: &App,
    request: &EnrolRequest,
    remote_address: &str,
) -> Result<EnrolReply, Status> {
    for text in [
        &request.serial_number,
        &request.hostname,
        &request.agent_version,
    ] {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "serial number, host name and version have at most {TEXT_BYTES_MAX} bytes"
            )));
        }
    }
    let token = Token::parse(&request.token)
        .ok()
        .filter(|token| token.prefix() == TokenPrefix::Join)
        .ok_or_else(|| Status::unauthenticated("not a join token; one begins with `vfj1.`"))?;
    let csr = Csr::from_der(&request.csr_der).map_err(refused)?;
    let enrol = Enrol {
        token_id: ObjectId::from_uuid(token.id()),
        secret_hash: token.hash().to_string(),
        key_fingerprint: csr.fingerprint().to_string(),
        serial_number: request.serial_number.clone(),
        hostname: request.hostname.clone(),
        agent_version: request.agent_version.clone(),
        source: remote_address.to_owned(),
        new_id: ObjectId::generate(),
    };
    let (request_id, now) = (RequestId::generate(), Timestamp::now());
    let committed = app
        .node()
        .decide(move |head| virtflow_logic::enrol(head, request_id, now, &enrol))
        .await
        .map_err(|error| status_of(&decide_error(app, error)))?;
    let Enrolled {
        role,
        subject_id,
        name,
        reused,
    } = committed.value;
    tracing::info!(?role, %subject_id, %name, reused, remote_address, "joined with a token");
    match role {
        JoinRole::Agent => agent_reply(app, &csr, subject_id),
        JoinRole::Controller => controller_reply(app, &csr, subject_id, &token),
    }
}

/// A certificate for a host's key.
pub(super) fn agent_reply(app: &App, csr: &Csr, host: ObjectId) -> Result<EnrolReply, Status> {
    let lifetime = Duration::from_secs(app.config().certificates.agent_lifetime_s);
    reply(app, csr, Role::Agent, host, lifetime)
}

fn controller_reply(
    app: &App,
    csr: &Csr,
    store: ObjectId,
    token: &Token,
) -> Result<EnrolReply, Status> {
    let lifetime = Duration::from_secs(app.config().certificates.controller_lifetime_s);
    let mut reply = reply(app, csr, Role::Controller, store, lifetime)?;
    let seal_key = app.seal_key();
    reply.sealed_ca = app.authority().sealed(seal_key).map_err(refused)?;
    reply.wrapped_seal_key = seal_key
        .wrap_with_secret(token.secret(), app.cluster_id().uuid())
        .map_err(refused)?;
    Ok(reply)
}

fn reply(
    app: &App,
    csr: &Csr,
    role: Role,
    subject: ObjectId,
    lifetime: Duration,
) -> Result<EnrolReply, Status> {
    let leaf = LeafRequest {
        role,
        subject_id: subject.uuid(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        lifetime,
    };
    let certificate = app
        .authority()
        .sign(csr, &leaf, Timestamp::now().ms())
        .map_err(refused)?;
    let members = app.node().members();
    Ok(EnrolReply {
        certificate_der: certificate.der().to_vec(),
        ca_der: app.ca().der().to_vec(),
        host_id: subject.to_string(),
        cluster_id: app.cluster_id().to_string(),
        agent_endpoints: members
            .iter()
            .map(|m| m.info.agent_address.clone())
            .collect(),
        api_endpoints: members.iter().map(|m| m.info.api_address.clone()).collect(),
        peer_endpoints: match role {
            Role::Controller => members
                .iter()
                .map(|m| m.info.peer_address.clone())
                .collect(),
            Role::Agent | Role::Client => Vec::new(),
        },
        ..EnrolReply::default()
    })
}

fn refused(error: PkiError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// A decision's failure in the words of the API.
pub fn decide_error(app: &App, error: DecideError) -> Error {
    match &error {
        DecideError::Conflict(refused) => virtflow_logic::explain(&app.node().image(), refused),
        _ => error.to_error(),
    }
}

/// The same failure in gRPC's codes.
pub fn status_of(error: &Error) -> Status {
    let code = match error.code {
        ErrorCode::Invalid => tonic::Code::InvalidArgument,
        ErrorCode::Unauthenticated => tonic::Code::Unauthenticated,
        ErrorCode::Forbidden => tonic::Code::PermissionDenied,
        ErrorCode::NotFound => tonic::Code::NotFound,
        ErrorCode::AlreadyExists => tonic::Code::AlreadyExists,
        ErrorCode::Conflict | ErrorCode::PreconditionFailed | ErrorCode::InUse => {
            tonic::Code::FailedPrecondition
        }
        ErrorCode::Expired => tonic::Code::OutOfRange,
        ErrorCode::QuotaExceeded | ErrorCode::NoCapacity | ErrorCode::LimitExceeded => {
            tonic::Code::ResourceExhausted
        }
        ErrorCode::Unavailable => tonic::Code::Unavailable,
        ErrorCode::OutcomeUnknown => tonic::Code::Unknown,
        ErrorCode::Internal => tonic::Code::Internal,
    };
    Status::new(code, error.to_string())
}
