//! The chain of the audit: each record's head is the hash of the head before it and of the record's own bytes. All is
//! computed here from what was received; what it says of itself is only compared.
//!
//! Records may come in any order. Of an unbroken run only its first record is kept and the head of its last.

use std::collections::BTreeMap;

use serde_json::Value;

/// A hash, BLAKE3.
pub(crate) type Head = [u8; 32];

/// Records that wait for the one before them, at most: what comes in order waits for one.
const WAITING_MAX: usize = 100_000;
/// What a line has beside the record's own fields.
const PLACE: &[&str] = &["place", "head", "bytes"];
/// What the place was called in exports of before, over what a record counts itself.
const PLACE_BEFORE: &str = "count";

/// A record with its place in the chain.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// Its place, from 1.
    pub(crate) count: u64,
    /// The head that it says it makes.
    head: Head,
    /// What the head is of, beside the head before.
    bytes: String,
    /// A field that says something else than the bytes.
    altered: Option<String>,
}

impl Record {
    /// From a line of an export, or a row of the API.
    pub(crate) fn of(row: &Value) -> Result<Self, String> {
        let place = row.get("place").or_else(|| row.get(PLACE_BEFORE));
        let count = place.and_then(Value::as_u64).filter(|count| *count > 0);
        let count = count.ok_or("it has no `place`")?;
        let about = |problem: &str| format!("record {count}: {problem}");
        let head = row["head"].as_str().and_then(head_of_hex);
        let head = head.ok_or_else(|| about("it has no `head` of 64 hexadecimal digits"))?;
        let bytes = row["bytes"].as_str().ok_or_else(|| {
            about("it has no `bytes`: exports have had them since `audit verify` is there")
        })?;
        Ok(Self {
            count,
            head,
            bytes: bytes.to_owned(),
            altered: differing(row, bytes),
        })
    }
}

/// A field that says something else than the bytes, which are what the chain is of.
fn differing(row: &Value, bytes: &str) -> Option<String> {
    let Ok(Value::Object(said)) = serde_json::from_str(bytes) else {
        return (row["body"] != bytes).then(|| "body".to_owned());
    };
    let nothing = serde_json::Map::new();
    let row = row.as_object().unwrap_or(&nothing);
    let mut fields = said.keys().chain(row.keys());
    let is_of_before = !row.contains_key("place");
    let of_record = |field: &&String| {
        let field = field.as_str();
        !(PLACE.contains(&field) || is_of_before && field == PLACE_BEFORE)
    };
    fields
        .find(|field| of_record(field) && said.get(*field) != row.get(*field))
        .cloned()
}

/// The bytes of 64 hexadecimal digits.
pub(crate) fn head_of_hex(text: &str) -> Option<Head> {
    let mut head = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in head.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(head)
}

/// A head as people copy it.
pub(crate) fn hex(head: &Head) -> String {
    head.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What has been received and how it follows.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    records: u64,
    /// Those that wait for the head before them: the first of each run.
    waiting: BTreeMap<u64, Record>,
    /// Heads that no record was checked against yet: the last of each run.
    heads: BTreeMap<u64, Head>,
    has_beginning: bool,
    broken: BTreeMap<u64, String>,
    /// A head that was known before.
    known: Option<(u64, Head)>,
    is_known_met: bool,
}

/// What a chain came to.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    /// How many records there were.
    pub(crate) records: u64,
    /// Place of the first; nothing if there were none.
    pub(crate) first: Option<u64>,
    /// Place and head of the last.
    pub(crate) last: Option<(u64, Head)>,
    /// What does not follow, with its place; the first is where it broke.
    pub(crate) problems: Vec<(u64, String)>,
}

impl Chain {
    /// With a head that was seen at an earlier time: the chain must still lead through it.
    pub(crate) fn through(known: Option<(u64, Head)>) -> Self {
        Self {
            known,
            ..Self::default()
        }
    }

