//! What every API test needs: a runtime, a client, and keys of its own.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, mpsc};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tenure::{Client, Code, Config, Dialing, Endpoint, Error, Io, Origin};
use tenure_etcd::{Binary, Cluster, Options};
use tenure_testserver::{Link, Server};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Runs a test's body on the runtime that the environment asks for.
pub(crate) fn run<T>(body: impl Future<Output = T>) -> T {
    let mut builder = match std::env::var("TENURE_TEST_RUNTIME").as_deref() {
        Ok("current_thread") => tokio::runtime::Builder::new_current_thread(),
        Ok(other) => panic!("no such runtime: {other}"),
        Err(_) => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build().expect("a runtime").block_on(body)
}

/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);

pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let bounded = tokio::time::timeout(PATIENCE, future).await;
    bounded.unwrap_or_else(|_| panic!("{what} has not happened"))
}

/// Waits until this holds.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    patiently(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The endpoints of the server that this process's tests share.
pub(crate) fn endpoints() -> Vec<String> {
    if is_embedded() {
        return vec![embedded_endpoint().to_owned()];
    }
    tenure_etcd::shared().endpoints()
}

/// Whether the tests run on the server in memory instead of a real etcd.
pub(crate) fn is_embedded() -> bool {
    match std::env::var("TENURE_TEST_SERVER").as_deref() {
        Ok("embedded") => true,
        Ok(other) => panic!("no such server: {other}"),
        Err(_) => false,
    }
}

/// The server in memory that this process's tests share.
fn embedded_endpoint() -> &'static str {
    static SHARED: OnceLock<Embedded> = OnceLock::new();
    SHARED.get_or_init(Embedded::start).server.endpoint()
}

/// A server of one test alone, for what would disturb the others, such as a compaction:
/// of the kind that the environment asks for.
pub(crate) enum OwnServer {
    Etcd(Cluster),
    Embedded(Embedded),
}

/// The server in memory, on a thread of its own: tests come and go with their runtimes.
pub(crate) struct Embedded {
    server: Server,
    /// The thread ends with it.
    _running: oneshot::Sender<()>,
}

/// A real etcd of one test alone, with so many members; none where the tests run on the server in memory.
pub(crate) fn own_etcd(members: usize) -> Option<Cluster> {
    let start = || Cluster::start(&Binary::find().expect("an etcd"), members, Options::default());
    (!is_embedded()).then(|| start().expect("it starts"))
}

/// What the server in memory does not offer it says it does not.
pub(crate) fn unimplemented<T: Debug>(answer: Result<T, Error>) {
    let error = answer.expect_err("the server in memory has no such method");
    assert_eq!(
        (error.code(), error.origin()),
        (Code::Unimplemented, Origin::Server),
        "{error}"
    );
}

impl OwnServer {
    pub(crate) fn start() -> OwnServer {
        if is_embedded() {
            return OwnServer::Embedded(Embedded::start());
        }
        let binary = Binary::find().expect("an etcd");
        OwnServer::Etcd(Cluster::start(&binary, 1, Options::default()).expect("it starts"))
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        match self {
            OwnServer::Etcd(cluster) => cluster.endpoints(),
            OwnServer::Embedded(embedded) => vec![embedded.server.endpoint().to_owned()],
        }
    }

    /// How many watches it has now.
    pub(crate) async fn watch_count(&self) -> usize {
        match self {
            OwnServer::Etcd(cluster) => cluster.member(0).watch_count().expect("it counts its watches"),
            OwnServer::Embedded(embedded) => embedded.server.watch_count(),
        }
    }

    /// Ends it without a word to its clients. What was stored stays.
    pub(crate) fn kill(&self) {
        match self {
            OwnServer::Etcd(cluster) => cluster.member(0).kill(),
            OwnServer::Embedded(embedded) => embedded.server.faults().set_link(Link::Down),
        }
    }

    pub(crate) fn start_again(&self) {
        match self {
            OwnServer::Etcd(cluster) => {
                cluster.member(0).start().expect("it starts");
                cluster.member(0).wait_ready().expect("it is ready");
            }
            OwnServer::Embedded(embedded) => embedded.server.faults().set_link(Link::Up),
        }
    }
}

impl Embedded {
    fn start() -> Embedded {
        let (started, server) = mpsc::channel();
        let (running, ended) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let server = Server::start().await.expect("a free port");
                started.send(server).expect("a test waits");
                let _ = ended.await;
            });
        });
        Embedded {
            server: server.recv().expect("the server in memory starts"),
            _running: running,
        }
    }
}

pub(crate) async fn client() -> Client {
    viewed(Client::connect(endpoints()).await.expect("a client of the shared server"))
}

/// The client as the environment wants to see it.
pub(crate) fn viewed(client: Client) -> Client {
    match std::env::var("TENURE_TEST_VIEW").as_deref() {
        Ok("namespace") => client.namespace(&b"a namespace\xff"[..]),
        Ok("monotonic") => client.monotonic(),
        Ok(other) => panic!("no such view: {other}"),
        Err(_) => client,
    }
}

/// What was sent over a client's connections: requests are HEADERS frames,
/// messages are DATA frames with something in them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<Mutex<Count>>);

#[derive(Debug, Default)]
struct Count {
    requests: usize,
    messages: usize,
}

impl Sent {
    pub(crate) fn requests(&self) -> usize {
        self.count().requests
    }

    pub(crate) fn messages(&self) -> usize {
        self.count().messages
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().expect("nobody panics while it counts")
    }
}

/// A client of the shared server whose requests are counted on the wire.
pub(crate) async fn counted_client() -> (Client, Sent) {
    counted_client_of(endpoints()).await
}

/// A client whose requests are counted on the wire.
pub(crate) async fn counted_client_of(endpoints: Vec<String>) -> (Client, Sent) {
    let sent = Sent::default();
    let counters = sent.clone();
    let dial = move |endpoint: &Endpoint| -> Dialing {
        let (host, port) = (endpoint.host().to_owned(), endpoint.port());
        let sent = counters.clone();
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(Counted {
                stream,
                sent,
                frames: Frames::default(),
            }) as Box<dyn Io>)
        })
    };
    let client = Client::connect_over(dial, endpoints, Config::default()).await;
    (viewed(client.expect("a client")), sent)
}

struct Counted {
    stream: TcpStream,
    sent: Sent,
    frames: Frames,
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        // Over the write: whoever knows that it has arrived finds it counted.
        let mut count = this.sent.count();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.frames.read(&bytes[..written], &mut count);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

/// Reads the frame headers of RFC 9113 section 4.1 out of the bytes that leave.
#[derive(Default)]
struct Frames {
    preface: usize,
    header: Vec<u8>,
    payload: usize,
}

const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;

impl Frames {
    fn read(&mut self, mut bytes: &[u8], count: &mut Count) {
        let preface = bytes.len().min(PREFACE_BYTES - self.preface);
        self.preface += preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            let skipped = bytes.len().min(self.payload);
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            let wanted = bytes.len().min(FRAME_HEADER_BYTES - self.header.len());
            self.header.extend_from_slice(&bytes[..wanted]);
            bytes = &bytes[wanted..];
            if self.header.len() == FRAME_HEADER_BYTES {
                self.payload =
                    u32::from_be_bytes([0, self.header[0], self.header[1], self.header[2]]) as usize;
                match self.header[3] {
                    HEADERS => count.requests += 1,
                    DATA if self.payload > 0 => count.messages += 1,
                    _ => {}
                }
                self.header.clear();
            }
        }
    }
}
