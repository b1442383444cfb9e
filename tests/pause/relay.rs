//! A way to a server on which answers take their time: a reply that a process has
//! not read when it is stopped is there when it goes on.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// It accepts nothing more when it is dropped.
pub(crate) struct Relay {
    endpoint: String,
    accepting: AbortHandle,
}

impl Relay {
    pub(crate) async fn start(server: &str, delay: Duration) -> Relay {
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let accepting = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.expect("a connection");
                let far = TcpStream::connect(&server).await.expect("a server");
                tokio::spawn(carry(near, far, delay));
            }
        });
        Relay {
            endpoint,
            accepting: accepting.abort_handle(),
        }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(near: TcpStream, far: TcpStream, delay: Duration) {
    near.set_nodelay(true).and(far.set_nodelay(true)).expect("a socket");
    let ((mut near_read, near_write), (far_read, mut far_write)) = (near.into_split(), far.into_split());
    let (late, on_time) = mpsc::unbounded_channel();
    tokio::select! {
        _ = tokio::io::copy(&mut near_read, &mut far_write) => {}
        () = read(far_read, delay, late) => {}
        () = write(near_write, on_time) => {}
    }
}

type Late = (Instant, Vec<u8>);

async fn read(mut far: OwnedReadHalf, delay: Duration, late: mpsc::UnboundedSender<Late>) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = far.read(&mut bytes).await {
        if late.send((Instant::now() + delay, bytes[..read].to_vec())).is_err() {
            return;
        }
    }
}

async fn write(mut near: OwnedWriteHalf, mut late: mpsc::UnboundedReceiver<Late>) {
    while let Some((due, bytes)) = late.recv().await {
        sleep_until(due).await;
        if near.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
