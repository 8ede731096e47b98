//! Connections to libvirtd that are made when needed and made anew when they broke.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use virt::connect::Connect;

use super::ffi::{EventSink, LifecycleSubscription, start_event_loop};
use crate::hypervisor::HypervisorError;

/// libvirtd answers keep-alive probes even while its workers hang; silence means it is gone.
const KEEPALIVE_INTERVAL_S: i32 = 5;
/// Unanswered probes after which the connection is given up.
const KEEPALIVE_COUNT: u32 = 3;

/// A connection and the events that come over it.
#[derive(Debug)]
pub(super) struct Link {
    // Dropped first: it deregisters through the connection.
    _events: Option<LifecycleSubscription>,
    pub(super) connection: Connect,
}

/// One connection and how many calls may be under way on it.
///
/// libvirtd works on a few requests of one client at a time (`max_client_requests`, 5). Slow work
/// (starting guests) and quick questions therefore go over two connections.
pub(super) struct Lane {
    uri: String,
    calls: Arc<Semaphore>,
    link: Mutex<Option<Arc<Link>>>,
    sink: Option<Arc<dyn ReconnectSink>>,
}

/// Takes events, and is told when a new connection was made.
pub(super) trait ReconnectSink: EventSink {
    fn reconnected(&self);
    fn as_events(self: Arc<Self>) -> Arc<dyn EventSink>;
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("uri", &self.uri)
            .field("calls_free", &self.calls.available_permits())
            .finish_non_exhaustive()
    }
}

impl Lane {
    pub(super) fn new(uri: &str, calls_max: usize, sink: Option<Arc<dyn ReconnectSink>>) -> Self {
        Self {
            uri: uri.to_owned(),
            calls: Arc::new(Semaphore::new(calls_max)),
            link: Mutex::new(None),
            sink,
        }
    }

    /// Runs `call` on a thread of its own, in turn.
    ///
    /// If the caller stops waiting, the thread goes on until libvirt answers and keeps its turn
    /// until then: however often libvirt hangs, it never takes more threads than there are turns.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        action: &'static str,
        call: impl FnOnce(&Connect) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let closed = |message: String| HypervisorError::Query { action, message };
        let turn = Arc::clone(&self.calls)
            .acquire_owned()
            .await
            .map_err(|error| closed(error.to_string()))?;
        let lane = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            lane.call_now(action, call)
        });
        done.await.map_err(|error| closed(error.to_string()))?
    }

    fn call_now<T>(
        &self,
        action: &'static str,
        call: impl FnOnce(&Connect) -> Result<T, CallError>,
    ) -> Result<T, HypervisorError> {
        let link = self.connect()?;
        call(&link.connection).map_err(|error| {
            // A call that failed because the connection broke says so in many ways; the
            // connection itself says it in one.
            let alive = link.connection.is_alive().unwrap_or(false);
            match error {
                CallError::Libvirt(error) if !alive => {
                    self.discard(&link);
                    self.unavailable(&error)
                }
                CallError::Libvirt(error) => HypervisorError::Query {
                    action,
                    message: error.message().to_owned(),
                },
                CallError::Told(error) => error,
            }
        })
    }

    fn connect(&self) -> Result<Arc<Link>, HypervisorError> {
        let mut slot = self.slot();
        if let Some(link) = &*slot {
            if link.connection.is_alive().unwrap_or(false) {
                return Ok(Arc::clone(link));
            }
            *slot = None;
        }
        let link = self.open().map_err(|error| self.unavailable(&error))?;
        let link = Arc::new(link);
        *slot = Some(Arc::clone(&link));
        drop(slot);
        if let Some(sink) = &self.sink {
            sink.reconnected();
        }
        Ok(link)
    }

    fn open(&self) -> Result<Link, virt::error::Error> {
        start_event_loop()?;
        let connection = Connect::open(Some(&self.uri))?;
        connection.set_keep_alive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)?;
        let events = match &self.sink {
            Some(sink) => {
                let sink = Arc::clone(sink).as_events();
                Some(LifecycleSubscription::new(&connection, sink)?)
            }
            None => None,
        };
        Ok(Link {
            _events: events,
            connection,
        })
    }

    fn discard(&self, broken: &Arc<Link>) {
        let mut slot = self.slot();
        if slot.as_ref().is_some_and(|link| Arc::ptr_eq(link, broken)) {
            *slot = None;
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unavailable(&self, error: &virt::error::Error) -> HypervisorError {
        HypervisorError::Unavailable {
            endpoint: self.uri.clone(),
            message: error.message().to_owned(),
        }
    }
}

/// Why a call failed: in libvirt's words, or already in ours.
#[derive(Debug)]
pub(super) enum CallError {
    Libvirt(virt::error::Error),
    Told(HypervisorError),
}

impl From<virt::error::Error> for CallError {
    fn from(error: virt::error::Error) -> Self {
        Self::Libvirt(error)
    }
}

impl From<HypervisorError> for CallError {
    fn from(error: HypervisorError) -> Self {
        Self::Told(error)
    }
}
