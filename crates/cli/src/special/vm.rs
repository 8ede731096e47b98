//! Power, console and placement of VMs, and VMs made of domains that are there.

use std::io::{self, Write};
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};
use virtflow_client::{Call, Method};
use virtflow_types::CONSOLE_BYTES_MAX;

use crate::failure::{Failure, exit};
use crate::generic::{is_set, report, target, text, trial, write};
use crate::grammar::{option, switch, trying, verb, waiting, with_flags, writing};
use crate::interrupt;
use crate::noun::{Flag, Form, Noun, flag};
use crate::nouns::{GRACE, LABELS, RESTART, TYPE};
use crate::run::{Cluster, Run};
use crate::safe;
use crate::spec;
use crate::table::of_cells;
use crate::wait::Patience;

/// Pause between two looks at a console that is followed.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);
/// Bytes asked for at each look.
const FOLLOW_BYTES: usize = 256 * 1024;

/// What its owner says of a VM that is a domain already; its sizes are what they are.
const ADOPTION: &[Flag] = &[
    flag(
        "user-group",
        "user_group",
        Form::Text,
        "User group whose quota it takes",
    ),
    flag(
        "group",
        "group",
        Form::Text,
        "Group of hosts; refused unless it is the host's",
    ),
    RESTART,
    GRACE,
    TYPE,
    LABELS,
];

fn adopt_grammar() -> Command {
    let named = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).value_name(value).required(true).help(help)
    };
    let command = Command::new("adopt")
        .about("Make one of a domain that a host has already; its guest goes on")
        .arg(named("host", "HOST", "The host, by name or id"))
        .arg(named(
            "domain",
            "DOMAIN",
            "The domain, by its name or UUID there; see `virtflow host domains`",
        ))
        .arg(option("name", "NAME", "Its name; the domain's if left out"))
        .arg(option("tenant", "TENANT", "Tenant it belongs to"));
    with_flags(trying(writing(waiting(command))), ADOPTION, true)
}

pub(crate) async fn adopt(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let word = |name: &str| text(matches, name).unwrap_or_default();
    let mut body = json!({
        "domain": word("domain"),
        "spec": spec::of_matches(ADOPTION, matches, true, run.now)?,
    });
    for field in ["name", "tenant"] {
        if let Some(value) = text(matches, field) {
            body[field] = value.into();
        }
    }
    let call = Call::new(Method::Post, &["hosts", word("host"), "adopt"])?
        .query_if("dry_run", trial(matches))
        .body(body);
    let answer = cluster.client.send(&write(call, matches)).await?;
    report(run, cluster, noun, "adopted", answer, Patience::of(matches)).await
}

pub(crate) fn grammar(command: Command) -> Command {
    let force = || switch("force", "At once, without asking the guest");
    let power = |name, about| trying(waiting(writing(verb(name, about))));
    command
        .subcommand(power("start", "Let it run"))
        .subcommand(power("stop", "Shut it down; after its grace time, by force").arg(force()))
        .subcommand(power("reboot", "Stop it and let it run again").arg(force()))
        .subcommand(adopt_grammar())
        .subcommand(verb("placement", "Where it is, or why nowhere"))
        .subcommand(
            verb("console", "Its serial console")
                .arg(switch("log", "What it has printed so far").required_unless_present("follow"))
                .arg(switch("follow", "Go on with what it prints, until Ctrl-C").short('f'))
                .arg(switch(
                    "raw",
                    "As it is, with escape sequences and control characters",
                ))
                .arg(
                    option("bytes", "N", "The last N bytes of what it has printed")
                        .default_value("65536")
                        .value_parser(clap::value_parser!(u64).range(1..=CONSOLE_BYTES_MAX as u64)),
                ),
        )
}

pub(crate) async fn power(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    verb: &str,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let body = match verb {
        "start" => json!({}),
        _ => json!({ "force": is_set(matches, "force") }),
    };
    let call = Call::new(Method::Post, &["vms", target(matches), verb])?
        .query_if("tenant", text(matches, "tenant"))
        .query_if("dry_run", trial(matches))
        .body(body);
    let answer = cluster.client.send(&write(call, matches)).await?;
    let did = match verb {
        "start" => "started",
        "stop" => "stopped",
        _ => "rebooted",
    };
    report(run, cluster, noun, did, answer, Patience::of(matches)).await
}

pub(crate) async fn placement(
    run: &Run,
    cluster: &Cluster,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = Call::new(Method::Get, &["vms", target(matches), "placement"])?
        .query_if("tenant", text(matches, "tenant"));
    let data = cluster.client.send(&call).await?.data;
    run.output.data(&data, placement_text)
}

fn placement_text(data: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if data["placed"] == true {
        return safe::line(&format!(
            "on host {} of group {}",
            text(&data["host"]),
            text(&data["group"])
        ));
    }
    let rows: Vec<Vec<String>> = data["hosts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|host| {
            let short: Vec<String> = host["short_by"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(dimension, amount)| format!("{dimension} {amount}"))
                .collect();
            vec![
                text(&host["host"]),
                text(&host["refused_by"]),
                short.join(", "),
            ]
        })
        .collect();
    let message = safe::line(&text(&data["message"]));
    if rows.is_empty() {
        return message;
    }
    format!(
        "{message}\n{}",
        of_cells(&["HOST", "REFUSED BY", "SHORT BY"], &rows)
    )
}

