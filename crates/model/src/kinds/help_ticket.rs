//! A request for help.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::print::key;
use crate::{Action, Invalid, Kind, Meta, Owner, Print, Resource, Rules, Scope};

/// A request for help, whoever made it.
#[derive(Debug)]
pub enum HelpTicket {}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TicketState {
    /// Nobody works on it.
    #[default]
    Open,
    /// Somebody does.
    InProgress,
    /// It seems done.
    Resolved,
    /// It is over, for good.
    Closed,
}

impl TicketState {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::InProgress => "in_progress",
            Self::Resolved => "resolved",
            Self::Closed => "closed",
        }
    }

    /// What may follow.
    pub const fn next(self) -> &'static [Self] {
        match self {
            Self::Open => &[Self::InProgress, Self::Resolved, Self::Closed],
            Self::InProgress => &[Self::Open, Self::Resolved, Self::Closed],
            Self::Resolved => &[Self::Open, Self::Closed],
            Self::Closed => &[],
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HelpTicketSpec {
    /// What it is about, in a line.
    pub subject: String,
    /// What happened, at most 16 KiB.
    #[serde(default)]
    pub description: String,
    /// How far it is: open, in progress, resolved, which may be opened again, or closed for good.
    #[serde(default)]
    pub state: TicketState,
    /// What was done about it, at most 16 KiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resolution: String,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HelpTicketStatus {}

impl Resource for HelpTicket {
    const KIND: Kind = Kind::HelpTicket;
    const SCOPE: Scope = Scope::Either;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        owner: Owner::Creator,
        own: &[Action::Create, Action::Read, Action::Update],
        ..Rules::plain("A request for help")
    };
    type Spec = HelpTicketSpec;
    type Status = HelpTicketStatus;

    fn example() -> HelpTicketSpec {
        HelpTicketSpec {
            subject: "No console on web-1".into(),
            description: "Since this morning the console stays black.".into(),
            ..HelpTicketSpec::default()
        }
    }

    fn validate(spec: &HelpTicketSpec) -> Result<(), Invalid> {
        Invalid::title("subject", &spec.subject)?;
        Invalid::prose("description", &spec.description, 16 * 1024)?;
        Invalid::prose("resolution", &spec.resolution, 16 * 1024)
    }

    fn validate_update(old: &HelpTicketSpec, new: &HelpTicketSpec) -> Result<(), Invalid> {
        if old.state == TicketState::Closed && old != new {
            return Err(Invalid::new(
                "state",
                "is closed: a closed ticket does not change; make another",
            ));
        }
        if old.state != new.state && !old.state.next().contains(&new.state) {
            let next: Vec<_> = old.state.next().iter().map(|state| state.name()).collect();
            return Err(Invalid::new(
                "state",
                format!(
                    "does not go from {} to {}; it may become {}",
                    old.state.name(),
                    new.state.name(),
                    next.join(", ")
                ),
            ));
        }
        Self::validate(new)
    }

    fn print(meta: &Meta, spec: &HelpTicketSpec, _: &HelpTicketStatus, print: &mut Print) {
        if spec.state != TicketState::Closed {
            print.key(
                key::AUTHOR,
                format!("help_ticket/{}", meta.stamps.created_by),
            );
        }
    }
}
