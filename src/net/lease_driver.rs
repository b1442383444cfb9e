//! The task that renews leases: it feeds the machine in `core::lease` with
//! commands, replies and the time, and does what that asks for. It decides
//! nothing. It ends with the last lease, and its stream with it.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::channel::Channel;
use super::clock::{self, NEVER, Timer};
use super::lease_inbox::{Command, LeaseInbox};
use super::lease_state::LeaseState;
use super::lease_stream::{LeaseStream, StreamEvent};
use super::trace;
use crate::core::lease::{Action, LeaseEnd, Leases, STREAMS_MAX};
use crate::core::time::Instant;
use crate::error::Code;
use crate::types::LeaseId;

/// Events handled in one go, so that a burst leaves the thread to other tasks,
/// of which the connection's is one.
const EVENTS_PER_TURN_MAX: u32 = 64;

pub(super) struct LeaseDriver {
    channel: Channel,
    inbox: Arc<LeaseInbox>,
    leases: Leases,
    states: HashMap<LeaseId, Arc<LeaseState>>,
    streams: [LeaseStream; STREAMS_MAX],
    timer: Pin<Box<Timer>>,
    /// When the timer fires: at the time the machine named, or before it.
    armed: Instant,
    commands: Vec<Command>,
    /// What the handles know of refusals.
    refusal: Option<Code>,
    finished: bool,
}

enum Event {
    Commands,
    Stream(usize, StreamEvent),
    Timeout,
}

impl LeaseDriver {
    pub(super) fn new(channel: Channel, inbox: Arc<LeaseInbox>, seed: u64) -> LeaseDriver {
        LeaseDriver {
            channel,
            inbox,
            leases: Leases::new(seed),
            states: HashMap::new(),
            streams: [const { LeaseStream::Down }; STREAMS_MAX],
            timer: Box::pin(Timer::new(NEVER)),
            armed: NEVER,
            commands: Vec::new(),
            refusal: None,
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
        for (at, stream) in self.streams.iter_mut().enumerate() {
            if let Poll::Ready(event) = stream.poll_event(cx) {
                return Poll::Ready(Event::Stream(at, event));
            }
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
            Event::Stream(at, StreamEvent::Opened) => self.leases.handle_opened(now, at),
            Event::Stream(at, StreamEvent::Closed(refusal)) => self.leases.handle_closed(now, at, refusal),
            Event::Stream(at, StreamEvent::Sent) => self.leases.handle_sent(now, at),
            Event::Stream(at, StreamEvent::Reply(reply)) => {
                self.leases.handle_reply(now, at, LeaseId(reply.id), reply.ttl);
            }
            Event::Timeout => self.leases.handle_timeout(now),
        }
        if self.refusal != self.leases.refusal() {
            self.refusal = self.leases.refusal();
            self.inbox.refuse(self.refusal);
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
        let (id, term) = (lease.id(), lease.term());
        if let Some(earlier) = self.states.get(&id) {
            if !Arc::ptr_eq(earlier, &lease) {
                // Its handle saw the deadline pass before this task did.
                self.leases.handle_given_up(now, id, LeaseEnd::Expired);
                self.act();
            }
        }
        self.states.insert(id, lease);
        self.leases.handle_kept(now, id, sent, term);
    }

    fn act(&mut self) {
        while let Some(action) = self.leases.poll_action() {
            match action {
                Action::Open(at) => self.open(at),
                Action::Close(at) => self.streams[at] = LeaseStream::Down,
                Action::Renew(at, id) => self.streams[at].renew(id),
                Action::Extend(id, deadline) => self.extend(id, deadline),
                Action::End(id, end) => self.end(id, end),
            }
        }
    }

    fn open(&mut self, at: usize) {
        let beside = self.streams.iter().enumerate().filter(|(other, _)| *other != at);
        let beside = beside.filter_map(|(_, stream)| stream.route()).next();
        if let Some(route) = beside {
            // It keeps leases waiting.
            self.channel.suspect(route);
        }
        self.streams[at] = LeaseStream::open(self.channel.clone(), beside);
    }

    fn extend(&mut self, id: LeaseId, deadline: Instant) {
        let now = clock::now();
        let lease = self.states.get(&id);
        if lease.is_some() {
            self.channel.figures().leases.renewals.add();
            trace::lease_renewed(id);
        }
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
