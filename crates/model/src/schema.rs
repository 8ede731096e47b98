//! The shape of a kind's spec and status, as JSON Schema (draft 2020-12): what documents the API, makes the
//! command line's flags and explains a field is read off the types themselves.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::{Kind, PerKind, Resource};

impl Kind {
    /// The schema of what people ask for, whole: nothing in it refers to another place.
    pub fn spec_schema(self) -> Value {
        self.dispatch(SpecSchema)
    }
    /// The schema of what the system saw.
    pub fn status_schema(self) -> Value {
        self.dispatch(StatusSchema)
    }
    /// A valid spec.
    pub fn example(self) -> Value {
        self.dispatch(Example)
    }
}

struct SpecSchema;

impl PerKind for SpecSchema {
    type Out = Value;
    fn run<R: Resource>(self) -> Value {
        schema_of::<R::Spec>()
    }
}

struct StatusSchema;

impl PerKind for StatusSchema {
    type Out = Value;
    fn run<R: Resource>(self) -> Value {
        schema_of::<R::Status>()
    }
}

struct Example;

impl PerKind for Example {
    type Out = Value;
    fn run<R: Resource>(self) -> Value {
        serde_json::to_value(R::example()).unwrap_or_default()
    }
}

/// The schema of a type, with everything in its place.
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a field is for stands beside it; a reference says what it refers to.
    #[test]
    fn every_field_of_a_spec_is_described() {
        for kind in Kind::ALL {
            let schema = kind.spec_schema();
            let fields = schema["properties"].as_object();
            for (name, field) in fields.into_iter().flatten() {
                let described = field["description"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty());
                assert!(described, "{}.{name}", kind.name());
            }
            for reference in kind.rules().references {
                let field = format!("{}_id", reference.field);
                assert!(
                    schema["properties"][&field].is_object(),
                    "{} has no field {field}",
                    kind.name()
                );
            }
        }
    }

    #[test]
    fn an_example_has_no_field_that_the_schema_does_not_know() {
        for kind in Kind::ALL {
            let schema = kind.spec_schema();
            for name in kind
                .example()
                .as_object()
                .into_iter()
                .flat_map(|fields| fields.keys())
            {
                assert!(
                    schema["properties"][name].is_object(),
                    "{}.{name}",
                    kind.name()
                );
            }
        }
    }
}
