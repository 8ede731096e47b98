//! Password work off the async threads: few at a time, the same for users that do not exist.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use virtflow_types::{Error, ErrorCode};

use super::envelope::Failure;
use super::password;

/// Hashes computed at once: each takes a core and 19 MiB.
const RUNNING_MAX: usize = 2;
/// Calls that are running or wait to; more are refused at once.
const WAITING_MAX: usize = 64;

/// Bounds the work that passwords cause.
#[derive(Debug, Clone)]
pub(crate) struct Hashing {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// How long the last took, in microseconds.
    took_us: Arc<AtomicU64>,
}

impl Default for Hashing {
    fn default() -> Self {
        Self {
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            took_us: Arc::default(),
        }
    }
}

impl Hashing {
    /// Checks the bounds of a new password and hashes it.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Failure> {
        password::check(&password)?;
        Ok(self.bounded(move || password::hash(&password)).await??)
    }

    /// True if the password is the one that was hashed. Without a hash the same work is done for
    /// nothing, so that a user who does not exist is not told by the time it takes.
    pub(crate) async fn verify(
        &self,
        password: String,
        stored: Option<String>,
    ) -> Result<bool, Failure> {
        self.bounded(move || match stored.filter(|hash| !hash.is_empty()) {
            Some(stored) => password::verify(&stored, &password),
            None => {
                password::verify(&password::DUMMY, &password);
                false
            }
        })
        .await
    }

    async fn bounded<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let busy = || {
            let error = Error::new(
                ErrorCode::LimitExceeded,
                "too many logins and password changes at once",
            )
            .advise("try again in a few seconds");
            Failure::later(error, self.until_there_is_room())
        };
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let running = Arc::clone(&self.running).acquire_owned().await;
        let running = running.map_err(|_| busy())?;
        let took_us = Arc::clone(&self.took_us);
        let done = crate::off_loop::off_loop(move || {
            let begun = Instant::now();
            let done = work();
            let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            took_us.store(took, Ordering::Relaxed);
            drop(running);
            done
        });
        done.await.map_err(|error| {
            let problem = format!("the password could not be worked on: {error}");
            Error::new(ErrorCode::Internal, problem).into()
        })
    }

    /// How long those take that wait now: whoever comes back then finds half of them done.
    fn until_there_is_room(&self) -> Duration {
        let took = self.took_us.load(Ordering::Relaxed);
        let rounds = (WAITING_MAX / RUNNING_MAX / 2) as u64;
        Duration::from_micros(took.saturating_mul(rounds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_verifies() {
        let hashing = Hashing::default();
        let stored = hashing.hash("correct horse".into()).await.unwrap();
        let verify = |password: &str, stored: Option<&str>| {
            hashing.verify(password.to_owned(), stored.map(str::to_owned))
        };
        assert!(verify("correct horse", Some(&stored)).await.unwrap());
        assert!(!verify("correct horse ", Some(&stored)).await.unwrap());
        assert!(!verify("correct horse", None).await.unwrap());
        assert!(!verify("", Some("")).await.unwrap());
        assert!(hashing.hash("short".into()).await.is_err());
    }

    #[tokio::test]
    async fn a_flood_is_refused_rather_than_queued() {
        let hashing = Hashing::default();
        // A real one: the first must not be done before the last has asked.
        let real = crate::api::password::hash("another password").unwrap();
        let flood =
            (0..WAITING_MAX + 20).map(|_| hashing.verify("password".into(), Some(real.clone())));
        let results = futures::future::join_all(flood).await;
        let refused = results
            .iter()
            .filter(
                |r| matches!(r, Err(Failure::Later(e, _)) if e.code == ErrorCode::LimitExceeded),
            )
            .count();
        assert_eq!(refused, 20);
    }
}
