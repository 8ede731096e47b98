//! Reading what must not stand on a command line: from a file, standard input, or the terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::failure::Failure;
use crate::interrupt::Asking;
use crate::safe;

/// Longest password or token, in bytes.
const SECRET_BYTES_MAX: u64 = 4096;

/// The text of a file; `-` is standard input.
pub(crate) fn read_text(path: &str, bytes_max: u64) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == "-" {
        io::stdin()
            .lock()
            .take(bytes_max + 1)
            .read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_string(&mut text))
    };
    let shown = if path == "-" { "standard input" } else { path };
    read.map_err(|error| Failure::local(format!("cannot read {shown}: {error}")))?;
    if text.len() as u64 > bytes_max {
        return Err(Failure::local(format!(
            "{shown} is longer than {bytes_max} bytes"
        )));
    }
    Ok(text)
}

/// The same of what people edit: the mark that some editors begin a file with is no part of it.
pub(crate) fn read_document(path: &str, bytes_max: u64) -> Result<String, Failure> {
    let mut text = read_text(path, bytes_max)?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// A password: from the file if one is named, from the terminal if there is one, else from standard
/// input. One line break at the end does not count.
pub(crate) fn password(file: Option<&str>, prompt: &str, twice: bool) -> Result<String, Failure> {
    let text = match file {
        Some(path) => read_text(path, SECRET_BYTES_MAX)?,
        None if io::stdin().is_terminal() => return from_terminal(prompt, twice),
        None => read_text("-", SECRET_BYTES_MAX)?,
    };
    one_line(&text)
}

fn one_line(text: &str) -> Result<String, Failure> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(Failure::usage("the password is empty"));
    }
    if line.contains(['\n', '\r', '\0']) {
        return Err(Failure::usage("the password must be a single line"));
    }
    Ok(line.to_owned())
}

fn from_terminal(prompt: &str, twice: bool) -> Result<String, Failure> {
    let ask = |prompt: &str| {
        asked(prompt)
            .map_err(|error| Failure::local(format!("cannot read from the terminal: {error}")))
    };
    let first = one_line(&ask(&format!("{prompt}: "))?)?;
    if twice && one_line(&ask(&format!("{prompt}, again: "))?)? != first {
        return Err(Failure::usage("the two passwords differ"));
    }
    Ok(first)
}

/// What is typed, which the terminal does not show. It shows all again afterwards, however that ends.
fn asked(prompt: &str) -> io::Result<String> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let before = tcgetattr(&terminal)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden
        .local_modes
        .insert(LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
    let asking = Asking::hidden(terminal.try_clone()?, before);
    // What was typed before the question is no answer to it.
    tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
    terminal.write_all(safe::line(prompt).as_bytes())?;
    let mut line = String::new();
    let read = BufReader::new((&terminal).take(SECRET_BYTES_MAX + 1)).read_line(&mut line);
    drop(asking);
    match read? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        _ if line.len() as u64 > SECRET_BYTES_MAX => Err(io::Error::other(format!(
            "it is longer than {SECRET_BYTES_MAX} bytes"
        ))),
        _ => Ok(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_does_not_count() {
        for (text, expected) in [
            ("abc", "abc"),
            ("abc\n", "abc"),
            ("abc\r\n", "abc"),
            (" a \n", " a "),
        ] {
            assert_eq!(one_line(text).unwrap(), expected);
        }
        for text in ["", "\n", "a\nb\n", "a\n\n", "a\0b"] {
            assert!(one_line(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let path = path.to_str().unwrap();
        std::fs::write(path, "x".repeat(4096)).unwrap();
        assert_eq!(password(Some(path), "", false).unwrap().len(), 4096);
        std::fs::write(path, "x".repeat(4097)).unwrap();
        assert!(password(Some(path), "", false).is_err());
        assert!(password(Some("/nonexistent/secret"), "", false).is_err());
    }
}
