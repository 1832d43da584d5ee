//! A client of the NBD protocol, as far as reading a disk takes: what of it is data, what is zeros,
//! what changed, and the bytes.
//!
//! Source: <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>. It blocks, so it is
//! for threads of its own; and it never writes to a disk.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a server may keep silent: storage that takes longer has failed.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// The most of a disk that is asked about at once, and a multiple of every block size.
const ASK_MAX: u64 = 1 << 30;
/// The longest answer that is taken: a status of 64 KiB clusters over [`ASK_MAX`], eight bytes each,
/// many times over.
const ANSWER_MAX: u32 = 32 << 20;

const OLD_MAGIC: u64 = 0x4e42_444d_4147_4943; // NBDMAGIC
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054; // IHAVEOPT
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const SIMPLE_REPLY: u32 = 0x6744_6698;
const STRUCTURED_REPLY: u32 = 0x668e_33ef;

const OPT_GO: u32 = 7;
const OPT_STRUCTURED_REPLY: u32 = 8;
const OPT_SET_META_CONTEXT: u32 = 10;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_META_CONTEXT: u32 = 4;
const REP_ERROR: u32 = 1 << 31;
const INFO_EXPORT: u16 = 0;

const CMD_READ: u16 = 0;
const CMD_DISC: u16 = 2;
const CMD_BLOCK_STATUS: u16 = 7;
const CHUNK_DONE: u16 = 1;
const CHUNK_NONE: u16 = 0;
const CHUNK_DATA: u16 = 1;
const CHUNK_HOLE: u16 = 2;
const CHUNK_STATUS: u16 = 5;
const CHUNK_ERROR: u16 = 1 << 15;

/// Of `base:allocation`: it reads as zeros.
const STATE_ZERO: u32 = 2;
/// Of `qemu:dirty-bitmap:NAME`: it changed (QEMU's docs/interop/nbd.rst).
const STATE_DIRTY: u32 = 1;

/// A part of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Whether it reads as zeros.
    pub(super) zero: bool,
    /// Whether it changed; always where there is no bitmap.
    pub(super) changed: bool,
}

/// A disk that a server has.
#[derive(Debug)]
pub(super) struct Export {
    stream: UnixStream,
    size: u64,
    allocation: Option<u32>,
    bitmap: Option<u32>,
    cookie: u64,
    /// Whether more of the answer to the last request is to come.
    awaits: bool,
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the NBD server: {}", what.into()))
}

