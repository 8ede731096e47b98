//! Records that a snapshot's install left out, copied from another member. The chained heads prove them.

use std::pin::Pin;
use std::time::Duration;

use tokio_stream::Stream;
use tonic::{Response, Status};
use virtflow_proto::raft::v1::{RecordRow as WireRow, RecordsChunk, RecordsRequest};
use virtflow_shadow::{MissingRange, RecordChunk};
use virtflow_state::{RecordRow, StreamHead};
use virtflow_types::{Text, Timestamp};

use super::peer_calls;
use crate::app::App;

/// How often what is missing is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long a peer may take for one chunk.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);
/// Chunks copied in one look.
const CHUNKS_PER_LOOK: usize = 100;
/// Records in one message: with bodies of up to a few KiB far below the limit of a message.
const ROWS_PER_MESSAGE: usize = 100;

type ChunkStream = Pin<Box<dyn Stream<Item = Result<RecordsChunk, Status>> + Send>>;

/// Serves a range: its uppermost records, ascending. The first row sent is the head below, without a
/// body, if there is one.
pub(super) async fn serve(
    app: App,
    request: RecordsRequest,
) -> Result<Response<ChunkStream>, Status> {
    let chunk = app
        .shadow()
        .record_range(&request.stream, request.from_count, request.to_count)
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let below = WireRow {
        count: chunk.before.count,
        head: chunk.before.head.to_vec().into(),
        ..WireRow::default()
    };
    let rows: Vec<WireRow> = std::iter::once(below)
        .chain(chunk.rows.into_iter().map(|row| WireRow {
            count: row.count,
            body: row.body,
            head: row.head.to_vec().into(),
            at_ms: row.at.ms(),
            index: 0,
        }))
        .collect();
    let messages: Vec<_> = rows
        .chunks(ROWS_PER_MESSAGE)
        .map(|rows| {
            Ok(RecordsChunk {
                rows: rows.to_vec(),
            })
        })
        .collect();
    Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
}

/// Fills what is missing from the other members, for ever.
pub(super) async fn fill(app: App) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let missing = match app.shadow().missing_records().await {
            Ok(missing) => missing,
            Err(error) => {
                tracing::warn!(%error, "cannot see which records are missing");
                continue;
            }
        };
        let mut left = CHUNKS_PER_LOOK;
        for range in missing {
            while left > 0 {
                left -= 1;
                match copy_top(&app, &range).await {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::debug!(stream = %range.stream, error, "records are missing and no member has them now");
                        break;
                    }
                }
            }
        }
    }
}

/// Copies the uppermost chunk of a range; true once nothing of it is missing.
async fn copy_top(app: &App, range: &MissingRange) -> Result<bool, String> {
    let current = app
        .shadow()
        .missing_records()
        .await
        .map_err(|error| error.to_string())?;
    let Some(range) = current
        .into_iter()
        .find(|now| now.stream == range.stream && now.first == range.first)
    else {
        return Ok(true);
    };
    let me = app.node().node_id();
    let mut last_problem = "there is no other member".to_owned();
    for member in app.node().members().into_iter().filter(|m| m.node_id != me) {
        match tokio::time::timeout(CHUNK_TIMEOUT, fetch(app, member.node_id, &range)).await {
            Ok(Ok(chunk)) if chunk.rows.is_empty() => {
                last_problem = format!("{} has none of them", member.info.name);
            }
            Ok(Ok(chunk)) => match app.shadow().fill_records(chunk).await {
                Ok(_) => return Ok(false),
                Err(error) => last_problem = error.to_string(),
            },
            Ok(Err(error)) => last_problem = error,
            Err(_) => last_problem = format!("{} did not answer", member.info.name),
        }
    }
    Err(last_problem)
}

async fn fetch(app: &App, node_id: u64, range: &MissingRange) -> Result<RecordChunk, String> {
    let request = RecordsRequest {
        from: Some(app.node().envelope_to(node_id).map_err(|e| e.to_string())?),
        stream: range.stream.to_string(),
        from_count: range.first,
        to_count: range.last.count,
    };
    let mut client = peer_calls::client(app, node_id).map_err(|error| error.to_string())?;
    let mut messages = client
        .records(request)
        .await
        .map_err(|status| status.to_string())?
        .into_inner();
    let mut before = None;
    let mut rows = Vec::new();
    while let Some(chunk) = messages
        .message()
        .await
        .map_err(|status| status.to_string())?
    {
        for row in chunk.rows {
            let head = <[u8; 32]>::try_from(&row.head[..]).map_err(|_| "a head of another size")?;
            if before.is_none() {
                before = Some(StreamHead {
                    count: row.count,
                    head,
                });
                continue;
            }
            if rows.len() as u64 >= virtflow_shadow::RANGE_RECORDS_MAX {
                return Err("more records than were asked for".into());
            }
            rows.push(RecordRow {
                stream: Text::new(&range.stream),
                count: row.count,
                body: row.body,
                head,
                at: Timestamp::from_ms(row.at_ms),
            });
        }
    }
    Ok(RecordChunk {
        stream: range.stream.clone(),
        before: before.unwrap_or_default(),
        rows,
    })
}
