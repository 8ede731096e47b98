//! `--watch`: rows as they come, until it is ended or for a while. A cut is gone over by the client; where what happened
//! meanwhile is not known, the list is told again and what went is told from what was known.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ArgMatches;
use serde_json::{Value, json};
use virtflow_client::{Call, ClientError, Event, Method, Watch};

use crate::failure::Failure;
use crate::noun::Noun;
use crate::output::{self, Format};
use crate::run::{Cluster, Run};
use crate::{columns, interrupt, safe, table};

/// Objects that are known at once, to tell which of them went.
const KNOWN_MAX: usize = 200_000;
/// Silence after which it is said that no controller is heard.
const LOST_AFTER: Duration = Duration::from_secs(3);

/// Watches what a list's call asks for.
pub(crate) async fn list(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
    call: Call,
) -> Result<(), Failure> {
    let watching = Watching::new(run, noun, None);
    within(matches, watching.run(cluster.client.watch(&call))).await
}

/// Watches one object, until it is gone.
pub(crate) async fn object(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
    object: &Value,
) -> Result<(), Failure> {
    let text = |field: &str| object[field].as_str().filter(|text| !text.is_empty());
    let call = Call::new(Method::Get, &[noun.collection()])?;
    let narrow = [
        ("name", "name"),
        ("tenant", "tenant_id"),
        ("parent", "parent_id"),
    ];
    let call = narrow.into_iter().fold(call, |call, (parameter, field)| {
        call.query_if(
            parameter,
            text(field).filter(|text| !text.is_empty() && noun.is_listed_by(parameter)),
        )
    });
    let watching = Watching::new(run, noun, text("id").map(str::to_owned));
    within(matches, watching.run(cluster.client.watch(&call))).await
}

/// Until it ends, or the time is over; each is a good end.
async fn within(
    matches: &ArgMatches,
    watching: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let timeout = matches.get_one::<Duration>("timeout").copied();
    interrupt::goes_on();
    tokio::select! {
        done = watching => done,
        () = over(timeout) => Ok(()),
    }
}

async fn over(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

struct Watching<'a> {
    run: &'a Run,
    noun: &'a Noun,
    /// The only object that is asked for.
    only: Option<String>,
    /// What is there, by id: what is told of it when it goes.
    known: BTreeMap<String, Value>,
    /// What is being told anew, and what was known before.
    before: Option<BTreeMap<String, Value>>,
    /// The first rows, until the widths of columns follow from them.
    first: Option<Vec<Vec<String>>>,
    widths: Vec<usize>,
}

impl<'a> Watching<'a> {
    fn new(run: &'a Run, noun: &'a Noun, only: Option<String>) -> Self {
        Self {
            run,
            noun,
            only,
            known: BTreeMap::new(),
            before: None,
            first: Some(Vec::new()),
            widths: Vec::new(),
        }
    }

    async fn run(mut self, mut watch: Watch) -> Result<(), Failure> {
        loop {
            let event = self.heard(&mut watch).await?;
            if !self.tell(event)? {
                return Ok(());
            }
        }
    }

    /// The next event; says so if there is none because no controller is heard.
    async fn heard(&self, watch: &mut Watch) -> Result<Event, ClientError> {
        let heard = tokio::time::timeout(LOST_AFTER, watch.next()).await;
        if let Ok(event) = heard {
            return event;
        }
        let is_lost = watch.is_lost();
        if is_lost {
            self.run.output.remark("no controller is heard; trying on");
        }
        let event = watch.next().await;
        if is_lost && event.is_ok() {
            self.run.output.remark("heard again");
        }
        event
    }

