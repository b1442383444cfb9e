//! A connection that breaks where [`Faults`] say: it writes what is allowed, and
//! is gone for both directions.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::faults::Faults;

#[derive(Debug)]
pub(super) struct Cut<T> {
    io: T,
    faults: Faults,
    is_cut: bool,
}

impl<T> Cut<T> {
    pub(super) fn new(io: T, faults: Faults) -> Cut<T> {
        let is_cut = false;
        Cut { io, faults, is_cut }
    }

    fn check(&self) -> io::Result<()> {
        if self.is_cut {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Cut<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        let allowed = self.faults.allowance().unwrap_or(bytes.len()).min(bytes.len());
        let written = match allowed {
            0 => 0,
            _ => ready!(Pin::new(&mut self.io).poll_write(cx, &bytes[..allowed]))?,
        };
        if self.faults.handle_written(written) {
            self.is_cut = true;
            // Whoever waits to read is woken, and told.
            cx.waker().wake_by_ref();
            if written == 0 {
                return Poll::Ready(self.check().map(|()| 0));
            }
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        Poll::Ready(self.check())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Cut<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}
