//! Verbs: what people ask for, one file each.
//!
//! A verb gets a draft only by being admitted at the door, so none can forget to ask; what it gives back
//! tells the wrapper in `decide` what to record and to answer.

mod adopt;
mod charged;
mod cloud_box;
mod config;
mod controller;
mod create;
mod credentials;
mod delete;

mod host;
mod images;
mod instance;
mod instance_set;
mod ip;
mod operation;
mod references;
mod rules;
mod session;
mod tenant;
mod update;
mod upgrade;
mod user;
mod user_groups;
mod vm_create;
mod vm_delete;
mod vm_power;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use virtflow_model::Permission;
use virtflow_policy::Target;
use virtflow_state::Object;
use virtflow_types::Error;

use crate::door::Door;
use crate::draft::Draft;
use crate::request::{AddressVerb, Request};

pub use config::SEALED;
pub(crate) use config::active_layer;
pub(crate) use rules::chain_of;
pub(crate) use vm_delete::delete_vm;

/// What a verb did, for the record and the answer.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// `virtual_machine.create`.
    pub(crate) action: String,
    pub(crate) http_status: u16,
    /// What it was about, as it will be, or as it was if it is gone.
    pub(crate) object: Arc<Object>,
    pub(crate) gone: bool,
    /// As it was, where its spec changed.
    pub(crate) before: Option<Arc<Object>>,
    pub(crate) operation: Option<Arc<Object>>,
    pub(crate) extra: Map<String, Value>,
    pub(crate) note: String,
    /// It is no act of anybody's, and no record tells of it: figures that were brought up to date.
    pub(crate) is_recorded: bool,
}

impl Outcome {
    pub(crate) fn new(action: impl Into<String>, http_status: u16, object: Arc<Object>) -> Self {
        Self {
            action: action.into(),
            http_status,
            object,
            gone: false,
            before: None,
            operation: None,
            extra: Map::new(),
            note: String::new(),
            is_recorded: true,
        }
    }
    pub(crate) fn unrecorded(mut self) -> Self {
        self.is_recorded = false;
        self
    }
    pub(crate) fn gone(mut self) -> Self {
        self.gone = true;
        self
    }
    pub(crate) fn before(mut self, before: Arc<Object>) -> Self {
        self.before = Some(before);
        self
    }
    pub(crate) fn operation(mut self, operation: Arc<Object>) -> Self {
        self.operation = Some(operation);
        self
    }
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
    pub(crate) fn extra(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(field.to_owned(), value.into());
        self
    }
}

/// A verb's result: the draft it wrote and what it did.
pub(crate) type Done<'a> = Result<(Draft<'a>, Outcome), Error>;

impl<'a> Door<'a> {
    /// Admission, and with it the draft to write to.
    pub(crate) fn draft(
        &self,
        permission: Permission,
        target: &Target,
        unseen: impl FnOnce() -> Error,
    ) -> Result<Draft<'a>, Error> {
        self.admit(permission, target, unseen)?;
        Ok(Draft::new(self.state, self.cx))
    }

    /// Admission to do this to an object that was found through this door.
    pub(crate) fn draft_for(
        &self,
        permission: Permission,
        object: &Object,
    ) -> Result<Draft<'a>, Error> {
        self.draft(permission, &self.target_of(object), || {
            let what = if object.name.is_empty() {
                object.id.to_string()
            } else {
                object.name.to_string()
            };
            Error::not_found(permission.kind.name(), &what)
        })
    }

    /// Refuses if the client saw another generation than there is, or another object.
    pub(crate) fn check_generation(&self, object: &Object) -> Result<(), Error> {
        let Some(seen) = self.cx.if_match else {
            return Ok(());
        };
        let called = crate::explain::call(object);
        let problem = if seen.object.is_some_and(|id| id != object.id) {
            format!("what was seen is another object than {called}")
        } else if seen.generation != object.generation {
            let (is, seen) = (object.generation, seen.generation);
            format!("{called} is at generation {is}, not {seen}")
        } else {
            return Ok(());
        };
        Err(
            Error::new(virtflow_types::ErrorCode::PreconditionFailed, problem)
                .advise("read it again, look at what changed, and repeat the request"),
        )
    }
}

/// The one list of what can be asked.
pub(crate) fn run<'a>(door: &Door<'a>, request: &Request) -> Done<'a> {
    match request {
        Request::Create(create) => create::run(door, create),
        Request::Update(update) => update::run(door, update),
        Request::Delete(delete) => delete::run(door, delete),
        Request::Power(power) => vm_power::run(door, power),
        Request::Host(act) => host::run(door, act),
        Request::CloudBox(tells) => cloud_box::tell(door, tells),
        Request::Adopt(adopt) => adopt::run(door, adopt),
        Request::AllocateAddress(allocate) => ip::allocate(door, allocate),
        Request::Address(act) => match act.act {
            AddressVerb::Release => ip::release(door, act),
            AddressVerb::Reserve => ip::reserve(door, act),
            AddressVerb::Freeze => ip::freeze(door, act),
            AddressVerb::Unfreeze => ip::unfreeze(door, act),
        },
        Request::CancelOperation { target } => operation::cancel(door, target),
        Request::SetPassword(set) => user::set_password(door, set),
        Request::Login(login) => session::login(door, login),
        Request::Refresh(refresh) => session::refresh(door, refresh),
        Request::Logout => session::logout(door),
        Request::Controller(verb, target) => controller::act(door, *verb, target),
        Request::FinishUpgrade(group) => upgrade::finish(door, group),
        Request::Reveal(reveal) => config::reveal(door, reveal),
    }
}

/// A spec from what was sent: an unknown field, a wrong type or a missing field is told by its path.
pub(crate) fn parse_spec<S: DeserializeOwned>(spec: &Value) -> Result<S, Error> {
    serde_path_to_error::deserialize(spec).map_err(|error| {
        let path = error.path().to_string();
        let problem = error.into_inner().to_string();
        let field = match path.as_str() {
            "." | "" => match quoted(&problem) {
                Some(named) => format!("spec.{named}"),
                None => "spec".to_owned(),
            },
            path => format!("spec.{path}"),
        };
        Error::invalid(field, problem)
    })
}

/// The field that serde names between backticks, where the path stops above it.
fn quoted(problem: &str) -> Option<&str> {
    let is_field = problem.starts_with("missing field") || problem.starts_with("unknown field");
    is_field.then(|| problem.split('`').nth(1)).flatten()
}
