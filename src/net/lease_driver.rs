//! The task that renews leases: it feeds the machine in `core::lease` with
//! commands, replies and the time, and does what that asks for. It decides
//! nothing. It ends with the last lease, and its stream with it.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::channel::Channel;
use super::clock::{self, Timer};
use super::lease_inbox::{Command, LeaseInbox};
use super::lease_state::LeaseState;
use super::stream::Duplex;
use crate::core::lease::{Action, LeaseEnd, Leases};
use crate::core::time::Instant;
use crate::error::Error;
use crate::pb::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use crate::types::LeaseId;
use crate::wire::method::lease as method;

/// Events handled in one go, so that a burst leaves the thread to other tasks,
/// of which the connection's is one.
const EVENTS_PER_TURN_MAX: u32 = 64;

/// The wait for a connection. The machine gives up long before, at a third of
/// the shortest TTL; this bounds leases that live for days.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(60);

const NEVER: Instant = Instant(u64::MAX);

type KeepAlive = Duplex<LeaseKeepAliveRequest, LeaseKeepAliveResponse>;
type Opening = Pin<Box<dyn Future<Output = Result<KeepAlive, Error>> + Send>>;

pub(super) struct LeaseDriver {
    channel: Channel,
    inbox: Arc<LeaseInbox>,
    leases: Leases,
    states: BTreeMap<LeaseId, Arc<LeaseState>>,
    stream: Stream,
    timer: Pin<Box<Timer>>,
    /// When the timer fires: at the time the machine named, or before it.
    armed: Instant,
    commands: Vec<Command>,
    finished: bool,
}

enum Stream {
    Down,
    Opening(Opening),
    Open {
        duplex: Box<KeepAlive>,
        /// What waits for room on the stream. Replies are read meanwhile.
        renewal: Option<LeaseKeepAliveRequest>,
    },
}

enum Event {
    Commands,
    Opened,
    Closed,
    Sent,
    Reply(LeaseKeepAliveResponse),
    Timeout,
}

impl LeaseDriver {
    pub(super) fn new(channel: Channel, inbox: Arc<LeaseInbox>, seed: u64) -> LeaseDriver {
        LeaseDriver {
            channel,
            inbox,
            leases: Leases::new(seed),
            states: BTreeMap::new(),
            stream: Stream::Down,
            timer: Box::pin(Timer::new(NEVER)),
            armed: NEVER,
            commands: Vec::new(),
            finished: false,
        }
    }

    pub(super) async fn run(mut self) {
        let mut events = 0;
        while !self.finished {
            let event = poll_fn(|cx| self.poll_event(cx)).await;
            self.handle(event);
            self.act();
            self.finished = self.leases.is_empty() && self.inbox.dismiss();
            events += 1;
            if events % EVENTS_PER_TURN_MAX == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Replies come before renewals and the time, so that no stream is called
    /// silent while a reply lies here unread.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.inbox.poll_commands(&mut self.commands, cx).is_ready() {
            return Poll::Ready(Event::Commands);
        }
        if let Poll::Ready(event) = self.stream.poll_event(cx) {
            return Poll::Ready(event);
        }
        self.poll_timer(cx).map(|()| Event::Timeout)
    }

