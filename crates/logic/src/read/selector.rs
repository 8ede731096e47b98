//! Label selectors: `env=prod,tier!=db,backup,!draft,zone in (a,b)`. All requirements must hold.

use serde_json::Value;
use virtflow_types::Error;

/// Longest selector, in bytes.
const BYTES_MAX: usize = 2048;
/// Requirements of one selector.
const REQUIREMENTS_MAX: usize = 16;
/// Values of one requirement.
const VALUES_MAX: usize = 64;

/// What labels have to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    label: String,
    is: Is,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Is {
    /// It is there, whatever its value.
    There,
    /// It is not there.
    Absent,
    /// It is there and has one of these values.
    Among(Vec<String>),
    /// It is not there, or has none of these values.
    Outside(Vec<String>),
}

impl Selector {
    /// Reads a selector; `parameter` is what it came as.
    pub(super) fn read(parameter: &str, text: &str) -> Result<Self, Error> {
        let refused = |problem: String| {
            Error::invalid(parameter, problem).advise(
                "requirements by commas: env=prod, tier!=db, backup, !draft, zone in (a,b), zone notin (c)",
            )
        };
        if text.len() > BYTES_MAX {
            let problem = format!("has {} bytes, at most {BYTES_MAX} are allowed", text.len());
            return Err(refused(problem));
        }
        let parts = parts(text).map_err(&refused)?;
        if parts.len() > REQUIREMENTS_MAX {
            let problem = format!(
                "has {}, at most {REQUIREMENTS_MAX} are allowed",
                parts.len()
            );
            return Err(refused(problem));
        }
        let requirements = parts.into_iter().map(Requirement::read);
        let requirements: Result<Vec<_>, String> = requirements.collect();
        requirements.map(Self).map_err(refused)
    }

    /// A label and the one value that it must have: an index may lead to these.
    pub(super) fn pair(&self) -> Option<(&str, &str)> {
        self.0.iter().find_map(|requirement| match &requirement.is {
            Is::Among(values) => match values.as_slice() {
                [value] => Some((requirement.label.as_str(), value.as_str())),
                _ => None,
            },
            _ => None,
        })
    }

    /// True if labels, as they stand in a spec, are such.
    pub(super) fn holds(&self, labels: &Value) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels[&requirement.label].as_str();
            let is_one = |values: &[String]| values.iter().any(|it| Some(it.as_str()) == value);
            match &requirement.is {
                Is::There => value.is_some(),
                Is::Absent => value.is_none(),
                Is::Among(values) => is_one(values),
                Is::Outside(values) => !is_one(values),
            }
        })
    }
}

/// What stands between commas that are in no parentheses.
fn parts(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut begin, mut inside) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' if inside => return Err("has parentheses within parentheses".into()),
            '(' => inside = true,
            ')' if !inside => return Err("closes a parenthesis that is not open".into()),
            ')' => inside = false,
            ',' if !inside => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err("leaves a parenthesis open".into());
    }
    parts.push(&text[begin..]);
    Ok(parts)
}

impl Requirement {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let of = |label: &str, is: Is| {
            let label = label.trim();
            let is_odd = |c: char| c.is_whitespace() || c.is_control() || "!=(),".contains(c);
            if label.is_empty() || label.contains(is_odd) {
                return Err(format!("has `{text}`, which is no requirement on a label"));
            }
            let label = label.to_owned();
            Ok(Self { label, is })
        };
        let one = |value: &str| {
            let value = value.trim();
            match value.contains(['=', '(', ')']) {
                true => Err(format!("has `{text}`, which says two things at once")),
                false => Ok(vec![value.to_owned()]),
            }
        };
        if let Some((head, values)) = text.strip_suffix(')').and_then(|it| it.split_once('(')) {
            let values: Vec<String> = values.split(',').map(|it| it.trim().to_owned()).collect();
            if values.len() > VALUES_MAX {
                let many = values.len();
                return Err(format!(
                    "has {many} values, at most {VALUES_MAX} are allowed"
                ));
            }
            return match head.trim_end().rsplit_once(char::is_whitespace) {
                Some((label, "in")) => of(label, Is::Among(values)),
                Some((label, "notin")) => of(label, Is::Outside(values)),
                _ => Err(format!(
                    "has `{text}`: before values stands `in` or `notin`"
                )),
            };
        }
        if let Some((label, value)) = text.split_once("!=") {
            return of(label, Is::Outside(one(value)?));
        }
        if let Some((label, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            return of(label, Is::Among(one(value)?));
        }
        match text.strip_prefix('!') {
            Some(label) => of(label, Is::Absent),
            None => of(text, Is::There),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(text: &str, labels: &Value) -> bool {
        Selector::read("labels", text).unwrap().holds(labels)
    }

    #[test]
    fn each_requirement_says_one_thing() {
        let labels = json!({"env": "prod", "tier": "web", "app.example/team": "shop", "e": ""});
        for (text, expected) in [
            ("env=prod", true),
            ("env==prod", true),
            (" env = prod , tier", true),
            ("env=test", false),
            ("env=pro", false),
            ("env!=prod", false),
            ("env!=test", true),
            // What is not there has no value, so it has none of these.
            ("zone!=a", true),
            ("zone notin (a,b)", true),
            ("zone in (a,b)", false),
            ("env in (test, prod)", true),
            ("env notin (test,prod)", false),
            ("env in (test),tier", false),
            ("tier", true),
            ("zone", false),
            ("!zone", true),
            ("!tier", false),
            ("e=", true),
            ("e", true),
            ("app.example/team=shop,env=prod,!zone", true),
            ("app.example/team=shop,env=prod,zone", false),
        ] {
            assert_eq!(holds(text, &labels), expected, "{text}");
        }
        assert!(!holds("env", &Value::Null));
        assert!(holds("!env", &Value::Null));
    }

    #[test]
    fn what_says_nothing_or_too_much_is_refused() {
        for bad in [
            "",
            ",",
            "a,",
            "=a",
            "!",
            "!=a",
            "!!a",
            "a=b=c",
            "a!=b!=c",
            "a b",
            "a in b",
            "a in (b",
            "a in b)",
            "a in ((b))",
            "a of (b)",
            "in (b)",
            "(b)",
            "a(b)",
            "a=(b)",
            "!a=b",
            "a=b)",
        ] {
            let error = Selector::read("labels", bad).unwrap_err();
            assert_eq!(error.fields[0].field, "labels", "{bad}");
            assert!(error.advice.is_some(), "{bad}");
        }
        assert!(Selector::read("labels", &"a,".repeat(15).as_str()[..29]).is_ok());
        assert!(Selector::read("labels", &format!("{}a", "a,".repeat(16))).is_err());
        assert!(Selector::read("labels", &"a".repeat(2049)).is_err());
        let values = |n: usize| format!("a in ({}b)", "b,".repeat(n - 1));
        assert!(Selector::read("labels", &values(64)).is_ok());
        assert!(Selector::read("labels", &values(65)).is_err());
    }

    #[test]
    fn a_pair_is_what_must_be_there_with_one_value() {
        let pair = |text: &str| {
            let selector = Selector::read("labels", text).unwrap();
            selector
                .pair()
                .map(|(label, value)| format!("{label}={value}"))
        };
        assert_eq!(pair("!z,a!=b,c in (d,e),f in (g),h=i"), Some("f=g".into()));
        assert_eq!(pair("a,!b,c!=d"), None);
    }
}
