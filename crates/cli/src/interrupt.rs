//! Ctrl-C and SIGTERM: whoever ends a command in the middle is told what of it is done and what is not known.
//!
//! A thread of its own waits for the two signals, so that neither a prompt, a file that never comes to its end nor an
//! editor is in the way. What it has to tell is noted here, for all of the process, by whoever does something.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rustix::termios::{OptionalActions, Termios, tcsetattr};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use virtflow_client::{Done, Journal, Sent};

use crate::failure::{Failure, exit};
use crate::output::Output;
use crate::safe;

/// Writes that are told one by one.
const TOLD_MAX: usize = 20;
/// How long a session's renewal is waited for: ended in the middle of it, one has to log in again.
const RENEWAL_MAX: Duration = Duration::from_secs(2);
const RENEWAL_PAUSE: Duration = Duration::from_millis(10);
/// How long is taken to tell: a terminal that stands still must not keep the process.
const TELLING_MAX: Duration = Duration::from_secs(1);

/// How long it takes at most that a signal which has come is heard.
const PASSING: Duration = Duration::from_millis(20);

/// What is known of the command under way.
static KNOWN: Mutex<Known> = Mutex::new(Known::new());
/// Somebody tells how the command ended: whoever comes second is silent.
static IS_TOLD: AtomicBool = AtomicBool::new(false);

#[derive(Debug, Default)]
struct Known {
    output: Output,
    journals: Vec<Journal>,
    /// How the command is repeated.
    again: Option<Again>,
    /// The operation that is waited for.
    operation_id: Option<String>,
    bar: Option<ProgressBar>,
    /// A terminal that does not show what is typed, and how it was before.
    terminal: Option<(File, Termios)>,
    /// Something stands on the terminal's line already.
    is_asking: bool,
    /// The keys of the terminal are the editor's.
    is_editing: bool,
    /// To the thread that hears signals: the editor has ended, and what came before that is to be passed over.
    left: Option<UnboundedSender<mpsc::Sender<()>>>,
    /// It goes on until it is ended, and has told all.
    is_following: bool,
    /// Where what a person writes lies, and what stood there before.
    draft: Option<(PathBuf, String)>,
    /// A file that is worth nothing until it is whole.
    partial: Option<PathBuf>,
    /// How the command ended, while what comes after it is done.
    ended: Option<Result<(), Failure>>,
}

/// How a command is repeated so that nothing is done twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Again {
    /// With this idempotency key.
    WithKey(String),
    /// As it is: it looks at what is there.
    AsItIs,
}

/// What ends a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Interrupt,
    Terminate,
}

impl By {
    fn word(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupted",
            Self::Terminate => "terminated",
        }
    }
    fn exit(self) -> u8 {
        match self {
            Self::Interrupt => exit::INTERRUPTED,
            Self::Terminate => exit::TERMINATED,
        }
    }
}

impl Known {
    const fn new() -> Self {
        Self {
            output: Output::PLAIN,
            journals: Vec::new(),
            again: None,
            operation_id: None,
            bar: None,
            terminal: None,
            is_asking: false,
            is_editing: false,
            left: None,
            is_following: false,
            draft: None,
            partial: None,
            ended: None,
        }
    }
}

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on signals are heard here. One that whoever started the process has it ignore stays ignored.
pub(crate) fn listen() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    // Without it, a signal ends the process as it always does.
    let Ok(runtime) = runtime else { return };
    let heard = {
        let _within = runtime.enter();
        [
            (By::Interrupt, SignalKind::interrupt()),
            (By::Terminate, SignalKind::terminate()),
        ]
        .map(|(by, kind)| match is_ignored(kind.as_raw_value()) {
            true => (by, None),
            false => (by, signal(kind).ok()),
        })
    };
    let [(_, mut interrupts), (_, mut terminations)] = heard;
    let (left, mut has_left) = unbounded_channel();
    known().left = Some(left);
    let begun = thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            loop {
                let by = runtime.block_on(async {
                    tokio::select! {
                        by = next(&mut interrupts, &mut terminations) => Some(by),
                        Some(passed) = has_left.recv() => {
                            pass_over(&mut interrupts).await;
                            // Whoever waited for it may have given up.
                            let _ = passed.send(());
                            None
                        }
                    }
                });
                let by = match by {
                    Some(By::Interrupt) if known().is_editing => continue,
                    Some(by) => by,
                    None => continue,
                };
                runtime.block_on(async {
                    tokio::select! {
                        () = renewed() => {}
                        _ = next(&mut interrupts, &mut terminations) => {}
                    }
                });
                end(by);
            }
        });
    // A machine that has no thread left has no command either.
    drop(begun);
}

