//! The phases that a write goes through here, made visible: one line of the log each, target
//! `virtflow::phase`, level debug, with the request's id.
//!
//! For whoever asks where a write was when its leader died. Programs built with debug assertions can
//! hold every write for a while in each phase (`VIRTFLOW_PHASE_PAUSE_MS="decided=40,applied=40"`), so
//! that a test can kill them there; release builds hold nothing and don't know the variable.

use std::future::Future;

use bytes::Bytes;
use virtflow_state::{Batch, Changeset};
use virtflow_types::RequestId;

/// The variable that says how many milliseconds each phase is held.
#[cfg(debug_assertions)]
const PAUSE_VARIABLE: &str = "VIRTFLOW_PHASE_PAUSE_MS";

/// How far a write has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Found acceptable on the head; in no log yet.
    Decided,
    /// Flushed to this node's log.
    Appended,
    /// In the logs of a majority, and about to be applied here.
    Committed,
    /// Applied here; not answered yet.
    Applied,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::Appended => "appended",
            Self::Committed => "committed",
            Self::Applied => "applied",
        }
    }
}

/// Whether anybody looks. Nothing is looked up for a line that nobody reads.
pub(crate) fn is_watched() -> bool {
    tracing::enabled!(target: "virtflow::phase", tracing::Level::DEBUG)
}

/// Says that these writes have reached a phase.
pub(crate) fn reached(phase: Phase, requests: &[RequestId]) {
    for request_id in requests {
        tracing::debug!(target: "virtflow::phase", phase = phase.name(), %request_id);
    }
}

/// The requests whose changesets are in an entry; none if nobody looks.
pub(crate) fn requests_in(entry: &Bytes) -> Vec<RequestId> {
    if !is_watched() {
        return Vec::new();
    }
    let batch = Batch::decode(entry.clone()).map(|batch| batch.changesets);
    batch
        .into_iter()
        .flatten()
        .filter_map(|changeset| Some(Changeset::decode(changeset).ok()?.request_id))
        .collect()
}

/// Holds what has just been reached, if there is any of it, for as long as a test asked for.
pub(crate) fn hold(phase: Phase, requests: &[RequestId]) -> impl Future<Output = ()> + use<> {
    #[cfg(debug_assertions)]
    let pause = (!requests.is_empty()).then(|| pauses::of(phase)).flatten();
    #[cfg(not(debug_assertions))]
    let _ = (phase, requests);
    async move {
        #[cfg(debug_assertions)]
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
}

/// The same for a thread of its own.
pub(crate) fn hold_thread(phase: Phase, requests: &[RequestId]) {
    #[cfg(debug_assertions)]
    if !requests.is_empty()
        && let Some(pause) = pauses::of(phase)
    {
        std::thread::sleep(pause);
    }
    #[cfg(not(debug_assertions))]
    let _ = (phase, requests);
}

#[cfg(debug_assertions)]
mod pauses {
    use std::sync::OnceLock;
    use std::time::Duration;

    use super::{PAUSE_VARIABLE, Phase};

    /// The longest pause: less than what a decision may take.
    const PAUSE_MAX: Duration = Duration::from_secs(1);

    static TEXT: OnceLock<String> = OnceLock::new();

    pub(super) fn of(phase: Phase) -> Option<Duration> {
        let text = TEXT.get_or_init(|| std::env::var(PAUSE_VARIABLE).unwrap_or_default());
        parse(text, phase)
    }

    pub(super) fn parse(text: &str, phase: Phase) -> Option<Duration> {
        text.split(',').find_map(|pair| {
            let (name, ms) = pair.split_once('=')?;
            let ms = ms.trim().parse().ok().filter(|ms| *ms > 0)?;
            (name.trim() == phase.name()).then(|| Duration::from_millis(ms).min(PAUSE_MAX))
        })
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn pauses_are_read() {
        let text = "decided=40, applied=7,committed=x,appended=99999";
        let of = |phase| pauses::parse(text, phase);
        assert_eq!(of(Phase::Decided), Some(Duration::from_millis(40)));
        assert_eq!(of(Phase::Applied), Some(Duration::from_millis(7)));
        assert_eq!(of(Phase::Committed), None);
        assert_eq!(of(Phase::Appended), Some(Duration::from_secs(1)));
        assert_eq!(pauses::parse("", Phase::Decided), None);
    }
}
