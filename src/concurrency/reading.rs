//! A look at the queues of a lock, under way: the call that asks, and what its answer shows.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::requests::{keys_of_each, newest_of, queue, together};
use crate::client::{Call, Client, Get, Op, Route, Txn};
use crate::core::lock::{Place, READING_KEYS_MAX};
use crate::error::Error;
use crate::pb::etcdserverpb::{RangeResponse, TxnResponse};
use crate::pb::mvccpb::KeyValue;
use crate::types::{KeyRange, Revision};

pin_project! {
    /// See the head of this file. Not an `async fn`, which would keep the request beside its call.
    #[project = Asked]
    pub(super) enum Reading {
        One {
            #[pin]
            call: Call<RangeResponse>,
        },
        /// All at one revision.
        Several {
            #[pin]
            call: Call<TxnResponse>,
            queues: usize,
        },
    }
}

/// What a reading showed.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) revision: Revision,
    pub(super) queue: Vec<KeyValue>,
    /// Of a queue there is more than this.
    pub(super) more: bool,
}

/// The own keys and what is older, or the newest of that. `near`: what this member has will do, but
/// several queues are asked of the leader all the same.
pub(super) fn read(
    client: &Client,
    place: &Place,
    upto: Revision,
    whole: bool,
    near: Option<&Route>,
) -> Reading {
    let count = place.prefixes().count();
    if count == 1 {
        let range = client.get(queue(place)).part().max_create_revision(upto);
        let range = match whole {
            true => range.keys_only(),
            false => newest_of(range, READING_KEYS_MAX),
        };
        return Reading::one(match near {
            Some(route) => range.serializable().via(route),
            None => range,
        });
    }
    let ranges = place.prefixes().map(|prefix| {
        let range = Op::get(KeyRange::prefix(prefix.clone())).max_create_revision(upto);
        match whole {
            true => range.keys_only(),
            false => newest_of(range, keys_of_each(count)),
        }
    });
    Reading::several(ranges.fold(client.txn().part(), Txn::then), count)
}

impl Reading {
    fn one(range: Get<&Client>) -> Reading {
        Reading::One {
            call: range.into_future(),
        }
    }

    /// The operations of the transaction read so many queues.
    fn several(ranges: Txn<&Client>, queues: usize) -> Reading {
        Reading::Several {
            call: ranges.into_future(),
            queues,
        }
    }
}

impl Future for Reading {
    type Output = Result<Read, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Asked::One { call } => {
                let answer = ready!(call.poll(cx))?;
                Poll::Ready(Ok(Read {
                    revision: answer.revision(),
                    more: answer.more,
                    queue: answer.kvs,
                }))
            }
            Asked::Several { call, queues } => {
                let answer = ready!(call.poll(cx))?;
                let mut queue = Vec::new();
                let more = together(&answer, 0..*queues, &mut queue)?;
                Poll::Ready(Ok(Read {
                    revision: answer.revision(),
                    queue,
                    more,
                }))
            }
        }
    }
}
