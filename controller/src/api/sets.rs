//! What is done to all members of a set. Each is judged and done on its own and has its own outcome, as in a request about
//! many; if none can be done, the answer is what is wrong with the first.

use axum::extract::{Extension, Path, State};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use virtflow_logic::{self as logic, Create, ListQuery, Power, Request};
use virtflow_model::Kind;
use virtflow_model::kinds::virtual_machine::PowerAct;
use virtflow_types::{Error, ErrorCode};

use super::Api;
use super::bulk::{self, ITEMS_MAX, Item};
use super::envelope::Failure;
use super::json;
use super::kinds::{Answered, TheCall};
use super::request::Call;
use super::vms::PowerBody;
use super::write::DRY_RUN;

/// Parameters of what is done to a set.
pub(crate) const PARAMETERS: &[&str] = &["tenant", DRY_RUN];

/// Pages of members that are looked at.
const PAGES_MAX: usize = 20;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotBody {
    /// What each snapshot is called.
    name: String,
    /// For people.
    #[serde(default)]
    description: String,
}

/// `POST /instance_sets/{id}/start`
pub(crate) async fn start(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    json::nothing(&call)?;
    power(&api, &call, &id, PowerAct::Start).await
}

/// `POST /instance_sets/{id}/stop`
pub(crate) async fn stop(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    let body: PowerBody = json::body(&call)?;
    power(&api, &call, &id, body.stop()).await
}

async fn power(api: &Api, call: &Call, set: &str, act: PowerAct) -> Answered {
    let of = |target: String| {
        Request::Power(Power {
            target,
            tenant: None,
            act,
        })
    };
    for_each(api, call, set, Kind::VirtualMachine, "", &of).await
}

/// `POST /instance_sets/{id}/snapshot`
pub(crate) async fn snapshot(
    State(api): State<Api>,
    Extension(call): TheCall,
    Path(id): Path<String>,
) -> Answered {
    let body: SnapshotBody = json::body(&call)?;
    let of = |vm: String| {
        let spec = json!({"vm_id": vm, "description": body.description});
        Request::Create(Create::new(Kind::Snapshot, &body.name, spec))
    };
    let said = format!("{}/{}", body.name, body.description);
    for_each(&api, &call, &id, Kind::Snapshot, &said, &of).await
}

async fn for_each(
    api: &Api,
    call: &Call,
    set: &str,
    kind: Kind,
    said: &str,
    of: &(dyn Fn(String) -> Request + Sync),
) -> Answered {
    call.query.only(PARAMETERS)?;
    let items = members(call, set)?.into_iter().map(|member| Item {
        said: format!("{}/{said}", member.id()),
        mark: member.id().to_owned(),
        generation: None,
        request: match member {
            Member::Vm(vm) => Ok(of(vm)),
            Member::Rents(instance) => Err(nothing_to_do_it_to(&instance)),
        },
    });
    bulk::carry_out_some(api, call, kind, items.collect()).await
}

/// Who is in a set, by id.
#[derive(Debug)]
enum Member {
    Vm(String),
    /// An instance that has a host for itself.
    Rents(String),
}

impl Member {
    fn of(membership: &Value) -> Option<Self> {
        let named = |field: &str| membership["spec"][field].as_str().map(str::to_owned);
        named("vm_id")
            .map(Self::Vm)
            .or_else(|| named("instance_id").map(Self::Rents))
    }
    fn id(&self) -> &str {
        match self {
            Self::Vm(id) | Self::Rents(id) => id,
        }
    }
}

fn nothing_to_do_it_to(instance: &str) -> Error {
    Error::new(
        ErrorCode::Conflict,
        format!("instance `{instance}` has a host for itself: nothing runs there that this could be done to"),
    )
    .advise("do it to the other members, or take the instance out of the set")
}

/// Who is in a set, with the asker's eyes.
fn members(call: &Call, set: &str) -> Result<Vec<Member>, Failure> {
    let (image, cx) = (call.image()?, call.cx()?);
    let tenant = call.query.get("tenant");
    let set = logic::get(image, &cx, Kind::InstanceSet, set, tenant)?;
    let mut query = ListQuery::of(Kind::InstanceSetMember);
    query.parent = Some(set.id.to_string());
    let mut members: Vec<Member> = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = logic::list(image, &cx, &query)?;
        members.extend(page.objects.iter().filter_map(Member::of));
        query.cursor = page.next_cursor;
        if members.len() > ITEMS_MAX || query.cursor.is_none() {
            break;
        }
    }
    if members.len() > ITEMS_MAX || query.cursor.is_some() {
        return Err(Error::new(
            ErrorCode::LimitExceeded,
            format!("the set has more than {ITEMS_MAX} members"),
        )
        .advise("do it to its members; nothing was done")
        .into());
    }
    Ok(members)
}
