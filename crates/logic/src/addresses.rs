//! What is common to the verbs and loops that give addresses and take them back.

use std::sync::Arc;

use virtflow_model::key;
use virtflow_model::kinds::IpAddress;
use virtflow_model::kinds::ip_address::AddressState;
use virtflow_state::Object;
use virtflow_types::{Error, ObjectId};

use crate::draft::Draft;

impl Draft<'_> {
    /// An address goes back to its pool, and to whoever the pool belongs to. A frozen one loses its owner and
    /// stays frozen.
    pub(crate) fn release_address(&mut self, id: ObjectId) -> Result<Arc<Object>, Error> {
        let pool = self.get(id).and_then(|address| self.get(address.parent?));
        let tenant = pool.and_then(|pool| pool.tenant);
        self.rewrite::<IpAddress>(id, |row, _, status| {
            row.tenant = tenant;
            status.owner_id = None;
            status.allocated_at = None;
            status.leased_until = None;
            status.range_start = None;
            status.range_size = None;
            status.charged_group_id = None;
            status.charged_user_id = None;
            if status.state == AddressState::Frozen {
                status.state_before_freeze = Some(AddressState::Available);
            } else {
                status.state = AddressState::Available;
            }
        })
    }

    /// All addresses of a VM go back.
    pub(crate) fn release_addresses_of(&mut self, vm: ObjectId) -> Result<(), Error> {
        let owned = self.state.by_key(key::IP_OWNER, &vm.to_string(), None);
        for id in owned.map(|address| address.id).collect::<Vec<_>>() {
            self.release_address(id)?;
        }
        Ok(())
    }
}
