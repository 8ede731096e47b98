//! The one error that leaves VirtFlow, and what it means to programs.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of failure it is: a variant exists only if a caller acts on it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, PartialOrd, Ord,
)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is malformed or a field is wrong.
    Invalid,
    /// No credentials, or credentials that are not valid (any more).
    Unauthenticated,
    /// The subject may see the object but not do this to it.
    Forbidden,
    /// No such object, or none that the subject may see.
    NotFound,
    /// A unique name, address or number is taken.
    AlreadyExists,
    /// The object changed meanwhile, or its state does not allow this now.
    Conflict,
    /// `If-Match` named another generation.
    PreconditionFailed,
    /// Something still needs the object.
    InUse,
    /// What was to be gone on from is not kept any more: begin anew.
    Expired,
    /// A quota would be exceeded.
    QuotaExceeded,
    /// No host has room.
    NoCapacity,
    /// Too many requests, or too large.
    LimitExceeded,
    /// No leader, no quorum, or shutting down; nothing was done; try again.
    Unavailable,
    /// It may or may not have happened; repeat with the same idempotency key, or look.
    OutcomeUnknown,
    /// A bug or a broken part of ours.
    Internal,
}

impl ErrorCode {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::PreconditionFailed,
        Self::InUse,
        Self::Expired,
        Self::QuotaExceeded,
        Self::NoCapacity,
        Self::LimitExceeded,
        Self::Unavailable,
        Self::OutcomeUnknown,
        Self::Internal,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::PreconditionFailed => "precondition_failed",
            Self::InUse => "in_use",
            Self::Expired => "expired",
            Self::QuotaExceeded => "quota_exceeded",
            Self::NoCapacity => "no_capacity",
            Self::LimitExceeded => "limit_exceeded",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status that carries it.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Conflict | Self::InUse | Self::NoCapacity => 409,
            Self::Expired => 410,
            Self::PreconditionFailed => 412,
            Self::QuotaExceeded => 422,
            Self::LimitExceeded => 429,
            Self::Internal => 500,
            Self::Unavailable | Self::OutcomeUnknown => 503,
        }
    }
}

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldProblem {
    /// Path of the field, `spec.memory_mib`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The one error that leaves VirtFlow: what was tried, on what, why not, and what to do now.
///
/// Written for the caller; internal causes are logged where they are handled, not carried here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Error {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what was tried and why it was refused.
    pub message: String,
    /// What the caller can do now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The fields at fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldProblem>,
    /// Figures for programs: limit, used, asked, level …; a JSON object as text, `None` if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

impl Error {
    /// An error with its code and message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            advice: None,
            fields: Vec::new(),
            details: None,
        }
    }
    /// One wrong field.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        let (field, problem) = (field.into(), problem.into());
        let mut error = Self::new(ErrorCode::Invalid, format!("`{field}`: {problem}"));
        error.fields.push(FieldProblem { field, problem });
        error
    }
    /// No such object, or none the caller may see: the two read the same.
    pub fn not_found(kind: &str, what: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("no {kind} `{what}`"))
    }
    /// Adds what to do now.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
    /// Adds figures: a JSON object as text.
    #[must_use]
    pub fn with_details(mut self, json: impl Into<String>) -> Self {
        self.details = Some(json.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(advice) = &self.advice {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}
impl std::error::Error for Error {}
