//! Renting a whole host: an instance takes one that is free, and counts in every quota as all that the host has.
//!
//! What keeps others off stands in the footprints: the instance is charged all of the host's room, and the host is
//! shut for new links as long as it is rented.

use std::sync::Arc;

use serde_json::json;
use virtflow_model::kinds::baremetal::{Health, HostState, Liveness, Rental};
use virtflow_model::kinds::baremetal_group::GroupState;
use virtflow_model::kinds::instance::{InstanceSpec, InstanceStatus, Rented};
use virtflow_model::kinds::{Baremetal, BaremetalGroup, Instance};
use virtflow_model::{Kind, key};
use virtflow_scheduler::Amounts;
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::audit::Entry;
use crate::door::{Door, quota_of};
use crate::draft::{Draft, Place};
use crate::explain::{call, check_group_quota, no_group_quota};
use crate::instances::state_of;
use crate::limits::CASCADE_MAX;
use crate::loops::{balance, data_center_is_open};
use crate::typed::decoded;

/// A host that can be rented.
#[derive(Debug, Clone, Copy)]
struct Offer {
    host: ObjectId,
    group: ObjectId,
    quota: ObjectId,
    total: Amounts,
}

/// Why hosts that are for rent were passed over, for who finds none.
#[derive(Debug, Default)]
struct Passed {
    not_ready: usize,
    rented: usize,
    in_use: usize,
    too_small: usize,
    /// The first one that the tenant's quota in its group is too small for.
    over_quota: Option<Error>,
}

impl Draft<'_> {
    /// Makes an instance that has a host for itself: of those that are free, large enough and within the tenant's
    /// quota, the smallest.
    ///
    /// Fails with `quota_exceeded` where only a quota is in the way, with `no_capacity` where there is no such host.
    pub(crate) fn rent(
        &mut self,
        door: &Door<'_>,
        place: Place,
        spec: InstanceSpec,
        at_least: Amounts,
    ) -> Result<Arc<Object>, Error> {
        let tenant = place.tenant.unwrap_or(ObjectId::NIL);
        let offer = find(door.state, tenant, &spec, at_least)?;
        let id = place.id.unwrap_or_else(ObjectId::generate);
        let [cpu_milli, memory_mib, storage_gib, gpus] = offer.total;
        let host = self.typed::<Baremetal>(offer.host)?;
        let status = InstanceStatus {
            state: state_of(host.status.liveness),
            vm_id: None,
            rented: Some(Rented {
                host_id: offer.host,
                group_id: offer.group,
                quota_id: offer.quota,
                charged_user_id: door.cx.user_id(),
                cpu_milli,
                memory_mib,
                storage_gib,
                gpus,
                rented_at: door.cx.now,
            }),
        };
        let place = Place {
            id: Some(id),
            ..place
        };
        let instance = self.create::<Instance>(place, spec, status)?;
        let host = self.update::<Baremetal>(offer.host, |_, status| {
            status.instance_id = Some(id);
        })?;
        self.audit(&Entry {
            action: "baremetal.rent",
            object: &host,
            before: None,
            note: &format!("{} has it for itself", call(&instance)),
        });
        Ok(instance)
    }

    /// The instance is gone: its row, its memberships in sets and the role bindings over it. A host that it rents is free again.
    pub(crate) fn remove_instance(&mut self, instance: &Object) -> Result<(), Error> {
        let rented = decoded::<Instance>(instance)?.status.rented.clone();
        if let Some(rented) = rented.filter(|rented| self.get(rented.host_id).is_some()) {
            let host = self.update::<Baremetal>(rented.host_id, |_, status| {
                status.instance_id = status.instance_id.filter(|id| *id != instance.id);
            })?;
            self.audit(&Entry {
                action: "baremetal.give_back",
                object: &host,
                before: None,
                note: &format!("{} is gone", call(instance)),
            });
        }
        self.delete_hanging_on(instance.id, &[Kind::InstanceSetMember], || {
            let message = format!("{} is in more than {CASCADE_MAX} sets", call(instance));
            Error::new(ErrorCode::LimitExceeded, message)
                .advise("take it out of some of them first")
        })?;
        self.delete_bindings_over(instance.id)?;
        self.delete(instance.id);
        Ok(())
    }
}

