//! A case: what a peer sends to a call, and how the call and its connection have
//! to end. One driver runs them all, and holds each to the same bounds.

use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tenure::{Client, Code, Config, Delivery, Error, Origin};

use crate::bounds;
use crate::frames;
use crate::peer::{self, Pipes, Seen, Wire};

/// The deadline of a call that is under attack.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);
/// A call that ends that much later does not keep to its deadline, however busy
/// the machine is.
const OVERRUN_MAX: Duration = Duration::from_secs(10);
/// How often a case is tried whose call was to end before its deadline and did not: a machine that
/// stalls for a second is not what is tried.
const TRIES: usize = 3;
/// The second call gets all the time it may need: nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of a flood is written at a time.
const WRITE_BYTES: usize = 16 << 10;
/// The largest message that the client under attack takes. It may decode to 21
/// times that: see `tenure::wire::shape`.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 << 10;

pub(crate) struct Case {
    /// Where it is described.
    pub(crate) source: &'static str,
    pub(crate) name: &'static str,
    pub(crate) call: Call,
    pub(crate) play: Play,
    pub(crate) end: End,
    pub(crate) then: Then,
}

/// Which call is attacked.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    Put,
    Get,
    Txn,
}

/// What the peer does on its first connection; on later ones it is a good server.
#[derive(Clone, Copy)]
pub(crate) enum Play {
    /// Sends these in place of its settings.
    Greets(fn() -> Vec<u8>),
    /// Sends these when it has read a request on this stream, and nothing more on it.
    Answers(fn(u32) -> Vec<u8>),
    /// Sends these, and a good answer behind them.
    Precedes(fn(u32) -> Vec<u8>),
    /// Sends these as often as it says, then a good answer. It reads meanwhile.
    Floods(usize, fn(u32, usize) -> Vec<u8>),
    /// As `Floods`, and it does not read any more.
    FloodsDeaf(usize, fn(u32, usize) -> Vec<u8>),
    /// Sends these in place of its settings, and those once the call has given up.
    Starves(fn() -> Vec<u8>, fn() -> Vec<u8>),
    /// Sends these, a byte in a segment.
    Dribbles(fn(u32) -> Vec<u8>),
    /// Sends these and closes the connection.
    HangsUp(fn(u32) -> Vec<u8>),
    /// Sends these and then floods until the client goes away, without an end.
    Drips(fn(u32) -> Vec<u8>, fn(u32) -> Vec<u8>),
}

/// How the call ends that the peer attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Answered,
    Fails(Code, Origin, Delivery),
    /// Answered, or failed with `Unavailable` or at the deadline: the connection
    /// breaks while the answer is on its way up, or another takes its time.
    Either,
}

/// What becomes of the connection. Whatever it is, a second call is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// The second call goes over the same connection.
    Kept,
    /// The client says goodbye for one of these reasons, and dials again.
    Lost(&'static [u32]),
    /// It dials again; the connection ended without a word of the client's.
    Redialled,
    /// Either way.
    Whatever,
}

/// The end of a call whose connection broke.
pub(crate) const BROKEN: End = End::Fails(Code::Unavailable, Origin::Transport, Delivery::Unknown);
/// The end of a call whose peer breaks gRPC.
pub(crate) const BREACH: End = End::Fails(Code::Internal, Origin::Transport, Delivery::Unknown);
/// The end of a call that is never answered.
pub(crate) const LATE: End = End::Fails(Code::DeadlineExceeded, Origin::Library, Delivery::Unknown);

