//! `trueup schema`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::context::Context;
use super::exit::{CliError, CliResult, Done};
use crate::plan::Plan;
use crate::{config, policy, spec};

/// Name of the schema of the daemon's own config.
const CONFIG_SCHEMA: &str = "config.json";

/// Name of the schema of what rules see.
const POLICY_INPUT_SCHEMA: &str = "policy-input.json";

/// The schema of what rules see, the plan included.
pub fn policy_input() -> serde_json::Value {
    policy::input_schema(schemars::schema_for!(Plan).to_value())
}

/// Print the JSON Schemas of specs and of the config
///
/// Editors that know yaml-language-server use them with a first line like
/// `# yaml-language-server: $schema=schemas/trueup.json`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup schema                     # which there are\n  \
    trueup schema VirtualMachine\n  \
    trueup schema --write schemas")]
pub(super) struct Schema {
    /// Which; without it, their names
    #[arg(conflicts_with = "write")]
    name: Option<String>,
    /// Write all of them into this folder
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

impl Schema {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let mut all = spec::schemas();
        all.push((CONFIG_SCHEMA.to_owned(), config::schema()));
        all.push((POLICY_INPUT_SCHEMA.to_owned(), policy_input()));
        match (&self.write, &self.name) {
            (Some(folder), _) => write(context, folder, &all)?,
            (None, Some(name)) => {
                let file = format!("{}.json", file_name(name.trim_end_matches(".json")));
                let found = all.iter().find(|(known, _)| *known == file);
                let (_, schema) = found.ok_or_else(|| unknown(name, &all))?;
                context.ui.data(schema)?;
            }
            (None, None) => {
                let names: Vec<_> = all.iter().map(|(file, _)| stem(file)).collect();
                context.ui.raw(&format!("{}\n", names.join("\n")))?;
            }
        }
        Ok(Done::Fine)
    }
}

/// A kind as specs write it (`VirtualMachine`) is found under the name of its file.
fn file_name(name: &str) -> String {
    let mut file = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !file.is_empty() {
            file.push('-');
        }
        file.extend(letter.to_lowercase());
    }
    file
}

fn stem(file: &str) -> &str {
    file.trim_end_matches(".json")
}

fn unknown(name: &str, all: &[(String, serde_json::Value)]) -> CliError {
    let names: Vec<_> = all.iter().map(|(file, _)| stem(file)).collect();
    CliError::new(super::ErrorKind::Usage, format!("there is no schema `{name}`"))
        .hint(format!("there are {}", names.join(", ")))
}

fn write(
    context: &Context,
    folder: &Path,
    all: &[(String, serde_json::Value)],
) -> Result<(), CliError> {
    std::fs::create_dir_all(folder).map_err(CliError::machine)?;
    for (file, schema) in all {
        let text = serde_json::to_string_pretty(schema).map_err(CliError::machine)? + "\n";
        let path = folder.join(file);
        std::fs::write(&path, text).map_err(|error| {
            CliError::machine(error).hint(format!("{} could not be written", path.display()))
        })?;
        context.ui.say(&format!("wrote {}", path.display()));
    }
    Ok(())
}
