//! Asking before what cannot be taken back.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::failure::{Failure, exit};
use crate::interrupt::Asking;

/// True if somebody sits at the terminal who can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Asks `question`; anything but a yes is a failure, with nothing done. The question's text must be safe to show.
pub(crate) fn confirm(question: &str) -> Result<(), Failure> {
    // Whoever cannot be asked cannot have said yes.
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let asking = Asking::begin();
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    drop(asking);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::new(
            exit::FAILURE,
            "declined",
            "not confirmed: nothing was done",
        )),
    }
}