    /// Takes in a record. Fails if more wait than can be kept.
    pub(crate) fn add(&mut self, record: Record) -> Result<(), String> {
        let (count, head) = (record.count, record.head);
        self.records += 1;
        if let Some((_, known)) = self.known.filter(|(place, _)| *place == count) {
            self.is_known_met = true;
            if known != head {
                self.refuse(count, "has another head than the one that was known");
            }
        }
        if let Some(field) = &record.altered {
            let problem =
                format!("says something else in `{field}` than its bytes: it was altered");
            self.refuse(count, &problem);
        }
        let is_there = count == 1 && self.has_beginning;
        if is_there || self.waiting.contains_key(&count) || self.heads.contains_key(&count) {
            self.refuse(count, "is there twice");
            return Ok(());
        }
        let before = match count {
            1 => Some(Head::default()),
            _ => self.heads.remove(&(count - 1)),
        };
        self.has_beginning |= count == 1;
        match before {
            Some(before) => self.check(&record, &before),
            None => drop(self.waiting.insert(count, record)),
        }
        match self.waiting.remove(&(count + 1)) {
            Some(next) => self.check(&next, &head),
            None => drop(self.heads.insert(count, head)),
        }
        if self.waiting.len() > WAITING_MAX {
            return Err(format!(
                "more than {WAITING_MAX} records wait for one that has not come: sort the file by `place`"
            ));
        }
        Ok(())
    }

