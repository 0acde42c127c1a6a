//! Where a deployment's token comes from, for `scalectl` and for a daemon that goes on after a restart: the file that
//! `CODER_SESSION_TOKEN_FILE` names, the systemd credential `coder-token`, or `CODER_SESSION_TOKEN`; never an argument.

use std::path::PathBuf;

use crate::coder::Secret;
use crate::private;

const TOKEN_BYTES_MAX: u64 = 4096;
/// The systemd credential.
const CREDENTIAL: &str = "coder-token";

/// The token of this process's environment; `None`: there is none.
///
/// # Errors
/// A file that cannot be read, that others may read, or that is no text. What the token is stands in no message.
pub fn from_environment() -> Result<Option<Secret>, String> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let credential =
        private::credentials().map(|folder| folder.join(CREDENTIAL)).filter(|path| path.exists());
    let file = variable("CODER_SESSION_TOKEN_FILE").map(PathBuf::from).or(credential);
    let token = match (file, variable("CODER_SESSION_TOKEN")) {
        (Some(path), _) => {
            let wrong = |why: String| format!("cannot read the token's file {}: {why}", path.display());
            let content = private::read(&path, TOKEN_BYTES_MAX).map_err(wrong)?;
            secret(&content).ok_or_else(|| wrong("it is no text".into()))?
        }
        (None, Some(value)) => {
            let value = private::Content::from(value.into_encoded_bytes());
            secret(&value).ok_or("CODER_SESSION_TOKEN is no text")?
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(token))
}

fn secret(content: &[u8]) -> Option<Secret> {
    Some(Secret::new(std::str::from_utf8(content).ok()?.trim()))
}
