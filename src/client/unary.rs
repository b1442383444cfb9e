//! A call of a service that has next to nothing to set, as a builder: the services beside
//! keys and leases are made of such. What each sets more stands with its service.

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use super::{Call, Client};
use crate::core::namespace::{Answer, Request};
use crate::error::Error;
use crate::net::call_options::CallOptions;
use crate::wire::{Method, Response};

/// A call to await: `M` is its request, `R` its answer.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// use std::time::Duration;
///
/// let answer = client.members().list().timeout(Duration::from_secs(2)).await?;
/// println!("{} members", answer.members.len());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// An error whose [`may_be_applied`](Error::may_be_applied) is true leaves open whether the
/// change was made. It is not sent again by itself.
///
/// # Cancel safety
///
/// Dropped before it completes, it may have been carried out.
#[must_use = "a call is sent only once it is awaited"]
pub struct Unary<'a, M, R> {
    client: &'a Client,
    method: &'static Method,
    pub(super) request: M,
    pub(super) options: CallOptions,
    answer: PhantomData<fn() -> R>,
}

impl<'a, M, R> Unary<'a, M, R> {
    pub(super) fn new(
        client: &'a Client,
        method: &'static Method,
        request: M,
        options: CallOptions,
    ) -> Unary<'a, M, R> {
        Unary {
            client,
            method,
            request,
            options,
            answer: PhantomData,
        }
    }

    /// The time that the call may take, instead of the client's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Says that doing it twice is as good as doing it once, so that it is sent
    /// again where the first attempt may have been carried out. What reads is so anyway.
    pub fn idempotent(mut self) -> Self {
        self.options.idempotent = true;
        self
    }
}

impl<M: Request, R: Response + Answer> IntoFuture for Unary<'_, M, R> {
    type Output = Result<R, Error>;
    type IntoFuture = Call<R>;

    fn into_future(self) -> Call<R> {
        self.client.unary(self.method, &self.request, self.options)
    }
}

impl<M: Clone, R> Clone for Unary<'_, M, R> {
    fn clone(&self) -> Self {
        let options = self.options.clone();
        Unary::new(self.client, self.method, self.request.clone(), options)
    }
}

/// The messages hide what is secret themselves.
impl<M: fmt::Debug, R> fmt::Debug for Unary<'_, M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unary")
            .field("method", &self.method.path)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}
