//! Free order and free text: what is asked of SQL, and what of the ids that it finds the asker sees in the state.
//!
//! SQL only finds candidates. Whether an object is shown is decided here, on the newest image, with the rights and
//! filters that every list has.

use serde_json::Value;
use virtflow_model::{Kind, Sort, SortBy};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ObjectId};

use super::cursor;
use super::filter::Filter;
use super::list::{ListQuery, one_tenant, question};
use super::totals::Totals;
use crate::cx::Cx;
use crate::door::Door;
use crate::views::ViewPart;

/// Longest text to search for, in bytes.
const TEXT_BYTES_MAX: usize = 256;
/// Words of one search.
const WORDS_MAX: usize = 8;

/// A list in an order of the asker's, or of what holds their words.
#[derive(Debug)]
pub struct Search<'a> {
    door: Door<'a>,
    query: &'a ListQuery,
    filter: Filter,
    sort: &'static Sort,
    is_descending: bool,
    words: Vec<String>,
    totals: Totals,
}

/// What SQL is asked for. Conditions leave out only what [`Search::show`] would.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Of this tenant; absent: of all and of none.
    pub tenant: Option<ObjectId>,
    /// Under this object.
    pub parent: Option<ObjectId>,
    /// Of this name.
    pub name: Option<String>,
    /// Values that one of several places has to have: a part and a JSON path in its stored text.
    pub conditions: Vec<(Vec<(ViewPart, String)>, String)>,
    /// Words that have to be in the name or the spec, each as it is and as JSON writes it.
    pub words: Vec<(String, String)>,
    /// The order.
    pub order: PlanOrder,
    /// The other way round.
    pub is_descending: bool,
    /// Where the page before ended.
    pub after: Option<(Value, ObjectId)>,
}

/// What a list is ordered by, in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanOrder {
    /// Ids.
    Id,
    /// Names.
    Name,
    /// A value in a part's stored text.
    Value(ViewPart, String),
    /// A moment there.
    Moment(ViewPart, String),
}

impl<'a> Search<'a> {
    /// Reads what is asked: `sort` is a declared key, with `-` before it the other way round; `text` is words that
    /// all have to be there.
    pub fn open(
        state: &'a State,
        cx: &'a Cx,
        query: &'a ListQuery,
        sort: Option<&str>,
        text: Option<&str>,
    ) -> Result<Self, Error> {
        let door = Door::open(state, cx)?;
        let filter = Filter::of(&door, query)?;
        let sort = sort.unwrap_or("created_at");
        let (key, is_descending) = match sort.strip_prefix('-') {
            Some(key) => (key, true),
            None => (sort, false),
        };
        let sorts = query.kind.sorts();
        let sort = sorts.iter().find(|sort| sort.name == key).ok_or_else(|| {
            let known: Vec<&str> = sorts.iter().map(|sort| sort.name.as_str()).collect();
            let shown: String = key.chars().take(64).collect();
            let problem = format!(
                "a list of this kind is not sorted by `{shown}`; it is by {}, with `-` before it the other way round",
                known.join(", ")
            );
            Error::invalid("sort", problem)
        })?;
        let words = text.map(words).transpose()?.unwrap_or_default();
        Ok(Self {
            door,
            query,
            filter,
            sort,
            is_descending,
            words,
            totals: Totals::default(),
        })
    }

    /// What SQL is to find.
    pub fn plan(&self) -> Result<Plan, Error> {
        let kind = self.query.kind;
        let after = self.query.cursor.as_deref();
        let after = after.map(|text| cursor::read_sorted(text, &self.question()));
        Ok(Plan {
            tenant: one_tenant(&self.door, &self.filter, kind),
            parent: self.filter.parent,
            name: self.query.name.clone(),
            conditions: self.filter.conditions(self.query),
            words: self.words.iter().map(|word| as_json(word)).collect(),
            order: order(&self.sort.by),
            is_descending: self.is_descending,
            after: after.transpose()?,
        })
    }

    /// An object as it is shown, if it is what was asked for and the asker sees it.
    pub fn show(&self, id: ObjectId) -> Option<Value> {
        let object = self.door.state.get(id)?;
        let is_asked_for = object.kind == self.query.kind.name()
            && self.filter.matches(object, self.query)
            && self.has_words(object)
            && self.door.sees(object);
        is_asked_for.then(|| self.totals.shown(&self.door, object))
    }