async fn next(interrupts: &mut Option<Signal>, terminations: &mut Option<Signal>) -> By {
    async fn one(signal: &mut Option<Signal>) {
        match signal {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
    tokio::select! {
        () = one(interrupts) => By::Interrupt,
        () = one(terminations) => By::Terminate,
    }
}

/// Drops the interrupt that has come, if one has.
async fn pass_over(interrupts: &mut Option<Signal>) {
    if let Some(interrupts) = interrupts {
        // What has come is seen after a look at what the system has to tell.
        let _ = tokio::time::timeout(PASSING, interrupts.recv()).await;
    }
}

async fn renewed() {
    let begun = Instant::now();
    let is_renewing = || known().journals.iter().any(Journal::is_renewing);
    while is_renewing() && begun.elapsed() < RENEWAL_MAX {
        tokio::time::sleep(RENEWAL_PAUSE).await;
    }
}

fn is_ignored(number: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    is_ignored_by(&status, number)
}

fn is_ignored_by(status: &str, number: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    mask >> (number - 1) & 1 == 1
}

/// Ends the process.
fn end(by: By) -> ! {
    restore_terminal();
    let (exit, failure, output) = {
        let mut known = known();
        if let Some((path, original)) = &known.draft
            && fs::read_to_string(path).is_ok_and(|text| text == *original)
        {
            // Nothing was written yet.
            let _ = fs::remove_file(path);
            known.draft = None;
        }
        if let Some(path) = &known.partial {
            // It may be gone already.
            let _ = fs::remove_file(path);
        }
        match &known.ended {
            Some(Ok(())) => (0, None, known.output),
            Some(Err(failure)) => (failure.exit, Some(failure.clone()), known.output),
            None if known.is_following => (by.exit(), None, known.output),
            None => (by.exit(), Some(of(by, &known)), known.output),
        }
    };
    let (told, heard) = mpsc::channel::<()>();
    // In a thread of its own: whoever reads standard error may have stopped.
    thread::spawn(move || {
        if is_first_to_tell()
            && let Some(failure) = failure
        {
            clear_line();
            output.failure(&failure);
        }
        drop(told);
    });
    let _ = heard.recv_timeout(TELLING_MAX);
    process::exit(i32::from(exit))
}

/// Leaves a spinner's or a question's line.
fn clear_line() {
    let mut known = known();
    if let Some(bar) = known.bar.take() {
        bar.finish_and_clear();
    }
    if known.is_asking {
        let _ = writeln!(io::stderr());
    }
}

/// True for the first who asks: it tells how the command ended.
fn is_first_to_tell() -> bool {
    !IS_TOLD.swap(true, Ordering::SeqCst)
}

/// Before the end is told. If the command is being interrupted just now, that is its end.
pub(crate) fn before_the_end() {
    if !is_first_to_tell() {
        loop {
            thread::park();
        }
    }
}

/// What there is to tell.
fn of(by: By, known: &Known) -> Failure {
    let word = by.word();
    let unknown: Vec<Sent> = known
        .journals
        .iter()
        .flat_map(Journal::unanswered)
        .collect();
    let done: Vec<Done> = known.journals.iter().flat_map(Journal::done).collect();
    let done_count: usize = known.journals.iter().map(Journal::done_count).sum();
    let mut message = match &known.operation_id {
        Some(id) => format!("{word}: stopped waiting; operation {id} goes on"),
        None if !unknown.is_empty() => {
            format!("{word}: the request was sent, and may or may not have been carried out")
        }
        None if done_count > 0 => format!("{word}: what was done stays done"),
        None => format!("{word}: nothing was changed"),
    };
    for it in done.iter().take(TOLD_MAX) {
        message.push_str(&format!("\n  done: {}", of_done(it)));
    }
    let more = done_count - done.len().min(TOLD_MAX);
    if more > 0 {
        message.push_str(&format!("\n  done: {more} more"));
    }
    for sent in unknown.iter().take(TOLD_MAX) {
        message.push_str(&format!("\n  not known: {} {}", sent.method, sent.path));
    }
    let mut failure = Failure::new(by.exit(), word, message);
    failure.advice = advice(known, &unknown, &done);
    failure.with_details(json!({
        "done": done.iter().map(|it| json!({
            "request": request_of(&it.sent),
            "object": it.object,
            "operation_id": it.operation_id,
        })).collect::<Value>(),
        "unknown": unknown.iter().map(request_of).collect::<Value>(),
        "operation_id": known.operation_id,
        "idempotency_key": key_of(known),
    }))
}

fn of_done(done: &Done) -> String {
    let mut text = request_of(&done.sent);
    if let Some(object) = &done.object {
        text.push_str(&format!(", {}", safe::line(object)));
    }
    if let Some(id) = &done.operation_id {
        text.push_str(&format!(", operation {}", safe::line(id)));
    }
    text
}

fn request_of(sent: &Sent) -> String {
    format!("{} {}", sent.method, sent.path)
}

fn key_of(known: &Known) -> Option<&str> {
    match &known.again {
        Some(Again::WithKey(key)) => Some(key),
        _ => None,
    }
}

fn advice(known: &Known, unknown: &[Sent], done: &[Done]) -> Option<String> {
    let mut lines = Vec::new();
    if let Some(id) = &known.operation_id {
        lines.push(format!("look with `virtflow operation get {id}`, wait with `virtflow operation wait {id}`, give it up with `virtflow operation cancel {id}`"));
    } else if let Some(id) = done.iter().find_map(|it| it.operation_id.as_ref()) {
        lines.push(format!(
            "what was begun goes on: look with `virtflow operation get {id}`"
        ));
    }
    match &known.again {
        Some(Again::AsItIs) if !unknown.is_empty() || !done.is_empty() => {
            lines.push("repeat the command: what is done already is left as it is".into());
        }
        Some(Again::WithKey(key)) if !unknown.is_empty() => lines.push(format!(
            "look whether it happened, or repeat the same command with `--idempotency-key {key}`: it is carried out once"
        )),
        _ if !unknown.is_empty() => lines.push("look whether it happened".into()),
        _ => {}
    }
    if let Some((path, _)) = &known.draft {
        lines.push(format!("your text is kept in {}", path.display()));
    }
    (!lines.is_empty()).then(|| lines.join("\n  "))
}

/// In which form the end is told.
pub(crate) fn tells(output: Output) {
    known().output = output;
}

/// A client is asked from now on.
pub(crate) fn follows(journal: Journal) {
    known().journals.push(journal);
}

/// How the command is repeated.
pub(crate) fn repeats(again: Again) {
    known().again = Some(again);
}

/// The command goes on until it is ended.
pub(crate) fn goes_on() {
    known().is_following = true;
}

/// The command ended so; what is done after it does not count.
pub(crate) fn ended(done: &Result<(), Failure>) {
    known().ended = Some(done.clone());
}

/// A file that is removed if the command is interrupted, until it is whole or gone.
pub(crate) fn writes(path: Option<&Path>) {
    known().partial = path.map(Path::to_owned);
}

/// A person writes there, over this text; or nowhere any more.
pub(crate) fn keeps(draft: Option<(PathBuf, String)>) {
    known().draft = draft;
}

/// While it lives, an operation is waited for.
pub(crate) struct Waiting;

impl Waiting {
    pub(crate) fn begin(operation_id: &str, bar: Option<&ProgressBar>) -> Self {
        let mut known = known();
        known.operation_id = Some(safe::line(operation_id));
        known.bar = bar.cloned();
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut known = known();
        known.operation_id = None;
        known.bar = None;
    }
}

/// While it lives, Ctrl-C is for the editor.
pub(crate) struct Editing;

impl Editing {
    pub(crate) fn begin() -> Self {
        known().is_editing = true;
        Self
    }
}

impl Drop for Editing {
    /// A signal that came while the editor was there may not have been heard yet.
    fn drop(&mut self) {
        let left = known().left.clone();
        if let Some(left) = left {
            let (passed, wait) = mpsc::channel();
            if left.send(passed).is_ok() {
                let _ = wait.recv_timeout(TELLING_MAX);
            }
        }
        known().is_editing = false;
    }
}

/// While it lives, a question stands on the terminal's line.
pub(crate) struct Asking;

impl Asking {
    pub(crate) fn begin() -> Self {
        known().is_asking = true;
        Self
    }

    /// Likewise, on a terminal that does not show what is typed.
    pub(crate) fn hidden(terminal: File, before: Termios) -> Self {
        known().terminal = Some((terminal, before));
        Self::begin()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        restore_terminal();
        known().is_asking = false;
    }
}

fn restore_terminal() {
    if let Some((terminal, before)) = known().terminal.take() {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_whoever_started_us_ignores_stays_ignored() {
        let status = "Name:\tvirtflow\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001002\n";
        assert!(is_ignored_by(status, 2) && is_ignored_by(status, 13));
        assert!(!is_ignored_by(status, 15) && !is_ignored_by("", 2));
    }

    #[test]
    fn a_command_that_only_looked_changed_nothing() {
        for (by, exit, message) in [
            (By::Interrupt, 130, "interrupted: nothing was changed"),
            (By::Terminate, 143, "terminated: nothing was changed"),
        ] {
            let failure = of(by, &Known::new());
            assert_eq!((failure.exit, failure.message.as_str()), (exit, message));
            assert_eq!(failure.advice, None);
        }
    }

    #[test]
    fn a_wait_names_the_operation_and_a_draft_its_place() {
        let mut known = Known::new();
        known.operation_id = Some("o-1".into());
        known.draft = Some(("/tmp/mine.yaml".into(), String::new()));
        let failure = of(By::Interrupt, &known);
        assert_eq!(
            failure.message,
            "interrupted: stopped waiting; operation o-1 goes on"
        );
        let advice = failure.advice.unwrap();
        assert!(advice.contains("`virtflow operation get o-1`"), "{advice}");
        assert!(
            advice.contains("your text is kept in /tmp/mine.yaml"),
            "{advice}"
        );
        assert_eq!(failure.details.unwrap()["operation_id"], "o-1");
    }
}
