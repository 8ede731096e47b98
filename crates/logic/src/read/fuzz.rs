//! Whatever comes as a cursor.

use virtflow_testkit::fuzz::{Format, Target, text};
use virtflow_types::ObjectId;

use super::cursor;

#[test]
fn cursor() {
    const QUESTION: &str = "virtual_machine?tenant=acme";
    let id: ObjectId = "0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11".parse().unwrap();
    Target::new("cursor", Format::Text)
        .seed(cursor::write(id, QUESTION))
        .words(&["+1", "-0", "0x", "é"])
        .iterations(20_000)
        .run(|input| {
            let text = text(input);
            let read = cursor::read(&text, QUESTION).map_err(|error| error.to_string())?;
            let written = cursor::write(read, QUESTION);
            assert_eq!(cursor::read(&written, QUESTION), Ok(read));
            // One spelling of each place, and of no use for another question.
            assert_eq!(written, *text);
            assert!(cursor::read(&text, "virtual_machine").is_err());
            Ok(())
        });
}
