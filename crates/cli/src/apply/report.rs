//! What an apply did: a line for each object as it is done, the fields that changed below it, and a summary.

use serde_json::{Value, json};
use virtflow_model::Kind;

use super::diff::{self, Change};
use crate::failure::Failure;
use crate::output::Output;
use crate::safe;

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Did {
    Created,
    Changed,
    Unchanged,
    Deleted,
}

impl Did {
    const ALL: [Self; 4] = [Self::Created, Self::Changed, Self::Unchanged, Self::Deleted];

    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// One object of the report.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) kind: Kind,
    /// What people call it.
    pub(super) called: String,
    pub(super) id: Option<String>,
    pub(super) did: Did,
    pub(super) changes: Vec<Change>,
    /// The operation that was begun.
    pub(super) operation: Option<Value>,
    /// Why the controllers could not be asked about it in a trial.
    pub(super) untried: Option<String>,
}

/// The report as it grows.
#[derive(Debug)]
pub(super) struct Report {
    output: Output,
    is_trial: bool,
    lines: Vec<Line>,
}

impl Report {
    pub(super) fn new(output: Output, is_trial: bool) -> Self {
        Self {
            output,
            is_trial,
            lines: Vec::new(),
        }
    }

    /// Tells of one object, for people at once.
    pub(super) fn add(&mut self, line: Line) -> Result<(), Failure> {
        if self.output.format.is_for_people() {
            self.output.text(&self.text(&line))?;
        }
        self.lines.push(line);
        Ok(())
    }

    fn text(&self, line: &Line) -> String {
        let word = line.did.word();
        let mut text = safe::line(&match (self.is_trial, line.did, &line.operation) {
            (true, Did::Created | Did::Changed | Did::Deleted, _) => {
                format!("{} would be {word}", line.called)
            }
            (_, _, Some(operation)) => {
                let id = operation["id"].as_str().unwrap_or_default();
                format!("{} {word}, operation {id}", line.called)
            }
            _ => format!("{} {word}", line.called),
        });
        if let Some(why) = &line.untried {
            text.push_str(&safe::line(&format!(" ({why})")));
        }
        // What is made is told in full only before it is made.
        if line.did == Did::Changed || self.is_trial {
            for change in &line.changes {
                text.push('\n');
                text.push_str(&diff::line(change));
            }
        }
        text
    }

    /// The operations that were begun.
    pub(super) fn operations(&self) -> impl Iterator<Item = &Value> {
        self.lines.iter().filter_map(|line| line.operation.as_ref())
    }

    /// How many of each, in one line.
    fn summary(&self) -> Vec<(&'static str, usize)> {
        let count = |did: Did| self.lines.iter().filter(|line| line.did == did).count();
        Did::ALL.map(|did| (did.word(), count(did))).to_vec()
    }

    /// The end of the report; also after a failure, which is told after it.
    pub(super) fn end(&self) -> Result<(), Failure> {
        let summary = self.summary();
        if self.output.format.is_for_people() {
            let parts: Vec<String> = summary
                .iter()
                .map(|(word, n)| format!("{n} {word}"))
                .collect();
            let parts = parts.join(", ");
            return self.output.text(&match self.is_trial {
                true => format!("{parts}, had this not been a trial: nothing was done"),
                false => parts,
            });
        }
        let lines = self.lines.iter().map(|line| {
            json!({
                "kind": line.kind.name(),
                "called": line.called,
                "id": line.id,
                "did": line.did.word(),
                "changes": diff::to_json(&line.changes),
                "operation_id": line.operation.as_ref().map(|it| &it["id"]),
                "untried": line.untried,
            })
        });
        let counts: serde_json::Map<String, Value> = summary
            .into_iter()
            .map(|(word, n)| (word.to_owned(), n.into()))
            .collect();
        let data = json!({
            "dry_run": self.is_trial,
            "objects": lines.collect::<Value>(),
            "summary": counts,
        });
        self.output.data(&data, |_| String::new())
    }
}
