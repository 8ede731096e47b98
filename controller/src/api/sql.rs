//! What all answers from SQL share: they are as new as the request, or say that they cannot be given.

use std::time::Duration;

use virtflow_state::State;
use virtflow_types::{Error, ErrorCode};

use super::Api;

/// How long an answer may wait for SQL to be as new as the request.
const WAIT: Duration = Duration::from_secs(5);

/// `what` could not be read.
pub(crate) fn unavailable(what: &str, cause: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorCode::Unavailable,
        format!("{what} could not be read: {cause}"),
    )
    .advise("try again, or ask another controller")
}

/// Waits until what SQL says is as new as an image.
pub(crate) async fn caught_up(api: &Api, image: &State, what: &str) -> Result<(), Error> {
    match tokio::time::timeout(WAIT, api.app().shadow().wait_written(image.index())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(unavailable(what, error)),
        Err(_) => Err(unavailable(what, "it is too far behind")),
    }
}
