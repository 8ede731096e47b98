//! Times that were taken, and the table that is made of them.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Where the table stands in the document.
const BEGIN: &str = "<!-- scale: begin, written by `cargo xtask bench scale --write` -->";
const END: &str = "<!-- scale: end -->";

/// Times of one thing, done many times.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// The times of `count` runs of `work`.
    pub(crate) fn of<T>(count: usize, mut work: impl FnMut() -> Result<T>) -> Result<Self> {
        let mut samples = Self::default();
        for _ in 0..count {
            let start = Instant::now();
            let done = work()?;
            samples.add(start.elapsed());
            drop(done);
        }
        Ok(samples)
    }

    /// The least time that so many percent do not exceed; zero if nothing was timed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// `83 µs / 120 µs`: half, and 99 of 100.
    pub(crate) fn both(&self) -> String {
        let (half, most) = (self.percentile(50), self.percentile(99));
        format!("{} / {}", time(half), time(most))
    }
}

/// The table: what, its figure, what it is compared with, and its goal.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<[String; 4]>);

impl Table {
    pub(crate) fn add(
        &mut self,
        what: &str,
        figure: String,
        beside: &str,
        goal: Option<(&str, bool)>,
    ) {
        let goal = match goal {
            Some((goal, true)) => goal.to_owned(),
            Some((goal, false)) => format!("{goal}: MISSED"),
            None => "–".to_owned(),
        };
        let beside = if beside.is_empty() { "–" } else { beside };
        self.0
            .push([what.to_owned(), figure, beside.to_owned(), goal]);
    }

    /// A time with a goal.
    pub(crate) fn time(&mut self, what: &str, took: Duration, beside: &str, goal: Duration) {
        let met = took <= goal;
        self.add(what, time(took), beside, Some((&time(goal), met)));
    }

    /// A read: half and 99 of 100, whose half has a goal of 20 ms.
    pub(crate) fn read(&mut self, what: &str, samples: &Samples, beside: &str) {
        let goal = Duration::from_millis(20);
        let met = samples.percentile(50) <= goal;
        self.add(what, samples.both(), beside, Some((&time(goal), met)));
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text =
            String::from("| figure | here | beside it | goal |\n| --- | --- | --- | --- |\n");
        for [what, figure, beside, goal] in &self.0 {
            text.push_str(&format!("| {what} | {figure} | {beside} | {goal} |\n"));
        }
        text
    }
}

/// Three digits and a unit.
pub(crate) fn time(took: Duration) -> String {
    let ns = took.as_nanos();
    let scaled = |unit: u128| {
        let whole = ns / unit;
        match whole {
            0..=9 => format!("{whole}.{:02}", ns % unit * 100 / unit),
            10..=99 => format!("{whole}.{}", ns % unit * 10 / unit),
            _ => whole.to_string(),
        }
    };
    match ns {
        0..=999_999 => format!("{} µs", scaled(1_000)),
        1_000_000..=999_999_999 => format!("{} ms", scaled(1_000_000)),
        _ => format!("{} s", scaled(1_000_000_000)),
    }
}

/// `7.4 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{}.{} KiB", bytes >> 10, (bytes & 1023) * 10 / 1024),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// `2.9`: how many times the second the first is.
pub(crate) fn ratio(one: Duration, other: Duration) -> String {
    let tenths = one.as_nanos() * 10 / other.as_nanos().max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// What this process has in memory, in bytes.
pub(crate) fn resident() -> Result<u64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("reading this process's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    let kib: u64 = kib.context("the status has no VmRSS")?.parse()?;
    Ok(kib << 10)
}

/// Which machine this is, without its name.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: u64 = kib
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    format!("{cores} cores, {} GiB", (kib + (1 << 19)) >> 20)
}

/// What a program says in one line; empty if it does not run.
pub(crate) fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// Puts the section in the place of the one before.
pub(crate) fn write(file: &Path, section: &str) -> Result<()> {
    let told = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {told}"))?;
    let text =
        replaced(&text, section).with_context(|| format!("writing the table into {told}"))?;
    std::fs::write(file, text).with_context(|| format!("writing {told}"))
}

fn replaced(text: &str, section: &str) -> Result<String> {
    let (before, rest) = text
        .split_once(BEGIN)
        .with_context(|| format!("there is no line `{BEGIN}`"))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("there is no line `{END}` after it"))?;
    ensure!(!after.contains(BEGIN), "there are two lines `{BEGIN}`");
    Ok(format!("{before}{BEGIN}\n{section}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_taken() {
        let mut samples = Samples::default();
        for ms in (1..=200).rev() {
            samples.add(Duration::from_millis(ms));
        }
        assert_eq!(samples.percentile(50), Duration::from_millis(100));
        assert_eq!(samples.percentile(99), Duration::from_millis(198));
        assert_eq!(Samples::default().percentile(50), Duration::ZERO);
    }

    #[test]
    fn figures_keep_their_units() {
        assert_eq!(time(Duration::from_nanos(420)), "0.42 µs");
        assert_eq!(time(Duration::from_micros(83)), "83.0 µs");
        assert_eq!(time(Duration::from_micros(4050)), "4.05 ms");
        assert_eq!(time(Duration::from_micros(12_340)), "12.3 ms");
        assert_eq!(time(Duration::from_millis(1250)), "1.25 s");
        assert_eq!(size(4096), "4096 B");
        assert_eq!(size(17 * 1024 + 512), "17.5 KiB");
        assert_eq!(size(3 << 30), "3072 MiB");
        assert_eq!(
            ratio(Duration::from_micros(353), Duration::from_micros(122)),
            "2.8"
        );
    }

    #[test]
    fn only_the_marked_section_is_written_anew() {
        let text = format!("# A\n{BEGIN}\nold\n{END}\n\nmore\n");
        let new = replaced(&text, "new\n").unwrap();
        assert_eq!(new, format!("# A\n{BEGIN}\nnew\n{END}\n\nmore\n"));
        assert!(replaced("# A\n", "new\n").is_err());
    }
}
