//! Reading the end of a VM's console, wherever its host's session is.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::oneshot;
use virtflow_proto::raft::v1::PeerConsoleRequest;
use virtflow_types::{CONSOLE_BYTES_MAX, Error, ErrorCode, ObjectId};

use super::Command;
use crate::app::{App, Console};
use crate::daemon::peer_calls;

/// How long an agent may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long another controller may take: its agent's time and the way there.
const PEER_TIMEOUT: Duration = Duration::from_secs(7);

fn unavailable(message: &str) -> Error {
    Error::new(ErrorCode::Unavailable, message)
        .advise("see `virtflow host list`; try again when the host is online")
}

/// From the session held here; `None` if there is none.
pub async fn read_here(
    app: &App,
    host: ObjectId,
    vm: ObjectId,
    placement_epoch: u64,
    max_bytes: u64,
) -> Option<Result<Console, Error>> {
    let handle = app.agents().get(host)?;
    let (answer, answered) = oneshot::channel();
    let command = Command::Console {
        vm,
        placement_epoch,
        max_bytes: max_bytes.min(CONSOLE_BYTES_MAX as u64),
        answer,
    };
    if handle.commands.try_send(command).is_err() {
        return Some(Err(Error::new(
            ErrorCode::LimitExceeded,
            "too many requests wait for that host's agent",
        )));
    }
    Some(match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(unavailable(
            "the host's session ended before its agent answered",
        )),
        Err(_) => Err(unavailable("the host's agent did not answer")),
    })
}

/// From the session held here, or from whichever controller holds it.
pub async fn read(
    app: &App,
    host: ObjectId,
    vm: ObjectId,
    placement_epoch: u64,
    max_bytes: u64,
) -> Result<Console, Error> {
    if let Some(result) = read_here(app, host, vm, placement_epoch, max_bytes).await {
        return result;
    }
    let me = app.node().node_id();
    let mut asked: FuturesUnordered<_> = app
        .node()
        .members()
        .into_iter()
        .filter(|member| member.node_id != me)
        .map(|member| ask(app, member.node_id, host, vm, placement_epoch, max_bytes))
        .collect();
    while let Some(answer) = asked.next().await {
        if let Some(result) = answer {
            return result;
        }
    }
    Err(unavailable(
        "no controller holds a session with the VM's host",
    ))
}

async fn ask(
    app: &App,
    node_id: u64,
    host: ObjectId,
    vm: ObjectId,
    placement_epoch: u64,
    max_bytes: u64,
) -> Option<Result<Console, Error>> {
    let request = PeerConsoleRequest {
        from: peer_calls::from_here(app, node_id),
        host_id: Bytes::copy_from_slice(host.as_bytes()),
        vm_id: Bytes::copy_from_slice(vm.as_bytes()),
        placement_epoch,
        max_bytes,
    };
    let mut client = peer_calls::client(app, node_id).ok()?;
    let reply = tokio::time::timeout(PEER_TIMEOUT, client.console(request))
        .await
        .ok()?
        .ok()?
        .into_inner();
    Some(if reply.error.is_empty() {
        Ok(Console {
            data: reply.data,
            total_bytes: reply.total_bytes,
        })
    } else {
        Err(Error::new(ErrorCode::Unavailable, reply.error))
    })
}
