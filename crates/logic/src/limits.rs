//! Deadlines, retentions and batch sizes, each with its name.

use std::time::Duration;

/// What loops and verbs are bounded by.
#[derive(Debug, Clone)]
pub struct Limits {
    /// VMs that one pass of the placer looks at.
    pub placements_per_pass: usize,
    /// Objects that one changeset of a loop changes.
    pub objects_per_changeset: usize,
    /// Changesets of one pass of a loop.
    pub changesets_per_pass: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            placements_per_pass: 256,
            objects_per_changeset: 100,
            changesets_per_pass: 64,
        }
    }
}

/// How long a host may take to make a VM.
pub const CREATING_MAX: Duration = Duration::from_secs(300);
/// How long a host may take to start a VM.
pub const STARTING_MAX: Duration = Duration::from_secs(180);
/// How long a host may take to stop a VM, beyond the guest's grace time.
pub const STOPPING_MAX: Duration = Duration::from_secs(60);
/// How long a host may take to confirm that a VM is gone.
pub const DELETING_MAX: Duration = Duration::from_secs(120);
/// How long an operation may wait for its VM beyond what the VM's own deadline allows: for a placement,
/// for a silent host.
pub const OPERATION_MAX: Duration = Duration::from_secs(600);
/// How long the deletion of a tenant may take.
pub const TENANT_DELETION_MAX: Duration = Duration::from_secs(3600);
/// How long a host may be silent before an alert is raised.
pub const HOST_LOST_ALERT_AFTER: Duration = Duration::from_secs(300);
/// How long an alert that is over can be looked up.
pub const ALERT_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a notification is kept, read or not.
pub const NOTIFICATION_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Users that are told of one alert; others see it in the state of their VMs.
pub const NOTIFIED_PER_ALERT_MAX: usize = 50;
/// How long an idempotency key is kept.
pub const IDEMPOTENCY_KEY_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a finished operation can be looked up: longer than any key can name it.
pub const OPERATION_KEPT: Duration = Duration::from_secs(25 * 3600);
/// Longest life of a join token.
pub const JOIN_TOKEN_LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Life of a join token that names none.
pub const JOIN_TOKEN_LIFE_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// How long a used-up or expired join token is kept, so that the key that used it may come again.
pub const JOIN_TOKEN_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Sessions of one user; a login beyond them ends the oldest.
pub const SESSIONS_PER_USER_MAX: usize = 50;
/// API tokens of one user.
pub const API_TOKENS_PER_USER_MAX: usize = 100;
/// Role bindings of one user.
pub const BINDINGS_PER_USER_MAX: usize = 200;
/// Role bindings of one user group.
pub const BINDINGS_PER_GROUP_MAX: usize = 50;
/// User groups that one user is in.
pub const GROUPS_PER_USER_MAX: usize = 16;
/// Members of a user group that are told to who asks who may do something.
pub const MEMBERS_TOLD_MAX: usize = 100;
/// Roles that are told to who asks what would allow something.
pub const ROLES_TOLD_MAX: usize = 5;
/// Users whose rights are compared to tell what a change of roles would do.
pub const EFFECT_USERS_LOOKED_AT_MAX: usize = 500;
/// Users that are told to gain, and to lose, by a change that is only tried; one that does so over several scopes counts
/// for each.
pub const EFFECT_USERS_TOLD_MAX: usize = 100;
/// Permissions that are told of each.
pub const EFFECT_PERMISSIONS_TOLD_MAX: usize = 100;
/// User groups of one tenant.
pub const USER_GROUPS_PER_TENANT_MAX: usize = 1000;
/// Tickets of one user that are not closed.
pub const OPEN_TICKETS_PER_USER_MAX: usize = 50;
/// Questions of one user.
pub const QUESTIONS_PER_USER_MAX: usize = 500;
/// Answers of one user.
pub const ANSWERS_PER_USER_MAX: usize = 1000;
/// How far ahead the end of a VM's binding to a cloud box may lie.
pub const CLOUD_BOX_BINDING_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Usages that one stretch of a VM's use is billed in: as many months and changes of prices may be in it. What is beyond
/// them is on no bill; stretches are cut off each month, so none is.
pub const USAGES_PER_STRETCH_MAX: usize = 100;
/// Usages that are added up to answer what a bill comes to.
pub const BILL_LOOKED_AT_MAX: usize = 500_000;
/// Addresses of one VM: so many go back to their pools in one step when it goes.
pub const ADDRESSES_PER_VM_MAX: usize = 64;
/// Objects that a deletion takes along in its own changeset; what holds more is emptied by a loop.
pub const CASCADE_MAX: usize = 200;
/// Objects that one list call looks at; a filter that matches less often yields a short page and a cursor.
pub const LIST_SCAN_MAX: usize = 10_000;
/// Hosts that are told, each with its reason, to who asks why a VM has no host; the rest is counted.
pub const REFUSALS_ANSWERED_MAX: usize = 1000;
/// Longest reason that an agent may give, in bytes.
pub const REASON_BYTES_MAX: usize = 64;
/// Longest message that an agent may give, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 512;
/// Largest inventory facts that an agent may report, in bytes of JSON.
pub const FACTS_BYTES_MAX: usize = 64 * 1024;
/// Ontologies that are merged at once, with those that they inherit from.
pub const MERGED_ONTOLOGIES_MAX: usize = 32;
/// Classes, and properties, of merged ontologies.
pub const MERGED_ENTRIES_MAX: usize = 5000;
/// Classes that one merged property leads from, and to.
pub const MERGED_PROPERTY_CLASSES_MAX: usize = 256;
/// Classes of merged ontologies that are told to be described otherwise by several; the rest is counted.
pub const MERGE_CONFLICTS_TOLD_MAX: usize = 1000;
/// Domains of a host that are not VirtFlow's and are kept one by one; of more, their number and what they take.
pub const FOREIGN_DOMAINS_MAX: usize = 128;
/// Disks that are kept of one of them.
pub const FOREIGN_DISKS_MAX: usize = 16;
/// Reasons why one of them cannot be adopted.
pub const FOREIGN_OBSTACLES_MAX: usize = 8;
/// Bytes of a name in what is told of them.
pub const FOREIGN_TEXT_BYTES_MAX: usize = 128;

/// How often a cloud box is to tell of itself.
pub const CLOUD_BOX_REPORT_EVERY: Duration = Duration::from_secs(30);
/// A cloud box that was silent for so long is offline.
pub const CLOUD_BOX_SILENCE_MAX: Duration = Duration::from_secs(100);
/// How old the figures of a cloud box that is heard may be in the state.
pub const CLOUD_BOX_FIGURES_EVERY: Duration = Duration::from_secs(15 * 60);

/// How old what is kept of a credential's last use may be.
pub const CREDENTIAL_USE_EVERY: Duration = Duration::from_secs(5 * 60);
