//! `trueup preflight`: whether this host is fit, and what to mend first.
//!
//! It needs neither a config nor the daemon and changes nothing on the host. A recording is unpacked
//! into a folder of its own, which is gone at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::exit::{CliError, CliResult, Done, ErrorKind};
use super::paint::{Block, Label, Text};
use super::ui::Product;
use super::{Output, wire};
use crate::preflight::{
    Area, Finding, Probes, RECORDING_BYTES_MAX, Root, Severity, gather, judge, probe, unpack,
};

/// Where libvirt keeps its default pool.
const IMAGES: &str = "/var/lib/libvirt/images";

/// Check whether this host is fit, before anything else
///
/// Looks at processor, KVM, IOMMU, GPUs and their driver, libvirt, QEMU, memory, disks, the clock,
/// and at who else lays out the GPUs. Says of each finding what was read, why it matters and what to
/// do. Nothing is changed, and no GPU is touched.
///
/// Exits with 0 where all is well, 3 where there are warnings, and 5 where something has to be mended
/// first.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup preflight\n  \
    trueup preflight --for passthrough,vm\n  \
    trueup preflight -o json | jq '.findings[] | select(.severity == \"error\")'\n  \
    trueup preflight --record host.preflight   # a text file for a bug report\n  \
    trueup preflight --root host.preflight     # what it says, on any machine")]
pub(super) struct Preflight {
    /// A recorded tree, or a recording, instead of this machine
    ///
    /// A folder that holds proc, sys, etc, and so on, or a file written with --record. Nothing
    /// outside of it is read, and no program is asked.
    #[arg(long, default_value = "/", value_name = "DIR|FILE")]
    root: PathBuf,
    /// Only what this needs: any of host, vm, image, gpu, mig, passthrough, vgpu
    ///
    /// What is for any host is always looked at.
    #[arg(long = "for", value_enum, value_delimiter = ',', value_name = "AREA")]
    areas: Vec<Area>,
    /// Also write what was read into a new text file, to be sent with a bug report
    ///
    /// It holds the lines that checks used: versions, addresses of devices, names of accounts that
    /// are people's. Read it before you send it.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Leave out what is as it should be
    #[arg(long)]
    problems: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

/// What was found, with the verdict.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    verdict: Severity,
    counts: BTreeMap<&'static str, usize>,
    root: String,
    findings: Vec<Finding>,
    #[serde(skip)]
    problems: bool,
}

impl Preflight {
    pub(super) fn run(self, context: &Context) -> CliResult {
        // It lives as long as the tree in it is read.
        let unpacked = self.unpacked()?;
        let folder = unpacked.as_ref().map_or(self.root.as_path(), |folder| folder.path());
        let root = Root::open(folder).map_err(CliError::input)?;
        let asked = match root.is_live() {
            true => Some(ask(context, &root)?),
            false => None,
        };
        let facts = gather(&root, asked);
        if let Some(file) = &self.record {
            record(&root, facts.probes(), file)?;
            context.ui.say(&format!("what was read is in {}", file.display()));
        }
        let report = self.report(judge(&facts));
        context.ui.product(&report)?;
        match report.verdict {
            Severity::Ok | Severity::Note => Ok(Done::Fine),
            Severity::Warning => Ok(Done::Changes),
            Severity::Error => {
                let count = report.counts.get(Severity::Error.word()).copied().unwrap_or_default();
                Err(CliError::machine(format!("{count} finding(s) have to be mended first")))
            }
        }
    }

    fn report(&self, all: Vec<Finding>) -> Report {
        let wanted =
            |area: Area| self.areas.is_empty() || area == Area::Host || self.areas.contains(&area);
        let findings: Vec<_> = all.into_iter().filter(|one| wanted(one.area)).collect();
        let mut counts = BTreeMap::new();
        for finding in &findings {
            *counts.entry(finding.severity.word()).or_default() += 1;
        }
        let verdict = findings.iter().map(|one| one.severity).max().unwrap_or(Severity::Ok);
        let root = self.root.display().to_string();
        Report { verdict, counts, root, findings, problems: self.problems }
    }

