//! Every answer has one form: `meta`, `status`, and `data` or `error`. It is written here and nowhere
//! else; handlers return an [`Answer`] or a [`Failure`] and know nothing of HTTP bodies.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use virtflow_raft::DecideError;
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId};

/// Carries the request id in requests between controllers and in every answer.
pub(crate) const REQUEST_ID_HEADER: &str = "x-request-id";
/// Seconds a client is asked to wait when a controller has no leader: an election takes about as long.
const RETRY_AFTER_S: u64 = 1;

/// What a handler answers.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: StatusCode,
    index: u64,
    data: Data,
    next_cursor: Option<String>,
    tag: Option<(ObjectId, u64)>,
    location: Option<String>,
    replayed: bool,
    tried: bool,
    document: Option<Cow<'static, str>>,
}

/// What is answered.
#[derive(Debug, Clone)]
enum Data {
    Value(Value),
    /// JSON that goes out as it is.
    Text(String),
}

impl Answer {
    /// `200` with data as of an applied index.
    pub(crate) fn ok(index: u64, data: Value) -> Self {
        Self::of(index, Data::Value(data))
    }
    /// The same with data that is JSON already.
    pub(crate) fn written(index: u64, json: String) -> Self {
        Self::of(index, Data::Text(json))
    }
    fn of(index: u64, data: Data) -> Self {
        Self {
            status: StatusCode::OK,
            index,
            data,
            next_cursor: None,
            tag: None,
            location: None,
            replayed: false,
            tried: false,
            document: None,
        }
    }
    /// What would be answered if it were not a trial: nothing was made, so nothing is anywhere.
    pub(crate) fn tried(self) -> Self {
        Self {
            status: StatusCode::OK,
            location: None,
            tag: None,
            tried: true,
            ..self
        }
    }
    /// The same if it was one.
    pub(crate) fn tried_if(self, is_tried: bool) -> Self {
        if is_tried { self.tried() } else { self }
    }
    /// A document with a form of its own, which the programs it is for expect without an envelope.
    pub(crate) fn document(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            document: Some(text.into()),
            ..Self::ok(0, Value::Null)
        }
    }
    /// Another status of success.
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
    /// Where the next page begins.
    pub(crate) fn next(mut self, cursor: Option<String>) -> Self {
        self.next_cursor = cursor;
        self
    }
    /// The object and its generation, which `ETag` carries: that of one object is never that of another.
    pub(crate) fn etag(mut self, object: ObjectId, generation: u64) -> Self {
        self.tag = Some((object, generation));
        self
    }
    /// Where what was made is found.
    pub(crate) fn location(mut self, path: String) -> Self {
        self.location = Some(path);
        self
    }
    /// The answer as one of many in another: the index it is as new as, and the rest.
    pub(crate) fn item(self) -> (u64, Value) {
        let mut item = Map::new();
        item.insert("status".into(), self.status.as_u16().into());
        if self.replayed {
            item.insert("replayed".into(), true.into());
        }
        let data = match self.data {
            Data::Value(data) => data,
            // Only what was written as JSON gets here.
            Data::Text(json) => serde_json::from_str(&json).unwrap_or_default(),
        };
        item.insert("data".into(), data);
        (self.index, item.into())
    }
    /// The recorded answer to a repeated idempotency key.
    pub(crate) fn replayed(mut self) -> Self {
        self.replayed = true;
        self
    }
}

/// Why a handler has no answer.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// An error for the caller, under the status of its code or another one.
    Error(Box<Error>, Option<StatusCode>),
    /// An error that is over by itself after a time, as far as can be told.
    Later(Box<Error>, Duration),
    /// This controller does not lead: nothing was done, pass the request on.
    NotLeader,
    /// The path takes other methods: these, as `Allow` lists them.
    Method(HeaderValue),
}

