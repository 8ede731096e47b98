//! The envelope that every answer has.

use serde::Deserialize;
use serde_json::Value;
use virtflow_types::{ErrorCode, FieldProblem};

use crate::{ApiError, ClientError, Endpoint};

/// Largest answer that is read, in bytes: a full page of the largest objects.
pub const RESPONSE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a controller answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// HTTP status, 200 to 299.
    pub status: u16,
    /// The data; `Null` if there is none.
    pub data: Value,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
    /// The applied index the answer is as of.
    pub index: Option<u64>,
    /// True if the request had been carried out before, under the same key.
    pub replayed: bool,
    /// True if it was a trial: nothing was done.
    pub tried: bool,
}

/// Rows from one or several pages.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listed {
    /// The rows.
    pub rows: Vec<Value>,
    /// True if there are more.
    pub more: bool,
}

#[derive(Debug, Deserialize)]
struct Envelope {
    #[serde(default)]
    meta: Meta,
    #[serde(default, deserialize_with = "some")]
    data: Option<Value>,
    #[serde(default)]
    error: Option<Refusal>,
}

/// `null` is data, too; what is missing is none.
fn some<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Debug, Default, Deserialize)]
struct Meta {
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    next_cursor: Option<String>,
    #[serde(default)]
    replayed: bool,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    /// As text: a newer controller may know more codes than this client.
    code: String,
    message: String,
    #[serde(default)]
    advice: Option<String>,
    #[serde(default)]
    fields: Vec<FieldProblem>,
    #[serde(default)]
    details: Option<Value>,
}

/// Reads an answer. An error that the controller sent is `Err(ClientError::Api)`.
pub(crate) fn read(endpoint: &Endpoint, status: u16, body: &[u8]) -> Result<Answer, ClientError> {
    let succeeded = (200..300).contains(&status);
    if status == 204 {
        return Ok(Answer {
            status,
            ..Answer::default()
        });
    }
    let protocol = |problem: String| ClientError::Protocol {
        endpoint: endpoint.clone(),
        problem,
    };
    let envelope: Envelope = serde_json::from_slice(body)
        .map_err(|error| protocol(format!("status {status} with a body that is {error}")))?;
    match (succeeded, envelope.data, envelope.error) {
        (true, Some(data), None) => Ok(Answer {
            status,
            data,
            next_cursor: envelope.meta.next_cursor,
            index: envelope.meta.index,
            replayed: envelope.meta.replayed,
            tried: envelope.meta.dry_run,
        }),
        (false, _, Some(refusal)) => Err(ClientError::Api(Box::new(ApiError {
            status,
            code: code_of(&refusal.code),
            message: refusal.message,
            advice: refusal.advice,
            fields: refusal.fields,
            details: refusal.details,
            request_id: envelope.meta.request_id,
        }))),
        _ => Err(protocol(format!("status {status} does not fit the body"))),
    }
}

fn code_of(word: &str) -> ErrorCode {
    serde_json::from_value(Value::String(word.to_owned())).unwrap_or(ErrorCode::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(status: u16, body: &str) -> Result<Answer, ClientError> {
        read(&"https://c1:8443".parse().unwrap(), status, body.as_bytes())
    }

    #[test]
    fn success() {
        let body = r#"{"meta":{"request_id":"r","index":7,"controller":"c1","next_cursor":"n","replayed":true},"status":"ok","data":[1]}"#;
        let answer = read_text(200, body).unwrap();
        assert_eq!(answer.data, serde_json::json!([1]));
        assert_eq!(answer.index, Some(7));
        assert_eq!(answer.next_cursor.as_deref(), Some("n"));
        assert!(answer.replayed);
        assert_eq!(read_text(204, "").unwrap().data, Value::Null);
    }

    #[test]
    fn refusal_with_figures() {
        let body = r#"{"meta":{"request_id":"r"},"status":"error","error":{"code":"quota_exceeded","message":"m","fields":[],"details":{"limit":7}}}"#;
        let Err(ClientError::Api(error)) = read_text(422, body) else {
            panic!("no refusal");
        };
        assert_eq!(error.code, ErrorCode::QuotaExceeded);
        assert_eq!(error.details, Some(serde_json::json!({"limit": 7})));
        assert_eq!(error.request_id.as_deref(), Some("r"));
    }

    #[test]
    fn codes_of_the_future_and_strangers() {
        let body = r#"{"error":{"code":"moon_phase","message":"m"}}"#;
        assert_eq!(
            read_text(400, body).unwrap_err().code(),
            ErrorCode::Internal
        );
        for (status, body) in [
            (200, "<html>"),
            (200, ""),
            (200, "{}"),
            (200, "{\"meta\":{}}"),
            (200, "[1]"),
            (200, "{\"data\":1} tail"),
            (200, "{\"data\":"),
            (302, ""),
            (404, "<html>"),
            (502, "<html>"),
            (500, "{}"),
            (500, ""),
        ] {
            let error = read_text(status, body).unwrap_err();
            assert!(matches!(error, ClientError::Protocol { .. }), "{body}");
        }
    }
}
