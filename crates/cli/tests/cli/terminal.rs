//! On a terminal, which script(1) makes: Ctrl-C reaches the command once, and what has colours there
//! has none in a pipe, nor is anything drawn there.

use std::fs;

use rustix::process::Signal;

use crate::run::{Run, bare, end, endpoint, heedful, send, tenure};

/// The command under a terminal of its own, in the place of the shell that begins it: some shells stay
/// beside it, hear the interrupt too, and their status would be the one that is seen.
fn on_terminal(line: &str) -> Run {
    Run::of(
        heedful("script")
            .args(["-qec", &format!("exec {line}"), "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .env_remove("NO_COLOR"),
    )
}

#[test]
fn an_interrupt_from_the_keyboard_comes_to_the_command_once() {
    let script = r#"n=0; trap "n=\$((n+1)); echo INT" INT; trap "echo USR1 \$n; kill \$!; exit 40" USR1;
        sleep 60 >/dev/null 2>&1 & echo ready $PPID; while :; do wait; done"#;
    let tenure = env!("CARGO_BIN_EXE_tenure");
    let mut terminal = on_terminal(&format!(
        "{tenure} --endpoints {} lock keyboard -- sh -c '{script}'",
        endpoint()
    ));
    let ready = terminal.line();
    let holder: i32 = ready.strip_prefix("ready ").and_then(|pid| pid.parse().ok()).expect(&ready);
    terminal.write(b"\x03");
    let mut line = terminal.line();
    while line != "INT" && line != "^CINT" {
        assert!(line.is_empty() || line == "^C", "{line:?}");
        line = terminal.line();
    }
    // Whatever tenure passed on before, comes before this.
    send(holder, Signal::USR1);
    assert_eq!(terminal.line(), "USR1 1");
    assert_eq!(terminal.end().status, 40);
}

#[test]
fn a_ladder_is_seen_while_it_is_climbed_and_its_table_comes_after_that() {
    let tenure_path = env!("CARGO_BIN_EXE_tenure");
    let ladder = "bench --name on-terminal --rungs 2,3 --seconds 0.4";
    let seen = on_terminal(&format!("{tenure_path} --endpoints {} {ladder}", endpoint())).end();
    assert_eq!(seen.status, 0, "{seen:?}");
    let (live, table) = seen.out.split_once("\u{1b}[1mtasks ").expect(&seen.out);
    for part in ["2 tasks ", "rung 1 of 2", "3 tasks ", "rung 2 of 2"] {
        assert!(live.contains(part), "{part}: {seen:?}");
    }
    assert!(!table.contains("rung"), "{seen:?}");
}

#[test]
fn a_snapshot_has_a_bar_while_it_is_saved() {
    let file = saved("seen");
    let seen = on_terminal(&format!(
        "{} --endpoints {} snapshot save {file}",
        env!("CARGO_BIN_EXE_tenure"),
        endpoint()
    ));
    let seen = seen.end();
    assert_eq!(seen.status, 0, "{seen:?}");
    let (bar, after) = seen.out.split_once("Snapshot saved at").expect(&seen.out);
    assert!(bar.contains("KiB of ") && bar.contains(" left"), "{seen:?}");
    // It is wiped off before the last word.
    let wiped = bar.rsplit_once(" left").expect(bar).1;
    assert!(wiped.contains("\u{1b}[2K"), "{seen:?}");
    assert!(!after.contains(" left"), "{seen:?}");
    fs::remove_file(file).expect("the file");
}

#[test]
fn nothing_is_drawn_where_stderr_is_no_terminal() {
    let (file, errors) = (saved("unseen"), saved("errors"));
    for (command, said) in [
        (format!("snapshot save {file}"), "Snapshot saved at"),
        (
            "bench --name off-terminal --rungs 2 --seconds 0.2".to_owned(),
            "tasks ",
        ),
    ] {
        let line = format!(
            "{} --endpoints {} {command} 2>{errors}",
            env!("CARGO_BIN_EXE_tenure"),
            endpoint()
        );
        let run = on_terminal(&line).end();
        assert_eq!(run.status, 0, "{run:?}");
        let before = run.out.split_once(said).expect(&run.out).0;
        assert!(!before.contains("KiB") && !before.contains("rung"), "{run:?}");
        assert_eq!(fs::read_to_string(&errors).expect("the file"), "");
    }
    for file in [file, errors] {
        fs::remove_file(file).expect("the file");
    }
}

fn saved(name: &str) -> String {
    format!(
        "{}/terminal-{}-{name}",
        env!("CARGO_TARGET_TMPDIR"),
        std::process::id()
    )
}

#[test]
fn colours_are_for_terminals() {
    let tenure_path = env!("CARGO_BIN_EXE_tenure");
    let mut terminal = on_terminal(&format!("{tenure_path} --endpoints {} status", endpoint()));
    let head = terminal.line();
    assert!(head.starts_with("\u{1b}[1mendpoint "), "{head:?}");
    assert_eq!(terminal.end().status, 0);
    let piped = end(&mut tenure(&["status"]));
    assert!(
        piped.out.starts_with("endpoint ") && !piped.out.contains('\u{1b}'),
        "{piped:?}"
    );
    let failed = end(bare().args(["--endpoints", "what://", "get", "a"]));
    assert!(
        failed.errors.starts_with("tenure: ") && !failed.errors.contains('\u{1b}'),
        "{failed:?}"
    );
}
