//! What the hosts of a group or of a data centre have together, told with it.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use virtflow_model::kinds::Baremetal;
use virtflow_model::{Action, Capacity, Kind, Permission, Room, key};
use virtflow_scheduler::Amounts;
use virtflow_state::{Object, State};
use virtflow_types::{Error, ObjectId};

use super::public::{public_to, write_public};
use crate::cx::Cx;
use crate::door::Door;
use crate::loops::balance;
use crate::site::data_center_of;
use crate::typed::{decoded, kind_of};

/// Sums over hosts for the objects of one answer: those of data centres are added up once.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    centers: OnceCell<BTreeMap<ObjectId, Capacity>>,
}

impl Totals {
    /// An object as it is shown to the asker.
    pub(crate) fn shown(&self, door: &Door<'_>, object: &Object) -> Value {
        let mut shown = public_to(door, object);
        if let Some(capacity) = self.of(door, object) {
            shown["status"]["capacity"] = json!(capacity);
        }
        shown
    }

    /// The same as JSON.
    pub(crate) fn write(&self, door: &Door<'_>, object: &Object, text: &mut String) {
        if kind_of(object).is_some_and(depends_on_asker) {
            text.push_str(&self.shown(door, object).to_string());
        } else {
            write_public(door.state, object, text);
        }
    }

    /// Sums over a whole group are its operators' business; a tenant sees its own quota by `usage`.
    fn of(&self, door: &Door<'_>, object: &Object) -> Option<Capacity> {
        let read = Permission::new(Kind::BaremetalGroup, Action::Read);
        match kind_of(object)? {
            Kind::BaremetalGroup => {
                let may = door.rights.over(&[object.id]).contains(read);
                may.then(|| of_group(door.state, object.id))
            }
            Kind::DataCenter => {
                let may = door.rights.over(&[]).contains(read);
                may.then(|| {
                    let centers = self.centers.get_or_init(|| of_centers(door.state));
                    centers.get(&object.id).copied().unwrap_or_default()
                })
            }
            _ => None,
        }
    }
}

/// True for kinds whose objects are not told to everybody alike: with what their hosts have together, or without what
/// is no business of other tenants.
pub const fn depends_on_asker(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::BaremetalGroup
            | Kind::DataCenter
            | Kind::Doc
            | Kind::Image
            | Kind::ImageVersion
            | Kind::ImageTag
            | Kind::Template
            | Kind::TemplateVersion
    )
}

/// An object as it is shown to who asks, with what its hosts have together if it has hosts and the asker may know.
pub fn shown(state: &State, cx: &Cx, object: &Object) -> Result<Value, Error> {
    let door = Door::open(state, cx)?;
    Ok(Totals::default().shown(&door, object))
}

/// From its accounts, which its hosts supply.
fn of_group(state: &State, group: ObjectId) -> Capacity {
    let hosts = state.count_by_key(key::HOST_GROUP, &group.to_string());
    let hosts = u64::try_from(hosts).unwrap_or(u64::MAX);
    capacity(
        hosts,
        balance(state, group).map(|(limit, used)| [limit, used]),
    )
}

/// A host stands where its rack does, and without a rack where its group does.
fn of_centers(state: &State) -> BTreeMap<ObjectId, Capacity> {
    let mut sums: BTreeMap<ObjectId, (u64, [[u64; 2]; 4])> = BTreeMap::new();
    for host in state.of_kind(Kind::Baremetal.name(), None) {
        let host_spec = decoded::<Baremetal>(host).ok();
        let Some(center) = host_spec.and_then(|host| data_center_of(state, &host.spec)) else {
            continue;
        };
        let (hosts, sum) = sums.entry(center).or_default();
        *hosts += 1;
        for (sum, (limit, used)) in sum.iter_mut().zip(balance(state, host.id)) {
            sum[0] = sum[0].saturating_add(limit);
            sum[1] = sum[1].saturating_add(used);
        }
    }
    let sums = sums.into_iter();
    sums.map(|(center, (hosts, sum))| (center, capacity(hosts, sum)))
        .collect()
}

/// Of each dimension what there is and what is taken.
fn capacity(hosts: u64, balance: [[u64; 2]; 4]) -> Capacity {
    Capacity {
        hosts,
        total: room(balance.map(|[limit, _]| limit)),
        allocated: room(balance.map(|[_, used]| used)),
        available: room(balance.map(|[limit, used]| limit.saturating_sub(used))),
    }
}

fn room([cpu_milli, memory_mib, storage_gib, gpus]: Amounts) -> Room {
    Room {
        cpu_milli,
        memory_mib,
        storage_gib,
        gpus,
    }
}
