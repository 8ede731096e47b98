//! Who may do something, and why: asked by those who may ask, and by those who may not.

use serde_json::{Value, json};

use super::support::{Reply, Rig};

async fn ask(rig: &Rig, token: &str, path: &str) -> Reply {
    rig.get(&format!("/auth/{path}"), token).await
}

/// `anna` administers `acme`, `dave` develops there, `vera` views, and `carol` is a `user` by the group `lab`.
async fn cast(rig: &Rig) -> [String; 4] {
    let anna = rig.tenant_with("acme", "anna", "tenant_admin").await;
    let dave = rig.user("acme", "dave", "developer").await;
    let vera = rig.user("acme", "vera", "viewer").await;
    let body = json!({"name": "carol", "tenant": "acme", "password": super::support::PASSWORD});
    rig.make("/users", body).await;
    rig.make(
        "/user_groups",
        json!({"name": "lab", "tenant": "acme", "spec": {}}),
    )
    .await;
    let member = json!({"spec": {"user_group": "lab", "user": "carol"}, "tenant": "acme"});
    rig.make("/user_group_members", member).await;
    let spec = json!({"subject_group": "lab", "role": "user", "scope": "tenant/acme"});
    rig.make("/role_bindings", json!({"spec": spec})).await;
    let carol = rig.log_in("carol", super::support::PASSWORD).await;
    let size = json!({"cpu_cores": 1, "memory_mib": 128, "storage_gib": 1});
    rig.make("/specs", json!({"name": "small", "spec": size}))
        .await;
    let vm = json!({"name": "web", "tenant": "acme", "spec": {"specification": "small"}});
    rig.ask("POST", "/vms")
        .token(&rig.admin)
        .json(&vm)
        .send()
        .await
        .data(202);
    [anna, dave, vera, carol]
}

/// `user role kind-of-scope`, sorted.
fn subjects(data: &Value) -> Vec<String> {
    let mut all: Vec<String> = data["subjects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let who = if one["user"].is_null() {
                let members = one["members"].as_array().unwrap().iter();
                let names: Vec<&str> = members.map(|one| one["name"].as_str().unwrap()).collect();
                format!(
                    "{}:{}",
                    one["group"]["name"].as_str().unwrap(),
                    names.join(",")
                )
            } else {
                one["user"]["name"].as_str().unwrap().to_owned()
            };
            let word = |what: &str, field: &str| one[what][field].as_str().unwrap().to_owned();
            format!("{who} {} {}", word("role", "name"), word("scope", "kind"))
        })
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn who_can_tells_everybody_with_the_binding_that_lets_them() {
    let rig = Rig::start().await;
    let [anna, dave, ..] = cast(&rig).await;
    let execute = "who-can?action=execute&kind=vm&object=web";
    let all = ask(&rig, &rig.admin, execute).await;
    let expected = [
        "admin admin system",
        "anna tenant_admin tenant",
        "dave developer tenant",
        "lab:carol user tenant",
    ];
    assert_eq!(subjects(all.data(200)), expected);
    assert_eq!(all.data(200)["is_whole"], true);
    assert_eq!(all.data(200)["permission"], "virtual_machine.execute");
    // Who administers a tenant is told what is bound in it, and that this is not all.
    let within = ask(&rig, &anna, execute).await;
    assert_eq!(subjects(within.data(200)), &expected[1..]);
    assert_eq!(within.data(200)["is_whole"], false);
    let delete = ask(
        &rig,
        &anna,
        "who-can?action=delete&kind=virtual_machine&object=web",
    )
    .await;
    assert_eq!(subjects(delete.data(200)), &expected[1..3]);
    let of_tenant = ask(&rig, &anna, "who-can?action=create&kind=vm&tenant=acme").await;
    assert_eq!(subjects(of_tenant.data(200)), &expected[1..3]);
    // Who may not read the bindings is told that; who does not see the object is not.
    assert_eq!(ask(&rig, &dave, execute).await.error(403), "forbidden");
    let nothing = ask(&rig, &anna, "who-can?action=read&kind=vm&object=no-such").await;
    assert_eq!(nothing.error(404), "not_found");
    for bad in [
        "who-can",
        "who-can?action=fly&kind=vm",
        "who-can?action=read&kind=moon",
        "who-can?kind=vm",
    ] {
        assert_eq!(ask(&rig, &anna, bad).await.error(400), "invalid", "{bad}");
    }
}

