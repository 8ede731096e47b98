//! How a command ends when it does not succeed: a message, advice, and an exit code.

use serde_json::{Map, Value, json};
use virtflow_client::{ClientError, PathError};
use virtflow_types::{ErrorCode, FieldProblem};

/// Exit codes, documented in `virtflow help`.
pub(crate) mod exit {
    /// Anything that has no code of its own.
    pub(crate) const FAILURE: u8 = 1;
    /// The command line, or a value in it.
    pub(crate) const USAGE: u8 = 2;
    /// Not logged in, or not allowed.
    pub(crate) const DENIED: u8 = 3;
    /// No such object.
    pub(crate) const NOT_FOUND: u8 = 4;
    /// It exists, is in use, or was changed meanwhile.
    pub(crate) const CONFLICT: u8 = 5;
    /// A quota would be exceeded.
    pub(crate) const QUOTA: u8 = 6;
    /// No host has room.
    pub(crate) const NO_CAPACITY: u8 = 7;
    /// No controller, no leader, or too many requests: nothing was done.
    pub(crate) const UNAVAILABLE: u8 = 8;
    /// It may have been done.
    pub(crate) const UNKNOWN: u8 = 9;
    /// The operation failed or was cancelled.
    pub(crate) const OPERATION_FAILED: u8 = 10;
    /// The operation goes on, the wait is over.
    pub(crate) const TIMED_OUT: u8 = 11;
    /// `doctor` found something, or the audit's chain is broken.
    pub(crate) const FOUND: u8 = 12;
    /// Ctrl-C.
    pub(crate) const INTERRUPTED: u8 = 130;
    /// SIGTERM.
    pub(crate) const TERMINATED: u8 = 143;
}

/// The exit code of each error of the API: the one place where they are mapped.
pub(crate) fn exit_code(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::Invalid => exit::USAGE,
        ErrorCode::Unauthenticated | ErrorCode::Forbidden => exit::DENIED,
        ErrorCode::NotFound => exit::NOT_FOUND,
        ErrorCode::AlreadyExists
        | ErrorCode::Conflict
        | ErrorCode::PreconditionFailed
        | ErrorCode::Expired
        | ErrorCode::InUse => exit::CONFLICT,
        ErrorCode::QuotaExceeded => exit::QUOTA,
        ErrorCode::NoCapacity => exit::NO_CAPACITY,
        ErrorCode::LimitExceeded | ErrorCode::Unavailable => exit::UNAVAILABLE,
        ErrorCode::OutcomeUnknown => exit::UNKNOWN,
        ErrorCode::Internal => exit::FAILURE,
    }
}

/// A command that did not succeed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    /// Exit code of the process.
    pub(crate) exit: u8,
    /// One word for programs: the API's, or one of ours.
    pub(crate) code: &'static str,
    /// What was tried and why it was not done.
    pub(crate) message: String,
    /// What to do now.
    pub(crate) advice: Option<String>,
    /// The fields at fault.
    pub(crate) fields: Box<[FieldProblem]>,
    /// Figures for programs.
    pub(crate) details: Option<Box<Value>>,
    /// Names the request in logs and audit.
    pub(crate) request_id: Option<String>,
}

impl Failure {
    /// With an exit code and a word.
    pub(crate) fn new(exit: u8, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code,
            message: message.into(),
            advice: None,
            fields: Box::default(),
            details: None,
            request_id: None,
        }
    }
    /// The command line is wrong in a way that its grammar does not catch.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(exit::USAGE, "usage", message)
    }
    /// Something on this machine is in the way.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::new(exit::FAILURE, "local", message)
    }
    /// What to do now.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
    /// Adds figures.
    pub(crate) fn with_details(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("code".into(), self.code.into());
        object.insert("message".into(), self.message.clone().into());
        if let Some(advice) = &self.advice {
            object.insert("advice".into(), advice.clone().into());
        }
        if !self.fields.is_empty() {
            let fields = self.fields.iter();
            let fields =
                fields.map(|field| json!({"field": field.field, "problem": field.problem}));
            object.insert("fields".into(), fields.collect());
        }
        if let Some(details) = &self.details {
            object.insert("details".into(), Value::clone(details));
        }
        if let Some(request_id) = &self.request_id {
            object.insert("request_id".into(), request_id.clone().into());
        }
        object.insert("exit_code".into(), self.exit.into());
        Value::Object(object)
    }

    /// For people, in several lines without the last line break.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("error: {}", self.message);
        // A single field's problem is the message itself.
        if self.fields.len() > 1 {
            for field in &self.fields {
                text.push_str(&format!("\n  {}: {}", field.field, field.problem));
            }
        }
        if let Some(advice) = &self.advice {
            text.push_str(&format!("\n  {advice}"));
        }
        if let Some(request_id) = &self.request_id {
            text.push_str(&format!("\n  request {request_id}"));
        }
        text
    }
}