impl Failure {
    /// An error whose HTTP status is more precise than its code's.
    pub(crate) fn with_status(status: StatusCode, error: Error) -> Self {
        Self::Error(Box::new(error), Some(status))
    }
    /// An error that is over by itself after `wait`.
    pub(crate) fn later(error: Error, wait: Duration) -> Self {
        Self::Later(Box::new(error), wait)
    }
    /// Whole seconds after which the same may be asked again; nothing where time alone changes nothing, or nobody
    /// knows.
    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Later(_, wait) => {
                let begun = u64::from(wait.subsec_nanos() > 0);
                Some(wait.as_secs().saturating_add(begun).max(1))
            }
            Self::NotLeader => Some(RETRY_AFTER_S),
            Self::Error(error, _) => {
                (error.code == ErrorCode::Unavailable).then_some(RETRY_AFTER_S)
            }
            Self::Method(_) => None,
        }
    }
    /// The failure as one of many outcomes in an answer.
    pub(crate) fn item(self) -> Value {
        let (error, status) = self.into_error();
        let status = status.map_or(error.code.http_status(), |status| status.as_u16());
        json!({"status": status, "error": told(error)})
    }
    /// What the caller is told.
    fn into_error(self) -> (Error, Option<StatusCode>) {
        match self {
            Self::Error(error, status) => (*error, status),
            Self::Later(error, _) => (*error, None),
            Self::NotLeader => (no_leader(), None),
            Self::Method(allowed) => {
                let allowed = allowed.to_str().unwrap_or_default().replace(',', ", ");
                let error = Error::new(ErrorCode::Invalid, "this path does not take that method")
                    .advise(format!("it takes {allowed}"));
                (error, Some(StatusCode::METHOD_NOT_ALLOWED))
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(Box::new(error), None)
    }
}

/// `Conflict`, the state's own refusal, needs names to be put in words and is mapped where the state
/// is at hand; what arrives here is already in words.
impl From<DecideError> for Failure {
    fn from(error: DecideError) -> Self {
        match error {
            DecideError::NotLeader { .. } => Self::NotLeader,
            DecideError::Refused(error) => error.into(),
            other => other.to_error().into(),
        }
    }
}

/// No controller leads at the moment.
pub(crate) fn no_leader() -> Error {
    Error::new(
        ErrorCode::Unavailable,
        "no controller leads at the moment; nothing was done",
    )
    .advise(
        "try again in a moment; if it lasts, look at `virtflow status` and the controllers' logs",
    )
}

/// A handler's outcome on its way to [`seal`].
#[derive(Debug, Clone)]
pub(crate) struct Outcome(pub(crate) Result<Answer, Failure>);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        carry(Outcome(Ok(self)))
    }
}
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        carry(Outcome(Err(self)))
    }
}
fn carry(outcome: Outcome) -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(outcome);
    response
}

/// Who answers which request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seal<'a> {
    /// The request.
    pub(crate) request_id: RequestId,
    /// Name of this controller.
    pub(crate) controller: &'a str,
}

/// The outcome that a handler, or the router itself, put in a response.
pub(crate) fn outcome_of(response: &mut Response) -> Result<Answer, Failure> {
    match response.extensions_mut().remove::<Outcome>() {
        Some(Outcome(outcome)) => outcome,
        None => Err(match response.headers_mut().remove(header::ALLOW) {
            Some(allowed) => Failure::Method(allowed),
            None => router_refusal(response.status()),
        }),
    }
}

/// A refusal by the router or an extractor, in our words.
fn router_refusal(status: StatusCode) -> Failure {
    let error = match status {
        StatusCode::NOT_FOUND => Error::new(ErrorCode::NotFound, "no such path")
            .advise("paths begin with /api/v1; see `GET /api/v1`"),
        StatusCode::METHOD_NOT_ALLOWED => {
            Error::new(ErrorCode::Invalid, "this path does not take that method")
        }
        StatusCode::BAD_REQUEST => Error::new(ErrorCode::Invalid, "the path is malformed"),
        other => Error::new(
            ErrorCode::Internal,
            format!("the request ended with {other} and no explanation"),
        ),
    };
    Failure::with_status(status, error)
}

/// Writes the response.
pub(crate) fn seal(outcome: Result<Answer, Failure>, by: Seal<'_>) -> Response {
    let mut headers = HeaderMap::new();
    let (status, body) = match outcome {
        Ok(Answer {
            document: Some(text),
            status,
            ..
        }) => (status, Body::from(text)),
        Ok(answer) => {
            let (status, body) = success(answer, by, &mut headers);
            (status, Body::from(body))
        }
        Err(failure) => {
            let (status, body) = refusal(failure, by, &mut headers);
            (status, Body::from(body.to_string()))
        }
    };
    set(&mut headers, REQUEST_ID_HEADER, &by.request_id.to_string());
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A stream, which has no envelope, under the request's id.
pub(crate) fn announced(mut stream: Response, by: Seal<'_>) -> Response {
    let headers = stream.headers_mut();
    set(headers, REQUEST_ID_HEADER, &by.request_id.to_string());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    stream
}

fn success(answer: Answer, by: Seal<'_>, headers: &mut HeaderMap) -> (StatusCode, String) {
    let mut meta = meta(by);
    meta.insert("index".into(), answer.index.into());
    if let Some(cursor) = answer.next_cursor {
        meta.insert("next_cursor".into(), cursor.into());
    }
    if answer.tried {
        meta.insert("dry_run".into(), true.into());
    }
    if answer.replayed {
        meta.insert("replayed".into(), true.into());
    }
    if let Some((object, generation)) = answer.tag {
        set(headers, "etag", &format!("\"{object}.{generation}\""));
    }
    if let Some(location) = answer.location {
        set(headers, "location", &location);
    }
    let word = if answer.status == StatusCode::ACCEPTED {
        "accepted"
    } else {
        "ok"
    };
    let data = match answer.data {
        Data::Value(data) => data.to_string(),
        Data::Text(json) => json,
    };
    let meta = Value::from(meta);
    let body = format!("{{\"data\":{data},\"meta\":{meta},\"status\":\"{word}\"}}");
    (answer.status, body)
}

/// The one place where an error becomes an HTTP answer. It names no index: what one may not see must
/// read like what is not there, also while others write.
fn refusal(failure: Failure, by: Seal<'_>, headers: &mut HeaderMap) -> (StatusCode, Value) {
    if let Failure::Method(allowed) = &failure {
        headers.insert(header::ALLOW, allowed.clone());
    }
    if let Some(seconds) = failure.retry_after_s() {
        set(headers, "retry-after", &seconds.to_string());
    }
    let (error, status) = failure.into_error();
    let status = status
        .or_else(|| StatusCode::from_u16(error.code.http_status()).ok())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if error.code == ErrorCode::Unauthenticated {
        set(headers, "www-authenticate", "Bearer");
    }
    let body = json!({"meta": meta(by), "status": "error", "error": told(error)});
    (status, body)
}

/// An error in an answer.
fn told(error: Error) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("code".into(), error.code.as_str().into());
    body.insert("message".into(), error.message.into());
    if let Some(advice) = error.advice {
        body.insert("advice".into(), advice.into());
    }
    let fields: Vec<Value> = error
        .fields
        .into_iter()
        .map(|field| json!({"field": field.field, "problem": field.problem}))
        .collect();
    body.insert("fields".into(), fields.into());
    let details = error
        .details
        .and_then(|text| serde_json::from_str::<Value>(&text).ok());
    if let Some(details) = details {
        body.insert("details".into(), details);
    }
    body
}

