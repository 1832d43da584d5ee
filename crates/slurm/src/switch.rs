//! The live files exchanged for proved ones, and put back where the controller does not come up. This
//! is the only code that writes what a running cluster reads.
//!
//! Each file is kept beside itself before anything is changed (`slurm.conf.kept`), and a mark stands
//! until the new ones are in force. After a crash in between, [`recover`] finds the mark: new files that
//! are all there are brought into force, as jobs may have begun on what is new in them; else, and where the
//! controller does not take them, the kept files are put back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::plan::config::Action;
use crate::prove::Proof;

/// Put behind the name of a file that was replaced.
const KEPT: &str = ".kept";
/// Without this file there is no controller.
const MAIN: &str = "slurm.conf";
/// The mark of an exchange under way, in the folder of the files.
const MARK: &str = ".slurm.conf.exchange";

/// Where the live files are.
#[derive(Debug, Clone)]
pub struct Live {
    /// The machine.
    pub machine: Arc<dyn Machine>,
    /// The folder: `/etc/slurm`.
    pub folder: PathBuf,
}

/// The controller, as far as an exchange needs it.
pub trait Controller {
    /// Makes it read the files anew; gives its own words where it says no.
    ///
    /// # Errors
    /// Its words.
    fn apply(&mut self, how: Action) -> Result<(), String>;

    /// Waits until it answers again and has read the present files, within a limit of its own.
    ///
    /// # Errors
    /// What it says, or that it says nothing.
    fn await_up(&mut self) -> Result<(), String>;
}

/// What came of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switched {
    /// The files said so already; the controller was not touched.
    AlreadySo,
    /// The new files are in force.
    InForce,
    /// The controller did not take them; the old ones are in force again.
    PutBack {
        /// Its own words.
        words: String,
    },
}

/// An exchange that leaves work for a person, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// A file could not be read or written.
    #[error("cannot exchange {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A mark that cannot be read.
    #[error(
        "{path} is no mark of an exchange ({message}): compare the files in its folder with those named *{KEPT}, and remove it"
    )]
    Mark {
        /// The mark.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Neither the new files nor the old ones bring the controller up.
    #[error(
        "the controller did not take the new files ({new}) and is not up with the old ones either ({old}): look at its log"
    )]
    Down {
        /// Its words to the new ones.
        new: String,
        /// Its words to the old ones.
        old: String,
    },
}

/// What stands in the mark: the exchanged files, and which of them were there before.
#[derive(Serialize, Deserialize)]
struct Mark {
    files: Vec<MarkedFile>,
}

