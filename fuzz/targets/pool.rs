//! Whatever happens to endpoints and connections, in whatever order, the pool keeps
//! its invariants, and picks only connections that live.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use tenure::core::breaker::{Rules, Sign};
use tenure::core::pool::{Action, Class, ConnectionId, EndpointId, Limits, Pool, Want};
use tenure::core::time::Instant;

use crate::inputs::inputs;

#[derive(Arbitrary, Debug)]
enum Input {
    Added,
    Removed(u8),
    Connected(u8, u8),
    StreamsMax(u8, u8),
    Lost(u8),
    Goaway(u8),
    Opened(u8),
    Closed(u8),
    Answer(u8),
    Suspect(u8),
    Mute(u8, bool),
    Timeout,
    Pick {
        control: bool,
        stream: bool,
        avoid: Option<u8>,
    },
    Later(u32),
    /// How a call ended that was sent so long ago.
    Sign(u8, u8, u32),
}

const INPUTS_MAX: usize = 1000;
const ENDPOINTS_MAX: usize = 16;

#[derive(Default)]
struct Driver {
    now: Instant,
    endpoints: Vec<EndpointId>,
    /// What was dialled and not given up, and whether it is up.
    connections: Vec<(ConnectionId, bool, usize)>,
}

pub(crate) fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let Ok((connections_max, streams_full, seed)) = <(u8, u8, u64)>::arbitrary(&mut data) else {
        return;
    };
    let limits = Limits {
        connections_max: usize::from(connections_max % 4) + 1,
        streams_full: usize::from(streams_full % 8) + 1,
        breaker: Some(Rules {
            failures: 3,
            pause: Duration::from_secs(1),
            probe: Duration::from_secs(8),
            silence: Duration::from_millis(300),
        }),
    };
    let mut pool = Pool::new(limits, seed);
    let mut driver = Driver::default();
    for input in inputs(&mut data).take(INPUTS_MAX) {
        driver.feed(&mut pool, input);
        driver.drain(&mut pool);
        pool.check();
    }
}

impl Driver {
    fn feed(&mut self, pool: &mut Pool, input: Input) {
        let now = self.now;
        match input {
            Input::Added if self.endpoints.len() < ENDPOINTS_MAX => {
                self.endpoints.push(pool.handle_added(now));
            }
            Input::Added => {}
            Input::Removed(index) if !self.endpoints.is_empty() => {
                let index = usize::from(index) % self.endpoints.len();
                pool.handle_removed(now, self.endpoints.swap_remove(index));
            }
            Input::Removed(_) => {}
            Input::Later(micros) => self.now = now + Duration::from_micros(micros.into()) * 10,
            Input::Timeout => {
                self.now = pool.poll_timeout().unwrap_or(now).max(now);
                pool.handle_timeout(self.now);
            }
            Input::Pick {
                control,
                stream,
                avoid,
            } => self.pick(pool, control, stream, avoid),
            Input::Connected(at, streams) => {
                if let Some((id, up, _)) = self.connection(at) {
                    if !std::mem::replace(up, true) {
                        pool.handle_connected(now, *id, streams.into());
                    }
                }
            }
            Input::StreamsMax(at, streams) => self.live(at, |id| pool.handle_streams_max(id, streams.into())),
            Input::Goaway(at) => self.live(at, |id| pool.handle_goaway(now, id)),
            Input::Answer(at) => self.live(at, |id| pool.handle_answer(id)),
            Input::Suspect(at) => self.live(at, |id| pool.handle_suspect(now, id)),
            Input::Mute(at, mute) => self.live(at, |id| pool.handle_mute(id, mute)),
            Input::Sign(at, sign, micros) if !self.endpoints.is_empty() => {
                let endpoint = self.endpoints[usize::from(at) % self.endpoints.len()];
                let sign = [Sign::Well, Sign::Ill, Sign::Nothing][usize::from(sign) % 3];
                let begun = Instant(now.0.saturating_sub(u64::from(micros) * 1000));
                pool.handle_sign(now, endpoint, begun, sign);
            }
            Input::Sign(..) => {}
            Input::Opened(at) => {
                if let Some((id, true, streams)) = self.connection(at) {
                    *streams += 1;
                    pool.handle_opened(now, *id);
                }
            }
            Input::Closed(at) => {
                if let Some((id, true, streams @ 1..)) = self.connection(at) {
                    *streams -= 1;
                    pool.handle_closed(now, *id);
                }
            }
            Input::Lost(at) => {
                if let Some(&mut (id, ..)) = self.connection(at) {
                    self.connections.retain(|(other, ..)| *other != id);
                    pool.handle_lost(now, id);
                }
            }
        }
    }

    fn pick(&mut self, pool: &mut Pool, control: bool, stream: bool, avoid: Option<u8>) {
        let avoid = avoid.map(|id| EndpointId(id.into()));
        let class = if control { Class::Control } else { Class::Bulk };
        let want = Want {
            stream,
            avoid,
            ..Want::call(class)
        };
        if let Some((_, picked)) = pool.pick(self.now, want) {
            let lives = self.connections.iter().any(|(id, up, _)| *id == picked && *up);
            assert!(lives, "{picked:?} is not up");
        }
    }

    fn connection(&mut self, at: u8) -> Option<&mut (ConnectionId, bool, usize)> {
        let count = self.connections.len();
        self.connections.get_mut(usize::from(at) % count.max(1))
    }

    fn live(&mut self, at: u8, tell: impl FnOnce(ConnectionId)) {
        if let Some(&mut (id, true, _)) = self.connection(at) {
            tell(id);
        }
    }

    fn drain(&mut self, pool: &mut Pool) {
        while let Some(action) = pool.poll_action() {
            match action {
                Action::Dial(_, id) => self.connections.push((id, false, 0)),
                Action::Close(id) => self.connections.retain(|(other, ..)| *other != id),
                Action::Retire(_) => {}
            }
        }
    }
}
