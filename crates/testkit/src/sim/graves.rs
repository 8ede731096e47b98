//! VMs that are gone for good: their host said so, or never had them.

use std::collections::BTreeSet;

use virtflow_logic::decoded;
use virtflow_model::Kind;
use virtflow_model::kinds::Residue;
use virtflow_state::{Change, State};
use virtflow_types::ObjectId;

/// Of a VM neither its row nor a residue is left. Nothing may run of it from then on, wherever an agent was
/// and whatever it had forgotten.
#[derive(Debug, Default)]
pub(crate) struct Graves(BTreeSet<ObjectId>);

impl Graves {
    /// Looks at what an entry removed; `image` is the state after it.
    pub(crate) fn dig(&mut self, image: &State, changes: &[Change]) {
        for change in changes {
            let (Some(before), None) = (&change.before, &change.after) else {
                continue;
            };
            let vm = match Kind::parse(&before.kind) {
                Some(Kind::VirtualMachine) => before.id,
                Some(Kind::Residue) => match decoded::<Residue>(before) {
                    Ok(residue) => residue.spec.vm_id,
                    Err(_) => continue,
                },
                _ => continue,
            };
            let remains = image
                .of_kind(Kind::Residue.name(), None)
                .any(|row| decoded::<Residue>(row).is_ok_and(|residue| residue.spec.vm_id == vm));
            if !remains && image.get(vm).is_none() {
                self.0.insert(vm);
            }
        }
    }

    pub(crate) fn hold(&self, vm: ObjectId) -> bool {
        self.0.contains(&vm)
    }
}
