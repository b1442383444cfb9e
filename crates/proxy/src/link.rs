//! One connection: two streams, and what is under way between them.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until};

use crate::way::Shared;
use crate::{Direction, Ending, Flow};

/// The most that one direction takes before it has passed something on.
const QUEUED_BYTES_MAX: usize = 1 << 20;
const CHUNK_BYTES: usize = 64 << 10;

/// Carries a connection until it ends, and breaks it as it was told.
pub(crate) async fn carry(mut near: TcpStream, shared: Arc<Shared>, generation: u64) {
    let mut told = shared.told();
    let mut far = None;
    let ended = tokio::select! {
        // First of all, so that nothing passes that a cut is to lose.
        biased;
        cut = told.wait_for(|way| way.cuts != generation) => Err(cut.map_or(Ending::Close, |way| way.ending)),
        ended = join(&mut near, &mut far, &shared) => ended,
    };
    for mut end in [Some(near), far].into_iter().flatten() {
        match ended {
            Ok(()) => {}
            Err(Ending::Close) => drop(end.shutdown().await),
            Err(Ending::Reset) => drop(end.set_zero_linger()),
        }
    }
    shared.leave();
}

/// Dials, and passes bytes until both directions have ended.
async fn join(near: &mut TcpStream, far: &mut Option<TcpStream>, shared: &Shared) -> Result<(), Ending> {
    let dialled = TcpStream::connect(&shared.target).await.map_err(broken)?;
    let far = far.insert(dialled);
    near.set_nodelay(true).and(far.set_nodelay(true)).map_err(broken)?;
    let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
    let up = pump(Direction::Up, near_read, far_write, shared);
    let down = pump(Direction::Down, far_read, near_write, shared);
    tokio::try_join!(up, down).map(drop)
}

/// A peer that resets has its reset passed on.
fn broken(_: io::Error) -> Ending {
    Ending::Reset
}

/// What is under way in one direction. An empty piece is the end of the stream.
#[derive(Default)]
struct Queue {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    ended: bool,
}

async fn pump(
    direction: Direction,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    shared: &Shared,
) -> Result<(), Ending> {
    let (mut told, mut queue) = (shared.told(), Queue::default());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let flow = told.borrow_and_update().flow(direction);
        let (is_held, has_room) = (flow == Flow::Hold, queue.bytes < QUEUED_BYTES_MAX);
        tokio::select! {
            biased;
            changed = told.changed() => changed.map_err(|_| Ending::Close)?,
            () = queue.due(), if !is_held => {
                let piece = queue.take();
                if piece.is_empty() {
                    return to.shutdown().await.map_err(broken);
                }
                let (bytes, ending) = shared.spend(direction, piece.len());
                write(&mut to, &piece[..bytes], flow).await.map_err(broken)?;
                ending.map_or(Ok(()), Err)?;
            }
            read = from.read(&mut chunk), if !is_held && !queue.ended && has_room => {
                queue.put(flow, &chunk[..read.map_err(broken)?]);
            }
        }
    }
}

async fn write(to: &mut WriteHalf<'_>, bytes: &[u8], flow: Flow) -> io::Result<()> {
    if flow != Flow::Bytewise {
        return to.write_all(bytes).await;
    }
    for byte in bytes {
        to.write_all(&[*byte]).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

impl Queue {
    fn put(&mut self, flow: Flow, bytes: &[u8]) {
        let delay = match flow {
            Flow::Delay(delay) => delay,
            Flow::Pass | Flow::Bytewise | Flow::Hold => Default::default(),
        };
        self.ended = bytes.is_empty();
        self.bytes += bytes.len();
        self.pieces.push_back((Instant::now() + delay, bytes.to_vec()));
    }

    /// When the first piece is to pass; never, while there is none.
    async fn due(&self) {
        match self.pieces.front() {
            Some((due, _)) => sleep_until(*due).await,
            None => pending().await,
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let (_, piece) = self.pieces.pop_front().unwrap_or((Instant::now(), Vec::new()));
        self.bytes -= piece.len();
        piece
    }
}
