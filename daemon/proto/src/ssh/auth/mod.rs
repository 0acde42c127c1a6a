//! Authentication (RFC 4252, 4256): the client's side here, the server's in [`accept`].
//!
//! Payloads in, payloads out: packets are the transport's.

mod accept;

use std::sync::Arc;

use zeroize::Zeroizing;

use super::client::{Credential, Login};
use super::connection::Sender;
use super::keys::{Certificate, PrivateKey, Secret};
use super::message::{
    SERVICE_ACCEPT, SERVICE_REQUEST, USERAUTH_BANNER, USERAUTH_FAILURE, USERAUTH_INFO_REQUEST,
    USERAUTH_INFO_RESPONSE, USERAUTH_REQUEST, USERAUTH_SUCCESS, WRONG_PHASE,
};
use super::transport::SignatureAlgorithms;
use super::wire::{Reader, Write as _, words};
use crate::Fault;

pub(super) use accept::Accept;

/// Bytes of banners and questions that a server may come up with before authentication ends.
const CHATTER_BYTES_MAX: usize = 64 << 10;
/// Rounds of questions that one `keyboard-interactive` may have.
const ROUNDS_MAX: u8 = 8;

/// RFC 4252 §4.
const USERAUTH: &str = "ssh-userauth";
/// RFC 4254 §1.
const CONNECTION: &str = "ssh-connection";

/// What the transport knows that a signature needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    /// The first exchange hash.
    pub id: [u8; 32],
    /// What the server takes, if it has said so.
    pub signatures: Option<SignatureAlgorithms>,
}

impl Session {
    /// The signature to make among those that a key can make: the first that the server takes. A server
    /// that does not say what it takes, or takes none of them, is asked with the first: its answer tells.
    fn choose(&self, names: &'static [&'static str]) -> &'static str {
        let taken = names.iter().find(|name| self.signatures.is_some_and(|takes| takes.contains(name)));
        taken.or(names.first()).expect("a key that signs")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    PublicKey,
    Password,
    Interactive,
}

impl Method {
    const fn name(self) -> &'static str {
        match self {
            Self::PublicKey => "publickey",
            Self::Password => "password",
            Self::Interactive => "keyboard-interactive",
        }
    }
}

impl Credential {
    /// What it can serve for, in the order of trying.
    const fn methods(&self) -> &'static [Method] {
        match self {
            Self::Key { .. } => &[Method::PublicKey],
            Self::Password(_) => &[Method::Password, Method::Interactive],
        }
    }
}

/// What has been asked, and not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Service,
    None,
    Credential(Method),
}

/// One method with one credential.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    credential: usize,
    method: Method,
    /// The server took it, and asked for more.
    taken: bool,
}

/// The client's side, until it has succeeded.
#[derive(Debug)]
pub(super) struct Prove {
    login: Arc<Login>,
    asked: Asked,
    attempts: Vec<Attempt>,
    /// Rounds of questions in this attempt, and whether the password was given in one.
    rounds: u8,
    answered: bool,
    chatter_bytes: usize,
}

impl Prove {
    /// Asks for the service: the first message under the first keys.
    pub fn start(login: Arc<Login>, send: Sender<'_>) -> Result<Self, Fault> {
        let mut payload = vec![SERVICE_REQUEST];
        payload.put_string(USERAUTH);
        send(&payload)?;
        let (rounds, answered, chatter_bytes) = (0, false, 0);
        Ok(Self { login, asked: Asked::Service, attempts: Vec::new(), rounds, answered, chatter_bytes })
    }

    /// Takes a message; whether it was the success.
    ///
    /// # Errors
    /// `SshAuth` where no credential is left, `SshProtocol` for what was not asked for.
    pub fn receive(&mut self, payload: &[u8], session: &Session, send: Sender<'_>) -> Result<bool, Fault> {
        let mut reader = Reader::new(payload);
        match (reader.byte()?, self.asked) {
            (SERVICE_ACCEPT, Asked::Service) => {
                if reader.string()? != USERAUTH.as_bytes() {
                    return Err(Fault::SshProtocol("another service is accepted than was asked for"));
                }
                self.asked = Asked::None;
                send(&self.request("none"))?;
            }
            (USERAUTH_BANNER, _) => self.hear(payload)?,
            (USERAUTH_FAILURE, Asked::None | Asked::Credential(_)) => {
                let (list, partial) = (reader.string()?, reader.boolean()?);
                if let (Asked::Credential(_), Some(attempt)) = (self.asked, self.attempts.last_mut()) {
                    attempt.taken = partial;
                }
                self.try_next(list, session, send)?;
            }
            (USERAUTH_SUCCESS, Asked::None | Asked::Credential(_)) => {
                reader.end()?;
                return Ok(true);
            }
            (USERAUTH_INFO_REQUEST, Asked::Credential(Method::Interactive)) => {
                self.hear(payload)?;
                self.answer(reader, send)?;
            }
            // The same number: PASSWD_CHANGEREQ.
            (USERAUTH_INFO_REQUEST, Asked::Credential(Method::Password)) => {
                let user = &self.login.user;
                return Err(Fault::SshAuth(format!("the server wants user {user:?} to have a new password")));
            }
            _ => return Err(WRONG_PHASE),
        }
        Ok(false)
    }

    /// What is only to be read by people counts, and is let go.
    fn hear(&mut self, payload: &[u8]) -> Result<(), Fault> {
        self.chatter_bytes += payload.len();
        if self.chatter_bytes > CHATTER_BYTES_MAX {
            return Err(Fault::SshProtocol("banners and questions without end"));
        }
        Ok(())
    }

