//! What only VMs have: power, console, and where they were placed.

use axum::extract::{Extension, Path, State};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use virtflow_logic::{self as logic, Power, Request};
use virtflow_model::Kind;
use virtflow_model::kinds::virtual_machine::PowerAct;
use virtflow_types::{CONSOLE_BYTES_MAX, Error};

use super::Api;
use super::envelope::Answer;
use super::json;
use super::kinds::{Answered, TheCall};
use super::request::Call;
use super::write::DRY_RUN;

/// Console bytes when the client names no number.
const CONSOLE_BYTES_DEFAULT: usize = 64 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PowerBody {
    /// Skips the time a guest is given.
    #[serde(default)]
    force: bool,
}

impl PowerBody {
    /// The act on the power of a VM that is to stop.
    pub(crate) fn stop(&self) -> PowerAct {
        match self.force {
            true => PowerAct::ForceStop,
            false => PowerAct::Stop,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartBody {}

/// `POST /vms/{id}/start`
pub(crate) async fn start(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    let StartBody {} = json::body(&call)?;
    power(&api, &call, id, PowerAct::Start).await
}

/// `POST /vms/{id}/stop`
pub(crate) async fn stop(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    let body: PowerBody = json::body(&call)?;
    power(&api, &call, id, body.stop()).await
}

/// `POST /vms/{id}/reboot`
pub(crate) async fn reboot(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    let body: PowerBody = json::body(&call)?;
    let act = if body.force {
        PowerAct::ForceReboot
    } else {
        PowerAct::Reboot
    };
    power(&api, &call, id, act).await
}

async fn power(api: &Api, call: &Call, target: String, act: PowerAct) -> Answered {
    call.query.only(&["tenant", DRY_RUN])?;
    let tenant = call.query.get("tenant").map(str::to_owned);
    let power = Power {
        target,
        tenant,
        act,
    };
    api.change(call, Request::Power(power), Kind::VirtualMachine)
        .await
}

/// `GET /vms/{id}/console?bytes=N`: the end of its serial console, as text. Bytes that are no UTF-8
/// are replaced.
pub(crate) async fn console(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    call.query.only(&["tenant", "bytes"])?;
    let bytes: usize = call
        .query
        .parsed("bytes", "a number of bytes")?
        .unwrap_or(CONSOLE_BYTES_DEFAULT);
    if !(1..=CONSOLE_BYTES_MAX).contains(&bytes) {
        return Err(Error::invalid(
            "bytes",
            format!("must be 1 to {CONSOLE_BYTES_MAX}, not {bytes}"),
        )
        .into());
    }
    let image = call.image()?;
    let target = logic::console_of(image, &call.cx()?, &id, call.query.get("tenant"))?;
    let console = api
        .app()
        .console(
            target.host_id,
            target.vm_id,
            target.placement_epoch,
            bytes as u64,
        )
        .await?;
    let data = json!({
        "data": String::from_utf8_lossy(&console.data),
        "total_bytes": console.total_bytes,
    });
    Ok(Answer::ok(image.index(), data))
}

/// `GET /vms/{id}/placement`: where it is, or by which host it was refused and why.
pub(crate) async fn placement(Extension(call): TheCall, Path(id): Path<String>) -> Answered {
    call.query.only(&["tenant"])?;
    let image = call.image()?;
    let data = logic::placement(image, &call.cx()?, &id, call.query.get("tenant"))?;
    Ok(Answer::ok(image.index(), data))
}
