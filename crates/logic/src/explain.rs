//! What the state refused, told in the words of whoever asked.

use serde_json::json;
use virtflow_model::net::Address;
use virtflow_model::{Kind, dimension, space, with_article};
use virtflow_scheduler::{Amounts, DIMENSIONS};
use virtflow_state::{Changeset, Object, Op, Refused, State};
use virtflow_types::{AccountKey, Error, ErrorCode, ObjectId};

use crate::door::quota_of;
use crate::loops::balance;

/// The error for a changeset that the state refused.
pub fn explain(state: &State, refused: &Refused) -> Error {
    Explainer {
        state,
        changeset: None,
    }
    .error(refused)
}

/// The same, for a changeset at hand: what it would have made can be called by name.
pub(crate) fn explain_changeset(state: &State, changeset: &Changeset, refused: &Refused) -> Error {
    Explainer {
        state,
        changeset: Some(changeset),
    }
    .error(refused)
}

struct Explainer<'a> {
    state: &'a State,
    changeset: Option<&'a Changeset>,
}

impl Explainer<'_> {
    fn error(&self, refused: &Refused) -> Error {
        match refused {
            Refused::Claimed {
                object,
                space,
                lo,
                holder,
            } => self.claimed(*object, space, lo, *holder),
            Refused::LinkMissing { target, .. } => Error::new(
                ErrorCode::Conflict,
                format!("{} does not exist any more", self.call(*target)),
            )
            .advise("name another one"),
            Refused::LinkClosed { object, target } => Error::new(
                ErrorCode::Conflict,
                format!(
                    "{} takes nothing new now, so {} cannot refer to it",
                    self.call(*target),
                    self.call(*object)
                ),
            )
            .advise("it is suspended, cordoned, rented as a whole, deprecated or being deleted; make it active or name another"),
            Refused::StillLinked { object, by } => Error::new(
                ErrorCode::InUse,
                format!("{} is still needed by {}", self.call(*object), self.call(*by)),
            )
            .advise(format!("remove {} first", self.call(*by)))
            .with_details(json!({"object": object, "needed_by": by}).to_string()),
            Refused::AccountInUse { account } => Error::new(
                ErrorCode::InUse,
                format!("{} still has {} allocated", self.call(account.owner), account.dimension),
            )
            .advise("delete what takes it first"),
            Refused::OverLimit {
                account,
                limit,
                used,
                asked,
            } => over_limit(self.state, account, *limit, *used, *asked),
            Refused::Version { object, .. } | Refused::Expectation { object, .. } => Error::new(
                ErrorCode::Conflict,
                format!("{} changed at the same moment", self.call(*object)),
            )
            .advise("read it again and repeat the request"),
            Refused::ClusterVersion { asked, why } => Error::new(
                ErrorCode::Conflict,
                format!("the cluster version cannot become {asked}: {why}"),
            )
            .advise("upgrade every controller first"),
            Refused::Malformed(_) | Refused::Unconditional | Refused::AccountMissing { .. } => {
                Error::new(ErrorCode::Internal, format!("the decision was unsound: {refused}"))
                    .advise("nothing was changed; please report it with the request id")
            }
        }
    }

    fn claimed(&self, object: ObjectId, space: &str, lo: &[u8], holder: ObjectId) -> Error {
        let value = String::from_utf8_lossy(lo).into_owned();
        let (message, advice) = if space.starts_with("name/") {
            let kind = self.find(object).map_or("object", |o| kind_word(&o));
            (
                format!("{} named `{value}` exists already", with_article(kind)),
                "choose another name, or use the one that is there",
            )
        } else if space.starts_with("idempotency/") {
            (
                format!("the idempotency key `{value}` is in use by a request of the same moment"),
                "repeat the request with the same key to get its answer",
            )
        } else if let Some(what) = host_address(space) {
            (
                format!("another host in that data centre has the {what} address `{value}`"),
                "give it another one, or take it from the other host first",
            )
        } else if let Some(network) = network_claimed(space, lo) {
            network
        } else {
            match space {
                space::SERIAL_NUMBER => (
                    format!("a host with the serial number `{value}` is registered already"),
                    "remove that host first, or make an invitation bound to this serial number",
                ),
                space::PUBLIC_KEY => (
                    "that key belongs to another host or controller already".to_owned(),
                    "make a new key: remove the identity folder and join again",
                ),
                space::MAINTAINER_ACCOUNT => (
                    format!("the account `{value}` is another maintainer's"),
                    "name another account, or use the maintainer that is there",
                ),
                space::CLOUD_BOX_SERIAL => (
                    format!("a cloud box with the serial number `{value}` exists already"),
                    "use the one that is there, or delete it first",
                ),
                space::CLOUD_BOX_VM => (
                    "that VM is bound to another cloud box".to_owned(),
                    "end that binding first, or wait until it ends by itself",
                ),
                space::EMAIL => (
                    format!("the e-mail address `{value}` is taken"),
                    "choose another address",
                ),
                space::VLAN => {
                    let vlan = lo.iter().fold(0u32, |n, byte| n << 8 | u32::from(*byte));
                    (
                        format!("VLAN {vlan} is another tenant's"),
                        "choose another VLAN",
                    )
                }
                space::LATEST => (
                    "another version became the image's latest at the same moment".to_owned(),
                    "read the image's versions again and repeat the request",
                ),
                space::ADOPTED_DOMAIN => (
                    "that domain is a VM already".to_owned(),
                    "`virtflow vm list --host` shows the VMs of its host",
                ),
                space::POOL_SUBNET => (
                    "the subnet has a pool already".to_owned(),
                    "let that pool grow, or make a pool of another subnet",
                ),
                space::PAIR => (
                    "there is one already for this pair".to_owned(),
                    "change or delete the one that is there",
                ),
                space::CONFIG => (
                    "another configuration of that scope is active already".to_owned(),
                    "make that one inactive first, or change it",
                ),
                space::ONTOLOGY => (
                    "that version of the ontology exists already".to_owned(),
                    "choose another version",
                ),
                space::SINGLE => {
                    let what = value.split('/').next().unwrap_or_default();
                    (
                        format!("another one is {what} already, and only one can be"),
                        "change the one that is there first",
                    )
                }
                _ => (
                    format!("`{value}` is taken in `{space}`"),
                    "choose another value",
                ),
            }
        };
        let mut error = Error::new(ErrorCode::AlreadyExists, message).advise(advice);
        // Only within one tenant is the holder's id no news.
        let tenant_of = |id| self.find(id).and_then(|object| object.tenant);
        if tenant_of(object).is_some() && tenant_of(object) == tenant_of(holder) {
            error = error.with_details(json!({"holder": holder}).to_string());
        }
        error
    }

    fn find(&self, id: ObjectId) -> Option<Object> {
        if let Some(object) = self.state.get(id) {
            return Some((**object).clone());
        }
        self.changeset?.ops.iter().find_map(|op| match op {
            Op::Put(object) if object.id == id => Some((**object).clone()),
            _ => None,
        })
    }

    fn call(&self, id: ObjectId) -> String {
        match self.find(id) {
            Some(object) => call(&object),
            None => format!("object {id}"),
        }
    }
}

