//! What goes to standard output and standard error, and in which form.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;
use virtflow_types::Timestamp;

use crate::columns::{self, Custom};
use crate::failure::Failure;
use crate::noun::Noun;
use crate::{safe, table};

/// Longest line of a failure for people, in characters.
const LINE_MAX: usize = 2000;

/// The form that was asked for with `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For people, with more columns.
    Wide,
    /// For people, with columns of their own.
    Columns(&'static [Custom]),
    /// The data as JSON.
    Json,
    /// The data as YAML.
    Yaml,
}

impl Format {
    /// Reads what stands after `-o`.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("custom-columns", columns)) => {
                // One a process: the form is copied to wherever something is written.
                Ok(Self::Columns(Vec::leak(columns::read(columns)?)))
            }
            None if text == "table" => Ok(Self::Table),
            None if text == "wide" => Ok(Self::Wide),
            None if text == "json" => Ok(Self::Json),
            None if text == "yaml" => Ok(Self::Yaml),
            _ => Err("one of table, wide, json, yaml, custom-columns=HEAD:.path,...".into()),
        }
    }

    /// True for what people read.
    pub(crate) fn is_for_people(self) -> bool {
        !matches!(self, Self::Json | Self::Yaml)
    }
}

/// The two streams.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Output {
    pub(crate) format: Format,
}

impl Output {
    /// Tables and texts.
    pub(crate) const PLAIN: Self = Self {
        format: Format::Table,
    };

    /// True if a person reads it, who wants to see that something goes on.
    pub(crate) fn is_lively(self) -> bool {
        self.format.is_for_people() && io::stderr().is_terminal()
    }

    /// Data for programs, or `text` for people. A reader that has gone is no failure.
    pub(crate) fn data(
        self,
        data: &Value,
        text: impl FnOnce(&Value) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table | Format::Wide => text(data),
            Format::Columns(columns) => columns::shown(columns, data),
            Format::Json => json(data),
            Format::Yaml => yaml(data),
        };
        self.text(&text)
    }

    /// Objects of a kind as rows.
    pub(crate) fn rows(self, noun: &Noun, rows: &Value, now: Timestamp) -> Result<(), Failure> {
        self.data(rows, |rows| {
            let rows = rows.as_array().map_or(&[][..], Vec::as_slice);
            table::of_objects(noun, rows, now, self.format == Format::Wide)
        })
    }

    /// Text, with a line break at its end if it has none.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        self.is_read(text).map(drop)
    }

    /// Likewise; false if nobody reads it any more.
    pub(crate) fn is_read(self, text: &str) -> Result<bool, Failure> {
        let mut stdout = io::stdout().lock();
        let mut write = || {
            stdout.write_all(text.as_bytes())?;
            if !text.is_empty() && !text.ends_with('\n') {
                stdout.write_all(b"\n")?;
            }
            stdout.flush()
        };
        match write() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::local(format!(
                "cannot write to standard output: {error}"
            ))),
        }
    }

    /// A remark for people, on standard error; none for programs.
    pub(crate) fn remark(self, text: &str) {
        if self.format.is_for_people() {
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
            Format::Json => json(&failure.to_json()),
            Format::Yaml => yaml(&failure.to_json()),
            _ => safe::block(&safe::short(&failure.to_text(), LINE_MAX)),
        };
        let _ = writeln!(io::stderr(), "{}", text.trim_end());
    }
}

/// JSON on one line.
pub(crate) fn json_line(data: &Value) -> String {
    safe::json(&data.to_string())
}

fn json(data: &Value) -> String {
    safe::json(&serde_json::to_string_pretty(data).unwrap_or_default())
}

pub(crate) fn yaml(data: &Value) -> String {
    crate::yaml::of(data)
}

/// An object in full, for people: its fields line by line.
pub(crate) fn described(data: &Value) -> String {
    yaml(data)
}
