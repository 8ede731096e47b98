//! How a kind refuses a field.

use virtflow_types::Error;

/// A field whose value a kind refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Path within the spec: `memory_mib`.
    pub field: String,
    /// What is wrong, with the bound that was broken.
    pub problem: String,
}

impl Invalid {
    /// A refusal of `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
    /// Refuses a number outside `lo..=hi`.
    pub fn outside(field: &str, value: u64, lo: u64, hi: u64) -> Result<(), Self> {
        if (lo..=hi).contains(&value) {
            Ok(())
        } else {
            Err(Self::new(
                field,
                format!("must be {lo} to {hi}, not {value}"),
            ))
        }
    }
    /// Refuses what is no e-mail address, as far as one can tell without writing to it.
    pub fn email(value: &str) -> Result<(), Self> {
        Self::text("email", value, 254)?;
        if value.split('@').filter(|part| !part.is_empty()).count() != 2 {
            return Err(Self::new("email", "must look like name@domain"));
        }
        Ok(())
    }
    /// Refuses text longer than `max` bytes or with control characters in it.
    pub fn text(field: &str, value: &str, max: usize) -> Result<(), Self> {
        if value.len() > max {
            return Err(Self::new(
                field,
                format!("has {} bytes, at most {max} are allowed", value.len()),
            ));
        }
        if value.chars().any(char::is_control) {
            return Err(Self::new(field, "must not contain control characters"));
        }
        Ok(())
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Error::invalid(format!("spec.{}", invalid.field), invalid.problem)
    }
}
