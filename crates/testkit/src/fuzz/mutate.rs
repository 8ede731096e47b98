//! Mutations: a good input, changed a little or a lot.

use super::Format;
use super::chance::Chance;
use super::proto;

/// Changes made to one input on top of one another.
const CHANGES_MAX: usize = 6;
/// Bytes in a row that are often special.
const ODD_TEXT: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    "\u{feff}".as_bytes(),
    "\u{202e}".as_bytes(),
    "é".as_bytes(),
    "𝄞".as_bytes(),
    b"-1",
    b"0",
    b"1e400",
    b"18446744073709551616",
    b"9223372036854775808",
    b"../..",
    b"\"",
    b"'",
    b"\\",
    b"%00",
];

/// Makes inputs from inputs.
#[derive(Debug)]
pub(super) struct Mutator {
    chance: Chance,
    format: Format,
    words: Vec<Vec<u8>>,
    bytes_max: usize,
}

impl Mutator {
    pub(super) fn new(
        chance: Chance,
        format: Format,
        words: Vec<Vec<u8>>,
        bytes_max: usize,
    ) -> Self {
        Self {
            chance,
            format,
            words,
            bytes_max,
        }
    }

    /// Something new from one of `corpus`, or from two.
    pub(super) fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.chance.pick(corpus).cloned().unwrap_or_default();
        let other = self.chance.pick(corpus).cloned().unwrap_or_default();
        for _ in 0..=self.chance.below(CHANGES_MAX) {
            // Formed ones mostly: an unformed one ends at the first check of a decoder.
            match self.format {
                Format::Proto if !self.chance.one_in(4) => self.fields(&mut input, &other),
                Format::Text if !self.chance.one_in(4) => self.tokens(&mut input, &other),
                _ => self.bytes(&mut input, &other),
            }
            input.truncate(self.bytes_max);
        }
        input
    }

    fn fields(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        match (proto::parse(input), proto::parse(other)) {
            (Some(mut fields), Some(mut other)) => {
                proto::mutate(&mut fields, &mut other, &self.words, &mut self.chance);
                *input = proto::write(&fields);
            }
            _ => self.bytes(input, other),
        }
    }

    /// A range of `length` bytes: mostly short.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.chance.below(length + 1);
        let end = start + self.chance.length(length - start);
        start..end
    }

    fn word(&mut self) -> Vec<u8> {
        if self.chance.one_in(3) || self.words.is_empty() {
            let odd = self.chance.pick(ODD_TEXT).copied().unwrap_or_default();
            odd.to_vec()
        } else {
            self.chance.pick(&self.words).cloned().unwrap_or_default()
        }
    }

    fn bytes(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let chance = &mut self.chance;
        if input.is_empty() {
            *input = match chance.below(3) {
                0 => vec![chance.byte(); chance.length(64)],
                1 => self.word(),
                _ => other.to_vec(),
            };
            return;
        }
        let at = chance.below(input.len());
        match chance.below(14) {
            0 => input[at] ^= 1 << chance.below(8),
            1 => input[at] = chance.byte(),
            2 => input[at] = input[at].wrapping_add(1 + chance.byte() % 16),
            3 => input[at] = input[at].wrapping_sub(1 + chance.byte() % 16),
            4 => input.truncate(at),
            5 => {
                let range = self.range(input.len());
                input.drain(range);
            }
            6 => {
                // Now and then very often: repetition that a list or a nesting is made of.
                let range = self.range(input.len());
                let part = input[range.clone()].to_vec();
                let room = self.bytes_max / part.len().max(1);
                let copies = self.chance.length(room);
                input.splice(range.end..range.end, part.repeat(copies));
            }
            7 => {
                let range = self.range(input.len());
                let part: Vec<u8> = input.drain(range).collect();
                let to = self.chance.below(input.len() + 1);
                input.splice(to..to, part);
            }
            8 => {
                let from = chance.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            9 => {
                let range = self.range(other.len());
                input.splice(at..at, other[range].iter().copied());
            }
            10 => {
                let word = self.word();
                let range = self.range(input.len());
                input.splice(range, word);
            }
            11 => {
                // A number of some width, either way round.
                let width = [1, 2, 4, 8][chance.below(4)];
                let number = chance.odd_number();
                let little = &number.to_le_bytes()[..width];
                let big = &number.to_be_bytes()[8 - width..];
                let number = if chance.one_in(2) { little } else { big };
                for (byte, new) in input[at..].iter_mut().zip(number) {
                    *byte = *new;
                }
            }
            12 => {
                // A length that lies: one of a field, or any byte that could be one.
                let mut length = Vec::new();
                proto::varint(chance.odd_number(), &mut length);
                input.splice(at..=at, length);
            }
            _ => {
                let mut unending = vec![0x80 | chance.byte(); chance.length(12)];
                unending.push(chance.byte());
                input.splice(at..at, unending);
            }
        }
    }

    /// Words, numbers and signs are changed as wholes.
    fn tokens(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let mut tokens = tokens_of(input);
        if tokens.is_empty() {
            return self.bytes(input, other);
        }
        let at = self.chance.below(tokens.len());
        match self.chance.below(8) {
            0 => {
                tokens.remove(at);
            }
            1 => {
                let token = tokens[at].clone();
                let room = self.bytes_max / token.len().max(1);
                let copies = self.chance.length(room);
                tokens.splice(at..at, std::iter::repeat_n(token, copies));
            }
            2 => {
                let to = self.chance.below(tokens.len());
                tokens.swap(at, to);
            }
            3 => tokens[at] = self.word(),
            4 => tokens.insert(at, self.word()),
            5 => {
                let numbers = tokens
                    .iter()
                    .enumerate()
                    .filter(|(_, token)| token[0].is_ascii_digit())
                    .map(|(at, _)| at);
                let numbers: Vec<usize> = numbers.collect();
                let at = self.chance.pick(&numbers).copied().unwrap_or(at);
                tokens[at] = self.chance.odd_number().to_string().into_bytes();
            }
            6 => {
                let range = self.range(tokens.len());
                let part = tokens[range.clone()].to_vec();
                tokens.splice(range.end..range.end, part);
            }
            _ => {
                let others = tokens_of(other);
                let range = self.range(others.len());
                tokens.splice(at..at, others[range].iter().cloned());
            }
        }
        *input = tokens.concat();
    }
}

/// Runs of letters and digits, and single other bytes.
fn tokens_of(input: &[u8]) -> Vec<Vec<u8>> {
    input
        .chunk_by(|a, b| {
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80;
            is_part(a) && is_part(b)
        })
        .map(<[u8]>::to_vec)
        .collect()
}
