//! What the task of a connection is told by those who use it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};

/// Told seldom and looked at whenever the connection is polled, so that this costs two reads.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    is_retired: AtomicBool,
    is_doubted: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wishes {
    /// It takes no more calls, and ends with the last of what is open.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
        self.wake();
    }

    /// Somebody waited in vain: a ping is to tell whether anybody is there.
    pub(super) fn doubt(&self) {
        self.is_doubted.store(true, Ordering::Release);
        self.wake();
    }

    /// The task of this context is woken by wishes from now on. To be called before the first look.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        *self.lock() = Some(cx.waker().clone());
    }

    /// Whether it is retired, for good.
    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }

    /// Whether there were doubts since the last look.
    pub(super) fn take_doubt(&self) -> bool {
        self.is_doubted.load(Ordering::Acquire) && self.is_doubted.swap(false, Ordering::AcqRel)
    }

    /// Not under the lock, which the task takes as well.
    fn wake(&self) {
        let task = self.lock().clone();
        if let Some(task) = task {
            task.wake();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_wish_wakes_the_task_that_watches_and_a_doubt_is_taken_once() {
        let woken = Arc::new(Woken::default());
        let wishes = Wishes::default();
        // Nobody is there to be woken, and it is not forgotten.
        wishes.doubt();
        wishes.watch(&Context::from_waker(&woken.clone().into()));
        assert!(wishes.take_doubt() && !wishes.take_doubt());
        wishes.doubt();
        wishes.doubt();
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        assert!(wishes.take_doubt() && !wishes.take_doubt());
        assert!(!wishes.is_retired());
        wishes.retire();
        assert_eq!(woken.0.load(Ordering::Relaxed), 3);
        assert!(wishes.is_retired() && wishes.is_retired(), "for good");
    }
}
