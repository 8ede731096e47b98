//! A process: a runtime of its own, turned by the simulation a millisecond at a time, or not.
//!
//! While it is not turned it stands as after SIGSTOP: no task of it runs, its clocks have stopped for it, its
//! machine's kernel goes on taking what it is sent. When it goes on, its clocks jump to the present and all of
//! its timers that are due fire at once.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::runtime::{Builder, RngSeed, Runtime, UnhandledPanic};
use tokio::task::{JoinHandle, LocalSet, yield_now};
use tokio::time::{advance, sleep};
use virtflow_types::chance;

use super::clock;
use super::kernel::Line;

/// What a machine runs, from one start to its end.
pub(crate) type Life = Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// Polls of tasks between two looks at whether the turn is over: small, so that a process can be stopped in
/// the midst of its work.
const POLLS_A_ROUND: u32 = 8;

/// A program on a machine, whether it runs or not.
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) line: Line,
    pub(crate) begin: Box<dyn Fn() -> Life>,
    pub(crate) process: Option<Process>,
}

pub(crate) struct Process {
    runtime: Runtime,
    local: LocalSet,
    main: Option<JoinHandle<anyhow::Result<()>>>,
    /// How far its clocks are behind, if it stands still.
    behind: Option<Duration>,
}

impl Process {
    pub(crate) fn start(name: &str, line: Line, life: Life) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .event_interval(POLLS_A_ROUND)
            .unhandled_panic(UnhandledPanic::ShutdownRuntime)
            .rng_seed(RngSeed::from_bytes(&chance::bytes::<32>()))
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => panic!("a runtime for {name}: {error}"),
        };
        // Puts its clock onto a whole millisecond.
        runtime.block_on(async { sleep(Duration::from_millis(1)).await });
        let mut local = LocalSet::new();
        local.unhandled_panic(UnhandledPanic::ShutdownRuntime);
        let main = {
            let _here = runtime.enter();
            clock::here_runs(name, line);
            local.spawn_local(life)
        };
        Self {
            runtime,
            local,
            main: Some(main),
            behind: None,
        }
    }

    fn during<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(self.local.run_until(what))
    }

    /// One turn. Something when its main task has ended.
    pub(crate) fn turn(&mut self, tick: Duration) -> Option<anyhow::Result<()>> {
        if let Some(behind) = &mut self.behind {
            *behind += tick;
            return None;
        }
        self.during(async { sleep(tick).await });
        let main = self.main.take_if(|main| main.is_finished())?;
        Some(match self.runtime.block_on(main) {
            Ok(ended) => ended,
            Err(error) => Err(error.into()),
        })
    }

    /// Stops it after `rounds` rounds of what it has to do now.
    pub(crate) fn stop(&mut self, rounds: u64) {
        if self.behind.is_some() {
            return;
        }
        self.during(async {
            for _ in 0..rounds {
                yield_now().await;
            }
        });
        self.behind = Some(Duration::ZERO);
    }

    /// Lets it go on. How long it stood still; nothing if it did not.
    pub(crate) fn go_on(&mut self) -> Option<Duration> {
        let behind = self.behind.take()?;
        self.during(advance(behind));
        Some(behind)
    }
}
