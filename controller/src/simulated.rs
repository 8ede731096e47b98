//! What a simulated controller is told of the program that it runs.

use std::cell::RefCell;

/// The highest cluster version that the program of the process that runs supports.
type Supports = Box<dyn Fn() -> u32>;

thread_local! {
    static SUPPORTS: RefCell<Option<Supports>> = const { RefCell::new(None) };
}

/// From now on `supports` says for this thread's processes which cluster version their programs support.
pub fn serve(supports: impl Fn() -> u32 + 'static) {
    SUPPORTS.set(Some(Box::new(supports)));
}

pub(crate) fn supports() -> Option<u32> {
    SUPPORTS.with_borrow(|supports| supports.as_ref().map(|supports| supports()))
}
