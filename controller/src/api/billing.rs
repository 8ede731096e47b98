//! What only billing periods have: what they come to.

use axum::extract::{Extension, Path};
use virtflow_logic as logic;
use virtflow_types::{Error, ErrorCode};

use super::envelope::Answer;
use super::kinds::{Answered, TheCall};

/// `GET /billing_periods/{id}/bill`: what is on it, added up, and what was used since.
pub(crate) async fn bill(Extension(call): TheCall, Path(id): Path<String>) -> Answered {
    call.query.only(&[])?;
    let image = call.image()?.clone();
    let cx = call.cx()?;
    let index = image.index();
    // Microseconds a usage, and a large tenant has many: not on an async thread.
    let data = crate::off_loop::off_loop(move || logic::bill(&image, &cx, &id)).await;
    let data = data.map_err(|error| {
        Error::new(
            ErrorCode::Internal,
            format!("adding up the bill was cut short: {error}"),
        )
    })?;
    Ok(Answer::ok(index, data?))
}
