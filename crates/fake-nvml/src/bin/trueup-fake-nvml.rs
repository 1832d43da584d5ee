//! Makes and changes a simulated machine from a script: `init`, `edit` and `show`.
//!
//! It only writes the state file; what loads the library sees the change with its next call.
#![expect(clippy::print_stdout, reason = "a command for scripts")]

use std::error::Error;
use std::path::Path;

use trueup_fake_nvml::{Edit, State, Store};

const USAGE: &str =
    "trueup-fake-nvml init STATE.json BOARD… | edit STATE.json JSON… | show STATE.json";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["init", path, boards @ ..] if !boards.is_empty() => {
            Store::at(Path::new(path)).replace(State::with_boards(boards)?)?;
        }
        ["edit", path, edits @ ..] if !edits.is_empty() => {
            let mut store = Store::at(Path::new(path));
            for edit in edits {
                store.edit(&serde_json::from_str::<Edit>(edit)?)?;
            }
        }
        ["show", path] => {
            println!("{}", serde_json::to_string_pretty(&*Store::at(Path::new(path)).read()?)?);
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}
