//! Cutting a segment into lines with one buffer that is reused.
//!
//! It never looks into a line and never holds more than one line and a chunk in memory.

use std::fs::File;
use std::io;
use std::path::Path;

use super::disk;
use crate::event::envelope::LINE_BYTES_MAX;

/// How much is read at once: the point from which larger reads gain nothing.
const CHUNK_BYTES: usize = 128 * 1024;

/// What stands at the current place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A whole line.
    Line,
    /// The end of the file; more may be written later.
    End,
    /// That many bytes without a newline, then the end of the file.
    Partial(u64),
    /// No newline within the longest possible line.
    TooLong,
}

/// A file read line by line.
pub(crate) struct Lines {
    file: File,
    buffer: Vec<u8>,
    /// The buffer's bytes not yet handed out, the current line excluded.
    start: usize,
    end: usize,
    /// The current line in the buffer, without its newline.
    line: (usize, usize),
    /// Offset in the file of the buffer's first byte.
    base: u64,
    /// Number of the current line, from 1 at the place where reading began.
    number: u64,
}

impl Lines {
    /// Starts at byte `offset`, which must be the start of a line.
    pub(crate) fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self {
            file,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            line: (0, 0),
            base: offset,
            number: 0,
        })
    }

    /// Goes to the next line. After anything but [`Step::Line`] the place is unchanged.
    pub(crate) fn advance(&mut self) -> io::Result<Step> {
        let mut searched = self.start;
        loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buffer[searched..self.end]) {
                self.line = (self.start, searched + found);
                self.start = searched + found + 1;
                self.number += 1;
                return Ok(Step::Line);
            }
            let pending = self.end - self.start;
            if pending > LINE_BYTES_MAX {
                return Ok(Step::TooLong);
            }
            let read = self.fill()?;
            searched = self.start + pending;
            if read == 0 {
                // A writer that ran out of space takes a partial line back: it is read afresh.
                self.end = self.start;
                return Ok(if pending == 0 { Step::End } else { Step::Partial(pending as u64) });
            }
        }
    }

    /// Moves what is left to the front and reads a chunk behind it.
    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        self.line = (0, 0);
        if self.buffer.len() < self.end + CHUNK_BYTES {
            self.buffer.resize(self.end + CHUNK_BYTES, 0);
        }
        let free = &mut self.buffer[self.end..];
        let read = disk::read_at(&self.file, free, self.base + self.end as u64)?;
        self.end += read;
        Ok(read)
    }

    /// The current line without its newline.
    pub(crate) fn line(&self) -> &[u8] {
        &self.buffer[self.line.0..self.line.1]
    }

    /// The current line's offset in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.line.0 as u64
    }

    /// The offset behind the current line.
    pub(crate) fn next_offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// The current line's number.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}
