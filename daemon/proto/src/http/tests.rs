//! A client against a server in memory, and each rule of the upgrade.

use super::*;

fn key() -> Key {
    Key::from_random(*b"the sample nonce")
}

fn ask(subprotocol: Option<&str>) -> Vec<u8> {
    let key = key();
    let mut out = Vec::new();
    UpgradeRequest { host: "h:1", path: "/p?q=1", headers: "X-A: b\r\n", subprotocol, key: &key }
        .write(&mut out);
    out
}

#[test]
fn the_rfcs_sample_key_gives_its_sample_accept() {
    assert_eq!(key().0, "dGhlIHNhbXBsZSBub25jZQ==");
    let request = parse_request(&ask(None)).unwrap().unwrap();
    assert_eq!(request.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!((request.path.as_str(), request.subprotocols.len()), ("/p?q=1", 0));
}

#[test]
fn a_client_and_a_server_agree_however_the_answer_is_cut() {
    let request = parse_request(&ask(Some("chat"))).unwrap().unwrap();
    let mut answer = Vec::new();
    write_response(&mut answer, &request.accept, Some("chat"), &[("X-Replica".into(), "a".into())]);
    let head = answer.len();
    answer.extend_from_slice(&[0x82, 0]);
    for cut in 0..head {
        assert_eq!(parse_response(&answer[..cut], &key(), Some("chat"), None), Ok(None), "cut at {cut}");
    }
    let accepted = Accepted { head_bytes: head, names: None };
    assert_eq!(parse_response(&answer, &key(), Some("chat"), None), Ok(Some(accepted)));
    assert_eq!(parse_response(&answer, &key(), None, None), Err(Fault::BadSubprotocol));
    assert_eq!(
        parse_response(&answer, &Key::from_random([0; 16]), Some("chat"), None),
        Err(Fault::BadAccept)
    );
}

#[test]
fn other_answers_are_told_apart() {
    let answer = |text: &str| parse_response(text.as_bytes(), &key(), None, None);
    assert_eq!(
        answer("HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\n\r\nbody"),
        Err(Fault::HttpStatus { status: 429, retry_after_s: Some(7) })
    );
    assert_eq!(answer("HTTP/1.1 101 X\r\n\r\n"), Err(Fault::BadUpgrade));
    assert_eq!(answer("SSH-2.0-OpenSSH"), Err(Fault::HttpMalformed));
    assert_eq!(answer("HTTP/1.1 what\r\n\r\n"), Err(Fault::HttpMalformed));
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
    assert_eq!(answer(&long), Err(Fault::HttpTooLong));
    let many = format!("HTTP/1.1 101 X\r\n{}\r\n", "A: b\r\n".repeat(65));
    assert_eq!(answer(&many), Err(Fault::HttpTooLong));
}

#[test]
fn what_came_along_with_a_head_changes_nothing() {
    // Over the limit, whether it came at once or not.
    let long = format!("HTTP/1.1 101 X\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
    assert_eq!(parse_response(long.as_bytes(), &key(), None, None), Err(Fault::HttpTooLong));
    assert_eq!(
        parse_response(&long.as_bytes()[..HEAD_BYTES_MAX], &key(), None, None),
        Err(Fault::HttpTooLong)
    );
    // A head that is empty, and one that ends sooner for some readers than for others.
    let later = [b"\r\n\r\n", &ask(None)[..]].concat();
    assert_eq!(parse_request(&later[..4]), Err(Fault::HttpMalformed));
    assert_eq!(parse_request(&later), Err(Fault::HttpMalformed));
    let two_ends = b"HTTP/1.1 200 OK\n\nHTTP/1.1 101 X\r\n\r\n";
    assert_eq!(parse_response(two_ends, &key(), None, None), Err(Fault::HttpMalformed));
}

#[test]
fn a_repeated_header_is_no_fault() {
    let accept = parse_request(&ask(None)).unwrap().unwrap().accept;
    let text = format!(
        "HTTP/1.1 101 X\r\nServer: a\r\nServer: b\r\nupgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    let accepted = Accepted { head_bytes: text.len(), names: None };
    assert_eq!(parse_response(text.as_bytes(), &key(), None, None), Ok(Some(accepted)));
}

#[test]
fn a_101_says_which_build_it_comes_from_if_it_says_so_in_a_word() {
    let accept = parse_request(&ask(None)).unwrap().unwrap().accept;
    let long = "v".repeat(NAME_BYTES_MAX + 1);
    for (said, build) in [
        ("x-coder-build-version:  v2.26.0+abc \r\n", Some("v2.26.0+abc")),
        (&format!("X-Coder-Build-Version: {}\r\n", &long[1..]), Some(&long[1..])),
        (&format!("X-Coder-Build-Version: {long}\r\n"), None),
        ("X-Coder-Build-Version: \r\n", None),
        ("X-Coder-Build-Version: two words\r\n", None),
        ("X-Coder-Build-Version: v\u{e9}\r\nX-Coder-Build-Version: v1\r\n", Some("v1")),
        ("", None),
    ] {
        let text = format!(
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{said}Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let accepted = parse_response(text.as_bytes(), &key(), None, None).unwrap().unwrap();
        assert_eq!(accepted.names.and_then(|names| names.build).as_deref(), build, "{said}");
    }
}

#[test]
fn a_101_names_its_replica_by_the_header_that_was_asked_for() {
    let accept = parse_request(&ask(None)).unwrap().unwrap().accept;
    let text = format!(
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nx-replica: coderd-1\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    for (header, replica) in [(Some("X-Replica"), Some("coderd-1")), (Some("X-Other"), None), (None, None)] {
        let accepted = parse_response(text.as_bytes(), &key(), None, header).unwrap().unwrap();
        assert_eq!(accepted.names.and_then(|names| names.replica).as_deref(), replica, "{header:?}");
    }
}

#[test]
fn headers_that_would_smuggle_are_invalid() {
    assert!(header_is_valid("X-Token", "abc def"));
    for (name, value) in [("", "x"), ("a b", "x"), ("a", "x\r\nb: c"), ("a:", "x"), ("a", "\u{7f}")] {
        assert!(!header_is_valid(name, value));
    }
}