#[tokio::test]
async fn who_can_comes_in_pages() {
    let rig = Rig::start().await;
    cast(&rig).await;
    let (mut found, mut cursor) = (Vec::new(), String::new());
    for _ in 0..10 {
        let path = format!("who-can?action=execute&kind=vm&object=web&limit=1{cursor}");
        let page = ask(&rig, &rig.admin, &path).await;
        let here = subjects(page.data(200));
        assert!(here.len() <= 1, "{here:?}");
        found.extend(here);
        match page.body["meta"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 4, "{found:?}");
    // A page of one question is no page of another.
    let path = format!("who-can?action=delete&kind=vm&object=web{cursor}");
    assert_eq!(ask(&rig, &rig.admin, &path).await.error(400), "invalid");
}

#[tokio::test]
async fn explain_names_the_role_the_level_and_the_group() {
    let rig = Rig::start().await;
    let [anna, dave, vera, carol] = cast(&rig).await;
    let execute = "explain?action=execute&kind=vm&object=web";
    let by = |reply: &Reply| {
        let data = reply.data(200);
        assert_eq!(data["decision"], "allowed", "{data}");
        let one = &data["by"][0];
        let text = |what: &str, field: &str| one[what][field].as_str().unwrap_or("-").to_owned();
        [
            text("role", "name"),
            text("scope", "name"),
            text("group", "name"),
        ]
    };
    assert_eq!(
        by(&ask(&rig, &carol, execute).await),
        ["user", "acme", "lab"]
    );
    assert_eq!(
        by(&ask(&rig, &dave, execute).await),
        ["developer", "acme", "-"]
    );
    let of_carol = ask(&rig, &anna, &format!("{execute}&user=carol")).await;
    assert_eq!(by(&of_carol), ["user", "acme", "lab"]);
    // Seen, and not allowed: the roles that would do, the narrowest first, and over what.
    let missing = ask(&rig, &vera, execute).await;
    let data = missing.data(200);
    assert_eq!(
        (&data["decision"], &data["by"]),
        (&json!("forbidden"), &json!([]))
    );
    assert_eq!(data["would_do"][0]["name"], "user");
    let over: Vec<&str> = data["looked_at"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert_eq!(over, ["virtual_machine", "tenant", "system"]);
    // What one does not see does not exist, whatever one asks about it.
    let eve = rig.tenant_with("rival", "eve", "tenant_admin").await;
    let web = rig.get("/vms/web", &rig.admin).await.id();
    let theirs = ask(
        &rig,
        &eve,
        &format!("explain?action=read&kind=vm&object={web}"),
    )
    .await;
    assert_eq!(theirs.error(404), "not_found");
    let whose = ask(&rig, &eve, "explain?action=read&kind=vm&user=carol").await;
    assert_eq!(whose.error(404), "not_found");
    // Another user's rights are for who may read the bindings there.
    let others = ask(&rig, &vera, &format!("{execute}&user=dave")).await;
    assert_eq!(others.data(200)["decision"], "allowed");
    let others = ask(&rig, &dave, &format!("{execute}&user=carol")).await;
    assert_eq!(
        others.error(404),
        "not_found",
        "a developer does not see who else there is"
    );
}

#[tokio::test]
async fn explain_tells_what_needs_no_role_and_what_a_token_cuts() {
    let rig = Rig::start().await;
    let [_, dave, ..] = cast(&rig).await;
    let own = ask(&rig, &dave, "explain?action=read&kind=user&object=dave").await;
    assert_eq!(own.data(200)["by"][0]["how"], "own");
    let narrow = json!({"name": "ci", "spec": {"permissions": ["virtual_machine.read"]}});
    let token = rig
        .ask("POST", "/api_tokens")
        .token(&dave)
        .json(&narrow)
        .send()
        .await;
    let token = token.data(201)["token"].as_str().unwrap().to_owned();
    let cut = ask(&rig, &token, "explain?action=delete&kind=vm&object=web").await;
    let data = cut.data(200);
    assert_eq!(
        (&data["decision"], &data["cut_by_token"]),
        (&json!("forbidden"), &json!(true))
    );
    assert_eq!(data["by"][0]["role"]["name"], "developer");
}

async fn tried(rig: &Rig, method: &'static str, path: &str, body: Value) -> Value {
    let ask = rig
        .ask(method, &format!("{path}?dry_run=true"))
        .token(&rig.admin);
    let reply = if body.is_null() {
        ask.send().await
    } else {
        ask.json(&body).send().await
    };
    reply.data(200)["access"].clone()
}

/// `user kind-of-scope permissions`
fn told(list: &Value) -> Vec<String> {
    let all = list.as_array().unwrap().iter();
    all.map(|one| {
        let permissions: Vec<&str> = one["permissions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap())
            .collect();
        let word = |what: &str, field: &str| one[what][field].as_str().unwrap();
        format!(
            "{} {} {}",
            word("user", "name"),
            word("scope", "kind"),
            permissions.join(" ")
        )
    })
    .collect()
}

#[tokio::test]
async fn a_trial_of_a_role_or_a_binding_tells_who_gains_and_who_loses_what() {
    let rig = Rig::start().await;
    cast(&rig).await;
    let role = |permissions: Value| json!({"spec": {"permissions": permissions}});
    let mut body = role(json!(["rack.read", "rack.create"]));
    body["name"] = "racks".into();
    let unbound = tried(&rig, "POST", "/roles", body.clone()).await;
    assert_eq!(
        unbound,
        json!({"gains": [], "losses": [], "is_whole": true})
    );
    rig.make("/roles", body).await;
    let binding = json!({"spec": {"subject": "dave", "role": "racks"}});
    let bound = tried(&rig, "POST", "/role_bindings", binding.clone()).await;
    assert_eq!(told(&bound["gains"]), ["dave system rack.create rack.read"]);
    assert_eq!(bound["losses"], json!([]));
    let id = rig.make("/role_bindings", binding).await.id();
    let less = tried(
        &rig,
        "PATCH",
        "/roles/racks",
        role(json!(["rack.read", "rack.delete"])),
    )
    .await;
    assert_eq!(told(&less["gains"]), ["dave system rack.delete"]);
    assert_eq!(told(&less["losses"]), ["dave system rack.create"]);
    let gone = tried(&rig, "DELETE", &format!("/role_bindings/{id}"), Value::Null).await;
    assert_eq!(told(&gone["losses"]), ["dave system rack.create rack.read"]);
    // What is held by another binding is not lost with this one.
    let twice = json!({"spec": {"subject": "dave", "role": "racks", "scope": "tenant/acme"}});
    let none = tried(&rig, "POST", "/role_bindings", twice).await;
    assert_eq!(none, json!({"gains": [], "losses": [], "is_whole": true}));
    // A group gives what it has to who comes into it.
    let joining = json!({"spec": {"user_group": "lab", "user": "vera"}, "tenant": "acme"});
    let joined = tried(&rig, "POST", "/user_group_members", joining).await;
    assert_eq!(
        told(&joined["gains"]),
        ["vera tenant virtual_machine.execute"]
    );
    // Nothing of it was done, and what gives nobody rights tells nothing of the kind.
    assert_eq!(
        rig.get("/roles/racks", &rig.admin).await.data(200)["spec"]["permissions"][1],
        "rack.create"
    );
    let plain = tried(&rig, "POST", "/racks", json!({"name": "r9", "spec": {}})).await;
    assert_eq!(plain, Value::Null);
}
