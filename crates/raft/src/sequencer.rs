//! The one who decides. Decisions are evaluated one after another on the *head*: the applied image
//! with all that this leadership has decided since laid over it. What they change is gathered into
//! log entries and proposed in that order, each bound to the leadership; while entries are under way
//! the next one gathers.
//!
//! An answer, also a refusal, leaves only when what it rests on is committed and applied here. The
//! head belongs to one term: it is dropped whole when anything proposed on it fails, and a new one
//! begins only where every entry of the former is known to be applied or to be nowhere.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use virtflow_state::port::Shadow;
use virtflow_state::{Batch, CHANGESET_BYTES_MAX, State};
use virtflow_types::{Error, ErrorCode, RequestId};

use crate::config::RaftLimits;
use crate::desk::{Ask, Decision};
use crate::digest::Digests;
use crate::error::DecideError;
use crate::leadership::Leadership;
use crate::machine::{Prediction, Published};
use crate::phase::{self, Phase};
use crate::reads::Reads;
use crate::types::{EntryBytes, Raft, Term, Types};

/// How long admission pauses while the shadow is behind.
const SHADOW_PAUSE: Duration = Duration::from_millis(5);
/// Between two attempts to settle a broken leadership.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// Framing of a changeset inside an entry, in bytes.
const CHANGESET_OVERHEAD_BYTES: usize = 8;

/// What waits for a batch: a changeset in it, or an answer that rests on it.
enum Waiter {
    Changeset(Box<dyn Decision>, RequestId),
    Resting(Box<dyn Decision>, Result<(), DecideError>),
}

impl Waiter {
    /// The request whose changeset is proposed.
    fn request(&self) -> Option<RequestId> {
        match self {
            Self::Changeset(_, request_id) => Some(*request_id),
            Self::Resting(..) => None,
        }
    }

    fn finish(self, outcome: &Outcome, published: &Published) {
        match (self, outcome) {
            (Self::Changeset(decision, _), Outcome::Done { index, term }) => {
                decision.finish(Ok((*index, *term)));
            }
            (Self::Changeset(decision, request_id), Outcome::Unknown) => {
                published.measures.unknown.add(1);
                decision.finish(Err(DecideError::Unknown { request_id }));
            }
            (Self::Resting(decision, answer), Outcome::Done { index, term }) => {
                decision.finish(answer.map(|()| (*index, *term)));
            }
            // It proposed nothing, so nothing was done.
            (Self::Resting(decision, _), Outcome::Unknown) => {
                decision.finish(Err(DecideError::NotLeader { leader: None }));
            }
            (
                Self::Changeset(decision, _) | Self::Resting(decision, _),
                Outcome::Nowhere { leader },
            ) => {
                decision.finish(Err(DecideError::NotLeader { leader: *leader }));
            }
        }
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Done {
        index: u64,
        term: u64,
    },
    /// It never reached the log.
    Nowhere {
        leader: Option<u64>,
    },
    Unknown,
}

#[derive(Default)]
struct Gathering {
    changesets: Vec<Bytes>,
    bytes: usize,
    waiters: Vec<Waiter>,
    /// Until when it must be proposed; entries before it may be stuck without a quorum.
    deadline: Option<Instant>,
}

struct UnderWay {
    number: u64,
    waiters: Vec<Waiter>,
    /// It is committed; those before it are not all told yet.
    done: Option<Outcome>,
    deadline: Instant,
}

type Completion = std::pin::Pin<Box<dyn Future<Output = (u64, Outcome)> + Send>>;

/// Runs for the life of the node.
pub(crate) struct Sequencer {
    pub(crate) raft: Raft,
    pub(crate) published: Arc<Published>,
    pub(crate) shadow: Arc<dyn Shadow>,
    pub(crate) digests: Arc<Digests>,
    pub(crate) reads: Reads,
    pub(crate) leadership: watch::Receiver<Leadership>,
    /// False while leadership is being handed over, and for good once the node stops.
    pub(crate) admitting: watch::Receiver<bool>,
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) limits: RaftLimits,
    pub(crate) settled: watch::Sender<bool>,
}

/// One leadership's work.
struct Session {
    term: u64,
    head: State,
    /// Changesets applied to the head since it was a copy of the image.
    laid_over: usize,
    gathering: Gathering,
    under_way: VecDeque<UnderWay>,
    completions: FuturesUnordered<Completion>,
    next_number: u64,
    /// The first batch that did not come true: those behind it were decided on a head that held it.
    lost_from: Option<u64>,
}

