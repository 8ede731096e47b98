//! One session, from dialling to its end.
//!
//! ```text
//! agent                        controller
//! Hello (with inventory)  ->
//!                         <-   Welcome (session number, host epoch)
//! Observed (complete)     ->
//!                         <-   Desired (complete); from here new guests may start
//! Heartbeat each interval ->   (with the hash of all that is observed)
//! Observed (what changed) ->   at once
//! ```
//!
//! Orders are stored and obeyed by a worker beside the session, in the order they came, so that a
//! slow disk doesn't hold up heartbeats.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use virtflow_proto::agent::v1;
use virtflow_proto::agent::v1::agent_message::Body as Say;
use virtflow_proto::agent::v1::agent_session_client::AgentSessionClient;
use virtflow_proto::agent::v1::controller_message::Body as Told;
use virtflow_types::{ObjectId, RequestId};

use super::{End, SILENCE_MAX, SessionContext};
use crate::desired::{Desired, VMS_MAX};
use crate::identity::{now_ms, told};
use crate::inventory::{hostname, serial_number};
use crate::metrics::OrderOutcome;
use crate::off_loop::off_loop;
use crate::reconcile::{ObeyError, files};

/// The protocol's version.
const PROTOCOL: u32 = 1;
/// The largest message taken: the desired state of some ten thousand VMs.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Messages waiting to be sent; a controller that doesn't read more than these is left.
const SEND_QUEUE_MAX: usize = 64;
/// Orders waiting to be stored; a controller that sends faster than this host stores is left.
const ORDERS_MAX: usize = 32;
/// Console requests worked on at once; each may hold 1 MiB.
const CONSOLES_MAX: usize = 4;
/// Bounds of the heartbeat interval that a controller may ask for.
const HEARTBEAT_MS: std::ops::RangeInclusive<u64> = 100..=5_000;
/// How long a renewal may take.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(15);
/// The shortest time between two attempts to renew.
const RENEWAL_RETRY: Duration = Duration::from_secs(1);

/// Talks to one controller until one of us has had enough.
pub(super) async fn talk(context: &SessionContext, endpoint: &str) -> End {
    let (mut session, mut incoming) = match Session::begin(context, endpoint).await {
        Ok(begun) => begun,
        Err(end) => return end,
    };
    let began = Instant::now();
    let problem = session.run(&mut incoming).await;
    session.close();
    End {
        problem,
        try_first: std::mem::take(&mut session.try_first),
        removed: session.removed,
        held: began.elapsed(),
    }
}

struct Session<'a> {
    context: &'a SessionContext,
    client: AgentSessionClient<Channel>,
    out: mpsc::Sender<v1::AgentMessage>,
    welcome: v1::Welcome,
    orders: mpsc::Sender<v1::Desired>,
    order_worker: JoinHandle<anyhow::Error>,
    heartbeats: u64,
    reports: u64,
    /// Version of the observations that the controller has.
    known: Option<u64>,
    inventory: watch::Receiver<v1::Inventory>,
    consoles: tokio::task::JoinSet<v1::ConsoleReply>,
    renewal: Option<JoinHandle<anyhow::Result<v1::EnrolReply>>>,
    renewal_tried: Option<Instant>,
    heard_at: Instant,
    try_first: Vec<String>,
    removed: bool,
}

