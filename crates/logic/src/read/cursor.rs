//! Cursors: where a list goes on, tied to the question it belongs to.
//!
//! A cursor is no secret and grants nothing: what a page shows is decided anew for each. The tie to the
//! question only keeps a cursor from being used with another filter, where it would skip silently.

use virtflow_types::{Error, ObjectId};

const TIE_BYTES: usize = 8;

/// Sixteen bytes of the last object looked at and eight of the question, hexadecimal.
pub(crate) fn write(last: ObjectId, question: &str) -> String {
    let mut text = String::with_capacity(2 * (16 + TIE_BYTES));
    for byte in last.as_bytes().iter().chain(&tie(question)) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The object after which the list goes on.
pub(crate) fn read(text: &str, question: &str) -> Result<ObjectId, Error> {
    let refused = || {
        Error::invalid(
            "cursor",
            "is not one that this list gave; begin again without a cursor",
        )
    };
    if text.len() != 2 * (16 + TIE_BYTES) || !text.is_ascii() {
        return Err(refused());
    }
    let mut id = [0; 16];
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| refused())?;
    }
    let id = ObjectId::from_slice(&id).ok_or_else(refused)?;
    // The one spelling of it, and of this question.
    if write(id, question) == text {
        Ok(id)
    } else {
        Err(refused())
    }
}

fn tie(question: &str) -> [u8; TIE_BYTES] {
    let mut tie = [0; TIE_BYTES];
    tie.copy_from_slice(&blake3::hash(question.as_bytes()).as_bytes()[..TIE_BYTES]);
    tie
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_spelling() {
        let id = ObjectId::from_u128(0xabcdef);
        let text = write(id, "q");
        assert_eq!(read(&text, "q"), Ok(id));
        assert!(read(&text, "another").is_err());
        assert!(read(&text.to_uppercase(), "q").is_err());
        assert!(read(&text.replacen("00", "+0", 1), "q").is_err());
    }
}
