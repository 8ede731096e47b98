//! What groups and hosts have, and what is taken of it.

use serde_json::{Map, Value, json};
use virtflow_model::kinds::baremetal::Health;
use virtflow_model::kinds::{Baremetal, UserGroup};
use virtflow_model::{Kind, key};
use virtflow_scheduler::DIMENSIONS;
use virtflow_state::State;
use virtflow_types::{Error, ObjectId};

use crate::cx::Cx;
use crate::door::{Door, groups_of};
use crate::loops::balance;
use crate::typed::decoded;

/// Groups, and hosts of one group, that are told.
const TOLD_MAX: usize = 10_000;

/// Limits and use of a tenant and of its quotas in groups, from the ledgers; `limit` and `available` are null where there
/// is none.
pub fn usage(state: &State, cx: &Cx, tenant: &str) -> Result<Value, Error> {
    let door = Door::open(state, cx)?;
    let tenant = door.find(Kind::Tenant, tenant, None)?;
    let mut quotas = Vec::new();
    for source in state.linking_to(tenant.id).take(TOLD_MAX) {
        let Some(object) = state.get(source) else {
            continue;
        };
        let is_quota = object.kind == Kind::BaremetalGroupTenantQuota.name();
        if is_quota && door.sees(object) {
            let spec: Value = serde_json::from_str(&object.spec).unwrap_or_default();
            let group = spec["group_id"].as_str().and_then(|id| id.parse().ok());
            let group = group.and_then(|id: ObjectId| state.get(id));
            quotas.push(json!({
                "id": object.id,
                "group_id": spec["group_id"],
                "group": group.map_or("", |group| group.name.as_str()),
                "accounts": accounts(state, object.id),
            }));
        }
    }
    Ok(json!({
        "tenant_id": tenant.id,
        "tenant": tenant.name.as_str(),
        "accounts": accounts(state, tenant.id),
        "quotas": quotas,
    }))
}

/// Limits and use of a user or a user group, itself first, then of every level above that what it makes is charged to: a
/// user's groups, the groups above those, the tenant. Levels that the asker does not see are left out.
pub fn usage_of_level(
    state: &State,
    cx: &Cx,
    kind: Kind,
    target: &str,
    tenant: Option<&str>,
) -> Result<Value, Error> {
    let door = Door::open(state, cx)?;
    let tenant = door.tenant(tenant)?;
    let object = door.find(kind, target, tenant)?;
    let mut groups: Vec<ObjectId> = match kind {
        Kind::UserGroup => vec![object.id],
        _ => groups_of(state, object.id).collect(),
    };
    let mut levels = vec![object.id];
    // Breadth first: what is nearer comes earlier.
    while !groups.is_empty() {
        let mut above = Vec::new();
        for group in groups {
            if levels.contains(&group) && group != object.id {
                continue;
            }
            if group != object.id {
                levels.push(group);
            }
            if let Some(found) = state.get(group) {
                above.extend(decoded::<UserGroup>(found)?.spec.parent_group_id);
            }
        }
        groups = above;
    }
    levels.extend(object.tenant);
    let told = |id: &ObjectId| {
        let level = state.get(*id).filter(|level| door.sees(level))?;
        Some(json!({
            "kind": level.kind.as_str(),
            "id": level.id,
            "name": level.name.as_str(),
            "accounts": accounts(state, level.id),
        }))
    };
    Ok(json!({"levels": levels.iter().filter_map(told).collect::<Vec<_>>()}))
}

/// What groups and hosts have, hand out and have left, overcommit included.
pub fn capacity(state: &State, cx: &Cx) -> Result<Value, Error> {
    let door = Door::open(state, cx)?;
    let mut groups = Vec::new();
    for group in state
        .of_kind(Kind::BaremetalGroup.name(), None)
        .take(TOLD_MAX)
    {
        if !door.sees(group) {
            continue;
        }
        let mut hosts = Vec::new();
        let members = state.by_key(key::HOST_GROUP, &group.id.to_string(), None);
        for host in members.take(TOLD_MAX) {
            if !door.sees(host) {
                continue;
            }
            let typed = decoded::<Baremetal>(host)?;
            let mut entry = shown_balance(state, host.id);
            entry.insert("id".into(), json!(host.id));
            entry.insert("name".into(), host.name.as_str().into());
            entry.insert("liveness".into(), typed.status.liveness.name().into());
            entry.insert("health".into(), typed.status.health.name().into());
            if typed.status.health > Health::Healthy {
                entry.insert("health_since".into(), json!(typed.status.health_since));
                entry.insert("health_reasons".into(), json!(typed.status.health_reasons));
            }
            entry.insert("state".into(), json!(typed.spec.state));
            entry.insert(
                "vms".into(),
                state
                    .count_by_key(key::VM_HOST, &host.id.to_string())
                    .into(),
            );
            hosts.push(Value::Object(entry));
        }
        // Sums over a whole group are its operators' business; a tenant sees its own quota by `usage`.
        let whole = door
            .rights
            .over(&[group.id])
            .contains(virtflow_model::Permission::new(
                Kind::BaremetalGroup,
                virtflow_model::Action::Read,
            ));
        let mut entry = if whole {
            shown_balance(state, group.id)
        } else {
            Map::new()
        };
        entry.insert("id".into(), json!(group.id));
        entry.insert("name".into(), group.name.as_str().into());
        entry.insert("hosts".into(), hosts.into());
        groups.push(Value::Object(entry));
    }
    // Put in as they are: `json!` would copy them all.
    let mut report = Map::new();
    report.insert("groups".into(), groups.into());
    Ok(report.into())
}

fn accounts(state: &State, owner: ObjectId) -> Map<String, Value> {
    state
        .accounts_of(owner)
        .map(|(key, account)| {
            let limit = state.limit_of(key).filter(|limit| *limit != u64::MAX);
            let available = limit.map(|limit| limit.saturating_sub(account.used));
            let entry = json!({"limit": limit, "used": account.used, "available": available});
            (key.dimension.to_string(), entry)
        })
        .collect()
}

/// The accounts of a host or a group: what there is, what is taken, what is left.
fn shown_balance(state: &State, owner: ObjectId) -> Map<String, Value> {
    let balance = balance(state, owner);
    let amounts = |of: fn((u64, u64)) -> u64| {
        let amounts = DIMENSIONS.iter().zip(balance);
        let map: Map<String, Value> = amounts
            .map(|(name, one)| ((*name).to_owned(), of(one).into()))
            .collect();
        Value::Object(map)
    };
    let mut entry = Map::new();
    entry.insert("total".into(), amounts(|(limit, _)| limit));
    entry.insert("allocated".into(), amounts(|(_, used)| used));
    entry.insert(
        "available".into(),
        amounts(|(limit, used)| limit.saturating_sub(used)),
    );
    entry
}