    fn request(&self, method: &str) -> Zeroizing<Vec<u8>> {
        let mut payload = Zeroizing::new(vec![USERAUTH_REQUEST]);
        payload.put_string(&self.login.user);
        payload.put_string(CONNECTION);
        payload.put_string(method);
        payload
    }

    /// The next credential that the server's list allows: one that was refused is spent, one that was
    /// taken may serve again by another method.
    fn try_next(&mut self, list: &[u8], session: &Session, send: Sender<'_>) -> Result<(), Fault> {
        let listed =
            |method: Method| list.split(|&byte| byte == b',').any(|name| name == method.name().as_bytes());
        let fresh = |index: usize, method: Method| {
            let mut before = self.attempts.iter().filter(|attempt| attempt.credential == index);
            before.all(|attempt| attempt.taken && attempt.method != method)
        };
        let next = self.login.credentials.iter().enumerate().find_map(|(index, credential)| {
            let method = credential.methods().iter().find(|&&method| listed(method) && fresh(index, method));
            method.map(|&method| (index, method))
        });
        let Some((credential, method)) = next else { return Err(self.nothing_left(list)) };
        self.attempts.push(Attempt { credential, method, taken: false });
        (self.asked, self.rounds, self.answered) = (Asked::Credential(method), 0, false);
        match (&self.login.credentials[credential], method) {
            (Credential::Key { key, certificate }, _) => {
                send(&self.signed(key, certificate.as_deref(), session)?)
            }
            (Credential::Password(password), Method::Password) => {
                let secret = password.expose();
                let mut payload = self.request(method.name());
                payload.reserve_exact(1 + 4 + secret.len());
                payload.put_boolean(false);
                payload.put_string(secret);
                send(&payload)
            }
            (Credential::Password(_), _) => {
                let mut payload = self.request(method.name());
                payload.put_string(""); // language
                payload.put_string(""); // submethods
                send(&payload)
            }
        }
    }

    /// RFC 4252 §7, signed at once: a key that is refused costs as many round trips as a question would.
    fn signed(
        &self,
        key: &PrivateKey,
        certificate: Option<&Certificate>,
        session: &Session,
    ) -> Result<Vec<u8>, Fault> {
        let signature = session.choose(key.algorithms());
        let (name, blob) = match certificate {
            Some(certificate) => (certificate.algorithm(signature), certificate.blob()),
            None => (signature, key.public_blob()),
        };
        let mut message = Vec::new();
        message.put_string(session.id);
        let id_bytes = message.len();
        message.extend_from_slice(&self.request(Method::PublicKey.name()));
        message.put_boolean(true);
        message.put_string(name);
        message.put_string(blob);
        let signed = key.sign(signature, &message)?;
        message.put_string(signed);
        message.drain(..id_bytes);
        Ok(message)
    }

    /// RFC 4256 §3.2: one hidden prompt is answered once; nothing asked, nothing said.
    fn answer(&mut self, mut reader: Reader<'_>, send: Sender<'_>) -> Result<(), Fault> {
        for _ in ["name", "instruction", "language"] {
            reader.string()?;
        }
        let count = reader.uint32()?;
        self.rounds += 1;
        if self.rounds > ROUNDS_MAX {
            return Err(Fault::SshAuth("keyboard-interactive asks without end".to_owned()));
        }
        let mut payload = Zeroizing::new(vec![USERAUTH_INFO_RESPONSE]);
        if count == 0 {
            payload.put_uint32(0);
            return send(&payload);
        }
        let (prompt, echo) = (words(reader.string()?), reader.boolean()?);
        let password = self.password();
        let beyond = match (count, echo, self.answered) {
            (1, false, false) => None,
            (1, false, true) => Some("asks again"),
            (1, true, _) => Some("asks for what is shown as it is typed"),
            _ => Some("asks more than one question"),
        };
        if let Some(beyond) = beyond {
            return Err(Fault::SshAuth(format!(
                "keyboard-interactive {beyond} ({prompt:?}): one hidden prompt is answered, with the password; \
                 use a key, or a user that is asked for no more"
            )));
        }
        reader.end()?;
        payload.reserve_exact(4 + 4 + password.expose().len());
        payload.put_uint32(1);
        payload.put_string(password.expose());
        send(&payload)?;
        self.answered = true;
        Ok(())
    }

    /// Of the attempt under way, which is one with a password.
    fn password(&self) -> Secret {
        let attempt = self.attempts.last().expect("an attempt is under way");
        match &self.login.credentials[attempt.credential] {
            Credential::Password(password) => password.clone(),
            Credential::Key { .. } => panic!("a key answers no questions"),
        }
    }

    fn nothing_left(&self, list: &[u8]) -> Fault {
        let mut tried = "none".to_owned();
        for attempt in &self.attempts {
            tried.push_str(", ");
            tried.push_str(attempt.method.name());
            match &self.login.credentials[attempt.credential] {
                Credential::Key { certificate: Some(_), .. } => tried.push_str(" with a certificate"),
                _ if attempt.taken => tried.push_str(" (taken, not enough)"),
                _ => {}
            }
        }
        let (user, takes) = (words(self.login.user.as_bytes()), words(list));
        let takes = if takes.is_empty() { "nothing more" } else { &takes };
        Fault::SshAuth(format!(
            "user {user:?} was refused with {tried}; the server takes {takes}: give a credential that is this user's"
        ))
    }
}