    /// The tree of a recording; none where the root is a folder.
    fn unpacked(&self) -> Result<Option<tempfile::TempDir>, CliError> {
        let metadata = std::fs::metadata(&self.root).map_err(|error| self.unusable(error))?;
        if metadata.is_dir() {
            return Ok(None);
        }
        if !metadata.is_file() || metadata.len() > RECORDING_BYTES_MAX {
            let why =
                format!("it is neither a folder nor a file of at most {RECORDING_BYTES_MAX} bytes");
            return Err(self.unusable(std::io::Error::other(why)));
        }
        let mut text = String::new();
        let file = File::open(&self.root).map_err(|error| self.unusable(error))?;
        let mut file = file.take(RECORDING_BYTES_MAX);
        file.read_to_string(&mut text).map_err(|error| self.unusable(error))?;
        let folder = tempfile::tempdir().map_err(CliError::machine)?;
        unpack(&text, folder.path()).map_err(|error| {
            CliError::input(error).hint("`trueup preflight --record FILE` writes a recording")
        })?;
        Ok(Some(folder))
    }

    fn unusable(&self, error: std::io::Error) -> CliError {
        let path = self.root.display();
        CliError::input(format!("{path}: cannot be used as a root: {error}"))
    }
}

/// Asks this machine what its files do not tell.
fn ask(context: &Context, root: &Root) -> Result<Probes, CliError> {
    // A config that cannot be read is for other commands to complain about.
    let state = context.state_dir().unwrap_or_else(|error| {
        context.ui.say(&format!("{}; the default state directory is taken", error.source));
        crate::config::Config::new("").state_directory()
    });
    let state = state.to_string_lossy().into_owned();
    let folders = [("state", state.as_str()), ("default pool", IMAGES)];
    wire::block_on(probe(root, &folders))
}

fn record(root: &Root, probes: &Probes, path: &Path) -> Result<(), CliError> {
    let text = root.recording(probes).map_err(|error| CliError::new(ErrorKind::Bug, error))?;
    let failed = |error: std::io::Error| {
        CliError::machine(format!("{}: cannot be written: {error}", path.display()))
    };
    // A new file, only for its owner: it tells what a machine is made of.
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

impl Product for Report {
    fn blocks(&self) -> Vec<Block> {
        let shown = |one: &&Finding| !self.problems || one.severity > Severity::Ok;
        let shown: Vec<&Finding> = self.findings.iter().filter(shown).collect();
        let header = vec!["severity", "check", "subject", "found"];
        let rows = shown.iter().map(|one| row(one)).collect();
        let mut blocks = vec![Block::Table { header, rows }];
        for one in shown.iter().filter(|one| one.severity > Severity::Ok) {
            blocks.extend(details(one));
        }
        blocks.push(Block::Gap);
        blocks.push(Block::Line(vec![self.summary()]));
        blocks
    }
}

impl Report {
    fn summary(&self) -> Text {
        let count =
            |severity: Severity| self.counts.get(severity.word()).copied().unwrap_or_default();
        let text = format!(
            "{} error(s), {} warning(s), {} note(s); {} checks are fine",
            count(Severity::Error),
            count(Severity::Warning),
            count(Severity::Note),
            count(Severity::Ok)
        );
        Text::new(text, label(self.verdict))
    }
}

fn label(severity: Severity) -> Label {
    match severity {
        Severity::Ok => Label::Good,
        Severity::Note => Label::Plain,
        Severity::Warning => Label::Warn,
        Severity::Error => Label::Bad,
    }
}

fn row(one: &Finding) -> Vec<Text> {
    vec![
        Text::new(one.severity.word(), label(one.severity)),
        one.id.about().id.into(),
        one.subject.clone().into(),
        one.read.clone().into(),
    ]
}

/// What stands below the table: why it matters and what to do.
fn details(one: &Finding) -> Vec<Block> {
    let heading = vec![
        Text::new(one.severity.word(), label(one.severity)),
        format!(" {} {}", one.id.about().id, one.subject).into(),
    ];
    let line = |key: &str, text: &str| {
        Block::Line(vec![Text::new(format!("  {key:<5}"), Label::Dim), text.to_owned().into()])
    };
    let mut blocks =
        vec![Block::Gap, Block::Line(heading), line("found", &format!(" {}", one.read))];
    blocks.push(line("in", &format!(" {}", one.source)));
    blocks.push(line("why", &format!(" {}", one.why)));
    if let Some(remedy) = &one.remedy {
        blocks.push(line("do", &format!(" {remedy}")));
    }
    blocks
}
