//! A way to a server that keeps answers back, and breaks, when it is told to. It
//! runs on a thread of its own, so that its tasks are not among those that are
//! counted.

use std::sync::mpsc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// It ends when it is dropped.
pub(super) struct Relay {
    endpoint: String,
    way: watch::Sender<Way>,
}

#[derive(Clone, Copy, Default)]
struct Way {
    /// What the server sends stays here for now.
    held: bool,
    /// A connection from before the last cut ends.
    cuts: u32,
}

impl Relay {
    pub(super) fn start(server: &str) -> Relay {
        let server = server.trim_start_matches("http://").to_owned();
        let (way, told) = watch::channel(Way::default());
        let (started, endpoint) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let address = listener.local_addr().expect("an address");
                started.send(format!("http://{address}")).expect("a test waits");
                accept(listener, server, told).await;
            });
        });
        Relay {
            endpoint: endpoint.recv().expect("the relay starts"),
            way,
        }
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Keeps answers back from now on.
    pub(super) fn hold(&self) {
        self.way.send_modify(|way| way.held = true);
    }

    /// Delivers what was kept back, and all that comes.
    pub(super) fn pass(&self) {
        self.way.send_modify(|way| way.held = false);
    }

    /// Breaks every connection, and what was kept back is lost. The next ones are as good as new.
    pub(super) fn cut(&self) {
        self.way.send_modify(|way| {
            way.held = false;
            way.cuts += 1;
        });
    }
}

async fn accept(listener: TcpListener, server: String, mut told: watch::Receiver<Way>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (near, _) = accepted.expect("a connection");
                let cuts = told.borrow().cuts;
                tokio::spawn(carry(near, server.clone(), told.clone(), cuts));
            }
            changed = told.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

async fn carry(near: TcpStream, server: String, mut told: watch::Receiver<Way>, cuts: u32) {
    let Ok(far) = TcpStream::connect(&server).await else {
        return;
    };
    near.set_nodelay(true).and(far.set_nodelay(true)).expect("a socket");
    let ((mut near_read, near_write), (far_read, mut far_write)) = (near.into_split(), far.into_split());
    let answers = answer(far_read, near_write, told.clone());
    tokio::select! {
        // First of all, so that nothing passes that a cut is to lose.
        biased;
        _ = told.wait_for(|way| way.cuts != cuts) => {}
        _ = tokio::io::copy(&mut near_read, &mut far_write) => {}
        () = answers => {}
    }
}

async fn answer(mut far: OwnedReadHalf, mut near: OwnedWriteHalf, mut told: watch::Receiver<Way>) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = far.read(&mut bytes).await {
        let passes = told.wait_for(|way| !way.held).await.is_ok();
        if !passes || near.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
