//! What happened, in order: virtual time, machine, event. Two runs of one seed give the same trace.
//!
//! Beside what the simulation itself notes, every packet on the network and every line that the programs log
//! at INFO or above is an event, so that a difference shows where it begins. What a packet holds is not part
//! of it: it is encrypted, with keys of which some come from the system.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::clock;

/// Lines kept for the report of a failure.
const TAIL: usize = 60;

#[derive(Default)]
struct Trace {
    hash: blake3::Hasher,
    lines: u64,
    packets: u64,
    tail: std::collections::VecDeque<String>,
    file: Option<std::io::BufWriter<std::fs::File>>,
}

thread_local! {
    /// Whether everything that any library logs is part of the trace: for reading, not for comparing.
    static DEEP: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    static TRACE: RefCell<Trace> = RefCell::new(Trace::default());
}

/// Begins a trace; every line goes to `file` too, if there is one.
pub(crate) fn begin(file: Option<std::fs::File>) {
    DEEP.set(std::env::var_os("VIRTFLOW_SIM_DEEP").is_some());
    TRACE.with_borrow_mut(|trace| {
        *trace = Trace {
            file: file.map(std::io::BufWriter::new),
            ..Trace::default()
        };
    });
}

/// What the whole trace comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Hash over all lines.
    pub hash: String,
    /// Lines, packets not counted.
    pub lines: u64,
    /// Packets.
    pub packets: u64,
    /// The last lines.
    pub tail: Vec<String>,
}

pub(crate) fn end() -> Digest {
    TRACE.with_borrow_mut(|trace| {
        if let Some(file) = &mut trace.file {
            drop(file.flush());
        }
        Digest {
            hash: trace.hash.finalize().to_hex()[..32].to_owned(),
            lines: trace.lines,
            packets: trace.packets,
            tail: trace.tail.iter().cloned().collect(),
        }
    })
}

fn write(line: &str, is_packet: bool) {
    TRACE.with_borrow_mut(|trace| {
        trace.hash.update(line.as_bytes());
        trace.hash.update(b"\n");
        if is_packet {
            trace.packets += 1;
        } else {
            trace.lines += 1;
            if trace.tail.len() == TAIL {
                trace.tail.pop_front();
            }
            trace.tail.push_back(line.to_owned());
        }
        if let Some(file) = &mut trace.file {
            drop(writeln!(file, "{line}"));
        }
    });
}

/// Notes an event of the machine that runs.
pub(crate) fn note(event: impl AsRef<str>) {
    let at = clock::elapsed().as_micros();
    write(&format!("{at} {} {}", clock::who(), event.as_ref()), false);
}

/// Makes log lines and packets part of the trace, for this process.
pub(crate) fn listen() {
    // A second simulation in this process finds it installed.
    drop(tracing::subscriber::set_global_default(
        tracing_subscriber::registry().with(IntoTrace),
    ));
}

struct IntoTrace;

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing into a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            // Encrypted bytes: only how many.
            "protocol" => write!(
                self.fields,
                " len={}",
                format!("{value:?}").matches(", ").count()
            ),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl<S: Subscriber> Layer<S> for IntoTrace {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        let target = metadata.target();
        let level = match target.split("::").next() {
            Some("turmoil") => Level::TRACE,
            Some("virtflow_sim") => Level::TRACE,
            Some(name) if name.starts_with("virtflow") || DEEP.get() => {
                if DEEP.get() {
                    Level::DEBUG
                } else {
                    Level::INFO
                }
            }
            _ => return false,
        };
        *metadata.level() <= level
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let at = clock::elapsed().as_micros();
        let is_packet = event.metadata().target() == "turmoil";
        if is_packet && text.message.starts_with("step") {
            return;
        }
        let who = if is_packet {
            String::new()
        } else {
            clock::who()
        };
        let line = format!("{at} {who} {}{}", text.message, text.fields);
        write(&line, is_packet);
    }
}
