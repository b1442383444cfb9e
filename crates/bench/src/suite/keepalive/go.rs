//! The same with the Go client, in a Go program that is built once: `go/keepalive`.

use std::process::Command;
use std::time::Duration;

use tenure_etcd::GoProgram;

use super::{Kept, Task};
use crate::Failure;
use crate::child::Child;
use crate::contest::Setting;

const PROGRAM: GoProgram = GoProgram {
    name: "tenure-bench-keepalive",
    go_mod: include_str!("../../../go/go.mod"),
    go_sum: include_str!("../../../go/go.sum"),
    main_go: include_str!("../../../go/keepalive/main.go"),
};

pub(super) fn name() -> String {
    format!("Go clientv3 {}", PROGRAM.version_of("go.etcd.io/etcd/client/v3"))
}

pub(super) fn keep(task: &Task<'_>, setting: &Setting) -> Result<Kept, Failure> {
    let child = Child::start(
        Command::new(PROGRAM.build()?)
            .arg(format!("-endpoint={}", task.endpoint))
            .arg(format!("-leases={}", task.leases))
            .arg(format!("-ttl={}s", task.ttl.as_secs()))
            .arg(format!("-keep={}s", task.time.as_secs())),
    )?;
    let mut kept = Kept::default();
    child.read(&setting.stop, |line| {
        let (what, number) = line.split_once(' ').unwrap_or((line, ""));
        let number: u64 = number.parse().map_err(|_| format!("it printed {line:?}"))?;
        match what {
            "lost" => kept.lost = usize::try_from(number)?,
            "granted" => kept.granted = Duration::from_nanos(number),
            "elapsed" => kept.elapsed = Duration::from_nanos(number),
            "cpu" => kept.cpu = Duration::from_nanos(number),
            _ => return Err(format!("it printed {line:?}").into()),
        }
        Ok(())
    })?;
    Ok(kept)
}
