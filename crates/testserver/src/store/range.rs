//! Reads: a range at a revision, with etcd's filters, order and limit.

use std::cmp::Ordering;

use super::{KeyRange, Store};
use crate::error::Error;
use crate::pb::{Header, KeyValue, RangeRequest, RangeResponse, sort_order, sort_target};

impl Store {
    /// Answers a read. Its header has the revision alone.
    ///
    /// # Errors
    ///
    /// `Compacted` and `FutureRevision`.
    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.range_at(request, self.revision)
    }

    /// A read within a write, which sees what was written so far as the revision `current`.
    pub(super) fn range_at(&self, request: &RangeRequest, current: i64) -> Result<RangeResponse, Error> {
        let revision = match request.revision {
            revision if revision > current => return Err(Error::FutureRevision),
            revision if revision <= 0 => current,
            revision => revision,
        };
        if revision < self.compacted {
            return Err(Error::Compacted);
        }
        let range = KeyRange::new(&request.key, &request.range_end);
        let mut response = RangeResponse {
            header: Some(header(current)),
            ..RangeResponse::default()
        };
        if request.count_only {
            response.count = to_i64(self.scan(&range, revision).count());
            return Ok(response);
        }
        let mut found: Vec<&KeyValue> = self.scan(&range, revision).collect();
        response.count = to_i64(found.len());
        let limit = usize::try_from(request.limit).unwrap_or(0);
        if limit > 0 && !reads_everything(request) {
            // etcd reads one more than the limit, and sorts no more than that.
            found.truncate(limit.saturating_add(1));
        }
        found.retain(|kv| passes(request, kv));
        sort(request, &mut found);
        if limit > 0 && found.len() > limit {
            found.truncate(limit);
            response.more = true;
        }
        response.kvs = found.into_iter().cloned().collect();
        if request.keys_only {
            response.kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        Ok(response)
    }
}

pub(super) fn header(revision: i64) -> Header {
    Header {
        revision,
        ..Header::default()
    }
}

pub(super) fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Whether the limit is applied only after filters and order.
fn reads_everything(request: &RangeRequest) -> bool {
    request.sort_order != sort_order::NONE
        || request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes(request: &RangeRequest, kv: &KeyValue) -> bool {
    let within =
        |revision: i64, min: i64, max: i64| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(
        kv.mod_revision,
        request.min_mod_revision,
        request.max_mod_revision,
    ) && within(
        kv.create_revision,
        request.min_create_revision,
        request.max_create_revision,
    )
}

fn sort(request: &RangeRequest, found: &mut [&KeyValue]) {
    let compare: fn(&KeyValue, &KeyValue) -> Ordering = match request.sort_target {
        sort_target::VERSION => |a, b| a.version.cmp(&b.version),
        sort_target::CREATE => |a, b| a.create_revision.cmp(&b.create_revision),
        sort_target::MOD => |a, b| a.mod_revision.cmp(&b.mod_revision),
        sort_target::VALUE => |a, b| a.value.cmp(&b.value),
        _ => |a, b| a.key.cmp(&b.key),
    };
    match request.sort_order {
        sort_order::DESCEND => found.sort_by(|a, b| compare(b, a)),
        // Without an order that of the keys stays, which is how they were found.
        sort_order::ASCEND => found.sort_by(|a, b| compare(a, b)),
        _ if request.sort_target != sort_target::KEY => found.sort_by(|a, b| compare(a, b)),
        _ => {}
    }
}
