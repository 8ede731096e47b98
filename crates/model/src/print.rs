//! Building a footprint, and the names of the spaces, dimensions and index keys that kinds share.

use virtflow_types::{
    AccountDef, AccountKey, Charge, Claim, Footprint, IndexKey, Limit, ObjectId, Supply, Text,
};

/// Spaces of claims.
pub mod space {
    use virtflow_types::ObjectId;

    use crate::Kind;

    /// Names of a kind within a parent or tenant; `None` is the system's own scope.
    pub fn names(kind: Kind, within: Option<ObjectId>) -> String {
        match within {
            Some(id) => format!("name/{}/{id}", kind.name()),
            None => format!("name/{}", kind.name()),
        }
    }
    /// Names of a kind that its objects may share as long as something else tells them apart; nothing is a value,
    /// too.
    pub fn names_told_apart(kind: Kind, by: &str) -> String {
        match by {
            "" => names(kind, None),
            by => format!("{}/{by}", names(kind, None)),
        }
    }
    /// What is unique in each of some places, and beyond them in one of its own.
    pub fn within(what: &str, place: Option<ObjectId>) -> String {
        match place {
            Some(place) => format!("{what}/{place}"),
            None => what.to_owned(),
        }
    }
    /// Serial numbers of hosts.
    pub const SERIAL_NUMBER: &str = "serial_number";
    /// Public keys of certificates, by fingerprint.
    pub const PUBLIC_KEY: &str = "public_key";
    /// MAC addresses.
    pub const MAC: &str = "mac";
    /// Node ids of controllers: never given twice.
    pub const NODE_ID: &str = "node_id";
    /// VLANs of tenants.
    pub const VLAN: &str = "vlan";
    /// E-mail addresses of users.
    pub const EMAIL: &str = "email";
    /// Accounts of maintainers.
    pub const MAINTAINER_ACCOUNT: &str = "maintainer_account";
    /// Serial numbers of cloud boxes.
    pub const CLOUD_BOX_SERIAL: &str = "cloud_box_serial";
    /// VMs that are bound to cloud boxes.
    pub const CLOUD_BOX_VM: &str = "cloud_box_vm";
    /// Pairs that may exist once: (group, tenant), (subject, role, scope).
    pub const PAIR: &str = "pair";
    /// Domains that VMs were adopted from, `host/domain`: one is at most one VM.
    pub const ADOPTED_DOMAIN: &str = "adopted_domain";
    /// What at most one may be, `what/of`: the latest version of a template, a cluster's primary mesh.
    pub const SINGLE: &str = "single";
    /// Alerts that are not over, `source/rule`.
    pub const ALERT: &str = "alert";
    /// Active layers of configuration, `layer/whose/scope`.
    pub const CONFIG: &str = "config";
    /// Versions of ontologies, `whose/type/name/version`.
    pub const ONTOLOGY: &str = "ontology";
    /// Subnets that have a pool.
    pub const POOL_SUBNET: &str = "pool_subnet";
    /// VLANs of VPCs.
    pub const VPC_VLAN: &str = "vpc_vlan";
    /// VXLAN network identifiers of VPCs.
    pub const VNI: &str = "vni";
    /// Subnets that are a place's.
    pub const SUBNET_PLACE: &str = "subnet_place";
    /// The latest version of an image, by image.
    pub const LATEST: &str = "latest";
    /// Ranges of subnets in a VPC; `None`: of the public ones of all.
    pub fn subnets(vpc: Option<ObjectId>) -> String {
        scoped("subnet", vpc)
    }
    /// Ranges of pools in an address scope: a VPC, or `None` for the whole cloud.
    pub fn ip_pools(scope: Option<ObjectId>) -> String {
        scoped("ip_pool", scope)
    }
    /// Addresses in an address scope: a VPC, or `None` for the whole cloud.
    pub fn addresses(scope: Option<ObjectId>) -> String {
        scoped("address", scope)
    }
    fn scoped(what: &str, scope: Option<ObjectId>) -> String {
        match scope {
            Some(id) => format!("{what}/{id}"),
            None => format!("{what}/public"),
        }
    }
    /// Idempotency keys of one principal.
    pub fn idempotency(principal: ObjectId) -> String {
        format!("idempotency/{principal}")
    }
}

/// Dimensions of accounts, with their units.
pub mod dimension {
    /// Thousandths of a schedulable CPU, on hosts and in groups.
    pub const CPU_MILLI: &str = "cpu_milli";
    /// Whole vCPUs, in quotas of tenants and users.
    pub const CPU_CORES: &str = "cpu_cores";
    /// MiB of memory.
    pub const MEMORY_MIB: &str = "memory_mib";
    /// GiB of storage.
    pub const STORAGE_GIB: &str = "storage_gib";
    /// Whole GPUs. None is ever promised twice: there is no overcommit of them.
    pub const GPUS: &str = "gpus";
    /// Number of Kubernetes clusters.
    pub const CLUSTERS: &str = "clusters";
    /// Number of VMs.
    pub const VMS: &str = "vms";
    /// Number of disks of a tenant's own; a VM's root disk is part of its VM and counts with it.
    pub const DISKS: &str = "disks";
    /// Number of addresses that are allocated or reserved.
    pub const ADDRESSES: &str = "addresses";
    /// Number of VMs that have a disk.
    pub const ATTACHMENTS: &str = "attachments";
    /// Number of idempotency keys of a principal.
    pub const IDEMPOTENCY_KEYS: &str = "idempotency_keys";
}

