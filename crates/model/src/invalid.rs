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
    /// Refuses a heading that says nothing, or is longer than 256 bytes.
    pub fn title(field: &str, value: &str) -> Result<(), Self> {
        Self::text(field, value, 256)?;
        if value.trim().is_empty() {
            return Err(Self::new(field, "must not be empty"));
        }
        Ok(())
    }
    /// Refuses text of many lines that is longer than `max` bytes or has control characters besides line ends
    /// and tabs.
    pub fn prose(field: &str, value: &str, max: usize) -> Result<(), Self> {
        if value.len() > max {
            return Err(Self::new(
                field,
                format!("has {} bytes, at most {max} are allowed", value.len()),
            ));
        }
        let is_layout = |c: char| matches!(c, '\n' | '\r' | '\t');
        if value.chars().any(|c| c.is_control() && !is_layout(c)) {
            return Err(Self::new(
                field,
                "must not contain control characters besides line ends and tabs",
            ));
        }
        Ok(())
    }
    /// Refuses more than 32 words to find something by, empty ones, long ones, and the same twice.
    pub fn tags(field: &str, tags: &[String]) -> Result<(), Self> {
        if tags.len() > 32 {
            return Err(Self::new(field, "at most 32 are allowed"));
        }
        for (at, tag) in tags.iter().enumerate() {
            Self::text(field, tag, 64)?;
            if tag.trim().is_empty() {
                return Err(Self::new(field, "must not contain an empty one"));
            }
            if tags.iter().take(at).any(|before| before == tag) {
                return Err(Self::new(field, format!("has `{tag}` twice")));
            }
        }
        Ok(())
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
