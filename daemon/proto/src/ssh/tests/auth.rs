//! Authentication by payloads alone.

use super::super::auth::{Accept, Prove, Session};
use super::super::keys::{Certificate, PrivateKey, Secret};
use super::super::message::*;
use super::super::wire::Write as _;
use super::*;

const SESSION: Session = Session { id: [7; 32], signatures: None };

fn password(text: &str) -> Credential {
    Credential::Password(Secret::new(text.into()))
}

fn key(seed: u8) -> Credential {
    Credential::Key { key: Arc::new(PrivateKey::from_seed([seed; 32])), certificate: None }
}

/// A client that has asked for the service, and what it says.
struct Talk {
    prove: Prove,
    sent: Vec<Vec<u8>>,
}

impl Talk {
    fn new(credentials: Vec<Credential>) -> Self {
        let login = Arc::new(Login { user: "ann".to_owned(), credentials });
        let mut sent = Vec::new();
        let prove = Prove::start(login, &mut |payload| {
            sent.push(payload.to_vec());
            Ok(())
        });
        assert_eq!(sent, [b"\x05\0\0\0\x0cssh-userauth"]);
        sent.clear();
        Self { prove: prove.unwrap(), sent }
    }

    /// One that has asked for `none`, too.
    fn begun(credentials: Vec<Credential>) -> Self {
        let mut talk = Self::new(credentials);
        assert_eq!(talk.take(b"\x06\0\0\0\x0cssh-userauth"), Ok(false));
        assert_eq!(talk.said(), [request("none", b"")]);
        talk
    }

    fn take(&mut self, payload: &[u8]) -> Result<bool, Fault> {
        let Self { prove, sent } = self;
        prove.receive(payload, &SESSION, &mut |payload| {
            sent.push(payload.to_vec());
            Ok(())
        })
    }

    fn said(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }

    /// The method that was asked for last.
    fn method(&mut self) -> String {
        let said = self.said();
        let [payload] = &said[..] else { panic!("one request: {said:?}") };
        let mut reader = wire::Reader::new(&payload[1..]);
        let _user_and_service = (reader.text().unwrap(), reader.text().unwrap());
        reader.text().unwrap().to_owned()
    }
}

fn request(method: &str, rest: &[u8]) -> Vec<u8> {
    let mut payload = vec![USERAUTH_REQUEST];
    for text in ["ann", "ssh-connection", method] {
        payload.put_string(text);
    }
    payload.extend_from_slice(rest);
    payload
}

fn failure(list: &str, partial: bool) -> Vec<u8> {
    let mut payload = vec![USERAUTH_FAILURE];
    payload.put_string(list);
    payload.put_boolean(partial);
    payload
}

fn questions(prompts: &[(&str, bool)]) -> Vec<u8> {
    let mut payload = vec![USERAUTH_INFO_REQUEST];
    ["name", "instruction", ""].iter().for_each(|text| payload.put_string(text));
    payload.put_uint32(prompts.len() as u32);
    for (prompt, echo) in prompts {
        payload.put_string(prompt);
        payload.put_boolean(*echo);
    }
    payload
}

fn refused(what: &str) -> Result<bool, Fault> {
    Err(Fault::SshAuth(what.to_owned()))
}

/// Both sides until one ends it.
fn settle(talk: &mut Talk, accept: &mut Accept, none: bool) -> Result<(), Fault> {
    let mut to_server = vec![b"\x05\0\0\0\x0cssh-userauth".to_vec()];
    loop {
        let mut to_client = Vec::new();
        let mut is_in = false;
        for payload in to_server {
            is_in = accept.receive(&payload, &SESSION.id, none, Some("welcome\r\n"), &mut |payload| {
                to_client.push(payload.to_vec());
                Ok(())
            })?;
        }
        for payload in to_client {
            if talk.take(&payload)? {
                assert!(is_in, "both know");
                return Ok(());
            }
        }
        to_server = talk.said();
    }
}