/// Ranges, addresses and numbers of networks, which are no text.
fn network_claimed(space: &str, lo: &[u8]) -> Option<(String, &'static str)> {
    let number = || lo.iter().fold(0u128, |n, byte| n << 8 | u128::from(*byte));
    let address = || Address::from_number(number());
    let told = match space {
        space::VPC_VLAN => (
            format!("VLAN {} carries another VPC", number()),
            "choose another VLAN, or a VNI: there are more of them",
        ),
        space::VNI => (
            format!("VNI {} carries another VPC", number()),
            "choose another VNI",
        ),
        space::SUBNET_PLACE => (
            "that subnet is another place's".to_owned(),
            "choose another subnet, or take it from that place first",
        ),
        _ => match space.split_once('/')?.0 {
            "subnet" => (
                format!(
                    "the block that begins at {} overlaps another subnet's",
                    address()
                ),
                "choose a block that no other subnet has a part of",
            ),
            "ip_pool" => (
                format!(
                    "the range that begins at {} overlaps another pool's",
                    address()
                ),
                "choose a range that no other pool has a part of",
            ),
            "address" => (
                format!("the address {} is taken", address()),
                "choose another address; a subnet's own, its gateway's and the one for all are never given",
            ),
            _ => return None,
        },
    };
    Some(told)
}

/// `virtual_machine web-1`, or the id where there is no name.
pub(crate) fn call(object: &Object) -> String {
    if object.name.is_empty() {
        format!("{} {}", object.kind, object.id)
    } else {
        format!("{} `{}`", object.kind, object.name)
    }
}

/// Which address of hosts a space is of.
fn host_address(space: &str) -> Option<&'static str> {
    match space.split('/').next()? {
        "management_address" => Some("management"),
        "business_address" => Some("business"),
        _ => None,
    }
}

