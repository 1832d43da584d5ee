//! The config that comes back with a state directory: put in the place that the host says, and in no other.
//!
//! Nothing is written over: where another one is, both stay.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::place::Beside;
use crate::config::{CONFIG_BYTES_MAX, CONFIG_PATH};
use crate::model::Digest;
use crate::provider::paths::named;

/// What came back of the config.
#[derive(Debug, Default)]
pub(super) struct ConfigBack {
    /// Where it is.
    pub(super) at: Option<PathBuf>,
    /// SHA-256 of it.
    pub(super) digest: Option<Digest>,
    /// Why it is not in its place, and what to do, where it is not.
    pub(super) kept: Option<String>,
}

/// Puts the config in its place, if it was saved from there and nothing is there; else it goes to the
/// state directory. The place is the host's, or the one that is `named`, and never one that only the
/// snapshot names.
pub(super) fn install(
    mut files: Vec<Beside>,
    named_config: Option<&Path>,
    staged: &Path,
    state: &Path,
) -> io::Result<ConfigBack> {
    let named_config = named_config.map(std::path::absolute).transpose()?;
    let usual = PathBuf::from(CONFIG_PATH);
    let to = named_config.unwrap_or_else(|| usual.clone());
    let found =
        [&to, &usual].into_iter().find_map(|at| files.iter().position(|it| it.origin == *at));
    let config = match found {
        Some(found) => files.swap_remove(found),
        None => match files.into_iter().next() {
            Some(other) => other,
            None => return Ok(ConfigBack::default()),
        },
    };
    let text = text_of(&config.at)?;
    let back = |at, kept| ConfigBack { at: Some(at), digest: Some(Digest::of(&text)), kept };
    if to.is_file() && text_of(&to).is_ok_and(|there| there == text) {
        return Ok(back(to, None));
    }
    let kept = match (found, to.symlink_metadata().is_ok()) {
        (_, true) => format!("another one is in its place, {}, and was left there", to.display()),
        (None, false) => format!(
            "it was saved from {}, which is no place of this host's config: see whether it is one, \
             then move it to {}",
            config.origin.display(),
            to.display()
        ),
        (Some(_), false) => {
            // One in the state directory comes to its place with that.
            let at = to.strip_prefix(state).map_or_else(|_| to.clone(), |it| staged.join(it));
            put(&text, mode_of(&config.at)?, &at)?;
            return Ok(back(at, None));
        }
    };
    let at = staged.join("recovered-config.yaml");
    put(&text, mode_of(&config.at)?, &at)?;
    Ok(back(at, Some(kept)))
}

/// The text of a config; more than one may have is no config.
fn text_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|it| it.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut text));
    let read = read.map_err(|error| named(path, &error))?;
    if read as u64 > CONFIG_BYTES_MAX {
        let why = format!("it has more than {CONFIG_BYTES_MAX} bytes, and is no config");
        return Err(io::Error::other(format!("{}: {why}", path.display())));
    }
    Ok(text)
}

/// Whether others may read what was saved; write to it may nobody else, whatever it says.
fn mode_of(path: &Path) -> io::Result<u32> {
    let saved = fs::metadata(path).map_err(|error| named(path, &error))?;
    Ok(saved.mode() & 0o044 | 0o600)
}

/// A file that is there whole or not at all, where nothing is.
fn put(text: &[u8], mode: u32, to: &Path) -> io::Result<()> {
    let around = to.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(around).map_err(|error| named(around, &error))?;
    // A crash leaves this one, which is not whole.
    let unfinished = to.with_extension("recovering");
    let failed = |error: io::Error| named(&unfinished, &error);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Err(_) | Ok(()) => {}
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished);
    made.and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()))
        .map_err(failed)?;
    fs::hard_link(&unfinished, to).map_err(|error| named(to, &error))?;
    fs::remove_file(&unfinished).map_err(failed)?;
    File::open(around).and_then(|folder| folder.sync_all()).map_err(|error| named(around, &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_config_goes_to_the_hosts_place_and_to_no_other() {
        let host = tempfile::tempdir().unwrap();
        let (config, elsewhere) = (host.path().join("config.yaml"), host.path().join("cron"));
        let text = |path: &Path| fs::read_to_string(path).unwrap();
        let saved = |origin: &Path| {
            let at = host.path().join("restored");
            fs::write(&at, "host: node1\n").unwrap();
            fs::set_permissions(&at, fs::Permissions::from_mode(0o4766)).unwrap();
            vec![Beside { origin: origin.to_owned(), at }]
        };
        let kept = host.path().join("recovered-config.yaml");
        let nowhere = Path::new("/nowhere");
        let back = install(saved(&elsewhere), Some(&config), host.path(), nowhere).unwrap();
        assert!(!elsewhere.exists() && !config.exists(), "nobody but the snapshot names it");
        assert_eq!((back.at.as_deref(), text(&kept).as_str()), (Some(&*kept), "host: node1\n"));
        let why = back.kept.unwrap();
        assert!(why.contains(config.to_str().unwrap()) && why.contains("was saved from"), "{why}");
        assert_eq!(back.digest, Some(Digest::of("host: node1\n")));
        fs::remove_file(&kept).unwrap();

        for _ in 0..2 {
            let back = install(saved(&config), Some(&config), host.path(), nowhere).unwrap();
            assert_eq!((back.at.as_deref(), back.kept), (Some(&*config), None));
        }
        assert_eq!(text(&config), "host: node1\n");
        let mode = fs::metadata(&config).unwrap().mode() & 0o7777;
        assert_eq!(mode & 0o4133, 0, "nobody else writes to it: {mode:o}");
        fs::write(&config, "another").unwrap();
        let back =
            install(saved(Path::new(CONFIG_PATH)), Some(&config), host.path(), nowhere).unwrap();
        assert!(back.kept.unwrap().contains("was left there"));
        assert_eq!(text(&config), "another");
        assert!(install(Vec::new(), Some(&config), host.path(), nowhere).unwrap().at.is_none());

        // One in the state directory is made ready with that.
        let (state, staged) = (host.path().join("state"), host.path().join("staged"));
        let inside = state.join("own.yaml");
        let back = install(saved(&inside), Some(&inside), &staged, &state).unwrap();
        assert_eq!(back.at.as_deref(), Some(&*staged.join("own.yaml")));
        assert!(back.kept.is_none() && !state.exists());
        // What is too large for one is not read to its end.
        let huge = saved(&elsewhere);
        File::create(&huge[0].at).unwrap().set_len(CONFIG_BYTES_MAX + 1).unwrap();
        let refused = install(huge, Some(&elsewhere), host.path(), nowhere).unwrap_err();
        assert!(refused.to_string().contains("is no config"), "{refused}");
    }
}