impl Export {
    /// Connects, and asks for what a bitmap tells where one is named.
    pub(super) fn open(socket: &Path, name: &str, bitmap: Option<&str>) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        let mut this =
            Self { stream, size: 0, allocation: None, bitmap: None, cookie: 0, awaits: false };
        this.greet()?;
        this.contexts(name, bitmap)?;
        this.go(name)?;
        Ok(this)
    }

    /// The disk's size, bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    fn greet(&mut self) -> io::Result<()> {
        if self.u64()? != OLD_MAGIC || self.u64()? != OPTION_MAGIC {
            return Err(wrong("it speaks something else"));
        }
        let flags = self.u16()?;
        // Fixed newstyle, without 124 zeros at the end.
        let ours = u32::from(flags & 3);
        if ours & 1 == 0 {
            return Err(wrong("it speaks an old form of the protocol"));
        }
        self.stream.write_all(&ours.to_be_bytes())?;
        self.option(OPT_STRUCTURED_REPLY, &[])?;
        match self.reply(OPT_STRUCTURED_REPLY)? {
            (REP_ACK, _) => Ok(()),
            (kind, _) => Err(wrong(format!("it has no structured replies ({kind:#x})"))),
        }
    }

    fn contexts(&mut self, name: &str, bitmap: Option<&str>) -> io::Result<()> {
        let bitmap = bitmap.map(|bitmap| format!("qemu:dirty-bitmap:{bitmap}"));
        let queries: Vec<&str> =
            std::iter::once("base:allocation").chain(bitmap.as_deref()).collect();
        let mut data = text(name)?;
        data.extend(u32::try_from(queries.len()).map_err(io::Error::other)?.to_be_bytes());
        for query in &queries {
            data.extend(text(query)?);
        }
        self.option(OPT_SET_META_CONTEXT, &data)?;
        loop {
            let (kind, data) = self.reply(OPT_SET_META_CONTEXT)?;
            match kind {
                REP_ACK => break,
                REP_META_CONTEXT if data.len() >= 4 => {
                    let id = u32::from_be_bytes([data[0], data[1], data[2], data[3]]);
                    match &data[4..] {
                        b"base:allocation" => self.allocation = Some(id),
                        other if Some(other) == bitmap.as_deref().map(str::as_bytes) => {
                            self.bitmap = Some(id);
                        }
                        _ => {}
                    }
                }
                kind => return Err(wrong(format!("it tells no state of blocks ({kind:#x})"))),
            }
        }
        match bitmap {
            Some(bitmap) if self.bitmap.is_none() => Err(wrong(format!("it has no {bitmap}"))),
            _ => Ok(()),
        }
    }

    fn go(&mut self, name: &str) -> io::Result<()> {
        let mut data = text(name)?;
        data.extend(0u16.to_be_bytes());
        self.option(OPT_GO, &data)?;
        let mut size = None;
        loop {
            let (kind, data) = self.reply(OPT_GO)?;
            match (kind, &data[..]) {
                (REP_ACK, _) => break,
                (REP_INFO, [a, b, rest @ ..]) if u16::from_be_bytes([*a, *b]) == INFO_EXPORT => {
                    size = rest.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
                }
                (REP_INFO, _) => {}
                (kind, why) => {
                    let why = String::from_utf8_lossy(why);
                    return Err(wrong(format!("it refuses `{name}` ({kind:#x}): {why}")));
                }
            }
        }
        self.size = size.ok_or_else(|| wrong("it does not tell the disk's size"))?;
        Ok(())
    }

    /// What there is from `offset` on: extents without gaps, at least one, until some point before
    /// the end of the disk or at it.
    pub(super) fn extents(&mut self, offset: u64) -> io::Result<Vec<Extent>> {
        let length = (self.size - offset).min(ASK_MAX);
        let asked = u32::try_from(length).map_err(io::Error::other)?;
        if self.allocation.is_none() && self.bitmap.is_none() {
            return Ok(vec![Extent { offset, length, zero: false, changed: true }]);
        }
        self.request(CMD_BLOCK_STATUS, offset, asked)?;
        let (mut zeros, mut changes) = (None, None);
        while let Some((kind, data)) = self.chunk()? {
            if kind != CHUNK_STATUS || data.len() < 4 {
                continue;
            }
            let id = Some(u32::from_be_bytes([data[0], data[1], data[2], data[3]]));
            let told: Vec<(u64, u32)> = data[4..].chunks_exact(8).map(status).collect();
            if id == self.allocation {
                zeros = Some(told);
            } else if id == self.bitmap {
                changes = Some(told);
            }
        }
        let missing = || wrong("it tells nothing of the blocks that it was asked for");
        // Without the one everything is data; without the other everything changed.
        let all = |flags| vec![(length, flags)];
        let zeros = if self.allocation.is_some() { zeros.ok_or_else(missing)? } else { all(0) };
        let changes = match self.bitmap {
            Some(_) => changes.ok_or_else(missing)?,
            None => all(STATE_DIRTY),
        };
        let extents = laid_together(offset, length, &zeros, &changes);
        if extents.is_empty() { Err(missing()) } else { Ok(extents) }
    }

    /// Reads from `offset` on.
    pub(super) fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let length = u32::try_from(into.len()).map_err(io::Error::other)?;
        self.request(CMD_READ, offset, length)?;
        let mut got = 0;
        while let Some((kind, data)) = self.chunk()? {
            let Some((at, rest)) = data.split_first_chunk::<8>().filter(|_| kind != CHUNK_NONE)
            else {
                continue;
            };
            let at = u64::from_be_bytes(*at).checked_sub(offset);
            let at = at.and_then(|at| usize::try_from(at).ok());
            let length = match (kind, rest) {
                (CHUNK_DATA, rest) => rest.len(),
                (CHUNK_HOLE, &[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]) as usize,
                _ => return Err(wrong(format!("it answers a read with {kind}"))),
            };
            let place = at.and_then(|at| into.get_mut(at..at.checked_add(length)?));
            let place = place.ok_or_else(|| wrong("it sends what was not asked for"))?;
            if kind == CHUNK_DATA {
                place.copy_from_slice(rest)
            } else {
                place.fill(0)
            }
            got += length;
        }
        if got == into.len() { Ok(()) } else { Err(wrong("it sends less than was asked for")) }
    }

    /// Says goodbye; the server needs none.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.request(CMD_DISC, 0, 0)
    }

    fn option(&mut self, option: u32, data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        let mut all = OPTION_MAGIC.to_be_bytes().to_vec();
        all.extend(option.to_be_bytes());
        all.extend(length.to_be_bytes());
        all.extend(data);
        self.stream.write_all(&all)
    }

    fn reply(&mut self, option: u32) -> io::Result<(u32, Vec<u8>)> {
        if self.u64()? != OPTION_REPLY || self.u32()? != option {
            return Err(wrong("it answers something else"));
        }
        let kind = self.u32()?;
        let data = self.bytes()?;
        if kind & REP_ERROR != 0 {
            let why = String::from_utf8_lossy(&data).into_owned();
            return Err(wrong(format!("it refuses ({:#x}): {why}", kind & !REP_ERROR)));
        }
        Ok((kind, data))
    }

    fn request(&mut self, command: u16, offset: u64, length: u32) -> io::Result<()> {
        self.cookie += 1;
        self.awaits = true;
        let mut all = REQUEST.to_be_bytes().to_vec();
        all.extend(0u16.to_be_bytes());
        all.extend(command.to_be_bytes());
        all.extend(self.cookie.to_be_bytes());
        all.extend(offset.to_be_bytes());
        all.extend(length.to_be_bytes());
        self.stream.write_all(&all)
    }

    /// The next part of the answer to the last request; `None` after the last one.
    fn chunk(&mut self) -> io::Result<Option<(u16, Vec<u8>)>> {
        if !self.awaits {
            return Ok(None);
        }
        let magic = self.u32()?;
        if magic == SIMPLE_REPLY {
            let error = self.u32()?;
            return Err(wrong(format!("it fails with error {error}")));
        }
        if magic != STRUCTURED_REPLY {
            return Err(wrong("it answers something else"));
        }
        let (flags, kind) = (self.u16()?, self.u16()?);
        if self.u64()? != self.cookie {
            return Err(wrong("it answers another request"));
        }
        let data = self.bytes()?;
        if kind & CHUNK_ERROR != 0 {
            let error = data.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
            let said = data.get(6..).unwrap_or_default();
            let said = String::from_utf8_lossy(said);
            return Err(wrong(format!("it cannot read the disk (error {error}): {said}")));
        }
        self.awaits = flags & CHUNK_DONE == 0;
        Ok(Some((kind, data)))
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.u32()?;
        if length > ANSWER_MAX {
            return Err(wrong(format!("an answer has {length} bytes")));
        }
        let mut data = vec![0; length as usize];
        self.stream.read_exact(&mut data)?;
        Ok(data)
    }

    fn u16(&mut self) -> io::Result<u16> {
        let mut bytes = [0; 2];
        self.stream.read_exact(&mut bytes).map(|()| u16::from_be_bytes(bytes))
    }

    fn u32(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.stream.read_exact(&mut bytes).map(|()| u32::from_be_bytes(bytes))
    }

    fn u64(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.stream.read_exact(&mut bytes).map(|()| u64::from_be_bytes(bytes))
    }
}

