//! Ending an upgrade: from then on the cluster may use what only the newer release understands.

use virtflow_model::{Action, Kind, Permission};
use virtflow_policy::Target;
use virtflow_types::{Error, ErrorCode};

use super::{Done, Outcome};
use crate::door::{Door, forbidden};
use crate::request::Group;
use crate::upgrade::{Block, next_raise};

/// Raises the cluster version to what all members support. Nothing is written where no member supports more than
/// today's.
pub(crate) fn finish<'a>(door: &Door<'a>, group: &Group) -> Done<'a> {
    let permission = Permission::new(Kind::Controller, Action::Manage);
    let everything = Target::new(Kind::Controller, Vec::new());
    let mut draft = door.draft(permission, &everything, || forbidden(permission))?;
    let leader = door.find(Kind::Controller, &group.leader.to_string(), None)?;
    let raise = next_raise(door.state, group)?;
    let today = door.state.cluster_version();
    if !raise.blocks.is_empty() {
        return Err(refused(today, &raise.blocks));
    }
    if let Some(version) = raise.to {
        draft.raise_cluster_version(version);
    }
    let version = raise.to.unwrap_or(today);
    let outcome = Outcome::new("cluster.finish_upgrade", 200, leader)
        .extra("before", today)
        .extra("cluster_version", version)
        .note(format!("from cluster version {today} to {version}"));
    Ok((draft, outcome))
}

fn refused(today: u32, blocks: &[Block]) -> Error {
    let of_each = |part: fn(&Block) -> &str| {
        let parts: Vec<String> = blocks
            .iter()
            .map(|block| format!("{}: {}", block.controller, part(block)))
            .collect();
        parts.join("; ")
    };
    let problem = of_each(|block| &block.why);
    Error::new(
        ErrorCode::Conflict,
        format!("the cluster version stays {today}: {problem}"),
    )
    .advise(of_each(|block| &block.advice))
    .with_details(serde_json::json!({ "blocks": blocks }).to_string())
}