/// Index keys, by what lists and loops look for.
pub mod key {
    /// VMs by the host they are bound to.
    pub const VM_HOST: &str = "virtual_machine.host";
    /// VMs by phase.
    pub const VM_PHASE: &str = "virtual_machine.phase";
    /// Objects of a tenant, by `kind/tenant`.
    pub const TENANT: &str = "tenant";
    /// Hosts by group.
    pub const HOST_GROUP: &str = "baremetal.group";
    /// Objects by name within any parent, `kind/name`.
    pub const NAME: &str = "name";
    /// Labels, by `kind/label=value`.
    pub const LABEL: &str = "label";
    /// Operations by state: `pending`, `running` … those unfinished are looked at by loops.
    pub const OPERATION_STATE: &str = "operation.state";
    /// Operations by the object they are about.
    pub const OPERATION_TARGET: &str = "operation.target";
    /// Bindings by subject.
    pub const BINDING_SUBJECT: &str = "role_binding.subject";
    /// Memberships in user groups by user.
    pub const MEMBER_USER: &str = "user_group_member.user";
    /// Assignments of maintainers by either end: the object, the maintainer, the group of maintainers.
    pub const MAINTAINER_END: &str = "resource_maintainer.end";
    /// Cloud boxes by the user and the VM they refer to.
    pub const CLOUD_BOX_REFERS: &str = "cloud_box.refers";
    /// What users write by who wrote it, as `kind/user`; of tickets those that are not closed.
    pub const AUTHOR: &str = "author";
    /// Tokens and sessions by user.
    pub const CREDENTIAL_USER: &str = "credential.user";
    /// Residues by host.
    pub const RESIDUE_HOST: &str = "residue.host";
    /// Prices, `dimension/currency/from`, the time as zero-padded milliseconds.
    pub const PRICE: &str = "price";
    /// Layers of configuration, by `kind/scope`.
    pub const CONFIG_SCOPE: &str = "config.scope";
    /// Versions of ontologies, by `whose/type/name`.
    pub const ONTOLOGY: &str = "ontology";
    /// Addresses by pool and, within it, by address.
    pub const IP_POOL: &str = "ip_address.pool";
    /// The same for those that can be had.
    pub const IP_AVAILABLE: &str = "ip_address.available";
    /// Addresses by the VM that has them.
    pub const IP_OWNER: &str = "ip_address.owner";
    /// Addresses by subnet.
    pub const IP_SUBNET: &str = "ip_address.subnet";
    /// What may be retired after a time, by zero-padded milliseconds.
    pub const EXPIRES: &str = "expires";
}

/// Collects a footprint.
#[derive(Debug, Default)]
pub struct Print {
    claims: Vec<Claim>,
    links: Vec<ObjectId>,
    supplies: Vec<Supply>,
    charges: Vec<Charge>,
    accounts: Vec<AccountDef>,
    keys: Vec<IndexKey>,
}

impl Print {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }
    /// Claims a point.
    pub fn claim(&mut self, space: impl Into<Text>, value: impl AsRef<[u8]>) -> &mut Self {
        self.claims.push(Claim::point(space, value));
        self
    }
    /// Claims an interval, both ends included.
    pub fn claim_range(
        &mut self,
        space: impl Into<Text>,
        lo: impl AsRef<[u8]>,
        hi: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.claims.push(Claim::range(space, lo, hi));
        self
    }
    /// Links to what must not go away; nothing if `None`.
    pub fn link(&mut self, target: impl Into<Option<ObjectId>>) -> &mut Self {
        if let Some(target) = target.into()
            && !self.links.contains(&target)
        {
            self.links.push(target);
        }
        self
    }
    /// Adds to an account's limit.
    pub fn supply(&mut self, owner: ObjectId, dimension: &str, amount: u64) -> &mut Self {
        if amount > 0 {
            self.supplies.push(Supply {
                account: AccountKey::new(owner, dimension),
                amount,
            });
        }
        self
    }
    /// Takes from an account; nothing if the amount is zero.
    pub fn charge(&mut self, owner: ObjectId, dimension: &str, amount: u64) -> &mut Self {
        if amount > 0 {
            self.charges.push(Charge {
                account: AccountKey::new(owner, dimension),
                amount,
            });
        }
        self
    }
    /// Opens an account.
    pub fn account(
        &mut self,
        dimension: &str,
        limit: Limit,
        parent: Option<AccountKey>,
    ) -> &mut Self {
        self.accounts.push(AccountDef {
            dimension: dimension.into(),
            parent,
            limit,
        });
        self
    }
    /// An index entry.
    pub fn key(&mut self, name: &str, value: impl Into<Text>) -> &mut Self {
        self.keys.push(IndexKey {
            name: name.into(),
            value: value.into(),
        });
        self
    }
    /// An index entry by time, so that it sorts by it.
    pub fn expires(&mut self, at: virtflow_types::Timestamp) -> &mut Self {
        self.key(key::EXPIRES, format!("{:015}", at.ms()))
    }
    /// The footprint, in canonical order.
    pub fn finish(mut self) -> Footprint {
        self.claims.sort();
        self.links.sort();
        self.supplies.sort();
        self.charges.sort();
        self.accounts.sort();
        self.keys.sort();
        Footprint {
            claims: self.claims.into(),
            links: self.links.into(),
            supplies: self.supplies.into(),
            charges: self.charges.into(),
            accounts: self.accounts.into(),
            keys: self.keys.into(),
        }
    }
}
