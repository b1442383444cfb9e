//! What the header of a response says, without the detour over its `Option`.

use super::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, PutResponse, RangeResponse, TxnResponse, WatchResponse,
};
use crate::types::Revision;

macro_rules! revision_of_header {
    ($($response:ident),+ $(,)?) => {$(
        impl $response {
            /// The revision of the store when the server answered; [`Revision::ZERO`] when the header is lacking.
            #[must_use]
            pub fn revision(&self) -> Revision {
                self.header.as_ref().map_or(Revision::ZERO, |header| Revision(header.revision))
            }
        }
    )+};
}

revision_of_header![
    CompactionResponse,
    DeleteRangeResponse,
    LeaseGrantResponse,
    LeaseKeepAliveResponse,
    LeaseLeasesResponse,
    LeaseRevokeResponse,
    LeaseTimeToLiveResponse,
    PutResponse,
    RangeResponse,
    TxnResponse,
    WatchResponse,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::ResponseHeader;

    #[test]
    fn a_response_has_the_revision_of_its_header() {
        let header = ResponseHeader {
            revision: 7,
            ..ResponseHeader::default()
        };
        let response = PutResponse {
            header: Some(header),
            prev_kv: None,
        };
        assert_eq!(response.revision(), Revision(7));
    }

    #[test]
    fn a_response_without_header_has_no_revision() {
        assert_eq!(WatchResponse::default().revision(), Revision::ZERO);
    }
}
