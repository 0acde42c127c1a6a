//! The parsers of HTTP heads: a head means the same however it comes.

use scale_proto::Fault;
use scale_proto::http::{
    HEAD_BYTES_MAX, Key, header_is_valid, parse_request, parse_response, write_response,
};

use super::pieces;

/// What a caller gets who gathers pieces until there is an answer.
fn gathered<T>(
    bytes: &[u8],
    cuts: &[u8],
    parse: impl Fn(&[u8]) -> Result<Option<T>, Fault>,
) -> Result<Option<T>, Fault> {
    let mut head = Vec::new();
    for piece in pieces(bytes, cuts) {
        head.extend_from_slice(piece);
        match parse(&head) {
            Ok(None) => assert!(head.len() < HEAD_BYTES_MAX, "a head has its limit"),
            answer => return answer,
        }
    }
    Ok(None)
}

/// Any bytes, cut as `cuts` says, as a request and as an answer.
///
/// # Panics
/// A parser does not hold to its rules.
pub fn check(cuts: &[u8], bytes: &[u8]) {
    let whole = gathered(bytes, &[], parse_request);
    assert_eq!(whole, gathered(bytes, cuts, parse_request), "a request cut as {cuts:?}");
    if let Ok(Some(request)) = &whole {
        assert!(request.head_bytes <= bytes.len());
        assert!(header_is_valid("Sec-WebSocket-Accept", &request.accept), "{request:?}");
        let mut answer = Vec::new();
        write_response(&mut answer, &request.accept, request.subprotocols.first().map(String::as_str), &[]);
        let lines = answer.windows(2).filter(|two| two == b"\r\n").count();
        assert!(lines <= 6, "a request puts lines into the answer: {answer:?}");
    }
    let key = Key::from_random(*b"the sample nonce");
    for subprotocol in [None, Some("chat")] {
        let parse = |head: &[u8]| parse_response(head, &key, subprotocol, None);
        let whole = gathered(bytes, &[], parse);
        assert_eq!(whole, gathered(bytes, cuts, parse), "an answer cut as {cuts:?}");
        assert!(!matches!(&whole, Ok(Some(accepted)) if accepted.head_bytes > bytes.len()));
    }
}
