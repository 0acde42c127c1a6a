//! Websocket frames and sessions, RFC 6455, both roles; permessage-deflate is not offered.
//!
//! A [`Session`] parses what comes in place: payload is never copied, and a binary message's
//! bytes are not even looked at. It answers Ping and Close by itself, into a small outbox.
//! Data frames are written by the caller with [`write_header`] and [`mask_into`], so that a
//! message goes from its source to the send buffer in one pass.

mod codec;
mod session;
mod utf8;

#[cfg(test)]
mod tests;

pub use codec::{HEADER_BYTES_MAX, Opcode, Role, is_masked, mask_into, rotate_mask, write_header};
pub use session::{Event, OUTBOX_BYTES_MAX, Session};
