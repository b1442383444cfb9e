//! Watches over connections that break, and over a server that goes and comes back.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tenure::{Client, Config, Dialing, Endpoint, Event, Io, KeyRange, Op, Revision, Watch, WatchEnd};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::support::{OwnServer, run};

/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(180);

const CUTS: usize = 200;

/// As many cuts lie between 64 and 128 bytes, where the handshake ends, as between
/// 8 and 16 KiB. What has gathered during a wait comes in one message, so that a
/// bound below that would never let it through.
const CUT_BYTES_BITS: std::ops::Range<u64> = 6..14;

/// So far the writer may be ahead of the reader: about 4 KiB of events.
const AHEAD_MAX: usize = 32;

const CONNECTIONS: usize = 64;

/// No reader here is to lag, however late it is served.
const BUFFER_BYTES: usize = 256 << 20;

async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} has not happened"))
}

#[test]
fn a_watch_of_a_busy_prefix_that_is_cut_200_times_sees_the_servers_history() {
    let server = OwnServer::start();
    run(async {
        let writer = Client::connect(server.endpoints()).await.unwrap();
        let cuts = Cuts::new(CUTS);
        let client = cuts.client(&server).await;
        let mut watch = client.watch(KeyRange::prefix("cut/")).timeout(PATIENCE).await.unwrap();
        let created = watch.created_revision();
        let writing = tokio::spawn(write_until(writer.clone(), cuts.clone()));
        let seen = patiently("the last event", until_last(&mut watch, &cuts)).await;
        writing.await.unwrap();
        let history = writer.watch(KeyRange::prefix("cut/")).buffer_bytes(BUFFER_BYTES);
        let mut history = history.start_revision(Revision(1)).await.unwrap();
        let history = patiently("the history", until_last(&mut history, &cuts)).await;
        assert!(history.len() > CUTS);
        assert!(seen == history, "{} events of {}", seen.len(), history.len());
        assert_eq!(watch.created_revision(), created);
        assert!(watch.reconnects() > 100, "{} reconnects", watch.reconnects());
    });
}

/// Writes, a transaction of two keys at a time, until all cuts are made.
async fn write_until(client: Client, cuts: Cuts) {
    let mut number = 0_usize;
    while cuts.left() > 0 {
        if number > cuts.0.seen.load(Ordering::SeqCst) / 2 + AHEAD_MAX {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        let key = format!("cut/{}", number % 7);
        let txn = client.txn().then(Op::put(key, number.to_string()));
        txn.then(Op::put("cut/beside", "value")).await.unwrap();
        number += 1;
    }
    client.put("cut/last", "value").await.unwrap();
}

async fn until_last(watch: &mut Watch, cuts: &Cuts) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        events.extend(watch.next().await.unwrap().events);
        cuts.0.seen.store(events.len(), Ordering::SeqCst);
        if events.last().is_some_and(|event: &Event| event.kv().key == "cut/last") {
            return events;
        }
    }
}

#[test]
fn a_watch_outlives_its_server_and_one_is_told_of_a_compaction_meanwhile() {
    let server = OwnServer::start();
    run(async {
        let client = Client::connect(server.endpoints()).await.unwrap();
        let cuts = Cuts::new(0);
        let mut behind = cuts.client(&server).await.watch("outlives/behind").await.unwrap();
        let mut watch = client.watch("outlives/key").await.unwrap();
        cuts.dials(false);
        server.kill();
        server.start_again();
        patiently("a put", async {
            while client.put("outlives/key", "one").await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let batch = patiently("an event", watch.next()).await.unwrap();
        assert_eq!(batch.events[0].kv().value, "one");
        assert!(watch.reconnects() > 0);
        let now = client.put("outlives/key", "two").await.unwrap().revision();
        client.compact(now).await.unwrap();
        cuts.dials(true);
        match patiently("the end", behind.next()).await {
            Err(WatchEnd::Compacted { compact_revision }) => assert_eq!(compact_revision, now),
            other => panic!("{other:?}"),
        }
    });
}

/// Connections that break once they have brought some random number of bytes.
#[derive(Clone)]
pub(crate) struct Cuts(Arc<CutsState>);

struct CutsState {
    left: AtomicUsize,
    chance: AtomicU64,
    /// How many events the reader has.
    seen: AtomicUsize,
    dials: AtomicBool,
}

impl Cuts {
    pub(crate) fn new(count: usize) -> Cuts {
        Cuts(Arc::new(CutsState {
            left: AtomicUsize::new(count),
            chance: AtomicU64::new(1),
            seen: AtomicUsize::new(0),
            dials: AtomicBool::new(true),
        }))
    }

    /// How many connections are still to be cut.
    fn left(&self) -> usize {
        self.0.left.load(Ordering::SeqCst)
    }

    /// Whether new connections are made.
    pub(crate) fn dials(&self, dials: bool) {
        self.0.dials.store(dials, Ordering::SeqCst);
    }

    /// A client on such connections. The member is named many times: each name has a
    /// connection of its own, so that the waits before the dials of one overlap.
    pub(crate) async fn client(&self, server: &OwnServer) -> Client {
        let names = vec![server.endpoints(); CONNECTIONS].concat();
        loop {
            let connected = Client::connect_over(self.dialer(), &names, Config::default()).await;
            if let Ok(client) = connected {
                return client;
            }
        }
    }

    fn dialer(&self) -> impl Fn(&Endpoint) -> Dialing + Send + Sync + 'static + use<> {
        let cuts = self.clone();
        move |endpoint: &Endpoint| -> Dialing {
            let (host, port) = (endpoint.host().to_owned(), endpoint.port());
            let cuts = cuts.clone();
            Box::pin(async move {
                if !cuts.0.dials.load(Ordering::SeqCst) {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                let stream = TcpStream::connect((host, port)).await?;
                stream.set_nodelay(true)?;
                let bits = CUT_BYTES_BITS.start + cuts.below(CUT_BYTES_BITS.end - CUT_BYTES_BITS.start);
                let bytes_left = (1 << bits) + cuts.below(1 << bits);
                Ok(Box::new(Cut {
                    stream,
                    cuts,
                    bytes_left,
                }) as Box<dyn Io>)
            })
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): any seed will do.
    fn below(&self, bound: u64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.chance.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

struct Cut {
    stream: TcpStream,
    cuts: Cuts,
    bytes_left: u64,
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cuts.left() == 0 {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        if self.bytes_left == 0 {
            self.cuts.0.left.fetch_sub(1, Ordering::SeqCst);
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut bytes = [0; 4096];
        let room = buf.remaining().min(bytes.len()).min(self.bytes_left as usize);
        let mut piece = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        self.bytes_left -= piece.filled().len() as u64;
        buf.put_slice(piece.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
