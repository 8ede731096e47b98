//! How evenly heartbeats arrive at the leader, alone and beside work.

use anyhow::{Result, ensure};
use virtflow_testkit::cloud::Cloud;

use super::Table;

/// Between two heartbeats of a host: shorter than usual, so that there are enough to judge by.
pub(super) const INTERVAL_MS: u32 = 500;

/// The leader's histogram of the time between two heartbeats of one host.
const METRIC: &str = "virtflow_agent_heartbeat_interval_seconds";

/// Heartbeats counted from some moment on.
#[derive(Debug)]
pub(super) struct Beats {
    leader: String,
    before: Counts,
}

/// Upper bounds in seconds, each with how many were at most that.
type Counts = Vec<(f64, u64)>;

impl Beats {
    pub(super) fn begin(cloud: &Cloud) -> Result<Self> {
        let leader = cloud.leader()?;
        let before = counts(&cloud.place.metrics(&leader)?)?;
        Ok(Self { leader, before })
    }

    /// Adds what came since to the table.
    pub(super) fn end(self, cloud: &Cloud, beside: &str, table: &mut Table) -> Result<()> {
        ensure!(
            cloud.leader()? == self.leader,
            "leadership moved while heartbeats were counted"
        );
        let since: Counts = counts(&cloud.place.metrics(&self.leader)?)?
            .into_iter()
            .zip(self.before)
            .map(|((bound, after), (_, before))| (bound, after - before))
            .collect();
        let all = since.last().map_or(0, |(_, count)| *count);
        ensure!(all > 0, "no heartbeats were counted");
        let most = at_most(&since, 100);
        // Twice the interval would be one that was missed.
        let goal = 2.0 * f64::from(INTERVAL_MS) / 1000.0;
        table.row(
            &format!("between two heartbeats, {beside}"),
            &format!("at most {:.0} ms", most * 1000.0),
            &format!(
                "{all} of them, sent each {INTERVAL_MS} ms; half within {:.0}, 99 % within {:.0} ms",
                at_most(&since, 50) * 1000.0,
                at_most(&since, 99) * 1000.0
            ),
            &format!("goal {:.0} ms", goal * 1000.0),
            most <= goal,
        );
        Ok(())
    }
}

/// The cumulative buckets of the histogram in a scrape.
fn counts(scrape: &str) -> Result<Counts> {
    let prefix = format!("{METRIC}_bucket{{le=\"");
    let buckets: Counts = scrape
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "))
        .map(|(bound, count)| {
            let bound = match bound {
                "+Inf" => f64::INFINITY,
                bound => bound.parse()?,
            };
            Ok((bound, count.trim().parse()?))
        })
        .collect::<Result<_>>()?;
    ensure!(!buckets.is_empty(), "the leader does not tell {METRIC}");
    Ok(buckets)
}

/// The bucket's bound that so many percent do not exceed.
fn at_most(counts: &[(f64, u64)], percent: u64) -> f64 {
    let all = counts.last().map_or(0, |(_, count)| *count);
    let wanted = (all * percent).div_ceil(100);
    counts
        .iter()
        .find(|(_, count)| *count >= wanted)
        .map_or(f64::INFINITY, |(bound, _)| *bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_read_and_judged() {
        let scrape = format!(
            "# HELP {METRIC} text\n{METRIC}_sum 9.0\n{METRIC}_bucket{{le=\"0.5\"}} 50\n{METRIC}_bucket{{le=\"0.6\"}} 99\n{METRIC}_bucket{{le=\"+Inf\"}} 100\n"
        );
        let counts = counts(&scrape).unwrap();
        assert_eq!(at_most(&counts, 50), 0.5);
        assert_eq!(at_most(&counts, 99), 0.6);
        assert_eq!(at_most(&counts, 100), f64::INFINITY);
        assert!(super::counts("virtflow_other 1\n").is_err());
    }
}
