//! How long a lease is valid, and why it no longer is.

use std::fmt;
use std::time::Duration;

use super::super::time::Instant;
use crate::error::Code;

/// What lies between the deadline and the earliest end on the server: first the time from a check
/// to its effect, up to a second where the TTL leaves room for that; then the
/// drift between two clocks, which NTP slews by at most 500 ppm each.
const EFFECT_TTL_DIVISOR: u32 = 10;
const EFFECT_MAX: Duration = Duration::from_secs(1);
const DRIFT_TTL_DIVISOR: u32 = 1000;

/// Why a lease is no longer kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaseEnd {
    /// Its deadline passed without a proof that the server still has it.
    Expired,
    /// Its deadline passed because the server refused to renew it, last with this
    /// code: the user may not, its password is wrong, or there is no such service.
    Refused(Code),
    /// It was revoked through its handle.
    Revoked,
    /// The server answered a renewal that it has no such lease: it expired there, or
    /// somebody revoked it.
    UnknownToServer,
    /// Its handle was dropped or told to forget it. The server keeps the lease
    /// until it runs out.
    Closed,
}

impl fmt::Display for LeaseEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LeaseEnd::Expired => "the lease was not renewed in time",
            LeaseEnd::Refused(code) => return write!(f, "the server refused to renew the lease ({code})"),
            LeaseEnd::Revoked => "the lease was revoked",
            LeaseEnd::UnknownToServer => "the server no longer has the lease",
            LeaseEnd::Closed => "the lease is no longer kept alive",
        })
    }
}

impl std::error::Error for LeaseEnd {}

/// How long a lease lives after a renewal: on its server, and how much less of that counts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// As the server granted it.
    pub ttl: Duration,
    /// For so long the server still has it when it is not believed in here any more.
    pub reserve: Duration,
}

/// All of it counts here.
impl From<Duration> for Term {
    fn from(ttl: Duration) -> Term {
        Term {
            ttl,
            reserve: Duration::ZERO,
        }
    }
}

impl Term {
    /// What is believed in, and what renewals go by.
    #[must_use]
    pub fn believed(self) -> Duration {
        self.ttl.saturating_sub(self.reserve)
    }
}

/// Until when a lease of this TTL is valid after a request that was sent at
/// `sent` and granted or renewed it.
#[must_use]
pub fn valid_until(sent: Instant, ttl: Duration) -> Instant {
    let effect = (ttl / EFFECT_TTL_DIVISOR).min(EFFECT_MAX);
    let drift = ttl / DRIFT_TTL_DIVISOR;
    sent + (ttl - effect - drift)
}
