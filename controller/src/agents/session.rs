//! One agent's session: what it says goes to the leader, what it is to do comes from the state.
//!
//! The session begins with a quorum round, an image at least as new as what the agent has seen, and the
//! leader's grant of a number and a host epoch. After that each desired state that is sent rests on a
//! quorum round of its own, and a session that nobody with a quorum has confirmed for a while ends, so
//! that the agent goes to look for another controller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use virtflow_pki::{Csr, PeerIdentity, Role, require_role};
use virtflow_proto::agent::v1::agent_message::Body as Said;
use virtflow_proto::agent::v1::agent_session_server::AgentSession;
use virtflow_proto::agent::v1::controller_message::Body as Told;
use virtflow_proto::agent::v1::{
    AgentMessage, ConsoleReply, ConsoleRequest, ControllerMessage, Endpoints, EnrolReply, Goodbye,
    RenewRequest, Welcome,
};
use virtflow_state::State;
use virtflow_types::{CONSOLE_BYTES_MAX, Error, ErrorCode, ObjectId, RequestId};

use super::leader_link::{Answer, granted, to_leader};
use super::{COMMANDS_MAX, Command, Handle, enrolment, wire};
use crate::app::{App, Console};

/// How long an agent may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long this controller may take to reach what the agent has seen already.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// Without a word from a confirmed leader for so long, a session ends.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(6);
/// Messages waiting to be sent to one agent; one that reads no more than this is gone.
const SEND_QUEUE_MAX: usize = 32;
/// How long a message may wait for room in that queue.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a session looks whether it is still confirmed.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Pause before a desired state is tried again that could not be confirmed.
const PUSH_RETRY: Duration = Duration::from_millis(250);
/// Consoles asked of one agent at once.
const CONSOLES_MAX: usize = 16;

type Out = mpsc::Sender<Result<ControllerMessage, Status>>;

/// Service `AgentSession` on the agent listener.
#[derive(Debug, Clone)]
pub struct SessionService {
    app: App,
}

impl SessionService {
    /// Holds sessions for this controller.
    pub fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl AgentSession for SessionService {
    type SessionStream = ReceiverStream<Result<ControllerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = require_role(request.extensions(), Role::Agent)?.clone();
        let incoming = request.into_inner();
        let (out, stream) = mpsc::channel(SEND_QUEUE_MAX);
        let app = self.app.clone();
        tokio::spawn(async move {
            let host = ObjectId::from_uuid(peer.identity.subject_id);
            let ended = tokio::select! {
                ended = serve(&app, &peer, host, incoming, &out) => ended,
                () = app.stopping().cancelled() => Err(End::goodbye("the controller stops")),
            };
            let end = match ended {
                Ok(()) => return tracing::info!(%host, "the agent ended its session"),
                Err(end) => end,
            };
            tracing::info!(%host, reason = end.reason, removed = end.removed, "session ended");
            let goodbye = Goodbye {
                reason: end.reason,
                removed: end.removed,
                r#try: others(&app),
            };
            // The agent may be gone already.
            let _ = tokio::time::timeout(SEND_TIMEOUT, out.send(Ok(told(Told::Goodbye(goodbye)))))
                .await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn renew_certificate(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<EnrolReply>, Status> {
        let peer = require_role(request.extensions(), Role::Agent)?.clone();
        let host = ObjectId::from_uuid(peer.identity.subject_id);
        let image = self
            .app
            .node()
            .read()
            .await
            .map_err(|error| enrolment::status_of(&error.to_error()))?;
        virtflow_logic::host_admitted(&image, host, &peer.key.to_string())
            .map_err(Status::permission_denied)?;
        let csr = Csr::from_der(&request.get_ref().csr_der)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if csr.fingerprint() != peer.key {
            return Err(Status::permission_denied("the request is for another key"));
        }
        enrolment::agent_reply(&self.app, &csr, host).map(Response::new)
    }
}

/// Why a session ends, in words for the agent.
pub(super) struct End {
    pub(super) reason: String,
    pub(super) removed: bool,
}

impl End {
    pub(super) fn goodbye(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            removed: false,
        }
    }
    fn removed(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            removed: true,
        }
    }
}

fn told(body: Told) -> ControllerMessage {
    ControllerMessage { body: Some(body) }
}

/// Agents' listeners of the other controllers.
fn others(app: &App) -> Vec<String> {
    let me = app.node().node_id();
    app.node()
        .members()
        .into_iter()
        .filter(|member| member.node_id != me)
        .map(|member| member.info.agent_address)
        .collect()
}

async fn serve(
    app: &App,
    peer: &PeerIdentity,
    host: ObjectId,
    mut incoming: Streaming<AgentMessage>,
    out: &Out,
) -> Result<(), End> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message())
        .await
        .map_err(|_| End::goodbye("no hello in time"))?
        .map_err(|status| End::goodbye(format!("reading the hello: {status}")))?;
    let Some(Said::Hello(hello)) = first.as_ref().and_then(|m| m.body.as_ref()) else {
        return Err(End::goodbye("a session begins with a hello"));
    };
    let seen = hello.highest.clone();
    let image = confirmed_image(app).await?;
    admitted(&image, host, peer)?;
    if let Some(seen) = seen
        && image
            .incarnation()
            .is_some_and(|i| i.as_bytes()[..] == seen.incarnation[..])
        && seen.index > image.index()
    {
        // Only a controller that is behind meets an agent that knows more.
        let reached = app.node().wait_applied(seen.index);
        match tokio::time::timeout(CATCH_UP_TIMEOUT, reached).await {
            Ok(Ok(_)) => {}
            _ => {
                return Err(End::goodbye(
                    "this controller is behind what the agent has seen",
                ));
            }
        }
    }
    let key = peer.key.to_string();
    let hello = first.unwrap_or_default();
    let welcome = granted(app, peer, host, &hello).await?;
    let granted_at = welcome.stamp.as_ref().map_or(0, |stamp| stamp.index);
    match tokio::time::timeout(CATCH_UP_TIMEOUT, app.node().wait_applied(granted_at)).await {
        Ok(Ok(_)) => {}
        _ => return Err(End::goodbye("this controller is behind the leader")),
    }
    let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
    let handle = Arc::new(Handle {
        number: welcome.session,
        key: peer.key,
        commands,
        touched: Notify::new(),
    });
    app.agents().insert(host, handle.clone());
    app.metrics().agent_sessions.inc();
    tracing::info!(%host, session = welcome.session, host_epoch = welcome.host_epoch, "session begun");
    let mut session = Session {
        app,
        peer,
        host,
        key,
        out,
        handle: &handle,
        confirmed: Instant::now(),
        consoles: Vec::new(),
        console_number: 0,
        causes: BTreeMap::new(),
        pushed: None,
        endpoints: Endpoints::default(),
    };
    let ended = session.run(welcome, incoming, command_queue).await;
    app.agents().remove(host, handle.number);
    app.metrics().agent_sessions.dec();
    ended
}