impl<'a> Session<'a> {
    async fn begin(
        context: &'a SessionContext,
        endpoint: &str,
    ) -> Result<(Self, Streaming<v1::ControllerMessage>), End> {
        let mut inventory = context.inventory.clone();
        let known = inventory.borrow_and_update().clone();
        let hello = hello(context, known).map_err(End::attempt)?;
        let connected = timeout(SILENCE_MAX, context.identity.connect(endpoint)).await;
        let (channel, tls) = connected
            .map_err(|_| End::attempt(silent()))?
            .map_err(End::attempt)?;
        // What a server thinks of our certificate shows only after the handshake, as an alert.
        let explain = |error: anyhow::Error| match tls.observed().alert {
            Some(alert) => {
                End::attempt(error.context(format!("the controller refused: {alert:?}")))
            }
            None => End::attempt(error),
        };
        let mut client =
            AgentSessionClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (out, queue) = mpsc::channel(SEND_QUEUE_MAX);
        let first = v1::AgentMessage {
            body: Some(Say::Hello(hello)),
        };
        out.try_send(first)
            .map_err(|error| End::attempt(error.into()))?;
        let opened = timeout(SILENCE_MAX, client.session(ReceiverStream::new(queue))).await;
        let mut incoming = opened
            .map_err(|_| End::attempt(silent()))?
            .map_err(|status| explain(told(status)))?
            .into_inner();
        let welcome = match timeout(SILENCE_MAX, incoming.message()).await {
            Err(_) => return Err(End::attempt(silent())),
            Ok(Err(status)) => return Err(explain(told(status))),
            Ok(Ok(Some(message))) => match message.body {
                Some(Told::Welcome(welcome)) => welcome,
                Some(Told::Goodbye(goodbye)) => {
                    return Err(End {
                        try_first: goodbye.r#try,
                        removed: goodbye.removed,
                        ..End::attempt(anyhow!("refused: {}", goodbye.reason))
                    });
                }
                _ => return Err(End::attempt(anyhow!("it did not begin with a welcome"))),
            },
            Ok(Ok(None)) => return Err(explain(anyhow!("it hung up"))),
        };
        tracing::info!(
            controller = endpoint,
            session = welcome.session,
            host_epoch = welcome.host_epoch,
            "session begun"
        );
        context.metrics.sessions.inc();
        let now = Instant::now();
        context.with_state(|state| {
            state.number = Some(welcome.session);
            state.host_epoch = welcome.host_epoch;
            state.since = Some(now);
            state.heard_at = Some(now);
            state.last_problem = None;
            state.removed = false;
        });
        let (orders, order_queue) = mpsc::channel(ORDERS_MAX);
        let worker = OrderWorker {
            reconciler: context.reconciler.clone(),
            metrics: context.metrics.clone(),
            host_epoch: welcome.host_epoch,
            causes: BTreeMap::new(),
        };
        let session = Self {
            context,
            client,
            out,
            welcome,
            orders,
            order_worker: tokio::spawn(worker.run(order_queue)),
            heartbeats: 0,
            reports: 0,
            known: None,
            inventory,
            consoles: tokio::task::JoinSet::new(),
            renewal: None,
            renewal_tried: None,
            heard_at: now,
            try_first: Vec::new(),
            removed: false,
        };
        Ok((session, incoming))
    }

    fn close(&mut self) {
        self.order_worker.abort();
        self.consoles.abort_all();
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
    }

    async fn run(&mut self, incoming: &mut Streaming<v1::ControllerMessage>) -> anyhow::Error {
        match self.converse(incoming).await {
            Ok(never) => match never {},
            Err(problem) => problem,
        }
    }

