//! Several members at the other ends of pipes: each lives, refuses, swallows what
//! it is sent, or freezes, as a test says, and all keep a list of what they were asked.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::Response;
use prost::Message;
use tenure::pb::etcdserverpb::{
    Member, MemberListResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader,
};
use tenure::{Client, Config, Dialing, Endpoint, Io};
use tokio::io::DuplexStream;
use tokio::sync::watch;

use crate::peer::{Requests, answer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lives,
    Refuses,
    /// Dials to it never end.
    Hole,
    /// Its kernel takes connections and data; nobody is there to read them.
    Frozen,
}

/// How a call is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Well,
    After(Duration),
    Never,
    Reset(Reason),
    Status(&'static str, &'static str),
    StatusAfter(Duration, &'static str, &'static str),
}

/// Which member was asked for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) host: String,
    pub(crate) key: Bytes,
    /// The connection, counted over all members.
    pub(crate) dial: usize,
}

type Script = dyn Fn(&Asked) -> Reply + Send + Sync;

#[derive(Clone)]
pub(crate) struct Fleet {
    shared: Arc<Shared>,
}

struct Shared {
    fates: watch::Sender<HashMap<String, Fate>>,
    asked: Mutex<Vec<Asked>>,
    dials: Mutex<Vec<String>>,
    holes: Mutex<Vec<DuplexStream>>,
    streams_max: Option<u32>,
    members: Mutex<Vec<Member>>,
    cluster_id: AtomicU64,
    script: Box<Script>,
}

impl Fleet {
    pub(crate) fn new(fates: &[(&str, Fate)]) -> Fleet {
        Fleet::scripted(fates, None, |_| Reply::Well)
    }

    pub(crate) fn scripted(
        fates: &[(&str, Fate)],
        streams_max: Option<u32>,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Fleet {
        let fates = fates.iter().map(|(host, fate)| ((*host).to_owned(), *fate)).collect();
        let shared = Shared {
            fates: watch::Sender::new(fates),
            asked: Mutex::default(),
            dials: Mutex::default(),
            holes: Mutex::default(),
            streams_max,
            members: Mutex::default(),
            cluster_id: AtomicU64::new(0),
            script: Box::new(script),
        };
        Fleet {
            shared: Arc::new(shared),
        }
    }

    pub(crate) async fn client(&self, hosts: &[&str], config: Config) -> Client {
        let fleet = self.clone();
        let dial = move |endpoint: &Endpoint| fleet.dial(endpoint.host());
        let client = Client::connect_over(dial, hosts, config).await;
        client.expect("a member that lives")
    }

    pub(crate) fn turn(&self, host: &str, fate: Fate) {
        self.shared.fates.send_modify(|fates| {
            fates.insert(host.to_owned(), fate);
        });
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub(crate) fn asked_of(&self, host: &str) -> usize {
        self.asked().iter().filter(|asked| asked.host == host).count()
    }

    pub(crate) fn dials_of(&self, host: &str) -> usize {
        self.shared.dials.lock().unwrap().iter().filter(|dialled| *dialled == host).count()
    }

    /// What the cluster says of its members: their addresses, and who learns.
    pub(crate) fn list(&self, members: &[(&[&str], bool)]) {
        let member = |(urls, is_learner): &(&[&str], bool)| Member {
            client_urls: urls.iter().map(ToString::to_string).collect(),
            is_learner: *is_learner,
            ..Member::default()
        };
        *self.shared.members.lock().unwrap() = members.iter().map(member).collect();
    }

    /// Which cluster says so.
    pub(crate) fn belongs_to(&self, cluster_id: u64) {
        self.shared.cluster_id.store(cluster_id, Ordering::SeqCst);
    }

    fn dial(&self, host: &str) -> Dialing {
        let dial = {
            let mut dials = self.shared.dials.lock().unwrap();
            dials.push(host.to_owned());
            dials.len()
        };
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        match self.fate(host) {
            Fate::Refuses => return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) }),
            Fate::Hole => return Box::pin(std::future::pending()),
            Fate::Frozen => self.shared.holes.lock().unwrap().push(theirs),
            Fate::Lives => drop(tokio::spawn(self.clone().serve(host.to_owned(), dial, theirs))),
        }
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Io>) })
    }

    fn fate(&self, host: &str) -> Fate {
        self.shared.fates.borrow().get(host).copied().unwrap_or(Fate::Refuses)
    }

    async fn serve(self, host: String, dial: usize, pipe: DuplexStream) {
        let mut builder = h2::server::Builder::new();
        builder.initial_connection_window_size(1 << 20);
        if let Some(streams) = self.shared.streams_max {
            builder.max_concurrent_streams(streams);
        }
        let Ok(mut server) = builder.handshake::<_, Bytes>(pipe).await else {
            return;
        };
        let mut fates = self.shared.fates.subscribe();
        loop {
            tokio::select! {
                asked = server.accept() => {
                    let Some(Ok((request, respond))) = asked else { return };
                    tokio::spawn(self.clone().reply(host.clone(), dial, request, respond));
                }
                changed = fates.changed() => {
                    let fate = self.fate(&host);
                    if changed.is_err() || fate == Fate::Refuses {
                        return;
                    }
                    // A process that stands still reads nothing and closes nothing.
                    while self.fate(&host) != Fate::Lives && fates.changed().await.is_ok() {}
                }
            }
        }
    }

    async fn reply(
        self,
        host: String,
        dial: usize,
        request: http::Request<h2::RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        let path = request.uri().path().to_owned();
        let mut requests = Requests::new(request.into_body());
        let message = match path.as_str() {
            "/etcdserverpb.KV/Put" => requests.next::<PutRequest>().await.map(|put| put.key),
            "/etcdserverpb.KV/Range" => requests.next::<RangeRequest>().await.map(|range| range.key),
            _ => Some(Bytes::from(path.clone())),
        };
        let Some(key) = message else { return };
        let asked = Asked { host, key, dial };
        self.shared.asked.lock().unwrap().push(asked.clone());
        match (self.shared.script)(&asked) {
            Reply::Well => {}
            Reply::After(wait) => tokio::time::sleep(wait).await,
            Reply::Never => return std::future::pending().await,
            Reply::Reset(reason) => return respond.send_reset(reason),
            Reply::Status(code, message) => return refuse(&mut respond, code, message),
            Reply::StatusAfter(wait, code, message) => {
                tokio::time::sleep(wait).await;
                return refuse(&mut respond, code, message);
            }
        }
        let members = || MemberListResponse {
            header: Some(ResponseHeader {
                cluster_id: self.shared.cluster_id.load(Ordering::SeqCst),
                ..ResponseHeader::default()
            }),
            members: self.shared.members.lock().unwrap().clone(),
        };
        match path.as_str() {
            "/etcdserverpb.KV/Put" => say(&mut respond, &PutResponse::default()),
            "/etcdserverpb.KV/Range" => say(&mut respond, &RangeResponse::default()),
            "/etcdserverpb.Cluster/MemberList" => say(&mut respond, &members()),
            _ => std::future::pending().await,
        }
    }
}

fn refuse(respond: &mut SendResponse<Bytes>, code: &str, message: &str) {
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", code)
        .header("grpc-message", message);
    let _ = respond.send_response(head.body(()).unwrap(), true);
}

/// Answers, unless nobody waits for it any more.
fn say(respond: &mut SendResponse<Bytes>, message: &impl Message) {
    let is_reset = respond.poll_reset(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    if is_reset.is_pending() {
        answer(respond, message);
    }
}