async fn confirmed_image(app: &App) -> Result<Arc<State>, End> {
    app.node()
        .read()
        .await
        .map_err(|error| End::goodbye(format!("no quorum here: {}", error.to_error())))
}

fn admitted(image: &State, host: ObjectId, peer: &PeerIdentity) -> Result<(), End> {
    virtflow_logic::host_admitted(image, host, &peer.key.to_string()).map_err(End::removed)
}

/// Marks the moment from which an agent works on a VM: the last of the phases of a creation.
fn note_new(before: Option<&virtflow_logic::Desired>, now: &virtflow_logic::Desired) {
    if !tracing::enabled!(target: "virtflow::phase", tracing::Level::DEBUG) {
        return;
    }
    for vm in &now.vms {
        if before.is_none_or(|before| before.vms.iter().all(|known| known.vm_id != vm.vm_id)) {
            tracing::debug!(target: "virtflow::phase", phase = "sent", vm_id = %vm.vm_id, name = %vm.name);
        }
    }
}

/// A console request that waits for the agent.
struct Waiting {
    request: u64,
    answer: oneshot::Sender<Result<Console, Error>>,
}

struct Session<'a> {
    app: &'a App,
    peer: &'a PeerIdentity,
    host: ObjectId,
    key: String,
    out: &'a Out,
    handle: &'a Handle,
    /// When somebody with a quorum last confirmed this session.
    confirmed: Instant,
    consoles: Vec<Waiting>,
    console_number: u64,
    /// The requests behind what was last sent, to log none twice.
    causes: BTreeMap<ObjectId, RequestId>,
    /// What was last sent, to send nothing twice.
    pushed: Option<virtflow_logic::Desired>,
    /// Where it was last told that controllers are.
    endpoints: Endpoints,
}

