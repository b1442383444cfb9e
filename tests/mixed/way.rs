//! The ways of one client, on which answers are lost and requests come late: the client
//! loses a connection and goes another way, by another member perhaps, and what it sent on
//! the first arrives when it has long been answered elsewhere.
//!
//! ```text
//!            lose                      give up                          deliver
//!   Open ----------> Deaf: answers lost ------> gone
//!    '----- keep --> Kept: requests kept -----> Parted: the client is -----> Delivered
//!                                               gone, its resets are lost
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tenure::{Dialing, Endpoint, Io};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::support::{calm, within};

/// For how long the answers of what was delivered are still taken.
const LINGER: Duration = Duration::from_millis(300);
const BUFFER_BYTES: usize = 1 << 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Deaf,
    Kept,
    Parted,
    Delivered,
    Gone,
}

/// A clone is the same ways.
#[derive(Clone, Default)]
pub(crate) struct Ways(Arc<Mutex<Vec<watch::Sender<Phase>>>>);

impl Ways {
    pub(crate) fn dial(&self, endpoint: &Endpoint) -> Dialing {
        let (ways, server) = (self.clone(), (endpoint.host().to_owned(), endpoint.port()));
        Box::pin(async move {
            let far = TcpStream::connect(server).await?;
            far.set_nodelay(true)?;
            let (ours, near) = tokio::io::duplex(1 << 16);
            let (phase, told) = watch::channel(Phase::Open);
            let mut all = ways.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|phase| !phase.is_closed());
            all.push(phase);
            drop(all);
            tokio::spawn(carry(near, far, told));
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }

    /// Breaks one connection after the other until it is over, and says so each time. It is
    /// to be waited for: one that is left kept is open to the server for ever.
    pub(crate) async fn fail(self, mut dice: Rng, is_over: Arc<AtomicBool>, tell: impl Fn(&str)) {
        while !is_over.load(Ordering::SeqCst) {
            tokio::time::sleep(calm(&mut dice, 200..1500)).await;
            let Some(phase) = self.any(&mut dice) else {
                continue;
            };
            if dice.bool() {
                phase.send_replace(Phase::Deaf);
                tokio::time::sleep(within(&mut dice, 1..40)).await;
                phase.send_replace(Phase::Gone);
                tell("answers-lost");
                continue;
            }
            phase.send_replace(Phase::Kept);
            tokio::time::sleep(within(&mut dice, 5..60)).await;
            phase.send_replace(Phase::Parted);
            tokio::time::sleep(within(&mut dice, 0..800)).await;
            phase.send_replace(Phase::Delivered);
            tell("requests-late");
        }
    }

    fn any(&self, dice: &mut Rng) -> Option<watch::Sender<Phase>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open: Vec<_> = all.iter().filter(|phase| !phase.is_closed()).collect();
        (!open.is_empty()).then(|| open[dice.usize(..open.len())].clone())
    }
}

async fn carry(near: DuplexStream, mut far: TcpStream, mut phase: watch::Receiver<Phase>) {
    let mut near = Some(near);
    let (mut up, mut down) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let mut kept = Vec::new();
    loop {
        let from_client = async {
            match &mut near {
                Some(near) => near.read(&mut up).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = from_client => {
                let bytes = &up[..read.unwrap_or(0)];
                let now = *phase.borrow();
                match now {
                    // Whoever has kept something waits for its time.
                    Phase::Kept | Phase::Parted if bytes.is_empty() => near = None,
                    _ if bytes.is_empty() => return,
                    Phase::Kept => kept.extend_from_slice(bytes),
                    Phase::Open | Phase::Deaf if far.write_all(bytes).await.is_err() => return,
                    _ => {}
                }
            }
            read = far.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                let now = *phase.borrow();
                if let (Some(near), Phase::Open | Phase::Kept) = (&mut near, now) {
                    if near.write_all(&down[..length]).await.is_err() && now == Phase::Open {
                        return;
                    }
                }
            }
            changed = phase.changed() => {
                let now = *phase.borrow_and_update();
                match now {
                    Phase::Parted => near = None,
                    Phase::Delivered => {
                        let _ = far.write_all(&kept).await;
                        // Read on, lest what is unread resets it before it is carried out.
                        let answers = async { while let Ok(1..) = far.read(&mut down).await {} };
                        let _ = tokio::time::timeout(LINGER, answers).await;
                        return;
                    }
                    Phase::Gone => return,
                    // Its client is gone.
                    _ if changed.is_err() => return,
                    _ => {}
                }
            }
        }
    }
}
