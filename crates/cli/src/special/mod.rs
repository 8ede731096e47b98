//! What only some kinds have. Each file adds its commands to the grammar and carries them out.

mod address;
mod billing;
mod cloud_box;
mod config;
mod controller;
mod host;
mod ontology;
mod operation;
mod people;
mod set;
mod tokens;
mod vm;

use clap::{ArgMatches, Command};
use virtflow_model::{Action, Kind};

use crate::failure::Failure;
use crate::noun::Noun;
use crate::run::{Cluster, Run};

pub(crate) use people::form_of;

/// Adds a kind's own commands to those that all kinds have.
pub(crate) fn grammar(kind: Kind, command: Command) -> Command {
    match kind {
        Kind::VirtualMachine => vm::grammar(command),
        Kind::Baremetal => host::grammar(command),
        Kind::Operation => operation::grammar(command),
        Kind::SystemConfig | Kind::TenantConfig | Kind::UserConfig => {
            config::grammar(kind, command)
        }
        Kind::Ontology => ontology::grammar(command),
        Kind::Controller => controller::grammar(command),
        Kind::ApiToken | Kind::JoinToken => tokens::grammar(kind, command),
        Kind::BillingPeriod => billing::grammar(command),
        Kind::CloudBox => cloud_box::grammar(command),
        Kind::InstanceSet => set::grammar(command),
        Kind::IpAddress => address::of_addresses(command),
        Kind::IpPool => address::of_pools(command),
        Kind::Tenant | Kind::User | Kind::UserGroup => people::grammar(kind, command),
        Kind::Role => command
            .subcommand(Command::new("catalogue").about("All permissions that a role may have")),
        _ => command,
    }
}

/// Carries out a command that only this kind has; `None` if it is one of those that all have.
pub(crate) async fn run(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    verb: &str,
    matches: &ArgMatches,
) -> Option<Result<(), Failure>> {
    let done = match (noun.kind, verb) {
        (Kind::VirtualMachine, "start" | "stop" | "reboot") => {
            vm::power(run, cluster, noun, verb, matches).await
        }
        (Kind::VirtualMachine, "console") => vm::console(run, cluster, matches).await,
        (Kind::VirtualMachine, "adopt") => vm::adopt(run, cluster, noun, matches).await,
        (Kind::VirtualMachine, "placement") => vm::placement(run, cluster, matches).await,
        (Kind::Baremetal, "cordon" | "uncordon" | "release-quarantine") => {
            host::act(run, cluster, noun, verb, matches).await
        }
        (Kind::Baremetal, "domains") => host::domains(run, cluster, matches).await,
        (Kind::Operation, "wait") => operation::wait(run, cluster, matches).await,
        (Kind::Operation, "cancel") => operation::cancel(run, cluster, noun, matches).await,
        (Kind::Controller, "add") => controller::add(run, cluster, matches).await,
        (Kind::Controller, "promote") => controller::promote(run, cluster, noun, matches).await,
        (Kind::Controller, "remove") => controller::remove(run, cluster, noun, matches).await,
        (Kind::Controller, "hand-over") => controller::hand_over(run, cluster, matches).await,
        (Kind::SystemConfig | Kind::TenantConfig | Kind::UserConfig, "reveal") => {
            config::reveal(run, cluster, noun, matches).await
        }
        (Kind::Ontology, "lookup") => ontology::look_up(run, cluster, noun, matches).await,
        (Kind::Ontology, "merge") => ontology::merge(run, cluster, matches).await,
        (Kind::ApiToken, "create") => tokens::create_api_token(run, cluster, matches).await,
        (Kind::JoinToken, "create") => tokens::create_invite(run, cluster, matches).await,
        (Kind::InstanceSet, "start" | "stop" | "snapshot") => {
            set::act(run, cluster, verb, matches).await
        }
        (Kind::IpPool, "allocate") => address::allocate(run, cluster, noun, matches).await,
        (Kind::IpAddress, "release" | "reserve" | "freeze" | "unfreeze") => {
            address::act(run, cluster, noun, verb, matches).await
        }
        (Kind::CloudBox, "heartbeat") => cloud_box::heartbeat(run, cluster, noun, matches).await,
        (Kind::BillingPeriod, "bill") => billing::bill(run, cluster, matches).await,
        (Kind::User | Kind::UserGroup, "usage") => {
            people::usage_of_levels(run, cluster, noun, matches).await
        }
        (Kind::Tenant, "usage") => people::usage(run, cluster, matches).await,
        (Kind::User, "create") => people::create_user(run, cluster, noun, matches).await,
        (Kind::User, "set-password") => people::set_password(run, cluster, noun, matches).await,
        _ => return None,
    };
    Some(done)
}

/// True for what shows a secret when it is made, once.
pub(crate) fn gives_secret(kind: Kind) -> bool {
    matches!(kind, Kind::ApiToken | Kind::JoinToken)
}

/// True for what needs no cluster.
pub(crate) fn is_offline(kind: Kind, verb: &str) -> bool {
    kind == Kind::Role && verb == "catalogue"
}

/// The catalogue of permissions: every kind with every action.
pub(crate) fn offline(run: &Run) -> Result<(), Failure> {
    let permissions = Kind::ALL.iter().flat_map(|kind| {
        let actions = Action::ALL.iter();
        actions.map(|action| format!("{}.{}", kind.name(), action.name()))
    });
    let all: Vec<String> = permissions.collect();
    run.output.data(&serde_json::json!(all), |_| all.join("\n"))
}