#[derive(Serialize, Deserialize)]
struct MarkedFile {
    name: String,
    was_there: bool,
    /// What it is to be; none in a mark of an older release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Puts proved files into force, or leaves the old ones in force.
///
/// # Errors
/// [`SwitchError`].
pub fn switch(
    proof: &Proof,
    live: &Live,
    how: Action,
    controller: &mut impl Controller,
) -> Result<Switched, SwitchError> {
    let differing = differing(proof, live)?;
    if differing.is_empty() {
        return Ok(Switched::AlreadySo);
    }
    let mark = keep(&differing, live)?;
    for (name, text) in &differing {
        live.replace(&live.folder.join(name), text.as_bytes())?;
    }
    let taken = match how {
        Action::Nothing => Ok(()),
        how => controller.apply(how).and_then(|()| controller.await_up()),
    };
    match taken {
        Ok(()) => {
            live.remove(&live.folder.join(MARK))?;
            Ok(Switched::InForce)
        }
        Err(words) => put_back(&mark, live, controller, words),
    }
}

/// Whether a crash cut an exchange off: then [`recover`] comes before anything else.
///
/// # Errors
/// [`SwitchError::File`].
pub fn is_cut_off(live: &Live) -> Result<bool, SwitchError> {
    Ok(live.read(&live.folder.join(MARK))?.is_some())
}

/// Ends an exchange that a crash cut off: nothing to do is `None`.
///
/// # Errors
/// [`SwitchError`].
pub fn recover(
    live: &Live,
    controller: &mut impl Controller,
) -> Result<Option<Switched>, SwitchError> {
    let path = live.folder.join(MARK);
    let Some(bytes) = live.read(&path)? else { return Ok(None) };
    let mark: Mark = serde_json::from_slice(&bytes).map_err(|error| {
        let (path, message) = (path.clone(), error.to_string());
        SwitchError::Mark { path, message }
    })?;
    let mut words = "the exchange was cut off".to_owned();
    if is_written(&mark, live)? {
        // They were proved. Whether they were read is not known, and if they were, jobs may run by now on
        // nodes that the old files do not have: back would end them.
        match controller.apply(Action::Restart).and_then(|()| controller.await_up()) {
            Ok(()) => {
                live.remove(&path)?;
                return Ok(Some(Switched::InForce));
            }
            Err(refused) => words = format!("{words}, and then: {refused}"),
        }
    }
    put_back(&mark, live, controller, words).map(Some)
}

/// Whether every file of an exchange is as it is to be.
fn is_written(mark: &Mark, live: &Live) -> Result<bool, SwitchError> {
    for file in &mark.files {
        let there = live.read(&live.folder.join(&file.name))?;
        if file.next.is_none() || there.as_deref() != file.next.as_ref().map(String::as_bytes) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn put_back(
    mark: &Mark,
    live: &Live,
    controller: &mut impl Controller,
    words: String,
) -> Result<Switched, SwitchError> {
    for file in &mark.files {
        let path = live.folder.join(&file.name);
        if !file.was_there {
            live.remove(&path)?;
        } else if let Some(old) = live.read(&kept(&path))? {
            live.replace(&path, &old)?;
        }
    }
    let was_none = mark.files.iter().any(|file| file.name == MAIN && !file.was_there);
    if was_none {
        // Without files there was no controller, and none comes up.
        live.remove(&live.folder.join(MARK))?;
        return Ok(Switched::PutBack { words });
    }
    // A controller that fell over is gone, and one that did not has to read the old files: a start
    // does both.
    let up = controller.apply(Action::Restart).and_then(|()| controller.await_up());
    match up {
        Ok(()) => {
            live.remove(&live.folder.join(MARK))?;
            Ok(Switched::PutBack { words })
        }
        Err(old) => Err(SwitchError::Down { new: words, old }),
    }
}

fn differing<'a>(proof: &'a Proof, live: &Live) -> Result<Vec<(&'a str, &'a str)>, SwitchError> {
    let mut differing = Vec::new();
    for (name, text) in proof.files() {
        if live.read(&live.folder.join(name))?.as_deref() != Some(text.as_bytes()) {
            differing.push((name.as_str(), text.as_str()));
        }
    }
    Ok(differing)
}

/// Keeps what is there, then sets the mark: a mark without kept files is never seen.
fn keep(differing: &[(&str, &str)], live: &Live) -> Result<Mark, SwitchError> {
    let mut mark = Mark { files: Vec::new() };
    for (name, text) in differing {
        let path = live.folder.join(name);
        let old = live.read(&path)?;
        if let Some(old) = &old {
            live.replace(&kept(&path), old)?;
        }
        mark.files.push(MarkedFile {
            name: (*name).to_owned(),
            was_there: old.is_some(),
            next: Some((*text).to_owned()),
        });
    }
    let path = live.folder.join(MARK);
    let bytes = serde_json::to_vec(&mark)
        .map_err(|error| SwitchError::File { path: path.clone(), error: error.into() })?;
    live.replace(&path, &bytes)?;
    Ok(mark)
}

fn kept(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(KEPT);
    path.with_file_name(name)
}

impl Live {
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, SwitchError> {
        self.machine.read(path).map_err(failed(path))
    }

    fn remove(&self, path: &Path) -> Result<(), SwitchError> {
        self.machine.remove(path).map_err(failed(path))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), SwitchError> {
        self.machine.replace(path, bytes).map_err(failed(path))
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SwitchError {
    move |error| SwitchError::File { path: path.to_owned(), error }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "looks at the files that were written")]
mod tests;
