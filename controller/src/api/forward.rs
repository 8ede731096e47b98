//! Passing a request on to the leader, whole and as it came: the leader authenticates it anew.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;

use super::envelope::{Failure, REQUEST_ID_HEADER};
use super::request::Call;
use crate::app::{App, Forwarded};

/// Headers that belong to one connection and not to the message.
const HOP_BY_HOP: &[HeaderName] = &[
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The leader's answer.
pub(crate) async fn to_leader(app: &App, call: &Call) -> Result<Response, Failure> {
    let mut headers = end_to_end(&call.headers);
    if let Ok(id) = HeaderValue::from_str(&call.request_id.to_string()) {
        headers.insert(REQUEST_ID_HEADER, id);
    }
    let target = call.uri.path_and_query().map_or("/", |path| path.as_str());
    let forwarded = Forwarded {
        method: call.method.clone(),
        path_and_query: target.to_owned(),
        headers,
        body: call.body.clone(),
        caller: call.caller.clone(),
    };
    let (mut head, body) = app.forward(forwarded).await?.into_parts();
    head.headers = end_to_end(&head.headers);
    Ok(Response::from_parts(head, Body::from(body)))
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for name in HOP_BY_HOP {
        kept.remove(name);
    }
    kept.remove("keep-alive");
    kept
}
