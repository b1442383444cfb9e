//! gRPC as bytes: frames, statuses, methods and metadata.
//!
//! This layer turns messages into what an HTTP/2 stream carries and back. It
//! refuses whatever breaks gRPC's protocol, before it costs memory, and does no
//! IO: it names no socket, task or clock. It is public for those who fuzz the
//! protocol or speak it over a transport of their own.
//!
//! ```text
//!  Metadata ─► headers ─┐                        ┌─► Head ─► Foreign ─► Status
//!                       ├─► HTTP/2 stream ─► ... ┼─► Decoder ─► decode
//!  encode ───► body ────┘                        └─► Status::from_trailers
//! ```

pub mod frame;
pub mod head;
pub mod metadata;
pub mod method;
pub mod shape;
pub mod status;

pub use frame::{Body, Decoder, Encoding, HEADER_BYTES, decode, encode};
pub use head::{Foreign, Head};
pub use metadata::{Metadata, Token};
pub use method::{Kind, Method};
pub use shape::{Response, Shape};
pub use status::Status;
