//! Message numbers (RFC 4250 §4.1) and reason codes.

use crate::Fault;

pub const DISCONNECT: u8 = 1;
pub const IGNORE: u8 = 2;
pub const UNIMPLEMENTED: u8 = 3;
pub const DEBUG: u8 = 4;
pub const SERVICE_REQUEST: u8 = 5;
pub const SERVICE_ACCEPT: u8 = 6;
/// RFC 8308 §2.3.
pub const EXT_INFO: u8 = 7;
pub const KEXINIT: u8 = 20;
pub const NEWKEYS: u8 = 21;
/// RFC 5656 §7.1; its answer is the next number.
pub const KEX_ECDH_INIT: u8 = 30;
pub const KEX_ECDH_REPLY: u8 = 31;
pub const USERAUTH_REQUEST: u8 = 50;
pub const USERAUTH_FAILURE: u8 = 51;
pub const USERAUTH_SUCCESS: u8 = 52;
pub const USERAUTH_BANNER: u8 = 53;
/// Of `publickey`; RFC 4256 has INFO_REQUEST and `password` PASSWD_CHANGEREQ under the same number.
pub const USERAUTH_PK_OK: u8 = 60;
pub const USERAUTH_INFO_REQUEST: u8 = 60;
pub const USERAUTH_INFO_RESPONSE: u8 = 61;
pub const GLOBAL_REQUEST: u8 = 80;
pub const REQUEST_SUCCESS: u8 = 81;
pub const REQUEST_FAILURE: u8 = 82;
pub const CHANNEL_OPEN: u8 = 90;
pub const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
pub const CHANNEL_OPEN_FAILURE: u8 = 92;
pub const CHANNEL_WINDOW_ADJUST: u8 = 93;
pub const CHANNEL_DATA: u8 = 94;
pub const CHANNEL_EXTENDED_DATA: u8 = 95;
pub const CHANNEL_EOF: u8 = 96;
pub const CHANNEL_CLOSE: u8 = 97;
pub const CHANNEL_REQUEST: u8 = 98;
pub const CHANNEL_SUCCESS: u8 = 99;
pub const CHANNEL_FAILURE: u8 = 100;

/// DISCONNECT, RFC 4253 §11.1.
pub const BY_APPLICATION: u32 = 11;
/// DISCONNECT, RFC 4253 §11.1.
pub const PROTOCOL_ERROR: u32 = 2;
/// DISCONNECT, RFC 4253 §11.1.
pub const KEY_EXCHANGE_FAILED: u32 = 3;
/// DISCONNECT, RFC 4253 §11.1.
pub const MAC_ERROR: u32 = 5;
/// DISCONNECT, RFC 4253 §11.1.
pub const HOST_KEY_NOT_VERIFIABLE: u32 = 9;
/// DISCONNECT, RFC 4253 §11.1.
pub const NO_MORE_AUTH_METHODS: u32 = 14;
/// CHANNEL_OPEN_FAILURE, RFC 4254 §5.1.
pub const ADMINISTRATIVELY_PROHIBITED: u32 = 1;
/// CHANNEL_OPEN_FAILURE, RFC 4254 §5.1.
pub const UNKNOWN_CHANNEL_TYPE: u32 = 3;
/// CHANNEL_OPEN_FAILURE, RFC 4254 §5.1.
pub const RESOURCE_SHORTAGE: u32 = 4;

/// A message that is known, and has no place where the connection stands.
pub const WRONG_PHASE: Fault = Fault::SshProtocol("a message that has no place here");

/// Whether a number has a meaning in the layers above the transport: the others are answered by
/// UNIMPLEMENTED (RFC 4253 §11.4).
pub const fn is_known(number: u8) -> bool {
    matches!(
        number,
        SERVICE_REQUEST
            | SERVICE_ACCEPT
            | USERAUTH_REQUEST..=USERAUTH_BANNER
            | USERAUTH_PK_OK
            | USERAUTH_INFO_RESPONSE
            | GLOBAL_REQUEST | REQUEST_SUCCESS | REQUEST_FAILURE
            | CHANNEL_OPEN..=CHANNEL_FAILURE
    )
}

/// The code and the words of the DISCONNECT (RFC 4253 §11.1) for what the peer did wrong; none where
/// it has disconnected itself.
pub const fn reason(fault: &Fault) -> Option<(u32, &'static str)> {
    Some(match fault {
        Fault::SshDisconnected { .. } => return None,
        Fault::SshProtocol(what) => (PROTOCOL_ERROR, what),
        Fault::SshKex(_) => (KEY_EXCHANGE_FAILED, "key exchange failed"),
        Fault::SshTampered => (MAC_ERROR, "a packet does not authenticate"),
        Fault::SshHostKey(_) => (HOST_KEY_NOT_VERIFIABLE, "the host key is not believed"),
        Fault::SshAuth(_) => (NO_MORE_AUTH_METHODS, "no more authentication methods available"),
        _ => (BY_APPLICATION, "ended"),
    })
}
