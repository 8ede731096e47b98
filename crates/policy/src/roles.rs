//! The built-in roles: a table from name to permissions.

use virtflow_model::{Action, Kind, Permission};

/// Reading the audit of a scope: of a tenant, or of everything.
pub const AUDIT_READ: Permission = Permission::new(Kind::Tenant, Action::Manage);

/// One built-in role.
#[derive(Debug, Clone, Copy)]
pub struct BuiltInRole {
    /// Its name.
    pub name: &'static str,
    /// For people.
    pub description: &'static str,
    /// Entries as a role's spec holds them.
    pub permissions: &'static [&'static str],
}

/// The roles that every cluster is born with.
///
/// The last three and `tenant_admin` are meant to be bound over a tenant; bound over the system they
/// reach all tenants.
pub const BUILT_IN_ROLES: &[BuiltInRole] = &[
    BuiltInRole {
        name: "admin",
        description: "Everything.",
        permissions: &["*.*"],
    },
    BuiltInRole {
        name: "security_admin",
        description: "Users, roles, bindings, credentials and the audit; nothing that runs.",
        permissions: &[
            "user.*",
            "role.*",
            "role_binding.*",
            "api_token.*",
            "session.*",
            "tenant.read",
            "tenant.manage",
            "operation.read",
        ],
    },
    BuiltInRole {
        name: "operator",
        description: "Facilities, hosts, quotas and tenants; starts and stops VMs, makes none.",
        permissions: &[
            "*.read",
            "data_center.*",
            "rack.*",
            "baremetal_group.*",
            "baremetal.*",
            "baremetal_group_tenant_quota.*",
            "virtual_machine_specification.*",
            "join_token.*",
            "residue.*",
            "tenant.create",
            "tenant.update",
            "tenant.manage",
            "virtual_machine.execute",
            "operation.manage",
            "controller.manage",
            "vpc.*",
            "subnet.*",
            "place.*",
            "ip_pool.*",
            "ip_address.*",
            "storage_pool.*",
            "image.*",
            "image_version.*",
            "image_tag.*",
        ],
    },
    BuiltInRole {
        name: "tenant_admin",
        description: "A tenant's VMs, users and who may do what in it; not its quota.",
        permissions: &[
            "virtual_machine.*",
            "operation.*",
            "user.*",
            "role_binding.*",
            "api_token.*",
            "session.*",
            "vpc.*",
            "subnet.*",
            "place.*",
            "ip_pool.*",
            "ip_address.*",
            "image.*",
            "image_version.*",
            "image_tag.*",
            "private_data_disk.*",
            "disk_attachment.*",
            "storage_pool.read",
            "tenant.read",
            "tenant.manage",
            "role.read",
            "data_center.read",
            "baremetal_group.read",
            "baremetal_group_tenant_quota.read",
            "virtual_machine_specification.read",
        ],
    },
    BuiltInRole {
        name: "developer",
        description: "Makes, runs and deletes a tenant's VMs.",
        permissions: &[
            "virtual_machine.create",
            "virtual_machine.read",
            "virtual_machine.update",
            "virtual_machine.delete",
            "virtual_machine.execute",
            "vpc.read",
            "subnet.read",
            "place.read",
            "ip_pool.read",
            "ip_address.create",
            "ip_address.read",
            "ip_address.execute",
            "image.read",
            "image_version.read",
            "image_tag.read",
            "private_data_disk.create",
            "private_data_disk.read",
            "private_data_disk.update",
            "private_data_disk.delete",
            "disk_attachment.create",
            "disk_attachment.read",
            "disk_attachment.update",
            "disk_attachment.delete",
            "storage_pool.read",
            "operation.read",
            "operation.manage",
            "tenant.read",
            "role.read",
            "data_center.read",
            "baremetal_group.read",
            "baremetal_group_tenant_quota.read",
            "virtual_machine_specification.read",
        ],
    },
    BuiltInRole {
        name: "user",
        description: "Starts, stops and watches the VMs that others made.",
        permissions: &[
            "virtual_machine.read",
            "virtual_machine.execute",
            "ip_address.read",
            "private_data_disk.read",
            "disk_attachment.read",
            "operation.read",
            "tenant.read",
            "virtual_machine_specification.read",
        ],
    },
    BuiltInRole {
        name: "viewer",
        description: "Sees everything in its scope, changes nothing.",
        permissions: &["*.read"],
    },
    BuiltInRole {
        name: "namespace_admin",
        description: "A namespace of a Kubernetes cluster; until there are any, its VMs' state.",
        permissions: &["virtual_machine.read", "operation.read", "tenant.read"],
    },
];
