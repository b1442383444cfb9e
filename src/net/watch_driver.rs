//! Runs a client's watches: one task, one stream, `core::watch` for every decision.
//!
//! Readers and task meet in two places. A reader's wishes go through the [`Inbox`],
//! which holds at most one wish of a kind of each watch. What the server sends goes from the task straight into the [`Mailbox`]
//! of its reader and wakes it: there is no third task in between.
//!
//! ```text
//!   WatchReader ──Command──▶ Inbox ──▶ ┌─────────────┐ ──requests──▶ stream
//!   WatchReader ◀─────────── Mailbox ◀─│ WatchDriver │ ◀─responses── stream
//!                                      └─────────────┘
//! ```
//!
//! The task starts with the first watch and keeps the stream open between watches,
//! since a lock that is waited for now and then would pay a round trip for a new one
//! each time. A stream that is lost is opened again, after the machine's wait, as soon
//! as there is a watch for it. It ends once the client and its last reader are dropped.

use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::channel::Channel;
use super::clock::{self, NEVER, Timer};
use super::race::{Either, race};
use super::route::Route;
use super::runtime::Runtime;
use super::stream::{Duplex, Receiver, Sender};
use super::trace;
use super::watch_inbox::{Command, Gone, Inbox};
pub(crate) use super::watch_mailbox::Created;
use super::watch_mailbox::Mailbox;
use crate::core::watch::{Action, Batch, Create, WatchEnd, WatchKey, Watches};
use crate::error::{Code, Delivery, Error, EtcdError, Origin};
use crate::pb::etcdserverpb::{WatchRequest, WatchResponse};
use crate::types::Revision;
use crate::wire::method;

/// A stream that always has something to read gives way now and then, so that the
/// readers it woke can run.
const STEPS_BEFORE_YIELD: u32 = 64;

/// All watches of one client. Costs nothing until the first one.
#[derive(Debug)]
pub(crate) struct WatchStream {
    channel: Channel,
    inbox: Arc<Inbox>,
    seed: u64,
}

impl WatchStream {
    pub(crate) fn new(channel: Channel, seed: u64) -> Arc<WatchStream> {
        let inbox = Arc::new(Inbox::default());
        Arc::new(WatchStream { channel, inbox, seed })
    }