impl From<PathError> for Failure {
    fn from(error: PathError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = error.code();
        let mut failure = Self::new(exit_code(code), code.as_str(), describe(&error));
        failure.advice = advice(&error);
        match error {
            ClientError::Api(error) => {
                failure.advice = error.advice.or(failure.advice);
                failure.fields = error.fields.into();
                failure.details = error.details.map(Box::new);
                failure.request_id = error.request_id;
            }
            ClientError::OutcomeUnknown { key: Some(key), .. } => {
                failure.details = Some(Box::new(json!({ "idempotency_key": key })));
            }
            _ => {}
        }
        failure
    }
}

/// The error with its causes.
fn describe(error: &ClientError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        next = cause.source();
    }
    text
}

fn advice(error: &ClientError) -> Option<String> {
    let text = match error {
        ClientError::Api(error) if error.code == ErrorCode::Unauthenticated => {
            "log in again with `virtflow login`, or check the token".to_owned()
        }
        ClientError::Strangers { .. } => {
            "check the addresses, and that the context is of this cluster: `virtflow context show`; after a new \
             CA, log in again"
                .to_owned()
        }
        ClientError::Protocol { .. } => {
            "check the address: `virtflow context show`; if it is a controller's, it may be of another release"
                .to_owned()
        }
        ClientError::Unreachable { .. } => {
            "check the network and that controllers run; `virtflow context show` tells which \
             endpoints are known"
                .to_owned()
        }
        ClientError::OutcomeUnknown { key: Some(key), .. } => format!(
            "look whether it happened, or repeat the same command with `--idempotency-key {key}`: \
             it is carried out once"
        ),
        ClientError::OutcomeUnknown { key: None, .. } => "look whether it happened".to_owned(),
        ClientError::Session(_) => "log in again with `virtflow login`".to_owned(),
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The catalogue tells of each error under which status and exit code it comes.
    #[test]
    fn every_error_has_its_exit_code() {
        let catalogue = include_str!("../../../docs/errors.md");
        for (code, expected) in [
            (ErrorCode::Invalid, 2),
            (ErrorCode::Unauthenticated, 3),
            (ErrorCode::Forbidden, 3),
            (ErrorCode::NotFound, 4),
            (ErrorCode::AlreadyExists, 5),
            (ErrorCode::Conflict, 5),
            (ErrorCode::PreconditionFailed, 5),
            (ErrorCode::InUse, 5),
            (ErrorCode::Expired, 5),
            (ErrorCode::QuotaExceeded, 6),
            (ErrorCode::NoCapacity, 7),
            (ErrorCode::LimitExceeded, 8),
            (ErrorCode::Unavailable, 8),
            (ErrorCode::OutcomeUnknown, 9),
            (ErrorCode::Internal, 1),
        ] {
            assert_eq!(exit_code(code), expected, "{code:?}");
            let row = format!(
                "| `{}` | {} | {expected} |",
                code.as_str(),
                code.http_status()
            );
            assert!(catalogue.contains(&row), "docs/errors.md lacks {row}");
        }
    }

    #[test]
    fn text_and_json() {
        let mut failure = Failure::new(6, "quota_exceeded", "tenant `acme` is full")
            .advise("ask for more")
            .with_details(json!({"limit": 7}));
        failure.request_id = Some("r-1".into());
        assert_eq!(
            failure.to_text(),
            "error: tenant `acme` is full\n  ask for more\n  request r-1"
        );
        assert_eq!(
            failure.to_json(),
            json!({
                "code": "quota_exceeded",
                "message": "tenant `acme` is full",
                "advice": "ask for more",
                "details": {"limit": 7},
                "request_id": "r-1",
                "exit_code": 6,
            })
        );
    }

    #[test]
    fn an_unknown_outcome_names_the_key() {
        let failure = Failure::from(ClientError::OutcomeUnknown {
            problem: "no answer in time".into(),
            key: Some("k-1".into()),
        });
        assert_eq!(failure.exit, exit::UNKNOWN);
        assert!(failure.to_text().contains("--idempotency-key k-1"));
        assert_eq!(failure.to_json()["details"]["idempotency_key"], "k-1");
    }
}
