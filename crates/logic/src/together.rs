//! Many requests in one changeset: all of them are done, or none is.

use std::collections::BTreeMap;

use virtflow_state::{CHANGESET_BYTES_MAX, CHANGESET_OPS_MAX, Changeset, Object, Op, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::cx::Cx;
use crate::decide::decide;
use crate::draft::internal;
use crate::explain::explain_changeset;
use crate::read::public;
use crate::request::{Reply, Request};

/// One of many: who asks with which key and precondition, and what; or why it cannot even be asked.
pub type Item = (Cx, Result<Request, Error>);

/// Decides requests on `state`, each on what those before it make of it, and gives one changeset that does all of them,
/// with their answers in order.
///
/// If any is refused, the changeset has no ops, and the refused ones say why; the others were judged as if those had not
/// been asked for. Fails as a whole if they are too large together, or if the state does not take them together.
pub fn decide_together(
    state: &State,
    cx: &Cx,
    items: &[Item],
) -> Result<(Changeset, Vec<Result<Reply, Error>>), Error> {
    let mut head = state.clone();
    let mut whole = Whole::default();
    let mut replies = Vec::with_capacity(items.len());
    for (cx, request) in items {
        replies.push(match request {
            Ok(request) => one(&mut head, &mut whole, cx, request),
            Err(error) => Err(error.clone()),
        });
    }
    let nothing = Changeset::new(cx.request_id, cx.now, cx.actor());
    if replies.iter().any(Result::is_err) {
        return Ok((nothing, replies));
    }
    let changeset = Changeset {
        ops: whole.ops(state)?,
        ..nothing
    };
    if changeset.ops.is_empty() {
        return Ok((changeset, replies));
    }
    if changeset.ops.len() > CHANGESET_OPS_MAX || changeset.encode().len() > CHANGESET_BYTES_MAX {
        let problem = format!("{} objects are too much to be changed at once", items.len());
        return Err(Error::new(ErrorCode::LimitExceeded, problem)
            .advise("change them in several requests, or not all or none of them"));
    }
    let mut after = state.clone();
    after
        .apply(&changeset)
        .map_err(|refused| explain_changeset(state, &changeset, &refused))?;
    for reply in replies.iter_mut().flatten() {
        show_as_it_will_be(reply, &after);
    }
    Ok((changeset, replies))
}

fn one(head: &mut State, whole: &mut Whole, cx: &Cx, request: &Request) -> Result<Reply, Error> {
    let (changeset, reply) = decide(head, cx, request)?;
    if !changeset.ops.is_empty() {
        head.apply(&changeset)
            .map_err(|refused| explain_changeset(head, &changeset, &refused))?;
        whole.add(changeset.ops);
    }
    Ok(reply)
}

/// What one of them made, a later one may have changed.
fn show_as_it_will_be(reply: &mut Reply, after: &State) {
    let made = reply.object_id.and_then(|id| after.get(id));
    if let (Some(object), true) = (made, reply.object.is_some()) {
        reply.object = Some(public(after, object));
        reply.generation = Some(object.generation);
    }
}

/// The ops of several changesets, of which each was decided on what those before it made.
#[derive(Default)]
struct Whole {
    order: Vec<ObjectId>,
    /// As it is in the end; nothing if it goes.
    rows: BTreeMap<ObjectId, Option<Box<Object>>>,
    /// Records and what was expected of objects that none of them had changed yet.
    rest: Vec<Op>,
}

impl Whole {
    fn add(&mut self, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::Put(object) => self.set(object.id, Some(object)),
                Op::Delete(id, _) => self.set(id, None),
                other => self.rest.push(other),
            }
        }
    }

    fn set(&mut self, id: ObjectId, row: Option<Box<Object>>) {
        if self.rows.insert(id, row).is_none() {
            self.order.push(id);
        }
    }

    /// Each object once, from its version in `state` to what it is in the end.
    fn ops(mut self, state: &State) -> Result<Vec<Op>, Error> {
        let mut ops = Vec::new();
        for id in self.order {
            let before = state.get(id);
            match (before, self.rows.remove(&id).flatten()) {
                (Some(before), None) => ops.push(Op::Delete(id, before.version)),
                (None, None) => {}
                (before, Some(mut row)) => {
                    row.version = before.map_or(0, |before| before.version) + 1;
                    row.generation = match before {
                        Some(before) => before.generation + u64::from(before.spec != row.spec),
                        None => 1,
                    };
                    ops.push(Op::Put(row));
                }
            }
        }
        for op in self.rest {
            match op {
                Op::Record(_) => ops.push(op),
                // A request whose record counts even if it changes nothing, a raise of the version: such go alone.
                _ => {
                    return Err(internal(
                        "what was asked for together has to be asked for alone",
                    ));
                }
            }
        }
        Ok(ops)
    }
}
