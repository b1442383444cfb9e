//! The connections of a member: accepted or made in memory, and the calls on each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::member::Member;
use super::{call, link};

/// How long nothing is accepted where that has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Windows that a burst of small frames does not use up.
const WINDOW_BYTES: u32 = 4 << 20;
/// What a pipe holds for a reader that is slow.
const PIPE_BYTES: usize = 256 << 10;

pub(crate) async fn listen(member: Arc<Member>, listener: TcpListener) {
    loop {
        // An error is that of one connection, or of too many open files: the next may do.
        let Ok((io, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let _ = io.set_nodelay(true);
        member.spawn(serve(member.clone(), io));
    }
}

/// The client's end of a new connection in memory.
pub(crate) fn connect(member: &Arc<Member>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    member.spawn(serve(member.clone(), ours));
    theirs
}

async fn serve(member: Arc<Member>, io: impl AsyncRead + AsyncWrite + Unpin) {
    let io = link::Linked::new(io, member.faults.clone());
    let handshake = h2::server::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake::<_, Bytes>(io);
    let Ok(mut connection) = handshake.await else {
        return;
    };
    let mut calls = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        while calls.try_join_next().is_some() {}
        calls.spawn(call::serve(member.clone(), request, respond));
    }
}
