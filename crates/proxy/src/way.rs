//! What all connections of a proxy share: the faults that are set, and counters.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::{Direction, Ending, Flow};

/// The faults that are set.
#[derive(Debug, Default)]
pub(crate) struct Way {
    pub(crate) flows: [Flow; 2],
    /// A connection from before the last of these ends.
    pub(crate) cuts: u64,
    pub(crate) ending: Ending,
    fuse: Option<Fuse>,
}

/// A cut that waits for its bytes.
#[derive(Debug)]
struct Fuse {
    direction: Direction,
    bytes: u64,
    ending: Ending,
}

impl Way {
    pub(crate) fn flow(&self, direction: Direction) -> Flow {
        self.flows[direction as usize]
    }

    pub(crate) fn cut_all(&mut self, ending: Ending) {
        self.cuts += 1;
        self.ending = ending;
    }

    pub(crate) fn cut_after(&mut self, direction: Direction, bytes: u64, ending: Ending) {
        self.fuse = Some(Fuse {
            direction,
            bytes,
            ending,
        });
    }

    pub(crate) fn heal(&mut self) {
        self.flows = [Flow::Pass; 2];
        self.fuse = None;
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) target: String,
    way: watch::Sender<Way>,
    accepted: AtomicU64,
    connections: AtomicU64,
    passed: [AtomicU64; 2],
}

impl Shared {
    pub(crate) fn new(target: String) -> Shared {
        Shared {
            target,
            way: watch::Sender::new(Way::default()),
            accepted: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            passed: Default::default(),
        }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Way)) {
        self.way.send_modify(change);
    }

    pub(crate) fn told(&self) -> watch::Receiver<Way> {
        self.way.subscribe()
    }

    /// Takes up to `bytes` off what is left until the cut. How many may pass, and how
    /// the connection ends behind them, if it does.
    pub(crate) fn spend(&self, direction: Direction, bytes: usize) -> (usize, Option<Ending>) {
        let mut spent = (bytes, None);
        self.way.send_if_modified(|way| {
            if let Some(fuse) = way.fuse.as_mut().filter(|fuse| fuse.direction == direction) {
                if fuse.bytes <= bytes as u64 {
                    spent = (fuse.bytes as usize, Some(fuse.ending));
                    way.fuse = None;
                } else {
                    fuse.bytes -= bytes as u64;
                }
            }
            // Nobody waits for this.
            false
        });
        self.passed[direction as usize].fetch_add(spent.0 as u64, Ordering::SeqCst);
        spent
    }

    pub(crate) fn is_cut_due(&self) -> bool {
        self.way.borrow().fuse.is_some()
    }

    /// A connection came in. The number of cuts that it does not care about.
    pub(crate) fn enter(&self) -> u64 {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        self.connections.fetch_add(1, Ordering::SeqCst);
        self.way.borrow().cuts
    }

    pub(crate) fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn passed(&self, direction: Direction) -> u64 {
        self.passed[direction as usize].load(Ordering::SeqCst)
    }
}
