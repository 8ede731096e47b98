//! Waiting for an operation, with something to look at meanwhile.

use std::time::Duration;

use clap::ArgMatches;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use virtflow_client::{Call, Method, Waited};
use virtflow_model::Kind;
use virtflow_types::ErrorCode;

use crate::failure::{Failure, exit, exit_code};
use crate::interrupt::Waiting;
use crate::output::Output;
use crate::run::{Cluster, Run};
use crate::safe;

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// What the command line says about waiting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) wait: bool,
    pub(crate) timeout: Duration,
}

impl Patience {
    /// From `--wait` and `--timeout`.
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let timeout = matches.try_get_one::<Duration>("timeout").ok().flatten();
        Self {
            wait: matches!(matches.try_get_one::<bool>("wait"), Ok(Some(true))),
            timeout: timeout.copied().unwrap_or_default(),
        }
    }
}

/// Shows how far an operation is: a spinner for a person, a line at each change otherwise.
struct Progress {
    output: Output,
    run_is_quiet: bool,
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    fn new(run: &Run) -> Self {
        let bar = run.output.is_lively().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self {
            output: run.output,
            run_is_quiet: !run.output.format.is_for_people(),
            bar,
            last: String::new(),
        }
    }

    fn show(&mut self, operation: &Value) {
        let text = |pointer| {
            let found = operation.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let mut line = format!(
            "{} {}: {}",
            text("/spec/verb"),
            text("/spec/target_name"),
            text("/status/state")
        );
        let message = text("/status/message");
        if !message.is_empty() {
            line.push_str(&format!(", {message}"));
        }
        let line = safe::line(&line);
        if line == self.last {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(line.clone()),
            None if !self.run_is_quiet => self.output.warn(&line),
            None => {}
        }
        self.last = line;
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Waits for an operation; gives it as it ended well.
pub(crate) async fn until_done(
    run: &Run,
    cluster: &Cluster,
    operation: &Value,
    timeout: Duration,
) -> Result<Value, Failure> {
    let id = operation["id"]
        .as_str()
        .ok_or_else(|| Failure::local("the answer names an operation without an id"))?;
    let mut progress = Progress::new(run);
    progress.show(operation);
    let waiting = Waiting::begin(id, progress.bar.as_ref());
    let seen = |operation: &Value| progress.show(operation);
    let waited = cluster.client.wait(id, timeout, seen).await;
    drop(waiting);
    progress.end();
    match waited? {
        Waited::Completed(operation) => Ok(operation),
        Waited::Failed(operation) => Err(ended(&operation, false)),
        Waited::Blocked(operation) => {
            let failure = ended(&operation, true);
            Err(with_placement(cluster, &operation, failure).await)
        }
        Waited::TimedOut(operation) => Err(Failure::new(
            exit::TIMED_OUT,
            "timed_out",
            format!(
                "operation {id} is not finished after {} s; it goes on",
                timeout.as_secs()
            ),
        )
        .advise(format!("wait on with `virtflow operation wait {id}`"))
        .with_details(json!({ "operation": operation }))),
    }
}

/// Why an operation did not end well.
fn ended(operation: &Value, is_waiting: bool) -> Failure {
    let error = &operation["status"]["error"];
    let text = |value: &Value| {
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let code = serde_json::from_value::<ErrorCode>(error["code"].clone()).ok();
    let exit = match code {
        Some(code @ (ErrorCode::QuotaExceeded | ErrorCode::NoCapacity)) => exit_code(code),
        _ => exit::OPERATION_FAILED,
    };
    let word = code.map_or("operation_failed", ErrorCode::as_str);
    let state = text(&operation["status"]["state"]).unwrap_or_default();
    let message = text(&error["message"])
        .or_else(|| text(&operation["status"]["message"]))
        .unwrap_or_else(|| format!("the operation is {state}"));
    let mut failure = Failure::new(exit, word, message);
    failure.advice = text(&error["advice"]);
    if is_waiting && failure.advice.is_none() {
        failure.advice = Some(
            "it stays pending and is placed when there is room; delete it to give it up".into(),
        );
    }
    let mut details = match &error["details"] {
        // Figures travel as JSON in a text.
        Value::String(text) => {
            serde_json::from_str(text).unwrap_or_else(|_| json!({ "text": text }))
        }
        Value::Null => json!({}),
        other => other.clone(),
    };
    if let Value::Object(fields) = &mut details {
        fields.insert("operation".into(), operation.clone());
    }
    failure.with_details(details)
}

/// Adds, for a VM that nothing has room for, what each host said.
async fn with_placement(cluster: &Cluster, operation: &Value, mut failure: Failure) -> Failure {
    let spec = &operation["spec"];
    if spec["target_kind"] != Kind::VirtualMachine.name() {
        return failure;
    }
    let id = spec["target_id"].as_str().unwrap_or_default();
    let Ok(call) = Call::new(Method::Get, &["vms", id, "placement"]) else {
        return failure;
    };
    if let (Ok(answer), Some(details)) = (cluster.client.send(&call).await, &mut failure.details)
        && let Value::Object(details) = details.as_mut()
    {
        details.insert("placement".into(), answer.data);
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(state: &str, error: Value) -> Value {
        json!({"id": "o", "status": {"state": state, "message": "", "error": error}})
    }

    #[test]
    fn how_operations_end_badly() {
        let full = json!({"code": "no_capacity", "message": "h1 is short of memory", "details": "{\"hosts\":[]}"});
        let failure = ended(&operation("pending", full), true);
        assert_eq!(
            (failure.exit, failure.code),
            (exit::NO_CAPACITY, "no_capacity")
        );
        assert_eq!(failure.message, "h1 is short of memory");
        assert!(failure.advice.unwrap().contains("stays pending"));
        assert_eq!(failure.details.unwrap()["hosts"], json!([]));

        let quota = json!({"code": "quota_exceeded", "message": "m"});
        assert_eq!(ended(&operation("failed", quota), false).exit, exit::QUOTA);
        let other = json!({"code": "internal", "message": "libvirt said no"});
        let failure = ended(&operation("failed", other), false);
        assert_eq!(
            (failure.exit, failure.message.as_str()),
            (exit::OPERATION_FAILED, "libvirt said no")
        );
        let failure = ended(&operation("cancelled", Value::Null), false);
        assert_eq!(
            (failure.exit, failure.code),
            (exit::OPERATION_FAILED, "operation_failed")
        );
        assert_eq!(failure.message, "the operation is cancelled");
    }
}
