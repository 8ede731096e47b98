//! Whatever a server answers, or is named as one.

use virtflow_testkit::fuzz::{Format, Target, text};

use crate::{Endpoint, answer};

#[test]
fn answer() {
    let endpoint: Endpoint = "https://c1:8443".parse().unwrap();
    Target::new("answer", Format::Text)
        .seed(r#"{"meta":{"request_id":"r","index":7,"controller":"c1","next_cursor":"n","replayed":true},"status":"ok","data":[1]}"#)
        .words(&["\"error\"", "\"code\"", "\"message\"", "\"fields\"", "\"details\"", "null", "{}", "[]"])
        .sizes(8192, 64 * 1024)
        .memory(128, 64 * 1024)
        .run(|input| {
            let good = answer::read(&endpoint, 200, input);
            for status in [204, 404, 503, 999] {
                if let Err(error) = answer::read(&endpoint, status, input) {
                    let _ = (error.to_string(), error.code());
                }
            }
            good.map(|_| ()).map_err(|error| error.to_string())
        });
}

#[test]
fn endpoint() {
    Target::new("endpoint", Format::Text)
        .seed("https://c1.example:8443")
        .seed("[::1]:8443")
        .words(&["https://", "http://", ":", "[", "]", "::1", "/", "@", "0"])
        .iterations(10_000)
        .run(|input| {
            let read: Endpoint = text(input)
                .parse()
                .map_err(|e: crate::EndpointError| e.to_string())?;
            assert_eq!(read.to_string().parse(), Ok(read));
            Ok(())
        });
}
