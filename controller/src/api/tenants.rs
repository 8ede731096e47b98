//! What only tenants have: how much of their quota they use.

use axum::extract::{Extension, Path};
use virtflow_logic as logic;

use super::envelope::Answer;
use super::kinds::{Answered, TheCall};

/// `GET /tenants/{id}/usage`: each account with its limit and what is used of it.
pub(crate) async fn usage(Extension(call): TheCall, Path(id): Path<String>) -> Answered {
    call.query.only(&[])?;
    let image = call.image()?;
    let data = logic::usage(image, &call.cx()?, &id)?;
    Ok(Answer::ok(image.index(), data))
}
