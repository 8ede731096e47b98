//! Operations: how far they are, waiting for their end, giving them up.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Path, State};
use axum::routing::{self, MethodRouter};
use tokio::time::Instant;
use virtflow_logic::{self as logic, Request, decoded};
use virtflow_model::Kind;
use virtflow_model::kinds::operation::Operation;
use virtflow_state::Object;
use virtflow_types::{Error, OPERATION_WAIT_S_MAX};

use super::Api;
use super::envelope::{Answer, Failure};
use super::kinds::{self, Answered, TheCall};
use super::request::Call;
use super::write::DRY_RUN;

/// `GET /operations/{id}`
pub(crate) fn one() -> MethodRouter<Api> {
    routing::get(
        |State(api): State<Api>, Extension(call): TheCall, Path(id): Path<String>| async move {
            get(&api, &call, &id).await
        },
    )
}

/// `POST /operations/{id}/cancel`
pub(crate) async fn cancel(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(target): Path<String>,
) -> Answered {
    call.query.only(&[DRY_RUN])?;
    let request = Request::CancelOperation { target };
    api.change(&call, request, Kind::Operation).await
}

/// Answers at once, or with `?wait=` when there is something to tell: it has ended, or it is held up
/// by an error such as a lack of capacity. Otherwise when the wait is over.
async fn get(api: &Api, call: &Call, id: &str) -> Answered {
    call.query.only(&["wait", "tenant", kinds::FIELDS])?;
    let fields = kinds::fields_of(call, Kind::Operation)?;
    let wait = call.query.get("wait").map(duration).transpose()?;
    let until = Instant::now() + wait.unwrap_or_default();
    let cx = call.cx()?;
    let tenant = call.query.get("tenant");
    let node = api.app().node();
    let mut image = Arc::clone(call.image()?);
    let mut object = logic::get(&image, &cx, Kind::Operation, id, tenant)?;
    while !has_news(&object)? && Instant::now() < until {
        let next = node.wait_applied(image.index() + 1);
        let Ok(newer) = tokio::time::timeout_at(until, next).await else {
            break;
        };
        // A wait of its own that ended without news is no failure of this one.
        image = newer.unwrap_or_else(|_| node.image());
        // Rights are looked at again on every image: who lost them meanwhile is told nothing more.
        object = logic::get(&image, &cx, Kind::Operation, id, tenant)?;
    }
    let data = kinds::chosen(fields.as_ref(), logic::public(&image, &object));
    Ok(Answer::ok(image.index(), data).etag(object.id, object.generation))
}

fn has_news(object: &Object) -> Result<bool, Failure> {
    let operation = decoded::<Operation>(object)?;
    let status = &operation.status;
    Ok(status.state.is_final() || status.error.is_some())
}

/// `30s`, `500ms` or plain seconds.
fn duration(text: &str) -> Result<Duration, Error> {
    let (number, unit_ms) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').unwrap_or(text), 1000),
    };
    let most = Duration::from_secs(OPERATION_WAIT_S_MAX);
    let wait = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit_ms))
        .map(Duration::from_millis);
    match wait {
        Some(wait) if wait <= most => Ok(wait),
        _ => Err(Error::invalid(
            "wait",
            format!("must be a time such as `30s` or `500ms`, at most {OPERATION_WAIT_S_MAX}s"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_have_units_and_a_limit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("60"), Ok(Duration::from_secs(60)));
        for bad in [
            "61s",
            "60001ms",
            "-1s",
            "1.5s",
            "s",
            "",
            "18446744073709551615",
            "1h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
