//! A call is sent again only where nothing was processed or nobody minds, never for
//! ever, and never when the fault is the caller's.

use arbitrary::{Arbitrary, Unstructured};
use tenure::core::retry::{ATTEMPTS_MAX, Failure, Retry};
use tenure::{Code, Delivery, EtcdError, Origin};

#[derive(Arbitrary, Debug)]
struct Input {
    seed: u64,
    failures: Vec<(bool, u8, u8, u8, Vec<u8>)>,
}

const TEXTS: &[&str] = &[
    "etcdserver: no leader",
    "etcdserver: too many requests",
    "etcdserver: rpc not supported for learner",
    "etcdserver: request timed out",
    "etcdserver: leader changed",
    "etcdserver: server stopped",
    "etcdserver: invalid auth token",
    "etcdserver: mvcc: required revision has been compacted",
];

pub(crate) fn run(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let mut retry = Retry::new(input.seed);
    for (repeatable, delivery, code, origin, text) in input.failures {
        let text = match text.first() {
            Some(&index) => TEXTS[usize::from(index) % TEXTS.len()],
            None => "",
        };
        let failure = Failure {
            delivery: [Delivery::NotSent, Delivery::Unknown, Delivery::Answered][usize::from(delivery) % 3],
            code: Code::from_number(code.into()),
            origin: [Origin::Caller, Origin::Library, Origin::Transport, Origin::Server]
                [usize::from(origin) % 4],
            etcd: EtcdError::from_message(text),
        };
        let before = retry.attempts();
        let again = retry.handle_failure(repeatable, &failure).is_some();
        assert_eq!(retry.attempts(), before + u32::from(again));
        assert!(retry.attempts() <= ATTEMPTS_MAX);
        let is_theirs = matches!(failure.origin, Origin::Caller | Origin::Library);
        assert!(!again || failure.etcd.is_some() || !is_theirs, "{failure:?}");
        let may_be_applied = failure.delivery == Delivery::Unknown && failure.etcd.is_none();
        assert!(!again || repeatable || !may_be_applied, "{failure:?}");
    }
}
