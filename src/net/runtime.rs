//! Where a client's own tasks run: on the runtime of whoever calls, or on one of the
//! client's own, a thread that ends with the client. It runs no call: those are
//! futures of their caller.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::{Code, Delivery, Error, Origin};

/// What the thread is called where threads have names.
const THREAD_NAME: &str = "tenure";

/// See the module.
#[derive(Debug)]
pub(crate) enum Runtime {
    /// The one that is entered when a task begins.
    Callers,
    /// One thread of the client's own.
    Own(OwnThread),
}

/// The thread ends after this is dropped, which may be on the thread itself: nobody
/// waits for it.
pub(crate) struct OwnThread {
    handle: Handle,
    _running: oneshot::Sender<()>,
}

impl Runtime {
    /// # Errors
    ///
    /// The system has no thread to give.
    pub(crate) fn new(own_thread: bool) -> Result<Runtime, Error> {
        match own_thread {
            true => OwnThread::start().map(Runtime::Own).map_err(|cause| {
                let message = "the client's own thread could not be started";
                let code = Code::ResourceExhausted;
                Error::new(code, Origin::Library, Delivery::NotSent, message).with_source(cause)
            }),
            false => Ok(Runtime::Callers),
        }
    }

    /// Begins a task. Without a thread of its own it must be called on a tokio runtime.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        // Boxed, so that tokio's part of a task is compiled once for a type of result, and not for each task.
        let task: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(task);
        match self {
            Runtime::Callers => tokio::spawn(task),
            Runtime::Own(own) => own.handle.spawn(task),
        }
    }

    /// Runs `poll`, which may need the timers of tokio, also where no runtime is entered.
    pub(crate) fn within<T>(&self, poll: impl FnOnce() -> T) -> T {
        match self {
            Runtime::Own(own) if Handle::try_current().is_err() => {
                let _entered = own.handle.enter();
                poll()
            }
            Runtime::Own(_) | Runtime::Callers => poll(),
        }
    }

    /// Awaits what may need the timers of tokio, also where no runtime is entered.
    pub(crate) async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| self.within(|| future.as_mut().poll(cx))).await
    }
}

impl OwnThread {
    fn start() -> std::io::Result<OwnThread> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel();
        thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(move || {
            // Nothing is ever sent: it ends when the other half is dropped.
            let _ = runtime.block_on(ended);
            // A name that is still being looked up is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(OwnThread {
            handle,
            _running: running,
        })
    }
}

impl fmt::Debug for OwnThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnThread").finish_non_exhaustive()
    }
}
