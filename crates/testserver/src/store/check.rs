//! What is wrong with a request by itself, whatever the store holds. A server
//! checks this before it looks at a key.

use std::collections::HashSet;

use bytes::Bytes;

use crate::error::Error;
use crate::pb::{DeleteRequest, Operation, PutRequest, RangeRequest, RequestOp, TxnRequest};
use crate::pb::{sort_order, sort_target};

/// The most operations in one list of a transaction; those of nested ones count with their parents.
const OPERATIONS_MAX: usize = 128;

pub(crate) fn check_range(request: &RangeRequest) -> Result<(), Error> {
    let order = sort_order::NONE..=sort_order::DESCEND;
    let target = sort_target::KEY..=sort_target::VALUE;
    if request.key.is_empty() {
        Err(Error::EmptyKey)
    } else if !order.contains(&request.sort_order) || !target.contains(&request.sort_target) {
        Err(Error::InvalidSortOption)
    } else {
        Ok(())
    }
}

pub(crate) fn check_put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        Err(Error::EmptyKey)
    } else if request.ignore_value && !request.value.is_empty() {
        Err(Error::ValueProvided)
    } else if request.ignore_lease && request.lease != 0 {
        Err(Error::LeaseProvided)
    } else {
        Ok(())
    }
}

pub(crate) fn check_delete(request: &DeleteRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        Err(Error::EmptyKey)
    } else {
        Ok(())
    }
}

pub(crate) fn check_txn(request: &TxnRequest) -> Result<(), Error> {
    check_operations(request, OPERATIONS_MAX)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

fn check_operations(request: &TxnRequest, operations_max: usize) -> Result<(), Error> {
    let lists = [
        request.compare.len(),
        request.success.len(),
        request.failure.len(),
    ];
    let longest = lists.into_iter().max().unwrap_or_default();
    let Some(left) = operations_max.checked_sub(longest) else {
        return Err(Error::TooManyOperations);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.operation {
            Some(Operation::Range(range)) => check_range(range)?,
            Some(Operation::Put(put)) => check_put(put)?,
            Some(Operation::Delete(delete)) => check_delete(delete)?,
            Some(Operation::Txn(txn)) => check_operations(txn, left)?,
            // An operation of no known kind has no key that could be found.
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations may write. No key may be put twice, and none may be
/// put that something before it, or beside it, may delete.
#[derive(Default)]
struct Writes {
    puts: HashSet<Bytes>,
    deletes: Vec<(Bytes, Bytes)>,
}

impl Writes {
    fn of(operations: &[RequestOp]) -> Result<Writes, Error> {
        let mut writes = Writes::default();
        for operation in operations {
            if let Some(Operation::Delete(delete)) = &operation.operation {
                writes.deletes.push((delete.key.clone(), delete.range_end.clone()));
            }
        }
        for operation in operations {
            if let Some(Operation::Txn(txn)) = &operation.operation {
                writes.add_nested(Writes::of(&txn.success)?, Writes::of(&txn.failure)?)?;
            }
        }
        for operation in operations {
            if let Some(Operation::Put(put)) = &operation.operation {
                writes.add_put(&put.key)?;
            }
        }
        Ok(writes)
    }

    fn add_nested(&mut self, success: Writes, failure: Writes) -> Result<(), Error> {
        for key in &success.puts {
            self.add_put(key)?;
        }
        for key in failure.puts {
            // Only one of the two branches is taken.
            if success.puts.contains(&key) {
                continue;
            }
            self.add_put(&key)?;
        }
        self.deletes.extend(success.deletes);
        self.deletes.extend(failure.deletes);
        Ok(())
    }

    fn add_put(&mut self, key: &Bytes) -> Result<(), Error> {
        // etcd compares keys here without reading an end of one zero byte as
        // "all from here on": such a deletion collides with nothing.
        let deleted = self.deletes.iter().any(|(start, end)| match &end[..] {
            [] => start == key,
            end => start <= key && &key[..] < end,
        });
        if deleted || !self.puts.insert(key.clone()) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }
}
