//! The signals that a lock's holder passes on, or ends at. Those that this process was started to
//! ignore, by nohup or as a job in the background, stay ignored, and so they are for its command.

use std::fs::{self, File};
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::{Signal, getpgrp};
use tokio::signal::unix::{self, SignalKind};

use crate::failure::SIGNALLED;

const CAUGHT: [Signal; 6] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
];

/// Catches signals from the time it is made on, until the process ends.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(crate) fn catch() -> io::Result<Signals> {
        let ignored = ignored();
        let caught = CAUGHT.into_iter().filter(|signal| ignored >> (signal.as_raw() - 1) & 1 == 0);
        let caught = caught.map(|signal| Ok((signal, unix::signal(SignalKind::from_raw(signal.as_raw()))?)));
        caught.collect::<io::Result<_>>().map(Signals)
    }

    /// The next one. Dropped before it completes, it has taken none.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            for (signal, caught) in &mut self.0 {
                if caught.poll_recv(cx).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The next one that asks for an end; the two for users do not.
    pub(crate) async fn end(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if signal != Signal::USR1 && signal != Signal::USR2 {
                return signal;
            }
        }
    }
}

/// The exit status of what ended at it, as a shell has it.
pub(crate) fn signalled(signal: Signal) -> u8 {
    SIGNALLED + u8::try_from(signal.as_raw()).unwrap_or_default()
}

/// Whether a terminal has sent it to the command as well: Ctrl-C and Ctrl-\ go to every process
/// of the group in its foreground.
pub(crate) fn is_from_keyboard(signal: Signal) -> bool {
    if signal != Signal::INT && signal != Signal::QUIT {
        return false;
    }
    let Ok(terminal) = File::open("/dev/tty") else {
        return false;
    };
    rustix::termios::tcgetpgrp(terminal).is_ok_and(|foreground| foreground == getpgrp())
}

/// A bit for each signal, from the lowest on (proc(5)); none where there is no such file.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
