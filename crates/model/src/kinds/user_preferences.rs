//! What a user wants to be told of, and how their dashboard looks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use virtflow_types::ObjectId;

use crate::print::space;
use crate::{Action, Invalid, Kind, Meta, Owner, Print, Reference, Resource, Rules, Scope};

/// The preferences of one user. Their parent is the user.
#[derive(Debug)]
pub enum UserPreferences {}

/// What a user wants to be told of, and by which way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotificationPreferences {
    /// By e-mail.
    pub email: bool,
    /// In the browser.
    pub push: bool,
    /// Of what was deployed.
    pub deployment: bool,
    /// Of alerts.
    pub alerts: bool,
    /// Of maintenance.
    pub maintenance: bool,
}

impl Default for NotificationPreferences {
    fn default() -> Self {
        Self {
            email: true,
            push: false,
            deployment: true,
            alerts: true,
            maintenance: true,
        }
    }
}

/// How a user's dashboard looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DashboardPreferences {
    /// What it shows first.
    pub default_view: String,
    /// Whether it reads again by itself.
    pub auto_refresh: bool,
    /// Seconds between two reads, 5 to 3600.
    pub refresh_interval_s: u32,
}

impl Default for DashboardPreferences {
    fn default() -> Self {
        Self {
            default_view: "overview".into(),
            auto_refresh: true,
            refresh_interval_s: 30,
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPreferencesSpec {
    /// Whose they are; absent when they are made: the asker's.
    pub user_id: ObjectId,
    /// What the user wants to be told of, and by which way.
    #[serde(default)]
    pub notifications: NotificationPreferences,
    /// How the user's dashboard looks.
    #[serde(default)]
    pub dashboard: DashboardPreferences,
}

/// Nothing is observed of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UserPreferencesStatus {}

impl Resource for UserPreferences {
    const KIND: Kind = Kind::UserPreferences;
    const SCOPE: Scope = Scope::Either;
    const NAMED: bool = false;
    const RULES: Rules = Rules {
        references: &[Reference::under("user", Kind::User)],
        owner: Owner::Parent,
        own: &[
            Action::Create,
            Action::Read,
            Action::Update,
            Action::Delete,
        ],
        cascades: true,
        ..Rules::plain("What a user wants to be told of, and how their dashboard looks")
    };
    type Spec = UserPreferencesSpec;
    type Status = UserPreferencesStatus;

    fn example() -> UserPreferencesSpec {
        UserPreferencesSpec {
            user_id: ObjectId::from_u128(1),
            notifications: NotificationPreferences::default(),
            dashboard: DashboardPreferences::default(),
        }
    }

    fn validate(spec: &UserPreferencesSpec) -> Result<(), Invalid> {
        let dashboard = &spec.dashboard;
        Invalid::text("dashboard.default_view", &dashboard.default_view, 64)?;
        Invalid::outside(
            "dashboard.refresh_interval_s",
            u64::from(dashboard.refresh_interval_s),
            5,
            3600,
        )
    }

    fn print(_: &Meta, spec: &UserPreferencesSpec, _: &UserPreferencesStatus, print: &mut Print) {
        print.claim(space::PAIR, format!("user_preferences/{}", spec.user_id));
    }
}
