//! The lease service, call by call, and [`Lease`]: a lease that is kept alive for
//! as long as its handle lives. What renews it is `net/lease_driver`.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::kv::{awaited, idempotent};
use super::{Call, Client, Route};
use crate::core::lease::{LeaseEnd, Term, valid_until};
use crate::core::pool::Class;
use crate::core::time::Instant;
use crate::error::{Code, Delivery, Error, EtcdError, Origin};
use crate::net::call_options::CallOptions;
use crate::net::clock;
use crate::net::lease_inbox::Proof;
use crate::net::lease_keeper::LeaseKeeper;
use crate::net::lease_state::LeaseState;
use crate::net::named::named;
use crate::net::race::{Either, race};
use crate::net::stream::Duplex;
use crate::net::tokens::young_wait;
use crate::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use crate::types::LeaseId;
use crate::wire::method::lease as method;

/// With the waits between them, longer than a member can lag behind a new token.
const TOKEN_REFUSALS_MAX: u32 = 10;

impl Client {
    /// Grants a lease and keeps it alive for as long as the [`Lease`] lives.
    ///
    /// The time to live is rounded up to whole seconds, and the server may grant
    /// more: [`Lease::ttl`] says what it is.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// use std::time::Duration;
    ///
    /// let lease = client.lease(Duration::from_secs(10)).await?;
    /// client.put("workers/7", "here").lease(lease.id()).await?;
    /// // The key goes 10 seconds after this process does.
    /// println!("the lease is over: {}", lease.ended().await);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Client::lease_grant`], and where the lease ran out before the answer
    /// came. The lease then ends on the server by itself.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it leaves at most a lease that runs out.
    pub fn lease(&self, ttl: Duration) -> LeaseKeep<'_> {
        LeaseKeep {
            grant: self.lease_grant(ttl),
            reserve: Duration::ZERO,
        }
    }

    /// Keeps a lease alive that exists: one that another process granted, or that
    /// [`Client::lease_grant`] did. It is renewed once to begin with. A lease
    /// that this client keeps alive already is shared.
    ///
    /// # Errors
    ///
    /// [`EtcdError::LeaseNotFound`] where the server does not have it.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has at most renewed the lease.
    pub async fn keep_alive(&self, id: LeaseId) -> Result<Lease, Error> {
        self.keep_alive_reserving(id, Duration::ZERO).await
    }

    /// The same, with a [`LeaseKeep::reserve`].
    pub(crate) async fn keep_alive_reserving(&self, id: LeaseId, reserve: Duration) -> Result<Lease, Error> {
        let (sent, answer) = self.channel().runtime().run(self.renew(id)).await?;
        let granted = Duration::from_secs(u64::try_from(answer.ttl).unwrap_or(0));
        if !reserve.is_zero() && granted <= reserve {
            let message =
                format!("the time to live of lease {id}, {granted:?}, is not above the delay, {reserve:?}");
            return Err(Error::invalid(message));
        }
        let term = term(answer.ttl, reserve);
        Lease::keep(self.leases_kept(), id, sent, term, Proof::Renewal)
    }

    /// Grants a lease and leaves it alone: it ends after its time to live, which
    /// is rounded up to whole seconds.
    ///
    /// # Errors
    ///
    /// A `ttl` of zero is invalid, and one above 9,000,000,000 seconds is
    /// [`EtcdError::LeaseTtlTooLarge`]. A grant without an ID of the caller's
    /// choice is not sent again by itself when its fate is unknown.
    pub fn lease_grant(&self, ttl: Duration) -> LeaseGrant<'_> {
        let request = LeaseGrantRequest {
            ttl: whole_seconds(ttl),
            id: LeaseId::NONE.0,
        };
        LeaseGrant {
            client: self,
            request,
            options: CallOptions::control(),
        }
    }

    /// Ends a lease and deletes its keys.
    ///
    /// # Errors
    ///
    /// [`EtcdError::LeaseNotFound`] where the server does not have it.
    pub fn lease_revoke(&self, id: LeaseId) -> LeaseRevoke<'_> {
        LeaseRevoke {
            client: self,
            request: LeaseRevokeRequest { id: id.0 },
            options: CallOptions::control(),
        }
    }

    /// Renews a lease once, to its whole time to live.
    ///
    /// # Errors
    ///
    /// [`EtcdError::LeaseNotFound`] where the server does not have it.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it may have renewed the lease.
    pub async fn lease_keep_alive_once(&self, id: LeaseId) -> Result<LeaseKeepAliveResponse, Error> {
        let renewing = self.renew(id);
        self.channel().runtime().run(renewing).await.map(|(_, answer)| answer)
    }

    /// Asks how long a lease has left. A lease that is not there is no error: its
    /// `ttl` is -1.
    pub fn lease_time_to_live(&self, id: LeaseId) -> LeaseTimeToLive<'_> {
        let request = LeaseTimeToLiveRequest {
            id: id.0,
            keys: false,
        };
        LeaseTimeToLive {
            client: self,
            request,
            options: CallOptions::control(),
        }
    }

    /// Lists the leases that the server has.
    pub fn leases(&self) -> LeaseLeases<'_> {
        LeaseLeases {
            client: self,
            request: LeaseLeasesRequest {},
            options: CallOptions::control(),
        }
    }

    /// One renewal on a stream of its own, with the time it was sent.
    async fn renew(&self, id: LeaseId) -> Result<(Instant, LeaseKeepAliveResponse), Error> {
        let deadline = clock::now() + self.channel().config().call_timeout;
        for refusals in 0..TOKEN_REFUSALS_MAX {
            match self.renew_once(id, deadline).await {
                Err(error) if self.channel().tokens().are_at_fault(&error) => {
                    clock::sleep_until(clock::now() + young_wait(refusals)).await;
                }
                renewed => return renewed,
            }
        }
        self.renew_once(id, deadline).await
    }

    async fn renew_once(
        &self,
        id: LeaseId,
        deadline: Instant,
    ) -> Result<(Instant, LeaseKeepAliveResponse), Error> {
        let stream = self.channel().duplex(&method::LEASE_KEEP_ALIVE, deadline).await?;
        let sent = clock::now();
        match race(renew_on(stream, id), clock::sleep_until(deadline)).await {
            Either::Left(answer) => answer.map(|answer| (sent, answer)),
            Either::Right(()) => {
                let message = "no answer before the deadline";
                let error = Error::new(
                    Code::DeadlineExceeded,
                    Origin::Library,
                    Delivery::Unknown,
                    message,
                );
                Err(named(error, &method::LEASE_KEEP_ALIVE, None))
            }
        }
    }
}