impl Session {
    /// Takes in what became of a batch; who is to be told what now.
    ///
    /// That something is done is told in the order of the batches: one that is done may rest on those before it, and if
    /// one of these never was, nothing is known of what it answers.
    fn settle(&mut self, number: u64, outcome: Outcome) -> Vec<(Vec<Waiter>, Outcome)> {
        let Some(at) = self.under_way.iter().position(|b| b.number == number) else {
            return Vec::new();
        };
        if !matches!(outcome, Outcome::Done { .. }) {
            self.lost_from = Some(self.lost_from.map_or(number, |from| from.min(number)));
            let batch = self.under_way.remove(at);
            return batch.map(|b| (b.waiters, outcome)).into_iter().collect();
        }
        self.under_way[at].done = Some(outcome);
        let mut told = Vec::new();
        while let Some(outcome) = self.under_way.front().and_then(|batch| batch.done) {
            let Some(batch) = self.under_way.pop_front() else {
                break;
            };
            let rests_on_nothing = self.lost_from.is_some_and(|from| from < batch.number);
            let outcome = match rests_on_nothing {
                true => Outcome::Unknown,
                false => outcome,
            };
            told.push((batch.waiters, outcome));
        }
        told
    }

    /// All that it decided is applied.
    fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.gathering.changesets.is_empty()
    }

    /// Lets go of the head's own copies of what the image has, too. Only what is equal takes the head's place: a head
    /// that differed would be found by the next entry's digest.
    fn renew_head(&mut self, image: &State) {
        if image.digest() == self.head.digest() {
            self.head = image.clone();
        }
        self.laid_over = 0;
    }

    fn next_deadline(&self) -> Option<Instant> {
        let waited_for = self
            .under_way
            .iter()
            .filter(|batch| !batch.waiters.is_empty());
        let proposed = waited_for.map(|batch| batch.deadline).min();
        proposed.into_iter().chain(self.gathering.deadline).min()
    }
}

/// Why a session ended.
#[derive(PartialEq)]
enum End {
    /// Leadership was lost, or something decided on the head did not reach the log.
    Over,
    /// The node stops.
    Closed,
}

impl Sequencer {
    pub(crate) async fn run(mut self) {
        let mut led_term = None;
        loop {
            let Some(term) = self.wait_to_lead().await else {
                break;
            };
            if led_term == Some(term) && !self.settle(term).await {
                tokio::time::sleep(SETTLE_PAUSE).await;
                continue;
            }
            self.published.lead(term);
            self.published.measures.leaderships.add(1);
            let head = (*self.published.image()).clone();
            let session = Session {
                term,
                head,
                laid_over: 0,
                gathering: Gathering::default(),
                under_way: VecDeque::new(),
                completions: FuturesUnordered::new(),
                next_number: 0,
                lost_from: None,
            };
            led_term = Some(term);
            if self.lead(session).await == End::Closed {
                break;
            }
        }
        self.asks.close();
        while let Some(ask) = self.asks.recv().await {
            self.turn_away(ask, None);
        }
    }

    fn turn_away(&self, ask: Ask, leader: Option<u64>) {
        if let Some(decision) = ask.take() {
            self.published.measures.turned_away.add(1);
            decision.finish(Err(DecideError::NotLeader { leader }));
        }
    }

    /// Turns decisions away until this node leads and may speak; `None` once the node stops.
    async fn wait_to_lead(&mut self) -> Option<u64> {
        loop {
            let leadership = *self.leadership.borrow_and_update();
            let admitting = *self.admitting.borrow_and_update();
            if leadership.is_leader_ready && admitting {
                return Some(leadership.term);
            }
            let waiting = leadership.is_leader && admitting;
            tokio::select! {
                // Whoever asks because this node has just come to lead must not be turned away for
                // what was so before.
                biased;
                changed = self.leadership.changed() => changed.ok()?,
                changed = self.admitting.changed() => changed.ok()?,
                // A leader that is about to be ready lets them wait.
                ask = self.asks.recv(), if !waiting => {
                    let leader = leadership.leader.filter(|_| !leadership.is_leader);
                    self.turn_away(ask?, leader);
                }
            }
        }
    }

    /// Ends what an earlier session of the same term left open: an entry after all of its is applied.
    async fn settle(&mut self, term: u64) -> bool {
        let write = tokio::time::timeout(self.limits.decide_timeout, self.raft.write_blank());
        match write.await {
            Ok(Ok(written)) => written.log_id.leader_id.term == term,
            Ok(Err(error)) => {
                tracing::debug!(term, "cannot settle the leadership yet: {error}");
                // Nobody should wait for a leader without a quorum.
                while let Ok(ask) = self.asks.try_recv() {
                    self.turn_away(ask, None);
                }
                false
            }
            Err(_) => false,
        }
    }

