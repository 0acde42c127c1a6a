//! What every decoder must hold to for any input, as functions that panic where it does not.
//! `tests/decoders` calls them with proptest's inputs, `tests/fuzz` with a fuzzer's.

pub mod heads;
pub mod http;
pub mod run_file;
pub mod ssh;
pub mod ssh_keys;
pub mod terminal;
pub mod tls;
pub mod websocket;
pub mod words;

/// `bytes` in pieces whose lengths `cuts` says, over and over; without cuts, one piece.
pub fn pieces<'a>(mut bytes: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = cuts.iter().map(|&cut| usize::from(cut) + 1).cycle();
    std::iter::from_fn(move || {
        let length = lengths.next().unwrap_or(usize::MAX).min(bytes.len());
        let (piece, rest) = bytes.split_at(length);
        bytes = rest;
        (length > 0).then_some(piece)
    })
}

/// Takes a fuzzer's bytes apart: a switch, a few cuts, and the rest.
pub fn split(data: &[u8]) -> (u8, &[u8], &[u8]) {
    let Some((&switch, rest)) = data.split_first() else { return (0, &[], &[]) };
    let (cuts, rest) = rest.split_at(rest.len().min(usize::from(switch >> 5)));
    (switch & 0x1F, cuts, rest)
}
