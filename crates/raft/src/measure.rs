//! Numbers for monitoring. Recording costs a few relaxed additions.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio::time::Instant;

/// Upper bounds of the buckets: powers of two, from 1 to 2^24 (16.8 s in µs, 16 MiB in bytes).
const BUCKETS: usize = 25;

/// Counts values in buckets of powers of two.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    counts: [AtomicU64; BUCKETS],
    above: AtomicU64,
    sum: AtomicU64,
}

impl Buckets {
    pub(crate) fn record(&self, value: u64) {
        let bucket = value.max(1).next_power_of_two().trailing_zeros() as usize;
        let count = self.counts.get(bucket).unwrap_or(&self.above);
        count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Microseconds since then.
    pub(crate) fn record_since(&self, since: Instant) {
        self.record(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
    }

    fn read(&self) -> Histogram {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BUCKETS);
        for (power, bucket) in self.counts.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            buckets.push((1 << power, count));
        }
        Histogram {
            buckets,
            sum: self.sum.load(Ordering::Relaxed),
            count: count + self.above.load(Ordering::Relaxed),
        }
    }
}

/// A histogram as monitoring wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Histogram {
    /// Upper bound (inclusive) and how many values were at most that.
    pub buckets: Vec<(u64, u64)>,
    /// Sum of all values.
    pub sum: u64,
    /// Number of values.
    pub count: u64,
}

macro_rules! measures {
    (histograms { $($(#[$hdoc:meta])* $histogram:ident,)* } counters { $($(#[$cdoc:meta])* $counter:ident,)* }) => {
        /// What is counted while the node runs.
        #[derive(Debug, Default)]
        pub(crate) struct Measures {
            $(pub(crate) $histogram: Buckets,)*
            $(pub(crate) $counter: Counter,)*
        }
        /// What was counted since the node started.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        pub struct Measured {
            $($(#[$hdoc])* pub $histogram: Histogram,)*
            $($(#[$cdoc])* pub $counter: u64,)*
        }
        impl Measures {
            pub(crate) fn read(&self) -> Measured {
                Measured {
                    $($histogram: self.$histogram.read(),)*
                    $($counter: self.$counter.read(),)*
                }
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

measures! {
    histograms {
        /// From a batch's proposal to its result, in µs.
        commit_us,
        /// From an append to its flush, in µs.
        flush_us,
        /// Applying one entry, in µs.
        apply_us,
        /// A quorum round of reads, in µs.
        read_round_us,
        /// Changesets in a proposed entry.
        batch_changesets,
        /// Bytes of a proposed entry.
        batch_bytes,
    }
    counters {
        /// Decisions evaluated on the leader's head.
        decisions,
        /// Of these, refused.
        refused,
        /// Decisions whose outcome could not be told.
        unknown,
        /// Decisions turned away before they were evaluated.
        turned_away,
        /// Times this node began to lead.
        leaderships,
        /// Snapshots made.
        snapshots_built,
        /// Snapshots sent to a member.
        snapshots_sent,
        /// Snapshots received and installed.
        snapshots_installed,
        /// Followers of the change stream that had to begin anew.
        resyncs,
        /// Messages of peers that were refused.
        envelopes_refused,
        /// Comparisons of digests with the group.
        digests_compared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_their_buckets() {
        let buckets = Buckets::default();
        for value in [0, 1, 2, 3, 4, 5, 1 << 30] {
            buckets.record(value);
        }
        let read = buckets.read();
        assert_eq!(read.count, 7);
        assert_eq!(read.buckets[0], (1, 2));
        assert_eq!(read.buckets[1], (2, 3));
        assert_eq!(read.buckets[2], (4, 5));
        assert_eq!(read.buckets[3], (8, 6));
        assert_eq!(read.buckets[24], (1 << 24, 6));
        assert_eq!(read.sum, 15 + (1 << 30));
    }
}
