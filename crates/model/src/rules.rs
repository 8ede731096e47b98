//! What is declared of a kind beside its types. What all kinds have in common, its routes, checks of
//! references, rights of owners and deletion, follows from here.

use crate::Kind;
use crate::permission::Action;

/// What holds for all objects of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// What it is, in one line for people.
    pub about: &'static str,
    /// What its spec names.
    pub references: &'static [Reference],
    /// The object of whatever kind that its spec names beside those.
    pub anything: Option<Anything>,
    /// How people make one.
    pub create: ByPeople,
    /// How people change its spec.
    pub update: ByPeople,
    /// How people remove one.
    pub delete: ByPeople,
    /// Readable by whoever may read its kind anywhere.
    pub shared: bool,
    /// Whose own it is.
    pub owner: Owner,
    /// What an owner may do to it, whatever their roles.
    pub own: &'static [Action],
    /// It is changed and removed also while its tenant may only be read: whoever looks after a suspended tenant
    /// looks after who has rights in it.
    pub while_suspended: bool,
    /// The field of its spec that tells apart objects of one name in one place; none has to be given.
    pub told_apart: Option<&'static str>,
    /// It goes when its parent goes; otherwise the parent cannot go before it.
    pub cascades: bool,
}

impl Rules {
    /// A kind that people make, change and remove without more rules than its own validation.
    pub const fn plain(about: &'static str) -> Self {
        Self {
            about,
            references: &[],
            anything: None,
            create: ByPeople::Plainly,
            update: ByPeople::Plainly,
            delete: ByPeople::Plainly,
            shared: false,
            owner: Owner::Nobody,
            own: &[],
            while_suspended: false,
            told_apart: None,
            cascades: false,
        }
    }

    /// The reference to the parent, for kinds that live under another object.
    pub fn parent(&self) -> Option<&'static Reference> {
        self.references
            .iter()
            .find(|reference| reference.tie == Tie::Parent)
    }
}

/// How people do something to objects of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByPeople {
    /// By the call that all kinds share.
    Plainly,
    /// By that call, which goes to a verb of the kind's own.
    ByVerb,
    /// Not at all; what to do instead.
    Never(&'static str),
}

/// An object that a spec names: by name as `field`, by id as `field_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// The field for names.
    pub field: &'static str,
    /// What is named.
    pub kind: Kind,
    /// What being named means.
    pub tie: Tie,
}

/// An object of any kind that a spec names: as `kind/name` or by id as `field`, by id as `field_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anything {
    /// The field for names.
    pub field: &'static str,
    /// `system` stands for no object, where that is meant.
    pub or_system: bool,
}

/// What a reference means beside being one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// Nothing more.
    Loose,
    /// Rights over what is named reach the object.
    Within,
    /// The object lives under what is named: its tenant is the parent's, its name is unique there,
    /// rights over the parent reach it, and it stays there for life.
    Parent,
}

impl Reference {
    /// A reference without consequences for rights.
    pub const fn to(field: &'static str, kind: Kind) -> Self {
        Self {
            field,
            kind,
            tie: Tie::Loose,
        }
    }
    /// A reference to something whose rights reach the object.
    pub const fn within(field: &'static str, kind: Kind) -> Self {
        Self {
            field,
            kind,
            tie: Tie::Within,
        }
    }
    /// The reference to the parent.
    pub const fn under(field: &'static str, kind: Kind) -> Self {
        Self {
            field,
            kind,
            tie: Tie::Parent,
        }
    }
}

/// The user whose own an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Nobody's.
    Nobody,
    /// It is a user.
    Itself,
    /// The user it lives under.
    Parent,
    /// Who made it.
    Creator,
    /// The user that this field of its spec names by id.
    Named(&'static str),
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use virtflow_types::ObjectId;

    use super::*;
    use crate::{Meta, PerKind, Resource, Stamps};

    /// The spec of a kind's example with every reference set, and what it then links to.
    struct Linked(Vec<(String, ObjectId)>);

    impl PerKind for Linked {
        type Out = Vec<ObjectId>;
        fn run<R: Resource>(self) -> Vec<ObjectId> {
            let mut spec: Value = json!(R::example());
            for (field, id) in self.0 {
                spec[field] = json!(id);
            }
            let spec: R::Spec = serde_json::from_value(spec).unwrap();
            let meta = Meta {
                id: ObjectId::from_u128(1),
                name: "x".into(),
                tenant: None,
                parent: None,
                generation: 1,
                version: 1,
                closed: false,
                stamps: Stamps::default(),
            };
            R::footprint(&meta, &spec, &R::Status::default())
                .links
                .to_vec()
        }
    }

    /// Rights find by links what an object lies within.
    #[test]
    fn what_an_object_lies_within_is_linked() {
        for kind in Kind::ALL {
            let ids = (100_u128..).map(ObjectId::from_u128);
            let references: Vec<_> = kind
                .rules()
                .references
                .iter()
                .filter(|reference| reference.tie != Tie::Parent)
                .zip(ids)
                .collect();
            let fields = references
                .iter()
                .map(|(reference, id)| (format!("{}_id", reference.field), *id));
            let links = kind.dispatch(Linked(fields.collect()));
            for (reference, id) in references {
                if reference.tie == Tie::Within {
                    assert!(links.contains(&id), "{}: {}", kind.name(), reference.field);
                }
            }
        }
    }

    #[test]
    fn a_kind_has_at_most_one_parent_and_a_line_for_people() {
        for kind in Kind::ALL {
            let rules = kind.rules();
            let parents = rules.references.iter().filter(|r| r.tie == Tie::Parent);
            assert!(parents.count() <= 1, "{}", kind.name());
            assert!(
                !rules.about.is_empty() && rules.about.len() < 100,
                "{}",
                kind.name()
            );
            assert!(
                !rules.cascades || rules.parent().is_some(),
                "{}",
                kind.name()
            );
        }
    }
}