fn text(text: &str) -> io::Result<Vec<u8>> {
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    Ok(length.to_be_bytes().into_iter().chain(text.bytes()).collect())
}

fn status(bytes: &[u8]) -> (u64, u32) {
    let number = |bytes: &[u8]| bytes.iter().fold(0u32, |sum, b| sum << 8 | u32::from(*b));
    (u64::from(number(&bytes[..4])), number(&bytes[4..]))
}

/// Two tellings of the same blocks as one, as far as both go.
fn laid_together(
    offset: u64,
    length: u64,
    zeros: &[(u64, u32)],
    changes: &[(u64, u32)],
) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::new();
    let (mut zeros, mut changes) = (zeros.iter().copied(), changes.iter().copied());
    let (mut zero, mut change) = (zeros.next(), changes.next());
    let mut at = 0;
    while let (Some((a, flags)), Some((b, dirty))) = (zero, change) {
        let step = a.min(b).min(length - at);
        if step == 0 && at == length {
            break;
        }
        let (is_zero, changed) = (flags & STATE_ZERO != 0, dirty & STATE_DIRTY != 0);
        match extents.last_mut() {
            Some(last) if (last.zero, last.changed) == (is_zero, changed) => last.length += step,
            _ if step > 0 => {
                extents.push(Extent { offset: offset + at, length: step, zero: is_zero, changed })
            }
            _ => {}
        }
        at += step;
        zero = if a > step { Some((a - step, flags)) } else { zeros.next() };
        change = if b > step { Some((b - step, dirty)) } else { changes.next() };
    }
    extents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tellings_are_one_as_far_as_both_go() {
        let told = |zeros: &[(u64, u32)], changes: &[(u64, u32)]| -> Vec<_> {
            let laid = laid_together(100, 50, zeros, changes);
            laid.iter().map(|it| (it.offset, it.length, it.zero, it.changed)).collect()
        };
        assert_eq!(told(&[(50, 0)], &[(50, 1)]), [(100, 50, false, true)]);
        assert_eq!(
            told(&[(10, 3), (40, 0)], &[(20, 0), (5, 1), (25, 0)]),
            [
                (100, 10, true, false),
                (110, 10, false, false),
                (120, 5, false, true),
                (125, 25, false, false)
            ]
        );
        // One ends earlier, the other goes beyond what was asked.
        assert_eq!(told(&[(10, 0)], &[(90, 0)]), [(100, 10, false, false)]);
        assert_eq!(told(&[(90, 2)], &[(90, 1)]), [(100, 50, true, true)]);
        assert_eq!(told(&[], &[(90, 1)]), []);
        assert_eq!(told(&[(10, 0), (0, 2), (10, 0)], &[(20, 1)]), [(100, 20, false, true)]);
    }
}
