//! trueup's own state, made ready to be saved: every segment of the log that is closed, and of the one
//! that is written only its whole lines.
//!
//! Nothing is copied that a hard link can stand for, and nothing of the log itself is changed.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::OwnPlaces;
use crate::provider::paths::{named, private, remove};

/// Makes the log ready in `folder`, and says what is to be saved: that folder, what the log names, the
/// config and the mirror, as far as they are there.
///
/// # Errors
/// Something cannot be read or written; the path is in the error.
pub(super) fn make_ready(own: &OwnPlaces, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let ready = folder.join("log");
    remove(&ready)?;
    private(&ready)?;
    let mut segments: Vec<PathBuf> = Vec::new();
    let failed = |error: io::Error| named(&own.log, &error);
    for entry in fs::read_dir(&own.log).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // What has another name is being made, or is none of the log's.
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            segments.push(path);
        }
    }
    segments.sort();
    let newest = segments.pop();
    for segment in &segments {
        let Some(name) = segment.file_name() else { continue };
        let to = ready.join(name);
        if fs::hard_link(segment, &to).is_err() {
            fs::copy(segment, &to).map_err(|error| named(segment, &error))?;
        }
    }
    if let Some(newest) = &newest
        && let Some(name) = newest.file_name()
    {
        whole_lines(newest, &ready.join(name)).map_err(|error| named(newest, &error))?;
    }
    let more = [Some(own.state.join("blobs")), own.config.clone(), Some(own.mirror.clone())];
    let more = more.into_iter().flatten().filter(|path| path.exists());
    Ok(std::iter::once(ready).chain(more).collect())
}

/// Copies the lines that are whole: what follows is being written, or is room made ready.
fn whole_lines(from: &Path, to: &Path) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(from)?);
    let mut writer = BufWriter::new(File::create(to)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        // Room that was made ready is one long line of zeros: it is not read to its end.
        let start = reader.fill_buf()?;
        if start.first().is_none_or(|byte| *byte == 0) {
            break;
        }
        reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') || line.contains(&0) {
            break;
        }
        writer.write_all(&line)?;
    }
    writer.into_inner()?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_segment_that_is_written_only_whole_lines_are_saved() {
        let host = tempfile::tempdir().unwrap();
        let log = host.path().join("log");
        fs::create_dir(&log).unwrap();
        let mut open = b"{\"seq\":3}\n{\"seq\":4}\n{\"se".to_vec();
        open.extend([0; 4096]);
        fs::write(log.join("00000000000000000001.jsonl"), "{\"seq\":1}\n{\"seq\":2}\n").unwrap();
        fs::write(log.join("00000000000000000003.jsonl"), &open).unwrap();
        fs::write(log.join("next"), [0; 512]).unwrap();
        let own = OwnPlaces {
            state: host.path().to_owned(),
            log,
            config: None,
            mirror: host.path().join("mirror"),
        };
        let folder = host.path().join("ready");
        // Twice: what an earlier run left is no obstacle.
        for _ in 0..2 {
            let paths = make_ready(&own, &folder).unwrap();
            assert_eq!(paths, [folder.join("log")], "what is not there is not saved");
        }
        let read = |name: &str| fs::read_to_string(folder.join("log").join(name)).unwrap();
        assert_eq!(read("00000000000000000001.jsonl"), "{\"seq\":1}\n{\"seq\":2}\n");
        assert_eq!(read("00000000000000000003.jsonl"), "{\"seq\":3}\n{\"seq\":4}\n");
        assert!(!folder.join("log/next").exists());
    }
}
