//! However a body is cut into chunks, the decoder yields the same messages and
//! fails with the same code as a parser that sees the whole body at once.

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use tenure::Code;
use tenure::wire::{Decoder, Encoding, HEADER_BYTES};

#[derive(Arbitrary, Debug)]
struct Input {
    limit: u16,
    encoding: u8,
    /// The lengths of the chunks, over and over.
    chunks: Vec<u8>,
    /// Whether messages are taken after each chunk.
    takes: Vec<bool>,
    body: Vec<u8>,
}

pub(crate) fn run(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let limit = usize::from(input.limit);
    let encoding = match input.encoding % 3 {
        0 => Encoding::Absent,
        1 => Encoding::Identity,
        _ => Encoding::Unknown,
    };
    let expected = reference(&input.body, limit, encoding);
    let decoder = Decoder::with_encoding(limit, encoding);
    assert_eq!(chunked(&input, decoder), expected);
}

type Outcome = (Vec<Vec<u8>>, Result<(), Code>);

fn chunked(input: &Input, mut decoder: Decoder) -> Outcome {
    let mut messages = Vec::new();
    let mut lens = input.chunks.iter().cycle().map(|&len| usize::from(len));
    let mut takes = input.takes.iter().cycle();
    let mut rest = &input.body[..];
    let mut barren = 0;
    while !rest.is_empty() {
        let len = lens.next().unwrap_or(rest.len()).min(rest.len());
        // Nothing but empty chunks would never end.
        barren = if len == 0 { barren + 1 } else { 0 };
        let len = if barren > input.chunks.len() {
            rest.len()
        } else {
            len
        };
        let (chunk, tail) = rest.split_at(len);
        rest = tail;
        decoder.push(Bytes::copy_from_slice(chunk));
        if *takes.next().unwrap_or(&true) {
            if let Err(code) = take_all(&mut decoder, &mut messages) {
                return (messages, Err(code));
            }
        }
    }
    if let Err(code) = take_all(&mut decoder, &mut messages) {
        return (messages, Err(code));
    }
    (messages, decoder.finish().map_err(|status| status.code))
}

fn take_all(decoder: &mut Decoder, messages: &mut Vec<Vec<u8>>) -> Result<(), Code> {
    loop {
        match decoder.next() {
            Ok(Some(message)) => messages.push(message.to_vec()),
            Ok(None) => return Ok(()),
            Err(status) => {
                assert_eq!(decoder.next(), Err(status.clone()), "it recovered");
                return Err(status.code);
            }
        }
    }
}

fn reference(mut body: &[u8], limit: usize, encoding: Encoding) -> Outcome {
    let mut messages = Vec::new();
    loop {
        let Some((prefix, rest)) = body.split_first_chunk::<HEADER_BYTES>() else {
            let end = if body.is_empty() {
                Ok(())
            } else {
                Err(Code::Internal)
            };
            return (messages, end);
        };
        let &[flag, a, b, c, d] = prefix;
        if flag != 0 {
            let code = match (flag, encoding) {
                (1, Encoding::Unknown) => Code::Unimplemented,
                _ => Code::Internal,
            };
            return (messages, Err(code));
        }
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if len > limit {
            return (messages, Err(Code::ResourceExhausted));
        }
        let Some((message, rest)) = rest.split_at_checked(len) else {
            return (messages, Err(Code::Internal));
        };
        messages.push(message.to_vec());
        body = rest;
    }
}
