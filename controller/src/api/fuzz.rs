//! Whatever comes with a request: its body, its query, its tokens, its cursors.

use virtflow_testkit::fuzz::{Format, Target, text};
use virtflow_types::{ObjectId, Timestamp};

use super::access_token::AccessTokens;
use super::query::Query;
use super::{audit, json};

const NOW: Timestamp = Timestamp::from_ms(1_795_456_800_000);

#[test]
fn access_token() {
    let tokens = AccessTokens::new(&[7; 32], ObjectId::from_u128(1));
    let session = ObjectId::from_u128(3);
    let good = tokens.issue(ObjectId::from_u128(2), session, NOW);
    Target::new("access_token", Format::Text)
        .seed(good.clone())
        .words(&[
            ".",
            "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0",
            "e30",
            "=",
            "-",
            "_",
        ])
        .run(|input| {
            let text = text(input);
            let read = tokens.session(&text, NOW);
            // Only what was signed is taken, to the letter.
            assert_eq!(read, (*text == good).then_some(session));
            read.map(|_| ()).ok_or_else(|| "refused".to_owned())
        });
}

#[test]
fn request_body() {
    Target::new("request_body", Format::Text)
        .seed(r#"{"name":"web-1","spec":{"labels":{"a":"1"},"cpu_cores":2,"list":[1,-2,3.5,true,null,"\u00e9"]}}"#)
        .words(&["null", "true", "{}", "[]", "\"a\":", "1e400", "-0", "\\ud800", "18446744073709551615"])
        .sizes(8192, virtflow_types::REQUEST_BODY_BYTES_MAX)
        .memory(8, 24 * 1024 * 1024)
        .run(|input| {
            let read = json::parse(input).map_err(|error| error.to_string())?;
            let written = serde_json::to_vec(&read).unwrap();
            assert_eq!(json::parse(&written).unwrap(), read);
            Ok(())
        });
}

#[test]
fn query() {
    Target::new("query", Format::Text)
        .seed("limit=5&label=a%3Db&tenant=acme")
        .seed("from=2026-11-23T18:00:00Z&to=2026-11-23T18:00:00%2B01:00&object=0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11")
        .words(&["&", "=", "%", "+", "limit", "wait", "%00", "%ff", ";"])
        .sizes(4096, 60 * 1024)
        .run(|input| {
            let text = text(input);
            let uri = axum::http::Uri::try_from(format!("/x?{text}")).map_err(|e| e.to_string())?;
            let query = Query::of(&uri).map_err(|error| error.to_string())?;
            let _ = query.only(&["limit", "label", "tenant", "from", "to", "object"]);
            let _ = (query.limit(), query.flag("wait"));
            for key in ["from", "to"] {
                if let Ok(Some(at)) = query.parsed::<Timestamp>(key, "a time") {
                    assert_eq!(at.to_string().parse(), Ok(at));
                }
            }
            let _ = query.parsed::<ObjectId>("object", "an id");
            Ok(())
        });
}

#[test]
fn audit_cursor() {
    let place = virtflow_shadow::AuditCursor { at: NOW, count: 17 };
    Target::new("audit_cursor", Format::Text)
        .seed(audit::cursor(&place))
        .words(&["MS4x", "=", "-", "_"])
        .run(|input| {
            let read = audit::read_cursor(&text(input)).map_err(|error| error.to_string())?;
            assert_eq!(audit::read_cursor(&audit::cursor(&read)), Ok(read));
            Ok(())
        });
}
