//! Asks the server for a token, in one task for all calls that wait for one.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use super::call_options::CallOptions;
use super::channel::Channel;
use super::clock;
use super::pool::Shared;
use super::tokens::{Asking, Pass, Step, Waiter};
use crate::error::Error;
use crate::wire::method::auth as method;

impl Channel {
    /// Waits for the token to go with, and has it asked for. `waiter` is the caller's
    /// place among those who wait: it is given up when it is dropped.
    ///
    /// # Errors
    ///
    /// The server refuses the name or the password; or nobody will ever ask it, since the
    /// runtime that the client was made on is gone.
    pub(super) fn poll_pass(
        &self,
        waiter: &mut Option<Waiter>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Pass, Error>> {
        let pass = self.tokens().poll_pass(waiter, cx, |asking| {
            let task = self.shared.runtime.spawn(ask(asking, Arc::downgrade(&self.shared)));
            self.shared.lock().asking = Some(task.abort_handle());
        });
        // Looked at after the place was taken: whoever goes later wakes it.
        match pass {
            Poll::Pending if self.shared.lock().is_gone => Poll::Ready(Err(self.unreachable())),
            pass => pass,
        }
    }

    /// What a stream of the client's own cannot be opened for: a connection, or a token.
    pub(super) fn missing(&self) -> Option<Error> {
        if !self.is_connected() {
            return Some(self.unreachable());
        }
        self.tokens().now().is_none().then(|| self.no_token_in_time())
    }

    /// The time of a call, or of a stream to be opened, is over and there is no token.
    pub(super) fn no_token_in_time(&self) -> Error {
        let error = Error::unsent_in_time("no token before the deadline");
        match self.tokens().last_failure() {
            Some(failure) => error.with_source(failure),
            None => error,
        }
    }
}

/// The task that asks, as long as somebody waits and the channel is there.
async fn ask(mut asking: Asking, shared: Weak<Shared>) {
    while let Some(step) = asking.step() {
        match step {
            Step::Sleep(until) => clock::sleep_until(until).await,
            Step::Ask => {
                let Some(shared) = shared.upgrade() else { return };
                let options = CallOptions {
                    is_anonymous: true,
                    ..CallOptions::control()
                };
                let call = Channel::of_task(shared).unary(&method::AUTHENTICATE, asking.question(), options);
                asking.answer(call.await);
            }
        }
    }
}
