//! Lists in an order of the asker's, or of what holds their words: SQL finds, the newest image decides.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use virtflow_logic::{self as logic, ListQuery, Plan, PlanOrder, ViewPart};
use virtflow_model::Kind;
use virtflow_shadow::{Condition, Order, Part, Search, SortValue, StoreError, Word};
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::Api;
use super::envelope::Answer;
use super::kinds::{Answered, all_chosen, fields_of};
use super::request::Call;
use super::sql;

/// The parameter that names an order.
pub(crate) const SORT: &str = "sort";
/// The parameter with words to search for.
pub(crate) const TEXT: &str = "q";
/// What cannot be read when it cannot.
const WHAT: &str = "the search";
/// How long SQL may take for one page.
const WITHIN: Duration = Duration::from_secs(2);
/// Objects that are looked at for one page.
const LOOKED_MAX: usize = 10_000;

/// Whether a list has to be found with SQL.
pub(crate) fn is_asked(call: &Call) -> bool {
    [SORT, TEXT]
        .iter()
        .any(|name| call.query.get(name).is_some())
}

/// One page.
pub(crate) async fn page(api: &Api, call: &Call, kind: Kind, query: &ListQuery) -> Answered {
    let fields = fields_of(call, kind)?;
    let (sort, text) = (call.query.get(SORT), call.query.get(TEXT));
    let cx = call.cx()?;
    let plan = logic::Search::open(call.image()?, &cx, query, sort, text)?.plan()?;
    sql::caught_up(api, call.image()?, WHAT).await?;
    let until = Instant::now() + WITHIN;
    let mut wanted = search_of(kind, &plan);
    let mut page = Page::default();
    // One more than fits on the page: only what the asker sees tells them that there is more.
    let full = query.limit + 1;
    let (mut looked, mut index) = (0, None);
    loop {
        let left = if looked == 0 {
            full
        } else {
            LOOKED_MAX - looked
        };
        wanted.limit = u32::try_from(left).unwrap_or(u32::MAX);
        wanted.within = until.saturating_duration_since(Instant::now());
        let found = api.app().shadow().search(&wanted).await.map_err(unread)?;
        index.get_or_insert(found.index);
        // Newer than what was found, and so are the rights.
        let image = api.app().node().image();
        let search = logic::Search::open(&image, &cx, query, sort, text)?;
        looked += found.rows.len();
        wanted.after = found.rows.last().map(|(id, value)| (value.clone(), *id));
        for (id, value) in found.rows {
            if page.objects.len() == full {
                break;
            }
            if let Some(object) = search.show(id) {
                page.objects.push(object);
                page.places.push((value_of(&value), id));
            }
        }
        let is_full = page.objects.len() == full;
        if is_full || (looked >= LOOKED_MAX && found.has_more && !page.objects.is_empty()) {
            page.objects.truncate(query.limit);
            let last = page.places.get(page.objects.len().saturating_sub(1));
            page.next = last.map(|(value, id)| search.cursor(value, *id));
            break;
        }
        if !found.has_more {
            break;
        }
        if looked >= LOOKED_MAX {
            return Err(too_much().into());
        }
    }
    let objects = all_chosen(fields.as_ref(), page.objects);
    Ok(Answer::ok(index.unwrap_or_default(), objects.into()).next(page.next))
}

#[derive(Debug, Default)]
struct Page {
    objects: Vec<Value>,
    /// Where each of them stands in the order.
    places: Vec<(Value, ObjectId)>,
    next: Option<String>,
}

fn too_much() -> Error {
    Error::new(
        ErrorCode::LimitExceeded,
        format!("nothing was found among the {LOOKED_MAX} objects that one page looks at"),
    )
    .advise("narrow the list: by name, tenant, labels or what the objects refer to")
}

fn unread(error: StoreError) -> Error {
    match error {
        StoreError::TooLong { .. } => Error::new(
            ErrorCode::LimitExceeded,
            format!(
                "the search was ended: it takes longer than {} s",
                WITHIN.as_secs()
            ),
        )
        .advise("narrow the list, or sort it by created_at or name"),
        other => sql::unavailable(WHAT, other),
    }
}

fn search_of(kind: Kind, plan: &Plan) -> Search {
    let conditions = plan.conditions.iter().map(|(places, value)| Condition {
        places: places
            .iter()
            .map(|(part, path)| (part_of(*part), path.clone()))
            .collect(),
        value: value.clone(),
    });
    let words = plan.words.iter().map(|(plain, in_json)| Word {
        plain: plain.clone(),
        in_json: in_json.clone(),
    });
    Search {
        kind: kind.name().into(),
        tenant: plan.tenant,
        parent: plan.parent,
        name: plan.name.clone(),
        conditions: conditions.collect(),
        words: words.collect(),
        order: match &plan.order {
            PlanOrder::Id => Order::Id,
            PlanOrder::Name => Order::Name,
            PlanOrder::Value(part, path) => Order::Value(part_of(*part), path.clone()),
            PlanOrder::Moment(part, path) => Order::Moment(part_of(*part), path.clone()),
        },
        is_descending: plan.is_descending,
        after: plan
            .after
            .as_ref()
            .map(|(value, id)| (sort_value(value), *id)),
        limit: 0,
        within: WITHIN,
    }
}

fn part_of(part: ViewPart) -> Part {
    match part {
        ViewPart::Spec => Part::Spec,
        ViewPart::Status => Part::Status,
    }
}

fn value_of(value: &SortValue) -> Value {
    match value {
        SortValue::Integer(number) => (*number).into(),
        SortValue::Real(number) => (*number).into(),
        SortValue::Text(text) => text.as_str().into(),
        SortValue::Id => Value::Null,
    }
}

fn sort_value(value: &Value) -> SortValue {
    match value {
        Value::String(text) => SortValue::Text(text.clone()),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => SortValue::Integer(whole),
            None => SortValue::Real(number.as_f64().unwrap_or_default()),
        },
        _ => SortValue::Id,
    }
}