    async fn converse(
        &mut self,
        incoming: &mut Streaming<v1::ControllerMessage>,
    ) -> anyhow::Result<std::convert::Infallible> {
        let asked_ms = u64::from(self.welcome.heartbeat_interval_ms);
        let beat_ms = asked_ms.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end());
        let now = Instant::now();
        let mut beat = interval_at(now, Duration::from_millis(beat_ms));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let observations = self.context.reconciler.observations();
        let mut changed = observations.subscribe();
        self.report()?;
        loop {
            tokio::select! {
                message = incoming.message() => match message {
                    Ok(Some(message)) => self.hear(message)?,
                    Ok(None) => bail!("it hung up"),
                    Err(status) => return Err(told(status).context("the connection broke")),
                },
                change = changed.changed() => {
                    change.context("the observations ended")?;
                    self.report()?;
                }
                _ = beat.tick() => {
                    if self.heard_at.elapsed() > SILENCE_MAX {
                        return Err(silent());
                    }
                    self.heartbeat()?;
                    self.renew_if_due();
                }
                change = self.inventory.changed() => {
                    change.context("the inventory ended")?;
                    self.tell_inventory()?;
                }
                ended = &mut self.order_worker => {
                    return Err(ended.unwrap_or_else(|error| error.into()));
                }
                Some(reply) = self.consoles.join_next() => {
                    if let Ok(reply) = reply {
                        self.say(Say::Console(reply))?;
                    }
                }
                renewed = finished(&mut self.renewal) => self.take_renewal(renewed),
            }
        }
    }

    fn say(&self, body: Say) -> anyhow::Result<()> {
        let message = v1::AgentMessage { body: Some(body) };
        self.out.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                anyhow!("it left {SEND_QUEUE_MAX} messages unread")
            }
            mpsc::error::TrySendError::Closed(_) => anyhow!("it closed the connection"),
        })
    }

    fn acted_on(&self) -> Option<v1::Stamp> {
        let highest = self.context.reconciler.store().read(|state| state.highest);
        highest.map(crate::desired::Stamp::to_wire)
    }

    fn heartbeat(&mut self) -> anyhow::Result<()> {
        self.heartbeats += 1;
        let load = self.context.load.borrow().clone();
        self.say(Say::Heartbeat(v1::Heartbeat {
            session: self.welcome.session,
            sequence: self.heartbeats,
            host_epoch: self.welcome.host_epoch,
            observed_hash: self.context.reconciler.observations().hash(),
            acted_on: self.acted_on(),
            load: Some(load),
            sent_at_ms: now_ms(),
            condition: Some(self.condition()),
        }))?;
        self.context.metrics.heartbeats_sent.inc();
        Ok(())
    }

    fn condition(&self) -> v1::Condition {
        let validity = self
            .context
            .identity
            .certificates()
            .certificate()
            .validity();
        let reconciler = &self.context.reconciler;
        let silent_ms = reconciler.hypervisor_silence().as_millis();
        v1::Condition {
            hypervisor_silent_ms: u64::try_from(silent_ms).unwrap_or(u64::MAX),
            certificate_life_ms: validity.not_after_ms.saturating_sub(validity.issued_ms),
            certificate_left_ms: validity.not_after_ms.saturating_sub(now_ms()),
            orders_not_stored: reconciler.orders_not_stored(),
        }
    }

    /// Tells what changed since the last report, or everything at first.
    fn report(&mut self) -> anyhow::Result<()> {
        let observations = self.context.reconciler.observations();
        let Some(report) = observations.report(self.known) else {
            return Ok(());
        };
        self.reports += 1;
        self.say(Say::Observed(v1::ObservedState {
            session: self.welcome.session,
            sequence: self.reports,
            host_epoch: self.welcome.host_epoch,
            boot_id: self.context.machine.boot_id()?,
            complete: report.complete,
            hash: report.hash,
            acted_on: self.acted_on(),
            vms: report.vms,
            confirmed: report.confirmed,
        }))?;
        self.known = Some(report.version);
        Ok(())
    }

    fn hear(&mut self, message: v1::ControllerMessage) -> anyhow::Result<()> {
        self.heard_at = Instant::now();
        let heard_at = self.heard_at;
        self.context
            .with_state(|state| state.heard_at = Some(heard_at));
        match message.body {
            Some(Told::Desired(desired)) => {
                let queued = self.orders.try_send(desired);
                queued.map_err(|_| anyhow!("it sends orders faster than this host stores them"))
            }
            Some(Told::HeartbeatAck(_)) => {
                self.context.metrics.heartbeats_acknowledged.inc();
                Ok(())
            }
            Some(Told::ReportRequest(_)) => {
                self.known = None;
                self.report()?;
                self.tell_inventory()
            }
            Some(Told::Console(request)) => self.console(request),
            Some(Told::Endpoints(endpoints)) => {
                self.context.identity.learn_endpoints(&endpoints);
                Ok(())
            }
            Some(Told::Goodbye(goodbye)) => {
                self.try_first = goodbye.r#try;
                self.removed = goodbye.removed;
                Err(anyhow!("goodbye: {}", goodbye.reason))
            }
            Some(Told::Welcome(_)) => Err(anyhow!("it welcomed twice")),
            // Something that a later version knows.
            None => Ok(()),
        }
    }

    fn console(&mut self, request: v1::ConsoleRequest) -> anyhow::Result<()> {
        let number = request.request;
        if self.consoles.len() >= CONSOLES_MAX {
            return self.say(Say::Console(v1::ConsoleReply {
                request: number,
                error: format!("{CONSOLES_MAX} consoles are being read already; try again"),
                ..v1::ConsoleReply::default()
            }));
        }
        let folder = self.context.config.guests.guests_dir.clone();
        let allowed = self.console_allowed(&request);
        let reading = off_loop(move || {
            let read = allowed.and_then(|vm_id| {
                files::read_console(&folder, vm_id, request.max_bytes)
                    .map_err(|error| error.to_string())
            });
            match read {
                Ok((data, total_bytes)) => v1::ConsoleReply {
                    request: number,
                    data,
                    total_bytes,
                    error: String::new(),
                },
                Err(error) => v1::ConsoleReply {
                    request: number,
                    error,
                    ..v1::ConsoleReply::default()
                },
            }
        });
        self.consoles.spawn(async move {
            let failed = |error: tokio::task::JoinError| v1::ConsoleReply {
                request: number,
                error: error.to_string(),
                ..v1::ConsoleReply::default()
            };
            reading.await.unwrap_or_else(failed)
        });
        Ok(())
    }

    /// The VM, if it is here in the binding that is asked about.
    fn console_allowed(&self, request: &v1::ConsoleRequest) -> Result<ObjectId, String> {
        let vm_id = ObjectId::from_slice(&request.vm_id)
            .ok_or_else(|| "the VM's id is not sixteen bytes".to_owned())?;
        let seen = self.context.reconciler.observations().get(vm_id);
        match seen {
            Some(seen) if seen.placement_epoch == request.placement_epoch => Ok(vm_id),
            Some(seen) => Err(format!(
                "VM {vm_id} is here in placement epoch {}, not {}",
                seen.placement_epoch, request.placement_epoch
            )),
            None => Err(format!("VM {vm_id} is not on this host")),
        }
    }

    fn tell_inventory(&mut self) -> anyhow::Result<()> {
        let inventory = self.inventory.borrow_and_update().clone();
        self.say(Say::Inventory(inventory))
    }

    fn renew_if_due(&mut self) {
        let certificates = self.context.identity.certificates();
        let validity = certificates.certificate().validity();
        let tried = self
            .renewal_tried
            .is_some_and(|at| at.elapsed() < RENEWAL_RETRY);
        let due = validity.renewal_due(now_ms(), self.context.renewal_jitter);
        if self.renewal.is_some() || tried || !due {
            return;
        }
        self.renewal_tried = Some(Instant::now());
        let mut client = self.client.clone();
        let csr = certificates.csr();
        self.renewal = Some(tokio::spawn(async move {
            let request = v1::RenewRequest { csr_der: csr? };
            let call = timeout(RENEWAL_TIMEOUT, client.renew_certificate(request));
            Ok(call
                .await
                .map_err(|_| silent())?
                .map_err(told)?
                .into_inner())
        }));
    }

    fn take_renewal(&mut self, renewed: anyhow::Result<v1::EnrolReply>) {
        self.renewal = None;
        match renewed.and_then(|reply| self.context.identity.renewed(reply)) {
            Ok(()) => {
                self.context.metrics.renewals.inc();
                tracing::info!("the certificate was renewed");
            }
            Err(error) => tracing::warn!(
                error = format!("{error:#}"),
                "the certificate can't be renewed yet; it is tried again"
            ),
        }
    }
}

