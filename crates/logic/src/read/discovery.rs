//! What monitoring is to ask, in the words of Prometheus.

use serde::Serialize;
use serde_json::Value;
use virtflow_model::kinds::Baremetal;
use virtflow_model::kinds::baremetal::HostState;
use virtflow_model::{Action, Kind, Permission, Resource};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::view::admit_system;
use crate::cx::Cx;
use crate::site::data_center_of;
use crate::typed::decoded;
use crate::upgrade::announced;

/// What a target is of the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetRole {
    /// A member of the control plane.
    Controller,
    /// A host's agent.
    Agent,
}

impl TargetRole {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Controller, Self::Agent];

    /// The word for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Agent => "agent",
        }
    }
}

/// One target as Prometheus reads it; each has labels of its own.
#[derive(Debug, Serialize)]
struct Target<'a> {
    targets: [&'a str; 1],
    labels: Labels<'a>,
}

#[derive(Debug, Serialize)]
struct Labels<'a> {
    /// What answers beyond the loopback speaks TLS.
    #[serde(rename = "__scheme__")]
    scheme: &'static str,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    controller_id: Option<ObjectId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_id: Option<ObjectId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rack: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_center: Option<&'a str>,
}

impl Labels<'_> {
    fn of(role: TargetRole) -> Self {
        Self {
            scheme: "https",
            role: role.name(),
            controller: None,
            controller_id: None,
            host: None,
            host_id: None,
            group: None,
            rack: None,
            data_center: None,
        }
    }
}

/// Every controller and every host that told where monitoring reaches it, or those of one role, as JSON in the form of
/// Prometheus' HTTP service discovery: for whoever may see all hosts. Hosts that are silent are among them, since it is
/// they that an alert is about; those that are decommissioned are not.
///
/// # Errors
/// If the asker may not see all hosts, or a row cannot be read.
pub fn monitoring_targets(
    state: &State,
    cx: &Cx,
    role: Option<TargetRole>,
) -> Result<String, Error> {
    admit_system(state, cx, Permission::new(Baremetal::KIND, Action::Read))?;
    let wants = |which| role.is_none_or(|role| role == which);
    let mut told: Vec<String> = Vec::new();
    if wants(TargetRole::Controller) {
        for (object, controller) in announced(state)? {
            let labels = Labels {
                controller: Some(object.name.as_str()),
                controller_id: Some(object.id),
                ..Labels::of(TargetRole::Controller)
            };
            told.extend(target(&controller.status.status_address, labels)?);
        }
    }
    if wants(TargetRole::Agent) {
        for object in state.of_kind(Kind::Baremetal.name(), None) {
            told.extend(host(state, object)?);
        }
    }
    Ok(format!("[{}]", told.join(",")))
}

fn host(state: &State, object: &Object) -> Result<Option<String>, Error> {
    let typed = decoded::<Baremetal>(object)?;
    let address = typed.status.inventory.get("status_address");
    let address = address.and_then(Value::as_str).unwrap_or_default();
    if typed.spec.state == HostState::Decommissioned {
        return Ok(None);
    }
    let group = state.get(typed.spec.group_id);
    let rack = typed.spec.rack_id.and_then(|id| state.get(id));
    let data_center = data_center_of(state, &typed.spec).and_then(|id| state.get(id));
    let labels = Labels {
        host: Some(object.name.as_str()),
        host_id: Some(object.id),
        group: group.map(|group| group.name.as_str()),
        rack: rack.map(|rack| rack.name.as_str()),
        data_center: data_center.map(|center| center.name.as_str()),
        ..Labels::of(TargetRole::Agent)
    };
    target(address, labels)
}

/// `None` for what told no address.
fn target(address: &str, labels: Labels<'_>) -> Result<Option<String>, Error> {
    if address.is_empty() {
        return Ok(None);
    }
    let target = Target {
        targets: [address],
        labels,
    };
    let text = serde_json::to_string(&target);
    text.map(Some)
        .map_err(|error| Error::new(ErrorCode::Internal, format!("a target: {error}")))
}
