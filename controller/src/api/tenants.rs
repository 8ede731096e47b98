//! How much of their quotas tenants, user groups and users take.

use axum::extract::{Extension, Path};
use axum::routing::{self, MethodRouter};
use virtflow_logic as logic;
use virtflow_model::Kind;

use super::Api;
use super::envelope::{Answer, Failure};
use super::kinds::{Answered, TheCall};

/// `GET /tenants/{id}/usage`: each account with its limit and what is used of it.
pub(crate) async fn usage(Extension(call): TheCall, Path(id): Path<String>) -> Answered {
    call.query.only(&[])?;
    let image = call.image()?;
    let data = logic::usage(image, &call.cx()?, &id)?;
    Ok(Answer::ok(image.index(), data))
}

/// `GET /user_groups/{id}/usage` and `GET /users/{id}/usage`: the same of the object and of all levels above it.
pub(crate) fn usage_of(kind: Kind) -> MethodRouter<Api> {
    routing::get(
        move |Extension(call): TheCall, Path(id): Path<String>| async move {
            call.query.only(&["tenant"])?;
            let image = call.image()?;
            let tenant = call.query.get("tenant");
            let data = logic::usage_of_level(image, &call.cx()?, kind, &id, tenant)?;
            Ok::<_, Failure>(Answer::ok(image.index(), data))
        },
    )
}