/// Waits for a task that may not be there.
async fn finished<T>(task: &mut Option<JoinHandle<anyhow::Result<T>>>) -> anyhow::Result<T> {
    match task {
        Some(task) => task.await.unwrap_or_else(|error| Err(error.into())),
        None => std::future::pending().await,
    }
}

fn silent() -> anyhow::Error {
    anyhow!("no word for {SILENCE_MAX:?}")
}

fn hello(context: &SessionContext, inventory: v1::Inventory) -> anyhow::Result<v1::Hello> {
    let config = &context.config;
    let serial = serial_number(config.serial.as_deref())?;
    let highest = context.reconciler.store().read(|state| state.highest);
    Ok(v1::Hello {
        boot_id: context.machine.boot_id()?,
        serial_number: serial.text,
        serial_source: serial.source.as_str().to_owned(),
        hostname: config.name.clone().unwrap_or_else(hostname),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        highest: highest.map(crate::desired::Stamp::to_wire),
        inventory: Some(inventory),
        protocol: PROTOCOL,
        management_address: config.management_address.clone(),
    })
}

/// Stores and obeys orders one after the other.
struct OrderWorker {
    reconciler: crate::reconcile::Reconciler,
    metrics: std::sync::Arc<crate::metrics::Metrics>,
    host_epoch: u64,
    /// The requests behind the last order, to log none twice.
    causes: BTreeMap<ObjectId, RequestId>,
}

