//! A byte stream that keeps what it died of: of an error of the byte stream h2 has
//! the kind alone.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::Io;

/// A dialled stream, for h2.
pub(crate) struct Heard {
    io: Box<dyn Io>,
    hearing: Arc<Hearing>,
}

/// What the stream died of.
#[derive(Default)]
pub(crate) struct Hearing {
    error: Mutex<Option<io::Error>>,
}

impl Heard {
    pub(crate) fn new(io: Box<dyn Io>) -> (Heard, Arc<Hearing>) {
        let hearing = Arc::new(Hearing::default());
        let heard = Heard {
            io,
            hearing: hearing.clone(),
        };
        (heard, hearing)
    }

    /// Keeps an error; whoever reads or writes gets its kind.
    fn keep<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        result.map_err(|error| {
            let kind = error.kind();
            self.hearing.lock().get_or_insert(error);
            kind.into()
        })
    }
}

impl Hearing {
    /// What h2's error comes from: the first error of the stream, where there was one.
    pub(crate) fn cause(&self, error: h2::Error) -> Box<dyn StdError + Send + Sync> {
        match self.lock().take() {
            Some(error) => error.into(),
            None => error.into(),
        }
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
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.keep(read)
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.keep(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.keep(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.keep(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