/// A grant to await, as [`Client::lease_grant`] makes it.
#[derive(Clone, Debug)]
#[must_use = "a grant is sent only once it is awaited"]
pub struct LeaseGrant<'a> {
    client: &'a Client,
    request: LeaseGrantRequest,
    options: CallOptions,
}

impl LeaseGrant<'_> {
    /// The lease's ID, which the server chooses otherwise. Fails with
    /// [`EtcdError::LeaseExists`] where there is such a lease.
    pub fn id(mut self, id: LeaseId) -> Self {
        self.request.id = id.0;
        self
    }

    /// The time that the call may take, instead of the client's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }
}

idempotent!(LeaseGrant<'_>);

/// By hand, since a TTL of zero is refused: a server would grant its minimum.
impl IntoFuture for LeaseGrant<'_> {
    type Output = Result<LeaseGrantResponse, Error>;
    type IntoFuture = Call<LeaseGrantResponse>;

    fn into_future(self) -> Call<LeaseGrantResponse> {
        let call = self.client.channel().unary(&method::LEASE_GRANT, &self.request, self.options);
        match self.request.ttl {
            0 => call.refuse(Error::invalid("a lease needs a time to live")),
            _ => call,
        }
    }
}

/// A grant to await that is kept alive, as [`Client::lease`] makes it.
#[derive(Clone, Debug)]
#[must_use = "a grant is sent only once it is awaited"]
pub struct LeaseKeep<'a> {
    grant: LeaseGrant<'a>,
    reserve: Duration,
}

impl LeaseKeep<'_> {
    /// As [`LeaseGrant::id`].
    pub fn id(mut self, id: LeaseId) -> Self {
        self.grant = self.grant.id(id);
        self
    }

    /// The server is asked for so much more than the time to live, in whole seconds, rounded up. It is not
    /// believed in here: between the end that this side sees and that on the server lies so much at least.
    pub(crate) fn reserve(mut self, reserve: Duration) -> Self {
        // Zero is refused.
        if self.grant.request.ttl > 0 {
            self.grant.request.ttl = self.grant.request.ttl.saturating_add(whole_seconds(reserve));
        }
        self.reserve = reserve;
        self
    }

    /// The time that the grant may take, instead of the client's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.grant = self.grant.timeout(timeout);
        self
    }
}

impl IntoFuture for LeaseKeep<'_> {
    type Output = Result<Lease, Error>;
    type IntoFuture = Keeping;

    fn into_future(self) -> Keeping {
        let keeper = self.grant.client.leases_kept().clone();
        Keeping {
            grant: self.grant.into_future(),
            sent: clock::now(),
            reserve: self.reserve,
            keeper,
        }
    }
}

