//! What a producer sends a worker on its standard input: a stream in frames, and an image as extents.
//!
//! A stream is only complete with its end mark, so that a producer that died is not taken for one
//! that was done.

use std::io::{self, Read, Write};

/// One frame of a stream: large enough to cost nothing, small enough to hold.
pub(crate) const FRAME_MAX: u32 = 1024 * 1024;

/// Writes a stream for a worker, in frames: a stream that ends without [`FeedWriter::finish`] leaves no
/// snapshot.
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

/// Writes an image for a worker (`Source::Image`): only the extents that are not what the base has,
/// or, without a base, that are not zeros.
///
/// Extents come in ascending order and do not overlap. Each is a kind (1: data, 2: zeros), an offset
/// and a length (64 bits each, big endian), and its bytes if it is data; all of it within a
/// [`FeedWriter`]'s stream.
#[derive(Debug)]
pub struct ImageWriter<W: Write> {
    feed: FeedWriter<W>,
}

impl<W: Write> ImageWriter<W> {
    /// An image that goes to a worker's standard input, after the request and the password.
    pub fn new(inner: W) -> Self {
        ImageWriter { feed: FeedWriter::new(inner) }
    }

    fn extent(&mut self, kind: Kind, offset: u64, length: u64) -> io::Result<()> {
        let mut header = [0; HEADER_BYTES];
        header[0] = kind as u8;
        header[1..9].copy_from_slice(&offset.to_be_bytes());
        header[9..].copy_from_slice(&length.to_be_bytes());
        self.feed.write_all(&header)
    }

    /// From `offset` on these bytes.
    ///
    /// # Errors
    /// The worker does not read any more.
    pub fn data(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.extent(Kind::Data, offset, bytes.len() as u64)?;
        self.feed.write_all(bytes)
    }

    /// From `offset` on so many zeros.
    ///
    /// # Errors
    /// The worker does not read any more.
    pub fn zeros(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.extent(Kind::Zeros, offset, length)
    }

    /// Says that there are no more extents.
    ///
    /// # Errors
    /// The worker does not read any more.
    pub fn finish(self) -> io::Result<W> {
        self.feed.finish()
    }
}

/// Kind, offset, length.
const HEADER_BYTES: usize = 17;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data = 1,
    Zeros = 2,
}

#[derive(Debug, Clone, Copy)]
struct Extent {
    kind: Kind,
    offset: u64,
    length: u64,
}

/// The other end of an [`ImageWriter`], read piece by piece in ascending order.
pub(crate) struct Extents<R> {
    feed: R,
    size: u64,
    /// What is left of the extent at hand.
    now: Option<Extent>,
    /// The end of the last one.
    end: u64,
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl<R: Read> Extents<R> {
    /// The extents of an image of `size` bytes.
    pub(crate) fn new(feed: R, size: u64) -> Self {
        Extents { feed, size, now: None, end: 0 }
    }

    /// The extent at hand, or the next one; none at the end.
    fn peek(&mut self) -> io::Result<Option<Extent>> {
        while self.now.is_none() {
            let mut header = [0; HEADER_BYTES];
            if self.feed.read(&mut header[..1])? == 0 {
                return Ok(None);
            }
            self.feed.read_exact(&mut header[1..])?;
            let number = |bytes: &[u8]| {
                bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
            };
            let (offset, length) = (number(&header[1..9]), number(&header[9..]));
            let kind = match header[0] {
                1 => Kind::Data,
                2 => Kind::Zeros,
                _ => return Err(wrong("an extent has an unknown kind")),
            };
            let end = offset.checked_add(length).filter(|end| *end <= self.size);
            let end = end.ok_or_else(|| wrong("an extent ends behind the end of the image"))?;
            if offset < self.end {
                return Err(wrong("an extent begins before the end of the last one"));
            }
            self.end = end;
            self.now = (length > 0).then_some(Extent { kind, offset, length });
        }
        Ok(self.now)
    }

    /// Lays what comes for `piece`, which begins at `at`, over it: the parts of it that were written,
    /// in order.
    pub(crate) fn lay(
        &mut self,
        at: u64,
        length: u64,
        piece: &mut Vec<u8>,
    ) -> io::Result<Vec<(usize, usize)>> {
        let mut laid = Vec::new();
        let place = |offset: u64| usize::try_from(offset - at).map_err(io::Error::other);
        while let Some(extent) = self.peek()?.filter(|extent| extent.offset < at + length) {
            // Pieces are laid without gaps between them, so that none of it lies before.
            let end = (extent.offset + extent.length).min(at + length);
            let (from, to) = (place(extent.offset)?, place(end)?);
            if piece.is_empty() {
                piece.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
            }
            match extent.kind {
                Kind::Data => self.feed.read_exact(&mut piece[from..to])?,
                Kind::Zeros => piece[from..to].fill(0),
            }
            laid.push((from, to));
            let left = extent.offset + extent.length - end;
            self.now = (left > 0).then_some(Extent { offset: end, length: left, ..extent });
        }
        Ok(laid)
    }

    /// Reads to the end, where nothing may be left.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match self.peek()? {
            None => Ok(()),
            Some(_) => Err(wrong("an extent is left over")),
        }
    }
}