    /// Tells an event; false if there is nothing more to tell, or nobody to tell it to.
    fn tell(&mut self, event: Event) -> Result<bool, Failure> {
        let (word, object) = match event {
            Event::Added(object) => ("added", object),
            Event::Changed(object) => ("changed", object),
            Event::Removed(object) => ("removed", object),
            Event::Again => {
                self.run
                    .output
                    .warn("what happened meanwhile is not known: all that is there is told again");
                self.before = Some(std::mem::take(&mut self.known));
                return Ok(true);
            }
            Event::Told(_) => return self.all_told(),
        };
        let id = object["id"].as_str().unwrap_or_default().to_owned();
        if self.only.as_ref().is_some_and(|only| *only != id) {
            return Ok(true);
        }
        match word {
            "removed" => {
                self.known.remove(&id);
            }
            _ => {
                let short = json!({"id": id, "kind": object["kind"], "name": object["name"]});
                self.known.insert(id, short);
            }
        }
        if self.known.len() > KNOWN_MAX {
            return Err(
                Failure::usage(format!("more than {KNOWN_MAX} objects to watch"))
                    .advise("narrow the list"),
            );
        }
        let is_read = self.print(word, &object)?;
        Ok(is_read && !(word == "removed" && self.only.is_some()))
    }

    /// After what is there has been told: the table begins, and what is missing from a second telling went.
    fn all_told(&mut self) -> Result<bool, Failure> {
        if let Some(rows) = self.first.take()
            && self.run.output.format.is_for_people()
        {
            let heads = self.heads();
            self.widths = widths(&heads, &rows);
            let mut text = padded(&heads, &self.widths);
            for row in &rows {
                text.push('\n');
                text.push_str(&padded(row, &self.widths));
            }
            if !self.run.output.is_read(&text)? {
                return Ok(false);
            }
        }
        let went: Vec<Value> = match self.before.take() {
            Some(before) => before
                .into_iter()
                .filter(|(id, _)| !self.known.contains_key(id))
                .map(|(_, object)| object)
                .collect(),
            None => Vec::new(),
        };
        for object in went {
            if !self.print("removed", &object)? || self.only.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn heads(&self) -> Vec<String> {
        let heads: Vec<&str> = match self.run.output.format {
            Format::Columns(columns) => columns::heads(columns).collect(),
            format => table::heads(self.noun, format == Format::Wide),
        };
        let heads = heads.into_iter();
        std::iter::once("EVENT")
            .chain(heads)
            .map(str::to_owned)
            .collect()
    }

    fn print(&mut self, word: &str, object: &Value) -> Result<bool, Failure> {
        let output = self.run.output;
        match output.format {
            Format::Table | Format::Wide | Format::Columns(_) => {
                let now = virtflow_types::Timestamp::now();
                let cells = match output.format {
                    Format::Columns(columns) => columns::cells(columns, object),
                    format => table::cells(self.noun, object, now, format == Format::Wide),
                };
                let row = std::iter::once(word.to_owned()).chain(cells);
                let row: Vec<String> = row.map(|cell| safe::line(&cell)).collect();
                match &mut self.first {
                    Some(first) => {
                        first.push(row);
                        Ok(true)
                    }
                    None => output.is_read(&padded(&row, &self.widths)),
                }
            }
            Format::Json => {
                let told = json!({"event": word, "object": object});
                output.is_read(&output::json_line(&told))
            }
            Format::Yaml => {
                let told = json!({"event": word, "object": object});
                output.is_read(&format!("---\n{}", output::yaml(&told)))
            }
        }
    }
}

fn widths(heads: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let wide = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        let widths = cells.chain(heads.get(at)).map(|cell| cell.chars().count());
        widths.max().unwrap_or(0)
    };
    (0..heads.len()).map(wide).collect()
}

fn padded(row: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (cell, width) in row.iter().zip(widths) {
        text.push_str(&format!("{cell:width$}  "));
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_rows_stand_under_the_first() {
        let row =
            |cells: &[&str]| -> Vec<String> { cells.iter().map(|it| (*it).to_owned()).collect() };
        let heads = row(&["EVENT", "NAME", "AGE"]);
        let first = [row(&["added", "web-1", "1s"])];
        let widths = widths(&heads, &first);
        assert_eq!(padded(&heads, &widths), "EVENT  NAME   AGE");
        assert_eq!(padded(&first[0], &widths), "added  web-1  1s");
        let long = row(&["removed", "a-long-name", "1m"]);
        assert_eq!(padded(&long, &widths), "removed  a-long-name  1m");
    }
}