impl OrderWorker {
    /// Runs until an order can't be taken; then the session must end, for what comes after it would
    /// build on it.
    async fn run(mut self, mut queue: mpsc::Receiver<v1::Desired>) -> anyhow::Error {
        while let Some(mut order) = queue.recv().await {
            let arrived = Instant::now();
            self.note(std::mem::take(&mut order.causes));
            tracing::debug!(target: "virtflow::phase", phase = "ordered", vms = order.vms.len());
            let (outcome, result) = self.take(&order).await;
            tracing::debug!(target: "virtflow::phase", phase = "obeyed", took = ?arrived.elapsed());
            self.metrics.count_order(outcome);
            if let Err(problem) = result {
                tracing::error!(problem = format!("{problem:#}"), "an order was not obeyed");
                return problem;
            }
            self.metrics
                .order_seconds
                .observe(arrived.elapsed().as_secs_f64());
        }
        anyhow!("the session is over")
    }

    /// Logs which requests an order comes from. They are what a controller says, and nothing hangs on them.
    fn note(&mut self, causes: Vec<v1::Cause>) {
        let read = |cause: v1::Cause| {
            let vm = ObjectId::from_slice(&cause.vm_id)?;
            Some((vm, cause.request_id.parse().ok()?))
        };
        let causes = causes.into_iter().take(VMS_MAX).filter_map(read);
        let causes: BTreeMap<ObjectId, RequestId> = causes.collect();
        for (vm, request_id) in &causes {
            if self.causes.get(vm) != Some(request_id) {
                tracing::info!(%request_id, %vm, "an order came");
            }
        }
        self.causes = causes;
    }

    async fn take(&self, order: &v1::Desired) -> (OrderOutcome, anyhow::Result<()>) {
        if order.host_epoch != self.host_epoch {
            let problem = anyhow!(
                "the order is for host epoch {}, this session is of {}",
                order.host_epoch,
                self.host_epoch
            );
            return (OrderOutcome::Refused, Err(problem));
        }
        let desired = match Desired::from_wire(order) {
            Ok(desired) => desired,
            Err(error) => {
                let problem = anyhow::Error::new(error).context("the order makes no sense");
                return (OrderOutcome::Malformed, Err(problem));
            }
        };
        match self.reconciler.obey(&desired).await {
            Ok(()) => {
                if desired.complete {
                    // From here on this host knows what is wanted now, not what was once.
                    self.reconciler.set_session(true);
                }
                (OrderOutcome::Accepted, Ok(()))
            }
            Err(error @ ObeyError::Refused(_)) => (OrderOutcome::Refused, Err(error.into())),
            Err(error @ ObeyError::NotStored(_)) => (OrderOutcome::NotStored, Err(error.into())),
        }
    }
}