/// Standard input once nothing more is expected from it but its end.
pub(crate) struct Watch<R, G> {
    pub(crate) input: R,
    pub(crate) gone: G,
}

impl<R: Read + Send + 'static, G: FnOnce() + Send + 'static> Watch<R, G> {
    pub(crate) fn start(mut self) {
        std::thread::spawn(move || {
            // What comes is of no meaning; an error is an end as well.
            drop(io::copy(&mut self.input, &mut io::sink()));
            (self.gone)();
        });
    }
}

/// The other end of a [`FeedWriter`]. After the end mark the input is watched for its end.
pub(crate) struct FeedReader<R, G> {
    /// None after the end mark.
    inner: Option<Watch<R, G>>,
    /// Bytes of the frame at hand.
    left: u32,
}

impl<R, G> FeedReader<R, G> {
    pub(crate) fn new(watch: Watch<R, G>) -> Self {
        FeedReader { inner: Some(watch), left: 0 }
    }
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
        FeedReader::new(Watch { input, gone: || () }).read_to_end(&mut all)?;
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

    /// What becomes of an image of sevens, in pieces of `step`.
    fn laid(
        size: u64,
        step: u64,
        write: impl Fn(&mut ImageWriter<Vec<u8>>),
    ) -> io::Result<Vec<u8>> {
        let mut writer = ImageWriter::new(Vec::new());
        write(&mut writer);
        let sent = read(&writer.finish().expect("memory takes it")).expect("it is whole");
        let mut extents = Extents::new(&sent[..], size);
        let mut image = Vec::new();
        let mut at = 0;
        while at < size {
            let length = step.min(size - at);
            let mut piece = Vec::new();
            let parts = extents.lay(at, length, &mut piece)?;
            let mut whole = vec![7; usize::try_from(length).expect("small")];
            for (from, to) in parts {
                whole[from..to].copy_from_slice(&piece[from..to]);
            }
            image.extend(whole);
            at += length;
        }
        extents.finish()?;
        Ok(image)
    }

    #[test]
    fn extents_land_where_they_belong_however_the_image_is_cut() {
        for step in 1..=20 {
            let image = laid(16, step, |writer| {
                writer.data(1, &[1, 2]).expect("memory");
                writer.data(3, &[]).expect("memory");
                writer.zeros(3, 6).expect("memory");
                writer.data(12, &[3; 4]).expect("memory");
            });
            assert_eq!(
                image.expect("it is right"),
                [7, 1, 2, 0, 0, 0, 0, 0, 0, 7, 7, 7, 3, 3, 3, 3],
                "step {step}"
            );
        }
    }

    #[test]
    fn extents_out_of_order_or_beyond_the_end_are_refused() {
        type Write = fn(&mut ImageWriter<Vec<u8>>) -> io::Result<()>;
        let wrong: [Write; 4] = [
            |writer| writer.data(15, &[1, 2]),
            |writer| writer.zeros(u64::MAX, 2),
            |writer| writer.data(4, &[1, 2]).and_then(|()| writer.data(5, &[3])),
            |writer| writer.data(4, &[1, 2]).and_then(|()| writer.zeros(0, 1)),
        ];
        for write in wrong {
            assert!(laid(16, 4, |writer| write(writer).expect("memory")).is_err());
        }
    }
}
