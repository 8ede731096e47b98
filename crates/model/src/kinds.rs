//! The survey of kinds. Names are stored for ever: append, never rename.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::{PerKind, Resource, Scope};
use crate::rules::Rules;

macro_rules! kinds {
    ($($module:ident :: $ty:ident = $name:literal, $plural:literal, [$($alias:literal),*];)+) => {
        $(pub mod $module;)+
        $(pub use $module::$ty;)+

        /// A kind of object.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Kind {
            $(
                #[doc = concat!("`", $name, "`")]
                #[serde(rename = $name)]
                $ty,
            )+
        }

        impl Kind {
            /// All kinds, in the order of the list.
            pub const ALL: &[Kind] = &[$(Kind::$ty),+];
            /// As stored and on the wire.
            pub const fn name(self) -> &'static str { match self { $(Kind::$ty => $name),+ } }
            /// As in paths.
            pub const fn plural(self) -> &'static str { match self { $(Kind::$ty => $plural),+ } }
            /// Short names for people.
            pub const fn aliases(self) -> &'static [&'static str] {
                match self { $(Kind::$ty => &[$($alias),*]),+ }
            }
            /// What is declared of it.
            pub const fn rules(self) -> &'static Rules {
                match self { $(Kind::$ty => const { &<$ty as Resource>::RULES }),+ }
            }
            /// Whose its objects are.
            pub const fn scope(self) -> Scope {
                match self { $(Kind::$ty => <$ty as Resource>::SCOPE),+ }
            }
            /// Runs a generic function for this kind's type.
            pub fn dispatch<F: PerKind>(self, f: F) -> F::Out {
                match self { $(Kind::$ty => f.run::<$ty>()),+ }
            }
        }

        $(const _: () = assert!(matches!(<$ty as Resource>::KIND, Kind::$ty));)+
    };
}

kinds! {
    tenant::Tenant = "tenant", "tenants", [];
    user::User = "user", "users", [];
    role::Role = "role", "roles", [];
    role_binding::RoleBinding = "role_binding", "role_bindings", ["binding", "bindings"];
    api_token::ApiToken = "api_token", "api_tokens", ["token", "tokens"];
    session::Session = "session", "sessions", [];
    data_center::DataCenter = "data_center", "data_centers", ["dc", "dcs"];
    rack::Rack = "rack", "racks", [];
    baremetal_group::BaremetalGroup = "baremetal_group", "baremetal_groups", ["group", "groups"];
    baremetal::Baremetal = "baremetal", "baremetals", ["host", "hosts"];
    baremetal_group_tenant_quota::BaremetalGroupTenantQuota =
        "baremetal_group_tenant_quota", "baremetal_group_tenant_quotas", ["quota", "quotas"];
    virtual_machine_specification::VirtualMachineSpecification =
        "virtual_machine_specification", "virtual_machine_specifications", ["spec", "specs"];
    virtual_machine::VirtualMachine = "virtual_machine", "virtual_machines", ["vm", "vms"];
    operation::Operation = "operation", "operations", ["op", "ops"];
    join_token::JoinToken = "join_token", "join_tokens", ["invite", "invites"];
    controller::Controller = "controller", "controllers", [];
    residue::Residue = "residue", "residues", [];
    idempotency_key::IdempotencyKey = "idempotency_key", "idempotency_keys", [];
    vpc::Vpc = "vpc", "vpcs", [];
    subnet::Subnet = "subnet", "subnets", [];
    place::Place = "place", "places", [];
    ip_pool::IpPool = "ip_pool", "ip_pools", [];
    ip_address::IpAddress = "ip_address", "ip_addresses", ["ip", "ips"];
    storage_pool::StoragePool = "storage_pool", "storage_pools", [];
    image::Image = "image", "images", [];
    image_version::ImageVersion = "image_version", "image_versions", [];
    image_tag::ImageTag = "image_tag", "image_tags", [];
    private_data_disk::PrivateDataDisk = "private_data_disk", "private_data_disks", ["disk", "disks"];
    disk_attachment::DiskAttachment =
        "disk_attachment", "disk_attachments", ["attachment", "attachments"];
}

impl Kind {
    /// From a stored name, a plural or a short name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| {
            kind.name() == text || kind.plural() == text || kind.aliases().contains(&text)
        })
    }
}
