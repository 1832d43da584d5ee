//! `trueup cluster import`: the files of a cluster that is there as a `Cluster` document.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use trueup_slurm::conf::Conf;
use trueup_slurm::{adopt, hostlist, wish};

use super::super::context::Context;
use super::super::exit::{CliError, CliResult, Done};
use super::super::ui::yaml;
use super::hand::named;
use crate::model::Name;
use crate::spec::kinds::API_VERSION;

/// Where the host's config looks for a cluster when it says nothing.
const USUAL_FOLDER: &str = "/etc/slurm";

/// Print the files of a Slurm cluster as a Cluster document
///
/// Nodes that are alike become a pool: give pools better names. What a document cannot say is told on
/// stderr; with the document as it is these would be gone.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup cluster import > environments/lab/cluster.yaml\n  \
    trueup cluster import --folder /srv/slurm/etc --name hpc")]
pub(super) struct Import {
    /// The folder of slurm.conf and gres.conf
    #[arg(long, value_name = "DIR", default_value = USUAL_FOLDER)]
    folder: PathBuf,
    /// The document's name; what the cluster calls itself where that fits
    #[arg(long, value_name = "NAME", value_parser = named)]
    name: Option<Name>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    api_version: &'static str,
    kind: &'static str,
    metadata: BTreeMap<&'static str, String>,
    lifecycle: BTreeMap<&'static str, bool>,
    spec: Value,
}

impl Import {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let slurm = self.read("slurm.conf")?.ok_or_else(|| {
            CliError::input(format!("there is no slurm.conf in {}", self.folder.display()))
                .hint("name its folder with --folder")
        })?;
        let conf = Conf::parse(&slurm)
            .map_err(|error| CliError::input(format!("slurm.conf cannot be read: {error}")))?;
        let gres = self.read("gres.conf")?.unwrap_or_default();
        let adopted = adopt(&conf, &gres).map_err(CliError::input)?;
        let mut wish = adopted.cluster;
        for left in &adopted.left {
            context.ui.warn(&format!("a document cannot say: {left}"));
        }
        let secrets: Vec<String> =
            wish.parameters.keys().filter(|key| key.ends_with("pass")).cloned().collect();
        for key in secrets {
            wish.parameters.remove(&key);
            context.ui.warn(&format!("{key} is left out: a repository is no place for a password"));
        }
        let name = match self.name {
            Some(name) => name,
            None => Name::new(&wish.name).map_err(|error| {
                CliError::input(error).hint("give the document a name with --name")
            })?,
        };
        let document = Document {
            api_version: API_VERSION,
            kind: "Cluster",
            metadata: [("name", name.to_string())].into(),
            lifecycle: [("adopt", true)].into(),
            spec: spec(&wish)?,
        };
        if self.folder != Path::new(USUAL_FOLDER) {
            context.ui.warn(&format!(
                "say in the host's config where it is: `clusters: {{{name}: {{folder: {}}}}}`",
                self.folder.display()
            ));
        }
        let text = yaml(&document)?;
        context.ui.raw(&text)?;
        Ok(Done::Fine)
    }

    fn read(&self, name: &str) -> Result<Option<String>, CliError> {
        let path = self.folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(CliError::input(format!("{}: cannot be read: {error}", path.display())))
            }
        }
    }
}

/// A wish as the spec of a document.
fn spec(wish: &wish::Cluster) -> Result<Value, CliError> {
    let mut spec = serde_json::to_value(wish).map_err(CliError::input)?;
    if let Some(object) = spec.as_object_mut() {
        object.insert("type".into(), json!("slurm"));
        if let Some(accounting) = object.get_mut("accounting").and_then(Value::as_object_mut) {
            accounting.remove("database");
        }
        let pools: Vec<Value> = wish.pools.iter().map(pool).collect::<Result<_, _>>()?;
        object.insert("pools".into(), pools.into());
        for partition in
            object.get_mut("partitions").and_then(Value::as_array_mut).into_iter().flatten()
        {
            let Some(partition) = partition.as_object_mut() else { continue };
            for (from, to) in [("maxMinutes", "maxTime"), ("defaultMinutes", "defaultTime")] {
                if let Some(minutes) = partition.remove(from).as_ref().and_then(Value::as_u64) {
                    partition.insert(to.into(), format!("{minutes}m").into());
                }
            }
        }
    }
    without_empty(&mut spec);
    Ok(spec)
}

fn pool(pool: &wish::Pool) -> Result<Value, CliError> {
    let mut value = serde_json::to_value(pool).map_err(CliError::input)?;
    let plain = |node: &&wish::Host| node.address.is_none() && node.port.is_none();
    let alike = pool.nodes.iter().filter(plain).map(|node| node.name.as_str());
    let alike = hostlist::compress(alike);
    let mut nodes: Vec<Value> = Vec::new();
    if !alike.is_empty() {
        nodes.push(json!({"name": alike}));
    }
    for node in pool.nodes.iter().filter(|node| !plain(node)) {
        nodes.push(serde_json::to_value(node).map_err(CliError::input)?);
    }
    if let Some(object) = value.as_object_mut() {
        object.remove("memoryMib");
        object.insert("memory".into(), format!("{}MiB", pool.memory_mib).into());
        object.insert("nodes".into(), nodes.into());
    }
    Ok(value)
}

/// Without what says nothing.
fn without_empty(value: &mut Value) {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(without_empty);
            object.retain(|key, value| !empty(value) || key == "partitions");
        }
        Value::Array(list) => list.iter_mut().for_each(without_empty),
        _ => {}
    }
}
