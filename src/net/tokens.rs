//! The token that calls and streams bear: it is kept here, and calls without one
//! wait here. `core::auth` says when it is asked for, `net/auth` asks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{clock, trace};
use crate::config::{Auth, AuthKind};
use crate::core::auth::{Action, Auth as Machine, Refusal, Standing, is_token_refusal};
use crate::core::time::Instant;
use crate::error::{Delivery, Error, EtcdError};
use crate::pb::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};
use crate::wire::Token;

/// Members that lag do so for less than a heartbeat as a rule.
const YOUNG_WAIT_FIRST: Duration = Duration::from_millis(10);

/// Where the tokens of a client come from.
#[derive(Debug)]
pub(crate) enum Tokens {
    /// Nobody asks who the client is.
    Nobody,
    /// The caller's; there is no other.
    Fixed(Token),
    /// The server's, for a name and a password.
    Fetched(Arc<Fetched>),
}

/// What a call or a stream goes with.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) token: Option<Token>,
    pub(super) generation: u64,
}

impl Tokens {
    /// # Errors
    ///
    /// A token that cannot be sent.
    pub(crate) fn new(auth: Option<&Auth>, seed: u64) -> Result<Tokens, Error> {
        match auth.map(|auth| &auth.0) {
            None => Ok(Tokens::Nobody),
            Some(AuthKind::Token(token)) => match Token::new(token.to_string()) {
                Ok(token) => Ok(Tokens::Fixed(token)),
                Err(_) => Err(Error::invalid("the token cannot be sent as a header")),
            },
            Some(AuthKind::Password { name, password }) => {
                let question = AuthenticateRequest {
                    name: name.to_string(),
                    password: password.to_string(),
                };
                Ok(Tokens::Fetched(Arc::new(Fetched {
                    question,
                    state: Mutex::new(State {
                        machine: Machine::new(seed),
                        token: None,
                        failure: None,
                        waiting: BTreeMap::new(),
                        last: 0,
                        is_asking: false,
                    }),
                })))
            }
        }
    }

    /// Whether another token can be had where one is refused.
    pub(super) fn are_renewed(&self) -> bool {
        matches!(self, Tokens::Fetched(_))
    }

    /// What goes now; none where that has to be waited for.
    pub(super) fn now(&self) -> Option<Pass> {
        match self {
            Tokens::Nobody => Some(Pass::fixed(None)),
            Tokens::Fixed(token) => Some(Pass::fixed(Some(token))),
            Tokens::Fetched(fetched) => fetched.lock().pass(),
        }
    }

    /// Waits for what to go with. `waiter` is the caller's place among those who wait:
    /// it is given up when it is dropped. `ask` is called where nobody asks the server
    /// yet.
    ///
    /// # Errors
    ///
    /// The server refuses the name or the password.
    pub(super) fn poll_pass(
        &self,
        waiter: &mut Option<Waiter>,
        cx: &mut Context<'_>,
        ask: impl FnOnce(Asking),
    ) -> Poll<Result<Pass, Error>> {
        match self {
            Tokens::Nobody => Poll::Ready(Ok(Pass::fixed(None))),
            Tokens::Fixed(token) => Poll::Ready(Ok(Pass::fixed(Some(token)))),
            Tokens::Fetched(fetched) => fetched.poll_pass(waiter, cx, ask),
        }
    }

    /// A call or a stream that went with this generation failed. What is to be done where
    /// that was for its token and another one can be had.
    pub(super) fn handle_failure(&self, generation: u64, error: &Error) -> Option<Refusal> {
        let etcd = error.etcd().filter(|etcd| is_token_refusal(*etcd))?;
        self.refused(generation, etcd)
    }

    /// Whether it was for its token that something failed, and another one can be had.
    pub(crate) fn are_at_fault(&self, error: &Error) -> bool {
        error.etcd().is_some_and(is_token_refusal) && self.are_renewed()
    }

    /// The server does not take the token of this generation any more.
    pub(super) fn refused(&self, generation: u64, etcd: EtcdError) -> Option<Refusal> {
        match self {
            Tokens::Fetched(fetched) => {
                let mut state = fetched.lock();
                Some(state.machine.handle_refused(clock::now(), generation, etcd))
            }
            Tokens::Nobody | Tokens::Fixed(_) => None,
        }
    }

    /// Whoever waits is to look whether that is of use any more.
    pub(super) fn wake(&self) {
        if let Tokens::Fetched(fetched) = self {
            let woken = std::mem::take(&mut fetched.lock().waiting);
            woken.into_values().for_each(Waker::wake);
        }
    }

    /// Why there is no token yet, where a question failed.
    pub(super) fn last_failure(&self) -> Option<Arc<Error>> {
        match self {
            Tokens::Fetched(fetched) => fetched.lock().failure.clone(),
            Tokens::Nobody | Tokens::Fixed(_) => None,
        }
    }
}

impl Pass {
    /// For who says nothing of itself.
    pub(super) fn nobody() -> Pass {
        Pass::fixed(None)
    }

    fn fixed(token: Option<&Token>) -> Pass {
        Pass {
            token: token.cloned(),
            generation: 0,
        }
    }
}

