//! The command line's grammar: what is the same for all kinds is made from the survey in `nouns`, the
//! rest is written out.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Subcommand};

use crate::noun::{Flag, Form, Noun, Verb};
use crate::nouns::{self, Title};
use crate::output::Format;

/// Rows of a list where no number is given.
pub(crate) const ROWS_DEFAULT: usize = 1000;
/// Most rows of a list.
pub(crate) const ROWS_MAX: usize = 100_000;
/// How long `--wait` waits where no time is given.
pub(crate) const WAIT_DEFAULT: &str = "10m";

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  another failure
    2  the command line, or a value in it, is wrong
    3  not logged in, or not allowed
    4  no such object
    5  it exists already, is in use, or was changed meanwhile
    6  a quota would be exceeded
    7  no host has room
    8  no controller or no leader, or too many requests: nothing was done
    9  it may have been done: look, or repeat it with the same --idempotency-key
   10  the operation failed or was cancelled
   11  the wait is over, the operation goes on
   12  `doctor` found something, or the audit's chain is broken
  130  Ctrl-C: what is done, and what is not known, was told
  143  SIGTERM, likewise

Environment:
  VIRTFLOW_CONFIG   the contexts file (default: ~/.config/virtflow/config.toml)
  VIRTFLOW_CONTEXT  the context to use
  VIRTFLOW_TOKEN    an API token to use instead of the context's credentials";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Globals {
    /// Form of the output: table, wide, json, yaml, or custom-columns=HEAD:.path,...
    #[arg(
        short,
        long,
        global = true,
        value_parser = Format::read,
        default_value = "table",
        value_name = "FORM",
        help_heading = "Options of every command"
    )]
    pub(crate) output: Format,
    /// Context to use instead of the current one
    #[arg(
        long,
        global = true,
        env = "VIRTFLOW_CONTEXT",
        hide_env_values = true,
        value_name = "NAME",
        help_heading = "Options of every command"
    )]
    pub(crate) context: Option<String>,
}

/// Commands that are about no kind.
#[derive(Debug, Subcommand)]
pub(crate) enum Fixed {
    /// Log in and keep the session in a context
    Login(Login),
    /// End the session and forget it
    Logout,
    /// Who you are to the cluster, and what you may
    Whoami,
    /// Whether you may do something
    CanI(CanI),
    /// Who may do something, and why
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Auth(AuthCommand),
    /// The cluster: who leads, which hosts live, what is late
    Status,
    /// What is wrong, since when, and what to do: for whoever is on call
    Doctor {
        /// Derive every ledger and index again, too, which takes seconds where there is much
        #[arg(long)]
        verify: bool,
    },
    /// Pack what whoever helps from afar wants to see into one file, without secrets
    SupportBundle(SupportBundle),
    /// Upgrades: which releases run together, and the end of one
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Upgrade(UpgradeCommand),
    /// Derive every ledger and index again from the rows, and compare
    Verify,
    /// What groups and hosts have, and what is taken
    Capacity,
    /// Who did what, when
    Audit(Audit),
    /// What was made, changed and deleted between two moments
    Diff(Diff),
    /// Who set each field of an object to what it is, and when
    Blame(Blame),
    /// Configuration: what holds of a scope once its layers are merged
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Clusters and users that this machine knows
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Context(ContextCommand),
    /// What a kind is, and what its fields mean
    Explain {
        /// KIND, KIND.field or KIND.status.field, such as vm.memory_mib
        what: String,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
        /// Complete names of what is there, too: the cluster is asked, for a second at most
        #[arg(long)]
        names: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// A controller, https://host:8443; several by commas or by repeating
    #[arg(long, required = true, value_delimiter = ',', value_name = "URL")]
    pub(crate) endpoint: Vec<String>,
    /// SHA-256 of the cluster's CA, as `virtflow-controller init` printed it
    #[arg(long, value_name = "HEX", required_unless_present = "ca")]
    pub(crate) ca_fingerprint: Option<String>,
    /// The cluster's CA in a PEM file
    #[arg(long, value_name = "FILE", conflicts_with = "ca_fingerprint")]
    pub(crate) ca: Option<String>,
    /// User name
    #[arg(long, value_name = "NAME")]
    pub(crate) user: String,
    /// Read the password from a file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SupportBundle {
    /// The file to make; virtflow-support-TIME.tar.gz if left out
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<String>,
    /// How far back the journal of this machine's daemons goes, as journalctl takes it
    #[arg(
        long,
        value_name = "TIME",
        default_value = "-24h",
        allow_hyphen_values = true
    )]
    pub(crate) since: String,
    /// The most that is packed, before compression
    #[arg(long = "max-size", value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) max_mib: u64,
}

