//! A stream for bytes that nobody looked at: to any path, and back as they come.

use bytes::Bytes;
use http::uri::PathAndQuery;

use super::channel::{Channel, Target};
use super::clock;
use super::pulse::Kind;
use super::race::{Either, race};
use super::response::Response;
use crate::core::pool::{Class, Want};
use crate::core::time::Instant;
use crate::error::{Code, Delivery, Error, Origin};
use crate::wire::Body;

impl Channel {
    /// Sends these bytes, once, and appends to `messages` what comes back, until
    /// there are so many, or the end of the stream, or the deadline.
    ///
    /// # Errors
    ///
    /// How the stream ended, unless well.
    ///
    /// # Cancel safety
    ///
    /// Dropping it resets the stream.
    pub(crate) async fn raw(
        &self,
        path: PathAndQuery,
        body: Body,
        deadline: Instant,
        messages: &mut Vec<Bytes>,
        messages_max: usize,
    ) -> Result<(), Error> {
        let mut delivery = Delivery::NotSent;
        let asked = async {
            // First, since the question for one may need the stream.
            let mut waiter = None;
            let pass = std::future::poll_fn(|cx| self.poll_pass(&mut waiter, cx)).await?;
            let mut waiter = None;
            let target = || Target::Any(Want::call(Class::Bulk));
            let route = std::future::poll_fn(|cx| {
                self.poll_route(clock::now(), target(), Kind::Call, cx, &mut waiter)
            });
            let (mut route, mut seat) = route.await?;
            seat.excuse();
            let headers = self.calls(true).headers(None, pass.token.as_ref());
            let (response, mut stream) = self.open_path(&mut route, path, headers)?;
            delivery = Delivery::Unknown;
            stream.send_data(body, true).map_err(Error::transport)?;
            let mut response = Response::new(response, self.config().response_bytes_max, seat);
            while messages.len() < messages_max {
                match std::future::poll_fn(|cx| response.poll_message(cx, clock::now())).await? {
                    Some(message) => messages.push(message),
                    None => break,
                }
            }
            Ok(())
        };
        match race(asked, clock::sleep_until(deadline)).await {
            Either::Left(end) => end,
            Either::Right(()) => {
                let message = "no end before the deadline";
                Err(Error::new(
                    Code::DeadlineExceeded,
                    Origin::Library,
                    delivery,
                    message,
                ))
            }
        }
    }
}
