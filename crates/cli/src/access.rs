//! Who may do something, why somebody may or may not, and what a change of roles would do to people's rights.

use serde_json::Value;
use virtflow_client::{Call, Method};
use virtflow_model::Permission;

use crate::failure::Failure;
use crate::grammar::{AuthCommand, OnWhat};
use crate::run::{Cluster, Run};
use crate::safe;
use crate::table::of_cells;

/// Rows of one page.
const PAGE: usize = 1000;

pub(crate) async fn run(
    run: &Run,
    cluster: &Cluster,
    command: &AuthCommand,
) -> Result<(), Failure> {
    match command {
        AuthCommand::WhoCan { what, limit } => who_can(run, cluster, what, *limit).await,
        AuthCommand::Explain { what, user } => {
            let call = question(what, "explain")?.query_if("user", user.as_deref());
            let data = cluster.client.send(&call).await?.data;
            run.output.data(&data, explained)
        }
        AuthCommand::CanI(asked) => crate::account::can_i(run, cluster, asked).await,
    }
}

fn question(what: &OnWhat, route: &str) -> Result<Call, Failure> {
    let permission = Permission::parse(&format!("{}.{}", what.kind.replace('-', "_"), what.action));
    let permission = permission.ok_or_else(|| {
        Failure::usage(format!(
            "`{} {}` is nothing that can be allowed",
            what.action, what.kind
        ))
        .advise("ACTION and KIND, as in `delete vm`; `virtflow role catalogue` lists them")
    })?;
    Ok(Call::new(Method::Get, &["auth", route])?
        .query("action", permission.action.name())
        .query("kind", permission.kind.name())
        .query_if("object", what.object.as_deref())
        .query_if("tenant", what.tenant.as_deref()))
}

