//! What a controller counted that only the leader can write: refusals, and when credentials were last used.

use serde::{Deserialize, Serialize};
use virtflow_logic::{CREDENTIAL_USES_MAX, Refusal, credentials_used, refusals_summary};
use virtflow_raft::DecideError;
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId, Timestamp};

use crate::app::App;
use crate::daemon::peer_calls;

/// What was counted since it was last told.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noted {
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) uses: Vec<(ObjectId, Timestamp)>,
}

/// It was not written, and may be told again; otherwise whether it was is not known, and it must not be.
#[derive(Debug)]
pub(crate) struct NotWritten(pub(crate) Error);

impl Noted {
    pub(crate) fn is_empty(&self) -> bool {
        self.refusals.is_empty() && self.uses.is_empty()
    }

    /// Writes it, here or at the leader. An unknown outcome counts as written: twice is worse than a gap, which the log of
    /// the controller that refused fills.
    pub(crate) async fn deliver(&self, app: &App) -> Result<(), NotWritten> {
        if app.leads() {
            return self.write(app).await;
        }
        peer_calls::note(app, self).await
    }

    /// Writes it, by the controller that leads.
    pub(crate) async fn write(&self, app: &App) -> Result<(), NotWritten> {
        let (request_id, now) = (RequestId::generate(), Timestamp::now());
        let rows = self.refusals.clone();
        let decided = app
            .node()
            .decide(move |head| Ok((refusals_summary(head, request_id, now, &rows), ())))
            .await;
        if let Err(error) = decided
            && !matches!(error, DecideError::Unknown { .. })
        {
            return Err(NotWritten(Error::new(
                ErrorCode::Unavailable,
                error.to_string(),
            )));
        }
        for uses in self.uses.chunks(CREDENTIAL_USES_MAX) {
            let uses = uses.to_vec();
            let request_id = RequestId::generate();
            let noted = app
                .node()
                .decide(move |head| Ok((credentials_used(head, request_id, now, &uses), ())))
                .await;
            if let Err(error) = noted {
                // Lost is a moment at which something was used, and it is used again.
                tracing::debug!(%error, "when credentials were used was not noted");
            }
        }
        Ok(())
    }
}
