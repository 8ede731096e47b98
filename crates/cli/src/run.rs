//! One command line being carried out: which cluster, as whom, and what is learned on the way.

use std::env;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use virtflow_client::{Call, Client, ClusterCa, Credentials, Limits, Method, learned};
use virtflow_types::Timestamp;

use crate::contexts::{Context, Keeper, Store};
use crate::explain;
use crate::failure::{Failure, exit};
use crate::grammar::{self, Fixed};
use crate::interrupt;
use crate::output::Output;
use crate::{
    access, account, apply, audit, bulk, cluster, config, diff, doctor, generic, names, nouns,
    past, special, support, upgrade,
};

/// An API token in the environment, instead of the context's credentials.
const TOKEN_VARIABLE: &str = "VIRTFLOW_TOKEN";
/// How old what is known of the controllers may be.
const LEARNED_AGE_MAX: Duration = Duration::from_secs(10);
/// How long may be spent on learning, after the command itself is done.
const LEARNING_TIMEOUT: Duration = Duration::from_secs(2);

/// What all commands work with.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) output: Output,
    /// The context named by option or environment.
    pub(crate) named: Option<String>,
    pub(crate) now: Timestamp,
}

/// A cluster that can be asked.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) store: Store,
    pub(crate) name: String,
    pub(crate) context: Context,
}

impl Run {
    /// With what every command takes.
    pub(crate) fn new(output: Output, named: Option<String>) -> Self {
        Self {
            output,
            // As elsewhere: a variable that is empty is one that is not set.
            named: named.filter(|name| !name.is_empty()),
            now: Timestamp::now(),
        }
    }

    /// Does what was asked.
    pub(crate) async fn carry_out(&self, matches: &ArgMatches) -> Result<(), Failure> {
        let (word, inner) = matches
            .subcommand()
            .ok_or_else(|| Failure::usage("no command was given"))?;
        if let Some(noun) = nouns::of_word(word) {
            let (verb, inner) = inner
                .subcommand()
                .ok_or_else(|| Failure::usage(format!("no command was given for {word}")))?;
            if special::is_offline(noun.kind, verb) {
                return special::offline(self);
            }
            let cluster = self.cluster()?;
            let done = match bulk::run(self, &cluster, noun, verb, inner).await {
                Some(done) => done,
                None => match special::run(self, &cluster, noun, verb, inner).await {
                    Some(done) => done,
                    None => generic::run(self, &cluster, noun, verb, inner).await,
                },
            };
            return cluster.learn(self.now, done).await;
        }
        if word == "apply" {
            // What is wrong with the documents is told whether or not a cluster is known.
            let asked = apply::Asked::of(inner)?;
            let cluster = self.cluster()?;
            let done = apply::apply(self, &cluster, asked, inner).await;
            return cluster.learn(self.now, done).await;
        }
        let fixed = grammar::fixed(matches).map_err(|error| Failure::usage(error.to_string()))?;
        match fixed {
            Fixed::Login(login) => account::log_in(self, &login).await,
            Fixed::Context(command) => account::context(self, &command),
            Fixed::Completions { shell, names: true } => {
                self.output.text(&names::registration(&shell.to_string())?)
            }
            Fixed::Completions { shell, .. } => self.completions(shell),
            Fixed::Explain { what } => explain::explain(self.output, &what),
            Fixed::Audit(asked) if audit::file_of(&asked).is_some() => {
                audit::verify_file(self, &asked, audit::file_of(&asked).unwrap_or_default())
            }
            Fixed::SupportBundle(asked) => support::bundle(self, self.cluster(), &asked).await,
            other => {
                let cluster = self.cluster()?;
                let done = match other {
                    Fixed::Logout => return account::log_out(self, &cluster).await,
                    Fixed::Whoami => account::whoami(self, &cluster).await,
                    Fixed::CanI(asked) => account::can_i(self, &cluster, &asked).await,
                    Fixed::Auth(asked) => access::run(self, &cluster, &asked).await,
                    Fixed::Status => cluster::status(self, &cluster).await,
                    Fixed::Doctor { verify } => doctor::doctor(self, &cluster, verify).await,
                    Fixed::Upgrade(command) => upgrade::run(self, &cluster, &command).await,
                    Fixed::Verify => cluster::verify(self, &cluster).await,
                    Fixed::Capacity => cluster::capacity(self, &cluster).await,
                    Fixed::Audit(asked) => audit::audit(self, &cluster, &asked).await,
                    Fixed::Config(asked) => config::run(self, &cluster, &asked).await,
                    Fixed::Diff(asked) => diff::diff(self, &cluster, &asked).await,
                    Fixed::Blame(asked) => past::blame_of(self, &cluster, &asked).await,
                    Fixed::Login(_)
                    | Fixed::Context(_)
                    | Fixed::Completions { .. }
                    | Fixed::SupportBundle(_)
                    | Fixed::Explain { .. } => Ok(()),
                };
                cluster.learn(self.now, done).await
            }
        }
    }

