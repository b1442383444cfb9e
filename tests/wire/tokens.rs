//! A server that takes one token at a time, in every form in which etcd refuses the
//! others, and one that gives none.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use http::HeaderMap;
use tenure::pb::etcdserverpb::watch_request::RequestUnion;
use tenure::pb::etcdserverpb::{
    AuthenticateRequest, AuthenticateResponse, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, PutResponse, ResponseHeader, WatchRequest, WatchResponse,
};
use tenure::pb::mvccpb;
use tenure::{Auth, Client, Code, Config, Delivery, Dialing, Endpoint, Error, EtcdError, Io};

use crate::peer::{Asked, Requests, answer, frame, head, patiently, serve};

const PASSWORD: &str = "correct-horse-battery";

/// The code's number and its name in Go, and what etcd says.
const REFUSALS: [(&str, &str, &str); 3] = [
    ("3", "InvalidArgument", "etcdserver: user name is empty"),
    ("16", "Unauthenticated", "etcdserver: invalid auth token"),
    (
        "3",
        "InvalidArgument",
        "etcdserver: revision of auth store is old",
    ),
];

/// How the next question is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    Token,
    Status(&'static str, &'static str),
    Nothing,
}

#[derive(Clone)]
struct Keeper {
    refusal: (&'static str, &'static str, &'static str),
    state: Arc<Mutex<State>>,
}

struct State {
    gives: Gives,
    /// How often it was asked for a token, which the last one says.
    questions: usize,
    /// Takes none any more.
    is_stubborn: bool,
    is_lost: bool,
    puts: Vec<String>,
    streams: usize,
}

impl Keeper {
    fn new(refusal: (&'static str, &'static str, &'static str)) -> Keeper {
        let state = State {
            gives: Gives::Token,
            questions: 0,
            is_stubborn: false,
            is_lost: false,
            puts: Vec::new(),
            streams: 0,
        };
        Keeper {
            refusal,
            state: Arc::new(Mutex::new(state)),
        }
    }

    async fn client(&self) -> Client {
        self.try_client(Config::new()).await.expect("a client")
    }

    async fn try_client(&self, config: Config) -> Result<Client, Error> {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let keeper = self.clone();
        tokio::spawn(async move {
            let server = h2::server::handshake(theirs).await.expect("the client's preface");
            serve(server, move |asked| keeper.clone().answer(asked));
        });
        let ours = Mutex::new(Some(ours));
        let dial = move |_: &Endpoint| -> Dialing {
            let ours = ours.lock().unwrap().take();
            let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            Box::pin(async move { ours.map(|ours| Box::new(ours) as Box<dyn Io>).ok_or_else(refused) })
        };
        let config = config.auth(Auth::password("root", PASSWORD));
        Client::connect_over(dial, ["http://pipe"], config).await
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// Takes the last token no more.
    fn forget(&self) {
        self.change(|state| state.is_lost = true);
    }

    fn questions(&self) -> usize {
        self.state.lock().unwrap().questions
    }

    fn puts(&self) -> Vec<String> {
        self.state.lock().unwrap().puts.clone()
    }

    /// The same status as etcd's, in trailers without a head before them.
    fn refuse(respond: &mut SendResponse<Bytes>, code: &'static str, message: &'static str) {
        let mut head = head();
        head.headers_mut().insert("grpc-status", code.parse().unwrap());
        head.headers_mut().insert("grpc-message", message.parse().unwrap());
        respond.send_response(head, true).unwrap();
    }

    fn takes(&self, headers: &HeaderMap) -> bool {
        let state = self.state.lock().unwrap();
        let token = headers.get("token").map(|token| token.to_str().unwrap());
        !state.is_stubborn && !state.is_lost && token == Some(&format!("token.{}", state.questions))
    }

    async fn answer(self, (request, mut respond): Asked) {
        let (head, body) = request.into_parts();
        let takes = self.takes(&head.headers);
        let requests = Requests::new(body);
        let (code, _, message) = self.refusal;
        match head.uri.path() {
            "/etcdserverpb.Auth/Authenticate" => self.authenticate(&head.headers, requests, respond).await,
            "/etcdserverpb.Watch/Watch" => self.watch(takes, requests, respond).await,
            "/etcdserverpb.KV/Put" => {
                let token = head.headers.get("token").map_or("", |token| token.to_str().unwrap());
                self.change(|state| state.puts.push(token.to_owned()));
                match takes {
                    true => answer(&mut respond, &PutResponse::default()),
                    false => Keeper::refuse(&mut respond, code, message),
                }
            }
            "/etcdserverpb.Lease/LeaseGrant" => {
                let (id, ttl) = (7, 60);
                answer(
                    &mut respond,
                    &LeaseGrantResponse {
                        id,
                        ttl,
                        ..Default::default()
                    },
                );
            }
            "/etcdserverpb.Lease/LeaseKeepAlive" => {
                self.change(|state| state.streams += 1);
                match takes {
                    true => renew(requests, respond).await,
                    false => Keeper::refuse(&mut respond, code, message),
                }
            }
            other => panic!("nobody calls {other}"),
        }
    }

    async fn authenticate(
        self,
        headers: &HeaderMap,
        mut requests: Requests,
        mut respond: SendResponse<Bytes>,
    ) {
        assert!(!headers.contains_key("token"), "who asks for one has none");
        let question: AuthenticateRequest = requests.next().await.expect("a question");
        assert_eq!(
            (question.name.as_str(), question.password.as_str()),
            ("root", PASSWORD)
        );
        let mut gives = Gives::Nothing;
        let mut number = 0;
        self.change(|state| {
            gives = state.gives;
            state.questions += 1;
            number = state.questions;
            state.is_lost &= gives != Gives::Token;
        });
        match gives {
            Gives::Token => {
                let token = format!("token.{number}");
                answer(
                    &mut respond,
                    &AuthenticateResponse {
                        token,
                        ..Default::default()
                    },
                );
            }
            Gives::Status(code, message) => Keeper::refuse(&mut respond, code, message),
            Gives::Nothing => std::future::pending().await,
        }
    }

    /// Refuses watches as etcd does: on the stream.
    async fn watch(self, takes: bool, mut requests: Requests, mut respond: SendResponse<Bytes>) {
        self.change(|state| state.streams += 1);
        let mut stream = respond.send_response(head(), false).unwrap();
        let mut next_id = 0;
        while let Some(request) = requests.next::<WatchRequest>().await {
            let Some(RequestUnion::CreateRequest(create)) = request.request_union else {
                continue;
            };
            let (_, code, message) = self.refusal;
            let takes = takes && !self.state.lock().unwrap().is_lost;
            let mut created = WatchResponse {
                header: Some(ResponseHeader {
                    revision: 10,
                    ..Default::default()
                }),
                created: true,
                watch_id: next_id,
                ..Default::default()
            };
            if !takes {
                created.watch_id = -1;
                created.canceled = true;
                created.cancel_reason = format!("rpc error: code = {code} desc = {message}");
            }
            let mut event = created.clone();
            let _ = stream.send_data(frame(&created), false);
            if takes {
                next_id += 1;
                event.created = false;
                // The next that this watch has not seen.
                let revision = create.start_revision.max(11);
                event.header = Some(ResponseHeader {
                    revision,
                    ..Default::default()
                });
                event.events.push(mvccpb::Event {
                    kv: Some(mvccpb::KeyValue {
                        key: create.key,
                        mod_revision: revision,
                        ..Default::default()
                    }),
                    ..Default::default()
                });
                let _ = stream.send_data(frame(&event), false);
            }
        }
    }
}

/// Renews whatever it is asked to.
async fn renew(mut requests: Requests, mut respond: SendResponse<Bytes>) {
    let mut stream = respond.send_response(head(), false).unwrap();
    while let Some(request) = requests.next::<LeaseKeepAliveRequest>().await {
        let (id, ttl) = (request.id, 60);
        let _ = stream.send_data(
            frame(&LeaseKeepAliveResponse {
                id,
                ttl,
                ..Default::default()
            }),
            false,
        );
    }
}

#[tokio::test]
async fn a_call_whose_token_is_refused_goes_again_with_another_in_each_form_of_refusal() {
    for refusal in REFUSALS {
        let keeper = Keeper::new(refusal);
        let client = keeper.client().await;
        client.put("key", "value").await.expect("the first token");
        keeper.forget();
        client.put("key", "value").await.expect("the second token");
        let puts = keeper.puts();
        assert_eq!(
            (puts.first(), puts.last()),
            (Some(&"token.1".to_owned()), Some(&"token.2".to_owned()))
        );
        assert_eq!(puts.iter().filter(|token| *token == "token.2").count(), 1);
        assert_eq!(keeper.questions(), 2, "{refusal:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_refused_with_its_second_token_too_is_told_so() {
    for (refusal, etcd) in REFUSALS.into_iter().zip([
        EtcdError::UserEmpty,
        EtcdError::InvalidAuthToken,
        EtcdError::AuthOldRevision,
    ]) {
        let keeper = Keeper::new(refusal);
        let client = keeper.client().await;
        keeper.change(|state| state.is_stubborn = true);
        let error = client.put("key", "value").await.expect_err("no token is good");
        assert_eq!(error.etcd(), Some(etcd));
        assert_eq!(error.delivery(), Delivery::Answered);
        let mut puts = keeper.puts();
        assert_eq!(error.attempts() as usize, puts.len());
        puts.dedup();
        assert_eq!(puts, ["token.1", "token.2"]);
    }
}

/// A refusal is remembered for two seconds at first, and a machine may stand still for as long.
fn assert_asked_once_more(keeper: &Keeper, begun: Instant) {
    let questions = keeper.questions() as u64;
    let passed = begun.elapsed().as_secs();
    assert!(
        (2..=2 + passed).contains(&questions),
        "{questions} within {passed} s"
    );
}

#[tokio::test]
async fn a_password_that_is_refused_as_a_token_would_be_ends_each_call_at_once() {
    let keeper = Keeper::new(REFUSALS[1]);
    let client = keeper.client().await;
    keeper.forget();
    let (code, _, message) = REFUSALS[0];
    keeper.change(|state| state.gives = Gives::Status(code, message));
    let begun = Instant::now();
    client.put("key", "value").await.expect_err("its token is refused, and there is no other");
    let sent = keeper.puts().len();
    let put = client.put("key", "value").into_future();
    let error = patiently("the refusal", put).await.expect_err("no password is good");
    assert_eq!(error.etcd(), Some(EtcdError::UserEmpty));
    assert_eq!(keeper.puts().len(), sent, "it was not sent");
    assert_asked_once_more(&keeper, begun);
}

#[tokio::test]
async fn calls_that_run_into_one_refusal_ask_once_and_all_go_on() {
    let keeper = Keeper::new(REFUSALS[1]);
    let client = keeper.client().await;
    keeper.forget();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let client = client.clone();
        calls.spawn(async move { client.put("key", "value").await });
    }
    // One that loses patience takes nobody's token away.
    let dropped = tokio::time::timeout(Duration::from_millis(1), client.put("key", "value"));
    let _ = dropped.await;
    while let Some(put) = patiently("an answer", calls.join_next()).await {
        put.expect("no panic").expect("a token");
    }
    assert_eq!(keeper.questions(), 2);
}

#[tokio::test]
async fn a_call_without_a_token_ends_with_its_deadline_and_was_not_sent() {
    let keeper = Keeper::new(REFUSALS[2]);
    let client = keeper.client().await;
    keeper.forget();
    keeper.change(|state| state.gives = Gives::Nothing);
    let put = client.put("key", "value").timeout(Duration::from_millis(300));
    let error = patiently("the deadline", put.into_future()).await.expect_err("no token");
    assert_eq!(
        (error.code(), error.delivery()),
        (Code::DeadlineExceeded, Delivery::NotSent)
    );
    assert!(error.message().contains("token"), "{error}");
    assert!(!format!("{error:?} {client:?}").contains(PASSWORD));
}

#[tokio::test]
async fn a_server_that_cannot_give_a_token_now_is_asked_until_it_can() {
    let keeper = Keeper::new(REFUSALS[1]);
    let client = keeper.client().await;
    keeper.forget();
    // No call of its own repeats that one.
    keeper.change(|state| state.gives = Gives::Status("13", "something broke"));
    let put = tokio::spawn({
        let client = client.clone();
        async move { client.put("key", "value").await }
    });
    patiently("some questions", async {
        while keeper.questions() < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let late = client.put("key", "value").timeout(Duration::from_millis(1)).await;
    let late = late.expect_err("there is no token");
    let cause = std::error::Error::source(&late).expect("a cause");
    assert!(cause.to_string().contains("something broke"), "{cause}");
    keeper.change(|state| state.gives = Gives::Token);
    patiently("an answer", put).await.expect("no panic").expect("a token at last");
}

#[tokio::test]
async fn a_refused_password_is_remembered_and_not_asked_about_for_each_call() {
    let keeper = Keeper::new(REFUSALS[1]);
    let client = keeper.client().await;
    keeper.forget();
    let refused = "etcdserver: authentication failed, invalid user ID or password";
    keeper.change(|state| state.gives = Gives::Status("3", refused));
    let begun = Instant::now();
    for _ in 0..50 {
        let error = client.put("key", "value").await.expect_err("no token");
        assert_eq!(error.etcd(), Some(EtcdError::AuthFailed));
        assert!(!error.may_be_applied(), "{error}");
    }
    assert_asked_once_more(&keeper, begun);
    assert!(keeper.puts().iter().all(|token| token == "token.1"));
}

#[tokio::test]
async fn calls_go_without_a_token_where_nobody_is_asked_for_one() {
    let keeper = Keeper::new(REFUSALS[0]);
    let disabled = "etcdserver: authentication is not enabled";
    keeper.change(|state| state.gives = Gives::Status("9", disabled));
    let client = keeper.client().await;
    client.put("key", "value").await.expect_err("this one takes nobody without a token");
    assert_eq!(keeper.puts(), ["", ""]);
    keeper.change(|state| state.gives = Gives::Token);
    client.put("key", "value").await.expect("the token is good");
    assert_eq!(keeper.questions(), 3);
}

#[tokio::test]
async fn a_watch_that_is_refused_for_the_streams_token_goes_on_with_all_others_on_the_next() {
    for refusal in REFUSALS {
        let keeper = Keeper::new(refusal);
        let client = keeper.client().await;
        let mut early = client.watch("early").resume(false).await.expect("a watch");
        patiently("an event", early.next()).await.expect("an event");
        keeper.forget();
        let late = client.watch("late").resume(false).into_future();
        let mut late = patiently("a watch", late).await.expect("a watch");
        patiently("an event", late.next()).await.expect("an event");
        // The one that was there has not lost its place.
        let batch = patiently("an event", early.next()).await.expect("an event");
        assert_eq!(batch.events[0].kv().mod_revision, 12, "{refusal:?}");
        assert_eq!(keeper.questions(), 2, "{refusal:?}");
        // A token that came just now may only be late, and its stream is tried again.
        let streams = keeper.state.lock().unwrap().streams;
        assert!(
            streams == 2 || streams > 2 && refusal == REFUSALS[1],
            "{refusal:?}"
        );
    }
}

#[tokio::test]
async fn a_keepalive_stream_that_ends_for_its_token_is_opened_anew_with_another() {
    for refusal in REFUSALS {
        let keeper = Keeper::new(refusal);
        let client = keeper.client().await;
        keeper.forget();
        let renewed = patiently("a renewal", client.lease_keep_alive_once(tenure::LeaseId(7))).await;
        assert_eq!(renewed.expect("a renewal").ttl, 60, "{refusal:?}");
        assert_eq!(keeper.questions(), 2, "{refusal:?}");
        // A token that came just now may only be late, and its stream is tried again.
        let streams = keeper.state.lock().unwrap().streams;
        assert!(
            streams == 2 || streams > 2 && refusal == REFUSALS[1],
            "{refusal:?}"
        );
        keeper.forget();
        let lease = client.lease(Duration::from_secs(60)).await.expect("a lease");
        let before = lease.valid_for();
        // The first renewal is not due for long: a session that another one kept is renewed at once.
        let kept = patiently("a renewal", client.keep_alive(tenure::LeaseId(7))).await;
        assert!(kept.expect("the lease is kept").is_valid() && !before.is_zero());
        assert_eq!(keeper.questions(), 3);
    }
}
