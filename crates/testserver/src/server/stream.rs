//! The two calls that stream: lease renewals, answered one by one, and watches,
//! which are asked for and answered independently.
//!
//! ```text
//!   client --> Incoming --> carried out --> queue --> send --> client
//!              faults of                              faults of
//!              requests                               answers
//! ```

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::server::SendResponse;
use prost::Message;
use tokio::sync::{Notify, mpsc};

use super::member::Member;
use super::message::{Answers, Requests};
use crate::faults::{Fault, Late};
use crate::pb::{LeaseId, WatchCommand, WatchRequest};
use crate::service::{LEASE_KEEP_ALIVE, Status, WATCH, decode};
use crate::watch::StreamId;

/// How many answers wait for a client that does not read. A watch has more room of its own.
const ANSWERS_MAX: usize = 16;

type Queue = mpsc::Sender<Bytes>;

pub(super) async fn lease_keep_alive(
    member: &Arc<Member>,
    requests: Requests,
    respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let answers = Answers::open(respond)?;
    let (queue, waiting) = mpsc::channel(ANSWERS_MAX);
    let again = queue.downgrade();
    let carrying_out = renew(member, Incoming::new(member, LEASE_KEEP_ALIVE, requests), queue);
    Outgoing {
        member,
        path: LEASE_KEEP_ALIVE,
        waiting,
        again,
    }
    .run(answers, carrying_out)
    .await
}

pub(super) async fn watch(
    member: &Arc<Member>,
    requests: Requests,
    respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let answers = Answers::open(respond)?;
    // What waits for the client waits with the watches, which then are behind.
    let (queue, waiting) = mpsc::channel(1);
    let again = queue.downgrade();
    let stream = WatchStream::open(member.clone());
    let carrying_out = stream.run(Incoming::new(member, WATCH, requests), queue);
    Outgoing {
        member,
        path: WATCH,
        waiting,
        again,
    }
    .run(answers, carrying_out)
    .await
}

async fn renew(member: &Arc<Member>, mut requests: Incoming<'_>, queue: Queue) -> Result<(), Status> {
    while let Some((body, again)) = requests.next().await? {
        let lease = decode::<LeaseId>(body)?;
        let renew = {
            let member = member.clone();
            move || {
                let answer =
                    member.shared.with(|cluster, now| cluster.lease_keep_alive(member.id, now, &lease));
                member.shared.handle_carried_out(LEASE_KEEP_ALIVE);
                answer
            }
        };
        let answer = renew();
        if let Some(late) = again {
            let late = member.late(late);
            member.spawn(async move {
                late.await;
                renew();
            });
        }
        if queue.send(answer.encode_to_vec().into()).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// What a client sends on a stream, as the faults leave it.
struct Incoming<'a> {
    member: &'a Member,
    path: &'static str,
    requests: Requests,
    is_silent: bool,
}

impl<'a> Incoming<'a> {
    fn new(member: &'a Member, path: &'static str, requests: Requests) -> Incoming<'a> {
        Incoming {
            member,
            path,
            requests,
            is_silent: false,
        }
    }

    /// The next request, and when it is to be carried out again.
    async fn next(&mut self) -> Result<Option<(Bytes, Option<Late>)>, Status> {
        loop {
            let Some(body) = self.requests.next().await? else {
                return Ok(None);
            };
            if self.is_silent {
                continue;
            }
            match self.member.faults.take_request(self.path) {
                None => return Ok(Some((body, None))),
                Some(Fault::Again(late)) => return Ok(Some((body, Some(late)))),
                Some(Fault::Delay(late)) => {
                    self.member.late(late).await;
                    return Ok(Some((body, None)));
                }
                Some(Fault::Drop) => {}
                Some(Fault::Silence) => self.is_silent = true,
                Some(Fault::End { code, message }) => return Err(Status { code, message }),
            }
        }
    }
}

/// What a client is sent on a stream, as the faults leave it.
struct Outgoing<'a> {
    member: &'a Member,
    path: &'static str,
    waiting: mpsc::Receiver<Bytes>,
    /// For what is sent again.
    again: mpsc::WeakSender<Bytes>,
}

