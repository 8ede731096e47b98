//! Work that may block, such as on a file system that hangs, away from the threads that serve.

use tokio::task::JoinHandle;
use virtflow_types::{Error, ErrorCode};

/// Runs `work` on a thread that may block.
#[cfg(not(virtflow_sim))]
pub(crate) fn off_loop<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

/// A simulation has one thread: the work is done in its turn.
#[cfg(virtflow_sim)]
pub(crate) fn off_loop<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(async move { work() })
}

/// Works out an answer that takes milliseconds or more. `doing` says in an error what was cut short: `verifying`.
pub(crate) async fn work_out<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    off_loop(work).await.map_err(|error| {
        let message = format!("{doing} was cut short: {error}");
        Error::new(ErrorCode::Internal, message)
    })?
}
