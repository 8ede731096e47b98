use std::cell::RefCell;

use super::*;

#[global_allocator]
static MEMORY: memory::Counting = memory::Counting;

fn target(format: Format) -> Target {
    Target::new("itself", format)
        .seed(*b"\x0a\x02ab\x12\x04\x0a\x02cd")
        .words(&["key"])
        .iterations(3000)
        .sizes(256, 4096)
}

/// Every input that a run tries.
fn inputs(target: &Target) -> Vec<Vec<u8>> {
    let seen = RefCell::new(Vec::new());
    target.unlisted(|input| {
        // What is kept here is not the decoder's doing.
        if input.len() <= 256 {
            seen.borrow_mut().push(input.to_vec());
        }
        Ok(())
    });
    seen.into_inner()
}

fn failure(target: &Target, decode: impl Fn(&[u8]) -> Verdict) -> String {
    let result = catch_unwind(AssertUnwindSafe(|| target.unlisted(decode)));
    message_of(&*result.unwrap_err())
}

#[test]
fn the_same_seed_gives_the_same_inputs_and_many_of_them() {
    for format in [Format::Proto, Format::Text, Format::Bytes] {
        let target = target(format).memory(0, 1 << 30);
        let first = inputs(&target);
        assert_eq!(first, inputs(&target));
        let different: BTreeSet<&Vec<u8>> = first.iter().collect();
        assert!(different.len() > 2000, "{format:?}: {}", different.len());
    }
}

#[test]
fn a_panic_deep_in_a_message_is_found_and_cut_down() {
    let decode = |input: &[u8]| {
        let fields = proto::parse(input).ok_or("no message")?;
        let hit = |field: &proto::Field| match &field.value {
            proto::Value::Message(inner) => inner
                .iter()
                .any(|field| field.value == proto::Value::Varint(u64::MAX)),
            _ => false,
        };
        assert!(!fields.iter().any(hit), "out of range");
        Ok(())
    };
    let said = failure(&target(Format::Proto).memory(200, 1 << 20), decode);
    assert!(said.contains("out of range"), "{said}");
    assert!(said.contains("cut down to"), "{said}");
    assert!(said.contains("cargo xtask fuzz itself --input"), "{said}");
}

#[test]
fn a_length_that_is_believed_is_found() {
    let believing = |input: &[u8]| {
        let length = input
            .first_chunk()
            .map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let block: Vec<u8> = Vec::with_capacity(usize::try_from(length).unwrap() >> 4);
        assert!(block.is_empty());
        Ok(())
    };
    let said = failure(&target(Format::Bytes), believing);
    assert!(said.contains("are allowed"), "{said}");
}

#[test]
fn a_list_of_nothings_is_found_where_elements_are_dear() {
    let dear = |input: &[u8]| {
        let fields = proto::parse(input).ok_or("no message")?;
        let elements: Vec<[u64; 32]> = fields.iter().map(|_| [1; 32]).collect();
        assert!(elements.capacity() >= fields.len());
        Ok(())
    };
    let target = target(Format::Proto).sizes(256, 16 * 1024).memory(80, 4096);
    let said = failure(&target, dear);
    assert!(said.contains("are allowed"), "{said}");
}

#[test]
fn what_was_taken_apart_is_put_together_again() {
    let bytes = b"\x08\x96\x01\x12\x07\x0a\x05hello\x1d\x01\x02\x03\x04\x21abcdefgh";
    let fields = proto::parse(bytes).unwrap();
    assert_eq!(fields.len(), 4);
    assert_eq!(proto::write(&fields), bytes);
    assert_eq!(proto::parse(b"hello"), None);
    assert_eq!(proto::paths(&fields), [vec![], vec![2]]);
}
