//! The audit trail, as SQL has it: newest first, with the index it is as new as.

use axum::extract::{Extension, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use virtflow_logic as logic;
use virtflow_model::Kind;
use virtflow_shadow::{AuditCursor, AuditQuery, PAGE_RECORDS_MAX};
use virtflow_state::RecordRow;
use virtflow_types::{Error, ObjectId, Timestamp};

use super::Api;
use super::envelope::Answer;
use super::kinds::{Answered, TheCall};
use super::request::Call;
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
    "tenant", "from", "to", "actor", "object", "outcome", "action", "kind", BYTES, "limit",
    "cursor",
];

/// How something ended.
pub(crate) const OUTCOMES: &[&str] = &["success", "denied", "failed"];
/// Records that one request looks at, for what SQL has no column for.
const LOOKED_MAX: usize = 10_000;

/// What is asked of records beyond what SQL looks for.
#[derive(Debug, Default)]
struct Sought {
    outcome: Option<String>,
    action: Option<String>,
    kind: Option<Kind>,
}

impl Sought {
    fn of(call: &Call) -> Result<Self, Error> {
        let text = |name| call.query.get(name).map(str::to_owned);
        let outcome = text("outcome");
        if let Some(outcome) = outcome.as_deref().filter(|it| !OUTCOMES.contains(it)) {
            let words = OUTCOMES.join(", ");
            let problem = format!("`{outcome}` is no outcome; there are {words}");
            return Err(Error::invalid("outcome", problem));
        }
        let kind = match call.query.get("kind") {
            Some(word) => Some(
                Kind::parse(word)
                    .ok_or_else(|| Error::invalid("kind", format!("there is no kind `{word}`")))?,
            ),
            None => None,
        };
        Ok(Self {
            outcome,
            action: text("action"),
            kind,
        })
    }

    fn is_anything(&self) -> bool {
        self.outcome.is_some() || self.action.is_some() || self.kind.is_some()
    }

    /// Refusals of before their kind was told tell a path: `/api/v1/racks/r1`.
    fn matches(&self, data: &Value) -> bool {
        let is = |field: &str, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| data[field].as_str() == Some(wanted))
        };
        let asked = || {
            let path = data["object"].as_str()?.strip_prefix("/api/v1/")?;
            Kind::parse(path.split('/').next()?)
        };
        let of_kind = |kind: Kind| match data["kind"].as_str() {
            Some(told) => told == kind.name(),
            None => asked() == Some(kind),
        };
        is("outcome", self.outcome.as_deref())
            && is("action", self.action.as_deref())
            && self.kind.is_none_or(of_kind)
    }
}

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
    let sought = Sought::of(&call)?;
    let mut query = AuditQuery {
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
    if sought.is_anything() {
        query.limit = PAGE_RECORDS_MAX;
    }
    let mut rows: Vec<Value> = Vec::new();
    let mut looked = 0;
    // A page may be short, even empty, and still have a next one: a request looks at a bounded number of records.
    loop {
        let page = shadow.audit(&query).await;
        let page = page.map_err(|error| sql::unavailable(TRAIL, error))?;
        let mut next = page.next;
        looked += page.rows.len();
        for record in &page.rows {
            let data = row(record, with_bytes);
            if !sought.matches(&data) {
                continue;
            }
            if rows.len() == limit {
                // The one before it was the last of this page.
                next = query.after;
                break;
            }
            rows.push(data);
            query.after = Some(AuditCursor {
                at: record.at,
                count: record.count,
            });
        }
        if rows.len() == limit || looked >= LOOKED_MAX || next.is_none() {
            let next = next.as_ref().map(cursor);
            return Ok(Answer::ok(page.seen.index, rows.into()).next(next));
        }
        query.after = next;
    }
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
    place.insert("place".into(), record.count.into());
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
