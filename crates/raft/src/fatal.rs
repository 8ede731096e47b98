//! Why a node must stop. The first reason stays.

use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Fatal {
    reason: watch::Sender<Option<String>>,
}

impl Default for Fatal {
    fn default() -> Self {
        Self {
            reason: watch::Sender::new(None),
        }
    }
}

impl Fatal {
    pub(crate) fn stop(&self, reason: String) {
        self.reason.send_if_modified(|kept| {
            if kept.is_some() {
                return false;
            }
            tracing::error!(reason, "this node must stop");
            *kept = Some(reason);
            true
        });
    }

    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    pub(crate) async fn wait(&self) -> String {
        let mut receiver = self.reason.subscribe();
        loop {
            if let Some(reason) = receiver.borrow_and_update().clone() {
                return reason;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