    /// A timer that fires too early is cheaper than one that is moved at every renewal.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.leases.poll_timeout().unwrap_or(NEVER);
        if at < self.armed {
            self.arm(at);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if at <= clock::now() {
                self.armed = NEVER;
                return Poll::Ready(());
            }
            self.arm(at);
        }
    }

    fn arm(&mut self, at: Instant) {
        self.armed = at;
        self.timer.as_mut().reset(at);
    }

    fn handle(&mut self, event: Event) {
        let now = clock::now();
        match event {
            Event::Commands => self.obey(now),
            Event::Opened => self.leases.handle_opened(now),
            Event::Closed => self.leases.handle_closed(now),
            Event::Sent => self.leases.handle_sent(now),
            Event::Reply(reply) => self.leases.handle_reply(now, LeaseId(reply.id), reply.ttl),
            Event::Timeout => self.leases.handle_timeout(now),
        }
    }

    fn obey(&mut self, now: Instant) {
        let mut commands = std::mem::take(&mut self.commands);
        for command in commands.drain(..) {
            match command {
                Command::Keep(lease, sent) => self.keep(now, lease, sent),
                Command::GiveUp(id, end) => self.leases.handle_given_up(now, id, end),
            }
            // An end that this brought is for the lease of now, not for the next
            // command's.
            self.act();
        }
        self.commands = commands;
    }

    fn keep(&mut self, now: Instant, lease: Arc<LeaseState>, sent: Instant) {
        let (id, ttl) = (lease.id(), lease.ttl());
        if let Some(earlier) = self.states.get(&id) {
            if !Arc::ptr_eq(earlier, &lease) {
                // Its handle saw the deadline pass before this task did.
                self.leases.handle_given_up(now, id, LeaseEnd::Expired);
                self.act();
            }
        }
        self.states.insert(id, lease);
        self.leases.handle_kept(now, id, sent, ttl);
    }

    fn act(&mut self) {
        while let Some(action) = self.leases.poll_action() {
            match action {
                Action::Open => self.stream = Stream::open(self.channel.clone()),
                Action::Close => {
                    if let Stream::Open { duplex, .. } = &self.stream {
                        self.channel.suspect(&duplex.route);
                    }
                    self.stream = Stream::Down;
                }
                Action::Renew(id) => self.stream.renew(id),
                Action::Extend(id, deadline) => self.extend(id, deadline),
                Action::End(id, end) => self.end(id, end),
            }
        }
    }

    fn extend(&mut self, id: LeaseId, deadline: Instant) {
        let now = clock::now();
        let lease = self.states.get(&id);
        let extended = lease.map_or(Err(LeaseEnd::Expired), |lease| lease.extend(now, deadline));
        if let Err(end) = extended {
            // Its handle was faster: what it has told stays true.
            self.leases.handle_given_up(now, id, end);
        }
    }

    fn end(&mut self, id: LeaseId, end: LeaseEnd) {
        if let Some(lease) = self.states.remove(&id) {
            lease.end(end);
            self.inbox.forget(&lease);
        }
    }
}

/// The task went with its runtime, or in a panic.
impl Drop for LeaseDriver {
    fn drop(&mut self) {
        if !self.finished {
            self.inbox.abandon();
        }
    }
}

impl Stream {
    fn open(channel: Channel) -> Stream {
        Stream::Opening(Box::pin(async move {
            let deadline = clock::now() + OPEN_WAIT_MAX;
            channel.duplex(&method::LEASE_KEEP_ALIVE, deadline).await
        }))
    }

    fn renew(&mut self, id: LeaseId) {
        if let Stream::Open { renewal, .. } = self {
            *renewal = Some(LeaseKeepAliveRequest { id: id.0 });
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        match self {
            Stream::Down => Poll::Pending,
            Stream::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                Ok(duplex) => {
                    let duplex = Box::new(duplex);
                    *self = Stream::Open {
                        duplex,
                        renewal: None,
                    };
                    Poll::Ready(Event::Opened)
                }
                Err(_) => Poll::Ready(self.close()),
            },
            Stream::Open { duplex, renewal } => {
                if let Poll::Ready(reply) = duplex.receiver.poll_recv(cx) {
                    return Poll::Ready(match reply {
                        Ok(Some(reply)) => Event::Reply(reply),
                        Ok(None) | Err(_) => self.close(),
                    });
                }
                let Some(request) = renewal else {
                    return Poll::Pending;
                };
                let sent = ready!(duplex.sender.poll_send(request, cx));
                *renewal = None;
                Poll::Ready(match sent {
                    Ok(()) => Event::Sent,
                    Err(_) => self.close(),
                })
            }
        }
    }

    fn close(&mut self) -> Event {
        *self = Stream::Down;
        Event::Closed
    }
}