pub(crate) async fn console(
    run: &Run,
    cluster: &Cluster,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let is_followed = is_set(matches, "follow");
    let bytes = matches.get_one::<u64>("bytes").copied().unwrap_or(1);
    if !run.output.format.is_for_people() {
        if is_followed {
            return Err(Failure::usage(
                "--follow prints text: it takes no other form of output",
            ));
        }
        let answer = look(cluster, matches, bytes).await?;
        return run.output.data(&answer, |_| String::new());
    }
    let answer = look(cluster, matches, bytes).await?;
    let mut printer = Printer::new(is_set(matches, "raw"));
    let (data, seen) = read(&answer);
    if is_followed {
        // Before the first byte: whoever has seen it may end it.
        interrupt::goes_on();
    }
    if printer.print(data)? && is_followed {
        follow(cluster, matches, &mut printer, seen).await?;
    }
    printer.end()
}

/// Prints what a console says from its byte `seen` on, until nobody reads any more.
async fn follow(
    cluster: &Cluster,
    matches: &ArgMatches,
    printer: &mut Printer,
    mut seen: u64,
) -> Result<(), Failure> {
    loop {
        tokio::time::sleep(FOLLOW_PAUSE).await;
        let answer = look(cluster, matches, FOLLOW_BYTES as u64).await?;
        let (data, total) = read(&answer);
        let is_read = printer.print(news(data, seen, total))?;
        if !is_read {
            return Ok(());
        }
        seen = total;
    }
}

async fn look(cluster: &Cluster, matches: &ArgMatches, bytes: u64) -> Result<Value, Failure> {
    let call = Call::new(Method::Get, &["vms", target(matches), "console"])?
        .query_if("tenant", text(matches, "tenant"))
        .query("bytes", bytes.to_string());
    Ok(cluster.client.send(&call).await?.data)
}

fn read(answer: &Value) -> (&str, u64) {
    let data = answer["data"].as_str().unwrap_or_default();
    (data, answer["total_bytes"].as_u64().unwrap_or(0))
}

/// The part of the newest bytes that was not there when `seen` bytes had been printed. A console that
/// has become shorter was begun anew. Bytes that are no text arrive as U+FFFD and are counted as one
/// byte each: at worst a few characters of a garbled place are shown twice.
fn news(data: &str, seen: u64, total: u64) -> &str {
    if total < seen {
        return data;
    }
    let mut left = total - seen;
    let mut begin = data.len();
    for (at, c) in data.char_indices().rev() {
        let width = if c == char::REPLACEMENT_CHARACTER {
            1
        } else {
            c.len_utf8() as u64
        };
        if left < width {
            break;
        }
        left -= width;
        begin = at;
    }
    &data[begin..]
}

/// Prints pieces of a console.
struct Printer {
    /// Absent: as it is.
    console: Option<safe::Console>,
    ends_line: bool,
}

impl Printer {
    fn new(is_raw: bool) -> Self {
        Self {
            console: (!is_raw).then(safe::Console::default),
            ends_line: true,
        }
    }

    /// False if nobody reads any more.
    fn print(&mut self, text: &str) -> Result<bool, Failure> {
        let clean = match &mut self.console {
            Some(console) => console.clean(text),
            None => text.to_owned(),
        };
        if let Some(last) = clean.chars().next_back() {
            self.ends_line = last == '\n';
        }
        self.put(&clean)
    }

    fn put(&mut self, text: &str) -> Result<bool, Failure> {
        let mut stdout = io::stdout().lock();
        match stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
        {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::new(
                exit::FAILURE,
                "local",
                format!("cannot write to standard output: {error}"),
            )),
        }
    }

    /// The prompt begins on a line of its own.
    fn end(&mut self) -> Result<(), Failure> {
        if !self.ends_line && self.console.is_some() {
            self.put("\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_printed() {
        for (data, seen, total, expected) in [
            ("abcdef", 4, 6, "ef"),
            ("abcdef", 6, 6, ""),
            ("abcdef", 0, 6, "abcdef"),
            // More came than was asked for: what is there is shown.
            ("cdef", 0, 6, "cdef"),
            // It was begun anew.
            ("xy", 6, 2, "xy"),
            // A letter of two bytes counts two.
            ("aüb", 1, 4, "üb"),
            ("a\u{fffd}b", 1, 3, "\u{fffd}b"),
        ] {
            assert_eq!(news(data, seen, total), expected, "{data} {seen} {total}");
        }
    }

    #[test]
    fn why_a_vm_is_nowhere() {
        let data = json!({
            "placed": false,
            "message": "no host has room",
            "hosts": [
                {"host": "h1", "refused_by": "capacity", "short_by": {"memory_mib": 64}},
                {"host": "h2", "refused_by": "cordoned", "short_by": {}},
            ],
        });
        assert_eq!(
            placement_text(&data),
            "no host has room\n\
             HOST  REFUSED BY  SHORT BY\n\
             h1    capacity    memory_mib 64\n\
             h2    cordoned"
        );
    }
}
