//! Alerts that the controllers raise and resolve by themselves: so far one, a host that is silent for long.

use std::collections::BTreeMap;

use virtflow_model::kinds::alert::{AlertSpec, AlertState, AlertStatus, Severity};
use virtflow_model::kinds::baremetal::{HostState, Liveness};
use virtflow_model::kinds::notification::{NotificationSpec, NotificationStatus, Topic};
use virtflow_model::kinds::{Alert, Baremetal, Notification, VirtualMachine};
use virtflow_model::{Kind, key, space};
use virtflow_state::{Change, Changeset, Object, State};
use virtflow_types::{Error, ObjectId, Timestamp};

use super::{Watching, changed_of, ids_of, packed};
use crate::draft::{Draft, Place};
use crate::limits::{
    ALERT_KEPT, HOST_LOST_ALERT_AFTER, Limits, NOTIFICATION_KEPT, NOTIFIED_PER_ALERT_MAX,
};
use crate::typed::decoded;

/// The rule about hosts that are not heard.
const HOST_LOST: &str = "host_lost";

/// Raises an alert about a host that has been silent for long, tells the users whose VMs are there, and
/// resolves it when the host is heard again, is decommissioned or is gone.
pub(super) const HOST_ALERTS: Watching = Watching {
    name: "host_alerts",
    scan: |state| {
        let alerts = ids_of(state, Kind::Alert).into_iter();
        let about = alerts.filter_map(|alert| source_of(state.get(alert)?));
        // Each host once: those that are there come by themselves.
        let gone = about.filter(|host| state.get(*host).is_none());
        ids_of(state, Kind::Baremetal)
            .into_iter()
            .chain(gone)
            .collect()
    },
    touched: |_, change| touched(change),
    due: |state, host| is_lost(state, host) != raised(state, host).is_some(),
    work,
};

/// One pass over all hosts.
pub fn host_alerts(state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
    HOST_ALERTS.pass(state, now, limits)
}

fn source_of(alert: &Object) -> Option<ObjectId> {
    decoded::<Alert>(alert)
        .ok()
        .map(|alert| alert.spec.source_id)
}

fn touched(change: &Change) -> Vec<ObjectId> {
    let mut hosts = changed_of(change, Kind::Baremetal);
    if !changed_of(change, Kind::Alert).is_empty() {
        let alert = change.after.as_ref().or(change.before.as_ref());
        hosts.extend(alert.and_then(|alert| source_of(alert)));
    }
    hosts
}

fn is_lost(state: &State, host: ObjectId) -> bool {
    let host = state
        .get(host)
        .and_then(|host| decoded::<Baremetal>(host).ok());
    host.is_some_and(|host| {
        let silent = matches!(
            host.status.liveness,
            Liveness::Offline | Liveness::Quarantined
        );
        silent && host.spec.state != HostState::Decommissioned
    })
}

/// The alert about a host that is not over.
fn raised(state: &State, host: ObjectId) -> Option<ObjectId> {
    let holder = state.holder(space::ALERT, format!("{host}/{HOST_LOST}").as_bytes());
    holder.map(|alert| alert.id)
}

fn work(state: &State, now: Timestamp, limits: &Limits, due: &[ObjectId]) -> Vec<Changeset> {
    packed(state, now, limits, due, |draft, host| {
        match raised(state, *host) {
            Some(alert) => resolve(draft, alert),
            None => raise(draft, *host),
        }
    })
}

fn resolve(draft: &mut Draft<'_>, alert: ObjectId) -> Result<(), Error> {
    let now = draft.cx.now;
    draft
        .update::<Alert>(alert, |_, status| {
            status.state = AlertState::Resolved;
            status.resolved_at = Some(now);
            status.retire_at = Some(now.plus(ALERT_KEPT));
        })
        .map(drop)
}

fn raise(draft: &mut Draft<'_>, host: ObjectId) -> Result<(), Error> {
    let now = draft.cx.now;
    let typed = draft.typed::<Baremetal>(host)?;
    if now.since(typed.status.liveness_since) < HOST_LOST_ALERT_AFTER {
        return Ok(());
    }
    let name = draft
        .get(host)
        .map_or_else(String::new, |host| host.name.to_string());
    let since = typed.status.liveness_since;
    let message = format!(
        "host `{name}` has been {} since {since}",
        typed.status.liveness.name()
    );
    let spec = AlertSpec {
        rule: HOST_LOST.into(),
        source_kind: Kind::Baremetal,
        source_id: host,
        source_name: name.clone(),
        severity: Severity::Critical,
        message,
        silenced_until: None,
    };
    draft.create::<Alert>(Place::default(), spec, AlertStatus::default())?;
    for (user, vms) in concerned(draft.state, host) {
        let Some(tenant) = open_place(draft.state, user) else {
            continue;
        };
        let place = Place {
            tenant,
            parent: Some(user),
            ..Place::default()
        };
        let spec = NotificationSpec {
            user_id: user,
            topic: Topic::Alert,
            message: format!("the host of {vms} of your VMs has been silent since {since}"),
            read: false,
        };
        let retire_at = now.plus(NOTIFICATION_KEPT);
        draft.create::<Notification>(place, spec, NotificationStatus { retire_at })?;
    }
    Ok(())
}

/// The users whose VMs are bound to a host, and how many; a bounded number of them.
fn concerned(state: &State, host: ObjectId) -> BTreeMap<ObjectId, u32> {
    let mut users = BTreeMap::new();
    for vm in state.by_key(key::VM_HOST, &host.to_string(), None) {
        let user = decoded::<VirtualMachine>(vm).ok();
        let Some(user) = user.and_then(|vm| vm.status.charged_user_id) else {
            continue;
        };
        if users.len() < NOTIFIED_PER_ALERT_MAX || users.contains_key(&user) {
            *users.entry(user).or_insert(0) += 1;
        }
    }
    users
}

/// The tenant of a user to whom something can be written: neither is closed.
fn open_place(state: &State, user: ObjectId) -> Option<Option<ObjectId>> {
    let user = state.get(user).filter(|user| !user.closed)?;
    let Some(tenant) = user.tenant else {
        return Some(None);
    };
    let open = state.get(tenant).is_some_and(|tenant| !tenant.closed);
    open.then_some(Some(tenant))
}