    fn completions(&self, shell: clap_complete::Shell) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut grammar::command(), "virtflow", &mut text);
        self.output.text(&String::from_utf8_lossy(&text))
    }

    /// The cluster of the context in use.
    pub(crate) fn cluster(&self) -> Result<Cluster, Failure> {
        let store = Store::from_env()?;
        let mut contexts = store.load()?;
        let name = self.named.clone().or(contexts.current.take());
        let name = name.ok_or_else(|| {
            Failure::new(exit::DENIED, "unauthenticated", "no cluster is known here yet").advise(
                "log in: `virtflow login --endpoint https://HOST:8443 --ca-fingerprint HEX --user NAME`",
            )
        })?;
        let context = contexts
            .contexts
            .remove(&name)
            .ok_or_else(|| no_context(&name))?;
        let token = token_of(env::var_os(TOKEN_VARIABLE))?;
        let credentials = match (token.or(context.token.clone()), &context.session) {
            (Some(token), _) => Credentials::Token(checked(&token)?),
            (None, Some(_)) => Credentials::Session(Arc::new(Keeper {
                store: store.clone(),
                name: name.clone(),
            })),
            (None, None) => {
                return Err(Failure::new(
                    exit::DENIED,
                    "unauthenticated",
                    format!("the context `{name}` has no credentials"),
                )
                .advise(format!("log in again, or set {TOKEN_VARIABLE}")));
            }
        };
        let ca = ClusterCa::from_pem(&context.ca).map_err(|error| {
            Failure::local(format!("the CA of the context `{name}`: {error}"))
                .advise("log in again with the CA's fingerprint")
        })?;
        let client = Client::new(&ca, context.all_endpoints(), credentials, Limits::default())?;
        interrupt::follows(client.journal());
        Ok(Cluster {
            client,
            store,
            name,
            context,
        })
    }
}

/// The token of the environment. One that is no text is not passed over: the command would be somebody else's.
fn token_of(variable: Option<OsString>) -> Result<Option<String>, Failure> {
    let Some(token) = variable.filter(|token| !token.is_empty()) else {
        return Ok(None);
    };
    token.into_string().map(Some).map_err(|_| {
        Failure::new(
            exit::DENIED,
            "unauthenticated",
            format!("{TOKEN_VARIABLE} holds characters that no token has"),
        )
    })
}

/// A header can't carry anything else, and a token never has it.
fn checked(token: &str) -> Result<String, Failure> {
    let token = token.trim();
    if !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(token.to_owned())
    } else {
        Err(Failure::new(
            exit::DENIED,
            "unauthenticated",
            "the token holds characters that no token has",
        ))
    }
}

pub(crate) fn no_context(name: &str) -> Failure {
    Failure::new(exit::NOT_FOUND, "not_found", format!("no context `{name}`"))
        .advise("`virtflow context list` shows those there are")
}

impl Cluster {
    /// After a command: notes which controller answered, and from time to time asks which there are.
    /// What the command gave is what counts; nothing that fails here changes it.
    async fn learn(&self, now: Timestamp, done: Result<(), Failure>) -> Result<(), Failure> {
        interrupt::ended(&done);
        let reached = match &done {
            Ok(()) => true,
            Err(failure) => failure.request_id.is_some() && failure.exit != exit::DENIED,
        };
        let known = self.context.all_endpoints();
        let answered = self.client.endpoints().into_iter().next();
        let moved = answered.as_ref() != known.first();
        let age = now.since(self.context.learned_at.unwrap_or_default());
        if !reached || (!moved && age < LEARNED_AGE_MAX) {
            return done;
        }
        let told = match Call::new(Method::Get, &["auth", "whoami"]) {
            Ok(call) => {
                let asked = self.client.send(&call);
                match tokio::time::timeout(LEARNING_TIMEOUT, asked).await {
                    Ok(Ok(answer)) => learned(&answer.data),
                    _ => return done,
                }
            }
            Err(_) => return done,
        };
        let kept = self.store.change(|contexts| {
            if let Some(context) = contexts.contexts.get_mut(&self.name) {
                if !told.is_empty() {
                    context.learned = told;
                }
                context.learned_at = Some(now);
                context.preferred = self.client.endpoints().into_iter().next();
            }
            Ok(())
        });
        // The next command tries again.
        drop(kept);
        done
    }
}
