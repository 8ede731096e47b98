//! The survey of kinds on the command line: one entry for each kind of the model.

use virtflow_model::Kind;

use crate::noun::{Column, Flag, Form, Noun, Show, Verb, column, flag};

const ALL: &[Verb] = &[
    Verb::List,
    Verb::Get,
    Verb::Describe,
    Verb::Create,
    Verb::Update,
    Verb::Delete,
];
const READ: &[Verb] = &[Verb::List, Verb::Get, Verb::Describe];
const MADE_ONCE: &[Verb] = &[
    Verb::List,
    Verb::Get,
    Verb::Describe,
    Verb::Create,
    Verb::Delete,
];
const MADE_BY_OTHERS: &[Verb] = &[Verb::List, Verb::Get, Verb::Describe, Verb::Delete];

const DESCRIPTION: Flag = flag("description", "description", Form::Text, "For people");
const STATE: Column = column("STATE", &["/spec/state"], Show::Plain);
const TENANT: Column = column("TENANT", &["/names/tenant", "/tenant_id"], Show::Plain);
const AGE: Column = column("AGE", &["/created_at"], Show::Age);

const LABELS: Flag = flag("label", "labels", Form::Pairs, "key=value; may be repeated");

const TENANT_STATES: &[&str] = &["active", "inactive", "suspended"];
const USER_STATES: &[&str] = &["active", "inactive", "suspended", "pending"];
const MAINTAINED: &[&str] = &["active", "maintenance", "offline"];

const QUOTA_CPU: Flag = flag(
    "quota-cpu",
    "quota.cpu_cores",
    Form::Count,
    "Limit of vCPUs",
);
const QUOTA_MEMORY: Flag = flag(
    "quota-memory",
    "quota.memory_mib",
    Form::Mib,
    "Limit of memory, 8GiB",
);
const QUOTA_STORAGE: Flag = flag(
    "quota-storage",
    "quota.storage_gib",
    Form::Gib,
    "Limit of storage, 100GiB",
);
const QUOTA_VMS: Flag = flag("quota-vms", "quota.vms", Form::Count, "Limit of VMs");

