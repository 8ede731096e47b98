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
            /// The kind of a stored name, without a search: asked for every object that is looked at.
            pub fn of_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Kind::$ty),)+ _ => None }
            }
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
    user_group::UserGroup = "user_group", "user_groups", [];
    user_group_member::UserGroupMember = "user_group_member", "user_group_members", [];
    user_preferences::UserPreferences = "user_preferences", "user_preferences", ["preferences"];
    maintainer::Maintainer = "maintainer", "maintainers", [];
    maintainer_group::MaintainerGroup = "maintainer_group", "maintainer_groups", [];
    maintainer_group_member::MaintainerGroupMember =
        "maintainer_group_member", "maintainer_group_members", [];
    resource_maintainer::ResourceMaintainer =
        "resource_maintainer", "resource_maintainers", [];
    cloud_box::CloudBox = "cloud_box", "cloud_boxes", [];
    doc::Doc = "doc", "docs", [];
    help_ticket::HelpTicket = "help_ticket", "help_tickets", ["ticket", "tickets"];
    qa_question::QaQuestion = "qa_question", "qa_questions", ["question", "questions"];
    qa_answer::QaAnswer = "qa_answer", "qa_answers", ["answer", "answers"];
    template::Template = "template", "templates", [];
    template_version::TemplateVersion = "template_version", "template_versions", [];
    instance::Instance = "instance", "instances", [];
    instance_set::InstanceSet = "instance_set", "instance_sets", [];
    instance_set_member::InstanceSetMember = "instance_set_member", "instance_set_members", [];
    snapshot::Snapshot = "snapshot", "snapshots", [];
    k8s_cluster::K8sCluster = "k8s_cluster", "k8s_clusters", ["k8s"];
    node_pool::NodePool = "node_pool", "node_pools", [];
    namespace::Namespace = "namespace", "namespaces", ["ns"];
    k8s_cluster_plugin::K8sClusterPlugin =
        "k8s_cluster_plugin", "k8s_cluster_plugins", ["plugin", "plugins"];
    bastion_cluster_association::BastionClusterAssociation =
        "bastion_cluster_association", "bastion_cluster_associations", ["bastion", "bastions"];
    service_mesh::ServiceMesh = "service_mesh", "service_meshes", ["mesh", "meshes"];
    k8s_cluster_to_service_mesh::K8sClusterToServiceMesh =
        "k8s_cluster_to_service_mesh", "k8s_cluster_to_service_meshes", [];
    billing_period::BillingPeriod = "billing_period", "billing_periods", [];
    price::Price = "price", "prices", [];
    billing_usage::BillingUsage = "billing_usage", "billing_usages", [];
    alert::Alert = "alert", "alerts", [];
    notification::Notification = "notification", "notifications", [];
    system_config::SystemConfig = "system_config", "system_configs", [];
    tenant_config::TenantConfig = "tenant_config", "tenant_configs", [];
    user_config::UserConfig = "user_config", "user_configs", [];
    ontology::Ontology = "ontology", "ontologies", [];
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
