//! The typed value beside an object's JSON, and back.

use std::any::Any;
use std::sync::Arc;

use virtflow_model::kinds::baremetal::{BaremetalSpec, BaremetalStatus, HostState};
use virtflow_model::kinds::baremetal_group::{BaremetalGroupSpec, GroupState};
use virtflow_model::kinds::billing_period::{BillingPeriodSpec, PeriodState};
use virtflow_model::kinds::image::{ImageSpec, ImageState};
use virtflow_model::kinds::image_version::ImageVersionSpec;
use virtflow_model::kinds::instance_set::{InstanceSetSpec, SetState};
use virtflow_model::kinds::ip_pool::{IpPoolSpec, PoolState};
use virtflow_model::kinds::maintainer::MaintainerSpec;
use virtflow_model::kinds::maintainer_group::MaintainerGroupSpec;
use virtflow_model::kinds::service_mesh::{MeshState, ServiceMeshSpec};
use virtflow_model::kinds::storage_pool::StoragePoolSpec;
use virtflow_model::kinds::subnet::SubnetSpec;
use virtflow_model::kinds::template::{TemplateSpec, TemplateState};
use virtflow_model::kinds::tenant::{TenantSpec, TenantState, TenantStatus};
use virtflow_model::kinds::user::UserStatus;
use virtflow_model::kinds::virtual_machine::{VirtualMachineStatus, VmPhase};
use virtflow_model::kinds::virtual_machine_specification::{
    SpecificationState, VirtualMachineSpecificationSpec,
};
use virtflow_model::kinds::vpc::{NetworkState, VpcSpec};
use virtflow_model::states::ActiveState;
use virtflow_model::{Kind, Meta, PerKind, Resource, Stamps, StoredStatus};
use virtflow_state::Object;
use virtflow_types::{Error, ErrorCode, Footprint};

/// An object's spec, status and stamps; for kinds that are read at every request, decoded once and cached
/// beside it.
#[derive(Debug)]
pub struct Typed<R: Resource> {
    /// What was asked for.
    pub spec: R::Spec,
    /// What was seen.
    pub status: R::Status,
    /// Who and when.
    pub stamps: Stamps,
}

// By hand: derived, they would ask the same of the kind itself.
impl<R: Resource> Clone for Typed<R> {
    fn clone(&self) -> Self {
        Self {
            spec: self.spec.clone(),
            status: self.status.clone(),
            stamps: self.stamps.clone(),
        }
    }
}
impl<R: Resource> PartialEq for Typed<R> {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec && self.status == other.status && self.stamps == other.stamps
    }
}

/// The typed value of an object.
///
/// Fails with [`ErrorCode::Internal`] if the object is of another kind or its JSON is not what the kind
/// stores, which only a damaged store or a newer version's object can be.
pub fn decoded<R: Resource>(object: &Object) -> Result<Arc<Typed<R>>, Error> {
    if object.kind != R::KIND.name() {
        return Err(broken(object, &format!("is no {}", R::KIND.name())));
    }
    if !is_cached(R::KIND) {
        return decode::<R>(object).map(Arc::new);
    }
    let cached = object.decoded(|object| decode::<R>(object).map(Arc::new));
    match cached.as_deref() {
        Some(Ok(typed)) => Ok(typed.clone()),
        Some(Err(error)) => Err(error.clone()),
        None => Err(broken(object, "was decoded as another kind")),
    }
}

/// False for the kinds there are most of: their typed values would take a quarter of the memory that
/// a VM is allowed, to save a few microseconds where one is looked at.
fn is_cached(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::VirtualMachine | Kind::Operation | Kind::IdempotencyKey | Kind::IpAddress
    )
}

fn decode<R: Resource>(object: &Object) -> Result<Typed<R>, Error> {
    let spec = serde_json::from_str(&object.spec)
        .map_err(|error| broken(object, &format!("spec: {error}")))?;
    let stored: StoredStatus<R::Status> = serde_json::from_str(&object.status)
        .map_err(|error| broken(object, &format!("status: {error}")))?;
    Ok(Typed {
        spec,
        status: stored.status,
        stamps: stored.stamps,
    })
}

fn broken(object: &Object, what: &str) -> Error {
    Error::new(
        ErrorCode::Internal,
        format!("stored {} {}: {what}", object.kind, object.id),
    )
    .advise("run `virtflow verify` and see the controllers' logs")
}

/// The kind of an object; `None` for one that a newer version made.
pub fn kind_of(object: &Object) -> Option<Kind> {
    Kind::of_name(&object.kind)
}

/// What the footprint is computed from.
pub(crate) fn meta_of(object: &Object, stamps: Stamps) -> Meta {
    Meta {
        id: object.id,
        name: object.name.clone(),
        tenant: object.tenant,
        parent: object.parent,
        generation: object.generation,
        version: object.version,
        closed: object.closed,
        stamps,
    }
}

