//! What the operators have: hosts and where they stand, quotas over them, and the cluster itself.

use virtflow_model::Kind;

use super::{AGE, ALL, DESCRIPTION, LABELS, MADE_BY_OTHERS, READ, STATE};
use crate::noun::{Form, Noun, Show, Verb, column, flag};

const MAINTAINED: &[&str] = &["active", "maintenance", "offline"];

pub(super) const NOUNS: &[Noun] = &[
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
        columns: &[
            column("ROLE", &["/member/role"], Show::Plain),
            column("LEADS", &["/member/is_leader"], Show::Plain),
            column("LAG", &["/member/lag"], Show::Plain),
            column("REMOVED", &["/status/removed"], Show::Plain),
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
        columns: &[
            column("KEY", &["/spec/key"], Show::Plain),
            column("OBJECT", &["/spec/object_id"], Show::Plain),
            column("EXPIRES IN", &["/spec/expires_at"], Show::Until),
        ],
    },
];
