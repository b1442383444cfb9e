//! What holds whatever a peer does: nothing panics, nothing hangs, and memory is
//! bounded. A scenario runs on a thread of its own, and all that is allocated
//! there is the client's.

use std::panic::PanicHookInfo;
use std::sync::{Mutex, Once, OnceLock, PoisonError, mpsc};
use std::thread::Builder;
use std::time::Duration;

/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(90);
/// What a hostile connection may cost beyond a good one.
const BYTES_MAX: u64 = 8 << 20;

/// Runs a scenario. What it comes to, and how many bytes it held at most at a time.
pub(crate) fn hold<T: Send + 'static>(
    name: &str,
    scenario: impl AsyncFnOnce() -> T + Send + 'static,
) -> Result<(T, u64), String> {
    let (outcome, peak) = measured(name, scenario)?;
    let over = peak.saturating_sub(baseline());
    if over > BYTES_MAX {
        return Err(format!("it takes {over} bytes of memory over the baseline"));
    }
    Ok((outcome, peak))
}

/// What a client takes whose server does as it should.
fn baseline() -> u64 {
    static BASELINE: OnceLock<u64> = OnceLock::new();
    *BASELINE.get_or_init(|| {
        let (_, peak) = measured("baseline", crate::case::good).unwrap();
        println!("{peak:>9} B  the baseline");
        peak
    })
}

fn measured<T: Send + 'static>(
    name: &str,
    scenario: impl AsyncFnOnce() -> T + Send + 'static,
) -> Result<(T, u64), String> {
    listen();
    let (done, ended) = mpsc::channel();
    let run = move || {
        let mut outcome = None;
        let counted = allocation_counter::measure(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let bounded = async { tokio::time::timeout(PATIENCE, scenario()).await };
            outcome = runtime.block_on(bounded).ok();
        });
        let _ = done.send((outcome, counted.bytes_max));
    };
    let thread = Builder::new().name(name.to_owned()).spawn(run).unwrap();
    let ended = ended.recv_timeout(PATIENCE * 2);
    if ended.as_ref().is_err_and(|error| *error == mpsc::RecvTimeoutError::Timeout) {
        return Err("a poll does not come back".to_owned());
    }
    let _ = thread.join();
    if let Some(panic) = panic_of(name) {
        return Err(panic);
    }
    match ended {
        Ok((Some(outcome), peak)) => Ok((outcome, peak)),
        _ => Err("it hangs".to_owned()),
    }
}

/// The names of threads, and what panicked there: tokio keeps a task's panic to itself.
static PANICS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

fn listen() {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            panics().push((thread, info.to_string()));
            before(info);
        }));
    });
}

fn panic_of(thread: &str) -> Option<String> {
    panics().iter().find(|(name, _)| name == thread).map(|(_, panic)| panic.clone())
}

fn panics() -> std::sync::MutexGuard<'static, Vec<(String, String)>> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}
