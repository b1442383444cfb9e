//! etcd's messages as JSON, in the form that `etcdctl -w json` gives them: bytes in base64, and
//! without what is zero or empty.

use serde_json::{Map, Value, json};
use tenure::Event;
use tenure::pb::etcdserverpb::response_op::Response;
use tenure::pb::etcdserverpb::{
    DeleteRangeResponse, Member, PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse,
};
use tenure::pb::mvccpb::KeyValue;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// With what these fields say, without those that say nothing.
pub(crate) fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let told = fields.into_iter().filter(|(_, value)| !is_nothing(value));
    Value::Object(told.map(|(name, value)| (name.to_owned(), value)).collect())
}

pub(crate) fn header(header: Option<&ResponseHeader>) -> Value {
    header.map_or(Value::Null, |header| {
        object([
            ("cluster_id", header.cluster_id.into()),
            ("member_id", header.member_id.into()),
            ("revision", header.revision.into()),
            ("raft_term", header.raft_term.into()),
        ])
    })
}

/// The header's fields with others beside them, as Go's embedded struct comes out.
pub(crate) fn beside(header: Option<&ResponseHeader>, fields: Value) -> Value {
    let mut all = match self::header(header) {
        Value::Object(all) => all,
        _ => Map::new(),
    };
    if let Value::Object(fields) = fields {
        all.extend(fields);
    }
    Value::Object(all)
}

pub(crate) fn kv(kv: &KeyValue) -> Value {
    object([
        ("key", base64(&kv.key).into()),
        ("create_revision", kv.create_revision.into()),
        ("mod_revision", kv.mod_revision.into()),
        ("version", kv.version.into()),
        ("value", base64(&kv.value).into()),
        ("lease", kv.lease.into()),
    ])
}

pub(crate) fn range(answer: &RangeResponse) -> Value {
    object([
        ("header", header(answer.header.as_ref())),
        ("kvs", answer.kvs.iter().map(kv).collect()),
        ("more", answer.more.into()),
        ("count", answer.count.into()),
    ])
}

pub(crate) fn put(answer: &PutResponse) -> Value {
    object([
        ("header", header(answer.header.as_ref())),
        ("prev_kv", answer.prev_kv.as_ref().map_or(Value::Null, kv)),
    ])
}

pub(crate) fn delete(answer: &DeleteRangeResponse) -> Value {
    object([
        ("header", header(answer.header.as_ref())),
        ("deleted", answer.deleted.into()),
        ("prev_kvs", answer.prev_kvs.iter().map(kv).collect()),
    ])
}

pub(crate) fn txn(answer: &TxnResponse) -> Value {
    object([
        ("header", header(answer.header.as_ref())),
        ("succeeded", answer.succeeded.into()),
        ("responses", answer.responses.iter().map(operation).collect()),
    ])
}

fn operation(answer: &ResponseOp) -> Value {
    let (name, value) = match &answer.response {
        Some(Response::ResponseRange(answer)) => ("response_range", range(answer)),
        Some(Response::ResponsePut(answer)) => ("response_put", put(answer)),
        Some(Response::ResponseDeleteRange(answer)) => ("response_delete_range", delete(answer)),
        Some(Response::ResponseTxn(answer)) => ("response_txn", txn(answer)),
        None => return Value::Null,
    };
    json!({ "Response": { name: value } })
}

pub(crate) fn event(event: &Event) -> Value {
    let is_delete = matches!(event, Event::Delete { .. });
    object([
        ("type", i32::from(is_delete).into()),
        ("kv", kv(event.kv())),
        ("prev_kv", event.prev_kv().map_or(Value::Null, kv)),
    ])
}

pub(crate) fn member(member: &Member) -> Value {
    object([
        ("ID", member.id.into()),
        ("name", member.name.as_str().into()),
        ("peerURLs", member.peer_urls.as_slice().into()),
        ("clientURLs", member.client_urls.as_slice().into()),
        ("isLearner", member.is_learner.into()),
    ])
}

/// What people wrote: text, or where it is none, base64 under another name.
pub(crate) fn text(name: &'static str, in_base64: &'static str, bytes: &[u8]) -> (&'static str, Value) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (name, text.into()),
        Err(_) => (in_base64, base64(bytes).into()),
    }
}

/// RFC 4648, section 4.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            match digit <= group.len() {
                true => text.push(char::from(ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize])),
                false => text.push('='),
            }
        }
    }
    text
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is) => !is,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        // RFC 4648, section 10.
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let encoded = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(texts.map(|text| base64(text.as_bytes())), encoded);
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let shown = kv(&KeyValue {
            key: "a".into(),
            version: 1,
            ..KeyValue::default()
        });
        assert_eq!(shown, json!({ "key": "YQ==", "version": 1 }));
    }
}
