//! What goes to standard output and standard error, and in which form.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;
use virtflow_types::Timestamp;

use crate::failure::Failure;
use crate::noun::Noun;
use crate::{safe, table};

/// The form that was asked for with `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// The data as JSON.
    Json,
    /// The data as YAML.
    Yaml,
}

/// The two streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) format: Format,
}

impl Output {
    /// True if a person reads it, who wants to see that something goes on.
    pub(crate) fn is_lively(self) -> bool {
        self.format == Format::Table && io::stderr().is_terminal()
    }

    /// Data for programs, or `text` for people. A reader that has gone is no failure.
    pub(crate) fn data(
        self,
        data: &Value,
        text: impl FnOnce(&Value) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => text(data),
            Format::Json => json(data),
            Format::Yaml => yaml(data),
        };
        self.text(&text)
    }

    /// Objects of a kind as rows.
    pub(crate) fn rows(self, noun: &Noun, rows: &Value, now: Timestamp) -> Result<(), Failure> {
        self.data(rows, |rows| {
            table::of_objects(noun, rows.as_array().map_or(&[], Vec::as_slice), now)
        })
    }

    /// Text, with a line break at its end if it has none.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let mut write = || {
            stdout.write_all(text.as_bytes())?;
            if !text.is_empty() && !text.ends_with('\n') {
                stdout.write_all(b"\n")?;
            }
            stdout.flush()
        };
        match write() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| {
                Failure::local(format!("cannot write to standard output: {error}"))
            }),
        }
    }

    /// A remark for people, on standard error; none for programs.
    pub(crate) fn remark(self, text: &str) {
        if self.format == Format::Table {
            // Nobody is left to be told if standard error is gone.
            let _ = writeln!(io::stderr(), "{}", safe::block(text));
        }
    }

    /// Something that programs, too, should find in a log: on standard error.
    pub(crate) fn warn(self, text: &str) {
        let _ = writeln!(io::stderr(), "{}", safe::block(text));
    }

    /// How the command failed.
    pub(crate) fn failure(self, failure: &Failure) {
        let text = match self.format {
            Format::Table => safe::block(&failure.to_text()),
            Format::Json => json(&failure.to_json()),
            Format::Yaml => yaml(&failure.to_json()),
        };
        let _ = writeln!(io::stderr(), "{}", text.trim_end());
    }
}

fn json(data: &Value) -> String {
    safe::json(&serde_json::to_string_pretty(data).unwrap_or_default())
}

fn yaml(data: &Value) -> String {
    let text = serde_yaml_ng::to_string(data).unwrap_or_default();
    // The writer quotes and escapes what YAML forbids; what it leaves is shown by its number.
    safe::block(&text)
}

/// An object in full, for people: its fields line by line.
pub(crate) fn described(data: &Value) -> String {
    yaml(data)
}
