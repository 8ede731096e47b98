//! An answer to a question.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::key;
use crate::{Action, Invalid, Kind, Meta, Owner, Print, Reference, Resource, Rules, Scope};

/// An answer. Its parent is the question.
#[derive(Debug)]
pub enum QaAnswer {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QaAnswerSpec {
    /// The question.
    pub question_id: ObjectId,
    /// The answer, at most 16 KiB.
    pub body: String,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct QaAnswerStatus {}

impl Resource for QaAnswer {
    const KIND: Kind = Kind::QaAnswer;
    const SCOPE: Scope = Scope::Either;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[Reference::under("question", Kind::QaQuestion)],
        owner: Owner::Creator,
        own: &[
            Action::Create,
            Action::Read,
            Action::Update,
            Action::Delete,
        ],
        cascades: true,
        ..Rules::plain("An answer to a question")
    };
    type Spec = QaAnswerSpec;
    type Status = QaAnswerStatus;

    fn example() -> QaAnswerSpec {
        QaAnswerSpec {
            question_id: ObjectId::from_u128(1),
            body: "Make it, then attach it.".into(),
        }
    }

    fn validate(spec: &QaAnswerSpec) -> Result<(), Invalid> {
        Invalid::prose("body", &spec.body, 16 * 1024)?;
        if spec.body.trim().is_empty() {
            return Err(Invalid::new("body", "must not be empty"));
        }
        Ok(())
    }

    fn print(meta: &Meta, _: &QaAnswerSpec, _: &QaAnswerStatus, print: &mut Print) {
        print.key(key::AUTHOR, format!("qa_answer/{}", meta.stamps.created_by));
    }
}
