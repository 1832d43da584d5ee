//! The worker: one request on standard input, lines on standard output, and the end.
//!
//! The parent keeps standard input open until the last line: its end means that the parent is gone or
//! cancels, and the worker ends at once, wherever it is. Standard error is for what the library has to
//! say to developers; what users must know is in the last line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::{self, Feed};
use crate::protocol::{Action, Backup, Fault, KeySource, Message, Request, Source};
use crate::store;

/// A request is a few hundred bytes; more is not one.
const REQUEST_MAX: u64 = 1024 * 1024;
/// A password, by the line.
const PASSWORD_MAX: u64 = 4096;
/// One frame of a stream: large enough to cost nothing, small enough to hold.
const FRAME_MAX: u32 = 1024 * 1024;

/// Reads a request from `input`, does it, and writes what comes of it to `output`; whether it
/// succeeded. `gone` is called, on another thread, when `input` ends: it ends the process, or the job
/// is done for nobody.
///
/// # Errors
/// The parent does not read any more.
pub fn serve(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    gone: impl FnOnce() + Send + 'static,
) -> io::Result<bool> {
    let output = Arc::new(Mutex::new(output));
    let lines = Arc::clone(&output);
    let say = move |progress| {
        // A parent that is gone is noticed at the last line; and the kernel tells us earlier.
        drop(line(&lines, &Message::Progress(progress)));
    };
    let (last, good) = match take(input, say, gone) {
        Ok(outcome) => (Message::Outcome(Box::new(outcome)), true),
        Err(fault) => (Message::Fault(fault), false),
    };
    line(&output, &last)?;
    Ok(good)
}

fn line(output: &Mutex<impl Write>, message: &Message) -> io::Result<()> {
    let mut text = serde_json::to_vec(message)?;
    text.push(b'\n');
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    output.write_all(&text)?;
    output.flush()
}

fn take(
    input: impl Read + Send + 'static,
    say: impl Fn(crate::protocol::Progress) + Send + Sync + 'static,
    gone: impl FnOnce() + Send + 'static,
) -> Result<crate::protocol::Outcome, Fault> {
    let invalid = |what: String| Fault::Invalid { what };
    let mut input = BufReader::with_capacity(FRAME_MAX as usize, input);
    let mut text = String::new();
    (&mut input)
        .take(REQUEST_MAX)
        .read_line(&mut text)
        .map_err(|error| invalid(format!("it cannot be read: {error}")))?;
    let request: Request =
        serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    let password = password(&request.key, &mut input)?;
    let watch = Watch { input, gone };
    let feed: Option<Feed> = match &request.action {
        Action::Backup(Backup { source: Source::Stream { .. }, .. }) => {
            Some(Box::new(FeedReader { inner: Some(watch), left: 0 }))
        }
        _ => {
            watch.start();
            None
        }
    };
    engine::run(&request, &password, feed, say)
}

fn password(source: &KeySource, input: &mut impl BufRead) -> Result<String, Fault> {
    match source {
        KeySource::File { path } => {
            let from = Path::display(path).to_string();
            store::private_line(path).map_err(|why| Fault::KeyUnreadable { from, why })
        }
        KeySource::Stdin => {
            let unreadable =
                |why: String| Fault::KeyUnreadable { from: "standard input".into(), why };
            let mut line = String::new();
            let read = input.take(PASSWORD_MAX).read_line(&mut line);
            read.map_err(|error| unreadable(error.to_string()))?;
            let password = line.trim_end_matches('\n');
            if password.is_empty() {
                return Err(unreadable("it is empty".into()));
            }
            Ok(password.to_owned())
        }
    }
}

/// Writes a stream for a worker, in frames: a stream that ends without [`FeedWriter::finish`] leaves no
/// snapshot, so that a producer that died is not taken for one that was done.
///
/// A frame is its length (32 bits, big endian) and so many bytes; one of length zero is the end.
#[derive(Debug)]
pub struct FeedWriter<W: Write> {
    inner: W,
}

impl<W: Write> FeedWriter<W> {
    /// A stream that goes to a worker's standard input, after the request and the password.
    pub fn new(inner: W) -> Self {
        FeedWriter { inner }
    }

