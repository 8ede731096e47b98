//! What only pools and addresses have: who gets an address, and whether it can be had.

use axum::extract::{Extension, Path, State};
use schemars::JsonSchema;
use serde::Deserialize;
use virtflow_logic::{AddressAct, AddressVerb, AllocateAddress, Request};
use virtflow_model::Kind;
use virtflow_types::Timestamp;

use super::Api;
use super::json;
use super::kinds::{Answered, TheCall};
use super::request::Call;
use super::write::DRY_RUN;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AllocateBody {
    /// The VM that gets it, by id or name.
    vm: String,
    /// This very one, which may be reserved; absent: the lowest that can be had.
    #[serde(default)]
    address: Option<String>,
    /// How many in a row, up to 64, which go back together: that address, or the lowest that has enough behind it, is
    /// the first of them. Absent: one.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    count: u32,
    /// When it goes back to the pool by itself; absent: it does not.
    #[serde(default)]
    leased_until: Option<Timestamp>,
}

const fn one() -> u32 {
    1
}

/// `POST /ip_pools/{id}/allocate`
pub(crate) async fn allocate(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(pool): Path<String>,
) -> Answered {
    call.query.only(&["tenant", DRY_RUN])?;
    let body: AllocateBody = json::body(&call)?;
    let allocate = AllocateAddress {
        pool,
        vm: body.vm,
        tenant: call.query.get("tenant").map(str::to_owned),
        address: body.address,
        count: body.count,
        leased_until: body.leased_until,
    };
    let request = Request::AllocateAddress(allocate);
    api.change(&call, request, Kind::IpAddress).await
}

/// `POST /ip_addresses/{id}/release`
pub(crate) async fn release(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    act(&api, &call, id, AddressVerb::Release).await
}

/// `POST /ip_addresses/{id}/reserve`
pub(crate) async fn reserve(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    act(&api, &call, id, AddressVerb::Reserve).await
}

/// `POST /ip_addresses/{id}/freeze`
pub(crate) async fn freeze(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    act(&api, &call, id, AddressVerb::Freeze).await
}

/// `POST /ip_addresses/{id}/unfreeze`
pub(crate) async fn unfreeze(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    act(&api, &call, id, AddressVerb::Unfreeze).await
}

async fn act(api: &Api, call: &Call, target: String, act: AddressVerb) -> Answered {
    call.query.only(&["tenant", DRY_RUN])?;
    json::nothing(call)?;
    let act = AddressAct {
        target,
        tenant: call.query.get("tenant").map(str::to_owned),
        act,
    };
    api.change(call, Request::Address(act), Kind::IpAddress)
        .await
}
