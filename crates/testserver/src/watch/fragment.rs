//! Cuts an answer that is too large for one message into several: every piece
//! but the last one says that more follow. An event is never cut.

use prost::Message;

use crate::pb::{Event, WatchResponse};

/// The field number of `events` and its wire type take one byte.
const EVENT_TAG_BYTES: usize = 1;

/// The pieces, each below `bytes_max` or with one event alone.
pub(crate) fn split(response: WatchResponse, bytes_max: usize) -> Vec<WatchResponse> {
    if response.events.len() < 2 || response.encoded_len() < bytes_max {
        return vec![response];
    }
    let mut response = response;
    let events = std::mem::take(&mut response.events);
    response.fragment = true;
    let empty = response.encoded_len();
    let mut pieces = Vec::new();
    let mut piece = response.clone();
    let mut size = empty;
    for event in events {
        let added = size_of(&event);
        if !piece.events.is_empty() && size + added >= bytes_max {
            pieces.push(std::mem::replace(&mut piece, response.clone()));
            size = empty;
        }
        size += added;
        piece.events.push(event);
    }
    piece.fragment = false;
    pieces.push(piece);
    pieces
}

fn size_of(event: &Event) -> usize {
    EVENT_TAG_BYTES + event.encoded_len() + prost::length_delimiter_len(event.encoded_len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::KeyValue;

    fn response(sizes: &[usize]) -> WatchResponse {
        let event = |size: &usize| Event {
            kv: Some(KeyValue {
                value: vec![b'x'; *size].into(),
                ..KeyValue::default()
            }),
            ..Event::default()
        };
        WatchResponse {
            watch_id: 7,
            events: sizes.iter().map(event).collect(),
            ..WatchResponse::default()
        }
    }

    #[test]
    fn what_fits_is_one_piece() {
        let whole = response(&[100, 100]);
        assert_eq!(split(whole.clone(), 1000), [whole]);
    }

    #[test]
    fn pieces_hold_every_event_once_and_the_last_says_so() {
        let sizes: Vec<usize> = (0..50).map(|index| index * 7 % 40 + 1).collect();
        let whole = response(&sizes);
        let pieces = split(whole.clone(), 100);
        assert!(pieces.len() > 10);
        let (last, others) = pieces.split_last().unwrap();
        assert!(!last.fragment && others.iter().all(|piece| piece.fragment));
        assert!(pieces.iter().all(|piece| piece.watch_id == 7 && piece.encoded_len() < 100));
        let events: Vec<Event> = pieces.into_iter().flat_map(|piece| piece.events).collect();
        assert_eq!(events, whole.events);
    }

    #[test]
    fn an_event_that_is_too_large_goes_alone() {
        let pieces = split(response(&[10, 500, 10]), 100);
        let counts: Vec<usize> = pieces.iter().map(|piece| piece.events.len()).collect();
        assert_eq!(counts, [1, 1, 1]);
        assert_eq!(split(response(&[500]), 100).len(), 1);
    }
}