    /// Asks for a watch. Must be called on a tokio runtime.
    pub(crate) fn create(self: &Arc<Self>, create: Create) -> WatchReader {
        let start = Revision(create.request.start_revision).max(Revision::ZERO);
        let mailbox = Arc::new(Mailbox::new(create.buffer_bytes));
        let (key, starts) = self.inbox.create(create, &mailbox);
        if starts {
            self.channel.runtime().spawn(WatchDriver::new(self).run());
        }
        WatchReader {
            key,
            start,
            mailbox,
            stream: Arc::clone(self),
            canceled: false,
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// The reading end of one watch. Dropping it cancels the watch.
#[derive(Debug)]
pub(crate) struct WatchReader {
    key: WatchKey,
    start: Revision,
    mailbox: Arc<Mailbox>,
    stream: Arc<WatchStream>,
    canceled: bool,
}

impl WatchReader {
    /// Waits for the server's `created`.
    pub(crate) fn poll_created(&mut self, cx: &mut Context<'_>) -> Poll<Result<Created, WatchEnd>> {
        self.mailbox.poll(cx, |state| match (&state.created, state.queue.end()) {
            (Some(created), _) => Some(Ok(created.clone())),
            (None, Some(end)) => Some(Err(end.clone())),
            (None, None) => None,
        })
    }

    /// Waits for the next batch, or for the end, which is the same from then on.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Batch, WatchEnd>> {
        let mut drained = false;
        let polled = self.mailbox.poll(cx, |state| match state.queue.pop() {
            Some(batch) => {
                drained = state.queue.is_empty() && std::mem::take(&mut state.behind);
                Some(Ok(batch))
            }
            None => state.queue.end().cloned().map(Err),
        });
        if drained {
            self.stream.inbox.push(Command::Drained(self.key));
        }
        polled
    }

    /// Where the task runs.
    pub(crate) fn runtime(&self) -> &Runtime {
        self.stream.channel.runtime()
    }

    /// How many times the watch was created again after it was lost.
    pub(crate) fn resumes(&self) -> u64 {
        self.mailbox.lock().resumes
    }

    /// How many times the watch was created again after its reader fell behind.
    pub(crate) fn catch_ups(&self) -> u64 {
        self.mailbox.lock().catch_ups
    }

    /// Asks the server how far the watches of this stream have come.
    pub(crate) fn request_progress(&self) {
        let mut state = self.mailbox.lock();
        if state.queue.end().is_none() && !std::mem::replace(&mut state.progress_is_queued, true) {
            drop(state);
            self.stream.inbox.push(Command::Progress(self.key, Arc::clone(&self.mailbox)));
        }
    }

    /// Gives the watch up, if it has not ended by itself.
    pub(crate) fn cancel(&mut self) {
        let ended = self.mailbox.lock().queue.end().is_some();
        if !ended && !std::mem::replace(&mut self.canceled, true) {
            self.stream.inbox.push(Command::Cancel(self.key));
        }
    }

    /// The end of a watch that the server did not create in time.
    pub(crate) fn too_late(&self) -> WatchEnd {
        let message = "the watch was not created before the deadline";
        let error = Error::new(
            Code::DeadlineExceeded,
            Origin::Library,
            Delivery::Unknown,
            message,
        );
        let refusal = self.mailbox.lock().refusal.take();
        let error = match refusal {
            Some(reason) => {
                let code = EtcdError::from_message(&reason).map_or(Code::Unknown, EtcdError::code);
                error.with_source(Error::answered(code, reason))
            }
            None => match self.stream.channel.missing() {
                Some(missing) => error.with_source(missing),
                None => error,
            },
        };
        WatchEnd::disconnected(&Arc::new(error), self.start)
    }
}

impl Drop for WatchReader {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The task.
struct WatchDriver {
    channel: Channel,
    inbox: Arc<Inbox>,
    watches: Watches<Arc<Mailbox>>,
    /// The generation of the token that the last stream was opened with.
    generation: u64,
    commands: VecDeque<Command>,
}

impl WatchDriver {
    fn new(stream: &WatchStream) -> WatchDriver {
        WatchDriver {
            channel: stream.channel.clone(),
            inbox: Arc::clone(&stream.inbox),
            watches: Watches::new(stream.seed).renewing_tokens(stream.channel.tokens().are_renewed()),
            generation: 0,
            commands: VecDeque::new(),
        }
    }

    async fn run(mut self) {
        while let Ok(duplex) = self.open().await {
            if let Err(Gone) = self.serve(duplex).await {
                return;
            }
        }
    }

    /// Opens a stream as soon as a watch wants one and the wait after the last is over.
    async fn open(&mut self) -> Result<Duplex<WatchRequest, WatchResponse>, Gone> {
        loop {
            while !self.watches.needs_stream() {
                self.wait().await?;
            }
            let channel = self.channel.clone();
            // Each reader has a deadline of its own, and takes its wish back when it is over.
            let mut duplex = pin!(channel.duplex(&method::watch::WATCH, NEVER));
            while self.watches.needs_stream() {
                let opened = poll_fn(|cx| match duplex.as_mut().poll(cx) {
                    Poll::Ready(duplex) => Poll::Ready(Ok(Some(duplex))),
                    Poll::Pending => self.inbox.poll(cx, &mut self.commands).map_ok(|()| None),
                });
                match opened.await? {
                    Some(Ok(duplex)) => {
                        self.watches.handle_opened(clock::now());
                        return Ok(duplex);
                    }
                    Some(Err(error)) => {
                        self.watches.handle_unreachable(&Arc::new(error));
                        self.act(None);
                    }
                    None => self.obey(),
                }
            }
        }
    }

    /// Waits without a stream, for the readers' wishes or for the machine's time.
    async fn wait(&mut self) -> Result<(), Gone> {
        let until = self.watches.poll_timeout().unwrap_or(NEVER);
        let commands = poll_fn(|cx| self.inbox.poll(cx, &mut self.commands));
        match race(commands, clock::sleep_until(until)).await {
            Either::Left(commands) => commands?,
            Either::Right(()) => self.watches.handle_timeout(clock::now()),
        }
        self.obey();
        Ok(())
    }

    /// Runs the stream until it is over.
    async fn serve(&mut self, duplex: Duplex<WatchRequest, WatchResponse>) -> Result<(), Gone> {
        let Duplex {
            mut sender,
            mut receiver,
            route,
            generation,
        } = duplex;
        self.generation = generation;
        let mut request = None;
        let mut timer = pin!(Timer::new(NEVER));
        let mut steps = 0;
        loop {
            if request.is_none() {
                request = self.watches.poll_request();
            }
            receiver.set_asked(self.watches.awaits_answer());
            let due = self.watches.poll_timeout().unwrap_or(NEVER);
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            let step = self.step(&mut sender, &mut receiver, request.as_ref(), timer.as_mut()).await?;
            if matches!(step.sent, Some(Ok(()))) {
                request = None;
            }
            let now = clock::now();
            self.watches.handle_timeout(now);
            match step.received {
                Some(Ok(Some(response))) => self.watches.handle_response(now, response),
                Some(Ok(None)) => self.watches.handle_disconnect(now, &Arc::new(ended_by_server())),
                Some(Err(error)) => self.watches.handle_disconnect(now, &Arc::new(error)),
                None => {
                    // What the server sent before it stopped reading comes first.
                    if let Some(Err(error)) = step.sent {
                        self.watches.handle_disconnect(now, &Arc::new(error));
                    }
                }
            }
            let stream = self.act(Some(&route));
            // Also what came together with the end of the stream: it is for the next one.
            self.obey();
            if stream == Stream::Over {
                return Ok(());
            }
            steps += 1;
            if steps % STEPS_BEFORE_YIELD == 0 {
                steps = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits until there is something to do. Sends, receives and takes commands at
    /// once: a server that reads no more must not keep its events from being read.
    async fn step(
        &mut self,
        sender: &mut Sender<WatchRequest>,
        receiver: &mut Receiver<WatchResponse>,
        request: Option<&WatchRequest>,
        mut timer: Pin<&mut Timer>,
    ) -> Result<Step, Gone> {
        let mut send = pin!(async {
            match request {
                Some(request) => sender.send(request).await,
                None => pending().await,
            }
        });
        let mut receive = pin!(receiver.recv());
        poll_fn(|cx| {
            let commands = self.inbox.poll(cx, &mut self.commands)?;
            let received = ready(receive.as_mut().poll(cx));
            let sent = ready(send.as_mut().poll(cx));
            let is_due = timer.deadline() < NEVER && timer.as_mut().poll(cx).is_ready();
            if commands.is_pending() && received.is_none() && sent.is_none() && !is_due {
                return Poll::Pending;
            }
            Poll::Ready(Ok(Step { received, sent }))
        })
        .await
    }

    /// Hands the readers' wishes to the machine.
    fn obey(&mut self) {
        while let Some(command) = self.commands.pop_front() {
            match command {
                Command::Create { key, create, mailbox } => {
                    self.watches.handle_create(key, create, mailbox);
                }
                Command::Cancel(key) => self.watches.handle_cancel(key),
                Command::Drained(key) => self.watches.handle_drained(key),
                Command::Progress(key, mailbox) => {
                    mailbox.lock().progress_is_queued = false;
                    self.watches.handle_progress_request(key);
                }
            }
        }
        self.act(None);
    }

    /// Does what the machine says.
    fn act(&mut self, route: Option<&Route>) -> Stream {
        let mut stream = Stream::Open;
        while let Some(action) = self.watches.poll_action() {
            match action {
                Action::Created { reader, id, revision } => {
                    self.channel.figures().watches.opened.add();
                    trace::watch_created(route);
                    let route = route.cloned();
                    reader.change(|state| state.created = route.map(|route| Created { id, revision, route }));
                }
                Action::Resumed { reader, caught_up } => match caught_up {
                    true => {
                        self.channel.figures().watches.lagged.add();
                        trace::watch_lagged();
                        reader.lock().catch_ups += 1;
                    }
                    false => {
                        self.channel.figures().watches.resumed.add();
                        trace::watch_resumed(route);
                        reader.lock().resumes += 1;
                    }
                },
                Action::Refused { reader, reason } => reader.lock().refusal = Some(reason),
                Action::Deliver { key, reader, batch } => {
                    let pushed = reader.change(|state| {
                        let pushed = state.queue.push(batch);
                        state.behind |= pushed.is_err();
                        pushed
                    });
                    if let Err(full) = pushed {
                        self.watches.handle_refused(key, full);
                    }
                }
                Action::End { reader, end } => {
                    trace::watch_ended(&end);
                    match &end {
                        WatchEnd::Lagged { .. } => self.channel.figures().watches.lagged.add(),
                        WatchEnd::Closed => {}
                        _ => self.channel.figures().watches.ended.add(),
                    }
                    reader.finish(end);
                }
                Action::TokenRefused(etcd) => {
                    // Whatever comes of it, the next stream waits for a token that is good.
                    let _ = self.channel.tokens().refused(self.generation, etcd);
                }
                Action::Close => stream = Stream::Over,
            }
        }
        stream
    }
}

/// On the way out, and where the runtime drops the task: no reader waits for ever.
impl Drop for WatchDriver {
    fn drop(&mut self) {
        self.commands.extend(self.inbox.driver_ended());
        self.obey();
        self.watches.handle_shutdown();
        self.act(None);
    }
}

/// What happened in one step; commands are in their queue.
struct Step {
    received: Option<Result<Option<WatchResponse>, Error>>,
    sent: Option<Result<(), Error>>,
}

#[derive(PartialEq, Eq)]
enum Stream {
    Open,
    Over,
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn ended_by_server() -> Error {
    let message = "the server ended the watch stream";
    Error::new(Code::Unavailable, Origin::Server, Delivery::Unknown, message)
}
