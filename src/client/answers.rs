//! The answers to one request that has many, taken one by one: nothing is read before it is
//! asked for, so that a slow reader holds no more than the stream's window.

use std::sync::Arc;
use std::time::Duration;

use super::Client;
use crate::core::namespace::{Answer, Request};
use crate::error::{Code, Delivery, Error, Origin};
use crate::net::call_options::CallOptions;
use crate::net::clock;
use crate::net::in_flight::Admission;
use crate::net::named::named;
use crate::net::race::{Either, race};
use crate::net::stream::Receiver;
use crate::net::tokens::young_wait;
use crate::net::view::View;
use crate::wire::{Method, Response};

/// With the waits between them, longer than a member can lag behind a new token.
const TOKEN_REFUSALS_MAX: u32 = 10;

/// A server-side stream, opened when the first answer is asked for. It is opened again only
/// where the server did not take the token.
pub(super) struct Answers<M, R> {
    client: Client,
    method: &'static Method,
    request: M,
    options: CallOptions,
    view: Option<Arc<View>>,
    receiver: Option<Receiver<R>>,
    /// Its place among the calls in flight, as long as it is open.
    admission: Option<Admission>,
    has_answered: bool,
    refusals: u32,
}

impl<M: Request, R: Response + Answer> Answers<M, R> {
    pub(super) fn new(
        client: Client,
        method: &'static Method,
        mut request: M,
        options: CallOptions,
    ) -> Answers<M, R> {
        let view = client.view().map(View::begin);
        if let Some(namespace) = view.as_ref().and_then(|view| view.namespace.as_ref()) {
            request.enter(namespace);
        }
        Answers {
            client,
            method,
            request,
            options,
            view,
            receiver: None,
            admission: None,
            has_answered: false,
            refusals: 0,
        }
    }

    /// The next answer; `None` once the server has ended the stream well.
    ///
    /// # Errors
    ///
    /// Why it ended, or that nothing came `within` this time. It is not to be asked after that.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has taken no answer.
    pub(super) async fn next(&mut self, within: Option<Duration>) -> Result<Option<R>, Error> {
        let client = self.client.clone();
        client.channel().runtime().run(self.read(within)).await
    }

    /// As [`Answers::next`], of a stream that goes on for ever: that it has ended is an error too.
    pub(super) async fn next_of_endless(&mut self) -> Result<R, Error> {
        let answer = self.next(None).await?;
        answer.ok_or_else(|| {
            let message = "the server has ended the stream";
            let error = Error::new(Code::Unavailable, Origin::Server, Delivery::Answered, message);
            let endpoint = self.receiver.as_ref().map(Receiver::endpoint);
            named(error, self.method, endpoint).with_attempts(1)
        })
    }

    async fn read(&mut self, within: Option<Duration>) -> Result<Option<R>, Error> {
        loop {
            let error = match self.read_once(within).await {
                Ok(mut answer) => {
                    self.has_answered = true;
                    if answer.is_none() {
                        self.admission = None;
                    }
                    if let (Some(view), Some(answer)) = (&self.view, &mut answer) {
                        view.show(answer, self.options.is_local)?;
                    }
                    return Ok(answer);
                }
                Err(error) => error,
            };
            self.admission = None;
            let for_token = self.client.channel().tokens().are_at_fault(&error);
            if !for_token || self.has_answered || self.refusals >= TOKEN_REFUSALS_MAX {
                return Err(error);
            }
            self.receiver = None;
            clock::sleep_until(clock::now() + young_wait(self.refusals)).await;
            self.refusals += 1;
        }
    }

    async fn read_once(&mut self, within: Option<Duration>) -> Result<Option<R>, Error> {
        let channel = self.client.channel();
        let receiver = match &mut self.receiver {
            Some(receiver) => receiver,
            none => {
                let admission = channel.admit(&self.options).map_err(|error| {
                    channel.figures().calls.shed.add();
                    named(error, self.method, None)
                })?;
                let deadline = clock::now() + channel.config().call_timeout;
                let opened = channel.answers(self.method, &self.request, &self.options, deadline).await?;
                self.admission = admission;
                none.insert(opened)
            }
        };
        let Some(within) = within else {
            return receiver.recv().await;
        };
        receiver.set_asked(true);
        let answer = race(receiver.recv(), clock::sleep_until(clock::now() + within)).await;
        receiver.set_asked(false);
        match answer {
            Either::Left(answer) => answer,
            Either::Right(()) => {
                let error = Error::new(
                    Code::DeadlineExceeded,
                    Origin::Library,
                    Delivery::Unknown,
                    "the next answer did not come in time",
                );
                Err(named(error, self.method, Some(receiver.endpoint())).with_attempts(1))
            }
        }
    }
}