pin_project! {
    /// A [`LeaseKeep`] under way.
    #[derive(Debug)]
    #[must_use = "a grant is sent only once it is awaited"]
    pub struct Keeping {
        #[pin]
        grant: Call<LeaseGrantResponse>,
        sent: Instant,
        reserve: Duration,
        keeper: LeaseKeeper,
    }
}

impl Future for Keeping {
    type Output = Result<Lease, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Lease, Error>> {
        let this = self.project();
        // Read before the request can leave: what it grants counts from then. It may have waited for a
        // server for longer than the lease lives.
        if !this.grant.is_sent() {
            *this.sent = clock::now();
        }
        let granted = ready!(this.grant.poll(cx));
        Poll::Ready(granted.and_then(|granted| {
            let term = term(granted.ttl, *this.reserve);
            Lease::keep(this.keeper, LeaseId(granted.id), *this.sent, term, Proof::Grant)
        }))
    }
}

/// The end of a lease to await, as [`Client::lease_revoke`] makes it.
#[derive(Clone, Debug)]
#[must_use = "a revocation is sent only once it is awaited"]
pub struct LeaseRevoke<'a> {
    client: &'a Client,
    request: LeaseRevokeRequest,
    options: CallOptions,
}

awaited!(LeaseRevoke<'_>, method::LEASE_REVOKE, LeaseRevokeResponse);
idempotent!(LeaseRevoke<'_>);

/// A question to await, as [`Client::lease_time_to_live`] makes it.
#[derive(Clone, Debug)]
#[must_use = "a question is sent only once it is awaited"]
pub struct LeaseTimeToLive<'a> {
    client: &'a Client,
    request: LeaseTimeToLiveRequest,
    options: CallOptions,
}

impl LeaseTimeToLive<'_> {
    /// The answer lists the keys that hang on the lease.
    pub fn keys(mut self) -> Self {
        self.request.keys = true;
        self
    }
}

awaited!(
    LeaseTimeToLive<'_>,
    method::LEASE_TIME_TO_LIVE,
    LeaseTimeToLiveResponse
);

/// A list to await, as [`Client::leases`] makes it.
#[derive(Clone, Debug)]
#[must_use = "a list is asked for only once it is awaited"]
pub struct LeaseLeases<'a> {
    client: &'a Client,
    request: LeaseLeasesRequest,
    options: CallOptions,
}

