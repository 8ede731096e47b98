//! Logging in and out, who one is, and the contexts that keep it.

use std::fs;

use serde_json::{Value, json};
use virtflow_client::{
    Call, Client, ClientError, ClusterCa, Credentials, Endpoint, Limits, Method, TrustError,
    learned,
};
use virtflow_model::Permission;

use crate::contexts::{Context, Store};
use crate::failure::Failure;
use crate::grammar::{CanI, ContextCommand, Login};
use crate::run::{Cluster, Run, no_context};
use crate::table::of_cells;
use crate::{interrupt, safe, secret};

/// Largest CA file, in bytes.
const CA_BYTES_MAX: u64 = 64 * 1024;

/// Logs in, keeps the session in a context, and makes that the current one.
pub(crate) async fn log_in(run: &Run, login: &Login) -> Result<(), Failure> {
    let endpoints = login
        .endpoint
        .iter()
        .map(|text| text.trim().parse())
        .collect::<Result<Vec<Endpoint>, _>>()
        .map_err(|error| Failure::usage(error.to_string()))?;
    let store = Store::from_env()?;
    // A file that is refused should be so before a session is made that nobody keeps.
    store.load()?;
    let ca = ca_of(login, &endpoints).await?;
    let password = secret::password(
        login.password_file.as_deref(),
        &format!("Password of {}", login.user),
        false,
    )?;
    let client = Client::new(&ca, endpoints.clone(), Credentials::None, Limits::default())?;
    interrupt::follows(client.journal());
    let device = format!("virtflow on {}", machine_name());
    let (session, data) = client.log_in(&login.user, &password, &device).await?;
    let name = match &run.named {
        Some(name) => name.clone(),
        None => format!(
            "{}@{}",
            login.user,
            endpoints.first().map_or("", Endpoint::host)
        ),
    };
    let context = Context {
        endpoints,
        learned: learned(&data),
        preferred: client.endpoints().into_iter().next(),
        learned_at: Some(run.now),
        ca: ca.pem(),
        user: Some(login.user.clone()),
        token: None,
        session: Some(session),
    };
    let shown = shown(&name, &context, true);
    store.change(|contexts| {
        contexts.contexts.insert(name.clone(), context);
        contexts.current = Some(name.clone());
        Ok(())
    })?;
    run.output.data(&shown, |_| {
        safe::line(&format!(
            "logged in as {}; the context `{name}` is in use",
            login.user
        ))
    })
}

/// The CA from a file, or from the first controller that shows one with the right fingerprint.
async fn ca_of(login: &Login, endpoints: &[Endpoint]) -> Result<ClusterCa, Failure> {
    if let Some(path) = &login.ca {
        let pem = secret::read_text(path, CA_BYTES_MAX)?;
        return ClusterCa::from_pem(&pem).map_err(|error| trust(error, path));
    }
    let fingerprint = login.ca_fingerprint.as_deref().unwrap_or_default();
    let mut last = None;
    for endpoint in endpoints {
        match ClusterCa::fetch(endpoint, fingerprint).await {
            Ok(ca) => return Ok(ca),
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        Some(error) => trust(error, "--ca-fingerprint"),
        None => Failure::usage("no endpoint was given"),
    })
}

fn trust(error: TrustError, given: &str) -> Failure {
    let mut failure = Failure::from(ClientError::Trust(error));
    failure.message = format!("{given}: {}", failure.message);
    failure.advise("check the address, and the fingerprint that `virtflow-controller init` printed")
}

fn machine_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "an unnamed machine".into(),
        name => name.chars().take(64).collect(),
    }
}

/// Ends the session at the cluster and takes it out of the context. A session that has ended already
/// is taken out all the same.
pub(crate) async fn log_out(run: &Run, cluster: &Cluster) -> Result<(), Failure> {
    if cluster.context.session.is_none() {
        return Err(
            Failure::usage(format!("the context `{}` has no session", cluster.name))
                .advise("a token is revoked with `virtflow token delete`"),
        );
    }
    let call = Call::new(Method::Post, &["auth", "logout"])?.body(json!({}));
    match cluster.client.send(&call).await {
        Ok(_) => {}
        Err(error) if error.code() == virtflow_types::ErrorCode::Unauthenticated => {}
        Err(error) => return Err(error.into()),
    }
    cluster.store.change(|contexts| {
        if let Some(context) = contexts.contexts.get_mut(&cluster.name) {
            context.session = None;
        }
        Ok(())
    })?;
    run.output.data(
        &json!({"context": cluster.name, "logged_in": false}),
        |_| safe::line(&format!("logged out of the context `{}`", cluster.name)),
    )
}

pub(crate) async fn whoami(run: &Run, cluster: &Cluster) -> Result<(), Failure> {
    let call = Call::new(Method::Get, &["auth", "whoami"])?;
    let data = cluster.client.send(&call).await?.data;
    run.output.data(&data, |data| {
        let text = |pointer| data.pointer(pointer).and_then(Value::as_str).unwrap_or("-");
        let mut lines = vec![
            format!("user: {}", text("/user/name")),
            format!("tenant: {}", text("/user/names/tenant")),
            format!("by: {}", text("/via")),
            format!("context: {}", cluster.name),
        ];
        for role in data["roles"].as_array().into_iter().flatten() {
            let text = |name: &str| role[name].as_str().unwrap_or("-");
            lines.push(match text("scope_kind") {
                "system" => format!("role: {}, over the whole system", text("role")),
                kind => format!("role: {}, over {kind} {}", text("role"), text("scope")),
            });
        }
        let lines: Vec<String> = lines.iter().map(|line| safe::line(line)).collect();
        lines.join("\n")
    })
}

