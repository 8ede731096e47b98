//! What can be asked, and what is answered.

use serde_json::{Map, Value};
use virtflow_model::Kind;
use virtflow_model::kinds::cloud_box::CloudBoxReport;
use virtflow_model::kinds::virtual_machine::PowerAct;
use virtflow_types::{ObjectId, Timestamp};

/// A change that somebody asks for.
#[derive(Debug, Clone)]
pub enum Request {
    /// Make an object.
    Create(Create),
    /// Change an object's spec.
    Update(Update),
    /// Remove an object.
    Delete(Delete),
    /// Start, stop, reboot a VM.
    Power(Power),
    /// Operate a host.
    Host(HostAct),
    /// Note what a cloud box tells of itself.
    CloudBox(CloudBoxTells),
    /// Make a VM of a domain that a host has already.
    Adopt(Adopt),
    /// Give an address of a pool to a VM.
    AllocateAddress(AllocateAddress),
    /// Change whether an address can be had.
    Address(AddressAct),
    /// Give up an operation.
    CancelOperation {
        /// The operation's id.
        target: String,
    },
    /// Set a user's password.
    SetPassword(SetPassword),
    /// Open a session; the password was right.
    Login(Login),
    /// Rotate a session's refresh secret.
    Refresh(Refresh),
    /// End the asker's own session.
    Logout,
    /// Allow and record something that is done to a controller outside the state.
    Controller(ControllerVerb, String),
    /// Raise the cluster version to what all members support.
    FinishUpgrade(Group),
    /// Tell what the secret fields of a layer of configuration hold.
    Reveal(Reveal),
}

/// Makes an object.
#[derive(Debug, Clone)]
pub struct Create {
    /// Its kind.
    pub kind: Kind,
    /// Its name, for kinds that have one.
    pub name: Option<String>,
    /// Its tenant, by id or name; absent: the asker's own.
    pub tenant: Option<String>,
    /// The object it lives under, by id or name: the user of an API token.
    pub parent: Option<String>,
    /// Its spec as it was sent.
    pub spec: Value,
    /// Id and hash of the secret of a token.
    pub secret: Option<NewSecret>,
    /// Argon2id hash of a user's password.
    pub password_hash: Option<String>,
}

impl Create {
    /// A request with nothing but kind, name and spec.
    pub fn new(kind: Kind, name: &str, spec: Value) -> Self {
        Self {
            kind,
            name: (!name.is_empty()).then(|| name.to_owned()),
            tenant: None,
            parent: None,
            spec,
            secret: None,
            password_hash: None,
        }
    }
    /// Within this tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }
}

/// A secret made outside; only its hash comes here.
#[derive(Debug, Clone)]
pub struct NewSecret {
    /// The id that is part of the token's text, and becomes the object's.
    pub id: ObjectId,
    /// Hash of the secret, hexadecimal.
    pub hash: String,
}

/// Changes an object's spec.
#[derive(Debug, Clone)]
pub struct Update {
    /// Its kind.
    pub kind: Kind,
    /// Its id or name.
    pub target: String,
    /// Where its name is looked for.
    pub tenant: Option<String>,
    /// The new spec, or a merge patch.
    pub spec: Value,
    /// True: what is absent stays, what is null goes (RFC 7386).
    pub merge: bool,
}

/// Removes an object.
#[derive(Debug, Clone)]
pub struct Delete {
    /// Its kind.
    pub kind: Kind,
    /// Its id or name.
    pub target: String,
    /// Where its name is looked for.
    pub tenant: Option<String>,
    /// For a host: its VMs are given up as lost.
    pub force: bool,
}

/// Tells what secret fields hold.
#[derive(Debug, Clone)]
pub struct Reveal {
    /// The kind of layer.
    pub kind: Kind,
    /// Its id.
    pub target: String,
    /// Where it is looked for.
    pub tenant: Option<String>,
}

/// Starts, stops, reboots a VM.
#[derive(Debug, Clone)]
pub struct Power {
    /// Its id or name.
    pub target: String,
    /// Where its name is looked for.
    pub tenant: Option<String>,
    /// What to do.
    pub act: PowerAct,
}

/// Operates a host.
#[derive(Debug, Clone)]
pub struct HostAct {
    /// Its id or name.
    pub target: String,
    /// What to do.
    pub act: HostVerb,
}

/// What can be done to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostVerb {
    /// Keep new VMs away.
    Cordon,
    /// Take VMs again.
    Uncordon,
    /// Believe it again after two boots showed one key.
    ReleaseQuarantine,
}

