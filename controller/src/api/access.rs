//! Who may do something, and why somebody may or may not.

use axum::extract::Extension;
use virtflow_logic::{self as logic, AccessQuestion};
use virtflow_types::Error;

use super::envelope::{Answer, Failure};
use super::kinds::{Answered, TheCall};
use super::request::Call;

/// Parameters of `who-can`.
pub(crate) const WHO_CAN: &[&str] = &["action", "kind", "object", "tenant", "limit", "cursor"];
/// Parameters of `explain`.
pub(crate) const EXPLAIN: &[&str] = &["action", "kind", "object", "tenant", "user"];

fn question(call: &Call) -> Result<AccessQuestion, Failure> {
    let needed = |name: &'static str| {
        let given = call.query.get(name);
        given.ok_or_else(|| Error::invalid(name, "is missing: ask with `action` and `kind`"))
    };
    Ok(AccessQuestion {
        permission: logic::permission_of(needed("kind")?, needed("action")?)?,
        object: call.query.get("object").map(str::to_owned),
        tenant: call.query.get("tenant").map(str::to_owned),
    })
}

/// `GET /auth/who-can`: the bindings that allow it, for who may read the bindings there.
pub(crate) async fn who_can(Extension(call): TheCall) -> Answered {
    call.query.only(WHO_CAN)?;
    let image = call.image()?;
    let (limit, after) = (call.query.limit()?, call.query.get("cursor"));
    let question = question(&call)?;
    let (data, next) = logic::who_can(image, &call.cx()?, &question, limit, after)?;
    Ok(Answer::ok(image.index(), data).next(next))
}

/// `GET /auth/explain`: why the asker, or another user, may do it, or what is missing.
pub(crate) async fn explain(Extension(call): TheCall) -> Answered {
    call.query.only(EXPLAIN)?;
    let image = call.image()?;
    let user = call.query.get("user");
    let data = logic::explain_access(image, &call.cx()?, &question(&call)?, user)?;
    Ok(Answer::ok(image.index(), data))
}
