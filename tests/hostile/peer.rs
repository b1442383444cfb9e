//! The server's end of a client's connections, by the byte. It runs on a thread
//! of its own, so that what it allocates is not counted as the client's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tenure::{Dialing, Endpoint, Io};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};

use crate::frames::{self, ACK, END_STREAM, GOAWAY, HEADERS, PING, SETTINGS};

/// Small, as a socket's buffers are beside what a flood sends.
const PIPE_BYTES: usize = 64 << 10;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a peer has seen, over all of its connections.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: usize,
    /// The reasons of the client's GOAWAYs.
    pub(crate) goaways: Vec<u32>,
    /// The reasons of the client's resets.
    pub(crate) resets: Vec<u32>,
    pub(crate) pongs: usize,
    pub(crate) setting_acks: usize,
    /// The most requests that were unanswered at once.
    pub(crate) at_once: usize,
}

/// A frame of the client's.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// Makes byte streams whose other ends go to a peer.
#[derive(Clone)]
pub(crate) struct Pipes(mpsc::UnboundedSender<DuplexStream>);

impl Pipes {
    pub(crate) fn dial(&self) -> impl Fn(&Endpoint) -> Dialing + Send + Sync + use<> {
        let pipes = self.0.clone();
        move |_| {
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            let sent = pipes.send(theirs);
            Box::pin(async move {
                sent.map_err(|_| std::io::ErrorKind::ConnectionRefused)?;
                Ok(Box::new(ours) as Box<dyn Io>)
            })
        }
    }
}

/// Runs `script` for each connection, on a thread that ends once the client is gone.
/// The script gets the connection and its number, from 0.
pub(crate) fn spawn<F>(
    script: impl Fn(Wire, usize) -> F + Send + 'static,
) -> (Pipes, Arc<Mutex<Seen>>, JoinHandle<()>)
where
    F: Future<Output = ()> + 'static,
{
    let (dialled, mut pipes) = mpsc::unbounded_channel();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let noted = seen.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let mut scripts = Vec::new();
            while let Some(io) = pipes.recv().await {
                let nth = noted.lock().unwrap().connections;
                noted.lock().unwrap().connections += 1;
                let wire = Wire::new(io, noted.clone());
                scripts.push(tokio::task::spawn_local(script(wire, nth)));
            }
            for script in scripts {
                script.await.expect("the script's own assertions");
            }
        });
    });
    (Pipes(dialled), seen, thread)
}

/// One connection.
pub(crate) struct Wire {
    write: WriteHalf<DuplexStream>,
    frames: mpsc::UnboundedReceiver<Frame>,
    /// Of requests that came in the middle of a flood.
    kept: VecDeque<Frame>,
    hears: watch::Sender<bool>,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

impl Wire {
    fn new(io: DuplexStream, seen: Arc<Mutex<Seen>>) -> Wire {
        let (read, write) = tokio::io::split(io);
        let (found, frames) = mpsc::unbounded_channel();
        let (hears, hearing) = watch::channel(true);
        tokio::task::spawn_local(read_frames(read, found, hearing, seen.clone()));
        Wire {
            write,
            frames,
            kept: VecDeque::new(),
            hears,
            seen,
        }
    }

    /// Whether the client still reads.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        self.write.write_all(bytes).await.is_ok()
    }

    /// Reads nothing until what it returns has waited for so long.
    pub(crate) fn turn_deaf(&self, time: Duration) -> impl Future<Output = ()> + use<> {
        let hears = self.hears.clone();
        hears.send_replace(false);
        async move {
            tokio::time::sleep(time).await;
            hears.send_replace(true);
        }
    }

    /// What has come so far is of no interest, but for what belongs to later streams.
    pub(crate) async fn skip(&mut self, stream: u32) {
        tokio::task::yield_now().await;
        while let Ok(frame) = self.frames.try_recv() {
            if frame.stream > stream {
                self.kept.push_back(frame);
            }
        }
    }

    /// Whether the client wants nothing more of some stream, or of the connection.
    pub(crate) fn is_given_up(&self) -> bool {
        let seen = self.seen.lock().unwrap();
        !seen.resets.is_empty() || !seen.goaways.is_empty()
    }

    /// The next frame; none once the client has gone. Settings and pings are
    /// acknowledged on the way.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        let frame = match self.kept.pop_front() {
            Some(frame) => frame,
            None => self.frames.recv().await?,
        };
        if matches!(frame.kind, SETTINGS | PING) && frame.flags & ACK == 0 {
            let payload = if frame.kind == PING {
                &frame.payload[..]
            } else {
                &[]
            };
            self.write(&frames::frame(frame.kind, ACK, 0, payload)).await;
        }
        Some(frame)
    }

    /// The stream of the next request that has come to its end.
    pub(crate) async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.frame().await?;
            if matches!(frame.kind, HEADERS | frames::DATA) && frame.flags & END_STREAM != 0 {
                return Some(frame.stream);
            }
        }
    }

    /// Answers every request well, until the client goes.
    pub(crate) async fn serve(&mut self) {
        while let Some(stream) = self.request().await {
            self.write(&frames::good(stream)).await;
        }
    }

    /// Closes the connection in the direction to the client.
    pub(crate) async fn hang_up(&mut self) {
        let _ = self.write.shutdown().await;
    }
}

async fn read_frames(
    mut io: ReadHalf<DuplexStream>,
    found: mpsc::UnboundedSender<Frame>,
    mut hearing: watch::Receiver<bool>,
    seen: Arc<Mutex<Seen>>,
) {
    let mut preface = [0; PREFACE.len()];
    if io.read_exact(&mut preface).await.is_err() {
        return;
    }
    assert_eq!(preface, PREFACE);
    loop {
        // A script that is over has no more to say about it.
        let _ = hearing.wait_for(|hears| *hears).await;
        let Some(frame) = read_frame(&mut io).await else {
            return;
        };
        note(&mut seen.lock().unwrap(), &frame);
        if found.send(frame).is_err() {
            return;
        }
    }
}

async fn read_frame(io: &mut ReadHalf<DuplexStream>) -> Option<Frame> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    io.read_exact(&mut payload).await.ok()?;
    Some(Frame {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        payload,
    })
}

fn note(seen: &mut Seen, frame: &Frame) {
    let word = |at: usize| {
        let bytes = frame.payload.get(at..at + 4).expect("the client's frames are sound");
        u32::from_be_bytes(bytes.try_into().unwrap())
    };
    match frame.kind {
        GOAWAY => seen.goaways.push(word(4)),
        frames::RST_STREAM => seen.resets.push(word(0)),
        PING if frame.flags & ACK != 0 => seen.pongs += 1,
        SETTINGS if frame.flags & ACK != 0 => seen.setting_acks += 1,
        _ => {}
    }
}
