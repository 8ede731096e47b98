//! What tenants have and who may do what with it.

use virtflow_model::Kind;

use super::{AGE, ALL, DESCRIPTION, LABELS, MADE_BY_OTHERS, MADE_ONCE, READ, STATE, TENANT};
use crate::noun::{Flag, Form, Noun, Show, column, flag};

const TENANT_STATES: &[&str] = &["active", "inactive", "suspended"];
const USER_STATES: &[&str] = &["active", "inactive", "suspended", "pending"];
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
const QUOTA_DISKS: Flag = flag(
    "quota-disks",
    "quota.disks",
    Form::Count,
    "Limit of disks beside the VMs' own",
);
const QUOTA_ADDRESSES: Flag = flag(
    "quota-addresses",
    "quota.addresses",
    Form::Count,
    "Limit of addresses",
);
const QUOTA_GPUS: Flag = flag("quota-gpus", "quota.gpus", Form::Count, "Limit of GPUs");
const QUOTA_CLUSTERS: Flag = flag(
    "quota-clusters",
    "quota.clusters",
    Form::Count,
    "Limit of Kubernetes clusters",
);
/// What is said of a VM however it is made.
pub(crate) const RESTART: Flag = flag(
    "restart",
    "restart_policy",
    Form::Word(&["never", "on-failure", "always"]),
    "What to do when it ends by itself",
);
pub(crate) const GRACE: Flag = flag(
    "grace",
    "grace_s",
    Form::Seconds,
    "Time for a graceful stop, 30s",
);
pub(crate) const TYPE: Flag = flag(
    "type",
    "type",
    Form::Word(&["control-plane", "worker", "management", "other"]),
    "What it is for",
);

pub(super) const NOUNS: &[Noun] = &[
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
            flag("gpus", "gpu_count", Form::Count, "GPUs, whole ones").for_life(),
            flag(
                "image",
                "image",
                Form::Text,
                "Image that its disk begins as, in its default or latest version",
            )
            .for_life(),
            flag(
                "image-version",
                "image_version",
                Form::Text,
                "Version of an image that its disk begins as, or a tag that points to it",
            )
            .for_life(),
            flag("group", "group", Form::Text, "Group of hosts to run in").for_life(),
            flag(
                "pinned-host",
                "pinned_host",
                Form::Text,
                "The only host it may run on",
            )
            .for_life(),
            flag(
                "user-group",
                "user_group",
                Form::Text,
                "User group whose quota it takes; your first if left out",
            )
            .for_life(),
            flag(
                "cluster",
                "cluster",
                Form::Text,
                "Kubernetes cluster that it is a machine of",
            ),
            RESTART,
            GRACE,
            TYPE,
            flag(
                "power",
                "power",
                Form::Word(&["running", "stopped"]),
                "Whether it runs once made",
            )
            .for_life(),
            LABELS,
        ],
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
            QUOTA_DISKS,
            QUOTA_ADDRESSES,
            QUOTA_GPUS,
            QUOTA_CLUSTERS,
            flag(
                "admin-user",
                "admin_user",
                Form::Text,
                "User who answers for it",
            ),
            flag("vlan", "vlan_id", Form::Count, "VLAN, 1 to 4094"),
        ],
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
                "avatar-url",
                "avatar_url",
                Form::Text,
                "Where their picture is",
            ),
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
            QUOTA_DISKS,
            QUOTA_ADDRESSES,
            QUOTA_GPUS,
            QUOTA_CLUSTERS,
        ],
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
        columns: &[
            column("USER", &["/names/parent", "/parent_id"], Show::Plain),
            column("LAST USED", &["/status/last_used_at"], Show::Age),
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
        columns: &[
            column("USER", &["/names/parent", "/parent_id"], Show::Plain),
            column("DEVICE", &["/spec/device"], Show::Plain),
            column("ADDRESS", &["/spec/address"], Show::Plain),
            column("ACTIVE", &["/status/last_active_at"], Show::Age),
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
        columns: &[
            column("GENERATION", &["/spec/hardware_generation"], Show::Plain),
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
];
