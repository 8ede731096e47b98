//! The audit trail, as SQL has it: newest first, with the index it is as new as.

use axum::extract::{Extension, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use virtflow_logic as logic;
use virtflow_shadow::{AuditCursor, AuditQuery};
use virtflow_state::RecordRow;
use virtflow_types::{Error, ObjectId, Timestamp};

use super::Api;
use super::envelope::Answer;
use super::kinds::{Answered, TheCall};
use super::sql;
use super::write::add;

/// The stream of audit records.
const STREAM: &str = "audit";
/// What cannot be read when it cannot.
const TRAIL: &str = "the audit trail";

/// The parameter for the bytes that heads are of.
const BYTES: &str = "bytes";

/// Parameters it knows.
pub(crate) const PARAMETERS: &[&str] = &[
    "tenant", "from", "to", "actor", "object", BYTES, "limit", "cursor",
];

/// `GET /audit`
pub(crate) async fn list(State(api): State<Api>, Extension(call): TheCall) -> Answered {
    call.query.only(PARAMETERS)?;
    let image = call.image()?;
    let cx = call.cx()?;
    let tenant = logic::audit_scope(image, &cx, call.query.get("tenant"))?;
    let time = "an RFC 3339 time such as 2026-11-23T18:00:00Z";
    let object: Option<ObjectId> = call.query.parsed("object", "an id")?;
    let with_bytes = call.query.flag(BYTES)?;
    let limit = call.query.limit()?;
    let query = AuditQuery {
        stream: STREAM.into(),
        from: call.query.parsed("from", time)?,
        to: call.query.parsed("to", time)?,
        actor: call
            .query
            .get("actor")
            .map(|text| logic::audit_actor(image, &cx, text, tenant))
            .transpose()?,
        tenant: tenant.map(|id| id.to_string()),
        object: object.map(|id| id.to_string()),
        after: call.query.get("cursor").map(read_cursor).transpose()?,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
    };
    let shadow = api.app().shadow();
    sql::caught_up(&api, image, TRAIL).await?;
    let page = shadow.audit(&query).await;
    let page = page.map_err(|error| sql::unavailable(TRAIL, error))?;
    let rows: Vec<Value> = page.rows.iter().map(|it| row(it, with_bytes)).collect();
    let next = page.next.as_ref().map(cursor);
    Ok(Answer::ok(page.seen.index, rows.into()).next(next))
}

/// A record with its place in the stream and the chained hash up to it. With its bytes, whoever reads it can compute that
/// hash: fields in another order or another form of a number would give another.
fn row(record: &RecordRow, with_bytes: bool) -> Value {
    let mut data: Value = serde_json::from_slice(&record.body)
        .unwrap_or_else(|_| String::from_utf8_lossy(&record.body).into_owned().into());
    if !data.is_object() {
        data = serde_json::json!({"body": data});
    }
    let head: String = record
        .head
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut place = Map::new();
    place.insert("count".into(), record.count.into());
    place.insert("head".into(), head.into());
    if with_bytes {
        let bytes = String::from_utf8_lossy(&record.body).into_owned();
        place.insert(BYTES.into(), bytes.into());
    }
    add(&mut data, place);
    data
}

/// Where a page ended. It carries no rights: a forged one shows nothing that another query would not.
pub(super) fn cursor(cursor: &AuditCursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{}", cursor.at.ms(), cursor.count))
}

pub(super) fn read_cursor(text: &str) -> Result<AuditCursor, Error> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (at, count) = text.split_once('.')?;
        Some(AuditCursor {
            at: Timestamp::from_ms(at.parse().ok()?),
            count: count.parse().ok()?,
        })
    };
    read().ok_or_else(|| {
        Error::invalid(
            "cursor",
            "is not one of ours; use `meta.next_cursor` of the page before",
        )
    })
}

#[cfg(test)]
mod tests {
    use virtflow_types::ErrorCode;

    use super::*;

    #[test]
    fn cursors_read_back_and_forged_ones_are_refused() {
        let place = AuditCursor {
            at: Timestamp::from_ms(1_795_456_800_123),
            count: 17,
        };
        assert_eq!(read_cursor(&cursor(&place)), Ok(place));
        for bad in [
            "",
            "x",
            "AAAA",
            "MS4",
            "!!",
            &URL_SAFE_NO_PAD.encode("1.-2"),
        ] {
            assert_eq!(
                read_cursor(bad).unwrap_err().code,
                ErrorCode::Invalid,
                "{bad}"
            );
        }
    }
}