    async fn lead(&mut self, mut session: Session) -> End {
        let end = loop {
            if let Some(end) = self.step(&mut session).await {
                break end;
            }
        };
        for waiter in std::mem::take(&mut session.gathering.waiters) {
            waiter.finish(&Outcome::Nowhere { leader: None }, &self.published);
        }
        self.finish_under_way(session).await;
        end
    }

    async fn step(&mut self, session: &mut Session) -> Option<End> {
        let leadership = *self.leadership.borrow_and_update();
        if leadership.term != session.term || !leadership.is_leader {
            return Some(End::Over);
        }
        let admitting = *self.admitting.borrow_and_update();
        let idle = session.is_idle();
        if idle && session.laid_over >= self.limits.head_changesets {
            session.renew_head(&self.published.image());
        }
        self.settled.send_if_modified(|settled| {
            let now = idle && !admitting;
            std::mem::replace(settled, now) != now
        });
        let pipelined = session.under_way.len() < self.limits.pipeline_entries_max;
        if pipelined && !session.gathering.changesets.is_empty() {
            return self.propose(session).await.err();
        }
        let deadline = session.next_deadline();
        let overdue = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let room = session.gathering.bytes
            < self
                .limits
                .entry_bytes_max
                .saturating_sub(CHANGESET_BYTES_MAX)
            && session.gathering.changesets.len() < self.limits.entry_changesets_max
            && session.laid_over < self.limits.head_changesets_max;
        tokio::select! {
            biased;
            Some((number, outcome)) = session.completions.next() => return self.completed(session, number, outcome),
            _ = self.leadership.changed() => {}
            changed = self.admitting.changed() => if changed.is_err() { return Some(End::Closed) },
            () = overdue => return self.give_up_overdue(session),
            ask = self.asks.recv(), if room => {
                let Some(ask) = ask else { return Some(End::Closed) };
                self.admit(session, ask).await;
            }
        }
        None
    }

    /// Evaluates this decision and all that wait behind it, as far as they fit into one entry.
    async fn admit(&mut self, session: &mut Session, first: Ask) {
        if self.shadow.progress().queued > self.limits.shadow_queue_soft {
            tokio::time::sleep(SHADOW_PAUSE).await;
        }
        let bytes_max = self
            .limits
            .entry_bytes_max
            .saturating_sub(CHANGESET_BYTES_MAX);
        let mut next = Some(first);
        while let Some(ask) = next.take() {
            self.evaluate(session, ask);
            let gathering = &session.gathering;
            if gathering.bytes < bytes_max
                && gathering.changesets.len() < self.limits.entry_changesets_max
            {
                next = self.asks.try_recv().ok();
            }
        }
    }

