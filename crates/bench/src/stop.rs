//! The wish to stop: set by Ctrl-C, looked at between two operations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

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
        let mut interrupts = {
            let _entered = runtime.enter();
            signal(SignalKind::interrupt())?
        };
        thread::spawn(move || {
            runtime.block_on(async {
                interrupts.recv().await;
                stopping.set();
                eprintln!("\nstopping; once more to end at once");
                interrupts.recv().await;
                std::process::exit(EXIT_CODE);
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
