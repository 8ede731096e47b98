//! What the cluster version could be raised to, and what stands in the way: a pure look at what members announced and
//! at who of them answers.

use std::sync::Arc;

use serde::Serialize;
use virtflow_model::Kind;
use virtflow_model::kinds::Controller;
use virtflow_state::{Object, State};
use virtflow_types::Error;

use crate::request::{Group, GroupMember};
use crate::typed::{Typed, decoded};

/// A member that has not answered its leader for so long, in milliseconds, is not counted on.
const SILENT_MS: u64 = 5_000;

/// The next raise of the cluster version.
#[derive(Debug)]
pub(crate) struct Raise {
    /// What all members support, if that is more than today's.
    pub(crate) to: Option<u32>,
    /// What stands in the way, where some member supports more than today's.
    pub(crate) blocks: Vec<Block>,
}

/// A controller that stands in the way of a raise.
#[derive(Debug, Serialize)]
pub(crate) struct Block {
    pub(crate) controller: String,
    pub(crate) why: String,
    pub(crate) advice: String,
}

/// A controller that was not removed, as it announced itself.
pub(crate) type Announced = (Arc<Object>, Arc<Typed<Controller>>);

/// All controllers that were not removed, in the order of their ids.
pub(crate) fn announced(state: &State) -> Result<Vec<Announced>, Error> {
    let mut found = Vec::new();
    for object in state.of_kind(Kind::Controller.name(), None) {
        let typed = decoded::<Controller>(object)?;
        if !typed.status.removed {
            found.push((object.clone(), typed));
        }
    }
    Ok(found)
}

impl GroupMember {
    /// True if it answers its leader.
    pub(crate) fn is_seen(&self) -> bool {
        self.answered_ms_ago.is_some_and(|ago| ago <= SILENT_MS)
    }
}

/// What the next raise would be. One that is silent stands in the way too: what it announced may no longer be what it
/// will come back with.
pub(crate) fn next_raise(state: &State, group: &Group) -> Result<Raise, Error> {
    let controllers = announced(state)?;
    let supported = || {
        controllers
            .iter()
            .map(|(_, controller)| controller.status.supports)
    };
    let today = state.cluster_version();
    let newest = supported().max().unwrap_or(today);
    if newest <= today {
        return Ok(Raise {
            to: None,
            blocks: Vec::new(),
        });
    }
    let mut blocks = Vec::new();
    for (object, controller) in &controllers {
        let supports = controller.status.supports;
        let is_member = group.members.iter().any(|it| it.store_id == object.id);
        if supports <= today {
            blocks.push(behind(&object.name, supports, newest, is_member));
        }
    }
    for member in &group.members {
        let is_known = controllers.iter().any(|(it, _)| it.id == member.store_id);
        blocks.extend(match (is_known, member.is_seen()) {
            (false, _) => Some(unknown(member)),
            (true, false) => Some(silent(member)),
            (true, true) => None,
        });
    }
    Ok(Raise {
        to: supported().min().filter(|_| blocks.is_empty()),
        blocks,
    })
}

fn behind(name: &str, supports: u32, newest: u32, is_member: bool) -> Block {
    Block {
        controller: name.to_owned(),
        why: format!("it supports cluster version {supports}, others {newest}"),
        advice: match is_member {
            true => "install the newer release on its machine and restart it".to_owned(),
            false => format!("it is no member any more: `virtflow controller remove {name}`"),
        },
    }
}

fn unknown(member: &GroupMember) -> Block {
    Block {
        controller: member.name.clone(),
        why: "it has not said yet what it supports".into(),
        advice: "look at its log, and restart it".into(),
    }
}

fn silent(member: &GroupMember) -> Block {
    Block {
        controller: member.name.clone(),
        why: match member.answered_ms_ago {
            Some(ago) => format!("it last answered the leader {} s ago", ago / 1000),
            None => "it has not answered the leader yet".into(),
        },
        advice: format!(
            "start it, or take it out for good: `virtflow controller remove {}`",
            member.name
        ),
    }
}
