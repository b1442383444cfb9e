//! A byte stream that keeps what it died of, and is read in turns: of an error of the
//! byte stream h2 has the kind alone, and it reads for as long as there is something.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::Io;

/// What h2 reads at most before the calls have a turn to take what it read. Of an
/// informational head it keeps up to a hundred times the bytes until its call is
/// polled, so a flood of them is bounded by this.
const TURN_BYTES_MAX: usize = 16 << 10;

/// A dialled stream, for h2.
pub(crate) struct Heard {
    io: Box<dyn Io>,
    turn_bytes: usize,
    /// There was no room for what was to be written last.
    was_full: bool,
    hearing: Arc<Hearing>,
}

/// What the stream died of, and whether anything moved on it.
#[derive(Default)]
pub(crate) struct Hearing {
    error: Mutex<Option<io::Error>>,
    has_moved: AtomicBool,
}

impl Heard {
    pub(crate) fn new(io: Box<dyn Io>) -> (Heard, Arc<Hearing>) {
        let hearing = Arc::new(Hearing::default());
        let heard = Heard {
            io,
            turn_bytes: 0,
            was_full: false,
            hearing: hearing.clone(),
        };
        (heard, hearing)
    }

    /// Keeps an error; whoever reads or writes gets its kind.
    fn keep<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.hearing.keep(error))),
            result => result,
        }
    }

    fn note_room(&mut self, has_room: bool) {
        if has_room && self.was_full {
            self.hearing.has_moved.store(true, Ordering::Relaxed);
        }
        self.was_full = !has_room;
    }

    /// Behind all that can run, where a wake by itself comes before a runtime's own future.
    #[cold]
    fn end_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.turn_bytes = 0;
        pin!(tokio::task::yield_now()).poll(cx).map(Ok)
    }
}

impl Hearing {
    /// Whether anything was read, or could be written after all, since this was asked the last time: h2 goes
    /// on with what it has read when it has room for the answers to that.
    pub(crate) fn take_moved(&self) -> bool {
        // Relaxed, and in two steps: whoever reads and writes is the task that asks.
        let has_moved = self.has_moved.load(Ordering::Relaxed);
        self.has_moved.store(false, Ordering::Relaxed);
        has_moved
    }

    /// What h2's error comes from: the first error of the stream, where there was one.
    pub(crate) fn cause(&self, error: h2::Error) -> Box<dyn StdError + Send + Sync> {
        match self.lock().take() {
            Some(error) => error.into(),
            None => error.into(),
        }
    }

    #[cold]
    fn keep(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        self.lock().get_or_insert(error);
        kind.into()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<io::Error>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.turn_bytes >= TURN_BYTES_MAX {
            return self.end_turn(cx);
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.turn_bytes = match read {
            Poll::Ready(_) => {
                self.hearing.has_moved.store(true, Ordering::Relaxed);
                self.turn_bytes + buf.filled().len() - before
            }
            Poll::Pending => 0,
        };
        self.keep(read)
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note_room(written.is_ready());
        self.keep(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note_room(written.is_ready());
        self.keep(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.note_room(flushed.is_ready());
        self.keep(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_read_moves_and_what_is_written_where_there_was_no_room() {
        let (ours, mut theirs) = duplex(4);
        let (mut heard, hearing) = Heard::new(Box::new(ours));
        theirs.write_all(b"read").await.unwrap();
        heard.read_exact(&mut [0; 4]).await.unwrap();
        assert!(hearing.take_moved() && !hearing.take_moved());
        heard.write_all(b"full").await.unwrap();
        assert!(!hearing.take_moved(), "there was room");
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut heard).poll_write(&mut cx, b"more").is_pending());
        assert!(!hearing.take_moved());
        theirs.read_exact(&mut [0; 4]).await.unwrap();
        heard.write_all(b"more").await.unwrap();
        assert!(hearing.take_moved());
    }
}
