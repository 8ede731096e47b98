//! What only billing periods have: what they come to.

use axum::extract::{Extension, Path};
use virtflow_logic as logic;

use super::envelope::Answer;
use super::kinds::{Answered, TheCall};
use crate::off_loop::work_out;

/// `GET /billing_periods/{id}/bill`: what is on it, added up, and what was used since.
pub(crate) async fn bill(Extension(call): TheCall, Path(id): Path<String>) -> Answered {
    call.query.only(&[])?;
    let image = call.image()?.clone();
    let cx = call.cx()?;
    let index = image.index();
    // Microseconds a usage, and a large tenant has many: not on an async thread.
    let data = work_out("adding up the bill", move || logic::bill(&image, &cx, &id)).await?;
    Ok(Answer::ok(index, data))
}
