//! Whatever a server says of leases, and whenever, the leases keep their invariants:
//! each ends once, and none is proven for longer than it was granted.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use tenure::LeaseId;
use tenure::core::lease::{Action, LeaseEnd, Leases};
use tenure::core::time::Instant;

use crate::inputs::inputs;

#[derive(Arbitrary, Debug)]
enum Input {
    Kept(u8, u32),
    GivenUp(u8),
    Opened,
    Closed,
    Sent,
    Reply(u8, i64),
    ShortReply(u8, i8),
    Timeout,
    Later(u32),
}

const INPUTS_MAX: usize = 1000;

#[derive(Default)]
struct Driver {
    now: Instant,
    kept: Vec<LeaseId>,
    opening: bool,
    open: bool,
    sending: bool,
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
            Input::Opened if self.opening => {
                (self.opening, self.open) = (false, true);
                leases.handle_opened(now);
            }
            Input::Closed if self.opening || self.open => {
                (self.opening, self.open, self.sending) = (false, false, false);
                leases.handle_closed(now);
            }
            Input::Sent if self.sending => {
                self.sending = false;
                leases.handle_sent(now);
            }
            Input::Reply(id, ttl) if self.open => leases.handle_reply(now, LeaseId(i64::from(id % 20)), ttl),
            Input::ShortReply(id, ttl) if self.open => {
                leases.handle_reply(now, LeaseId(i64::from(id % 20)), ttl.into());
            }
            Input::Opened | Input::Closed | Input::Sent | Input::Reply(..) | Input::ShortReply(..) => {}
            Input::Timeout => {
                self.now = leases.poll_timeout().unwrap_or(now).max(now);
                leases.handle_timeout(self.now);
            }
            Input::Later(micros) => self.now = now + Duration::from_micros(micros.into()) * 10,
        }
    }

    fn drain(&mut self, leases: &mut Leases) {
        while let Some(action) = leases.poll_action() {
            match action {
                Action::Open => self.opening = true,
                Action::Close => (self.opening, self.open, self.sending) = (false, false, false),
                Action::Renew(_) => self.sending = true,
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