#[derive(Debug, Args)]
pub(crate) struct CanI {
    /// kind.action, such as virtual_machine.execute
    pub(crate) permission: String,
    /// The object, by name or id
    pub(crate) target: Option<String>,
    /// Tenant it is in
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
}

/// Questions about rights.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Everybody who may do something, and the role bindings that allow it
    WhoCan {
        #[command(flatten)]
        what: OnWhat,
        /// Most bindings to show
        #[arg(long, value_name = "N", default_value_t = ROWS_DEFAULT, value_parser = rows())]
        limit: usize,
    },
    /// Why you, or another user, may do something, or what is missing
    Explain {
        #[command(flatten)]
        what: OnWhat,
        /// Another user, by name or id
        #[arg(long, value_name = "USER")]
        user: Option<String>,
    },
    /// Whether you may do something
    CanI(CanI),
}

/// Questions about configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// What holds of a scope for you, a tenant or another user, and which layer each field came from
    Effective {
        /// The scope, such as genai.policy
        scope: String,
        /// A part of it
        #[arg(long, value_name = "SCOPE")]
        sub_scope: Option<String>,
        /// For this tenant
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// For this user, by name or id
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// As it was after an index, or at a time such as 2026-11-23T18:00:00Z
        #[arg(long, value_name = "MOMENT")]
        at: Option<String>,
    },
}

/// What is done about an upgrade.
#[derive(Debug, Subcommand)]
pub(crate) enum UpgradeCommand {
    /// Which release each controller and agent runs, what the cluster version can be raised to, and what stands in the way
    Status,
    /// Raise the cluster version to what all controllers support: none can go back to an older release then
    Finish {
        /// Check it as if it were done, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// Raise it without asking
        #[arg(long)]
        yes: bool,
    },
}

