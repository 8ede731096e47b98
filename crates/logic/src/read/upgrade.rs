//! Where an upgrade stands.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use virtflow_model::kinds::Baremetal;
use virtflow_model::{Action, Kind, Permission, Resource};
use virtflow_state::State;
use virtflow_types::Error;

use super::view::admit_system;
use crate::cx::Cx;
use crate::request::Group;
use crate::typed::decoded;
use crate::upgrade::{announced, next_raise};

/// What a host is counted under whose agent has not said its version.
const UNKNOWN: &str = "unknown";

/// The cluster version, what each controller announced, how many hosts run which agent, what the version can be raised
/// to and what stands in the way: for whoever may see all hosts.
pub fn upgrade_view(state: &State, cx: &Cx, group: &Group) -> Result<Value, Error> {
    admit_system(state, cx, Permission::new(Baremetal::KIND, Action::Read))?;
    let raise = next_raise(state, group)?;
    let controllers: Vec<Value> = announced(state)?
        .into_iter()
        .map(|(object, controller)| {
            let mut members = group.members.iter();
            let member = members.find(|member| member.store_id == object.id);
            json!({
                "id": object.id,
                "name": object.name.as_str(),
                "version": controller.status.version,
                "supports": controller.status.supports,
                "seen": member.is_some_and(|member| member.is_seen()),
            })
        })
        .collect();
    let mut agents: BTreeMap<String, u64> = BTreeMap::new();
    for host in state.of_kind(Kind::Baremetal.name(), None) {
        let version = decoded::<Baremetal>(host)?.status.agent_version.clone();
        let version = Some(version).filter(|version| !version.is_empty());
        *agents
            .entry(version.unwrap_or_else(|| UNKNOWN.into()))
            .or_default() += 1;
    }
    Ok(json!({
        "cluster_version": state.cluster_version(),
        "raise_to": raise.to,
        "blocks": raise.blocks,
        "controllers": controllers,
        "agents": agents,
    }))
}
