//! The wish to stop: set by Ctrl-C, looked at between two operations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::Failure;

/// What shells report for a program that Ctrl-C ended.
const EXIT_CODE: i32 = 130;

/// Whether the measuring shall end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// One that Ctrl-C sets. The second Ctrl-C ends the process.
    pub(crate) fn at_ctrl_c() -> Result<Stop, Failure> {
        let stop = Stop::default();
        let stopping = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || {
            runtime.block_on(async {
                if tokio::signal::ctrl_c().await.is_err() {
                    return;
                }
                stopping.set();
                eprintln!("\nstopping; once more to end at once");
                if tokio::signal::ctrl_c().await.is_ok() {
                    std::process::exit(EXIT_CODE);
                }
            });
        });
        Ok(stop)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
