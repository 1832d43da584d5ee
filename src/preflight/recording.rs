//! A recording: what a look at a machine read, as one text file that can be sent with a bug report.
//!
//! It holds the lines that checks used and nothing else of the files they are in. The first line is
//! [`HEADER`]; then `file PATH` with the content behind `| `, `hex PATH DIGITS` for what is no text,
//! `link PATH -> TARGET`, and `node PATH` for what only has to be there. `#` begins a comment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use super::probe::{PROBES_PATH, Probes};
use super::root::{Root, Seen};

/// The first line of a recording.
pub const HEADER: &str = "# trueup preflight recording 1";
/// Largest recording taken, in bytes; one of a host with hundreds of PCI devices has some 500 KiB.
pub const RECORDING_BYTES_MAX: u64 = 16 << 20;

/// A recording cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It is something else.
    #[error("this is no recording: its first line is not `{HEADER}`")]
    Foreign,
    /// A line is not understood.
    #[error("line {line} of the recording: {what}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// The tree cannot be written.
    #[error("{path}: cannot be written")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Root {
    /// Everything that was read so far, and the answers of the machine, as a recording.
    ///
    /// # Errors
    /// Where the answers have no JSON form, which they always have.
    pub fn recording(&self, probes: &Probes) -> Result<String, serde_json::Error> {
        let mut seen = self.seen();
        let probes = serde_json::to_string_pretty(probes)?.into_bytes();
        seen.insert(PROBES_PATH.to_owned(), Seen::File(probes));
        Ok(write(&seen))
    }
}

fn write(seen: &BTreeMap<String, Seen>) -> String {
    let mut text = format!("{HEADER}\n");
    for (path, seen_at) in seen {
        // A name with a line end would be two lines, and none that is looked for has one.
        if path.contains('\n') {
            continue;
        }
        let line = match seen_at {
            Seen::Node => {
                let folder = format!("{path}/");
                let next = seen.range(folder.clone()..).next();
                if next.is_some_and(|(below, _)| below.starts_with(&folder)) {
                    continue;
                }
                format!("node /{path}\n")
            }
            Seen::Link(target) => format!("link /{path} -> {}\n", target.replace('\n', "?")),
            Seen::File(bytes) => file(path, bytes),
        };
        text.push_str(&line);
    }
    text
}

fn file(path: &str, bytes: &[u8]) -> String {
    let plain = |c: char| !c.is_control() || c == '\n' || c == '\t';
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(plain) => {
            let mut out = format!("file /{path}\n");
            for line in text.lines() {
                // Writing into a string does not fail; `write!` says so nowhere but in its type.
                if writeln!(out, "| {line}").is_err() {
                    break;
                }
            }
            out
        }
        _ => format!("hex /{path} {}\n", hex::encode(bytes)),
    }
}

/// Writes the tree of a recording below `folder`, which should be empty.
///
/// # Errors
/// [`RecordingError`] with the line that is wrong, or the file that cannot be written.
pub fn unpack(recording: &str, folder: &Path) -> Result<(), RecordingError> {
    let mut lines = recording.lines().enumerate().peekable();
    if lines.next().is_none_or(|(_, line)| line.trim_end() != HEADER) {
        return Err(RecordingError::Foreign);
    }
    while let Some((at, line)) = lines.next() {
        let wrong = |what: &str| RecordingError::Line { line: at + 1, what: what.to_owned() };
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(' ').ok_or_else(|| wrong("it has no path"))?;
        let place = |path: &str| below(folder, path.trim_end()).ok_or_else(|| wrong("a bad path"));
        match word {
            "node" => put(folder, &place(rest)?, b"")?,
            "file" => {
                let mut content = String::new();
                while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with('|')) {
                    content.push_str(line.strip_prefix("| ").unwrap_or(&line[1..]));
                    content.push('\n');
                }
                put(folder, &place(rest)?, content.as_bytes())?;
            }
            "hex" => {
                let (path, digits) = rest.split_once(' ').ok_or_else(|| wrong("no digits"))?;
                let bytes = hex::decode(digits.trim()).map_err(|_| wrong("bad digits"))?;
                put(folder, &place(path)?, &bytes)?;
            }
            "link" => {
                let (path, target) =
                    rest.split_once(" -> ").ok_or_else(|| wrong("no target of the link"))?;
                link(folder, &place(path)?, target)?;
            }
            _ => return Err(wrong("it begins with neither file, hex, link nor node")),
        }
    }
    Ok(())
}

/// `path` below `folder`; none where it would lead out of it.
fn below(folder: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path.strip_prefix('/')?);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && path.components().next().is_some()).then(|| folder.join(path))
}

fn put(folder: &Path, path: &Path, content: &[u8]) -> Result<(), RecordingError> {
    make_parent(folder, path)?;
    std::fs::write(path, content).map_err(|source| failed(path, source))
}

fn link(folder: &Path, path: &Path, target: &str) -> Result<(), RecordingError> {
    make_parent(folder, path)?;
    std::os::unix::fs::symlink(target, path).map_err(|source| failed(path, source))
}

/// Makes the folders above a path. None of them may be a link: it could lead out of the tree.
fn make_parent(folder: &Path, path: &Path) -> Result<(), RecordingError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let mut above = path.ancestors().take_while(|above| *above != folder);
    if let Some(link) = above.find(|above| above.is_symlink()) {
        let source = std::io::Error::other("a symbolic link of the recording is in the way");
        return Err(failed(link, source));
    }
    std::fs::create_dir_all(parent).map_err(|source| failed(parent, source))
}

fn failed(path: &Path, source: std::io::Error) -> RecordingError {
    RecordingError::Write { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_reads_the_same() {
        let seen = BTreeMap::from([
            ("dev/kvm".to_owned(), Seen::Node),
            ("sys".to_owned(), Seen::Node),
            ("sys/a".to_owned(), Seen::File(b"1\n\n2\n".to_vec())),
            ("sys/b".to_owned(), Seen::File(vec![6, 0, 0, 0, 1])),
            ("sys/c".to_owned(), Seen::Link("../../x y".to_owned())),
        ]);
        let folder = tempfile::tempdir().unwrap();
        unpack(&write(&seen), folder.path()).unwrap();
        let root = Root::open(folder.path()).unwrap();
        assert!(root.exists("dev/kvm"));
        assert_eq!(root.bytes("sys/a").unwrap(), b"1\n\n2\n");
        assert_eq!(root.bytes("sys/b").unwrap(), [6, 0, 0, 0, 1]);
        assert_eq!(root.link("sys/c").unwrap(), "../../x y");
    }

    #[test]
    fn a_recording_writes_nowhere_else() {
        for bad in [
            "node /../x",
            "node x",
            "node /",
            "link /a -> /etc\nfile /a/passwd\n| root",
            "link /a -> /etc/passwd\nfile /a\n| root",
            "hex /a zz",
            "fifo /a",
            "file",
        ] {
            let folder = tempfile::tempdir().unwrap();
            assert!(unpack(&format!("{HEADER}\n{bad}\n"), folder.path()).is_err(), "{bad}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(unpack("#!/bin/sh\n", folder.path()), Err(RecordingError::Foreign)));
    }
}
