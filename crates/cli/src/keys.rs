//! Keys as etcdctl's commands name them: one, a range up to another, a prefix, or all from one on.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use clap::Args;
use tenure::{KeyRange, LeaseId, MemberId};

use crate::failure::Failure;
use crate::json;
use crate::output::Output;
use tenure::pb::mvccpb::KeyValue;

/// Which keys.
#[derive(Clone, Debug, Args)]
pub(crate) struct Keys {
    /// The key, or the first of the range.
    key: OsString,
    /// The key behind the last of the range.
    range_end: Option<OsString>,
    /// All keys that begin with KEY.
    #[arg(long, conflicts_with_all = ["range_end", "from_key"])]
    prefix: bool,
    /// All keys from KEY on.
    #[arg(long, conflicts_with = "range_end")]
    from_key: bool,
}

impl Keys {
    pub(crate) fn range(&self) -> Result<KeyRange, Failure> {
        let key = bytes(&self.key);
        let range = match &self.range_end {
            Some(end) => KeyRange::range(key, bytes(end)),
            None if self.prefix => KeyRange::prefix(key),
            None if self.from_key && key.is_empty() => KeyRange::all(),
            None if self.from_key => KeyRange::from_key(key),
            None => KeyRange::key(key),
        };
        match range.key.is_empty() {
            true => Err("there is no empty key; all keys are \"\" with --prefix".into()),
            false => Ok(range),
        }
    }
}

/// An argument's own bytes: keys need not be text.
pub(crate) fn bytes(text: &OsStr) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A lease's ID in hexadecimal, as a clap value parser.
pub(crate) fn lease(text: &str) -> Result<LeaseId, String> {
    let id =
        u64::from_str_radix(text, 16).map_err(|_| "not a lease's ID, which is hexadecimal".to_owned())?;
    Ok(LeaseId(i64::from_ne_bytes(id.to_ne_bytes())))
}

/// A member's ID in hexadecimal, as a clap value parser.
pub(crate) fn member(text: &str) -> Result<MemberId, String> {
    let id =
        u64::from_str_radix(text, 16).map_err(|_| "not a member's ID, which is hexadecimal".to_owned())?;
    Ok(MemberId(id))
}

/// A key and its value, a line each, or as a document.
pub(crate) fn print(output: &Output, kv: &KeyValue) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(output.json(&json::kv(kv))?);
    }
    output.bytes(&kv.key)?;
    Ok(output.bytes(&kv.value)?)
}
