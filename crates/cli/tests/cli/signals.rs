//! Signals to `tenure lock`: passed on, but those that it was started to ignore.

use std::process::Command;

use rustix::process::Signal;

use crate::run::{Run, endpoint, tenure};

/// Says which of the signals came, and ends at a second one of USR1, which may come while the first is heard.
const LISTENER: &str = r#"for signal in INT TERM HUP QUIT USR1 USR2; do trap "echo $signal" $signal; done
    n=0; trap 'n=$((n+1)); echo USR1; test $n = 1 || { kill $!; exit 40; }' USR1
    sleep 60 >/dev/null 2>&1 & echo ready; while :; do wait; done"#;

#[test]
fn six_signals_are_passed_on_to_the_command() {
    let mut holder = Run::of(&mut tenure(&["lock", "signals", "--", "sh", "-c", LISTENER]));
    assert_eq!(holder.line(), "ready");
    for (signal, name) in [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        holder.signal(signal);
        assert_eq!(holder.line(), name);
    }
    holder.signal(Signal::USR1);
    assert_eq!(holder.line(), "USR1");
    assert_eq!(holder.end().status, 40);
}

#[test]
fn a_command_that_a_signal_ended_has_the_shells_status() {
    let mut holder = Run::of(&mut tenure(&[
        "lock",
        "ended",
        "--",
        "sh",
        "-c",
        "echo ready; exec sleep 60",
    ]));
    holder.line();
    holder.signal(Signal::TERM);
    let ended = holder.end();
    assert_eq!((ended.status, ended.errors.as_str()), (143, ""));
}

#[test]
fn under_nohup_a_hang_up_is_ignored_by_both() {
    let tenure = env!("CARGO_BIN_EXE_tenure");
    let script = format!(
        r#"trap '' HUP; exec "$0" --endpoints {} lock nohup -- sh -c "$1""#,
        endpoint()
    );
    let listener =
        "trap 'echo USR1; kill $!; exit 5' USR1; kill -HUP $$; sleep 60 >/dev/null 2>&1 & echo ready; wait";
    let mut holder = Run::of(Command::new("sh").args(["-c", &script, tenure, listener]));
    assert_eq!(holder.line(), "ready");
    holder.signal(Signal::HUP);
    // Behind the other, if that had come through.
    holder.signal(Signal::USR1);
    assert_eq!(holder.line(), "USR1");
    assert_eq!(holder.end().status, 5);
}
