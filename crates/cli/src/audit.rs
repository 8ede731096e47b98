//! Who did what, when: as a table, as lines for other programs, and whether what is told is all that was written.

mod chain;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use serde_json::{Value, json};
use virtflow_client::{Call, Method};
use virtflow_types::{PAGE_OBJECTS_MAX, Timestamp};

use self::chain::{Chain, Found, Head, Record};
use crate::failure::{Failure, exit};
use crate::grammar::{Audit, AuditCommand};
use crate::noun::Show;
use crate::output::json_line;
use crate::run::{Cluster, Run};
use crate::safe;
use crate::table::{of_cells, show};

/// Longest line of an export, in bytes: far more than any record has.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Problems that are told.
const PROBLEMS_TOLD_MAX: usize = 20;

/// What is to be read where no cluster is asked.
pub(crate) fn file_of(asked: &Audit) -> Option<&str> {
    match &asked.command {
        Some(AuditCommand::Verify { file, .. }) => file.as_deref(),
        None => None,
    }
}

/// Lists, exports or checks.
pub(crate) async fn audit(run: &Run, cluster: &Cluster, asked: &Audit) -> Result<(), Failure> {
    let call = Call::new(Method::Get, &["audit"])?
        .query_if("from", asked.from.as_deref())
        .query_if("to", asked.to.as_deref())
        .query_if("actor", asked.actor.as_deref())
        .query_if("object", asked.object.as_deref())
        .query_if("outcome", asked.outcome.as_deref())
        .query_if("action", asked.action.as_deref())
        .query_if("kind", asked.kind.as_deref())
        .query_if("tenant", asked.tenant.as_deref());
    if let Some(AuditCommand::Verify { head, .. }) = &asked.command {
        let mut chain = Chain::through(*head);
        each(cluster, &call, |row| {
            add(&mut chain, row, "a record of the cluster").map(|()| true)
        })
        .await?;
        return report(run, chain.end());
    }
    if asked.export {
        return each(cluster, &call, |row| run.output.is_read(&json_line(row))).await;
    }
    let listed = cluster.client.list(&call, asked.limit).await?;
    let more = listed.more;
    run.output
        .data(&Value::Array(listed.rows), |rows| audit_text(rows, run.now))?;
    if more {
        run.output
            .remark("there is more: raise --limit, or narrow it with --from and --to");
    }
    Ok(())
}

