//! Byte streams in memory that break, each once a random number of bytes has gone, as
//! long as the weather is bad.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tenure::{Dialing, Endpoint, Io};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::chance::Chance;

/// The ways to the members. A clone is the same ways.
#[derive(Clone)]
pub(crate) struct Ways(Arc<Mutex<State>>);

struct State {
    chance: Chance,
    /// One connection in so many breaks by its bytes; none where it is zero.
    breaks: u64,
    /// Connections from before the last of these are cut.
    cuts: u64,
    broken: u64,
    /// Nobody is let in.
    is_closed: bool,
    requests: u64,
    sent: u64,
    /// Who is to be told of a cut.
    wakers: Vec<Waker>,
}

/// As many ends lie in the handshake as behind it.
const BYTES_BITS: std::ops::Range<u64> = 5..15;

impl Ways {
    pub(crate) fn new(chance: Chance) -> Ways {
        Ways(Arc::new(Mutex::new(State {
            chance,
            breaks: 0,
            cuts: 0,
            broken: 0,
            is_closed: false,
            requests: 0,
            sent: 0,
            wakers: Vec::new(),
        })))
    }

    /// One connection in so many breaks by its bytes from now on; zero is none.
    pub(crate) fn set_breaks(&self, breaks: u64) {
        self.lock().breaks = breaks;
    }

    /// Breaks all connections.
    pub(crate) fn cut(&self) {
        let mut state = self.lock();
        state.cuts += 1;
        let woken = std::mem::take(&mut state.wakers);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Whether those who dial are let in.
    pub(crate) fn set_open(&self, is_open: bool) {
        self.lock().is_closed = !is_open;
    }

    /// How many messages clients have sent: DATA frames that are not empty.
    pub(crate) fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// How many bytes clients have sent.
    pub(crate) fn sent(&self) -> u64 {
        self.lock().sent
    }

    /// How many connections were broken.
    pub(crate) fn broken(&self) -> u64 {
        self.lock().broken
    }

    /// What dials a member over them.
    pub(crate) fn dialer(
        &self,
        connect: impl Fn(&str) -> DuplexStream + Send + Sync + 'static,
    ) -> impl Fn(&Endpoint) -> Dialing + Send + Sync + 'static {
        let ways = self.clone();
        move |endpoint: &Endpoint| -> Dialing {
            let is_closed = ways.lock().is_closed;
            let way = (!is_closed).then(|| ways.way(connect(endpoint.host())));
            Box::pin(async move {
                let way = way.ok_or(io::ErrorKind::ConnectionRefused)?;
                Ok(Box::new(way) as Box<dyn Io>)
            })
        }
    }

    fn way(&self, stream: DuplexStream) -> Way {
        let mut state = self.lock();
        let (bytes, breaks) = (state.chance.bytes(BYTES_BITS), state.breaks);
        let breaks = breaks > 0 && state.chance.one_in(breaks);
        Way {
            stream,
            cuts: state.cuts,
            bytes_left: breaks.then_some(bytes),
            ways: self.clone(),
            is_broken: false,
            frames: Frames::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Way {
    stream: DuplexStream,
    cuts: u64,
    /// Of both directions.
    bytes_left: Option<u64>,
    ways: Ways,
    is_broken: bool,
    frames: Frames,
}

impl Way {
    /// How many bytes may go; it is broken where there are none.
    fn room(&mut self, cx: &Context<'_>) -> io::Result<usize> {
        let mut state = self.ways.lock();
        let is_over = state.cuts != self.cuts || (self.bytes_left == Some(0) && state.breaks > 0);
        if !is_over {
            if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.wakers.push(cx.waker().clone());
            }
            let left = self.bytes_left.filter(|left| *left > 0);
            return Ok(left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX)));
        }
        state.broken += u64::from(!std::mem::replace(&mut self.is_broken, true));
        Err(io::ErrorKind::ConnectionReset.into())
    }

    fn spend(&mut self, bytes: usize) {
        self.bytes_left = self.bytes_left.map(|left| left.saturating_sub(bytes as u64));
    }
}

impl AsyncRead for Way {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 4096];
        let room = self.room(cx)?.min(buf.remaining()).min(bytes.len());
        let mut piece = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        self.spend(piece.filled().len());
        buf.put_slice(piece.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Way {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let room = self.room(cx)?.min(bytes.len());
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[..room]))?;
        self.spend(written);
        let requests = self.frames.read(&bytes[..written]);
        let mut state = self.ways.lock();
        state.requests += requests;
        state.sent += written as u64;
        drop(state);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Reads the frame headers of RFC 9113, section 4.1, out of the bytes that clients send.
#[derive(Default)]
struct Frames {
    /// Of the preface.
    passed: usize,
    header: Vec<u8>,
    payload: usize,
}

const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;
const DATA: u8 = 0;

impl Frames {
    /// How many DATA frames begin in these bytes that are not empty.
    fn read(&mut self, mut bytes: &[u8]) -> u64 {
        let mut count = 0;
        let preface = bytes.len().min(PREFACE_BYTES - self.passed);
        self.passed += preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            let skipped = bytes.len().min(self.payload);
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            let wanted = bytes.len().min(FRAME_HEADER_BYTES - self.header.len());
            self.header.extend_from_slice(&bytes[..wanted]);
            bytes = &bytes[wanted..];
            if self.header.len() == FRAME_HEADER_BYTES {
                let length = [0, self.header[0], self.header[1], self.header[2]];
                self.payload = u32::from_be_bytes(length) as usize;
                count += u64::from(self.header[3] == DATA && self.payload > 0);
                self.header.clear();
            }
        }
        count
    }
}