/// Every kind of key, with and without a certificate.
fn keys() -> Vec<Credential> {
    let file = |bytes: &[u8], certificate: &[u8]| {
        let key = Arc::new(PrivateKey::from_file(bytes, None).unwrap());
        let certificate = Arc::new(Certificate::from_file(certificate).unwrap());
        assert!(certificate.is_for(&key));
        [None, Some(certificate)].map(|certificate| Credential::Key { key: Arc::clone(&key), certificate })
    };
    [
        file(fixture!("ed25519"), fixture!("user_ed25519-cert.pub")),
        file(fixture!("ecdsa"), fixture!("user_ecdsa-cert.pub")),
        file(fixture!("rsa2048"), fixture!("user_rsa-cert.pub")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn each_key_and_each_certificate_opens_the_door() {
    for key in keys() {
        let name = format!("{key:?}");
        settle(&mut Talk::new(vec![key]), &mut Accept::default(), false).unwrap_or_else(|fault| {
            panic!("{fault}: {name}");
        });
    }
}

#[test]
fn each_credential_opens_the_door() {
    settle(&mut Talk::new(vec![]), &mut Accept::default(), true).unwrap();
    settle(&mut Talk::new(vec![password("x")]), &mut Accept::default(), false).unwrap();
    settle(&mut Talk::new(vec![key(1)]), &mut Accept::default(), false).unwrap();
    let nothing = settle(&mut Talk::new(vec![]), &mut Accept::default(), false);
    let words = "user \"ann\" was refused with none; the server takes publickey,password,keyboard-interactive: \
                 give a credential that is this user's";
    assert_eq!(nothing, Err(Fault::SshAuth(words.to_owned())));
}

#[test]
fn a_key_signs_what_the_rfc_says_without_asking_first() {
    let mut talk = Talk::begun(vec![key(1)]);
    assert_eq!(talk.take(&failure("publickey", false)), Ok(false));
    let said = talk.said();
    let key = PrivateKey::from_seed([1; 32]);
    let mut expected = request("publickey", &[1]);
    expected.put_string("ssh-ed25519");
    expected.put_string(key.public_blob());
    let mut message = Vec::new();
    message.put_string(SESSION.id);
    message.extend_from_slice(&expected);
    expected.put_string(key.sign("ssh-ed25519", &message).unwrap());
    assert_eq!(said, [expected.clone()]);

    // The server wants exactly that: each byte counts.
    for at in 0..expected.len() {
        let mut damaged = expected.clone();
        damaged[at] ^= 1;
        let mut accept = Accept::default();
        let mut quiet = |_: &[u8]| Ok(());
        accept.receive(b"\x05\0\0\0\x0cssh-userauth", &SESSION.id, false, None, &mut quiet).unwrap();
        let taken = accept.receive(&damaged, &SESSION.id, false, None, &mut quiet);
        assert!(!matches!(taken, Ok(true)), "byte {at}");
    }
}

#[test]
fn a_server_may_be_asked_whether_a_key_would_do() {
    let key = PrivateKey::from_seed([1; 32]);
    let mut named = Vec::new();
    named.put_string("ssh-ed25519");
    named.put_string(key.public_blob());
    let mut accept = Accept::default();
    let mut sent = Vec::new();
    for payload in
        [b"\x05\0\0\0\x0cssh-userauth".to_vec(), request("publickey", &[&[0], &named[..]].concat())]
    {
        let taken = accept.receive(&payload, &SESSION.id, false, None, &mut |payload| {
            sent.push(payload.to_vec());
            Ok(())
        });
        assert_eq!(taken, Ok(false));
    }
    assert_eq!(sent[1], [&[USERAUTH_PK_OK], &named[..]].concat());
}

#[test]
fn credentials_are_tried_in_their_order_as_far_as_the_server_lists_them() {
    let mut talk = Talk::begun(vec![key(1), password("x"), key(2)]);
    let mut tried = Vec::new();
    let ended = loop {
        match talk.take(&failure("hostbased,publickey", false)) {
            Ok(_) => tried.push(talk.method()),
            Err(fault) => break Err(fault),
        }
    };
    assert_eq!(tried, ["publickey", "publickey"]);
    let words = "user \"ann\" was refused with none, publickey, publickey; the server takes hostbased,publickey: \
                 give a credential that is this user's";
    assert_eq!(ended, refused(words));
}

#[test]
fn what_was_taken_in_part_is_followed_by_the_next() {
    let mut talk = Talk::begun(vec![password("x"), key(1)]);
    talk.take(&failure("publickey", false)).unwrap();
    assert_eq!(talk.method(), "publickey");
    talk.take(&failure("password,keyboard-interactive", true)).unwrap();
    assert_eq!(talk.method(), "password");
    talk.take(&failure("keyboard-interactive,publickey", true)).unwrap();
    assert_eq!(talk.method(), "keyboard-interactive");
    let words = "user \"ann\" was refused with none, publickey (taken, not enough), password (taken, not enough), \
                 keyboard-interactive; the server takes nothing more: give a credential that is this user's";
    assert_eq!(talk.take(&failure("", false)), refused(words));
}

#[test]
fn a_wrong_password_is_not_tried_again_another_way() {
    let mut talk = Talk::begun(vec![password("x")]);
    talk.take(&failure("password,keyboard-interactive", false)).unwrap();
    assert_eq!(talk.said(), [request("password", b"\0\0\0\0\x01x")]);
    assert!(matches!(talk.take(&failure("password,keyboard-interactive", false)), Err(Fault::SshAuth(_))));
}

#[test]
fn one_hidden_prompt_is_answered_once() {
    let begun = || {
        let mut talk = Talk::begun(vec![password("sesame")]);
        talk.take(&failure("keyboard-interactive", false)).unwrap();
        assert_eq!(talk.said(), [request("keyboard-interactive", &[0; 8])]);
        talk
    };
    let mut talk = begun();
    talk.take(&questions(&[("Password: ", false)])).unwrap();
    assert_eq!(talk.said(), [b"\x3d\0\0\0\x01\0\0\0\x06sesame"]);
    talk.take(&questions(&[])).unwrap();
    assert_eq!(talk.said(), [b"\x3d\0\0\0\0"]);
    assert_eq!(talk.take(&[USERAUTH_SUCCESS]), Ok(true));

    let beyond = |what: &str| {
        refused(&format!(
            "keyboard-interactive {what}: one hidden prompt is answered, with the password; use a key, or a user \
             that is asked for no more"
        ))
    };
    let shown = begun().take(&questions(&[("Name: ", true)]));
    assert_eq!(shown, beyond("asks for what is shown as it is typed (\"Name:\")"));
    let two = begun().take(&questions(&[("Password: ", false), ("Token: ", false)]));
    assert_eq!(two, beyond("asks more than one question (\"Password:\")"));
    let mut talk = begun();
    talk.take(&questions(&[("Password: ", false)])).unwrap();
    let again = talk.take(&questions(&[("New password: ", false)]));
    assert_eq!(again, beyond("asks again (\"New password:\")"));

    let mut talk = begun();
    let ended = (0..100).find_map(|_| talk.take(&questions(&[])).err());
    assert_eq!(ended, Some(Fault::SshAuth("keyboard-interactive asks without end".to_owned())));
}

#[test]
fn a_new_password_is_not_made_up() {
    let mut talk = Talk::begun(vec![password("x")]);
    talk.take(&failure("password", false)).unwrap();
    let change = b"\x3c\0\0\0\x04old!\0\0\0\0";
    assert_eq!(talk.take(change), refused("the server wants user \"ann\" to have a new password"));
}

#[test]
fn banners_are_let_go_until_they_are_too_many() {
    let mut banner = vec![USERAUTH_BANNER];
    banner.put_string("x".repeat(1000));
    banner.put_string("");
    let mut talk = Talk::begun(vec![]);
    let taken = (0..).take_while(|_| talk.take(&banner).is_ok()).count();
    assert_eq!(taken, (64 << 10) / banner.len());
    assert_eq!(talk.said(), [] as [Vec<u8>; 0]);
}

#[test]
fn messages_out_of_their_phase_are_refused() {
    for payload in [
        &[USERAUTH_SUCCESS][..],
        &failure("publickey", false),
        &questions(&[]),
        &[CHANNEL_DATA, 0, 0, 0, 0, 0, 0, 0, 0],
        &[GLOBAL_REQUEST],
        &request("none", b""),
        b"\x05\0\0\0\x0cssh-userauth",
    ] {
        assert_eq!(Talk::new(vec![]).take(payload), Err(WRONG_PHASE), "{payload:?}");
    }
    let accepted = b"\x06\0\0\0\x0cssh-userauth";
    assert_eq!(Talk::begun(vec![]).take(accepted), Err(WRONG_PHASE));
    assert_eq!(Talk::begun(vec![]).take(&questions(&[])), Err(WRONG_PHASE));
    let mut talk = Talk::begun(vec![key(1)]);
    talk.take(&failure("publickey", false)).unwrap();
    assert_eq!(talk.take(&questions(&[])), Err(WRONG_PHASE), "PK_OK: nobody asked");
    let other = b"\x06\0\0\0\x0essh-connection";
    assert!(matches!(Talk::new(vec![]).take(other), Err(Fault::SshProtocol(_))));

    let mut quiet = |_: &[u8]| Ok(());
    for payload in [&request("none", b"")[..], b"\x3d\0\0\0\x01\0\0\0\x01x", &[CHANNEL_OPEN], accepted] {
        let taken = Accept::default().receive(payload, &SESSION.id, true, None, &mut quiet);
        assert_eq!(taken, Err(WRONG_PHASE));
    }
}

#[test]
fn a_server_hears_so_many_requests_and_no_more() {
    let mut accept = Accept::default();
    let mut quiet = |_: &[u8]| Ok(());
    accept.receive(b"\x05\0\0\0\x0cssh-userauth", &SESSION.id, false, None, &mut quiet).unwrap();
    let taken = (0..)
        .take_while(|_| accept.receive(&request("none", b""), &SESSION.id, false, None, &mut quiet).is_ok());
    assert_eq!(taken.count(), 32);
}
