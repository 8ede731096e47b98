//! Where a VM goes: one linear pass over plain values, and the reason of every host that refused it.
//!
//! Pure. An [`Inventory`] is what the leader keeps of its hosts: what each may hand out, what is left
//! of it (decisions not yet confirmed taken off already), whether it takes VMs, how busy it is. [`place`]
//! chooses; [`Inventory::take`] books, so that the next request sees it; [`explain`] says why a request
//! found no place. The pass allocates nothing. What must never be broken, no host past its limit, is
//! checked again where the binding is applied: a scheduler that errs is refused, not obeyed.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod inventory;
mod place;

pub use inventory::{Amounts, DIMENSIONS, Group, Host, Inventory, Kin, Standing};
pub use place::{Refusal, Request, Room, Why, explain, place};
