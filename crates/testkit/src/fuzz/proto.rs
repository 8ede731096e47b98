//! Protocol buffers as a tree of fields, without knowing the messages.

use super::chance::Chance;

/// Nesting that is taken apart; deeper levels stay bytes.
const DEPTH_MAX: usize = 8;
/// The highest number of a field that a message of ours may have; higher ones mean that it is text.
const NUMBER_MAX: u64 = 40;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) value: Value,
}

pub(super) fn varint(mut number: u64, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    into.push(number.to_le_bytes()[0]);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

/// The fields of a message; `None` if these bytes cannot be one.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<Field>> {
    parse_at(bytes, 0)
}

fn parse_at(mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = read_varint(&mut bytes)?;
        let number = key >> 3;
        if !(1..=NUMBER_MAX).contains(&number) {
            return None;
        }
        let value = match key & 7 {
            0 => Value::Varint(read_varint(&mut bytes)?),
            1 => Value::Fixed64(take(&mut bytes)?),
            5 => Value::Fixed32(take(&mut bytes)?),
            2 => {
                let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
                let (content, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                let inner = (depth < DEPTH_MAX).then(|| parse_at(content, depth + 1));
                match inner.flatten() {
                    Some(inner) if !inner.is_empty() => Value::Message(inner),
                    _ => Value::Bytes(content.to_vec()),
                }
            }
            _ => return None,
        };
        fields.push(Field { number, value });
    }
    Some(fields)
}

pub(super) fn write(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        let key = |wire: u64| field.number << 3 | wire;
        let sized = |content: &[u8], bytes: &mut Vec<u8>| {
            varint(key(2), bytes);
            varint(content.len() as u64, bytes);
            bytes.extend_from_slice(content);
        };
        match &field.value {
            Value::Varint(number) => {
                varint(key(0), &mut bytes);
                varint(*number, &mut bytes);
            }
            Value::Fixed64(content) => {
                varint(key(1), &mut bytes);
                bytes.extend_from_slice(content);
            }
            Value::Fixed32(content) => {
                varint(key(5), &mut bytes);
                bytes.extend_from_slice(content);
            }
            Value::Bytes(content) => sized(content, &mut bytes),
            Value::Message(inner) => sized(&write(inner), &mut bytes),
        }
    }
    bytes
}

fn count(fields: &[Field]) -> usize {
    fields
        .iter()
        .map(|field| match &field.value {
            Value::Message(inner) => 1 + count(inner),
            _ => 1,
        })
        .sum()
}

/// The list that holds the `nth` field of the whole tree, and its place there.
fn find(fields: &mut Vec<Field>, nth: usize) -> Option<(&mut Vec<Field>, usize)> {
    let mut left = nth;
    for at in 0..fields.len() {
        if left == 0 {
            return Some((fields, at));
        }
        left -= 1;
        let inside = match &fields[at].value {
            Value::Message(inner) => count(inner),
            _ => 0,
        };
        if left < inside {
            let Value::Message(inner) = &mut fields[at].value else {
                return None;
            };
            return find(inner, left);
        }
        left -= inside;
    }
    None
}

fn nth(fields: &mut Vec<Field>, chance: &mut Chance) -> Option<Field> {
    let all = count(fields);
    let (list, at) = find(fields, chance.below(all))?;
    list.get(at).cloned()
}

/// Changes one field somewhere in the tree. `other` gives parts to graft.
pub(super) fn mutate(
    fields: &mut Vec<Field>,
    other: &mut Vec<Field>,
    words: &[Vec<u8>],
    chance: &mut Chance,
) {
    let all = count(fields);
    let graft = nth(other, chance);
    let Some((list, at)) = find(fields, chance.below(all)) else {
        fields.extend(graft);
        return;
    };
    match chance.below(11) {
        0 => {
            list.remove(at);
        }
        1 => {
            let copies = 1 + chance.length(300);
            let field = list[at].clone();
            list.splice(at..at, std::iter::repeat_n(field, copies));
        }
        2 => {
            let to = chance.below(list.len());
            list.swap(at, to);
        }
        3 => list[at].number = 1 + chance.below(20) as u64,
        4 => {
            let inner = vec![list[at].clone()];
            list[at].value = Value::Message(inner);
        }
        5 | 6 => {
            if let Some(graft) = graft {
                if chance.one_in(2) {
                    list[at].value = graft.value;
                } else {
                    list.insert(at, graft);
                }
            }
        }
        7 => list[at].value = Value::Varint(chance.odd_number()),
        _ => match &mut list[at].value {
            Value::Varint(number) => *number = chance.odd_number(),
            Value::Fixed64(content) => *content = chance.odd_number().to_le_bytes(),
            Value::Fixed32(content) => content[chance.below(4)] = chance.byte(),
            Value::Message(inner) if chance.one_in(2) => inner.clear(),
            Value::Message(_) => list[at].value = Value::Varint(chance.odd_number()),
            Value::Bytes(content) => match chance.below(6) {
                0 => content.clear(),
                1 => *content = vec![chance.byte(); 16],
                2 => *content = vec![chance.byte(); chance.length(2000)],
                3 => content.extend(chance.pick(words).cloned().unwrap_or_default()),
                4 if !content.is_empty() => {
                    let at = chance.below(content.len());
                    content[at] ^= 1 << chance.below(8);
                }
                _ => *content = chance.pick(words).cloned().unwrap_or_default(),
            },
        },
    }
}

/// Every message of the tree, as the numbers of the fields that lead to it; the root among them.
pub(super) fn paths(fields: &[Field]) -> Vec<Vec<u64>> {
    let mut found = vec![Vec::new()];
    for field in fields {
        if let Value::Message(inner) = &field.value {
            for mut path in paths(inner) {
                path.insert(0, field.number);
                found.push(path);
            }
        }
    }
    found.sort();
    found.dedup();
    found
}
