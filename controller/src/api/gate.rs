//! How many requests anybody may make: a token bucket for each caller, in memory, bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Callers remembered at once; the least recently refilled are forgotten first.
const CALLERS_MAX: usize = 20_000;

/// How fast and how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Requests a second, in the long run.
    pub(crate) per_s: f64,
    /// Requests at once.
    pub(crate) burst: f64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// Token buckets by caller.
#[derive(Debug)]
pub(crate) struct Gate<K> {
    rate: Rate,
    buckets: Mutex<HashMap<K, Bucket>>,
}

impl<K: Hash + Eq + Copy> Gate<K> {
    /// An open gate.
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: Mutex::new(HashMap::new()),
        }
    }

    /// Takes one; the time to wait if there is none.
    pub(crate) fn take(&self, caller: K, now: Instant) -> Result<(), Duration> {
        self.spend(caller, now, 1.0)
    }

    /// Says whether one could be taken, taking none.
    pub(crate) fn peek(&self, caller: K, now: Instant) -> Result<(), Duration> {
        self.spend(caller, now, 0.0)
    }

    fn spend(&self, caller: K, now: Instant, cost: f64) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= CALLERS_MAX && !buckets.contains_key(&caller) {
            self.forget(&mut buckets, now);
        }
        let full = Bucket {
            left: self.rate.burst,
            at: now,
        };
        let bucket = buckets.entry(caller).or_insert(full);
        bucket.left = self.refilled(bucket, now);
        bucket.at = now;
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f64(
                (1.0 - bucket.left) / self.rate.per_s,
            ));
        }
        bucket.left -= cost;
        Ok(())
    }

    fn refilled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + since * self.rate.per_s).min(self.rate.burst)
    }

    /// Full buckets say nothing and go; if all are in use, the fullest half goes.
    fn forget(&self, buckets: &mut HashMap<K, Bucket>, now: Instant) {
        buckets.retain(|_, bucket| self.refilled(bucket, now) < self.rate.burst);
        if buckets.len() >= CALLERS_MAX {
            let mut levels: Vec<f64> = buckets.values().map(|bucket| bucket.left).collect();
            let middle = levels.len() / 2;
            let (_, median, _) = levels.select_nth_unstable_by(middle, f64::total_cmp);
            let median = *median;
            buckets.retain(|_, bucket| bucket.left < median);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.buckets.lock().unwrap().len()
    }
}

/// The network a caller is counted by: an IPv4 address, or the /64 that one IPv6 caller owns.
pub(crate) fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_s: 2.0,
        burst: 3.0,
    };

    #[test]
    fn a_burst_then_the_rate() {
        let gate = Gate::new(RATE);
        let start = Instant::now();
        for _ in 0..3 {
            assert!(gate.take(1, start).is_ok());
        }
        let wait = gate.take(1, start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        assert!(gate.take(2, start).is_ok(), "another caller is not held up");
        assert!(gate.take(1, start + wait).is_ok());
        assert!(gate.take(1, start + wait).is_err());
    }

    #[test]
    fn looking_takes_nothing() {
        let gate = Gate::new(RATE);
        let start = Instant::now();
        for _ in 0..10 {
            assert!(gate.peek(1, start).is_ok());
        }
        assert!(gate.take(1, start).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let gate = Gate::new(RATE);
        let start = Instant::now();
        for caller in 0..CALLERS_MAX + 5 {
            let _ = gate.take(caller, start);
        }
        assert!(gate.len() <= CALLERS_MAX, "{}", gate.len());
    }

    #[test]
    fn one_ipv6_caller_is_one_network() {
        let net = |text: &str| network(text.parse().unwrap());
        assert_eq!(net("2001:db8::1"), net("2001:db8::2:3"));
        assert_ne!(net("2001:db8::1"), net("2001:db8:0:1::1"));
        assert_eq!(net("192.0.2.7"), net("::ffff:192.0.2.7"));
        assert_ne!(net("192.0.2.7"), net("192.0.2.8"));
    }
}