impl Outgoing<'_> {
    /// Sends what is put in the queue, until all is carried out and sent.
    async fn run(
        self,
        mut answers: Answers,
        carrying_out: impl Future<Output = Result<(), Status>>,
    ) -> Result<(), h2::Error> {
        let status = {
            let mut sending = pin!(self.send(&mut answers));
            tokio::select! {
                biased;
                sent = &mut sending => sent?,
                carried_out = carrying_out => match carried_out {
                    Ok(()) => sending.await?,
                    Err(status) => Err(status),
                },
            }
        };
        answers.finish(status)
    }

    async fn send(mut self, answers: &mut Answers) -> Result<Result<(), Status>, h2::Error> {
        let mut is_silent = false;
        while let Some(message) = self.next(answers).await {
            if is_silent {
                continue;
            }
            match self.member.faults.take_answer(self.path) {
                None => {}
                Some(Fault::Drop) => continue,
                Some(Fault::Silence) => {
                    is_silent = true;
                    continue;
                }
                Some(Fault::Delay(late)) => self.member.late(late).await,
                Some(Fault::Again(late)) => self.send_again(late, message.clone()),
                Some(Fault::End { code, message }) => return Ok(Err(Status { code, message })),
            }
            answers.send(message).await?;
        }
        Ok(Ok(()))
    }

    /// The next message; none after the last, and none for a client that does not
    /// want the rest.
    async fn next(&mut self, answers: &mut Answers) -> Option<Bytes> {
        poll_fn(|cx| match answers.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => self.waiting.poll_recv(cx),
        })
        .await
    }

    fn send_again(&self, late: Late, message: Bytes) {
        let (late, queue) = (self.member.late(late), self.again.clone());
        self.member.spawn(async move {
            late.await;
            if let Some(queue) = queue.upgrade() {
                let _ = queue.send(message).await;
            }
        });
    }
}

/// A stream of watches, which all end with it.
struct WatchStream {
    member: Arc<Member>,
    id: StreamId,
    /// There is something to send.
    ready: Arc<Notify>,
    /// Something was sent.
    room: Notify,
}

impl WatchStream {
    fn open(member: Arc<Member>) -> WatchStream {
        let ready = Arc::new(Notify::new());
        let id = member.shared.with(|cluster, _| cluster.member(member.id).watches().open());
        member.shared.add_stream(member.id, id, ready.clone());
        WatchStream {
            member,
            id,
            ready,
            room: Notify::new(),
        }
    }

    async fn run(self, mut requests: Incoming<'_>, queue: Queue) -> Result<(), Status> {
        tokio::select! {
            biased;
            () = self.tell(&queue) => Ok(()),
            asked = self.ask(&mut requests) => asked,
        }
    }

    /// Puts what the watches see in the queue.
    async fn tell(&self, queue: &Queue) {
        loop {
            while let Some(answer) = self.watches(|watches| watches.pop(self.id)) {
                self.room.notify_one();
                if queue.send(answer.encode_to_vec().into()).await.is_err() {
                    return;
                }
            }
            self.ready.notified().await;
        }
    }

    async fn ask(&self, requests: &mut Incoming<'_>) -> Result<(), Status> {
        loop {
            // A client that does not read is not served.
            while self.watches(|watches| watches.is_full(self.id)) {
                self.room.notified().await;
            }
            let Some((body, again)) = requests.next().await? else {
                // Whoever has nothing more to ask still watches, until it resets the call.
                return pending().await;
            };
            let Some(command) = decode::<WatchRequest>(body)?.command else {
                continue;
            };
            handle(&self.member, self.id, &command);
            if let Some(late) = again {
                let (member, id, late) = (self.member.clone(), self.id, self.member.late(late));
                self.member.spawn(async move {
                    late.await;
                    handle(&member, id, &command);
                });
            }
        }
    }

    fn watches<T>(&self, body: impl FnOnce(&mut crate::watch::Watches) -> T) -> T {
        self.member.shared.with(|cluster, _| body(cluster.member(self.member.id).watches()))
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.member.shared.remove_stream(self.member.id, self.id);
        self.watches(|watches| watches.close(self.id));
    }
}

fn handle(member: &Member, stream: StreamId, command: &WatchCommand) {
    member
        .shared
        .with(|cluster, _| cluster.member(member.id).handle_watch_command(stream, command));
    member.shared.handle_carried_out(WATCH);
}
