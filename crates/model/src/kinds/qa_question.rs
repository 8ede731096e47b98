//! A question that users ask one another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::key;
use crate::{Action, Invalid, Kind, Meta, Owner, Print, Reference, Resource, Rules, Scope};

/// A question. Its answers lie under it and go with it.
#[derive(Debug)]
pub enum QaQuestion {}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QaQuestionSpec {
    /// The question, in a line.
    pub title: String,
    /// More of it, at most 16 KiB.
    #[serde(default)]
    pub body: String,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The one answer that helped; let go when the answer goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_answer_id: Option<ObjectId>,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct QaQuestionStatus {}

impl Resource for QaQuestion {
    const KIND: Kind = Kind::QaQuestion;
    const SCOPE: Scope = Scope::Either;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[Reference::to("accepted_answer", Kind::QaAnswer)],
        owner: Owner::Creator,
        own: &[
            Action::Create,
            Action::Read,
            Action::Update,
            Action::Delete,
        ],
        ..Rules::plain("A question that users ask one another")
    };
    type Spec = QaQuestionSpec;
    type Status = QaQuestionStatus;

    fn example() -> QaQuestionSpec {
        QaQuestionSpec {
            title: "How do I give a VM a second disk?".into(),
            tags: vec!["disk".into()],
            ..QaQuestionSpec::default()
        }
    }

    fn validate(spec: &QaQuestionSpec) -> Result<(), Invalid> {
        Invalid::title("title", &spec.title)?;
        Invalid::prose("body", &spec.body, 16 * 1024)?;
        Invalid::tags("tags", &spec.tags)
    }

    /// The accepted answer is not linked: it lies under the question and so links it.
    fn print(meta: &Meta, _: &QaQuestionSpec, _: &QaQuestionStatus, print: &mut Print) {
        print.key(
            key::AUTHOR,
            format!("qa_question/{}", meta.stamps.created_by),
        );
    }
}
