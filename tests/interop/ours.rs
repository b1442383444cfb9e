//! Our own lock, as a contender: a session that locks again and again.

use std::time::Duration;

use tenure::{Guard, Op, Session};
use tenure_history::{Claim, Token};

use crate::support::{now, patiently};

pub(crate) fn token(guard: &Guard) -> Token {
    Token {
        created: guard.token().create_revision().0,
        sequence: guard.token().sequence(),
    }
}

/// Locks `name` until `enough` says so of the number of times, and tells of each time.
pub(crate) async fn contend(
    session: Session,
    name: &str,
    hold: Duration,
    enough: impl Fn(usize) -> bool,
) -> Vec<Claim> {
    let mutex = session.mutex(name);
    let client = format!("ours, session {}", session.lease_id());
    // Below `<name>/`, and without another `/`, it would be an entry in a queue.
    let written = format!("written/{name}");
    let mut claims = Vec::new();
    while !enough(claims.len()) {
        let guard = patiently("our turn", mutex.lock()).await.expect("the lock");
        let granted = now();
        let fenced = session.client().txn().when(guard.fence()).then(Op::put(written.clone(), "")).await;
        let fenced = fenced.expect("a fenced write");
        assert!(fenced.succeeded, "the key of a holder is gone");
        tokio::time::sleep(hold).await;
        claims.push(Claim {
            client: client.clone(),
            key: guard.key().to_vec(),
            token: token(&guard),
            revisions: vec![fenced.revision().0],
            held: Some(granted..now()),
        });
        guard.release().await.expect("a release");
    }
    claims
}
