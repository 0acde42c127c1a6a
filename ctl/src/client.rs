//! A small HTTP/1.1 client over the Unix socket: one request a connection.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scale_api::http::Problem;
use scale_api::private::Content;
use scale_api::report::{Exit, Report, SCHEMA};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What went wrong: a sentence and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong and what to do.
    pub message: String,
    /// How the program ends.
    pub exit: Exit,
}

impl Failure {
    /// A mistake of the user's.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Usage }
    }

    fn internal(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Internal }
    }

    /// The daemon has gone.
    pub fn lost() -> Self {
        Self {
            message: "the daemon is lost; `scalectl report` shows what it had measured, once it runs again"
                .into(),
            exit: Exit::Aborted,
        }
    }
}

/// The daemon's socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// A daemon answers within this; only events take longer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: usize = 16 * 1024;

impl Client {
    /// The socket given, or the first of the usual ones that is there.
    pub fn new(given: Option<PathBuf>) -> Self {
        let usual = Path::new("/run/scaled/control.sock");
        let socket = given.unwrap_or_else(|| match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(folder) if !usual.exists() => Path::new(&folder).join("scaled/control.sock"),
            _ => usual.to_owned(),
        });
        Self { socket }
    }

    fn connect(&self) -> Result<UnixStream, Failure> {
        UnixStream::connect(&self.socket).map_err(|error| {
            let at = self.socket.display();
            Failure::usage(match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                    format!("no daemon at {at}; start `scaled`, or give --socket PATH")
                }
                ErrorKind::PermissionDenied => {
                    format!("{at} is not yours to use; ask to be put into its group (ls -l {at})")
                }
                _ => format!("cannot reach the daemon at {at}: {error}"),
            })
        })
    }

    /// Asks, and reads the head of the answer.
    fn ask(&self, method: &str, path: &str, body: &[u8], within: Duration) -> Result<(u16, Body), Failure> {
        let mut stream = self.connect()?;
        let lost = |_| Failure::lost();
        stream.set_read_timeout(Some(within)).map_err(lost)?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: scaled\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        // One after the other: a copy of both would be one more copy of its secrets.
        match stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)) {
            // It has refused what it has not read, and says why.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            result => result.map_err(lost)?,
        }
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > HEAD_BYTES_MAX || reader.read_until(b'\n', &mut head).map_err(lost)? == 0 {
                return Err(Failure::lost());
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        response.parse(&head).map_err(|_| Failure::internal("what answers on the socket is no scaled"))?;
        let header =
            |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        let length =
            header("content-length").and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
        let extent = match length {
            _ if header("transfer-encoding").is_some_and(|it| it.value.eq_ignore_ascii_case(b"chunked")) => {
                Extent::Chunks(0)
            }
            Some(bytes) => Extent::Bytes(bytes),
            None => Extent::Connection,
        };
        Ok((response.code.unwrap_or(0), Body { reader, extent }))
    }

    fn checked(&self, method: &str, path: &str, body: &[u8], within: Duration) -> Result<Body, Failure> {
        let (status, mut body) = self.ask(method, path, body, within)?;
        if status == 200 {
            return Ok(body);
        }
        let mut text = Vec::new();
        body.read_to_end(&mut text).map_err(|_| Failure::lost())?;
        match serde_json::from_slice::<Problem>(&text) {
            Ok(problem) => Err(Failure { message: problem.detail, exit: problem.code.exit() }),
            Err(_) => Err(Failure::internal(format!("the daemon answered {status}"))),
        }
    }

    /// GETs JSON.
    ///
    /// # Errors
    /// The daemon's problem, or that it cannot be reached.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        Self::parse(self.checked("GET", path, b"", ANSWER_TIME_MAX)?)
    }

    /// GETs what is no JSON: a page.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub fn text(&self, path: &str) -> Result<String, Failure> {
        let mut text = String::new();
        self.checked("GET", path, b"", ANSWER_TIME_MAX)?
            .read_to_string(&mut text)
            .map_err(|_| Failure::lost())?;
        Ok(text)
    }

    /// A run's report. One that a newer version has made is not read for what it is not.
    ///
    /// # Errors
    /// As for [`Self::get`]; it is of a newer version.
    pub fn report(&self, run: &str) -> Result<Report, Failure> {
        #[derive(Deserialize)]
        struct Frame {
            schema: u32,
        }
        let path = format!("/v1/runs/{run}/report");
        let text = self.text(&path)?;
        match serde_json::from_str::<Frame>(&text) {
            Ok(Frame { schema }) if schema > SCHEMA => Err(Failure::usage(format!(
                "a newer scaled has made this report (schema {schema}; this scalectl reads {SCHEMA} and older): use that version's, or see it as it is by curl --unix-socket {} http://scaled{path}",
                self.socket.display()
            ))),
            _ => Self::of(text.as_bytes()),
        }
    }

    /// Sends JSON and reads JSON.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.send_within(method, path, body, ANSWER_TIME_MAX)
    }

    /// As [`Self::send`], for an answer that may take longer.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub fn send_within<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
        within: Duration,
    ) -> Result<T, Failure> {
        let body = json(body).map_err(|error| Failure::internal(error.to_string()))?;
        Self::parse(self.checked(method, path, &body, within)?)
    }

    fn parse<T: DeserializeOwned>(mut body: Body) -> Result<T, Failure> {
        let mut text = Vec::new();
        body.read_to_end(&mut text).map_err(|_| Failure::lost())?;
        Self::of(&text)
    }

    fn of<T: DeserializeOwned>(text: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(text)
            .map_err(|error| Failure::internal(format!("the daemon's answer is of another version: {error}")))
    }

    /// The lines of a run's events.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub fn lines(&self, path: &str) -> Result<BufReader<Body>, Failure> {
        self.checked("GET", path, b"", ANSWER_TIME_MAX).map(BufReader::new)
    }
}

/// A request's body, which may hold secrets: made as long as it will be at once, for what grows leaves copies behind.
fn json(value: &impl Serialize) -> serde_json::Result<Content> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value)?;
    let mut body = Vec::with_capacity(length.0);
    serde_json::to_writer(&mut body, value)?;
    Ok(body.into())
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// How far a body goes.
enum Extent {
    /// In chunks; so many bytes of this one are left.
    Chunks(usize),
    /// So many more bytes.
    Bytes(usize),
    /// To the end of the connection.
    Connection,
}

/// An answer's body. One that breaks off is an error.
pub struct Body {
    reader: BufReader<UnixStream>,
    extent: Extent,
}

impl Body {
    /// The size of the next chunk, behind the end of the one before.
    fn next_chunk(&mut self) -> std::io::Result<usize> {
        let mut line = String::new();
        while line.trim().is_empty() {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let size = line.trim().split(';').next().unwrap_or("");
        usize::from_str_radix(size, 16).map_err(|_| ErrorKind::InvalidData.into())
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if let Extent::Chunks(0) = self.extent {
            match self.next_chunk()? {
                0 => self.extent = Extent::Bytes(0),
                bytes => self.extent = Extent::Chunks(bytes),
            }
        }
        let (Extent::Chunks(left) | Extent::Bytes(left)) = &mut self.extent else {
            return self.reader.read(into);
        };
        let most = into.len().min(*left);
        let count = self.reader.read(&mut into[..most])?;
        if count == 0 && most > 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        *left -= count;
        Ok(count)
    }
}
