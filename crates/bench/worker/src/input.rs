//! The standard input, which says by its end that it is enough.

use std::io::Read;
use std::thread;

use tokio::sync::oneshot;

/// Resolves when the input ends.
pub(crate) fn ended() -> oneshot::Receiver<()> {
    let (ended, is_ended) = oneshot::channel();
    thread::spawn(move || {
        let mut chunk = [0; 64];
        let mut input = std::io::stdin().lock();
        while input.read(&mut chunk).is_ok_and(|count| count > 0) {}
        let _ = ended.send(());
    });
    is_ended
}