    fn check(&mut self, record: &Record, before: &Head) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(before);
        hasher.update(record.bytes.as_bytes());
        if *hasher.finalize().as_bytes() != record.head {
            let problem = "does not follow from the one before it: one of the two was altered";
            self.refuse(record.count, problem);
        }
    }

    fn refuse(&mut self, count: u64, problem: &str) {
        let problem = problem.to_owned();
        self.broken.entry(count).or_insert(problem);
    }

    /// What it all came to.
    pub(crate) fn end(mut self) -> Found {
        let mut firsts: Vec<u64> = self.waiting.keys().copied().collect();
        if self.has_beginning {
            firsts.insert(0, 1);
        }
        let lasts: Vec<u64> = self.heads.keys().copied().collect();
        for (last, next) in lasts.iter().zip(firsts.iter().skip(1)) {
            if next <= last {
                self.refuse(*next, "is there twice");
            } else if last + 2 == *next {
                self.refuse(last + 1, "is missing");
            } else {
                let problem = format!("is missing, and all up to {}", next - 1);
                self.refuse(last + 1, &problem);
            }
        }
        let first = firsts.first().copied();
        let last = self.heads.iter().next_back();
        let last = last.map(|(count, head)| (*count, *head));
        if let Some((place, _)) = self.known.filter(|_| !self.is_known_met) {
            let is_older = first.is_some_and(|first| place < first);
            let problem = match is_older {
                true => "is older than all that is kept: its head cannot be looked for",
                false => {
                    "is missing, and its head was known: what followed it was cut off or replaced"
                }
            };
            self.refuse(place, problem);
        }
        Found {
            records: self.records,
            first,
            last,
            problems: self.broken.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Records from 1 on, each with a head that follows.
    fn rows(number: u64) -> Vec<Value> {
        let mut head = Head::default();
        let row = |count: u64| {
            let bytes = format!(r#"{{"action":"rack.create","name":"r{count}"}}"#);
            head = *blake3::hash(&[&head[..], bytes.as_bytes()].concat()).as_bytes();
            json!({"action": "rack.create", "name": format!("r{count}"), "place": count, "head": hex(&head), "bytes": bytes})
        };
        (1..=number).map(row).collect()
    }

    fn checked(rows: impl IntoIterator<Item = Value>, known: Option<(u64, Head)>) -> Found {
        let mut chain = Chain::through(known);
        for row in rows {
            chain.add(Record::of(&row).unwrap()).unwrap();
        }
        chain.end()
    }

    fn places(found: &Found) -> Vec<u64> {
        found.problems.iter().map(|(place, _)| *place).collect()
    }

    #[test]
    fn what_follows_is_whole_in_whatever_order_it_comes() {
        let all = rows(9);
        let last = head_of_hex(all[8]["head"].as_str().unwrap()).unwrap();
        let whole = Found {
            records: 9,
            first: Some(1),
            last: Some((9, last)),
            problems: Vec::new(),
        };
        assert_eq!(checked(all.clone(), None), whole);
        assert_eq!(checked(all.iter().rev().cloned(), Some((9, last))), whole);
        let mixed = [4, 1, 8, 0, 3, 7, 2, 6, 5].map(|at| all[at].clone());
        assert_eq!(checked(mixed, None), whole);
        // The older ones are no longer kept.
        let kept = checked(all[5..].to_vec(), None);
        assert_eq!((kept.first, kept.problems), (Some(6), Vec::new()));
        assert_eq!(checked(Vec::new(), None).last, None);
    }

    #[test]
    fn what_was_altered_left_out_or_doubled_is_found() {
        let all = rows(9);
        let altered = |at: usize, field: &str, value: &str| {
            let mut rows = all.clone();
            rows[at][field] = value.into();
            rows
        };
        // What is read of a record is what its bytes say, and no more.
        for (field, value) in [("name", "r7"), ("note", "nothing")] {
            let told = checked(altered(3, field, value), None).problems;
            let problem =
                format!("says something else in `{field}` than its bytes: it was altered");
            assert_eq!(told, [(4, problem)]);
        }
        let mut both = altered(3, "name", "r7");
        both[3]["bytes"] = r#"{"action":"rack.create","name":"r7"}"#.into();
        assert_eq!(places(&checked(both, None)), [4]);
        let head = altered(3, "head", &"ab".repeat(32));
        assert_eq!(places(&checked(head, None)), [4, 5]);
        let without = |gone: std::ops::Range<usize>| {
            let mut rows = all.clone();
            rows.drain(gone);
            checked(rows, None).problems
        };
        assert_eq!(without(3..4), [(4, "is missing".into())]);
        assert_eq!(without(3..6), [(4, "is missing, and all up to 6".into())]);
        for at in [0, 4, 8] {
            let mut rows = all.clone();
            rows.push(all[at].clone());
            assert!(!checked(rows, None).problems.is_empty(), "{at}");
        }
    }

    #[test]
    fn exports_of_before_say_count_and_hide_that_of_refusals() {
        let mut rows = rows(9);
        for row in &mut rows {
            row["count"] = row["place"].take();
            row.as_object_mut().unwrap().remove("place");
        }
        assert_eq!(checked(rows, None).problems, []);
        let counted =
            json!({"place": 1, "count": 3, "head": "ab".repeat(32), "bytes": r#"{"count":2}"#});
        let altered = Record::of(&counted).unwrap().altered;
        assert_eq!(altered.as_deref(), Some("count"));
    }

    #[test]
    fn a_head_that_was_known_must_still_be_there() {
        let all = rows(9);
        let known = |at: usize| head_of_hex(all[at - 1]["head"].as_str().unwrap()).unwrap();
        assert!(places(&checked(all.clone(), Some((5, known(5))))).is_empty());
        assert_eq!(places(&checked(all.clone(), Some((5, known(4))))), [5]);
        // Cut off at its end, a chain is a chain.
        assert!(places(&checked(all[..7].to_vec(), None)).is_empty());
        assert_eq!(
            places(&checked(all[..7].to_vec(), Some((9, known(9))))),
            [9]
        );
        assert_eq!(
            places(&checked(all[5..].to_vec(), Some((3, known(3))))),
            [3]
        );
    }

    #[test]
    fn what_is_no_record_is_told() {
        for (row, problem) in [
            (json!({}), "no `place`"),
            (json!({"place": 0}), "no `place`"),
            (json!({"count": 0}), "no `place`"),
            (json!({"place": 1, "head": "abc"}), "no `head`"),
            (json!({"count": 1, "head": "é".repeat(32)}), "no `head`"),
            (json!({"count": 1, "head": "ab".repeat(32)}), "no `bytes`"),
        ] {
            let told = Record::of(&row).unwrap_err();
            assert!(told.contains(problem), "{told}");
        }
    }
}
