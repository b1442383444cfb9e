//! The standard input, which says by its end that it is enough.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::sync::oneshot;

/// Resolves when the input ends.
pub fn ended() -> oneshot::Receiver<()> {
    let (ended, is_ended) = oneshot::channel();
    at_end(move || {
        let _ = ended.send(());
    });
    is_ended
}

/// Says between two operations whether the input has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Enough(Arc<AtomicBool>);

impl Enough {
    pub(crate) fn at_end_of_input() -> Enough {
        let enough = Enough::default();
        let told = enough.clone();
        at_end(move || told.set());
        enough
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_it(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn at_end(then: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        let mut chunk = [0; 64];
        let mut input = std::io::stdin().lock();
        while input.read(&mut chunk).is_ok_and(|count| count > 0) {}
        then();
    });
}