awaited!(LeaseLeases<'_>, method::LEASE_LEASES, LeaseLeasesResponse);

/// A lease that is kept alive. Dropping it stops that: the server ends the lease
/// when its time to live has passed, and deletes its keys. [`Lease::revoke`] does so at once.
///
/// # Guarantees
///
/// While [`Lease::is_valid`] says true, no server has expired the lease, provided
/// that the clocks here and there run at the same rate to within 1 in 1000, and
/// that no more than a tenth of the time to live (at most one second) passes between
/// the check and what it is for. A revocation by somebody else is learned at the next
/// renewal only. Once a lease has ended it stays so, whatever the server still says.
///
/// Time is that of the boot clock, which goes on while the machine is suspended.
#[must_use = "a lease is kept alive only while its handle lives"]
pub struct Lease {
    keeper: LeaseKeeper,
    state: Arc<LeaseState>,
}

impl Lease {
    /// Keeps the lease that a request sent at `sent` granted or renewed.
    fn keep(
        keeper: &LeaseKeeper,
        id: LeaseId,
        sent: Instant,
        term: Term,
        proof: Proof,
    ) -> Result<Lease, Error> {
        if id == LeaseId::NONE {
            // To the server that means no lease: what is put under it would stay for ever.
            let message = "the server granted a lease without an ID";
            return Err(Error::new(
                Code::Internal,
                Origin::Transport,
                Delivery::Unknown,
                message,
            ));
        }
        if valid_until(sent, term.believed()) <= clock::now() {
            let message = "the lease ran out before the answer came";
            let code = Code::DeadlineExceeded;
            return Err(Error::new(code, Origin::Library, Delivery::Answered, message));
        }
        Ok(Lease {
            keeper: keeper.clone(),
            state: keeper.keep(id, sent, term, proof),
        })
    }

    /// The lease's ID, for [`Put::lease`](super::Put::lease).
    #[must_use]
    pub fn id(&self) -> LeaseId {
        self.state.id()
    }

    /// The time to live that the server granted.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.state.term().ttl
    }

    /// For how long the server has it when it is not believed in any more, at least.
    pub(crate) fn reserve(&self) -> Duration {
        self.state.term().reserve
    }

    /// Whether the lease is proven to be alive now. Costs a look at the clock.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.end().is_none()
    }

    pub(crate) fn is_valid_at(&self, now: Instant) -> bool {
        self.state.valid_until(now).is_ok()
    }

    /// For how long the lease is proven to be alive; zero once it has ended.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        let now = clock::now();
        let deadline = self.state.valid_until(now);
        deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_since(now))
    }

    /// Until when the lease is proven to be alive, on the boot clock. A renewal
    /// moves it; once the lease has ended it is the boot of the machine.
    #[must_use]
    pub(crate) fn deadline(&self) -> Instant {
        self.state.valid_until(clock::now()).unwrap_or_default()
    }

    /// Why the lease has ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<LeaseEnd> {
        self.state.valid_until(clock::now()).err()
    }

    /// Completes when the lease has ended, and says why. The end of its time
    /// is told at the deadline, also when neither the network nor the task that
    /// renews it moves.
    ///
    /// # Cancel safety
    ///
    /// It may be dropped and asked for anew.
    pub fn ended(&self) -> impl Future<Output = LeaseEnd> + Send + Sync + use<> {
        let state = self.state.clone();
        async move { state.ended().await }
    }

    /// Ends the lease now and deletes its keys. It is no longer valid from the
    /// moment this is polled, for whoever shares it too. A lease that the server
    /// does not have is as good as revoked.
    ///
    /// # Errors
    ///
    /// The server did not confirm. The lease is not renewed and runs out.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it leaves a lease that runs out.
    pub async fn revoke(&self) -> Result<(), Error> {
        self.keeper.give_up(&self.state, LeaseEnd::Revoked);
        let request = LeaseRevokeRequest { id: self.id().0 };
        // Once more does no harm: no other lease has the id.
        let options = CallOptions {
            idempotent: true,
            ..CallOptions::control()
        };
        let revoked: Result<LeaseRevokeResponse, Error> =
            self.keeper.channel().unary(&method::LEASE_REVOKE, &request, options).await;
        match revoked {
            Err(error) if error.etcd() == Some(EtcdError::LeaseNotFound) => Ok(()),
            revoked => revoked.map(drop),
        }
    }

    /// The server said that it does not have the lease: whoever shares it is told.
    pub(crate) fn gone(&self) {
        self.keeper.give_up(&self.state, LeaseEnd::UnknownToServer);
    }

    /// Stops renewing the lease, for whoever shares it too, and leaves it to run
    /// out on the server.
    pub fn forget(&self) {
        self.keeper.give_up(&self.state, LeaseEnd::Closed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.release(&self.state);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", &format_args!("{}", self.id()))
            .field("ttl", &self.ttl())
            .field("valid_for", &self.valid_for())
            .finish()
    }
}

async fn renew_on(
    mut stream: Duplex<LeaseKeepAliveRequest, LeaseKeepAliveResponse>,
    id: LeaseId,
) -> Result<LeaseKeepAliveResponse, Error> {
    let failed = stream.sender.send(&LeaseKeepAliveRequest { id: id.0 }).await;
    match (stream.receiver.recv().await, failed) {
        (Ok(Some(answer)), _) if answer.ttl > 0 => Ok(answer),
        (Ok(Some(_)), _) => {
            let error = Error::answered(Code::NotFound, "etcdserver: requested lease not found");
            Err(named(error, &method::LEASE_KEEP_ALIVE, None))
        }
        (Err(error), _) | (Ok(None), Err(error)) => Err(error),
        (Ok(None), Ok(())) => {
            let message = "the server ended the stream without an answer";
            Err(Error::new(
                Code::Unavailable,
                Origin::Server,
                Delivery::Unknown,
                message,
            ))
        }
    }
}

/// What was granted, with a reserve in whole seconds.
fn term(ttl_seconds: i64, reserve: Duration) -> Term {
    let seconds = |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Term {
        ttl: seconds(ttl_seconds),
        reserve: seconds(whole_seconds(reserve)),
    }
}

/// etcd counts in seconds. A part of one counts as one, so that no lease is
/// shorter than what was asked for.
fn whole_seconds(ttl: Duration) -> i64 {
    let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0));
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_second_counts_as_one() {
        assert_eq!(whole_seconds(Duration::ZERO), 0);
        assert_eq!(whole_seconds(Duration::from_nanos(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(5)), 5);
        assert_eq!(whole_seconds(Duration::from_millis(5001)), 6);
        assert_eq!(whole_seconds(Duration::MAX), i64::MAX);
    }
}
