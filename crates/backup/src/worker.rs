//! The worker: one request on standard input, lines on standard output, and the end.
//!
//! The parent keeps standard input open until the last line: its end means that the parent is gone or
//! cancels, and the worker ends at once, wherever it is. Standard error is for what the library has to
//! say to developers; what users must know is in the last line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::{self, Feed};
use crate::feed::{FRAME_MAX, FeedReader, Watch};
use crate::protocol::{Action, Backup, Fault, KeySource, Message, Request, Source};
use crate::store;

/// A request is a few hundred bytes; more is not one.
const REQUEST_MAX: u64 = 1024 * 1024;
/// A password, by the line.
const PASSWORD_MAX: u64 = 4096;

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
        Action::Backup(Backup {
            source: Source::Stream { .. } | Source::Image { .. } | Source::Images { .. },
            ..
        }) => Some(Box::new(FeedReader::new(watch))),
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

#[cfg(test)]
mod tests {
    use super::*;

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