    /// Where the next page begins. It carries the value of an object that was shown, and of no other.
    pub fn cursor(&self, value: &Value, id: ObjectId) -> String {
        cursor::write_sorted(value, id, &self.question())
    }

    fn question(&self) -> String {
        let base = question(self.query, &self.filter);
        format!(
            "{base} {} {} {:?}",
            self.sort.name, self.is_descending, self.words
        )
    }

    /// In the name, or in a text of the spec.
    fn has_words(&self, object: &Object) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let spec = serde_json::from_str(&object.spec).unwrap_or_default();
        let mut texts = vec![object.name.to_ascii_lowercase()];
        texts_of(&spec, &mut texts);
        let mut words = self.words.iter();
        words.all(|word| texts.iter().any(|text| text.contains(word.as_str())))
    }
}

fn texts_of(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.to_ascii_lowercase()),
        Value::Array(items) => items.iter().for_each(|item| texts_of(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| texts_of(field, texts)),
        _ => {}
    }
}

fn words(text: &str) -> Result<Vec<String>, Error> {
    let refused = |problem: String| Error::invalid("q", problem);
    if text.len() > TEXT_BYTES_MAX {
        let problem = format!(
            "has {} bytes, at most {TEXT_BYTES_MAX} are allowed",
            text.len()
        );
        return Err(refused(problem));
    }
    let words: Vec<String> = text
        .split_whitespace()
        .map(str::to_ascii_lowercase)
        .collect();
    if words.is_empty() {
        return Err(refused("must have a word to search for".into()));
    }
    if words.len() > WORDS_MAX {
        let problem = format!("has {} words, at most {WORDS_MAX} are allowed", words.len());
        return Err(refused(problem));
    }
    if text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return Err(refused("must not contain control characters".into()));
    }
    Ok(words)
}

/// A word, and how it stands within the quotes of JSON.
fn as_json(word: &str) -> (String, String) {
    let quoted = Value::from(word).to_string();
    let inner = quoted.trim_start_matches('"');
    (
        word.to_owned(),
        inner.strip_suffix('"').unwrap_or(inner).to_owned(),
    )
}

fn order(by: &SortBy) -> PlanOrder {
    let at = |part, path: String, is_time: bool| match is_time {
        true => PlanOrder::Moment(part, path),
        false => PlanOrder::Value(part, path),
    };
    match by {
        SortBy::Made => PlanOrder::Id,
        SortBy::Name => PlanOrder::Name,
        SortBy::Changed => at(ViewPart::Status, "$.stamps.updated_at".into(), true),
        SortBy::Spec { field, is_time } => at(ViewPart::Spec, format!("$.{field}"), *is_time),
        SortBy::Status { field, is_time } => {
            at(ViewPart::Status, format!("$.status.{field}"), *is_time)
        }
    }
}

/// A label by its path in a spec, if that can be said without quotes.
pub(super) fn label_place(kind: Kind, label: &str) -> Option<Vec<(ViewPart, String)>> {
    let is_plain = label
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let has_labels = kind.filters().iter().any(|filter| filter.name == "labels");
    (is_plain && has_labels && !label.is_empty())
        .then(|| vec![(ViewPart::Spec, format!("$.labels.{label}"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stands_in_json_as_it_is_written_there() {
        assert_eq!(as_json("a"), ("a".into(), "a".into()));
        assert_eq!(as_json(r#""a\"#), (r#""a\"#.into(), r#"\"a\\"#.into()));
        assert_eq!(as_json(r#"""#), (r#"""#.into(), r#"\""#.into()));
    }

    #[test]
    fn a_search_is_bounded() {
        assert_eq!(words(" Web  DB ").unwrap(), ["web", "db"]);
        for bad in ["", "  ", "a b c d e f g h i", "a\0b", &"x".repeat(257)] {
            assert_eq!(words(bad).unwrap_err().fields[0].field, "q", "{bad}");
        }
        assert!(words(&"x".repeat(256)).is_ok());
    }
}