/// Exits with 0 if it is allowed, with 3 if not.
pub(crate) async fn can_i(run: &Run, cluster: &Cluster, asked: &CanI) -> Result<(), Failure> {
    let permission = Permission::parse(&asked.permission).ok_or_else(|| {
        Failure::usage(format!("`{}` is no permission", asked.permission))
            .advise("`virtflow role catalogue` lists them")
    })?;
    let mut body = json!({ "permission": permission.to_string() });
    if let Some(target) = &asked.target {
        body["kind"] = permission.kind.name().into();
        body["id"] = target.as_str().into();
    }
    if let Some(tenant) = &asked.tenant {
        body["tenant"] = tenant.as_str().into();
    }
    let call = Call::new(Method::Post, &["auth", "can-i"])?
        .question()
        .body(body);
    let data = cluster.client.send(&call).await?.data;
    if data["allowed"] == true {
        return run.output.data(&data, |_| "yes".into());
    }
    Err(Failure::new(
        crate::failure::exit::DENIED,
        "forbidden",
        format!("no, you may not {permission} there"),
    ))
}

pub(crate) fn context(run: &Run, command: &ContextCommand) -> Result<(), Failure> {
    let store = Store::from_env()?;
    match command {
        ContextCommand::List => {
            let contexts = store.load()?;
            let current = contexts.current.as_deref();
            let all: Vec<Value> = contexts
                .contexts
                .iter()
                .map(|(name, context)| shown(name, context, current == Some(name)))
                .collect();
            run.output.data(&Value::Array(all), |all| {
                let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
                let rows: Vec<Vec<String>> = all
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|context| {
                        vec![
                            if context["current"] == true { "*" } else { "" }.to_owned(),
                            text(&context["name"]),
                            text(&context["user"]),
                            text(&context["credentials"]),
                            text(&context["endpoints"][0]),
                        ]
                    })
                    .collect();
                of_cells(&["", "NAME", "USER", "BY", "ENDPOINT"], &rows)
            })
        }
        ContextCommand::Use { name } => {
            store.change(|contexts| {
                if !contexts.contexts.contains_key(name) {
                    return Err(no_context(name));
                }
                contexts.current = Some(name.clone());
                Ok(())
            })?;
            run.output.data(&json!({ "current": name }), |_| {
                safe::line(&format!("the context `{name}` is in use"))
            })
        }
        ContextCommand::Show { name } => {
            let contexts = store.load()?;
            let current = contexts.current.clone();
            let name = name.clone().or(run.named.clone()).or(current.clone());
            let name = name.ok_or_else(|| no_context("current"))?;
            let context = contexts
                .contexts
                .get(&name)
                .ok_or_else(|| no_context(&name))?;
            let data = shown(&name, context, current.as_ref() == Some(&name));
            run.output.data(&data, crate::output::described)
        }
        ContextCommand::Delete { name } => {
            store.change(|contexts| {
                let gone = contexts.contexts.remove(name);
                if contexts.current.as_ref() == Some(name) {
                    contexts.current = None;
                }
                gone.map(drop).ok_or_else(|| no_context(name))
            })?;
            run.output
                .data(&json!({"name": name, "deleted": true}), |_| {
                    safe::line(&format!("the context `{name}` is forgotten"))
                })
        }
    }
}

/// A context without its secrets.
fn shown(name: &str, context: &Context, is_current: bool) -> Value {
    let credentials = match (&context.token, &context.session) {
        (Some(_), _) => "token",
        (None, Some(_)) => "session",
        (None, None) => "nothing",
    };
    let fingerprint = ClusterCa::from_pem(&context.ca).map(|ca| ca.fingerprint());
    json!({
        "name": name,
        "current": is_current,
        "user": context.user,
        "credentials": credentials,
        "endpoints": context.all_endpoints(),
        "ca_fingerprint": fingerprint.unwrap_or_else(|_| "not readable".into()),
    })
}

#[cfg(test)]
mod tests {
    use virtflow_client::Session;

    use super::*;

    #[test]
    fn a_shown_context_has_no_secrets() {
        let context = Context {
            endpoints: vec!["https://c1:8443".parse().unwrap()],
            learned: Vec::new(),
            preferred: None,
            learned_at: None,
            ca: "no PEM".into(),
            user: Some("ada".into()),
            token: Some("vft1.hush".into()),
            session: Some(Session {
                access_token: "hush".into(),
                refresh_token: "hush".into(),
            }),
        };
        let text = shown("work", &context, true).to_string();
        assert!(
            text.contains("https://c1:8443") && !text.contains("hush"),
            "{text}"
        );
        assert!(!format!("{:?}", context.session).contains("hush"));
    }
}
