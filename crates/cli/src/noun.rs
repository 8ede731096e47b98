//! What the command line knows of a kind: its word, its verbs, its flags, its columns.

use virtflow_model::{By, Filter, Kind, PerKind, Resource, Scope};

/// A kind as a command.
#[derive(Debug)]
pub(crate) struct Noun {
    pub(crate) kind: Kind,
    /// The command's word.
    pub(crate) word: &'static str,
    /// One line.
    pub(crate) about: &'static str,
    /// What can be done to it in the way that is the same for all kinds.
    pub(crate) verbs: &'static [Verb],
    /// What can be said when it is made or changed.
    pub(crate) flags: &'static [Flag],
    /// Columns of its table, after name and id.
    pub(crate) columns: &'static [Column],
}

/// The ways that all kinds share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    List,
    Get,
    Describe,
    Create,
    Update,
    Delete,
}

/// A typed flag and the field of the spec it sets.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    /// Path within the spec, by dots.
    pub(crate) path: &'static str,
    pub(crate) form: Form,
    pub(crate) help: &'static str,
    /// It cannot be changed later.
    pub(crate) is_for_life: bool,
}

/// How a flag's text becomes JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is.
    Text,
    /// A whole number.
    Count,
    /// `4GiB`, as MiB.
    Mib,
    /// `50GiB`, as GiB.
    Gib,
    /// `12.5`, as a number.
    Percent,
    /// `400`, a whole percentage.
    WholePercent,
    /// `30s`, as seconds.
    Seconds,
    /// `15m` from now, as a moment.
    Expiry,
    /// One of these words; a hyphen is an underscore in the API.
    Word(&'static [&'static str]),
    /// One of these words, which the API writes as they are here.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Truth,
    /// `key=value`, several times, as an object.
    Pairs,
    /// Several times, as a list.
    Texts,
}

/// A column of a table.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) head: &'static str,
    /// JSON pointers; the first that is there counts.
    pub(crate) at: &'static [&'static str],
    pub(crate) show: Show,
}

/// How a value is shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    Plain,
    /// MiB as the largest whole unit.
    Mib,
    /// GiB, likewise.
    Gib,
    /// Thousandths of a CPU.
    CpuMilli,
    Percent,
    /// Seconds as a span.
    Seconds,
    /// A moment, as the time since then.
    Age,
    /// A moment, as the time until then.
    Until,
    /// How many items it has; none means that nothing is left out.
    Length,
}

/// A flag for making and changing.
pub(crate) const fn flag(
    long: &'static str,
    path: &'static str,
    form: Form,
    help: &'static str,
) -> Flag {
    Flag {
        long,
        path,
        form,
        help,
        is_for_life: false,
    }
}

impl Flag {
    /// It cannot be changed later.
    pub(crate) const fn for_life(mut self) -> Self {
        self.is_for_life = true;
        self
    }
}

/// A column.
pub(crate) const fn column(head: &'static str, at: &'static [&'static str], show: Show) -> Column {
    Column { head, at, show }
}

/// What every list takes, and every command; and every deletion, which is narrowed as lists are.
const LIST_TAKES: &[&str] = &[
    "name",
    "tenant",
    "limit",
    "deleted",
    "fields",
    "selector",
    "sort",
    "search",
    "at",
    "output",
    "context",
    "help",
    "watch",
    "timeout",
    "wait",
    "no-wait",
    "force",
    "dry-run",
    "if-match",
    "all-or-none",
    "idempotency-key",
    "yes",
];

/// An option that narrows a list.
#[derive(Debug)]
pub(crate) struct ListOption {
    /// The API's parameter.
    pub(crate) name: &'static str,
    /// What the grammar knows it by: a flag may have the parameter's name.
    pub(crate) id: String,
    pub(crate) long: String,
    pub(crate) help: String,
    /// Its letter, if it has one.
    pub(crate) short: Option<char>,
    /// Its value is a word, in which a hyphen is an underscore in the API.
    pub(crate) is_word: bool,
}

/// What the model says of a kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) is_named: bool,
    pub(crate) scope: Scope,
}

impl Noun {
    /// What the model says of it.
    pub(crate) fn facts(&self) -> Facts {
        struct Ask;
        impl PerKind for Ask {
            type Out = Facts;
            fn run<R: Resource>(self) -> Facts {
                Facts {
                    is_named: R::NAMED,
                    scope: R::SCOPE,
                }
            }
        }
        self.kind.dispatch(Ask)
    }

    /// The options of its list, besides `--name` and `--tenant`.
    pub(crate) fn list_options(&self) -> Vec<ListOption> {
        let filters = self.kind.filters().iter();
        filters
            // What a parent is called is said by the reference to it.
            .filter(|filter| filter.name != "parent" || self.kind.rules().parent().is_none())
            .filter(|filter| !matches!(filter.name, "name" | "tenant"))
            .map(|filter| self.list_option(filter))
            .collect()
    }

    fn list_option(&self, filter: &'static Filter) -> ListOption {
        let words = filter.name.replace('_', " ");
        let hyphens = filter.name.replace('_', "-");
        let by_flag = self.flags.iter().find(|flag| flag.path == filter.name);
        let long = match (by_flag, filter.by, filter.name) {
            // The flag of the field gives labels one by one.
            (_, By::Labels, _) => "selector".to_owned(),
            (Some(flag), ..) => flag.long.to_owned(),
            (None, By::Object(Kind::User), "parent") => "user".to_owned(),
            (None, ..) if LIST_TAKES.contains(&hyphens.as_str()) => format!("of-{hyphens}"),
            (None, ..) => hyphens,
        };
        let help = match (filter.by, filter.name) {
            (By::Object(_), "host") => "Those on this host".to_owned(),
            (By::Object(Kind::User), "parent" | "subject") => "Those of this user".to_owned(),
            (By::Object(_), "group") => "Those in this group".to_owned(),
            (By::Object(_), _) => format!("Those with this {words}, by name or id"),
            (By::Label, _) => "Those with this label, key=value".to_owned(),
            (By::Labels, _) => {
                "Those whose labels are such: env=prod,tier!=db,backup,!draft".to_owned()
            }
            (By::Any, _) => "Those of this object: kind/name, or an id".to_owned(),
            (By::Word | By::Text | By::Name, "phase" | "state" | "scope") => {
                format!("Those in this {words}")
            }
            (By::Word | By::Text | By::Name, _) => format!("Those of this {words}"),
        };
        ListOption {
            name: filter.name,
            id: format!("by-{}", filter.name),
            is_word: filter.by == By::Word,
            short: (filter.by == By::Labels).then_some('l'),
            long,
            help,
        }
    }

    /// True if its list knows this parameter.
    pub(crate) fn is_listed_by(&self, name: &str) -> bool {
        self.kind.filters().iter().any(|filter| filter.name == name)
    }

    /// The path of its collection.
    pub(crate) fn collection(&self) -> &'static str {
        self.kind.plural()
    }
}
