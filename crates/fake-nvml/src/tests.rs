//! The machine without C in between: boards, edits, restarts, and the file that is shared.

use serde_json::json;

use crate::{Edit, Mode, Process, State, Store, StoreError, boards};

fn cut(board: &str) -> State {
    let mut state = State::with_boards(&[board]).unwrap();
    state.gpus[0].mig = Some(Mode { current: true, pending: true });
    state
}

#[test]
fn every_board_is_consistent() {
    let boards = boards().unwrap();
    assert!(boards.len() >= 7);
    for (key, board) in boards {
        for profile in &board.profiles {
            let name = format!("{key} {}", profile.name);
            assert!(profile.starts.iter().all(|at| at + profile.size <= board.units), "{name}");
            assert!(profile.max as usize <= profile.starts.len(), "{name}");
            let twins = board.profiles.iter().filter(|one| one.id == profile.id).count();
            let places = board.profiles.iter().filter(|one| one.index == profile.index).count();
            assert_eq!((twins, places), (1, 1), "{name}");
        }
    }
}

#[test]
fn every_board_can_be_filled_with_its_smallest_profile() {
    for (key, board) in boards().unwrap() {
        let mut state = cut(&key);
        let smallest = board.profiles.iter().max_by_key(|profile| profile.max).unwrap();
        for made in 0..smallest.max {
            let serial = state.create_instance(0, smallest.id, None);
            assert!(serial.is_ok(), "{key}: {made} of {}", smallest.max);
        }
        assert!(state.create_instance(0, smallest.id, None).is_err(), "{key}");
        let mut ids: Vec<u32> = state.gpus[0].instances.iter().map(|one| one.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), smallest.max as usize, "{key}: an id is given once");
    }
}

#[test]
fn what_remains_is_what_can_still_be_made() {
    let mut state = cut("a100-40gb");
    state.create_instance(0, 9, Some((4, 4))).unwrap();
    let board = state.boards["a100-40gb"].clone();
    let left = |state: &State, id| state.remaining(&state.gpus[0], board.profile(id).unwrap());
    assert_eq!(left(&state, 19), Ok(4));
    assert_eq!(left(&state, 5), Ok(1));
    assert_eq!(left(&state, 0), Ok(0));
    state.create_instance(0, 9, Some((0, 4))).unwrap();
    assert_eq!(left(&state, 19), Ok(0), "the seventh slice is lost with two times 3g");
}

#[test]
fn an_edit_that_names_nothing_changes_nothing() {
    let mut state = cut("h100-80gb");
    let before = state.clone();
    assert!(state.edit(&Edit::Lose { gpu: 4 }).is_err());
    assert!(state.edit(&Edit::Hold { gpu: 0, start: 3, holders: 1 }).is_err());
    assert!(state.edit(&Edit::Patch { patch: json!({"gpus": 3}) }).is_err());
    assert!(state.edit(&Edit::Gpu { gpu: 0, patch: json!({"no_such": 3}) }).is_err());
    assert_eq!(state, before);
    assert!(State::with_boards(&["abacus"]).unwrap_err().to_string().contains("a100-40gb"));
}

#[test]
fn edits_are_written_as_json() {
    let text = r#"{"op": "add_process", "gpu": 0, "process": {"pid": 7, "start": 4}}"#;
    let edit: Edit = serde_json::from_str(text).unwrap();
    let process = Process { pid: 7, start: Some(4), ..Process::default() };
    assert_eq!(edit, Edit::AddProcess { gpu: 0, process });
    assert_eq!(serde_json::from_str::<Edit>(r#"{"op": "reboot"}"#).unwrap(), Edit::Reboot);
}

#[test]
fn two_users_of_one_file_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let (mut one, mut other) = (Store::at(&path), Store::at(&path));
    assert!(matches!(one.read(), Err(StoreError::Io { .. })));
    one.replace(cut("h100-80gb")).unwrap();
    for pid in 1..40 {
        let process = Process { pid, ..Process::default() };
        let (writer, reader) =
            if pid % 2 == 0 { (&mut one, &mut other) } else { (&mut other, &mut one) };
        writer.edit(&Edit::AddProcess { gpu: 0, process }).unwrap();
        assert_eq!(reader.read().unwrap().gpus[0].processes.len(), pid as usize);
    }
    std::fs::write(&path, "not a state").unwrap();
    assert!(matches!(one.read(), Err(StoreError::Shape { .. })));
}
