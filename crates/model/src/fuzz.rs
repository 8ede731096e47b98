//! Whatever comes as the spec or the status of any kind.

use serde_json::Value;
use virtflow_testkit::fuzz::{Format, Target};
use virtflow_types::ObjectId;

use crate::{Kind, Meta, PerKind, Resource, Stamps, StoredStatus};

/// A valid spec of a kind.
struct Example;

impl PerKind for Example {
    type Out = Vec<u8>;
    fn run<R: Resource>(self) -> Vec<u8> {
        serde_json::to_vec(&R::example()).unwrap()
    }
}

/// A spec as the API reads it, and all that is computed from it.
struct Spec(Value);

impl PerKind for Spec {
    type Out = Result<(), String>;
    fn run<R: Resource>(self) -> Result<(), String> {
        let spec: R::Spec = serde_json::from_value(self.0).map_err(|error| error.to_string())?;
        let written = serde_json::to_vec(&spec).unwrap();
        let again: R::Spec = serde_json::from_slice(&written).unwrap();
        assert_eq!(again, spec);
        assert_eq!(serde_json::to_vec(&again).unwrap(), written);
        R::validate(&spec).map_err(|invalid| format!("{invalid:?}"))?;
        let _ = R::validate_update(&R::example(), &spec);
        let _ = R::validate_update(&spec, &R::example());
        let meta = Meta {
            id: ObjectId::from_u128(1),
            name: "web-1".into(),
            tenant: Some(ObjectId::from_u128(2)),
            parent: Some(ObjectId::from_u128(3)),
            generation: 1,
            version: 1,
            closed: false,
            stamps: Stamps::default(),
        };
        let footprint = R::footprint(&meta, &spec, &R::Status::default());
        assert_eq!(
            footprint,
            R::footprint(&meta, &again, &R::Status::default())
        );
        Ok(())
    }
}

/// A status as the store has it.
struct Status(Value);

impl PerKind for Status {
    type Out = Result<(), String>;
    fn run<R: Resource>(self) -> Result<(), String> {
        let status: StoredStatus<R::Status> =
            serde_json::from_value(self.0).map_err(|error| error.to_string())?;
        let written = serde_json::to_value(&status).unwrap();
        let again: StoredStatus<R::Status> = serde_json::from_value(written).unwrap();
        assert_eq!(again, status);
        Ok(())
    }
}

/// An empty status of a kind.
struct Empty;

impl PerKind for Empty {
    type Out = Vec<u8>;
    fn run<R: Resource>(self) -> Vec<u8> {
        let status = StoredStatus {
            stamps: Stamps::default(),
            status: R::Status::default(),
        };
        serde_json::to_vec(&status).unwrap()
    }
}

fn of_all<F: PerKind<Out = Result<(), String>>>(
    input: &[u8],
    form: impl Fn(Value) -> F,
) -> Result<(), String> {
    let value: Value = serde_json::from_slice(input).map_err(|error| error.to_string())?;
    let mut verdict = Err("of no kind".to_owned());
    for kind in Kind::ALL {
        verdict = verdict.or(kind.dispatch(form(value.clone())));
    }
    verdict
}

#[test]
fn spec() {
    let mut target = Target::new("spec", Format::Text)
        .words(&[
            "null",
            "true",
            "\"running\"",
            "{}",
            "[]",
            "\"*.*\"",
            ":",
            ",",
        ])
        .iterations(4000)
        .sizes(4096, 64 * 1024)
        .memory(256, 64 * 1024);
    for kind in Kind::ALL {
        target = target.seed(kind.dispatch(Example));
    }
    target.run(|input| of_all(input, Spec));
}

#[test]
fn status() {
    let mut target = Target::new("status", Format::Text)
        .words(&["null", "true", "\"running\"", "{}", "[]", ":", ","])
        .iterations(2000)
        .sizes(4096, 64 * 1024)
        .memory(256, 64 * 1024);
    for kind in Kind::ALL {
        target = target.seed(kind.dispatch(Empty));
    }
    target.run(|input| of_all(input, Status));
}
