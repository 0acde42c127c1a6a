//! Where a deployment's token comes from, for `scalectl` and for a daemon that goes on after a restart: the file that
//! `CODER_SESSION_TOKEN_FILE` names, the systemd credential `coder-token`, or `CODER_SESSION_TOKEN`; never an argument.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::coder::Secret;

const TOKEN_BYTES_MAX: u64 = 4096;

/// The token of this process's environment; `None`: there is none.
///
/// # Errors
/// A file that cannot be read, or is no text. What the token is stands in no message.
pub fn from_environment() -> Result<Option<Secret>, String> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let credential = variable("CREDENTIALS_DIRECTORY")
        .map(|folder| Path::new(&folder).join("coder-token"))
        .filter(|path| path.exists());
    let file = variable("CODER_SESSION_TOKEN_FILE").map(PathBuf::from).or(credential);
    let text = match (file, variable("CODER_SESSION_TOKEN")) {
        (Some(path), _) => {
            let wrong = |why: String| format!("cannot read the token's file {}: {why}", path.display());
            let file = std::fs::File::open(&path).map_err(|error| wrong(error.to_string()))?;
            let mut text = String::new();
            file.take(TOKEN_BYTES_MAX)
                .read_to_string(&mut text)
                .map_err(|_| wrong("it is no text".into()))?;
            text
        }
        (None, Some(value)) => value.into_string().map_err(|_| "CODER_SESSION_TOKEN is no text")?,
        (None, None) => return Ok(None),
    };
    Ok(Some(Secret::new(text.trim())))
}