/// Runs the cases one after another, and says of all that fail why.
pub(crate) fn run(cases: &[Case]) {
    let mut failures = Vec::new();
    for case in cases {
        match case.run(TRIES) {
            Ok(peak) => println!("{:>9} B  {} {}", peak, case.source, case.name),
            Err(why) => failures.push(format!("{} {}: {why}", case.source, case.name)),
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

impl Case {
    /// A case of a put.
    pub(crate) const fn new(
        source: &'static str,
        name: &'static str,
        play: Play,
        end: End,
        then: Then,
    ) -> Case {
        Case {
            source,
            name,
            call: Call::Put,
            play,
            end,
            then,
        }
    }

    pub(crate) const fn of(mut self, call: Call) -> Case {
        self.call = call;
        self
    }

    fn run(&self, tries: usize) -> Result<u64, String> {
        let (call, play) = (self.call, self.play);
        let (attacked, peak) = bounds::hold(self.name, async move || attacked(call, play).await)?;
        let Attacked {
            first,
            took,
            second,
            seen,
            peer,
        } = attacked;
        peer.join().map_err(|_| "the script fails".to_owned())?;
        let seen = seen.lock().unwrap();
        let end = match &first {
            Ok(()) => End::Answered,
            Err(error) => End::Fails(error.code(), error.origin(), error.delivery()),
        };
        let is_broken = matches!(
            end,
            End::Fails(Code::Unavailable, Origin::Transport, _)
                | End::Fails(Code::DeadlineExceeded, Origin::Library, _)
        );
        let is_either = self.end == End::Either && (is_broken || end == End::Answered);
        if end != self.end && !is_either {
            if end == LATE && tries > 1 {
                return self.run(tries - 1);
            }
            return Err(format!("{end:?} instead of {:?}: {first:?}", self.end));
        }
        if took > DEADLINE + OVERRUN_MAX {
            return Err(format!("the call took {took:?}"));
        }
        if let Err(error) = second {
            return Err(format!("the next call fails: {error:?}, {seen:?}"));
        }
        if !self.then.is_told_by(&seen) {
            return Err(format!("not {:?} but {seen:?}, {first:?}", self.then));
        }
        Ok(peak)
    }
}

impl Then {
    fn is_told_by(self, seen: &Seen) -> bool {
        let redialled = seen.connections > 1;
        match self {
            Then::Kept => !redialled && seen.goaways.is_empty(),
            Then::Lost(reasons) => {
                let told = !seen.goaways.is_empty();
                redialled && told && seen.goaways.iter().all(|reason| reasons.contains(reason))
            }
            Then::Redialled => redialled,
            Then::Whatever => true,
        }
    }
}

impl Call {
    async fn on(self, client: &Client) -> Result<(), Error> {
        match self {
            Call::Put => client.put("key", "value").await.map(drop),
            Call::Get => client.get("key").await.map(drop),
            Call::Txn => client.txn().await.map(drop),
        }
    }
}

struct Attacked {
    first: Result<(), Error>,
    took: Duration,
    second: Result<(), Error>,
    seen: std::sync::Arc<Mutex<Seen>>,
    peer: JoinHandle<()>,
}

pub(crate) fn config() -> Config {
    let config = Config::new().connect_timeout(DEADLINE / 2).call_timeout(DEADLINE);
    config.response_bytes_max(MESSAGE_BYTES_MAX)
}

async fn connect(pipes: &Pipes) -> Result<Client, Error> {
    Client::connect_over(pipes.dial(), ["http://hostile"], config()).await
}

async fn attacked(call: Call, play: Play) -> Attacked {
    let (pipes, seen, peer) = peer::spawn(move |wire, nth| perform(wire, nth, play));
    let begun = Instant::now();
    let (client, first) = match connect(&pipes).await {
        Ok(client) => {
            let first = call.on(&client).await;
            (Some(client), first)
        }
        Err(error) => (None, Err(error)),
    };
    let took = begun.elapsed();
    let second = again(&pipes, client).await;
    Attacked {
        first,
        took,
        second,
        seen,
        peer,
    }
}

async fn perform(mut wire: Wire, nth: usize, play: Play) {
    match play {
        Play::Greets(bytes) | Play::Starves(bytes, _) if nth == 0 => wire.write(&bytes()).await,
        _ => wire.write(&frames::settings(&[])).await,
    };
    match play {
        Play::Greets(_) => {}
        Play::Starves(_, relief) if nth == 0 => {
            tokio::time::sleep(DEADLINE + DEADLINE / 2).await;
            wire.write(&relief()).await;
        }
        _ if nth == 0 => {
            let Some(stream) = wire.request().await else {
                return;
            };
            attack(&mut wire, stream, play).await;
        }
        _ => {}
    }
    wire.serve().await;
}

async fn attack(wire: &mut Wire, stream: u32, play: Play) {
    match play {
        Play::Greets(_) | Play::Starves(..) => {}
        Play::Dribbles(bytes) => {
            for byte in bytes(stream) {
                wire.write(&[byte]).await;
                wire.skip(stream).await;
            }
        }
        Play::Answers(bytes) => {
            wire.write(&bytes(stream)).await;
        }
        Play::Precedes(bytes) => {
            wire.write(&[bytes(stream), frames::good(stream)].concat()).await;
        }
        Play::Floods(times, piece) => {
            flood(wire, stream, times, piece).await;
            wire.write(&frames::good(stream)).await;
        }
        Play::FloodsDeaf(times, piece) => {
            // A client that has to answer each frame stops reading too.
            let later = wire.turn_deaf(DEADLINE + DEADLINE / 2);
            tokio::join!(later, flood(wire, stream, times, piece));
            wire.write(&frames::good(stream)).await;
        }
        Play::HangsUp(bytes) => {
            wire.write(&bytes(stream)).await;
            wire.hang_up().await;
        }
        Play::Drips(bytes, piece) => {
            wire.write(&bytes(stream)).await;
            while !wire.is_given_up() && wire.write(&piece(stream)).await {
                wire.skip(stream).await;
            }
        }
    }
}

async fn flood(wire: &mut Wire, stream: u32, times: usize, piece: fn(u32, usize) -> Vec<u8>) {
    let mut bytes = Vec::new();
    for time in 0..times {
        bytes.extend(piece(stream, time));
        if bytes.len() >= WRITE_BYTES {
            if !wire.write(&bytes).await {
                return;
            }
            bytes.clear();
            wire.skip(stream).await;
        }
    }
    wire.write(&bytes).await;
}

async fn again(pipes: &Pipes, client: Option<Client>) -> Result<(), Error> {
    let client = match client {
        Some(client) => client,
        None => connect(pipes).await?,
    };
    client.put("key", "value").timeout(PATIENCE).await.map(drop)
}

/// A call to a server that does as it should, for the baseline.
pub(crate) async fn good() {
    let attacked = attacked(Call::Put, Play::Precedes(|_| Vec::new())).await;
    attacked.first.expect("a good server");
}
