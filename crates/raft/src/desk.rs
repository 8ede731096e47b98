//! Where decisions are handed in and answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use virtflow_state::{Changeset, State};
use virtflow_types::{Error, RequestId};

use crate::config::RaftLimits;
use crate::error::{Committed, DecideError};
use crate::machine::Published;

/// The end of a decision.
pub(crate) type Answer = Result<(u64, u64), DecideError>;

/// A decision with its types forgotten.
pub(crate) trait Decision: Send {
    /// Looks at the head and says what to change; keeps the value for the answer.
    fn evaluate(&mut self, head: &State) -> Result<Changeset, Error>;
    /// Takes the value and answers: index and term, or why not.
    fn finish(self: Box<Self>, answer: Answer);
}

/// What caller and sequencer know together of a decision.
#[derive(Debug, Default)]
struct Ticket {
    /// Set by whoever comes first: the sequencer to evaluate it, or the caller to give it up.
    taken: AtomicBool,
    /// Set once there is something to propose: from then on silence means that the outcome is open.
    proposed: OnceLock<RequestId>,
}

struct Typed<T, F> {
    decide: F,
    value: Option<T>,
    ticket: Arc<Ticket>,
    reply: oneshot::Sender<Result<Committed<T>, DecideError>>,
}

impl<T, F> Decision for Typed<T, F>
where
    T: Send,
    F: FnMut(&State) -> Result<(Changeset, T), Error> + Send,
{
    fn evaluate(&mut self, head: &State) -> Result<Changeset, Error> {
        let (changeset, value) = (self.decide)(head)?;
        self.value = Some(value);
        if !changeset.ops.is_empty() {
            let _first = self.ticket.proposed.set(changeset.request_id);
        }
        Ok(changeset)
    }

    fn finish(self: Box<Self>, answer: Answer) {
        let result = match (answer, self.value) {
            (Ok((index, term)), Some(value)) => Ok(Committed { value, index, term }),
            (Ok(_), None) => Err(DecideError::Stopped {
                reason: "a decision without a value".into(),
            }),
            (Err(error), _) => Err(error),
        };
        // Whoever asked may have gone.
        drop(self.reply.send(result));
    }
}

/// A decision on its way to the sequencer.
pub(crate) struct Ask {
    decision: Box<dyn Decision>,
    ticket: Arc<Ticket>,
}

impl Ask {
    /// The decision, unless its caller has given it up.
    pub(crate) fn take(self) -> Option<Box<dyn Decision>> {
        let given_up = self.ticket.taken.swap(true, Ordering::AcqRel);
        (!given_up).then_some(self.decision)
    }
}

/// The callers' end.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    asks: mpsc::Sender<Ask>,
    published: Arc<Published>,
    timeout: Duration,
}

impl Desk {
    pub(crate) fn new(
        limits: &RaftLimits,
        published: Arc<Published>,
    ) -> (Self, mpsc::Receiver<Ask>) {
        let (asks, receiver) = mpsc::channel(limits.queue_decisions_max);
        let desk = Self {
            asks,
            published,
            timeout: limits.decide_timeout,
        };
        (desk, receiver)
    }

    pub(crate) async fn decide<T, F>(&self, decide: F) -> Result<Committed<T>, DecideError>
    where
        T: Send + 'static,
        F: FnMut(&State) -> Result<(Changeset, T), Error> + Send + 'static,
    {
        let (reply, mut receiver) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        let ask = Ask {
            decision: Box::new(Typed {
                decide,
                value: None,
                ticket: ticket.clone(),
                reply,
            }),
            ticket: ticket.clone(),
        };
        self.asks.try_send(ask).map_err(|error| {
            self.published.measures.turned_away.add(1);
            match error {
                mpsc::error::TrySendError::Full(_) => DecideError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => self.silent(&ticket),
            }
        })?;
        match tokio::time::timeout(self.timeout, &mut receiver).await {
            Ok(answer) => return answer.unwrap_or_else(|_| Err(self.silent(&ticket))),
            Err(_) if !ticket.taken.swap(true, Ordering::AcqRel) => {
                self.published.measures.turned_away.add(1);
                return Err(DecideError::Overloaded);
            }
            Err(_) => {}
        }
        // The sequencer has it and answers by its own clock, which began later than ours.
        receiver.await.unwrap_or_else(|_| Err(self.silent(&ticket)))
    }

    /// What it means that a stopping node did not answer.
    fn silent(&self, ticket: &Ticket) -> DecideError {
        match ticket.proposed.get() {
            Some(request_id) => DecideError::Unknown {
                request_id: *request_id,
            },
            None => DecideError::Stopped {
                reason: self
                    .published
                    .fatal
                    .reason()
                    .unwrap_or_else(|| "shutting down".into()),
            },
        }
    }
}