/// Makes a VM of a domain that a host has already.
#[derive(Debug, Clone)]
pub struct Adopt {
    /// The host, by id or name.
    pub host: String,
    /// The domain, by UUID or by its name on the host.
    pub domain: String,
    /// The VM's name; absent: the domain's.
    pub name: Option<String>,
    /// Its tenant, by id or name; absent: the asker's own.
    pub tenant: Option<String>,
    /// Its spec without what the host tells: sizes and power.
    pub spec: Value,
}

/// Gives an address of a pool to a VM.
#[derive(Debug, Clone)]
pub struct AllocateAddress {
    /// The pool, by id or name.
    pub pool: String,
    /// The VM, by id or name.
    pub vm: String,
    /// Where their names are looked for.
    pub tenant: Option<String>,
    /// This very one, which may be reserved; absent: the lowest free one.
    pub address: Option<String>,
    /// How many in a row, of which that is the first.
    pub count: u32,
    /// When it goes back to the pool by itself; absent: it does not.
    pub leased_until: Option<Timestamp>,
}

/// Changes whether an address can be had.
#[derive(Debug, Clone)]
pub struct AddressAct {
    /// Its id, or the address where that is clear.
    pub target: String,
    /// Where it is looked for.
    pub tenant: Option<String>,
    /// What to do.
    pub act: AddressVerb,
}

/// What can be done to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressVerb {
    /// Let it go back to its pool.
    Release,
    /// Keep it for who asks for this very one.
    Reserve,
    /// Leave it as it is until it is unfrozen.
    Freeze,
    /// End that.
    Unfreeze,
}

/// Sets a password.
#[derive(Debug, Clone)]
pub struct SetPassword {
    /// The user, by id or name.
    pub target: String,
    /// Argon2id hash in PHC form.
    pub hash: String,
    /// True if the caller showed the old password and it was right.
    pub old_verified: bool,
}

/// Opens a session.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user whose password was right.
    pub user_id: ObjectId,
    /// The session's id and the hash of its refresh secret.
    pub session: NewSecret,
    /// What the device calls itself.
    pub device: String,
    /// The address it came from.
    pub address: String,
    /// When the session ends, whatever happens.
    pub expires_at: Timestamp,
}

/// Rotates a refresh secret.
#[derive(Debug, Clone)]
pub struct Refresh {
    /// The session.
    pub session_id: ObjectId,
    /// Hash of the secret that was shown.
    pub presented_hash: String,
    /// Hash of the next one.
    pub new_hash: String,
}

/// The group of controllers as its leader sees it. Who is a member is replication's to say, and who answers is known
/// to the leader alone; the state knows what each announced.
#[derive(Debug, Clone)]
pub struct Group {
    /// The leader's store.
    pub leader: ObjectId,
    /// All members, the leader too.
    pub members: Vec<GroupMember>,
}

/// A member of the group.
#[derive(Debug, Clone)]
pub struct GroupMember {
    /// Its store: the id of its object.
    pub store_id: ObjectId,
    /// Its name.
    pub name: String,
    /// Milliseconds since it last answered the leader; `None` if it never did. 0 for the leader itself.
    pub answered_ms_ago: Option<u64>,
}

/// What is done to a controller outside the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControllerVerb {
    /// Give it a vote.
    Promote,
    /// Hand leadership over.
    HandOver,
    /// Take a backup.
    Backup,
}

impl ControllerVerb {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::HandOver => "hand_over",
            Self::Backup => "backup",
        }
    }
}

/// What is answered, once it is committed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    /// 200, 201, 202 or 204.
    pub http_status: u16,
    /// The object it was about.
    pub object_id: Option<ObjectId>,
    /// That object as it is now, without secrets; `None` if it is gone.
    pub object: Option<Value>,
    /// Its generation: the ETag.
    pub generation: Option<u64>,
    /// The operation that was begun.
    pub operation: Option<Value>,
    /// Its id.
    pub operation_id: Option<ObjectId>,
    /// What else belongs into the answer.
    pub extra: Map<String, Value>,
    /// True if an idempotency key was seen before and this is its first answer again.
    pub replayed: bool,
}

/// What a cloud box tells of itself.
#[derive(Debug, Clone)]
pub struct CloudBoxTells {
    /// Its id or name.
    pub target: String,
    /// Where its name is looked for.
    pub tenant: Option<String>,
    /// What it tells.
    pub report: CloudBoxReport,
}
