//! What this process says about itself where others can read it.

/// The name of the machine and the number of the process, as in `alpha:4711`.
pub(crate) fn process() -> String {
    format!("{}:{}", machine(), std::process::id())
}

#[cfg(unix)]
fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn machine() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}
