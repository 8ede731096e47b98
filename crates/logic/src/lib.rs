//! What VirtFlow decides: every verb, every observation and every loop, as pure functions from a state to
//! a changeset.
//!
//! Nothing here does I/O, reads a clock or waits. Time, ids of secrets and who asks come as arguments; a
//! decision is a changeset whose conditions make it harmless if the state has moved on. People's requests
//! come in by one function, [`decide`]: it checks who asks on the very state it decides on, lets the verb
//! in or not, writes the audit record and the idempotency key into the same changeset. What leaders do by
//! themselves is under [`loops`], what hosts report comes in by [`observed`] and its neighbours, reads are
//! answered on an unmoving image with the asker's eyes.
//!
//! Not here: agreement (`virtflow-raft`), what is shown on the wire (the controller's API), passwords and
//! keys (hashes come in ready-made).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accounts;
mod addresses;
mod administrators;
mod audit;
mod billing;
mod cx;
mod decide;
mod desired;
mod door;
mod draft;
mod enrol;
mod explain;
mod foreign;
mod genesis;
mod instances;
pub mod limits;
pub mod loops;
mod metering;
mod observe;
mod operations;
mod read;
mod rental;
mod request;
mod seal;
mod site;
mod together;
mod typed;
mod upgrade;
mod verbs;
mod verify;
mod views;
mod vm;

pub use accounts::{CREDENTIAL_USES_MAX, credentials_used, is_use_news, lock_user};
pub use audit::{AUDIT_STREAM, REFUSALS_MAX, Refusal, refusals_summary};
pub use billing::{Measured, record_usage};
pub use cx::{
    Cx, Idempotency, IfMatch, LoginCandidate, Principal, Via, authenticate_certificate,
    authenticate_session, authenticate_token, login_candidate,
};
pub use decide::decide;
pub use desired::{Desired, DesiredVm, causes_of, desired_of, hosts_touched};
pub use enrol::{
    Announce, Enrol, Enrolled, controller_announce, controller_removed, controller_supports, enrol,
};
pub use explain::explain;
pub use genesis::{Genesis, genesis};
pub use limits::{CLOUD_BOX_REPORT_EVERY, CLOUD_BOX_SILENCE_MAX, Limits};
pub use loops::{Placer, overdue, wakes_placer};
pub use observe::{
    HostHello, HostInventory, HostSigns, ObservedPhase, ObservedReport, ObservedVm,
    cloud_boxes_heard, cloud_boxes_silent, controller_admitted, host_admitted, host_health_differs,
    host_of_key, host_offline, host_online, host_quarantine, hosts_fare, inventory_changed,
    observed,
};
pub use read::{
    AccessQuestion, ConsoleTarget, EffectiveQuery, Fields, Layers, ListQuery, Meant, MergeQuery,
    OntologyQuery, Page, Past, PastList, Plan, PlanOrder, Search, Sight, TargetRole, TextPage,
    Watch, Whom, access_effect, audit_actor, audit_scope, authorize_only, bill, can_i, capacity,
    cluster_view, console_of, depends_on_asker, effective, effective_for, effective_of,
    explain_access, foreign_domains, get, list, list_text, merged, monitoring_targets, ontology,
    operation_state, permission_of, placement, public, public_text, shown, upgrade_view, usage,
    usage_of_level, verify_report, who_can, whoami,
};
pub use request::{
    AddressAct, AddressVerb, Adopt, AllocateAddress, CloudBoxTells, ControllerVerb, Create, Delete,
    Group, GroupMember, HostAct, HostVerb, Login, NewSecret, Power, Refresh, Reply, Request,
    Reveal, SetPassword, Update,
};
pub use seal::{Seal, SecretAt};
pub use together::{Item, decide_together};
pub use typed::{Typed, decoded, kind_of};
pub use verbs::SEALED;
pub use verify::{FootprintDivergence, verify_footprints};
pub use views::{KindView, ViewColumn, ViewPart, views};

#[cfg(test)]
#[global_allocator]
static MEMORY: virtflow_testkit::fuzz::memory::Counting = virtflow_testkit::fuzz::memory::Counting;
