//! What a holder's key says about the holder, for `who` and for people who look at it.

use crate::time;

/// The machine, the process, what it does, and since when: now.
pub(crate) fn told(doing: Option<&str>) -> String {
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    let doing = doing.map(|doing| format!(" {doing}")).unwrap_or_default();
    format!("{machine}:{}{doing} since {}", std::process::id(), time::now())
}
