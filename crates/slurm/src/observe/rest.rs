//! slurmrestd over its Unix socket, on one connection that is kept. It only reads, and runs as nobody
//! in particular: that is the least that can look at a whole cluster.
//!
//! `update_time` makes an unchanged answer one of no bytes. The time given is the controller's own, so
//! that its clock and ours need not agree.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::error::ObserveError;

/// As [`crate::run::OUTPUT_MAX`].
const BODY_MAX: usize = crate::run::OUTPUT_MAX;
/// Longest head of a reply; slurmrestd's have three lines.
const HEAD_MAX: usize = 16 << 10;
/// Lines of a head, likewise.
const HEADERS_MAX: usize = 32;

/// A connection to slurmrestd.
#[derive(Debug)]
pub struct Rest {
    socket: PathBuf,
    limit: Duration,
    stream: Option<UnixStream>,
}

/// A reply: the body, or that nothing has changed.
pub(super) enum Reply {
    Unchanged,
    Body(Vec<u8>),
}

impl Rest {
    /// A client for a socket; it connects with the first question.
    #[must_use]
    pub fn new(socket: PathBuf, limit: Duration) -> Self {
        Self { socket, limit, stream: None }
    }

    /// Asks for a path below `/slurm`.
    pub(super) fn get(&mut self, path: &str) -> Result<Reply, ObserveError> {
        let kept = self.stream.is_some();
        let replied = match self.once(path) {
            // A daemon that was started anew has closed what was kept: one fresh try is fair.
            Err(error) if kept && is_closed(&error) => self.once(path),
            other => other,
        };
        let (status, body) = replied.map_err(|error| {
            self.stream = None;
            ObserveError::Socket { socket: self.socket.display().to_string(), error }
        })?;
        match status {
            200 => Ok(Reply::Body(body)),
            304 => Ok(Reply::Unchanged),
            _ => {
                let words = format!("status {status}: {}", String::from_utf8_lossy(&body));
                Err(ObserveError::Refused { words: crate::run::cut(&words) })
            }
        }
    }

    fn once(&mut self, path: &str) -> io::Result<(u16, Vec<u8>)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = UnixStream::connect(&self.socket)?;
                stream.set_read_timeout(Some(self.limit))?;
                stream.set_write_timeout(Some(self.limit))?;
                stream
            }
        };
        let request = format!(
            "GET /slurm{path} HTTP/1.1\r\nHost: slurm\r\nAccept: application/json\r\nConnection: keep-alive\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let replied = receive(&mut stream)?;
        self.stream = Some(stream);
        Ok(replied)
    }
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Reads one reply. Only a length is understood: slurmrestd sends no other form.
fn receive(stream: &mut UnixStream) -> io::Result<(u16, Vec<u8>)> {
    let mut held = Vec::new();
    let (end, status, length) = loop {
        if let Some(head) = head(&held)? {
            break head;
        }
        if held.len() > HEAD_MAX {
            return Err(io::Error::other("the head of the reply is too long"));
        }
        let mut chunk = [0; 8192];
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => held.extend_from_slice(&chunk[..count]),
        }
    };
    if length > BODY_MAX {
        return Err(io::Error::other(format!("a reply of {length} bytes is too long")));
    }
    let mut body = held.split_off(end);
    if body.len() > length {
        return Err(io::Error::other("more was sent than the reply's length says"));
    }
    let at = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[at..])?;
    Ok((status, body))
}

/// Where the body begins, the status, and the length of the body; none while the head is not whole.
fn head(held: &[u8]) -> io::Result<Option<(usize, u16, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut reply = httparse::Response::new(&mut headers);
    let parsed = reply.parse(held).map_err(|error| io::Error::other(error.to_string()))?;
    let httparse::Status::Complete(end) = parsed else { return Ok(None) };
    let mut length = 0;
    for header in reply.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(io::Error::other("the reply comes in pieces, which is not understood"));
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = String::from_utf8_lossy(header.value);
            length = text.trim().parse().map_err(|_| io::Error::other("a length that is none"))?;
        }
    }
    Ok(Some((end, reply.code.unwrap_or(0), length)))
}