/// Every record with its bytes, newest first, page by page, as long as somebody takes them.
async fn each(
    cluster: &Cluster,
    call: &Call,
    mut take: impl FnMut(&Value) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut cursor: Option<String> = None;
    loop {
        let page = call
            .clone()
            .query("bytes", "true")
            .query("limit", PAGE_OBJECTS_MAX.to_string())
            .query_if("cursor", cursor.take());
        let answer = cluster.client.send(&page).await?;
        for record in answer.data.as_array().into_iter().flatten() {
            if !take(record)? {
                return Ok(());
            }
        }
        cursor = answer.next_cursor;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// Checks an export, without asking anybody.
pub(crate) fn verify_file(run: &Run, asked: &Audit, path: &str) -> Result<(), Failure> {
    let Some(AuditCommand::Verify { head, .. }) = &asked.command else {
        return Ok(());
    };
    let unread = |error: io::Error| Failure::local(format!("cannot read {path}: {error}"));
    let mut lines: Box<dyn BufRead> = match path {
        "-" => Box::new(io::stdin().lock()),
        path => Box::new(BufReader::new(File::open(path).map_err(unread)?)),
    };
    let mut chain = Chain::through(*head);
    for number in 1.. {
        let mut line = Vec::new();
        let mut limited = (&mut lines).take(LINE_BYTES_MAX + 1);
        limited.read_until(b'\n', &mut line).map_err(unread)?;
        if line.is_empty() {
            break;
        }
        let place = format!("{path}, line {number}");
        if line.len() as u64 > LINE_BYTES_MAX {
            let problem = format!("{place}: longer than {LINE_BYTES_MAX} bytes");
            return Err(Failure::usage(problem));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let row: Value = serde_json::from_slice(&line)
            .map_err(|error| Failure::usage(format!("{place}: {error}")))?;
        add(&mut chain, &row, &place)?;
    }
    report(run, chain.end())
}

fn add(chain: &mut Chain, row: &Value, place: &str) -> Result<(), Failure> {
    let added = Record::of(row).and_then(|record| chain.add(record));
    added.map_err(|problem| {
        Failure::usage(format!("{place}: {problem}"))
            .advise("`virtflow audit --export` writes what can be checked, one record a line")
    })
}

/// A head that was kept, as `verify` prints it.
pub(crate) fn read_head(text: &str) -> Result<(u64, Head), String> {
    let problem = || "must be COUNT:HEX, as `virtflow audit verify` prints it".to_owned();
    let (count, head) = text.split_once(':').ok_or_else(problem)?;
    let count = count.parse().map_err(|_| problem())?;
    Ok((count, chain::head_of_hex(head).ok_or_else(problem)?))
}

fn report(run: &Run, found: Found) -> Result<(), Failure> {
    let problems: Vec<Value> = found
        .problems
        .iter()
        .take(PROBLEMS_TOLD_MAX)
        .map(|(record, problem)| json!({"record": record, "problem": problem}))
        .collect();
    let head = found
        .last
        .map(|(count, head)| format!("{count}:{}", chain::hex(&head)));
    let data = json!({
        "records": found.records,
        "first": found.first,
        "last": found.last.map(|(count, _)| count),
        "head": head,
        "sound": found.problems.is_empty(),
        "problems": problems,
    });
    run.output.data(&data, |_| text_of(&found))?;
    let Some((record, problem)) = found.problems.first() else {
        if let Some(head) = &head {
            run.output.remark(&format!(
                "keep the head elsewhere: `virtflow audit verify --head {head}` tells whether all this is still there"
            ));
        }
        return Ok(());
    };
    let message = format!("the chain is broken: record {record} {problem}");
    Err(Failure::new(exit::FOUND, "broken_chain", message).advise(
        "compare with an export or a backup from before; who sees the records of one tenant only cannot check the chain",
    ))
}

fn text_of(found: &Found) -> String {
    let (Some(first), Some((last, head))) = (found.first, found.last) else {
        return "there are no records".into();
    };
    let mut lines = vec![format!("{} records, {first} to {last}", found.records)];
    if found.problems.is_empty() {
        lines[0].push_str(": each follows from the one before it");
    }
    let problems = found.problems.iter().take(PROBLEMS_TOLD_MAX);
    lines.extend(
        problems.map(|(record, problem)| format!("record {record} {}", safe::line(problem))),
    );
    let more = found.problems.len().saturating_sub(PROBLEMS_TOLD_MAX);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    if first > 1 {
        lines.push(format!("what came before record {first} is not among them"));
    }
    lines.push(format!("head {last}:{}", chain::hex(&head)));
    lines.join("\n")
}

fn audit_text(rows: &Value, now: Timestamp) -> String {
    let first = |row: &Value, names: &[&str]| -> String {
        let found = names
            .iter()
            .map(|name| &row[*name])
            .find(|value| !value.is_null());
        show(found, Show::Plain, now)
    };
    let rows: Vec<Vec<String>> = rows
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            vec![
                first(row, &["at", "now", "time"]),
                first(row, &["actor_name", "actor"]),
                first(row, &["action", "verb"]),
                first(row, &["object_name", "object", "object_id"]),
                first(row, &["outcome", "code", "result"]),
                first(row, &["source"]),
                first(row, &["request_id"]),
            ]
        })
        .collect();
    of_cells(
        &["TIME", "WHO", "DID", "TO", "OUTCOME", "FROM", "REQUEST"],
        &rows,
    )
}
