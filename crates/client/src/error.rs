//! Why there is no answer, or none that was hoped for.

use std::fmt;

use serde_json::Value;
use virtflow_types::{ErrorCode, FieldProblem};

use crate::{Endpoint, PathError, TrustError};

/// What a controller said instead of doing it.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// For programs.
    pub code: ErrorCode,
    /// What was tried and why it was refused.
    pub message: String,
    /// What to do now.
    pub advice: Option<String>,
    /// The fields at fault.
    pub fields: Vec<FieldProblem>,
    /// Figures for programs.
    pub details: Option<Value>,
    /// Names the request in the controllers' logs and audit.
    pub request_id: Option<String>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// One controller that did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Who.
    pub endpoint: Endpoint,
    /// Why not.
    pub problem: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.problem)
    }
}

/// Why a call has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A controller refused it, or could not do it.
    #[error("{0}")]
    Api(Box<ApiError>),
    /// No controller was reached; nothing was done.
    #[error("no controller can be reached ({})", attempts(.tried))]
    Unreachable {
        /// Those of the last round.
        tried: Vec<Attempt>,
    },
    /// Whoever was reached is no controller of this cluster; nothing was done.
    #[error("no controller of this cluster is there ({})", attempts(.tried))]
    Strangers {
        /// Each with what it showed or said.
        tried: Vec<Attempt>,
    },
    /// It was sent and no answer came: it may have been carried out.
    #[error("the request was sent, but its outcome is not known ({problem})")]
    OutcomeUnknown {
        /// What came instead of an answer.
        problem: String,
        /// Repeating the request with this key gives the outcome.
        key: Option<String>,
    },
    /// An answer that is none of VirtFlow's.
    #[error("{endpoint} answered with something that is no VirtFlow answer: {problem}")]
    Protocol {
        /// Who.
        endpoint: Endpoint,
        /// What is wrong with it.
        problem: String,
    },
    /// The session could not be read, renewed or kept.
    #[error("the session cannot be kept: {0}")]
    Session(String),
    /// The TLS configuration could not be made.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The CA is not accepted.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No path can be made of it.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl ClientError {
    /// What kind of failure it is, in the API's own words.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Api(error) => error.code,
            Self::Unreachable { .. }
            | Self::Strangers { .. }
            | Self::Trust(TrustError::Unreachable { .. }) => ErrorCode::Unavailable,
            Self::OutcomeUnknown { .. } => ErrorCode::OutcomeUnknown,
            Self::Path(_) | Self::Trust(_) => ErrorCode::Invalid,
            Self::Session(_) => ErrorCode::Unauthenticated,
            Self::Protocol { .. } | Self::Tls(_) => ErrorCode::Internal,
        }
    }
}

fn attempts(tried: &[Attempt]) -> String {
    if tried.is_empty() {
        return "none is known".to_owned();
    }
    let texts: Vec<String> = tried.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// An error with all its causes, each said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
