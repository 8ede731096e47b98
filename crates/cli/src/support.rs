//! `virtflow support-bundle`: what whoever helps from afar wants to see, in one file, without secrets. It changes nothing,
//! and what cannot be had is named in the manifest rather than a reason to give nothing.

mod archive;
mod machine;
mod scrub;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use virtflow_client::{Call, ClientError, Endpoint, Limits, Method};
use virtflow_model::Kind;
use virtflow_types::Timestamp;

use self::archive::Archive;
use self::machine::Machine;
use crate::failure::Failure;
use crate::grammar::SupportBundle;
use crate::run::{Cluster, Run};
use crate::{amount, doctor, safe};

/// Rows of each list.
const ROWS_MAX: usize = 1000;
/// The newest records of the audit whose heads are told.
const HEADS_MAX: usize = 100;
/// How long one controller is waited for: the others are asked anyhow.
const PATIENCE: Limits = Limits {
    connect: Duration::from_secs(3),
    unavailable: Duration::from_secs(3),
    unreachable: Duration::from_secs(3),
    pause_first: Duration::from_millis(100),
    pause_max: Duration::from_secs(1),
    session_lock: Duration::from_secs(20),
};

/// What is read as it is: where it goes, and the path of the API.
const READ: &[(&str, &[&str])] = &[
    ("cluster/status.json", &["status"]),
    ("cluster/versions.json", &["upgrade"]),
    ("cluster/capacity.json", &["capacity"]),
    ("cluster/verify.json", &["verify"]),
];
/// Lists, the newest first.
const LISTS: &[(&str, Kind)] = &[
    ("cluster/controllers.json", Kind::Controller),
    ("cluster/hosts.json", Kind::Baremetal),
    ("cluster/operations.json", Kind::Operation),
    ("cluster/alerts.json", Kind::Alert),
];

/// Carries it out. `cluster` is a failure where none is known here: then this machine alone is looked at.
pub(crate) async fn bundle(
    run: &Run,
    cluster: Result<Cluster, Failure>,
    asked: &SupportBundle,
) -> Result<(), Failure> {
    let stem = format!("virtflow-support-{}", file_stamp(run.now));
    let path = match &asked.out {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(format!("{stem}.tar.gz")),
    };
    let bytes_max = asked.max_mib.saturating_mul(1024 * 1024);
    let mut archive = Archive::create(&path, &stem, run.now, bytes_max)?;
    match cluster {
        Ok(cluster) => of_cluster(run, &cluster, &mut archive).await?,
        Err(failure) => archive.missing("cluster/", failure.message),
    }
    Machine::default().look(&mut archive, &asked.since).await?;
    let manifest = archive.finish(env!("CARGO_PKG_VERSION"))?;
    let data = json!({"file": path, "manifest": manifest});
    run.output.data(&data, |data| text(&path, data))
}

fn file_stamp(now: Timestamp) -> String {
    let kept = |c: &char| c.is_ascii_alphanumeric();
    let text = now.to_string();
    let whole = text.split('.').next().unwrap_or(&text);
    whole.chars().filter(kept).collect()
}

async fn of_cluster(run: &Run, cluster: &Cluster, archive: &mut Archive) -> Result<(), Failure> {
    let ask = async |path: &[&str]| -> Result<Value, ClientError> {
        let call = Call::new(Method::Get, path)?;
        Ok(cluster.client.send(&call).await?.data)
    };
    let mut endpoints = cluster.context.all_endpoints();
    for (file, path) in READ {
        let told = ask(path).await;
        if let (&"cluster/status.json", Ok(status)) = (file, &told) {
            learn(&mut endpoints, status);
        }
        archive.add_json(file, told.map_err(Failure::from))?;
    }
    for (file, kind) in LISTS {
        let listed = match Call::new(Method::Get, &[kind.plural()]) {
            // The leader tells of members in the order of their making, and knows no other.
            Ok(call) if *kind != Kind::Controller => {
                let call = call.query("sort", "-created_at");
                cluster.client.list(&call, ROWS_MAX).await
            }
            Ok(call) => cluster.client.list(&call, ROWS_MAX).await,
            Err(error) => Err(error.into()),
        };
        let listed = listed.map(|listed| json!({"more": listed.more, "rows": listed.rows}));
        archive.add_json(file, listed.map_err(Failure::from))?;
    }
    archive.add_json("cluster/audit-heads.json", heads(cluster).await)?;
    let found = doctor::report(cluster, run.now).await;
    archive.add_json("cluster/doctor.json", found)?;
    for endpoint in endpoints {
        of_controller(cluster, endpoint, archive).await?;
    }
    Ok(())
}

/// Adds the controllers that the cluster knows of to those that this machine does.
fn learn(endpoints: &mut Vec<Endpoint>, status: &Value) {
    let members = status["controllers"].as_array().into_iter().flatten();
    let addresses = members.filter_map(|member| member["api_address"].as_str()?.parse().ok());
    for address in addresses {
        if !endpoints.contains(&address) {
            endpoints.push(address);
        }
    }
}

/// The heads of the newest audit records, by which two copies of the chain are compared; not what they tell.
async fn heads(cluster: &Cluster) -> Result<Value, Failure> {
    let call = Call::new(Method::Get, &["audit"])?;
    let listed = cluster.client.list(&call, HEADS_MAX).await?;
    let shown = |record: &Value| {
        let kept = ["place", "index", "at", "head"];
        let fields = kept.map(|field| (field.to_owned(), record[field].clone()));
        Value::Object(fields.into_iter().collect())
    };
    Ok(listed.rows.iter().map(shown).collect())
}

/// What one controller says of itself, under its name; under its address if it does not say.
async fn of_controller(
    cluster: &Cluster,
    endpoint: Endpoint,
    archive: &mut Archive,
) -> Result<(), Failure> {
    let alone = cluster.client.only(endpoint.clone(), PATIENCE);
    let call = Call::new(Method::Get, &["node"])?;
    let mut node = match alone.send(&call).await {
        Ok(answer) => answer.data,
        Err(error) => {
            archive.missing(
                &format!("controllers/{endpoint}"),
                Failure::from(error).message,
            );
            return Ok(());
        }
    };
    let name = node["status"]["name"].as_str().unwrap_or_default();
    let folder = format!("controllers/{}", archive::file_name(name));
    // The same controller by another of its addresses.
    if archive.has(&format!("{folder}/node.json")) {
        return Ok(());
    }
    let metrics = node.as_object_mut().and_then(|node| node.remove("metrics"));
    archive.add_json(&format!("{folder}/node.json"), Ok(node))?;
    let metrics = metrics.as_ref().and_then(Value::as_str).unwrap_or_default();
    archive.add_text(&format!("{folder}/metrics.txt"), metrics)
}

fn text(path: &Path, data: &Value) -> String {
    let manifest = &data["manifest"];
    let rows = |field: &str| {
        manifest[field]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
    };
    let bytes: u64 = rows("files")
        .filter_map(|file| file["bytes"].as_u64())
        .sum();
    let mut lines = vec![format!(
        "{}: {} files, {} before compression",
        path.display(),
        rows("files").len(),
        amount::show_mib(bytes.div_ceil(1024 * 1024)),
    )];
    if rows("missing").len() > 0 {
        lines.push("not everything could be had:".into());
    }
    for missing in rows("missing") {
        let told = |field: &str| safe::line(missing[field].as_str().unwrap_or_default());
        lines.push(format!("  {}: {}", told("file"), told("why")));
    }
    lines.push(
        "look through it before you send it: names of hosts, users and tenants are in it".into(),
    );
    lines.join("\n")
}