    fn evaluate(&self, session: &mut Session, ask: Ask) {
        if !*self.admitting.borrow() {
            return self.turn_away(ask, None);
        }
        let Some(mut decision) = ask.take() else {
            return;
        };
        if let Some(reason) = self.digests.writes_stopped() {
            return decision.finish(Err(DecideError::Stopped { reason }));
        }
        self.published.measures.decisions.add(1);
        // A rule that panics must not take the leadership of the whole group with it.
        let evaluated = catch_unwind(AssertUnwindSafe(|| decision.evaluate(&session.head)));
        let evaluated = evaluated.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorCode::Internal,
                "deciding this request failed; it was not carried out",
            ))
        });
        let changeset = match evaluated {
            Ok(changeset) => changeset,
            Err(error) => return self.rest(session, decision, Err(DecideError::Refused(error))),
        };
        if changeset.ops.is_empty() {
            return self.rest(session, decision, Ok(()));
        }
        let encoded = changeset.encode();
        if encoded.len() > CHANGESET_BYTES_MAX {
            let error = Error::new(
                ErrorCode::LimitExceeded,
                format!(
                    "the change takes {} bytes, at most {CHANGESET_BYTES_MAX} are allowed",
                    encoded.len()
                ),
            );
            return self.rest(session, decision, Err(DecideError::Refused(error)));
        }
        if let Err(refused) = session.head.apply(&changeset) {
            return self.rest(session, decision, Err(DecideError::Conflict(refused)));
        }
        session.laid_over += 1;
        let gathering = &mut session.gathering;
        let deadline = || Instant::now() + self.limits.decide_timeout;
        gathering.deadline.get_or_insert_with(deadline);
        gathering.bytes += encoded.len() + CHANGESET_OVERHEAD_BYTES;
        gathering.changesets.push(encoded);
        gathering
            .waiters
            .push(Waiter::Changeset(decision, changeset.request_id));
    }

    /// An answer that changes nothing waits for what the head rested on when it was found.
    fn rest(
        &self,
        session: &mut Session,
        decision: Box<dyn Decision>,
        answer: Result<(), DecideError>,
    ) {
        if answer.is_err() {
            self.published.measures.refused.add(1);
        }
        let waiter = Waiter::Resting(decision, answer);
        if !session.gathering.changesets.is_empty() {
            session.gathering.waiters.push(waiter);
            return;
        }
        if let Some(newest) = session.under_way.back_mut() {
            newest.waiters.push(waiter);
            return;
        }
        // Everything below is applied; that this node still leads is shown by a quorum round.
        let (reads, published, term) = (self.reads.clone(), self.published.clone(), session.term);
        let index = session.head.index().max(published.image().index());
        tokio::spawn(async move {
            let outcome = match reads.confirm_leading(term).await {
                true => Outcome::Done { index, term },
                false => Outcome::Nowhere { leader: None },
            };
            waiter.finish(&outcome, &published);
        });
    }

    async fn propose(&mut self, session: &mut Session) -> Result<(), End> {
        let gathering = std::mem::take(&mut session.gathering);
        let requests: Vec<RequestId> = gathering
            .waiters
            .iter()
            .filter_map(Waiter::request)
            .collect();
        phase::reached(Phase::Decided, &requests);
        phase::hold(Phase::Decided, &requests).await;
        let measures = self.published.measures.clone();
        measures
            .batch_changesets
            .record(gathering.changesets.len() as u64);
        measures.batch_bytes.record(gathering.bytes as u64);
        let batch = Batch {
            changesets: gathering.changesets,
        };
        let entry = batch.encode();
        let prediction = Prediction {
            entry: entry.clone(),
            digest: session.head.digest(),
        };
        self.published.predict(session.term, prediction);
        let (responder, receiver) =
            ProgressResponder::<Types, ClientWriteResult<Types>>::complete_only();
        let write = self.raft.write(EntryBytes(entry));
        let write = write
            .with_leader(Term::new(session.term))
            .responder(responder);
        let number = session.next_number;
        session.next_number += 1;
        let began = tokio::time::Instant::now();
        session.under_way.push_back(UnderWay {
            number,
            waiters: gathering.waiters,
            done: None,
            deadline: Instant::now() + self.limits.decide_timeout,
        });
        if let Err(error) = write.await {
            tracing::error!("proposing: {error}");
            return Err(End::Closed);
        }
        session.completions.push(Box::pin(async move {
            let outcome = match receiver.await {
                Ok(Ok(written)) => {
                    measures.commit_us.record_since(began);
                    Outcome::Done {
                        index: written.log_id.index,
                        term: written.log_id.leader_id.term,
                    }
                }
                // Refused at the door: another leads, or the lease ran out.
                Ok(Err(ClientWriteError::ForwardToLeader(to))) => Outcome::Nowhere {
                    leader: to.leader_id,
                },
                // In the log, and then its fate was out of this node's hands.
                Ok(Err(_)) | Err(_) => Outcome::Unknown,
            };
            (number, outcome)
        }));
        Ok(())
    }

    fn completed(&self, session: &mut Session, number: u64, outcome: Outcome) -> Option<End> {
        for (waiters, outcome) in session.settle(number, outcome) {
            for waiter in waiters {
                waiter.finish(&outcome, &self.published);
            }
        }
        match outcome {
            Outcome::Done { .. } => None,
            Outcome::Nowhere { .. } | Outcome::Unknown => Some(End::Over),
        }
    }

    /// Entries that are proposed stay so and may still come true; those who asked are told that it is
    /// open. What was gathered behind them is dropped, and the head with it.
    fn give_up_overdue(&self, session: &mut Session) -> Option<End> {
        let now = Instant::now();
        for batch in session
            .under_way
            .iter_mut()
            .filter(|batch| batch.deadline <= now)
        {
            for waiter in std::mem::take(&mut batch.waiters) {
                waiter.finish(&Outcome::Unknown, &self.published);
            }
        }
        let gathered_too_long = session
            .gathering
            .deadline
            .is_some_and(|deadline| deadline <= now);
        gathered_too_long.then_some(End::Over)
    }

    /// After a session: answers as they come, until the time is up.
    async fn finish_under_way(&self, mut session: Session) {
        let published = self.published.clone();
        let timeout = self.limits.decide_timeout;
        tokio::spawn(async move {
            let deadline = Instant::now() + timeout;
            while let Ok(Some((number, outcome))) =
                tokio::time::timeout_at(deadline, session.completions.next()).await
            {
                for (waiters, outcome) in session.settle(number, outcome) {
                    for waiter in waiters {
                        waiter.finish(&outcome, &published);
                    }
                }
            }
            for waiter in session
                .under_way
                .into_iter()
                .flat_map(|batch| batch.waiters)
            {
                waiter.finish(&Outcome::Unknown, &published);
            }
        });
    }
}
