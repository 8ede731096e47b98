//! Text of others on a terminal: a name or a console line must not move the cursor, rename the window
//! or hide what stands beside it.

/// True for what a terminal obeys or what turns the direction of writing.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// One line: what is unsafe, line breaks too, is shown by its number.
pub(crate) fn line(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Several lines: as [`line`], but line breaks and tabs stay.
pub(crate) fn block(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && c != '\n' && c != '\t' {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// With what is beyond `chars_max` characters of each line cut off, and that said.
pub(crate) fn short(text: &str, chars_max: usize) -> String {
    let mut short = String::new();
    for line in text.split_inclusive('\n') {
        match line.char_indices().nth(chars_max) {
            Some((cut, _)) if line.trim_end_matches('\n').len() > cut => {
                short.push_str(&line[..cut]);
                short.push_str(" ...");
                if line.ends_with('\n') {
                    short.push('\n');
                }
            }
            _ => short.push_str(line),
        }
    }
    short
}

/// JSON text: what `serde_json` leaves as it is although a terminal obeys it is escaped as JSON does.
/// It can stand in strings only, so the text means the same.
pub(crate) fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Where [`Console`] is in an escape sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Within {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte: one more ends it.
    Intermediate,
    /// `ESC [ ...`, ended by a letter.
    Control,
    /// `ESC ] ...` and its like, ended by BEL or `ESC \`.
    Command,
    /// ESC within a command.
    CommandEscape,
}

/// Takes escape sequences and control characters out of a console's output, also where a sequence is
/// cut in two by the pieces it arrives in.
#[derive(Debug, Default)]
pub(crate) struct Console {
    within: Within,
}

impl Console {
    /// The next piece, as it may be shown.
    pub(crate) fn clean(&mut self, text: &str) -> String {
        let mut safe = String::with_capacity(text.len());
        for c in text.chars() {
            self.within = match (self.within, c) {
                (Within::Text, '\u{1b}') => Within::Escape,
                (Within::Text, '\u{9b}') => Within::Control,
                (Within::Text, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => Within::Command,
                (Within::Text, c) => {
                    if matches!(c, '\n' | '\t') || !is_unsafe(c) {
                        safe.push(c);
                    }
                    Within::Text
                }
                // A line break ends whatever was begun: a torn sequence must not eat the log.
                (_, '\n') => {
                    safe.push('\n');
                    Within::Text
                }
                (Within::Escape, '[') => Within::Control,
                (Within::Escape, ']' | 'P' | 'X' | '^' | '_') => Within::Command,
                (Within::Escape, ' '..='/') => Within::Intermediate,
                (Within::Escape | Within::Intermediate, _) => Within::Text,
                (Within::Control, '\u{40}'..='\u{7e}') => Within::Text,
                (Within::Control, _) => Within::Control,
                (Within::Command, '\u{7}' | '\u{9c}') => Within::Text,
                (Within::Command, '\u{1b}') => Within::CommandEscape,
                (Within::Command, _) => Within::Command,
                (Within::CommandEscape, '\\') => Within::Text,
                (Within::CommandEscape, _) => Within::Command,
            };
        }
        safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_not_obeyed() {
        assert_eq!(line("web-1 ü"), "web-1 ü");
        assert_eq!(line("a\u{1b}[31mb\nc"), "a\\u{1b}[31mb\\u{a}c");
        assert_eq!(line("a\u{9b}2Jb\u{202e}c"), "a\\u{9b}2Jb\\u{202e}c");
        assert_eq!(block("a\n\tb\r\u{7}"), "a\n\tb\\u{d}\\u{7}");
    }

    #[test]
    fn long_lines_are_cut_and_the_rest_stays() {
        assert_eq!(short("abc\nabcd\n\nüüü\nab", 3), "abc\nabc ...\n\nüüü\nab");
        assert_eq!(short("abcd", 3), "abc ...");
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({"name": "a\u{9b}b\u{7f}\u{202e}\u{1b}"});
        let text = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.chars().all(|c| c == '\n' || !is_unsafe(c)), "{text}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }

    #[test]
    fn a_console_is_heard_without_its_spells() {
        for (raw, shown) in [
            ("[    0.1] Linux\r\nlogin: ", "[    0.1] Linux\nlogin: "),
            ("\u{1b}[1;32mok\u{1b}[0m\n", "ok\n"),
            ("\u{1b}]0;owned\u{7}a\u{1b}]52;c;ZXZpbA==\u{1b}\\b", "ab"),
            ("\u{1b}(Bx\u{1b}cy\u{9b}2Jz", "xyz"),
            ("a\u{8}\u{7}\u{0}b\tc", "ab\tc"),
            ("\u{1b}]0;never ended\nnext", "\nnext"),
        ] {
            assert_eq!(Console::default().clean(raw), shown, "{raw:?}");
            let mut console = Console::default();
            let piecewise: String = raw.chars().map(|c| console.clean(&c.to_string())).collect();
            assert_eq!(piecewise, shown, "{raw:?} in pieces");
        }
    }
}