async fn who_can(run: &Run, cluster: &Cluster, what: &OnWhat, limit: usize) -> Result<(), Failure> {
    let (mut whole, mut cursor): (Option<Value>, Option<String>) = (None, None);
    loop {
        let has = whole.as_ref().map_or(0, count);
        let call = question(what, "who-can")?
            .query("limit", (limit - has).min(PAGE).to_string())
            .query_if("cursor", cursor.as_deref());
        let answer = cluster.client.send(&call).await?;
        cursor = answer.next_cursor;
        let all = match whole {
            None => answer.data,
            Some(mut before) => {
                let more = answer.data["subjects"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                if let Some(subjects) = before["subjects"].as_array_mut() {
                    subjects.extend(more);
                }
                before
            }
        };
        let enough = count(&all) >= limit;
        whole = Some(all);
        if cursor.is_none() || enough {
            break;
        }
    }
    let whole = whole.unwrap_or_default();
    run.output.data(&whole, who_can_text)?;
    if cursor.is_some() {
        run.output.warn(&format!(
            "{} shown, there are more: raise --limit",
            count(&whole)
        ));
    }
    if whole["is_whole"] == false {
        run.output.remark(
            "bindings over the whole system are not shown: you may not read them, and they may allow it to others",
        );
    }
    Ok(())
}

fn count(data: &Value) -> usize {
    data["subjects"].as_array().map_or(0, Vec::len)
}

/// `tenant acme`, or `the whole system`.
fn called(named: &Value) -> String {
    let text = |field: &str| named[field].as_str().unwrap_or_default();
    match text("kind") {
        "system" => "the whole system".into(),
        kind if text("name").is_empty() => format!("{kind} {}", text("id")),
        kind => format!("{kind} {}", text("name")),
    }
}

fn name(named: &Value) -> String {
    let text = |field: &str| named[field].as_str().filter(|text| !text.is_empty());
    text("name")
        .or_else(|| text("id"))
        .unwrap_or("-")
        .to_owned()
}

fn who_can_text(data: &Value) -> String {
    let mut rows = Vec::new();
    for subject in data["subjects"].as_array().into_iter().flatten() {
        let user = &subject["user"];
        let who = if user.is_null() {
            let members = subject["members"].as_array().into_iter().flatten();
            let members: Vec<String> = members.map(name).collect();
            let more = if subject["has_more_members"] == true {
                ", …"
            } else {
                ""
            };
            format!(
                "group {}: {}{more}",
                name(&subject["group"]),
                members.join(", ")
            )
        } else {
            let state = subject["user_is"].as_str();
            state.map_or_else(|| name(user), |state| format!("{} ({state})", name(user)))
        };
        rows.push(vec![who, name(&subject["role"]), called(&subject["scope"])]);
    }
    for also in data["also"].as_array().into_iter().flatten() {
        let who = match also["how"].as_str() {
            Some("own") => format!("{}, whose own it is", name(&also["user"])),
            _ => "every user of that tenant".into(),
        };
        rows.push(vec![who, "-".into(), "-".into()]);
    }
    of_cells(&["WHO", "ROLE", "OVER"], &rows)
}

fn explained(data: &Value) -> String {
    let who = name(&data["user"]);
    let permission = data["permission"].as_str().unwrap_or_default();
    let on = match &data["object"] {
        Value::Null => String::new(),
        object => format!(" on {}", called(object)),
    };
    let mut lines = vec![match data["decision"].as_str() {
        Some("allowed") => format!("yes: {who} may {permission}{on}"),
        Some("forbidden") => format!("no: {who} sees it and may not {permission}{on}"),
        _ => format!("no: {who} may not {permission}{on}, and does not see it"),
    }];
    for by in data["by"].as_array().into_iter().flatten() {
        lines.push(match by["how"].as_str() {
            Some("own") => "by: it is their own".into(),
            Some("home") => "by: it is their own tenant".into(),
            _ => {
                let group = match &by["group"] {
                    Value::Null => String::new(),
                    group => format!(", as a member of {}", called(group)),
                };
                format!(
                    "by: role {} over {}{group}",
                    name(&by["role"]),
                    called(&by["scope"])
                )
            }
        });
    }
    if data["by_not_shown"].as_u64().unwrap_or_default() > 0 {
        lines.push(format!(
            "by: {} bindings that you may not read",
            data["by_not_shown"]
        ));
    }
    if data["cut_by_token"] == true {
        lines.push("but: the token in use is narrowed and does not have it".into());
    }
    if let Some(state) = data["user_is"].as_str() {
        lines.push(format!("but: {who} is {state} and can do nothing"));
    }
    if data["decision"] != "allowed" {
        let list = |field: &str, of: fn(&Value) -> String| {
            let all = data[field].as_array().into_iter().flatten();
            all.map(of).collect::<Vec<_>>().join(", ")
        };
        lines.push(format!(
            "missing: one of the roles {}",
            list("would_do", name)
        ));
        lines.push(format!("over one of: {}", list("looked_at", called)));
    }
    let lines: Vec<String> = lines.iter().map(|line| safe::line(line)).collect();
    lines.join("\n")
}

/// Who would gain and lose what by a change that was only tried.
pub(crate) fn effect(access: &Value) -> String {
    let mut rows = Vec::new();
    for (field, word) in [("gains", "gains"), ("losses", "loses")] {
        for one in access[field].as_array().into_iter().flatten() {
            let permissions = one["permissions"].as_array().into_iter().flatten();
            let mut told: Vec<&str> = permissions.filter_map(Value::as_str).collect();
            let left = one["permissions_not_told"].as_u64().unwrap_or_default();
            let left = format!("and {left} more");
            if one["permissions_not_told"] != 0 {
                told.push(&left);
            }
            rows.push(vec![
                name(&one["user"]),
                word.to_owned(),
                called(&one["scope"]),
                told.join(" "),
            ]);
        }
    }
    let mut text = if rows.is_empty() {
        "nobody gains or loses anything".to_owned()
    } else {
        of_cells(&["WHO", "", "OVER", "WHAT"], &rows)
    };
    if access["is_whole"] == false {
        text.push_str("\nnot everybody is told: there are more, or some that you do not see");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tenant() -> Value {
        json!({"kind": "tenant", "id": "1", "name": "acme"})
    }

    #[test]
    fn why_not_says_what_is_missing_and_where() {
        let data = json!({
            "permission": "virtual_machine.delete", "decision": "forbidden", "by": [], "by_not_shown": 0,
            "cut_by_token": false, "user": {"kind": "user", "id": "2", "name": "vera"},
            "object": {"kind": "virtual_machine", "id": "3", "name": "web-1"},
            "looked_at": [{"kind": "virtual_machine", "id": "3", "name": "web-1"}, tenant(), {"kind": "system"}],
            "would_do": [{"kind": "role", "id": "4", "name": "developer"}],
        });
        assert_eq!(
            explained(&data),
            "\
no: vera sees it and may not virtual_machine.delete on virtual_machine web-1
missing: one of the roles developer
over one of: virtual_machine web-1, tenant acme, the whole system"
        );
    }

    #[test]
    fn why_so_says_by_which_role_and_group() {
        let data = json!({
            "permission": "virtual_machine.read", "decision": "allowed", "by_not_shown": 0, "cut_by_token": false,
            "by": [{"how": "binding", "role": {"name": "user"}, "scope": tenant(),
                    "group": {"kind": "user_group", "name": "lab"}}],
            "user": {"name": "carol"}, "object": null, "looked_at": [],
        });
        assert_eq!(
            explained(&data),
            "\
yes: carol may virtual_machine.read
by: role user over tenant acme, as a member of user_group lab"
        );
    }

    #[test]
    fn everybody_who_may_with_the_role_that_lets_them() {
        let data = json!({
            "subjects": [
                {"user": {"name": "anna"}, "role": {"name": "tenant_admin"}, "scope": tenant()},
                {"user": null, "group": {"name": "lab"}, "members": [{"name": "carol"}], "has_more_members": true,
                 "role": {"name": "user"}, "scope": {"kind": "system"}},
            ],
            "also": [{"how": "own", "user": {"name": "dave"}}],
        });
        assert_eq!(
            who_can_text(&data),
            "\
WHO                    ROLE          OVER
anna                   tenant_admin  tenant acme
group lab: carol, …    user          the whole system
dave, whose own it is  -             -"
        );
    }

    #[test]
    fn what_a_change_would_do() {
        let access = json!({
            "gains": [{"user": {"name": "carol"}, "scope": tenant(), "permissions": ["user.*"],
                       "permissions_not_told": 0}],
            "losses": [{"user": {"name": "dave"}, "scope": {"kind": "system"}, "permissions": ["rack.read"],
                        "permissions_not_told": 2}],
            "is_whole": false,
        });
        assert_eq!(
            effect(&access),
            "\
WHO           OVER              WHAT
carol  gains  tenant acme       user.*
dave   loses  the whole system  rack.read and 2 more
not everybody is told: there are more, or some that you do not see"
        );
        let none = json!({"gains": [], "losses": [], "is_whole": true});
        assert_eq!(effect(&none), "nobody gains or loses anything");
    }
}
