//! Two futures at the same time, of which the first to finish counts, or both.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// Which of two futures finished, with what it gave.
#[derive(Debug)]
pub(crate) enum Either<A, B> {
    Left(A),
    Right(B),
}

/// Runs both until one finishes; the left one is asked first. The other is
/// dropped, so both have to be cancel safe.
pub(crate) fn race<A: Future, B: Future>(left: A, right: B) -> Race<A, B> {
    Race { left, right }
}

/// Waits for both. Pinned by the caller, for an `async fn` has room for what it is given twice.
pub(crate) async fn both<A, B>(
    mut left: Pin<&mut impl Future<Output = A>>,
    mut right: Pin<&mut impl Future<Output = B>>,
) -> (A, B) {
    match race(left.as_mut(), right.as_mut()).await {
        Either::Left(left) => (left, right.await),
        Either::Right(right) => (left.await, right),
    }
}

/// Waits for all of them, at the same time. What each gave, in their order.
pub(crate) async fn all<F: Future + Unpin>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<(F, Option<F::Output>)> = futures.map(|future| (future, None)).collect();
    poll_fn(|cx| {
        for (future, output) in &mut running {
            if output.is_none() {
                if let Poll::Ready(value) = Pin::new(future).poll(cx) {
                    *output = Some(value);
                }
            }
        }
        match running.iter().all(|(_, output)| output.is_some()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

pin_project! {
    /// A [`race`] under way. Not an `async fn`, which would have room for each of them twice.
    #[derive(Debug)]
    #[must_use = "nobody runs before it is awaited"]
    pub(crate) struct Race<A, B> {
        #[pin]
        left: A,
        #[pin]
        right: B,
    }
}

impl<A: Future, B: Future> Future for Race<A, B> {
    type Output = Either<A::Output, B::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(value) = this.left.poll(cx) {
            return Poll::Ready(Either::Left(value));
        }
        this.right.poll(cx).map(Either::Right)
    }
}