/// Every kind, in the order of `virtflow help`.
pub(crate) const NOUNS: &[Noun] = &[
    Noun {
        kind: Kind::VirtualMachine,
        word: "vm",
        about: "Virtual machines",
        verbs: ALL,
        flags: &[
            flag(
                "spec",
                "specification",
                Form::Text,
                "Specification that gives the size",
            )
            .for_life(),
            flag(
                "cpu",
                "cpu_cores",
                Form::Count,
                "vCPUs, if no specification is named",
            )
            .for_life(),
            flag("memory", "memory_mib", Form::Mib, "Memory, 512MiB").for_life(),
            flag("storage", "storage_gib", Form::Gib, "Disk, 20GiB").for_life(),
            flag("group", "group", Form::Text, "Group of hosts to run in").for_life(),
            flag(
                "restart",
                "restart_policy",
                Form::Word(&["never", "on-failure", "always"]),
                "What to do when it ends by itself",
            ),
            flag(
                "grace",
                "grace_s",
                Form::Seconds,
                "Time for a graceful stop, 30s",
            ),
            flag(
                "type",
                "type",
                Form::Word(&["control-plane", "worker", "management", "other"]),
                "What it is for",
            ),
            flag(
                "power",
                "power",
                Form::Word(&["running", "stopped"]),
                "Whether it runs once made",
            )
            .for_life(),
            LABELS,
        ],
        filters: &["host", "phase", "group", "label"],
        columns: &[
            TENANT,
            column("PHASE", &["/status/phase"], Show::Plain),
            column("REASON", &["/status/reason"], Show::Plain),
            column(
                "HOST",
                &["/names/host", "/status/placement/host_id"],
                Show::Plain,
            ),
            column("CPU", &["/spec/cpu_cores"], Show::Plain),
            column("MEMORY", &["/spec/memory_mib"], Show::Mib),
            column("DISK", &["/spec/storage_gib"], Show::Gib),
            column("RESTARTS", &["/status/restarts"], Show::Plain),
            AGE,
        ],
    },
    Noun {
        kind: Kind::Tenant,
        word: "tenant",
        about: "Tenants and their quotas",
        verbs: ALL,
        flags: &[
            DESCRIPTION,
            flag(
                "state",
                "state",
                Form::Word(TENANT_STATES),
                "Administrative state",
            ),
            QUOTA_CPU,
            QUOTA_MEMORY,
            QUOTA_STORAGE,
            QUOTA_VMS,
            flag(
                "admin-user",
                "admin_user",
                Form::Text,
                "User who answers for it",
            ),
            flag("vlan", "vlan_id", Form::Count, "VLAN, 1 to 4094"),
        ],
        filters: &["state"],
        columns: &[
            STATE,
            column("CPU LIMIT", &["/spec/quota/cpu_cores"], Show::Plain),
            column("MEMORY LIMIT", &["/spec/quota/memory_mib"], Show::Mib),
            column("STORAGE LIMIT", &["/spec/quota/storage_gib"], Show::Gib),
            column("VM LIMIT", &["/spec/quota/vms"], Show::Plain),
            AGE,
        ],
    },
    Noun {
        kind: Kind::User,
        word: "user",
        about: "Users",
        verbs: ALL,
        flags: &[
            flag("email", "email", Form::Text, "E-mail address"),
            flag("display-name", "display_name", Form::Text, "For people"),
            flag(
                "state",
                "state",
                Form::Word(USER_STATES),
                "Administrative state",
            ),
            QUOTA_CPU,
            QUOTA_MEMORY,
            QUOTA_STORAGE,
            QUOTA_VMS,
        ],
        filters: &["state"],
        columns: &[
            TENANT,
            STATE,
            column("DISPLAY NAME", &["/spec/display_name"], Show::Plain),
            column("LAST LOGIN", &["/status/last_login_at"], Show::Age),
            AGE,
        ],
    },
    Noun {
        kind: Kind::Role,
        word: "role",
        about: "Roles: named sets of permissions",
        verbs: ALL,
        flags: &[
            DESCRIPTION,
            flag(
                "permission",
                "permissions",
                Form::Texts,
                "kind.action, see `virtflow role catalogue`; may be repeated",
            ),
            flag(
                "active",
                "active",
                Form::Truth,
                "False takes it from everybody at once",
            ),
        ],
        filters: &[],
        columns: &[
            column("BUILT IN", &["/spec/built_in"], Show::Plain),
            column("ACTIVE", &["/spec/active"], Show::Plain),
            column("PERMISSIONS", &["/spec/permissions"], Show::Length),
            column("DESCRIPTION", &["/spec/description"], Show::Plain),
        ],
    },
    Noun {
        kind: Kind::RoleBinding,
        word: "role-binding",
        about: "Who holds which role over what",
        verbs: MADE_ONCE,
        flags: &[
            flag("user", "subject", Form::Text, "The user").for_life(),
            flag("role", "role", Form::Text, "The role").for_life(),
            flag(
                "scope",
                "scope",
                Form::Text,
                "tenant/NAME, group/NAME ...; the whole system if left out",
            )
            .for_life(),
        ],
        filters: &["subject"],
        columns: &[
            column("USER", &["/names/subject", "/spec/subject_id"], Show::Plain),
            column("ROLE", &["/names/role", "/spec/role_id"], Show::Plain),
            column("SCOPE", &["/names/scope", "/spec/scope_id"], Show::Plain),
            AGE,
        ],
    },
    Noun {
        kind: Kind::ApiToken,
        word: "token",
        about: "API tokens",
        verbs: MADE_BY_OTHERS,
        flags: &[],
        filters: &["parent"],
        columns: &[
            column("USER", &["/names/parent", "/parent_id"], Show::Plain),
            column("EXPIRES IN", &["/spec/expires_at"], Show::Until),
            column("PERMISSIONS", &["/spec/permissions"], Show::Length),
            AGE,
        ],
    },
    Noun {
        kind: Kind::Session,
        word: "session",
        about: "Logins",
        verbs: MADE_BY_OTHERS,
        flags: &[],
        filters: &["parent"],
        columns: &[
            column("USER", &["/names/parent", "/parent_id"], Show::Plain),
            column("DEVICE", &["/spec/device"], Show::Plain),
            column("ADDRESS", &["/spec/address"], Show::Plain),
            column("EXPIRES IN", &["/spec/expires_at"], Show::Until),
            AGE,
        ],
    },
    Noun {
        kind: Kind::VirtualMachineSpecification,
        word: "spec",
        about: "Specifications: sizes of VMs",
        verbs: ALL,
        flags: &[
            flag("cpu", "cpu_cores", Form::Count, "vCPUs").for_life(),
            flag("memory", "memory_mib", Form::Mib, "Memory, 128MiB").for_life(),
            flag("storage", "storage_gib", Form::Gib, "Disk, 1GiB").for_life(),
            flag("gpus", "gpu_count", Form::Count, "GPUs").for_life(),
            flag(
                "hardware-generation",
                "hardware_generation",
                Form::Text,
                "Hardware it is for",
            ),
            flag(
                "state",
                "state",
                Form::Word(&["active", "deprecated"]),
                "Whether new VMs may use it",
            ),
        ],
        filters: &["state"],
        columns: &[
            column("CPU", &["/spec/cpu_cores"], Show::Plain),
            column("MEMORY", &["/spec/memory_mib"], Show::Mib),
            column("DISK", &["/spec/storage_gib"], Show::Gib),
            STATE,
            AGE,
        ],
    },
    Noun {
        kind: Kind::Operation,
        word: "operation",
        about: "What takes time: how far it is, how it ended",
        verbs: READ,
        flags: &[],
        filters: &["state"],
        columns: &[
            column("VERB", &["/spec/verb"], Show::Plain),
            column(
                "TARGET",
                &["/spec/target_name", "/spec/target_id"],
                Show::Plain,
            ),
            column("STATE", &["/status/state"], Show::Plain),
            column("PROGRESS", &["/status/progress"], Show::Percent),
            column(
                "MESSAGE",
                &["/status/error/message", "/status/message"],
                Show::Plain,
            ),
            AGE,
        ],
    },
    Noun {
        kind: Kind::Baremetal,
        word: "host",
        about: "Hosts: servers with an agent",
        verbs: &[
            Verb::List,
            Verb::Get,
            Verb::Describe,
            Verb::Update,
            Verb::Delete,
        ],
        flags: &[
            flag(
                "state",
                "state",
                Form::Word(&[
                    "active",
                    "cordoned",
                    "draining",
                    "maintenance",
                    "decommissioned",
                ]),
                "Administrative state",
            ),
            flag("rack", "rack", Form::Text, "Rack it stands in"),
            flag(
                "management-address",
                "management_address",
                Form::Text,
                "Where it is managed",
            ),
            flag(
                "type",
                "machine_type",
                Form::Word(&["cpu-server", "pc-farm", "gpu-server"]),
                "Machine type",
            ),
            flag(
                "rental",
                "rental",
                Form::Word(&["shared", "exclusive"]),
                "How it is rented",
            ),
            LABELS,
        ],
        filters: &["group", "state", "label"],
        columns: &[
            column("LIVENESS", &["/status/liveness"], Show::Plain),
            STATE,
            column("GROUP", &["/names/group", "/spec/group_id"], Show::Plain),
            column("CPU", &["/status/cpu_milli"], Show::CpuMilli),
            column("MEMORY", &["/status/memory_mib"], Show::Mib),
            column("STORAGE", &["/status/storage_gib"], Show::Gib),
            column("SERIAL", &["/spec/serial_number"], Show::Plain),
            column("SINCE", &["/status/liveness_since"], Show::Age),
        ],
    },
    Noun {
        kind: Kind::BaremetalGroup,
        word: "group",
        about: "Groups of hosts",
        verbs: ALL,
        flags: &[
            flag(
                "data-center",
                "data_center",
                Form::Text,
                "Data centre its hosts stand in",
            ),
            DESCRIPTION,
            flag(
                "state",
                "state",
                Form::Word(&["active", "maintenance", "disabled"]),
                "Administrative state",
            ),
            flag(
                "policy",
                "scheduling_policy",
                Form::Word(&["spread", "pack"]),
                "How hosts are chosen",
            ),
            flag(
                "cpu-overcommit",
                "cpu_overcommit_percent",
                Form::WholePercent,
                "Schedulable per real CPU, 400",
            ),
            flag(
                "memory-overcommit",
                "memory_overcommit_percent",
                Form::WholePercent,
                "Schedulable per real memory",
            ),
            flag(
                "storage-overcommit",
                "storage_overcommit_percent",
                Form::WholePercent,
                "Schedulable per real storage",
            ),
        ],
        filters: &["state"],
        columns: &[
            STATE,
            column(
                "DATA CENTRE",
                &["/names/data_center", "/spec/data_center_id"],
                Show::Plain,
            ),
            column("POLICY", &["/spec/scheduling_policy"], Show::Plain),
            column(
                "CPU OVERCOMMIT",
                &["/spec/cpu_overcommit_percent"],
                Show::Percent,
            ),
            AGE,
        ],
    },
    Noun {
        kind: Kind::BaremetalGroupTenantQuota,
        word: "quota",
        about: "How much of a group a tenant may take",
        verbs: ALL,
        flags: &[
            flag("group", "group", Form::Text, "The group").for_life(),
            flag("tenant", "tenant", Form::Text, "The tenant").for_life(),
            flag(
                "cpu-percent",
                "cpu_quota_percentage",
                Form::Percent,
                "Share of the group's CPU, 12.5",
            ),
            flag("memory", "memory_mib", Form::Mib, "Memory, 4GiB"),
            flag("storage", "storage_gib", Form::Gib, "Storage, 50GiB"),
        ],
        filters: &["group"],
        columns: &[
            column("GROUP", &["/names/group", "/spec/group_id"], Show::Plain),
            column("TENANT", &["/names/tenant", "/spec/tenant_id"], Show::Plain),
            column("CPU", &["/spec/cpu_quota_percentage"], Show::Percent),
            column("MEMORY", &["/spec/memory_mib"], Show::Mib),
            column("STORAGE", &["/spec/storage_gib"], Show::Gib),
            AGE,
        ],
    },
    Noun {
        kind: Kind::DataCenter,
        word: "data-center",
        about: "Data centres",
        verbs: ALL,
        flags: &[
            DESCRIPTION,
            flag("region", "region", Form::Text, "Region"),
            flag("location", "location", Form::Text, "Where it is"),
            flag(
                "state",
                "state",
                Form::Word(MAINTAINED),
                "Administrative state",
            ),
        ],
        filters: &["state"],
        columns: &[
            STATE,
            column("REGION", &["/spec/region"], Show::Plain),
            column("LOCATION", &["/spec/location"], Show::Plain),
            AGE,
        ],
    },
    Noun {
        kind: Kind::Rack,
        word: "rack",
        about: "Racks",
        verbs: ALL,
        flags: &[
            flag(
                "data-center",
                "data_center",
                Form::Text,
                "Data centre it stands in",
            ),
            DESCRIPTION,
            flag("bgp-number", "bgp_number", Form::Count, "BGP number"),
            flag("as-number", "as_number", Form::Count, "AS number"),
            flag(
                "external-id",
                "external_system_id",
                Form::Text,
                "Its id elsewhere",
            ),
        ],
        filters: &[],
        columns: &[
            column(
                "DATA CENTRE",
                &["/names/data_center", "/spec/data_center_id"],
                Show::Plain,
            ),
            column("DESCRIPTION", &["/spec/description"], Show::Plain),
            AGE,
        ],
    },
    Noun {
        kind: Kind::JoinToken,
        word: "invite",
        about: "One-time rights to join, for hosts and controllers",
        verbs: MADE_BY_OTHERS,
        flags: &[],
        filters: &[],
        columns: &[
            column("ROLE", &["/spec/role"], Show::Plain),
            column("FOR", &["/spec/host_name"], Show::Plain),
            column("SERIAL", &["/spec/serial_number"], Show::Plain),
            column("USED FOR", &["/status/used_for"], Show::Plain),
            column("EXPIRES IN", &["/spec/expires_at"], Show::Until),
        ],
    },
    Noun {
        kind: Kind::Controller,
        word: "controller",
        about: "Controllers of the cluster",
        verbs: READ,
        flags: &[],
        filters: &[],
        columns: &[
            column("ROLE", &["/member/role"], Show::Plain),
            column("LEADS", &["/member/is_leader"], Show::Plain),
            column("LAG", &["/member/lag"], Show::Plain),
            column("API", &["/spec/api_address"], Show::Plain),
            column("VERSION", &["/status/version"], Show::Plain),
            column("AGE", &["/created_at"], Show::Age),
        ],
    },
    Noun {
        kind: Kind::Residue,
        word: "residue",
        about: "What deleted VMs still hold on hosts that are away",
        verbs: READ,
        flags: &[],
        filters: &["host"],
        columns: &[
            column("VM", &["/spec/vm_name"], Show::Plain),
            column("HOST", &["/names/host", "/spec/host_id"], Show::Plain),
            column("CPU", &["/spec/amounts/cpu_cores"], Show::Plain),
            column("MEMORY", &["/spec/amounts/memory_mib"], Show::Mib),
            column("STORAGE", &["/spec/amounts/storage_gib"], Show::Gib),
            AGE,
        ],
    },
    Noun {
        kind: Kind::IdempotencyKey,
        word: "idempotency-key",
        about: "Keys under which requests were made",
        verbs: READ,
        flags: &[],
        filters: &["parent"],
        columns: &[
            column("KEY", &["/spec/key"], Show::Plain),
            column("OBJECT", &["/spec/object_id"], Show::Plain),
            column("EXPIRES IN", &["/spec/expires_at"], Show::Until),
        ],
    },
];

/// The entry of a command's word.
pub(crate) fn of_word(word: &str) -> Option<&'static Noun> {
    NOUNS.iter().find(|noun| noun.word == word)
}

/// The entry of a kind.
pub(crate) fn of_kind(kind: Kind) -> Option<&'static Noun> {
    NOUNS.iter().find(|noun| noun.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_here_once() {
        for kind in Kind::ALL {
            let entries = NOUNS.iter().filter(|noun| noun.kind == *kind).count();
            assert_eq!(entries, 1, "{}", kind.name());
        }
        for (at, noun) in NOUNS.iter().enumerate() {
            assert!(
                NOUNS[..at].iter().all(|other| other.word != noun.word),
                "{} twice",
                noun.word
            );
        }
    }
}
