//! The endpoints as the cluster itself tells them: asked for on demand, and at an
//! interval by a task that goes with the channel.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::call_options::CallOptions;
use super::channel::Channel;
use super::clock;
use super::endpoint::Endpoint;
use super::pool::Shared;
use crate::core::jitter::Jitter;
use crate::error::{Code, Delivery, Error, EtcdError, Origin};
use crate::pb::etcdserverpb::{Member, MemberListRequest, MemberListResponse};
use crate::wire::method::cluster as method;

/// An interval is up to this part of it longer, so that clients which started together
/// do not ask together.
const SPREAD: u32 = 4;

impl Channel {
    /// Asks for the members, and has their addresses from now on.
    ///
    /// # Errors
    ///
    /// Nobody answered, or the answer has no address, or is that of another cluster than
    /// the last one. Nothing has changed then.
    pub(crate) async fn sync(&self) -> Result<(), Error> {
        // What a member without the leader knows may be old.
        let request = MemberListRequest { linearizable: true };
        let options = CallOptions::control();
        let answer: MemberListResponse = self.unary(&method::MEMBER_LIST, &request, options).await?;
        let cluster_id = answer.header.as_ref().map_or(0, |header| header.cluster_id);
        if !self.shared.lock().meet(cluster_id) {
            let etcd = EtcdError::ClusterIdMismatch;
            let message = "a member of another cluster answered";
            let error = Error::new(etcd.code(), Origin::Server, Delivery::Answered, message);
            return Err(error.with_etcd(Some(etcd)));
        }
        let endpoints = endpoints(&answer.members, self.is_all_tls());
        if endpoints.is_empty() {
            let message = "no member of the cluster tells an address that can be used";
            return Err(Error::new(
                Code::FailedPrecondition,
                Origin::Server,
                Delivery::Answered,
                message,
            ));
        }
        self.set_endpoints(endpoints)
    }

    fn is_all_tls(&self) -> bool {
        self.shared.lock().listed.iter().all(|listed| listed.endpoint.scheme().is_tls())
    }

    /// Does so at an interval from now on.
    pub(crate) fn sync_at(&self, interval: Duration, seed: u64) {
        let syncing = sync_on(Arc::downgrade(&self.shared), interval, Jitter::new(seed));
        let task = self.shared.runtime.spawn(syncing);
        self.shared.lock().tasks.push(task.abort_handle());
    }
}

async fn sync_on(shared: Weak<Shared>, interval: Duration, mut jitter: Jitter) {
    loop {
        clock::sleep_until(clock::now() + interval + jitter.below(interval / SPREAD)).await;
        let Some(shared) = shared.upgrade() else { return };
        // It is tried again at the next turn; until then what is known is good enough.
        let _ = Channel::of_task(shared).sync().await;
    }
}

/// The client addresses of the members that serve clients. `tls_only`: what is encrypted, a
/// password above all, is not to be sent in clear because a list says so.
fn endpoints(members: &[Member], tls_only: bool) -> Vec<Endpoint> {
    let serving = members.iter().filter(|member| !member.is_learner);
    let urls = serving.flat_map(|member| &member.client_urls);
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for endpoint in urls.filter_map(|url| Endpoint::parse(url).ok()) {
        let is_safe = endpoint.scheme().is_tls() || !tls_only;
        if is_safe && !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    endpoints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learners_and_members_without_an_address_are_left_out() {
        let member = |urls: &[&str], is_learner| Member {
            client_urls: urls.iter().map(ToString::to_string).collect(),
            is_learner,
            ..Member::default()
        };
        let members = [
            member(&["http://a:1", "gopher://a"], false),
            member(&[], false),
            member(&["http://b:1"], true),
            member(&["http://c:1", "http://a:1/", "https://c:2"], false),
        ];
        let names = |tls_only| {
            let endpoints = endpoints(&members, tls_only);
            endpoints.iter().map(|endpoint| endpoint.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["http://a:1", "http://c:1", "https://c:2"]);
        assert_eq!(names(true), ["https://c:2"]);
    }
}
