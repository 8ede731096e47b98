//! Places where a test may stop the shadow dead, as a crash would. Nothing of it is in a release.

/// Between two of these, something reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    RecordsWritten,
    RecordsCommitted,
    StateWritten,
    StateCommitted,
    InstallVerified,
    InstallNamed,
    InstallOpened,
    PointerTemp,
    Pointed,
    RecordsReconciled,
    OldRemoved,
}

#[cfg(not(test))]
#[derive(Debug)]
pub(crate) struct Crash;

#[cfg(not(test))]
impl Crash {
    pub(crate) fn never() -> Self {
        Self
    }
    #[inline]
    pub(crate) async fn reach(&self, _point: CrashPoint) {}
}

/// Armed with a point and a number of passes to let go by; whoever reaches it then stops for ever.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Crash {
    armed: std::sync::Mutex<Option<(CrashPoint, u32)>>,
    reached: tokio::sync::Notify,
}

#[cfg(test)]
impl Crash {
    pub(crate) fn never() -> Self {
        Self::default()
    }
    pub(crate) fn arm(&self, point: CrashPoint, passes: u32) {
        *self.armed.lock().unwrap() = Some((point, passes));
    }
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }
    pub(crate) async fn reach(&self, point: CrashPoint) {
        let stop = {
            let mut armed = self.armed.lock().unwrap();
            match armed.as_mut() {
                Some((at, passes)) if *at == point => {
                    if *passes == 0 {
                        true
                    } else {
                        *passes -= 1;
                        false
                    }
                }
                _ => false,
            }
        };
        if stop {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
    }
}
