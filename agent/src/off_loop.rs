//! Work that may block, such as on a file system that hangs, away from the threads that serve.

use tokio::task::JoinHandle;

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
