//! What an error is told about its call.

use std::sync::Arc;

use crate::error::Error;
use crate::wire::Method;

/// Says which call failed, and where.
pub(crate) fn named(error: Error, method: &'static Method, endpoint: Option<Arc<str>>) -> Error {
    let error = if method.safe_to_retry {
        error.repeatable()
    } else {
        error
    };
    error.with_call(method.path, endpoint)
}
