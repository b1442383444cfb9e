//! From a put of somebody else to its event here, on the machine's clock: the value of each put is when it
//! began, in nanoseconds of Unix time, eight bytes and the highest first. Each watch is of a key of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use crate::input::{self, Enough};
use crate::samples::Samples;
use crate::{Events, Latency, Peer};

/// Events that are not measured.
const WARM_UP: u64 = 200;
/// When an event that does not come is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the watches share.
struct Seen {
    samples: RefCell<Rc<Samples>>,
    /// Those are all there, or a watch has ended.
    over: Notify,
    failure: RefCell<Option<String>>,
    enough: Enough,
}

pub(crate) fn run<P: Peer>(order: &Latency, runtime: &Runtime, tasks: &LocalSet) -> Result<(), String> {
    let mut input_ended = input::ended();
    let enough = Enough::default();
    let peer = tasks.block_on(runtime, P::connect(&order.servers.endpoints))?;
    let warm_up = Rc::new(Samples::of(WARM_UP.min(order.calls), &enough));
    let seen = Rc::new(Seen {
        samples: RefCell::new(warm_up.clone()),
        over: Notify::new(),
        failure: RefCell::default(),
        enough: enough.clone(),
    });
    tasks.block_on(runtime, watch(&peer, order, &seen))?;
    println!("ready");
    tasks.block_on(runtime, seen.all(&warm_up, &mut input_ended))?;
    let samples = Rc::new(Samples::of(order.calls, &enough));
    seen.samples.replace(samples.clone());
    samples.measure(runtime, tasks, seen.all(&samples, &mut input_ended))
}

/// Returns when all of them are there.
async fn watch<P: Peer>(peer: &P, order: &Latency, seen: &Rc<Seen>) -> Result<(), String> {
    for number in 0..order.watches {
        let mut events = peer.watch(&format!("{}{number:04}", order.prefix), 0).await?;
        let seen = seen.clone();
        spawn_local(async move {
            let cause = loop {
                if let Err(cause) = events.next_values(|value| seen.event(value)).await {
                    break cause;
                }
            };
            seen.failure.borrow_mut().get_or_insert(cause);
            seen.over.notify_one();
        });
    }
    Ok(())
}

impl Seen {
    fn event(&self, value: &[u8]) {
        let now = SystemTime::now();
        let begun = value.try_into().map_or(0, u64::from_be_bytes);
        let samples = self.samples.borrow();
        if samples.take() {
            let begun = UNIX_EPOCH + Duration::from_nanos(begun);
            samples.add(now.duration_since(begun).unwrap_or_default());
            if samples.left() == 0 {
                self.over.notify_one();
            }
        }
    }

    /// Until all of these are there, or it is enough.
    async fn all(&self, samples: &Samples, input_ended: &mut oneshot::Receiver<()>) -> Result<(), String> {
        while samples.left() > 0 && !self.enough.is_it() {
            let left = samples.left();
            tokio::select! {
                () = self.over.notified() => {}
                _ = &mut *input_ended => self.enough.set(),
                () = sleep(PATIENCE) => {
                    if samples.left() == left {
                        return Err(format!("no event within {PATIENCE:?}"));
                    }
                }
            }
            if let Some(cause) = self.failure.take() {
                return Err(cause);
            }
        }
        Ok(())
    }
}
