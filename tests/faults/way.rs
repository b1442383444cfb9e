//! A way to a server on which requests can be held up: the client loses it and
//! goes another, and what it sent arrives at the server late. It stands for a
//! member that was frozen with requests in its socket.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenure::{Dialing, Io};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::support::patiently;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Dials are refused.
    Shut,
    Open,
    /// What the client sends is kept; it is not told.
    Held,
    /// What it sends from now on is lost, the resets of what is kept above all.
    Sealed,
    /// The client's connection is gone, and dials are refused.
    Cut,
    /// What was kept is with the server.
    Delivered,
}

#[derive(Clone, Debug)]
pub(crate) struct Way {
    server: String,
    phase: watch::Sender<Phase>,
    kept: Arc<AtomicUsize>,
    landed: Arc<AtomicUsize>,
}

impl Way {
    pub(crate) fn new(endpoint: &str, phase: Phase) -> Way {
        Way {
            server: endpoint.trim_start_matches("http://").to_owned(),
            phase: watch::Sender::new(phase),
            kept: Arc::default(),
            landed: Arc::default(),
        }
    }

    pub(crate) fn turn(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    pub(crate) fn dial(&self) -> Dialing {
        let way = self.clone();
        Box::pin(async move {
            if *way.phase.borrow() != Phase::Open {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let far = TcpStream::connect(&way.server).await?;
            far.set_nodelay(true)?;
            let (ours, near) = tokio::io::duplex(1 << 16);
            let phase = way.phase.subscribe();
            tokio::spawn(carry(near, far, phase, way.kept, way.landed));
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }

    /// Waits until so many requests are kept.
    pub(crate) async fn until_kept(&self, requests: usize) {
        patiently("a request", until(&self.kept, requests)).await;
    }

    /// Delivers what is kept; whether the server then answered so many requests.
    pub(crate) async fn deliver(&self, requests: usize) -> bool {
        self.turn(Phase::Delivered);
        let landed = until(&self.landed, requests);
        tokio::time::timeout(std::time::Duration::from_secs(2), landed).await.is_ok()
    }
}

async fn until(count: &AtomicUsize, least: usize) {
    while count.load(Ordering::SeqCst) < least {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn carry(
    near: DuplexStream,
    mut far: TcpStream,
    mut phase: watch::Receiver<Phase>,
    kept_requests: Arc<AtomicUsize>,
    landed: Arc<AtomicUsize>,
) {
    let mut near = Some(near);
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let (mut kept, mut answers) = (Vec::new(), Vec::new());
    loop {
        let from_client = async {
            match &mut near {
                Some(near) => near.read(&mut up).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = from_client => {
                let now = *phase.borrow();
                let bytes = &up[..read.unwrap_or(0)];
                match now {
                    _ if bytes.is_empty() => near = None,
                    Phase::Held => {
                        kept.extend_from_slice(bytes);
                        kept_requests.store(messages(&kept), Ordering::SeqCst);
                    }
                    Phase::Open => far.write_all(bytes).await.unwrap_or_default(),
                    _ => {}
                }
                if near.is_none() && matches!(now, Phase::Open) {
                    return;
                }
            }
            read = far.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if *phase.borrow() == Phase::Delivered {
                    answers.extend_from_slice(&down[..length]);
                    landed.store(messages(&answers), Ordering::SeqCst);
                } else if let Some(near) = &mut near {
                    let _ = near.write_all(&down[..length]).await;
                }
            }
            changed = phase.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = *phase.borrow();
                match now {
                    Phase::Cut => near = None,
                    Phase::Delivered => far.write_all(&kept).await.unwrap_or_default(),
                    _ => {}
                }
            }
        }
    }
}

/// How many DATA frames with something in them there are (RFC 9113, section 4.1):
/// one for each request and for each answer of the lock.
fn messages(mut bytes: &[u8]) -> usize {
    let mut messages = 0;
    while let Some((header, rest)) = bytes.split_at_checked(9) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let Some((_, rest)) = rest.split_at_checked(length) else {
            return messages;
        };
        messages += usize::from(header[3] == 0 && length > 0);
        bytes = rest;
    }
    messages
}