/// An action on an object, or on anything of a kind.
#[derive(Debug, Args)]
pub(crate) struct OnWhat {
    /// create, read, update, delete, manage, execute or admin
    pub(crate) action: String,
    /// The kind, such as vm
    pub(crate) kind: String,
    /// The object, by name or id
    pub(crate) object: Option<String>,
    /// Tenant it is in
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Audit {
    #[command(subcommand)]
    pub(crate) command: Option<AuditCommand>,
    /// From when on, 2026-11-23T18:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Until when
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// Who: a user, by name or id
    #[arg(long, value_name = "NAME|ID")]
    pub(crate) actor: Option<String>,
    /// On what: an object's id
    #[arg(long, value_name = "ID")]
    pub(crate) object: Option<String>,
    /// How it ended
    #[arg(long, value_name = "WORD", value_parser = ["success", "denied", "failed"])]
    pub(crate) outcome: Option<String>,
    /// What was done, such as virtual_machine.delete or login
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Option<String>,
    /// To what kind of object
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Of which tenant
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
    /// Most records
    #[arg(long, default_value_t = 50, value_parser = rows(), value_name = "N")]
    pub(crate) limit: usize,
    /// Every record, newest first, each as JSON on a line of its own
    #[arg(long, conflicts_with = "limit")]
    pub(crate) export: bool,
}

/// What is done about the audit beside reading it.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that no record was altered, left out or put in: every hash is computed here, from what is received
    Verify {
        /// An export to check in place of the cluster's records; `-` is standard input
        #[arg(long, value_name = "FILE")]
        file: Option<String>,
        /// A head that an earlier check printed: the chain must still lead through it
        #[arg(long, value_name = "COUNT:HEX", value_parser = crate::audit::read_head)]
        head: Option<(u64, [u8; 32])>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Blame {
    /// Its kind, such as vm
    pub(crate) kind: String,
    /// Its name or id
    #[arg(value_name = "NAME|ID")]
    pub(crate) object: String,
    /// Tenant, where a name is in several
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// Two indexes or times: 120..180, or 120.. for until now
    #[arg(value_name = "FROM..TO")]
    pub(crate) range: String,
    /// Only of this kind
    pub(crate) kind: Option<String>,
    /// Only this one, by name or id
    #[arg(value_name = "NAME|ID")]
    pub(crate) object: Option<String>,
    /// Only of this tenant
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
    /// Most objects
    #[arg(long, default_value_t = 1000, value_parser = rows(), value_name = "N")]
    pub(crate) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// All contexts
    List,
    /// Use another one from now on
    Use {
        /// Its name
        name: String,
    },
    /// One context, without its secrets
    Show {
        /// Its name; the current one if left out
        name: Option<String>,
    },
    /// Forget one
    Delete {
        /// Its name
        name: String,
    },
}

/// The whole grammar.
pub(crate) fn command() -> Command {
    let command = Globals::augment_args(Command::new("virtflow"));
    // What the structures say of themselves would stand as the program's description: ours comes last.
    let command = Fixed::augment_subcommands(command)
        .version(env!("CARGO_PKG_VERSION"))
        .about("A private cloud, from the command line")
        .long_about(None)
        .after_long_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(crate::apply::grammar());
    nouns::titles().fold(command, |command, title| {
        command.subcommand(of_title(title))
    })
}

/// The commands that are about no kind, from what was given.
pub(crate) fn fixed(matches: &ArgMatches) -> Result<Fixed, clap::Error> {
    Fixed::from_arg_matches(matches)
}

/// The options of every command, from what was given.
pub(crate) fn globals(matches: &ArgMatches) -> Result<Globals, clap::Error> {
    Globals::from_arg_matches(matches)
}

/// A kind's command. What it takes is made when it is the one that is given: a command line names one kind, and
/// there are many.
fn of_title(title: Title) -> Command {
    let mut aliases: Vec<String> = [title.kind.name(), title.kind.plural()]
        .iter()
        .chain(title.kind.aliases())
        .flat_map(|word| [(*word).to_owned(), word.replace('_', "-")])
        .filter(|word| *word != title.word)
        .collect();
    aliases.sort();
    aliases.dedup();
    Command::new(title.word)
        .about(title.about)
        .aliases(aliases)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .defer(|command| match nouns::of_word(command.get_name()) {
            Some(noun) => of_noun(command, noun),
            None => command,
        })
}

fn of_noun(command: Command, noun: &'static Noun) -> Command {
    let command = noun.verbs.iter().fold(command, |command, verb| {
        command.subcommand(of_verb(noun, *verb))
    });
    let command = match noun.verbs.contains(&Verb::Update) {
        true => command.subcommand(edit(noun)),
        false => command,
    };
    let command = match noun.kind {
        // What they are is read off the cluster, not off what is kept.
        virtflow_model::Kind::Controller => command,
        _ => command.subcommand(history(noun)).subcommand(blame(noun)),
    };
    crate::names::completing(noun, crate::special::grammar(noun.kind, command))
}

pub(crate) fn of_verb(noun: &Noun, verb: Verb) -> Command {
    match verb {
        Verb::List => list(noun),
        Verb::Get => {
            let about = "One, by name or id";
            watching(
                noun,
                one_as_it_was(noun, Command::new("get").about(about)),
                &["at"],
            )
        }
        Verb::Describe => {
            let about = "One with all that is known of it";
            one_as_it_was(noun, Command::new("describe").about(about))
        }
        Verb::Create => create(noun),
        Verb::Update => update(noun),
        Verb::Delete => {
            let command = Command::new("delete")
                .visible_alias("rm")
                .about("Remove one");
            let command = trying(writing(waiting(tenant_of(noun, command).arg(target()))));
            crate::bulk::deleting(noun, command.arg(if_match()))
        }
    }
}

fn one_as_it_was(noun: &Noun, command: Command) -> Command {
    let command = tenant_of(noun, command).arg(target());
    match noun.kind {
        virtflow_model::Kind::Controller => command,
        virtflow_model::Kind::Operation => command.arg(fields()),
        _ => command.arg(fields()).arg(at()),
    }
}

fn edit(noun: &Noun) -> Command {
    let about = "Change its spec in an editor: $VISUAL, $EDITOR, or vi";
    writing(tenant_of(noun, Command::new("edit").about(about)).arg(target()))
}

fn history(noun: &Noun) -> Command {
    let about = "Its versions, newest first: who made each, when, by which request";
    tenant_of(noun, Command::new("history").about(about))
        .arg(target())
        .arg(limit())
}

fn blame(noun: &Noun) -> Command {
    let about = "Who set each field of it to what it is, and when";
    tenant_of(noun, Command::new("blame").about(about)).arg(target())
}

fn at() -> Arg {
    option(
        "at",
        "MOMENT",
        "As it was after an index, or at a time such as 2026-11-23T18:00:00Z",
    )
}

fn fields() -> Arg {
    let help = "Parts of the object, by commas: name,spec.labels.env,status.phase";
    option("fields", "PATHS", help)
}

/// Order and words of a list.
fn searching(command: Command) -> Command {
    let sort = "Order: name, created_at or a field; -name is the other way round";
    let words = "Those with all of these words in the name or a text of the spec";
    command
        .arg(option("sort", "KEY", sort).allow_hyphen_values(true))
        .arg(option("search", "WORDS", words))
}

fn limit() -> Arg {
    option("limit", "N", "Most rows")
        .value_parser(rows())
        .default_value("1000")
}

/// `--dry-run`.
pub(crate) fn trying(command: Command) -> Command {
    command.arg(switch(
        "dry-run",
        "Check it as if it were done, and do nothing",
    ))
}

fn list(noun: &Noun) -> Command {
    let command = Command::new("list")
        .visible_alias("ls")
        .about("All, or some of them");
    let command = command.arg(limit());
    let command = match noun.kind {
        virtflow_model::Kind::Controller => command,
        _ => searching(command).arg(fields()).arg(at()).arg(switch(
            "deleted",
            "Those that are no more, as they last were",
        )),
    };
    let command = match noun.is_listed_by("tenant") {
        true => command.arg(option("tenant", "TENANT", "Those of this tenant")),
        false => command,
    };
    let command = match noun.is_listed_by("name") {
        true => command.arg(option("name", "NAME", "Those of this name")),
        false => command,
    };
    let command = watching(noun, command, &["limit", "deleted"]);
    narrowing(noun)
        .into_iter()
        .fold(command, |command, arg| command.arg(arg))
}

/// What narrows a list, or what is deleted, beside `--tenant` and `--name`.
pub(crate) fn narrowing(noun: &Noun) -> Vec<Arg> {
    let options = noun.list_options().into_iter();
    let args = options.map(|option| {
        let arg = Arg::new(option.id).long(option.long).help(option.help);
        let arg = option.short.into_iter().fold(arg, Arg::short);
        arg.value_name("VALUE")
    });
    args.collect()
}

/// `--watch` and what goes with it.
fn watching(noun: &Noun, command: Command, not_with: &[&'static str]) -> Command {
    if noun.kind == virtflow_model::Kind::Controller {
        // What they are is read off the cluster, which tells no changes of it.
        return command;
    }
    let watch = switch("watch", "Go on with each change, until Ctrl-C").short('w');
    let there: Vec<&str> = command
        .get_arguments()
        .map(|arg| arg.get_id().as_str())
        .collect();
    let not_with = not_with.iter().filter(|name| there.contains(name));
    let watch = watch.conflicts_with_all(not_with.copied().collect::<Vec<_>>());
    command.arg(watch).arg(
        option("timeout", "SPAN", "How long to watch, such as 30s")
            .requires("watch")
            .value_parser(crate::amount::span),
    )
}

fn create(noun: &Noun) -> Command {
    let command = Command::new("create").about("Make one");
    let command = if noun.facts().is_named {
        command.arg(
            Arg::new("target")
                .value_name("NAME")
                .required(true)
                .help("Its name"),
        )
    } else {
        command
    };
    let takes_tenant = noun.flags.iter().any(|flag| flag.long == "tenant")
        || noun.facts().scope == virtflow_model::Scope::System;
    let command = if takes_tenant {
        command
    } else {
        command.arg(option("tenant", "TENANT", "Tenant it belongs to"))
    };
    let command = with_flags(trying(writing(waiting(command))), noun.flags, true);
    crate::bulk::creating(noun.kind, command)
}

fn update(noun: &Noun) -> Command {
    let command = Command::new("update").about("Change one; what is not named stays");
    let command = tenant_of(noun, command).arg(target()).arg(if_match()).arg(
        Arg::new("unset")
            .long("unset")
            .value_name("PATH")
            .action(ArgAction::Append)
            .help("Field of the spec to remove, such as labels.stage"),
    );
    with_flags(trying(writing(command)), noun.flags, false)
}

pub(crate) fn with_flags(command: Command, flags: &'static [Flag], is_creation: bool) -> Command {
    let command = flags
        .iter()
        .filter(|flag| is_creation || !flag.is_for_life)
        .fold(command, |command, flag| command.arg(of_flag(flag)));
    command
        .arg(
            Arg::new("set")
                .long("set")
                .value_name("PATH=VALUE")
                .action(ArgAction::Append)
                .help("Any field of the spec; the value is read as JSON if it is JSON"),
        )
        .arg(option(
            "from-file",
            "FILE",
            "The spec as JSON or YAML; `-` is standard input",
        ))
}

fn of_flag(flag: &'static Flag) -> Arg {
    let (value, repeats) = match flag.form {
        Form::Text | Form::Texts => ("VALUE", flag.form == Form::Texts),
        Form::Count => ("N", false),
        Form::Mib | Form::Gib => ("SIZE", false),
        Form::Percent | Form::WholePercent => ("PERCENT", false),
        Form::Seconds | Form::Expiry => ("SPAN", false),
        Form::Word(_) | Form::Choice(_) => ("WORD", false),
        Form::Truth => ("BOOL", false),
        Form::Pairs => ("KEY=VALUE", true),
    };
    let arg = option(flag.long, value, flag.help);
    let arg = match flag.form {
        Form::Word(words) | Form::Choice(words) => {
            arg.value_parser(clap::builder::PossibleValuesParser::new(words))
        }
        Form::Truth => {
            arg.value_parser(clap::builder::PossibleValuesParser::new(["true", "false"]))
        }
        _ => arg,
    };
    if repeats {
        arg.action(ArgAction::Append)
    } else {
        arg
    }
}

/// `--long VALUE`.
pub(crate) fn option(long: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(long).long(long).value_name(value).help(help)
}

/// `--long`.
pub(crate) fn switch(long: &'static str, help: &'static str) -> Arg {
    Arg::new(long)
        .long(long)
        .help(help)
        .action(ArgAction::SetTrue)
}

/// The object a command is about.
pub(crate) fn target() -> Arg {
    Arg::new("target")
        .value_name("NAME|ID")
        .required(true)
        .help("Its name or id")
}

/// `--tenant` where names are within tenants.
pub(crate) fn tenant_of(noun: &Noun, command: Command) -> Command {
    if noun.facts().scope == virtflow_model::Scope::System {
        command
    } else {
        command.arg(tenant())
    }
}

fn tenant() -> Arg {
    option("tenant", "TENANT", "Tenant, where a name is in several")
}

/// A verb on one object of a kind whose names are within tenants.
pub(crate) fn verb(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).arg(target()).arg(tenant())
}

/// `--wait` and what goes with it.
pub(crate) fn waiting(command: Command) -> Command {
    command
        .arg(switch("wait", "Wait until it is done"))
        .arg(switch("no-wait", "Do not wait; the default").conflicts_with("wait"))
        .arg(
            option("timeout", "SPAN", "How long to wait")
                .default_value(WAIT_DEFAULT)
                .value_parser(crate::amount::span),
        )
}

/// `--idempotency-key`.
pub(crate) fn writing(command: Command) -> Command {
    command.arg(
        option(
            "idempotency-key",
            "KEY",
            "Makes repeated commands one; made up if left out",
        )
        .value_parser(|text: &str| {
            if virtflow_client::Call::is_key(text) {
                Ok(text.to_owned())
            } else {
                Err("a key is 1 to 128 visible ASCII characters")
            }
        }),
    )
}

fn if_match() -> Arg {
    option(
        "if-match",
        "GENERATION",
        "Only if it still is of this generation",
    )
    .value_parser(clap::value_parser!(u64))
}

fn rows() -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser as _;
    clap::builder::RangedU64ValueParser::<u64>::new()
        .range(1..=ROWS_MAX as u64)
        .map(|n| usize::try_from(n).unwrap_or(ROWS_DEFAULT))
}

#[cfg(test)]
mod tests;
