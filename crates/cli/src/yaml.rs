//! YAML as it is printed: any YAML reader gives back what went in, and no character that a terminal obeys is in it.

use serde_json::{Map, Value};
use virtflow_types::ObjectId;

use crate::safe;

/// Data as YAML. A text that holds what a terminal would obey stands in double quotes, escaped as YAML does.
pub(crate) fn of(data: &Value) -> String {
    let mut marks = Marks::new();
    let marked = marks.put(data);
    let text = serde_yaml_ng::to_string(&marked).unwrap_or_default();
    // Nothing unsafe is left; if the writer ever left something, it would be shown and not obeyed.
    safe::block(&marks.resolve(&text))
}

/// Stand in for texts while the rest is written: the writer leaves some unsafe characters as they are, and where it
/// does, it is not in quotes, so that nothing could be escaped afterwards.
struct Marks {
    /// Nobody can write one: it is made up anew each time.
    mark: String,
    texts: Vec<String>,
}

impl Marks {
    fn new() -> Self {
        Self {
            mark: format!("text-{}-", ObjectId::random()),
            texts: Vec::new(),
        }
    }

    fn put(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.mark_of(text).into(),
            Value::Array(items) => items.iter().map(|item| self.put(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.iter();
                let marked = fields.map(|(name, value)| (self.mark_of(name), self.put(value)));
                Value::Object(marked.collect::<Map<_, _>>())
            }
            other => other.clone(),
        }
    }

    fn mark_of(&mut self, text: &str) -> String {
        if !text.chars().any(must_be_escaped) {
            return text.to_owned();
        }
        self.texts.push(text.to_owned());
        format!("{}{}.", self.mark, self.texts.len() - 1)
    }

    fn resolve(&self, text: &str) -> String {
        let mut pieces = text.split(self.mark.as_str());
        let mut whole = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (number, rest) = piece.split_once('.').unwrap_or((piece, ""));
            let held = number.parse().ok().and_then(|at: usize| self.texts.get(at));
            whole.push_str(&quoted(held.map_or("", String::as_str)));
            whole.push_str(rest);
        }
        whole
    }
}

/// A terminal does with line breaks and tabs what they are for.
fn must_be_escaped(c: char) -> bool {
    safe::is_unsafe(c) && !matches!(c, '\n' | '\t')
}

/// A text in double quotes, by YAML's rules (1.2, 5.7).
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if safe::is_unsafe(c) => quoted.push_str(&match u32::from(c) {
                code @ ..=0xff => format!("\\x{code:02X}"),
                code @ ..=0xffff => format!("\\u{code:04X}"),
                code => format!("\\U{code:08X}"),
            }),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_as_yaml_does() {
        for (data, yaml) in [
            (json!({"a": "web-1 ü"}), "a: web-1 ü\n"),
            (
                json!({"a": "x\u{202e} \"b\"\\"}),
                "a: \"x\\u202E \\\"b\\\"\\\\\"\n",
            ),
            (
                json!({"a": "\u{1b}[2J\u{9b}\r"}),
                "a: \"\\x1B[2J\\x9B\\x0D\"\n",
            ),
            (
                json!({"a": "one\ntwo\u{200b}"}),
                "a: \"one\\ntwo\\u200B\"\n",
            ),
            (json!({"a": "one\ntwo\n"}), "a: |\n  one\n  two\n"),
            (json!({"a": "one\ttwo"}), "a: \"one\\ttwo\"\n"),
            (
                json!({"a\u{feff}": ["\u{2028}", 1]}),
                "\"a\\uFEFF\":\n- \"\\u2028\"\n- 1\n",
            ),
            (json!("\u{2066}"), "\"\\u2066\"\n"),
        ] {
            assert_eq!(of(&data), yaml);
        }
    }

    /// Whoever writes what stands for a text gets it back.
    #[test]
    fn a_mark_in_a_text_is_text() {
        let data = json!(["text-0.", format!("text-{}-0.", ObjectId::NIL), "\u{202e}"]);
        let read: Value = serde_yaml_ng::from_str(&of(&data)).unwrap();
        assert_eq!(read, data);
    }

    fn texts() -> impl Strategy<Value = String> {
        let odd = prop_oneof![
            Just('\n'),
            Just('\t'),
            Just('\r'),
            Just(' '),
            Just('"'),
            Just('\''),
            Just('\\'),
            Just('#'),
            Just(':'),
            Just('-'),
            Just('\u{85}'),
            Just('\u{2028}'),
            Just('\u{202e}'),
            Just('\u{feff}'),
            Just('\u{7f}'),
            Just('a'),
            any::<char>(),
        ];
        proptest::collection::vec(odd, 0..12).prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        /// What is printed is read back, whatever it is, and does nothing to a terminal.
        #[test]
        fn it_reads_back(name in texts(), one in texts(), other in texts()) {
            let data = json!({"a": {name: one.clone()}, "b": [other, {"c": one}]});
            let text = of(&data);
            prop_assert!(text.chars().all(|c| !must_be_escaped(c)), "{text:?}");
            let read: Value = serde_yaml_ng::from_str(&text).unwrap();
            prop_assert_eq!(read, data, "{}", text);
        }
    }
}
