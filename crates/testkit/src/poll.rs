//! Waiting for a condition instead of sleeping.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long [`until`] rests between two looks.
const INTERVAL: Duration = Duration::from_millis(25);

/// How long [`often_until`] rests.
const SHORT_INTERVAL: Duration = Duration::from_millis(1);

/// Asks `probe` again and again until it yields a value.
///
/// # Errors
/// After `limit`, naming `what` was waited for. An error of `probe` itself ends the wait at once.
pub fn until<T>(
    what: impl Display,
    limit: Duration,
    probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    look(what, limit, INTERVAL, probe)
}

/// As [`until`], for moments that are over within milliseconds and cost little to look for.
///
/// # Errors
/// As [`until`].
pub fn often_until<T>(
    what: impl Display,
    limit: Duration,
    probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    look(what, limit, SHORT_INTERVAL, probe)
}

fn look<T>(
    what: impl Display,
    limit: Duration,
    interval: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            bail!("waited {} s in vain for {what}", limit.as_secs_f32());
        }
        std::thread::sleep(interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_in_vain_says_for_what() {
        let error = until("the moon", Duration::from_millis(60), || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.to_string(), "waited 0.06 s in vain for the moon");
    }

    #[test]
    fn the_first_value_ends_the_wait() {
        let mut looks = 0;
        let value = until("the third look", Duration::from_secs(5), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(value.unwrap(), 3);
    }
}