/// Refuses while somebody rents the host; `so` is what cannot be done then.
pub(crate) fn refuse_while_rented(state: &State, host: &Object, so: &str) -> Result<(), Error> {
    let Some(instance) = decoded::<Baremetal>(host)?.status.instance_id else {
        return Ok(());
    };
    let instance = state
        .get(instance)
        .map_or_else(|| format!("instance {instance}"), |found| call(found));
    let message = format!("{} is rented by {instance}: it cannot {so}", call(host));
    Err(Error::new(ErrorCode::InUse, message).advise("delete the instance first"))
}

fn find(
    state: &State,
    tenant: ObjectId,
    spec: &InstanceSpec,
    at_least: Amounts,
) -> Result<Offer, Error> {
    let mut passed = Passed::default();
    let mut offers = Vec::new();
    let mut has_quota = false;
    let groups = state.of_kind(Kind::BaremetalGroup.name(), None);
    let groups = groups.filter(|group| spec.group_id.is_none_or(|only| only == group.id));
    for group in groups {
        let Some(quota) = quota_of(state, group.id, tenant) else {
            continue;
        };
        has_quota = true;
        let typed_group = decoded::<BaremetalGroup>(group)?;
        let is_open = typed_group.spec.state == GroupState::Active;
        for host in state.by_key(key::HOST_GROUP, &group.id.to_string(), None) {
            let typed = decoded::<Baremetal>(host)?;
            if typed.spec.rental != Rental::Exclusive {
                continue;
            }
            let balance = balance(state, host.id);
            let total = balance.map(|(limit, _)| limit);
            let is_ready = is_open
                && typed.spec.state == HostState::Active
                && typed.status.liveness == Liveness::Online
                && typed.status.health != Health::Critical
                && data_center_is_open(state, &typed.spec, &typed_group.spec);
            let reason = if typed.status.instance_id.is_some() {
                &mut passed.rented
            } else if !is_ready {
                &mut passed.not_ready
            } else if balance.iter().any(|(_, used)| *used > 0)
                || !typed.status.foreign.is_nothing()
            {
                &mut passed.in_use
            } else if total.iter().zip(at_least).any(|(has, asked)| *has < asked) {
                &mut passed.too_small
            } else {
                match check_group_quota(state, group.id, tenant, total) {
                    Ok(()) => offers.push(Offer {
                        host: host.id,
                        group: group.id,
                        quota: quota.id,
                        total,
                    }),
                    Err(error) => passed.over_quota = passed.over_quota.or(Some(error)),
                }
                continue;
            };
            *reason += 1;
        }
    }
    let smallest = offers
        .into_iter()
        .min_by_key(|offer| (offer.total, offer.host));
    match smallest {
        Some(offer) => Ok(offer),
        None if has_quota => Err(passed.error()),
        None => Err(no_group_quota(state, tenant, spec.group_id)),
    }
}

impl Passed {
    fn error(self) -> Error {
        if let Some(error) = self.over_quota {
            return error.advise("a whole host counts with all it has; ask for a larger quota");
        }
        let reasons = [
            (self.rented, "rented already"),
            (self.not_ready, "not ready"),
            (
                self.in_use,
                "still used by VMs, or with domains that are not VirtFlow's",
            ),
            (self.too_small, "too small"),
        ];
        let reasons = reasons.iter().filter(|(count, _)| *count > 0);
        let reasons: Vec<String> = reasons
            .map(|(count, why)| format!("{count} {why}"))
            .collect();
        let message = if reasons.is_empty() {
            "no host can be rented as a whole: none in the groups that may be used is for rent"
                .into()
        } else {
            format!("no host can be rented as a whole: {}", reasons.join(", "))
        };
        let hosts = self.rented + self.not_ready + self.in_use + self.too_small;
        let details = json!({
            "hosts": hosts, "rented": self.rented, "not_ready": self.not_ready,
            "in_use": self.in_use, "too_small": self.too_small,
        });
        Error::new(ErrorCode::NoCapacity, message)
            .advise("try again later, ask for less, or ask an operator to offer a host: `rental: exclusive`")
            .with_details(details.to_string())
    }
}
