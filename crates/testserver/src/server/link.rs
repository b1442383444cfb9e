//! A connection as [`Faults`] let it be: it stands still while its member is frozen,
//! and where it is cut it has written what is allowed, and is gone for both directions.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::faults::Faults;

#[derive(Debug)]
pub(super) struct Linked<T> {
    io: T,
    faults: Faults,
    id: u64,
}

impl<T> Linked<T> {
    pub(super) fn new(io: T, faults: Faults) -> Linked<T> {
        let id = faults.open();
        Linked { io, faults, id }
    }
}

impl<T> Drop for Linked<T> {
    fn drop(&mut self) {
        self.faults.close(self.id);
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Linked<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.faults.poll(self.id, cx))?;
        let allowed = self.faults.allowance().unwrap_or(bytes.len()).min(bytes.len());
        let written = match allowed {
            0 => 0,
            _ => ready!(Pin::new(&mut self.io).poll_write(cx, &bytes[..allowed]))?,
        };
        self.faults.handle_written(self.id, written);
        if written == 0 {
            ready!(self.faults.poll(self.id, cx))?;
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.faults.poll(self.id, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.faults.poll(self.id, cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Linked<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.faults.poll(self.id, cx))?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}
