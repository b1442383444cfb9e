//! A TCP proxy in this process that does what networks do: it delays, goes dead,
//! cuts, resets, refuses. Tests put it between a client and a server.
//!
//! ```
//! use tenure_proxy::{Direction, Ending, Flow, Proxy};
//!
//! # fn main() -> std::io::Result<()> {
//! let proxy = Proxy::start("http://127.0.0.1:2379")?;
//! // A client of `proxy.endpoint()` reaches the server, until:
//! proxy.flow(Direction::Down, Flow::Hold); // answers stay out, the connection stays up
//! proxy.cut_after(Direction::Up, 1000, Ending::Reset); // broken within some request
//! proxy.black_hole(); // dead in both directions, and for those who dial too
//! proxy.heal(); // what was held comes through
//! # Ok(())
//! # }
//! ```
//!
//! Each direction of a connection is a queue of what was read, with the time at
//! which each piece is due; the door is who may come in at all:
//!
//! ```text
//!   client ── door ──▶ read ─▶ [due, bytes] ─▶ written, up to a cut ──▶ server     up
//!          ◀────────── written ◀─ [due, bytes] ◀─ read ◀────────────────           down
//! ```
//!
//! Nothing is lost on a connection that lives, since TCP loses nothing: what is
//! held comes through once it may.
//!
//! It runs on a thread of its own. So it needs no runtime, its tasks are not among
//! those that a test counts, and it goes on while a test blocks. Faults are
//! switched from anywhere, at any time. Linux: the full backlog is its.

#![forbid(unsafe_code)]

mod door;
mod link;
mod way;

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use door::Entrance;
use way::Shared;

/// A way through the proxy, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the server: requests.
    Up,
    /// To the client: answers.
    Down,
}

/// What becomes of the bytes in one [`Direction`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Flow {
    /// They pass.
    #[default]
    Pass,
    /// They pass this much later, as over a long line: it is the latency that
    /// grows. Of what is under way, the proxy takes a MiB at most.
    Delay(Duration),
    /// They pass, and each is a segment of its own.
    Bytewise,
    /// They wait here, and so does the end of the connection. Held in one direction
    /// a connection is half open, in both it is a black hole.
    Hold,
}

/// How a connection is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ending {
    /// In an orderly manner, with FIN, wherever in a message that is.
    #[default]
    Close,
    /// With RST.
    Reset,
}

/// What happens to those who dial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Door {
    /// They come in. Where the server cannot be reached they are reset.
    #[default]
    Open,
    /// They are refused.
    Refusing,
    /// They hear nothing at all: the backlog is full, and their SYNs are dropped.
    Full,
}

/// A proxy to one server. Dropping it ends its connections and closes its port.
#[derive(Debug)]
pub struct Proxy {
    endpoint: String,
    shared: Arc<Shared>,
    /// Locked until the wish is done: there is one at a time.
    wishes: Option<Mutex<mpsc::Sender<Wish>>>,
    thread: Option<JoinHandle<()>>,
}

struct Wish {
    door: Door,
    done: SyncSender<io::Result<()>>,
}

impl Proxy {
    /// Starts a proxy to `target`, an `http://host:port` or a `host:port`, on a
    /// free port of loopback. The server need not be there.
    ///
    /// # Errors
    ///
    /// No port or thread is to be had.
    pub fn start(target: &str) -> io::Result<Proxy> {
        let target = target.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let shared = Arc::new(Shared::new(target));
        let (wishes, wished) = mpsc::channel(1);
        let (started, address) = sync_channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = shared.clone();
        let thread = std::thread::Builder::new()
            .name("tenure-proxy".to_owned())
            .spawn(move || runtime.block_on(serve(serving, wished, started)))?;
        let address = address.recv().map_err(io::Error::other)??;
        Ok(Proxy {
            endpoint: format!("http://{address}"),
            shared,
            wishes: Some(Mutex::new(wishes)),
            thread: Some(thread),
        })
    }

    /// Where clients reach it, such as `http://127.0.0.1:40001`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sets what becomes of the bytes in one direction, on all connections, those
    /// to come included. What is read already comes through when it was due.
    pub fn flow(&self, direction: Direction, flow: Flow) {
        self.shared.change(|way| way.flows[direction as usize] = flow);
    }

    /// Sets what happens to those who dial; those who are in stay. In force when it
    /// returns, which is at once but for [`Door::Full`], which takes a moment.
    ///
    /// # Panics
    ///
    /// The proxy's port is not to be had any more.
    pub fn door(&self, door: Door) {
        let (done, is_done) = sync_channel(1);
        let wishes = self.wishes.as_ref().expect("it is open until it is dropped");
        let wishes = wishes.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = wishes.try_send(Wish { door, done }).ok().and_then(|()| is_done.recv().ok());
        match outcome {
            Some(Ok(())) => {}
            Some(Err(cause)) => panic!("the door of {} cannot be {door:?}: {cause}", self.endpoint),
            None => panic!("the proxy at {} is gone", self.endpoint),
        }
    }

    /// Breaks all connections now. What waits in them is lost.
    pub fn cut(&self, ending: Ending) {
        self.shared.change(|way| way.cut_all(ending));
    }

    /// Breaks one connection: the one on which the last of so many more bytes goes in
    /// this direction, just behind that byte. A later call replaces this one, and
    /// [`Proxy::heal`] takes it back.
    pub fn cut_after(&self, direction: Direction, bytes: u64, ending: Ending) {
        self.shared.change(|way| way.cut_after(direction, bytes, ending));
    }

    /// Whether a [`Proxy::cut_after`] waits for its bytes yet.
    #[must_use]
    pub fn is_cut_due(&self) -> bool {
        self.shared.is_cut_due()
    }

    /// Holds both directions, and lets those who dial hear nothing.
    pub fn black_hole(&self) {
        self.shared.change(|way| way.flows = [Flow::Hold; 2]);
        self.door(Door::Full);
    }

    /// Takes every fault back. What was held comes through.
    pub fn heal(&self) {
        self.shared.change(way::Way::heal);
        self.door(Door::Open);
    }

    /// How many connections have come in so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted()
    }

    /// How many connections are open, as far as the proxy has seen.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections()
    }

    /// How many bytes went in this direction so far.
    #[must_use]
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.passed(direction)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.wishes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Until the proxy is dropped; the connections end with the runtime.
async fn serve(
    shared: Arc<Shared>,
    mut wished: mpsc::Receiver<Wish>,
    started: SyncSender<io::Result<SocketAddr>>,
) {
    let (reserved, address, mut entrance) = match door::reserve() {
        Ok(parts) => parts,
        Err(cause) => {
            let _ = started.send(Err(cause));
            return;
        }
    };
    let _ = started.send(Ok(address));
    loop {
        tokio::select! {
            biased;
            wish = wished.recv() => {
                let Some(Wish { door, done }) = wish else {
                    break;
                };
                let _ = done.send(entrance.change(address, door).await);
            }
            near = entrance.accept() => {
                let generation = shared.enter();
                tokio::spawn(link::carry(near, shared.clone(), generation));
            }
        }
    }
    drop(reserved);
}

impl Entrance {
    /// The old door is closed before the new one is made: two would share those who dial.
    async fn change(&mut self, address: SocketAddr, door: Door) -> io::Result<()> {
        *self = Entrance::Refusing;
        *self = Entrance::new(address, door).await?;
        Ok(())
    }
}