/// The tokens that the server gives.
pub(crate) struct Fetched {
    question: AuthenticateRequest,
    state: Mutex<State>,
}

struct State {
    machine: Machine,
    token: Option<Token>,
    /// What the last question came to, where that was no token.
    failure: Option<Arc<Error>>,
    waiting: BTreeMap<u64, Waker>,
    last: u64,
    /// There is a task that asks.
    is_asking: bool,
}

/// What the task that asks does next.
pub(super) enum Step {
    Ask,
    Sleep(Instant),
}

impl Fetched {
    /// A panic while this lock was held cannot leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_pass(
        self: &Arc<Self>,
        waiter: &mut Option<Waiter>,
        cx: &mut Context<'_>,
        ask: impl FnOnce(Asking),
    ) -> Poll<Result<Pass, Error>> {
        let mut state = self.lock();
        let answer = match state.machine.standing(clock::now()) {
            Standing::Go(_) => state.pass().map(Ok),
            Standing::Denied => state.failure.as_ref().map(|failure| Err(denial(failure))),
            Standing::Wait => None,
        };
        if let Some(answer) = answer {
            drop(state);
            *waiter = None;
            return Poll::Ready(answer);
        }
        let id = waiter.as_ref().map_or(state.last + 1, |waiter| waiter.id);
        state.last = state.last.max(id);
        state.waiting.insert(id, cx.waker().clone());
        let starts = !std::mem::replace(&mut state.is_asking, true);
        drop(state);
        if waiter.is_none() {
            let fetched = self.clone();
            *waiter = Some(Waiter { fetched, id });
        }
        if starts {
            ask(Asking {
                fetched: self.clone(),
                is_over: false,
            });
        }
        Poll::Pending
    }

    /// What to do for those who wait; nothing once there are none.
    fn step(&self) -> Option<Step> {
        let mut state = self.lock();
        if !state.waiting.is_empty() {
            state.machine.handle_timeout(clock::now());
            if let Some(Action::Authenticate) = state.machine.poll_action() {
                return Some(Step::Ask);
            }
            if let Some(until) = state.machine.poll_timeout() {
                return Some(Step::Sleep(until));
            }
        }
        state.is_asking = false;
        let woken = std::mem::take(&mut state.waiting);
        drop(state);
        woken.into_values().for_each(Waker::wake);
        None
    }

    fn answer(&self, answer: Result<AuthenticateResponse, Error>) {
        let token = answer.and_then(|answer| Token::new(answer.token).map_err(Error::status));
        match &token {
            Ok(_) => trace::token_renewed(),
            Err(error) => trace::token_refused(error),
        }
        let now = clock::now();
        let mut state = self.lock();
        match token {
            Ok(token) => {
                state.machine.handle_token(now);
                state.token = Some(token);
                state.failure = None;
            }
            Err(error) => {
                state.machine.handle_failed(now, error.etcd());
                state.token = None;
                state.failure = Some(Arc::new(error));
            }
        }
        let woken = match state.machine.poll_action() {
            Some(Action::Wake) => std::mem::take(&mut state.waiting),
            _ => BTreeMap::new(),
        };
        drop(state);
        woken.into_values().for_each(Waker::wake);
    }
}

impl State {
    fn pass(&self) -> Option<Pass> {
        match self.machine.standing(clock::now()) {
            Standing::Go(generation) => Some(Pass {
                token: self.token.clone(),
                generation,
            }),
            Standing::Wait | Standing::Denied => None,
        }
    }
}

/// That there is a task. Where it goes with its runtime, the next who waits starts another.
pub(super) struct Asking {
    fetched: Arc<Fetched>,
    is_over: bool,
}

impl Asking {
    /// Who asks, and with which password.
    pub(super) fn question(&self) -> &AuthenticateRequest {
        &self.fetched.question
    }

    /// What the server said.
    pub(super) fn answer(&self, answer: Result<AuthenticateResponse, Error>) {
        self.fetched.answer(answer);
    }

    /// What to do for those who wait; nothing once there are none.
    pub(super) fn step(&mut self) -> Option<Step> {
        let step = self.fetched.step();
        self.is_over = step.is_none();
        step
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.fetched.lock();
        // The question that may be out is nobody's any more.
        state.machine.handle_failed(clock::now(), None);
        state.is_asking = false;
        let woken = std::mem::take(&mut state.waiting);
        drop(state);
        woken.into_values().for_each(Waker::wake);
    }
}

/// A place among those who wait for a token.
pub(super) struct Waiter {
    fetched: Arc<Fetched>,
    id: u64,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.fetched.lock().waiting.remove(&self.id);
    }
}

/// How long a call waits that was refused so often by members which may not know its token yet.
pub(crate) fn young_wait(refusals: u32) -> Duration {
    YOUNG_WAIT_FIRST * (1 << refusals.min(3))
}

/// What a call is told that cannot go without a token. It was not sent.
fn denial(failure: &Arc<Error>) -> Error {
    let error = Error::answered(failure.code(), failure.message().to_owned());
    error.with_delivery(Delivery::NotSent).with_source(failure.clone())
}

/// Neither the password nor the token.
impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched").field("name", &self.question.name).finish_non_exhaustive()
    }
}
