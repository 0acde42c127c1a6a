//! The server's side of authentication. Any user may come in: by a key whose signature is right, by any
//! password, by any answer, and without all that where the configuration says so.

use super::super::keys::PublicKey;
use super::super::message::{
    SERVICE_ACCEPT, SERVICE_REQUEST, USERAUTH_BANNER, USERAUTH_FAILURE, USERAUTH_INFO_REQUEST,
    USERAUTH_INFO_RESPONSE, USERAUTH_PK_OK, USERAUTH_REQUEST, USERAUTH_SUCCESS, WRONG_PHASE,
};
use super::super::wire::{Reader, Write as _};
use super::{CONNECTION, Method, Sender, USERAUTH};
use crate::Fault;

/// Requests that a client may make until one succeeds.
const REQUESTS_MAX: u8 = 32;
const CERTIFICATE: &str = "-cert-v01@openssh.com";

/// The server's side, until a client has succeeded.
#[derive(Debug, Default)]
pub(in super::super) struct Accept {
    /// The client has asked for the service.
    begun: bool,
    /// A question has been asked, and not been answered.
    asking: bool,
    requests: u8,
}

impl Accept {
    /// Takes a message; whether the client is in.
    ///
    /// # Errors
    /// `SshProtocol` for what has no place here, `SshAuth` after too many requests.
    pub fn receive(
        &mut self,
        payload: &[u8],
        session_id: &[u8; 32],
        none: bool,
        banner: Option<&str>,
        send: Sender<'_>,
    ) -> Result<bool, Fault> {
        let mut reader = Reader::new(payload);
        match (reader.byte()?, self.begun) {
            (SERVICE_REQUEST, _) => {
                if reader.string()? != USERAUTH.as_bytes() {
                    return Err(Fault::SshProtocol(
                        "a service that is not there: authentication comes first",
                    ));
                }
                self.begin(banner, send)?;
                Ok(false)
            }
            (USERAUTH_REQUEST, true) => {
                self.requests += 1;
                if self.requests > REQUESTS_MAX {
                    return Err(Fault::SshAuth(format!("{REQUESTS_MAX} requests, and none is right")));
                }
                self.asking = false; // RFC 4252 §5.1: what was under way is given up
                self.request(payload, reader, session_id, none, send)
            }
            (USERAUTH_INFO_RESPONSE, true) if std::mem::take(&mut self.asking) => {
                if reader.uint32()? != 1 {
                    return Err(Fault::SshProtocol("another count of answers than of questions"));
                }
                reader.string()?;
                reader.end()?;
                succeed(send)
            }
            _ => Err(WRONG_PHASE),
        }
    }

    fn begin(&mut self, banner: Option<&str>, send: Sender<'_>) -> Result<(), Fault> {
        let mut payload = vec![SERVICE_ACCEPT];
        payload.put_string(USERAUTH);
        send(&payload)?;
        if let Some(banner) = banner.filter(|_| !self.begun) {
            let mut payload = vec![USERAUTH_BANNER];
            payload.put_string(banner);
            payload.put_string(""); // language
            send(&payload)?;
        }
        self.begun = true;
        Ok(())
    }

    fn request(
        &mut self,
        payload: &[u8],
        mut reader: Reader<'_>,
        session_id: &[u8; 32],
        none: bool,
        send: Sender<'_>,
    ) -> Result<bool, Fault> {
        let (_user, service, method) = (reader.string()?, reader.string()?, reader.string()?);
        if service != CONNECTION.as_bytes() {
            return Err(Fault::SshProtocol("a service that is not there"));
        }
        match method {
            b"none" if none => succeed(send),
            b"password" => {
                let change = reader.boolean()?;
                reader.string()?;
                if change { refuse(send) } else { reader.end().and_then(|()| succeed(send)) }
            }
            b"keyboard-interactive" => {
                self.asking = true;
                let mut payload = vec![USERAUTH_INFO_REQUEST];
                for text in ["", "", ""] {
                    payload.put_string(text); // name, instruction, language
                }
                payload.put_uint32(1);
                payload.put_string("Password: ");
                payload.put_boolean(false);
                send(&payload)?;
                Ok(false)
            }
            b"publickey" => {
                let (is_signed, algorithm, blob) = (reader.boolean()?, reader.text()?, reader.string()?);
                let Ok(key) = key(algorithm, blob) else { return refuse(send) };
                if !is_signed {
                    let mut payload = vec![USERAUTH_PK_OK];
                    payload.put_string(algorithm);
                    payload.put_string(blob);
                    return send(&payload).map(|()| false);
                }
                let signed_bytes = payload.len() - reader.rest().len();
                let signature = reader.string()?;
                reader.end()?;
                let mut message = Vec::with_capacity(4 + session_id.len() + signed_bytes);
                message.put_string(session_id);
                message.extend_from_slice(&payload[..signed_bytes]);
                let by = algorithm.strip_suffix(CERTIFICATE).unwrap_or(algorithm);
                if key.verify(by, &message, signature).is_ok() { succeed(send) } else { refuse(send) }
            }
            _ => refuse(send),
        }
    }
}

/// The key that must have signed: a certificate's own (OpenSSH's PROTOCOL.certkeys: behind the nonce come
/// the fields of a plain key), whoever issued it.
fn key(algorithm: &str, blob: &[u8]) -> Result<PublicKey, Fault> {
    if !algorithm.ends_with(CERTIFICATE) {
        return PublicKey::from_blob(blob);
    }
    let mut reader = Reader::new(blob);
    let plain = reader.text()?.strip_suffix(CERTIFICATE).ok_or(WRONG_PHASE)?;
    reader.string()?; // nonce
    let fields = if plain == "ssh-ed25519" { 1 } else { 2 };
    let mut blob = Vec::new();
    blob.put_string(plain);
    for _ in 0..fields {
        blob.put_string(reader.string()?);
    }
    PublicKey::from_blob(&blob)
}

fn succeed(send: Sender<'_>) -> Result<bool, Fault> {
    send(&[USERAUTH_SUCCESS]).map(|()| true)
}

fn refuse(send: Sender<'_>) -> Result<bool, Fault> {
    let mut payload = vec![USERAUTH_FAILURE];
    let methods = [Method::PublicKey, Method::Password, Method::Interactive].map(Method::name);
    payload.put_string(methods.join(","));
    payload.put_boolean(false);
    send(&payload).map(|()| false)
}
