//! Asking before what cannot be taken back.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::failure::{Failure, exit};

/// True if somebody sits at the terminal who can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Asks `question`; anything but a yes is a failure, with nothing done. The question's text must be safe to show.
pub(crate) fn confirm(question: &str) -> Result<(), Failure> {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{question} [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::new(
            exit::FAILURE,
            "declined",
            "not confirmed: nothing was done",
        )),
    }
}
