//! What the demo tells the person who watches it.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Prints what happens, and keeps what it took.
#[derive(Debug)]
pub(crate) struct Report {
    steps: Vec<(String, Duration)>,
    colour: bool,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            steps: Vec::new(),
            colour: std::io::stdout().is_terminal(),
        }
    }

    /// Runs one step under its headline.
    pub(crate) fn step<T>(
        &mut self,
        title: &str,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let number = self.steps.len() + 1;
        let headline = format!("{number}. {title}");
        println!("\n{}", self.bold(&headline));
        let start = Instant::now();
        let result = work(self).with_context(|| format!("in step {number}, {title}"))?;
        let took = start.elapsed();
        println!("   ({:.1} s)", took.as_secs_f32());
        self.steps.push((title.to_owned(), took));
        Ok(result)
    }

    /// Enters a step that another process has done.
    pub(crate) fn done_before(&mut self, title: &str, took: Duration) {
        self.steps.push((title.to_owned(), took));
    }

    /// One thing that is so.
    pub(crate) fn line(&self, text: impl Display) {
        println!("   {text}");
        let _ = std::io::stdout().flush();
    }

    /// What a command printed, set apart.
    pub(crate) fn quote(&self, text: &str) {
        for line in text.lines() {
            println!("   | {line}");
        }
    }

    pub(crate) fn summary(&self) {
        println!("\n{}", self.bold("Summary"));
        let width = self.steps.iter().map(|(title, _)| title.len()).max();
        let width = width.unwrap_or(0);
        for (number, (title, took)) in (1..).zip(&self.steps) {
            println!(
                "   {number}. {title:<width$}  {:>7.1} s",
                took.as_secs_f32()
            );
        }
        let total: Duration = self.steps.iter().map(|(_, took)| took).sum();
        println!("      {:<width$}  {:>7.1} s", "in all", total.as_secs_f32());
    }

    fn bold(&self, text: &str) -> String {
        if self.colour {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
