//! A look at the queues of a lock, under way: the call that asks, and what its answer shows.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::requests::together;
use crate::client::{Call, Client, Get, Txn};
use crate::error::Error;
use crate::pb::etcdserverpb::{RangeResponse, TxnResponse};
use crate::pb::mvccpb::KeyValue;
use crate::types::Revision;

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

impl Reading {
    pub(super) fn one(range: Get<&Client>) -> Reading {
        Reading::One {
            call: range.into_future(),
        }
    }

    /// The operations of the transaction read so many queues.
    pub(super) fn several(ranges: Txn<&Client>, queues: usize) -> Reading {
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