/// Writes the typed value into the object, with the footprint that follows from it.
pub(crate) fn compose<R: Resource>(object: &mut Object, typed: &Typed<R>) -> Result<(), Error> {
    let text = |value: serde_json::Result<String>| {
        value
            .map(Into::into)
            .map_err(|error| broken(object, &format!("cannot be written: {error}")))
    };
    let spec: Box<str> = text(serde_json::to_string(&typed.spec))?;
    let status: Box<str> = text(serde_json::to_string(&StoredStatus {
        stamps: typed.stamps.clone(),
        status: typed.status.clone(),
    }))?;
    object.spec = spec;
    object.status = status;
    object.closed = is_closed::<R>(&typed.spec, &typed.status);
    object.footprint = footprint_of::<R>(object, typed);
    Ok(())
}

pub(crate) fn footprint_of<R: Resource>(object: &Object, typed: &Typed<R>) -> Footprint {
    let meta = meta_of(object, typed.stamps.clone());
    R::footprint(&meta, &typed.spec, &typed.status)
}

/// The footprint that follows from an object's value; `None` if that cannot be read.
pub(crate) fn derived_footprint(object: &Object) -> Option<Footprint> {
    struct Derive<'o>(&'o Object);
    impl PerKind for Derive<'_> {
        type Out = Option<Footprint>;
        fn run<R: Resource>(self) -> Option<Footprint> {
            Some(footprint_of::<R>(self.0, &*decoded::<R>(self.0).ok()?))
        }
    }
    kind_of(object).and_then(|kind| kind.dispatch(Derive(object)))
}

/// An object that comes from where footprints are not kept, with its own. One that cannot be read stays without.
pub(crate) fn with_footprint(mut object: Object) -> Object {
    object.footprint = derived_footprint(&object).unwrap_or_default();
    object
}

/// Whether an object takes no new links: the one place that says which decision of an administrator
/// shuts which kind.
fn is_closed<R: Resource>(spec: &R::Spec, status: &R::Status) -> bool {
    let spec: &dyn Any = spec;
    let status: &dyn Any = status;
    if let Some(tenant) = spec.downcast_ref::<TenantSpec>() {
        let deleting = status
            .downcast_ref::<TenantStatus>()
            .is_some_and(|status| status.deleting);
        return deleting || tenant.state != TenantState::Active;
    }
    if let Some(user) = status.downcast_ref::<UserStatus>() {
        return user.deleting;
    }
    if let Some(host) = spec.downcast_ref::<BaremetalSpec>() {
        let is_rented = status
            .downcast_ref::<BaremetalStatus>()
            .is_some_and(|status| status.instance_id.is_some());
        return is_rented || host.state != HostState::Active;
    }
    if let Some(group) = spec.downcast_ref::<BaremetalGroupSpec>() {
        return group.state == GroupState::Disabled;
    }
    if let Some(size) = spec.downcast_ref::<VirtualMachineSpecificationSpec>() {
        return size.state == SpecificationState::Deprecated;
    }
    if let Some(maintainer) = spec.downcast_ref::<MaintainerSpec>() {
        return maintainer.state == ActiveState::Inactive;
    }
    if let Some(group) = spec.downcast_ref::<MaintainerGroupSpec>() {
        return group.state == ActiveState::Inactive;
    }
    // What is put on it while it goes would hold up its end.
    if let Some(vm) = status.downcast_ref::<VirtualMachineStatus>() {
        return vm.phase == VmPhase::Deleting;
    }
    if let Some(template) = spec.downcast_ref::<TemplateSpec>() {
        return template.state == TemplateState::Archived;
    }
    if let Some(set) = spec.downcast_ref::<InstanceSetSpec>() {
        return set.state == SetState::Archived;
    }
    if let Some(mesh) = spec.downcast_ref::<ServiceMeshSpec>() {
        return mesh.state == MeshState::Inactive;
    }
    if let Some(period) = spec.downcast_ref::<BillingPeriodSpec>() {
        return period.state == PeriodState::Closed;
    }
    is_network_closed(spec) || is_storage_closed(spec)
}

fn is_storage_closed(spec: &dyn Any) -> bool {
    if let Some(pool) = spec.downcast_ref::<StoragePoolSpec>() {
        return pool.state != PoolState::Active;
    }
    if let Some(image) = spec.downcast_ref::<ImageSpec>() {
        return image.state == ImageState::Archived;
    }
    if let Some(version) = spec.downcast_ref::<ImageVersionSpec>() {
        return version.state == ImageState::Archived;
    }
    false
}

fn is_network_closed(spec: &dyn Any) -> bool {
    if let Some(vpc) = spec.downcast_ref::<VpcSpec>() {
        return vpc.state == NetworkState::Disabled;
    }
    if let Some(subnet) = spec.downcast_ref::<SubnetSpec>() {
        return subnet.state == NetworkState::Disabled;
    }
    if let Some(pool) = spec.downcast_ref::<IpPoolSpec>() {
        return pool.state != PoolState::Active;
    }
    false
}