fn meta(by: Seal<'_>) -> Map<String, Value> {
    let mut meta = Map::new();
    meta.insert("request_id".into(), by.request_id.to_string().into());
    meta.insert("controller".into(), by.controller.into());
    meta
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    const BY: Seal<'_> = Seal {
        request_id: RequestId::from_u128(5),
        controller: "c1",
    };

    async fn read(outcome: Result<Answer, Failure>) -> (StatusCode, HeaderMap, Value) {
        let response = seal(outcome, BY);
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (
            head.status,
            head.headers,
            serde_json::from_slice(&bytes).unwrap(),
        )
    }

    #[tokio::test]
    async fn success_carries_index_cursor_and_etag() {
        let answer = Answer::ok(42, json!([1]))
            .next(Some("c".into()))
            .etag(ObjectId::from_u128(9), 7);
        let (status, headers, body) = read(Ok(answer)).await;
        assert_eq!(status, 200);
        let tag = "\"00000000-0000-0000-0000-000000000009.7\"";
        assert_eq!(headers["etag"], tag);
        assert_eq!(
            headers["x-request-id"],
            "00000000-0000-0000-0000-000000000005"
        );
        assert_eq!(
            body,
            json!({"meta": {"request_id": "00000000-0000-0000-0000-000000000005",
                "controller": "c1", "index": 42, "next_cursor": "c"},
                "status": "ok", "data": [1]})
        );
    }

    #[tokio::test]
    async fn an_error_carries_what_to_do_and_no_index() {
        let error = Error::invalid("spec.cpu_cores", "must be 1 to 1024, not 0")
            .advise("ask for less")
            .with_details(r#"{"limit":1024}"#);
        let (status, _, body) = read(Err(error.into())).await;
        assert_eq!(status, 400);
        assert_eq!(
            body["error"],
            json!({"code": "invalid",
                "message": "`spec.cpu_cores`: must be 1 to 1024, not 0",
                "advice": "ask for less",
                "fields": [{"field": "spec.cpu_cores", "problem": "must be 1 to 1024, not 0"}],
                "details": {"limit": 1024}})
        );
        assert_eq!(body["meta"].get("index"), None);
    }

    #[tokio::test]
    async fn a_client_is_told_when_to_come_back_and_only_if_it_helps() {
        let full = || Error::new(ErrorCode::LimitExceeded, "full");
        for (wait_ms, told) in [(1, "1"), (1000, "1"), (1001, "2"), (59_500, "60")] {
            let failure = Failure::later(full(), Duration::from_millis(wait_ms));
            let (status, headers, body) = read(Err(failure)).await;
            assert_eq!(status, 429);
            assert_eq!(headers["retry-after"], told, "{wait_ms} ms");
            assert_eq!(body["error"]["code"], "limit_exceeded");
        }
        let (status, headers, _) = read(Err(full().into())).await;
        assert_eq!(status, 429);
        assert!(
            !headers.contains_key("retry-after"),
            "no wait makes it less"
        );
    }

    #[tokio::test]
    async fn without_a_leader_the_client_is_told_to_come_back() {
        let (status, headers, body) = read(Err(Failure::NotLeader)).await;
        assert_eq!(status, 503);
        assert_eq!(headers["retry-after"], "1");
        assert_eq!(body["error"]["code"], "unavailable");
    }
}
