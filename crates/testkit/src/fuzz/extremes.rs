//! Inputs at the edges of a format: nothing, far too much of one thing, lengths that lie.

use super::proto::{self, varint};
use super::{Format, Target};

/// The size of extremes of which there are many.
const MANY_BYTES: usize = 8 * 1024;
/// Numbers of fields that lists of nothings are made of.
const NUMBERS: std::ops::RangeInclusive<u64> = 1..=20;
/// Far deeper than any message is nested.
const DEPTH: usize = 5000;

/// Hands over each of them.
pub(super) fn each(target: &Target, take: &mut impl FnMut(&[u8])) {
    let large = target.large_bytes;
    take(&[]);
    take(&vec![0; large]);
    take(&vec![0xff; large]);
    take(&b"\xf0\x28\x8c\x28".repeat(large / 4));
    for seed in &target.seeds {
        take(&filled(seed, large));
        let mut followed = seed.clone();
        followed.resize(large.max(seed.len()), 0);
        take(&followed);
    }
    for word in &target.words {
        take(&filled(word, large));
    }
    match target.format {
        Format::Proto => messages(target, take),
        Format::Text => texts(target, take),
        Format::Bytes => bytes(target, take),
    }
}

fn filled(part: &[u8], bytes: usize) -> Vec<u8> {
    part.repeat(bytes / part.len().max(1))
}

fn key(number: u64, wire: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(number << 3 | wire, &mut bytes);
    bytes
}

fn field(number: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = key(number, 2);
    varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

fn messages(target: &Target, take: &mut impl FnMut(&[u8])) {
    let mut paths: Vec<Vec<u64>> = target
        .seeds
        .iter()
        .filter_map(|seed| proto::parse(seed))
        .flat_map(|fields| proto::paths(&fields))
        .collect();
    paths.sort();
    paths.dedup();
    for number in NUMBERS {
        for wire in [0, 2] {
            // Elements of two bytes, as many as fit: in each message there is.
            let mut nothing = key(number, wire);
            nothing.push(0);
            take(&filled(&nothing, target.large_bytes));
            let list = filled(&nothing, MANY_BYTES);
            for path in &paths {
                let mut content = list.clone();
                for &outer in path.iter().rev() {
                    content = field(outer, &content);
                }
                take(&content);
                // The same, as the only content of each of many.
                if let Some((last, outer)) = path.split_last() {
                    let mut content = filled(&field(*last, &nothing), MANY_BYTES);
                    for &outer in outer.iter().rev() {
                        content = field(outer, &content);
                    }
                    take(&content);
                }
            }
        }
        let mut deep = Vec::new();
        for _ in 0..DEPTH {
            deep = field(number, &deep);
        }
        take(&deep);
        for length in [1, 0x7f, 0x7fff_ffff, 0xffff_ffff, u64::MAX >> 1, u64::MAX] {
            let mut lie = key(number, 2);
            varint(length, &mut lie);
            take(&lie);
            lie.extend_from_slice(&[0; 64]);
            take(&lie);
        }
        for number_bytes in [10, 11, 1000] {
            let mut unending = key(number, 0);
            unending.extend(std::iter::repeat_n(0xff, number_bytes));
            take(&unending);
            unending.push(1);
            take(&unending);
        }
        // Groups, which nobody uses any more and decoders still skip, nested.
        take(&filled(&key(number, 3), MANY_BYTES));
    }
}

fn texts(target: &Target, take: &mut impl FnMut(&[u8])) {
    let large = target.large_bytes;
    for part in [
        "[",
        "{",
        "(",
        "<",
        "\"",
        "'",
        "\\",
        "[[",
        "{\"\":",
        "[{",
        "a.",
        "a=",
        "a\n",
        "-",
        "#",
        "&",
        "=",
        ",",
        "\n",
        "\t ",
        "0",
        "9",
        "é",
        "\u{0}",
        "%41",
        "a=1\n",
        "[a]\n",
        "[a.a]\n",
        "<a>",
        "</a>",
        "<a/>",
        "<a b='c'>",
        "a: ",
        "- ",
        "*a ",
        "&a ",
    ] {
        take(&filled(part.as_bytes(), large));
    }
    for (open, close) in [
        ("[", "]"),
        ("{", "}"),
        ("{\"a\":", "}"),
        ("<a>", "</a>"),
        ("a=[", "]"),
        ("a={a=", "}"),
    ] {
        for depth in [20, 100, 1000, large / (open.len() + close.len())] {
            take((open.repeat(depth) + "1" + &close.repeat(depth)).as_bytes());
            take(("a = ".to_owned() + &open.repeat(depth) + &close.repeat(depth)).as_bytes());
        }
    }
    for many in [
        ["[", "0,", "0]"],
        ["[", "[],", "[]]"],
        ["[", "{},", "{}]"],
        ["[", "{\"\":0},", "0]"],
        ["[", "\"\",", "0]"],
        ["<a ", "b='' ", "/>"],
        ["<a>", "<a/>", "</a>"],
        ["<a>", "&lt;", "</a>"],
        ["<domain>", "<devices/>", "</domain>"],
        ["a=[", "0,", "0]"],
        ["a=[", "{},", "0]"],
        ["a", ".a", "=1"],
        ["[a", ".a", "]"],
        ["a=\"", "\\u0061", "\""],
        ["a=1", "_1", ""],
        ["a={", "a=1,", "}"],
    ] {
        let [begin, part, end] = many;
        let middle = filled(part.as_bytes(), large);
        take(&[begin.as_bytes(), &middle, end.as_bytes()].concat());
    }
    // Keys that all differ.
    let different =
        |form: &dyn Fn(usize) -> String| -> String { (0..large / 16).map(form).collect() };
    take(different(&|n| format!("k{n}=1\n")).as_bytes());
    take(different(&|n| format!("[k{n}]\n")).as_bytes());
    take(format!("{{{}\"z\":1}}", different(&|n| format!("\"k{n}\":1,"))).as_bytes());
    take(format!("<a {}/>", different(&|n| format!("k{n}='' "))).as_bytes());
    for seed in &target.seeds {
        for at in 0..seed.len().min(512) {
            take(&seed[..at]);
        }
    }
}

fn bytes(target: &Target, take: &mut impl FnMut(&[u8])) {
    for seed in &target.seeds {
        for at in 0..seed.len().min(target.offsets_max) {
            take(&seed[..at]);
            for number in [0_u64, 1, 0x7fff_ffff, 0xffff_ffff, u64::MAX] {
                let mut lie = seed.clone();
                for (byte, new) in lie[at..]
                    .iter_mut()
                    .zip(number.to_be_bytes().iter().skip(4))
                {
                    *byte = *new;
                }
                take(&lie);
            }
        }
    }
    // Sequences within sequences, as certificates are made of.
    for tag in [0x30, 0x31, 0xa0, 0x04] {
        let mut deep = Vec::new();
        for _ in 0..DEPTH {
            let length = u32::try_from(deep.len()).unwrap_or(u32::MAX);
            let mut outer = vec![tag, 0x84];
            outer.extend(length.to_be_bytes());
            outer.append(&mut deep);
            deep = outer;
        }
        take(&deep);
        take(&[tag, 0x80].repeat(DEPTH));
        take(&[tag, 0x00].repeat(MANY_BYTES / 2));
        take(&[tag, 0x84, 0xff, 0xff, 0xff, 0xff]);
        take(&[tag, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    }
}