    /// Says that the stream is complete.
    ///
    /// # Errors
    /// The worker does not read any more.
    pub fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&0u32.to_be_bytes())?;
        self.inner.flush()?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for FeedWriter<W> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let length = from.len().min(FRAME_MAX as usize);
        let Some(frame) = u32::try_from(length).ok().filter(|length| *length > 0) else {
            return Ok(0);
        };
        self.inner.write_all(&frame.to_be_bytes())?;
        self.inner.write_all(&from[..length])?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Standard input once nothing more is expected from it but its end.
struct Watch<R, G> {
    input: R,
    gone: G,
}

impl<R: Read + Send + 'static, G: FnOnce() + Send + 'static> Watch<R, G> {
    fn start(mut self) {
        std::thread::spawn(move || {
            // What comes is of no meaning; an error is an end as well.
            drop(io::copy(&mut self.input, &mut io::sink()));
            (self.gone)();
        });
    }
}

/// The other end of a [`FeedWriter`]. After the end mark the input is watched for its end.
struct FeedReader<R, G> {
    /// None after the end mark.
    inner: Option<Watch<R, G>>,
    /// Bytes of the frame at hand.
    left: u32,
}

impl<R: Read + Send + 'static, G: FnOnce() + Send + 'static> Read for FeedReader<R, G> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let broken = |why: &str| io::Error::new(io::ErrorKind::UnexpectedEof, why.to_owned());
        let Some(watch) = self.inner.as_mut().filter(|_| !into.is_empty()) else { return Ok(0) };
        if self.left == 0 {
            let mut length = [0; 4];
            let read = watch.input.read_exact(&mut length);
            read.map_err(|_| broken("the stream ended without its end mark"))?;
            self.left = u32::from_be_bytes(length);
            if self.left > FRAME_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no frame"));
            }
            if self.left == 0 {
                if let Some(watch) = self.inner.take() {
                    watch.start();
                }
                return Ok(0);
            }
        }
        let most = into.len().min(self.left as usize);
        let read = watch.input.read(&mut into[..most])?;
        if read == 0 {
            return Err(broken("the stream ended within a frame"));
        }
        self.left -= u32::try_from(read).unwrap_or(self.left);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let input = io::Cursor::new(bytes.to_vec());
        FeedReader { inner: Some(Watch { input, gone: || () }), left: 0 }.read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn a_stream_comes_out_as_it_went_in() {
        let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let mut writer = FeedWriter::new(Vec::new());
        writer.write_all(&content).expect("memory takes it");
        let framed = writer.finish().expect("memory takes it");
        assert_eq!(read(&framed).expect("it is whole"), content);
    }

    #[test]
    fn a_stream_that_breaks_off_is_an_error_wherever_it_breaks() {
        let mut writer = FeedWriter::new(Vec::new());
        writer.write_all(b"hello").expect("memory takes it");
        let framed = writer.finish().expect("memory takes it");
        for length in 0..framed.len() {
            assert!(read(&framed[..length]).is_err(), "{length} of {} bytes", framed.len());
        }
        assert!(read(&[0xff; 8]).is_err());
    }

    #[test]
    fn what_is_no_request_is_said() {
        for text in ["", "{}", "not json", "{\"target\":{\"local\":{\"path\":\"/r\"}},\"x\":1}"] {
            let output = Arc::new(Mutex::new(Vec::new()));
            struct Shared(Arc<Mutex<Vec<u8>>>);
            impl Write for Shared {
                fn write(&mut self, from: &[u8]) -> io::Result<usize> {
                    self.0.lock().expect("nobody panics").extend(from);
                    Ok(from.len())
                }
                fn flush(&mut self) -> io::Result<()> {
                    Ok(())
                }
            }
            let good = serve(text.as_bytes(), Shared(Arc::clone(&output)), || ()).expect("memory");
            let said = String::from_utf8(output.lock().expect("nobody panics").clone());
            assert!(!good && said.expect("text").starts_with("{\"fault\":{\"invalid\""));
        }
    }
}
