//! A small HTTP/1.1 server in its own threads, which can misbehave in every way a network can.
//!
//! It is not bound to an async runtime, so that it serves tests with a stopped clock and other
//! processes alike.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request that was read whole.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Decoded pairs.
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Every byte as it came.
    pub raw: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What is done with a response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Delivery {
    /// It arrives.
    Whole,
    /// The connection is reset before a byte of it.
    Reset,
    /// The head and that many bytes arrive, then the connection ends.
    Cut(usize),
    /// The same, without a length that would tell.
    CutUnseen(usize),
    /// A byte at a time, with this pause.
    Slow(Duration),
    /// Nothing arrives and the connection stays.
    Hang,
}

type Handler = dyn Fn(&Request) -> (Response, Delivery) + Send + Sync;

/// A running server.
pub(crate) struct Server {
    address: SocketAddr,
    handler: Arc<Handler>,
    open: Mutex<Option<Open>>,
}

/// The connections there are; one that is still here is not closed.
type Streams = Arc<Mutex<HashMap<usize, TcpStream>>>;

struct Open {
    stop: Arc<AtomicBool>,
    streams: Streams,
    thread: std::thread::JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open = Mutex::new(Some(accept(listener, handler.clone())));
        Self { address, handler, open }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses connections and ends those there are.
    pub(crate) fn down(&self) {
        let Some(open) = self.open.lock().unwrap().take() else { return };
        open.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        open.thread.join().unwrap();
        for (_, stream) in open.streams.lock().unwrap().drain() {
            // It may have ended by itself.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Listens again, at the same address.
    pub(crate) fn up(&self) {
        let mut open = self.open.lock().unwrap();
        if open.is_none() {
            let listener = TcpListener::bind(self.address).unwrap();
            *open = Some(accept(listener, self.handler.clone()));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.down();
    }
}

fn accept(listener: TcpListener, handler: Arc<Handler>) -> Open {
    let stop = Arc::new(AtomicBool::new(false));
    let streams = Streams::default();
    let (stopped, known) = (stop.clone(), streams.clone());
    let thread = std::thread::spawn(move || {
        for (id, stream) in listener.incoming().enumerate() {
            if stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            known.lock().unwrap().insert(id, stream.try_clone().unwrap());
            let (handler, known) = (handler.clone(), known.clone());
            std::thread::spawn(move || {
                converse(&stream, &*handler);
                known.lock().unwrap().remove(&id);
            });
        }
    });
    Open { stop, streams, thread }
}

/// Answers requests until the other end or a fault ends the connection.
fn converse(stream: &TcpStream, handler: &Handler) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader) {
        let (response, delivery) = handler(&request);
        if !deliver(stream, &response, delivery) {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut raw = Vec::new();
    let line = |raw: &mut Vec<u8>, reader: &mut BufReader<TcpStream>| {
        let mut bytes = Vec::new();
        reader.read_until(b'\n', &mut bytes).ok().filter(|n| *n > 0)?;
        raw.extend_from_slice(&bytes);
        Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    let first = line(&mut raw, reader)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let text = line(&mut raw, reader)?;
        let Some((name, value)) = text.split_once(':') else { break };
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let mut body = Vec::new();
    if header("transfer-encoding").is_some_and(|how| how.contains("chunked")) {
        loop {
            let size = line(&mut raw, reader)?;
            let size = usize::from_str_radix(size.split(';').next()?, 16).ok()?;
            let mut chunk = vec![0; size];
            reader.read_exact(&mut chunk).ok()?;
            line(&mut raw, reader)?;
            body.extend(chunk);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = header("content-length").and_then(|n| n.parse().ok()) {
        body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
    }
    raw.extend_from_slice(&body);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    Some(Request { method, path: path.to_owned(), query, headers, body, raw })
}

/// Percent-decoding.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether the connection goes on.
fn deliver(mut stream: &TcpStream, response: &Response, delivery: Delivery) -> bool {
    let mut head = format!("HTTP/1.1 {} X\r\n", response.status);
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let unseen = matches!(delivery, Delivery::CutUnseen(_));
    if unseen {
        head.push_str("connection: close\r\n\r\n");
    } else {
        head.push_str(&format!("content-length: {}\r\n\r\n", response.body.len()));
    }
    let body = &response.body[..];
    match delivery {
        Delivery::Whole => {
            let all = [head.as_bytes(), body].concat();
            stream.write_all(&all).is_ok()
        }
        Delivery::Reset => {
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
            false
        }
        Delivery::Cut(n) | Delivery::CutUnseen(n) => {
            let all = [head.as_bytes(), &body[..body.len().min(n)]].concat();
            drop(stream.write_all(&all));
            drop(stream.shutdown(Shutdown::Both));
            false
        }
        Delivery::Slow(pause) => {
            // The pause is the thing under test, not a wait for something.
            for byte in head.as_bytes().iter().chain(body) {
                if stream.write_all(&[*byte]).is_err() {
                    return false;
                }
                std::thread::sleep(pause);
            }
            true
        }
        Delivery::Hang => {
            // Until the other end gives up.
            drop(stream.read(&mut [0]));
            false
        }
    }
}
