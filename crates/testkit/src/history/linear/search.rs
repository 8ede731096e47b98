//! The search for an order of one register's operations.

use std::collections::HashSet;

use crate::history::operation::Call;

/// An operation on the register.
#[derive(Debug, Clone)]
pub(super) struct Event<'a> {
    /// Its place in the list of all operations.
    pub(super) number: usize,
    pub(super) action: Action<'a>,
    pub(super) called: u64,
    /// `None`: it was never answered, so it may come at any time or never.
    pub(super) returned: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Action<'a> {
    Read(Option<&'a str>),
    Write(&'a Call),
    Refused(&'a Call),
}

impl<'a> Action<'a> {
    /// What the register is after it, if it can happen where the register is `value`.
    fn after(self, value: Option<&'a str>) -> Option<Option<&'a str>> {
        match self {
            Self::Read(told) => (told == value).then_some(value),
            Self::Refused(call) => (!call.allowed(value)).then_some(value),
            Self::Write(call) => {
                let (_, written) = call.effect()?;
                call.allowed(value).then_some(written)
            }
        }
    }
}

pub(super) enum Found<'a> {
    Order,
    Nothing {
        explained: usize,
        value: Option<&'a str>,
        stuck: Vec<usize>,
    },
    OutOfSteps,
}

/// What has been done, and what the register is then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State<'a> {
    done: Box<[u64]>,
    value: Option<&'a str>,
}

impl State<'_> {
    fn has(&self, event: usize) -> bool {
        self.done[event / 64] & (1 << (event % 64)) != 0
    }
}

/// A state and which of its continuations are still to be tried.
struct Frame<'a> {
    state: State<'a>,
    explained: usize,
    next: Vec<usize>,
}

/// `events` in the order of their calls.
pub(super) fn search<'a>(
    events: &[Event<'a>],
    first: Option<&'a str>,
    steps_max: u64,
) -> Found<'a> {
    let answered = events.iter().filter(|event| event.returned.is_some());
    let answered = answered.count();
    let state = State {
        done: vec![0; events.len().div_ceil(64)].into(),
        value: first,
    };
    let mut seen = HashSet::from([state.clone()]);
    let mut best = (0, state.clone());
    let mut stack = vec![Frame {
        next: continuations(events, &state),
        state,
        explained: 0,
    }];
    let mut steps = 0;
    while let Some(frame) = stack.last_mut() {
        if frame.explained == answered {
            return Found::Order;
        }
        let Some(event) = frame.next.pop() else {
            stack.pop();
            continue;
        };
        if steps == steps_max {
            return Found::OutOfSteps;
        }
        steps += 1;
        let Some(value) = events[event].action.after(frame.state.value) else {
            continue;
        };
        let mut state = frame.state.clone();
        state.done[event / 64] |= 1 << (event % 64);
        state.value = value;
        let explained = frame.explained + usize::from(events[event].returned.is_some());
        if !seen.insert(state.clone()) {
            continue;
        }
        if explained > best.0 {
            best = (explained, state.clone());
        }
        stack.push(Frame {
            next: continuations(events, &state),
            state,
            explained,
        });
    }
    let (explained, state) = best;
    let stuck = continuations(events, &state).into_iter().rev();
    let stuck = stuck.filter(|&event| events[event].returned.is_some());
    Found::Nothing {
        explained,
        value: state.value,
        stuck: stuck.map(|event| events[event].number).collect(),
    }
}

/// What can come next: whatever was called before the first outstanding answer came. The last is to be
/// tried first: answered operations by their answers, and what need not happen only after them.
fn continuations(events: &[Event<'_>], state: &State<'_>) -> Vec<usize> {
    let outstanding = |(number, _): &(usize, &Event<'_>)| !state.has(*number);
    let returns = events.iter().enumerate().filter(outstanding);
    let first_answer = returns.filter_map(|(_, event)| event.returned).min();
    let called_before = |(_, event): &(usize, &Event<'_>)| {
        first_answer.is_some_and(|returned| event.called <= returned)
    };
    let next = events.iter().enumerate().take_while(called_before);
    let mut next: Vec<usize> = next.filter(outstanding).map(|(number, _)| number).collect();
    next.sort_by_key(|&number| {
        let returned = events[number].returned;
        std::cmp::Reverse((returned.is_none(), returned, number))
    });
    next
}