fn kind_word(object: &Object) -> &'static str {
    Kind::of_name(&object.kind).map_or("object", Kind::name)
}

/// The name of an object, or its id where it is not there.
pub(crate) fn name_of(state: &State, id: ObjectId) -> String {
    state
        .get(id)
        .map_or_else(|| id.to_string(), |object| object.name.to_string())
}

/// A tenant may take nothing of a group of hosts, or of any.
pub(crate) fn no_group_quota(state: &State, tenant: ObjectId, group: Option<ObjectId>) -> Error {
    let place = match group {
        Some(group) => format!("the group `{}`", name_of(state, group)),
        None => "any group of hosts".into(),
    };
    let message = format!(
        "tenant `{}` has no quota in {place}",
        name_of(state, tenant)
    );
    Error::new(ErrorCode::QuotaExceeded, message)
        .advise("ask an operator for a quota: `virtflow quota create`; or name another group")
        .with_details(
            json!({"level": "baremetal_group_tenant_quota", "limit": 0, "used": 0}).to_string(),
        )
}

/// Refuses what is more than a tenant has left in a group of hosts, by the first dimension that is short.
pub(crate) fn check_group_quota(
    state: &State,
    group: ObjectId,
    tenant: ObjectId,
    demand: Amounts,
) -> Result<(), Error> {
    let Some(quota) = quota_of(state, group, tenant) else {
        return Err(no_group_quota(state, tenant, Some(group)));
    };
    let balance = balance(state, quota.id);
    let short = |at: &usize| demand[*at] > balance[*at].0.saturating_sub(balance[*at].1);
    let short = (0..DIMENSIONS.len()).find(short);
    let error =
        short.and_then(|at| over_group_quota(state, group, tenant, DIMENSIONS[at], demand[at]));
    error.map_or(Ok(()), Err)
}

/// A tenant's quota in a group of hosts is too small for what is asked; nothing if it has none there.
pub(crate) fn over_group_quota(
    state: &State,
    group: ObjectId,
    tenant: ObjectId,
    dimension: &'static str,
    asked: u64,
) -> Option<Error> {
    let key = AccountKey::new(quota_of(state, group, tenant)?.id, dimension);
    let limit = state.limit_of(&key).unwrap_or(0);
    let used = state.account(&key).map_or(0, |account| account.used);
    let mut error = over_limit(state, &key, limit, used, asked);
    error.message = format!(
        "the quota of tenant `{}` in the group `{}` is exceeded in {dimension}: limit {limit}, used {used}, asked {asked}",
        name_of(state, tenant),
        name_of(state, group),
    );
    Some(error)
}

/// A quota or a capacity that does not suffice: limit, used and asked, and whose it is.
pub(crate) fn over_limit(
    state: &State,
    account: &AccountKey,
    limit: u64,
    used: u64,
    asked: u64,
) -> Error {
    let owner = state.get(account.owner);
    let kind = owner.and_then(|owner| Kind::of_name(&owner.kind));
    let whose = owner.map_or_else(|| format!("object {}", account.owner), |owner| call(owner));
    let figures = format!("limit {limit}, used {used}, asked {asked}");
    let dimension = &account.dimension;
    let details = json!({
        "level": kind.map_or("unknown", Kind::name),
        "dimension": dimension.as_str(),
        "limit": limit,
        "used": used,
        "asked": asked,
        "account": account.to_string(),
        "owner": owner.map_or("", |owner| owner.name.as_str()),
    })
    .to_string();
    let error = match kind {
        Some(Kind::Baremetal | Kind::BaremetalGroup) => Error::new(
            ErrorCode::NoCapacity,
            format!("{whose} has not enough {dimension}: {figures}"),
        )
        .advise("ask for less, or wait until something is deleted"),
        Some(Kind::PrivateDataDisk) => Error::new(
            ErrorCode::Conflict,
            format!("{whose} is attached to as many VMs as it may be: {figures}"),
        )
        .advise("detach it from another VM first, or share it with more by `max_attachments`"),
        _ if dimension == dimension::IDEMPOTENCY_KEYS => Error::new(
            ErrorCode::LimitExceeded,
            format!("too many idempotency keys at once: {figures}"),
        )
        .advise("wait until older keys expire, or send requests without one"),
        _ => Error::new(
            ErrorCode::QuotaExceeded,
            format!("the quota of {whose} is exceeded in {dimension}: {figures}"),
        )
        .advise("delete what is not needed, or ask for a larger quota"),
    };
    error.with_details(details)
}
