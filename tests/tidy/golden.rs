//! One stored line of every version of every event, kept for ever: what was once written can be read
//! by every later version, and comes out again as it was.

use std::collections::BTreeSet;

use trueup::event::Event;

use super::{root, samples::samples};

fn folder() -> std::path::PathBuf {
    root().join("tests/golden/events")
}

/// With `UPDATE_GOLDEN=1` a missing line is written; one that is there is never changed.
#[test]
fn every_event_has_its_golden_line() {
    let samples = samples();
    let named: Vec<_> = samples.iter().map(|event| (event.type_name(), event.version())).collect();
    assert_eq!(named, Event::TYPES, "samples.rs has one of each, in this order");
    let mut missing = Vec::new();
    for event in &samples {
        let file = format!("{}.v{}.json", event.type_name(), event.version());
        let path = folder().join(&file);
        if path.exists() {
            continue;
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, event.to_json().unwrap() + "\n").unwrap();
        } else {
            missing.push(file);
        }
    }
    assert!(missing.is_empty(), "write these with UPDATE_GOLDEN=1: {}", missing.join(", "));
}

#[test]
fn golden_lines_open_as_todays_events_and_come_out_the_same() {
    let mut types = BTreeSet::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let (name, version) = file.trim_end_matches(".json").rsplit_once(".v").unwrap();
        let version: u32 = version.parse().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1, "{file}: one line");
        let event = Event::decode(name, version, text.trim_end()).unwrap_or_else(|error| {
            panic!("{file}: {error}: {:?}", std::error::Error::source(&error))
        });
        assert_eq!(event.type_name(), name, "{file}: an event never changes its name");
        if event.version() == version {
            assert_eq!(event.to_json().unwrap(), text.trim_end(), "{file}");
        }
        types.insert(name.to_owned());
    }
    assert!(types.len() >= Event::TYPES.len());
}