impl Session<'_> {
    async fn run(
        &mut self,
        welcome: Welcome,
        mut incoming: Streaming<AgentMessage>,
        mut commands: mpsc::Receiver<Command>,
    ) -> Result<(), End> {
        self.send(Told::Welcome(welcome)).await?;
        self.tell_endpoints().await?;
        let mut due = self.push(Instant::now()).await?;
        let mut watch = tokio::time::interval(WATCH_EVERY);
        watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let retry = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = incoming.message() => match message {
                    Ok(Some(message)) => self.said(message).await?,
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(End::goodbye(format!("the connection broke: {}", status.message()))),
                },
                () = self.handle.touched.notified() => due = self.push(Instant::now()).await?,
                () = retry => due = self.push(Instant::now()).await?,
                command = commands.recv() => match command {
                    Some(command) => self.command(command).await?,
                    None => return Err(End::goodbye("superseded")),
                },
                _ = watch.tick() => {
                    self.consoles.retain(|waiting| !waiting.answer.is_closed());
                    if self.confirmed.elapsed() > UNCONFIRMED_MAX {
                        return Err(End::goodbye("this controller hears no leader"));
                    }
                    self.tell_endpoints().await?;
                }
            }
        }
    }

    async fn send(&self, body: Told) -> Result<(), End> {
        match tokio::time::timeout(SEND_TIMEOUT, self.out.send(Ok(told(body)))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::goodbye("the agent is gone")),
            Err(_) => Err(End::goodbye("the agent does not read")),
        }
    }

    /// Where controllers are, if that changed: an agent must find another one when this one is gone.
    async fn tell_endpoints(&mut self) -> Result<(), End> {
        let members = self.app.node().members();
        let endpoints = Endpoints {
            agent_endpoints: members
                .iter()
                .map(|m| m.info.agent_address.clone())
                .collect(),
            api_endpoints: members.iter().map(|m| m.info.api_address.clone()).collect(),
        };
        if self.endpoints != endpoints {
            self.send(Told::Endpoints(endpoints.clone())).await?;
            self.endpoints = endpoints;
        }
        Ok(())
    }

    /// Sends the desired state as a quorum confirms it now. `Some`: it could not be confirmed, try
    /// again then.
    async fn push(&mut self, since: Instant) -> Result<Option<Instant>, End> {
        let image = match self.app.node().read().await {
            Ok(image) => image,
            Err(error) => {
                tracing::debug!(host = %self.host, error = %error.to_error(), "not confirmed; nothing is sent");
                return Ok(Some(Instant::now() + PUSH_RETRY));
            }
        };
        self.confirmed = Instant::now();
        admitted(&image, self.host, self.peer)?;
        let desired = virtflow_logic::desired_of(&image, self.host);
        if self.pushed.as_ref() == Some(&desired) {
            return Ok(None);
        }
        let stamp = wire::stamp(image.incarnation(), image.index());
        let causes = virtflow_logic::causes_of(&image, &desired);
        let causes = causes.into_iter().collect();
        self.send(Told::Desired(wire::desired(&desired, &causes, stamp)))
            .await?;
        note_new(self.pushed.as_ref(), &desired);
        for (vm_id, request_id) in &causes {
            if self.causes.get(vm_id) != Some(request_id) {
                tracing::info!(%request_id, host = %self.host, %vm_id, "an order was sent to the host");
            }
        }
        self.causes = causes;
        self.pushed = Some(desired);
        self.app
            .metrics()
            .push_seconds
            .observe(since.elapsed().as_secs_f64());
        Ok(None)
    }

    async fn said(&mut self, message: AgentMessage) -> Result<(), End> {
        let received = Instant::now();
        match message.body {
            None => Ok(()),
            Some(Said::Hello(_)) => Err(End::goodbye("a second hello; begin a new session")),
            Some(Said::Console(reply)) => {
                self.console_answer(reply);
                Ok(())
            }
            Some(_) => match to_leader(self.app, self.peer, self.host, &message, received).await {
                Ok(Answer::Leader(Some(body))) => {
                    self.confirmed = Instant::now();
                    if let Told::Goodbye(goodbye) = body {
                        return Err(End {
                            reason: goodbye.reason,
                            removed: goodbye.removed,
                        });
                    }
                    self.send(body).await
                }
                // Without an answer nothing was confirmed: the agent hears nothing either.
                Ok(Answer::Leader(None) | Answer::NoLeader) => Ok(()),
                Err(error) => {
                    tracing::debug!(host = %self.host, key = self.key, %error, "not passed on");
                    Ok(())
                }
            },
        }
    }

    async fn command(&mut self, command: Command) -> Result<(), End> {
        match command {
            Command::Removed => Err(End::removed("the host was removed from the cluster")),
            Command::Superseded => Err(End::goodbye("a newer session of the same host began")),
            Command::Console {
                vm,
                placement_epoch,
                max_bytes,
                answer,
            } => {
                if self.consoles.len() >= CONSOLES_MAX {
                    let error = Error::new(
                        ErrorCode::LimitExceeded,
                        "too many consoles are being read on that host",
                    );
                    let _ = answer.send(Err(error));
                    return Ok(());
                }
                self.console_number += 1;
                let request = self.console_number;
                self.consoles.push(Waiting { request, answer });
                self.send(Told::Console(ConsoleRequest {
                    request,
                    vm_id: vm.as_bytes().to_vec(),
                    placement_epoch,
                    max_bytes,
                }))
                .await
            }
        }
    }

    fn console_answer(&mut self, mut reply: ConsoleReply) {
        let Some(at) = self
            .consoles
            .iter()
            .position(|w| w.request == reply.request)
        else {
            return;
        };
        let waiting = self.consoles.swap_remove(at);
        reply.data.truncate(CONSOLE_BYTES_MAX);
        let result = if reply.error.is_empty() {
            Ok(Console {
                data: reply.data.into(),
                total_bytes: reply.total_bytes,
            })
        } else {
            Err(Error::new(
                ErrorCode::Unavailable,
                format!("the host's agent: {}", reply.error),
            ))
        };
        // Whoever asked may have given up.
        let _ = waiting.answer.send(result);
    }
}
