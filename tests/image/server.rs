//! A tiny HTTP server that misbehaves on purpose.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What the server does to one request.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// Serves what is asked for.
    Whole,
    /// Serves that many bytes of it, then closes.
    Cut(usize),
    /// Serves that many bytes of it, then says nothing more.
    Stall(usize),
    /// Serves all, whatever range was asked for.
    NoRanges,
    /// This status, without a body.
    Status(u16),
}

pub(crate) struct Server {
    pub url: String,
    /// Body bytes sent, over all requests.
    pub served: Arc<AtomicU64>,
    /// First byte asked for, a request each.
    pub asked: Arc<Mutex<Vec<u64>>>,
}

/// Serves `body`; the last answer is given to every further request.
pub(crate) fn serve(body: Vec<u8>, answers: &[Answer]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server {
        url: format!("http://{}/image.qcow2", listener.local_addr().unwrap()),
        served: Arc::default(),
        asked: Arc::default(),
    };
    let (served, asked) = (server.served.clone(), server.asked.clone());
    let answers = answers.to_vec();
    std::thread::spawn(move || {
        let mut stalled = Vec::new();
        for (n, stream) in listener.incoming().enumerate() {
            let answer = *answers.get(n).unwrap_or(answers.last().unwrap());
            let mut stream = stream.unwrap();
            let from = range(&stream);
            asked.lock().unwrap().push(from);
            let sent = reply(&mut stream, &body, from as usize, answer);
            served.fetch_add(sent as u64, Ordering::SeqCst);
            if matches!(answer, Answer::Stall(_)) {
                stalled.push(stream);
            }
        }
    });
    server
}

/// The first byte asked for.
fn range(stream: &TcpStream) -> u64 {
    let mut from = 0;
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        }
    }
    from
}

fn reply(stream: &mut TcpStream, body: &[u8], from: usize, answer: Answer) -> usize {
    let (from, limit) = match answer {
        Answer::Whole => (from, usize::MAX),
        Answer::Cut(n) | Answer::Stall(n) => (from, n),
        Answer::NoRanges => (0, usize::MAX),
        Answer::Status(status) => {
            write!(
                stream,
                "HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            .unwrap();
            return 0;
        }
    };
    let rest = &body[from..];
    let head = match from {
        0 => "HTTP/1.1 200 OK\r\n".to_owned(),
        _ => {
            let (last, all) = (body.len() - 1, body.len());
            format!("HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-{last}/{all}\r\n")
        }
    };
    let length = rest.len();
    write!(stream, "{head}content-length: {length}\r\nconnection: close\r\n\r\n").unwrap();
    let part = &rest[..rest.len().min(limit)];
    // A client may hang up in the middle, which is its right.
    match stream.write_all(part) {
        Ok(()) => part.len(),
        Err(_) => 0,
    }
}
