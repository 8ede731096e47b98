//! Waiting for what takes time.

use std::time::{Duration, Instant};

use serde_json::Value;
use virtflow_types::ErrorCode;

use crate::{Call, Client, ClientError, Method};

/// How long one question waits: also how often progress is shown.
const SLICE: Duration = Duration::from_secs(1);

/// How a wait ended; each with the operation as it was last seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Waited {
    /// Done.
    Completed(Value),
    /// Ended without success: failed or cancelled.
    Failed(Value),
    /// It waits for room or quota, for as long as that takes.
    Blocked(Value),
    /// It is not finished; it goes on.
    TimedOut(Value),
}

impl Waited {
    /// The operation.
    pub fn operation(&self) -> &Value {
        match self {
            Self::Completed(operation)
            | Self::Failed(operation)
            | Self::Blocked(operation)
            | Self::TimedOut(operation) => operation,
        }
    }
}

impl Client {
    /// Waits until an operation ends, is blocked, or `limit` has passed; `seen` is told each time
    /// it was looked at.
    pub async fn wait(
        &self,
        operation_id: &str,
        limit: Duration,
        mut seen: impl FnMut(&Value),
    ) -> Result<Waited, ClientError> {
        let begun = Instant::now();
        loop {
            let wait = format!("{}ms", SLICE.as_millis());
            let call = Call::new(Method::Get, &["operations", operation_id])?.query("wait", wait);
            let asked = Instant::now();
            let operation = self.send(&call).await?.data;
            seen(&operation);
            match judge(&operation) {
                Judged::Completed => return Ok(Waited::Completed(operation)),
                Judged::Failed => return Ok(Waited::Failed(operation)),
                Judged::Blocked => return Ok(Waited::Blocked(operation)),
                Judged::Unfinished if begun.elapsed() >= limit => {
                    return Ok(Waited::TimedOut(operation));
                }
                Judged::Unfinished => {
                    // A controller that answers at once must not be asked in a tight loop.
                    tokio::time::sleep((SLICE / 4).saturating_sub(asked.elapsed())).await;
                }
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Completed,
    Failed,
    Blocked,
    Unfinished,
}

fn judge(operation: &Value) -> Judged {
    let text = |pointer| operation.pointer(pointer).and_then(Value::as_str);
    let blocking = [ErrorCode::NoCapacity, ErrorCode::QuotaExceeded];
    match text("/status/state") {
        Some("completed") => Judged::Completed,
        Some("failed" | "cancelled") => Judged::Failed,
        Some("pending")
            if text("/status/error/code")
                .is_some_and(|code| blocking.iter().any(|known| known.as_str() == code)) =>
        {
            Judged::Blocked
        }
        _ => Judged::Unfinished,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn states() {
        let full = json!({"code": "no_capacity", "message": "m"});
        for (status, expected) in [
            (json!({"state": "completed"}), Judged::Completed),
            (json!({"state": "failed", "error": full}), Judged::Failed),
            (json!({"state": "cancelled"}), Judged::Failed),
            (json!({"state": "pending", "error": full}), Judged::Blocked),
            (
                json!({"state": "running", "error": full}),
                Judged::Unfinished,
            ),
            (json!({"state": "pending"}), Judged::Unfinished),
            (
                json!({"state": "pending", "error": {"code": "internal"}}),
                Judged::Unfinished,
            ),
            (json!({}), Judged::Unfinished),
        ] {
            assert_eq!(judge(&json!({ "status": status })), expected, "{status}");
        }
    }
}
