//! Coder's web terminal, both roles: the request, what is typed, the echo, the end.
//!
//! A terminal is a websocket. A client types JSON into it, in binary messages; what the terminal
//! prints comes back as bytes, with no message around it that means anything.
//!
//! | step | client | server |
//! | --- | --- | --- |
//! | open | [`TerminalRequest::path`] | [`TerminalRequest::parse`] |
//! | type | [`Text`] and its [`Message`]s; [`encode`], [`encode_resize`] | [`Decoder`] |
//! | find where the echo begins | [`Marker`], [`Alignment`] | |
//! | echo | [`Message::echo_bytes`], [`Message::echoes`] | [`Terminal`] |
//! | end | [`INTERRUPT`], [`INTERRUPT_ECHO`], [`Outcome`] | Close 1000 |
//!
//! A workspace's app takes the same messages as they are ([`Route::App`]) and gives them back.
//!
//! A load message is a `place` in a [`Text`] and a length: what goes out for it and what is to come
//! back both follow from that, in place.
//!
//! ```
//! use scale_proto::coder::{Command, Decoder, Echo, Form, Route, Terminal, Text};
//! use scale_proto::ws;
//!
//! let mut seed = 7u64;
//! let mut random = || { seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); seed };
//! let text = Text::new(Form::Line, Route::Terminal, &mut random);
//!
//! // The client: one frame a piece, its length known beforehand.
//! let message = text.message(Text::place(random()), 4096);
//! let mut wire = vec![0; message.wire_bytes()];
//! assert_eq!(message.write_frames(&mut || [1, 2, 3, 4], &mut wire), wire.len());
//!
//! // The server: websocket, JSON, terminal.
//! let mut session = ws::Session::new(ws::Role::Server, 32 << 10);
//! let (mut decoder, mut terminal) = (Decoder::new(), Terminal::new(Command::Discard));
//! let (mut input, mut json, mut echo) = (&wire[..], Vec::new(), Vec::new());
//! while let Some(event) = session.receive(&mut input, &mut || [0; 4])? {
//!     let ws::Event::Data { bytes, mask: Some(mask), .. } = event else { continue };
//!     json.resize(bytes.len(), 0);
//!     ws::mask_into(&mut json, bytes, mask);
//!     let mut json = &json[..];
//!     while let Some(said) = decoder.receive(&mut json)? {
//!         terminal.input(&mut said.typed.as_bytes(), &mut echo)?;
//!     }
//! }
//!
//! // The client again: the echo is compared however it is cut.
//! assert_eq!(echo.len(), message.echo_bytes(Echo::Cooked) as usize);
//! let mut position = 0;
//! for part in echo.chunks(1000) {
//!     assert!(message.echoes(Echo::Cooked, position, part));
//!     position += part.len() as u32;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Elsewhere: frames ([`ws`](crate::ws)), pacing and deadlines (`scaled`).

mod alignment;
mod close;
mod decoder;
mod echo;
mod json;
mod request;
mod terminal;
mod text;
mod unescape;

#[cfg(test)]
mod tests;

pub use alignment::{
    Alignment, Marker, PREAMBLE_BYTES_MAX, REPLAY_BYTES_MAX, State, TAIL_BYTES_MAX, is_redraw,
};
pub use close::Outcome;
pub use decoder::{DATA_BYTES_MAX, DEPTH_MAX, Decoder, Malformed, Said, Size};
pub use echo::Echo;
pub use json::{
    INTERRUPT, INTERRUPT_AND_END, INTERRUPT_ECHO, PIECE_BYTES_MAX, RESIZE_BYTES_MAX, encode, encode_resize,
    encoded_bytes, pieces,
};
pub use request::{Backend, RequestError, TerminalRequest, Uuid};
pub use terminal::{Command, Ending, LINE_BYTES_MAX, Refused, Terminal};
pub use text::{Form, Message, Route, Text};

/// Runs the original's command in the terminal and echoes by the kernel: see [`Echo::Cooked`].
/// `bs` is a tick's bytes.
pub fn paced_command(bytes_per_tick: u32) -> String {
    format!("dd if=/dev/stdin of=/dev/null bs={bytes_per_tick} status=none")
}

/// A shell, to which all that is typed is one comment that never ends ([`Form::Comment`]): what the original's
/// servers ran before v2.6, without the prompt that would fall among the echo.
pub const SHELL_COMMAND: &str = "exec env PS1= sh";

/// Gives back what is typed byte for byte: see [`Echo::Raw`].
///
/// `isig`, so that Ctrl-C still ends it: without, the process would stay on the agent for as long as
/// that keeps sessions nobody is attached to.
pub const RAW_COMMAND: &str = "stty raw -echo isig; exec cat";
