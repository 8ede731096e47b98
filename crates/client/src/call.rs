//! One request, before it is known who will answer it.

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use virtflow_types::{IDEMPOTENCY_KEY_BYTES_MAX, ObjectId};

/// How long one controller may take to answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest part of a path, in bytes. No name or id is that long.
const SEGMENT_BYTES_MAX: usize = 1024;
/// How much of a text that is refused is shown, in characters.
const SHOWN_MAX: usize = 80;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// Make, or a verb.
    Post,
    /// Replace.
    Put,
    /// Change.
    Patch,
    /// Remove.
    Delete,
}

impl Method {
    pub(crate) fn http(self) -> reqwest::Method {
        match self {
            Self::Get => reqwest::Method::GET,
            Self::Post => reqwest::Method::POST,
            Self::Put => reqwest::Method::PUT,
            Self::Patch => reqwest::Method::PATCH,
            Self::Delete => reqwest::Method::DELETE,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.http().as_str())
    }
}

/// A text that cannot stand in a path, shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names nothing: a name or an id is expected")]
pub struct PathError(String);

/// One request. The same call may be sent several times; see [`Call::is_repeatable`].
#[derive(Clone)]
pub struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Option<Value>,
    pub(crate) key: Option<String>,
    pub(crate) if_match: Option<u64>,
    pub(crate) timeout: Duration,
    pub(crate) is_question: bool,
}

/// Without its body, which may hold a password.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("query", &self.query)
            .finish_non_exhaustive()
    }
}

impl Call {
    /// A call of the path made of `segments` under `/api/v1`. An empty segment, or one that a URL
    /// would resolve as a folder, is refused: `DELETE /vms/` is not what anybody meant. So is
    /// one that is longer than any name.
    pub fn new(method: Method, segments: &[&str]) -> Result<Self, PathError> {
        let mut path = String::from("/api/v1");
        for segment in segments {
            if matches!(*segment, "" | "." | "..") || segment.len() > SEGMENT_BYTES_MAX {
                return Err(PathError(segment.chars().take(SHOWN_MAX).collect()));
            }
            path.push('/');
            encode(segment, &mut path);
        }
        Ok(Self {
            method,
            path,
            query: Vec::new(),
            body: None,
            key: None,
            if_match: None,
            timeout: ANSWER_TIMEOUT,
            is_question: false,
        })
    }

    /// Adds a parameter.
    #[must_use]
    pub fn query(mut self, key: &str, value: impl Into<String>) -> Self {
        self.query.push((key.to_owned(), value.into()));
        self
    }
    /// Adds a parameter if there is one.
    #[must_use]
    pub fn query_if(self, key: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }
    /// The body.
    #[must_use]
    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }
    /// The key that makes all sendings of this call one request.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
    /// A fresh key.
    #[must_use]
    pub fn once(self) -> Self {
        self.idempotency_key(ObjectId::generate().to_string())
    }
    /// Only if the object is still of this generation.
    #[must_use]
    pub fn if_match(mut self, generation: Option<u64>) -> Self {
        self.if_match = generation;
        self
    }
    /// How long one controller may take to answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Says that it changes nothing although it is no `GET`.
    #[must_use]
    pub fn question(mut self) -> Self {
        self.is_question = true;
        self
    }

    /// Path and query.
    pub(crate) fn target(&self) -> String {
        let mut target = self.path.clone();
        for (at, (key, value)) in self.query.iter().enumerate() {
            target.push(if at == 0 { '?' } else { '&' });
            encode(key, &mut target);
            target.push('=');
            encode(value, &mut target);
        }
        target
    }

    /// True if sending it again does no harm whatever became of the first time.
    pub fn is_repeatable(&self) -> bool {
        self.is_reading() || self.key.is_some()
    }

    /// True if it only asks.
    pub(crate) fn is_reading(&self) -> bool {
        self.method == Method::Get || self.is_question
    }

    /// True if it changes something where it is carried out.
    pub(crate) fn is_write(&self) -> bool {
        let is_trial = |(key, value): &(String, String)| key == "dry_run" && value == "true";
        !self.is_reading() && !self.query.iter().any(is_trial)
    }

    /// True if `key` may be an idempotency key.
    pub fn is_key(key: &str) -> bool {
        !key.is_empty()
            && key.len() <= IDEMPOTENCY_KEY_BYTES_MAX
            && key.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

/// Percent-encodes what is not unreserved.
fn encode(segment: &str, path: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(char::from(byte));
        } else {
            path.push('%');
            path.push(char::from(HEX[usize::from(byte >> 4)]));
            path.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_be_broken_out_of() {
        let call = Call::new(Method::Get, &["vms", "../users?x#y z/ü"]).unwrap();
        assert_eq!(call.path, "/api/v1/vms/..%2Fusers%3Fx%23y%20z%2F%C3%BC");
        let long = "x".repeat(1025);
        for bad in ["", ".", "..", &long] {
            let refused = Call::new(Method::Delete, &["vms", bad]).unwrap_err();
            assert!(refused.to_string().len() < 200, "{refused}");
        }
        assert!(Call::new(Method::Get, &["vms", &long[1..]]).is_ok());
    }

    #[test]
    fn parameters_cannot_be_broken_out_of() {
        let call = Call::new(Method::Get, &["vms"]).unwrap();
        assert_eq!(call.target(), "/api/v1/vms");
        let call = call.query("label", "a=b&c d").query_if("x", None::<String>);
        assert_eq!(
            call.query("limit", "7").target(),
            "/api/v1/vms?label=a%3Db%26c%20d&limit=7"
        );
    }

    #[test]
    fn a_call_is_shown_without_its_body() {
        let call = Call::new(Method::Post, &["auth", "login"]).unwrap();
        let shown = format!("{:?}", call.body(serde_json::json!({"password": "hush"})));
        assert!(
            shown.contains("/api/v1/auth/login") && !shown.contains("hush"),
            "{shown}"
        );
    }

    #[test]
    fn what_may_be_repeated() {
        let write = Call::new(Method::Post, &["vms"]).unwrap();
        assert!(!write.is_repeatable());
        assert!(write.clone().question().is_repeatable());
        assert!(write.once().is_repeatable());
        assert!(Call::new(Method::Get, &["vms"]).unwrap().is_repeatable());
    }

    #[test]
    fn keys() {
        assert!(Call::is_key("order-4711"));
        assert!(Call::is_key(&"k".repeat(IDEMPOTENCY_KEY_BYTES_MAX)));
        for bad in [
            "",
            "a b",
            "a\nb",
            "ü",
            &"k".repeat(IDEMPOTENCY_KEY_BYTES_MAX + 1),
        ] {
            assert!(!Call::is_key(bad), "{bad:?}");
        }
    }
}
