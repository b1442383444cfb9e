//! Whatever a server says of leases, and whenever, the leases keep their invariants:
//! each ends once, and none is proven for longer than it was granted.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use tenure::core::lease::{Action, LeaseEnd, Leases, STREAMS_MAX};
use tenure::core::time::Instant;
use tenure::{Code, LeaseId};

use crate::inputs::inputs;

#[derive(Arbitrary, Debug)]
enum Input {
    Kept(u8, u32),
    GivenUp(u8),
    Opened,
    Closed(bool, bool),
    Sent(bool),
    Reply(bool, u8, i64),
    ShortReply(bool, u8, i8),
    Timeout,
    Later(u32),
}

const INPUTS_MAX: usize = 1000;

#[derive(Default)]
struct Driver {
    now: Instant,
    kept: Vec<LeaseId>,
    streams: [Stream; STREAMS_MAX],
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Stream {
    #[default]
    Down,
    Opening,
    Open,
    /// Open, and yet to take a renewal.
    Sending,
}

pub(crate) fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let Ok(seed) = u64::arbitrary(&mut data) else {
        return;
    };
    let mut leases = Leases::new(seed);
    let mut driver = Driver::default();
    for input in inputs(&mut data).take(INPUTS_MAX) {
        driver.feed(&mut leases, input);
        driver.drain(&mut leases);
        leases.check();
    }
}

impl Driver {
    fn feed(&mut self, leases: &mut Leases, input: Input) {
        let now = self.now;
        match input {
            Input::Kept(id, millis) => {
                let id = LeaseId(i64::from(id % 16) + 1);
                if !self.kept.contains(&id) {
                    self.kept.push(id);
                    leases.handle_kept(now, id, now, Duration::from_millis(millis.into()));
                }
            }
            Input::GivenUp(at) if !self.kept.is_empty() => {
                let id = self.kept[usize::from(at) % self.kept.len()];
                leases.handle_given_up(now, id, LeaseEnd::Closed);
            }
            Input::GivenUp(_) => {}
            Input::Opened => {
                if let Some(at) = self.streams.iter().position(|stream| *stream == Stream::Opening) {
                    self.streams[at] = Stream::Open;
                    leases.handle_opened(now, at);
                }
            }
            Input::Closed(at, is_refused) if self.streams[usize::from(at)] != Stream::Down => {
                self.streams[usize::from(at)] = Stream::Down;
                let refusal = is_refused.then_some(Code::PermissionDenied);
                leases.handle_closed(now, at.into(), refusal);
            }
            Input::Sent(at) if self.streams[usize::from(at)] == Stream::Sending => {
                self.streams[usize::from(at)] = Stream::Open;
                leases.handle_sent(now, at.into());
            }
            Input::Reply(at, id, ttl) if self.is_open(at) => {
                leases.handle_reply(now, at.into(), LeaseId(i64::from(id % 20)), ttl);
            }
            Input::ShortReply(at, id, ttl) if self.is_open(at) => {
                leases.handle_reply(now, at.into(), LeaseId(i64::from(id % 20)), ttl.into());
            }
            Input::Closed(..) | Input::Sent(_) | Input::Reply(..) | Input::ShortReply(..) => {}
            Input::Timeout => {
                self.now = leases.poll_timeout().unwrap_or(now).max(now);
                leases.handle_timeout(self.now);
            }
            Input::Later(micros) => self.now = now + Duration::from_micros(micros.into()) * 10,
        }
    }

    fn is_open(&self, at: bool) -> bool {
        matches!(self.streams[usize::from(at)], Stream::Open | Stream::Sending)
    }

    fn drain(&mut self, leases: &mut Leases) {
        while let Some(action) = leases.poll_action() {
            match action {
                Action::Open(at) => {
                    assert_eq!(self.streams[at], Stream::Down, "opened twice");
                    self.streams[at] = Stream::Opening;
                }
                Action::Close(at) => self.streams[at] = Stream::Down,
                Action::Renew(at, _) => {
                    assert_eq!(self.streams[at], Stream::Open, "no room for a renewal");
                    self.streams[at] = Stream::Sending;
                }
                Action::Extend(id, _) => assert!(self.kept.contains(&id), "{id:?} is over"),
                Action::End(id, _) => {
                    let before = self.kept.len();
                    self.kept.retain(|kept| *kept != id);
                    assert_eq!(self.kept.len() + 1, before, "{id:?} ended twice");
                }
            }
        }
    }
}
