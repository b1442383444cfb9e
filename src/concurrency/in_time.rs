//! A lock that is given up where it takes too long.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::error::{Code, Delivery, Error, Origin};
use crate::net::clock::{self, Timer};

/// Gives up what takes longer. It has to be cancel safe. Pinned by the caller, for it is
/// large, and would be moved.
pub(super) fn in_time<'a, T, F>(
    name: &'a str,
    timeout: Option<Duration>,
    locking: Pin<&'a mut F>,
) -> InTime<'a, F>
where
    F: Future<Output = Result<T, Error>>,
{
    InTime {
        locking,
        timer: timeout.map(|timeout| Timer::new(clock::now() + timeout)),
        name,
        timeout: timeout.unwrap_or_default(),
    }
}

pin_project! {
    /// An [`in_time`] under way.
    pub(super) struct InTime<'a, F> {
        locking: Pin<&'a mut F>,
        #[pin]
        timer: Option<Timer>,
        name: &'a str,
        timeout: Duration,
    }
}

impl<T, F> Future for InTime<'_, F>
where
    F: Future<Output = Result<T, Error>>,
{
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(locked) = this.locking.as_mut().poll(cx) {
            return Poll::Ready(locked);
        }
        let Some(timer) = this.timer.as_pin_mut() else {
            return Poll::Pending;
        };
        ready!(timer.poll(cx));
        Poll::Ready(Err(Error::new(
            Code::DeadlineExceeded,
            Origin::Library,
            Delivery::Answered,
            format!("lock {:?}: not ours within {:?}", this.name, this.timeout),
        )))
    }
}
