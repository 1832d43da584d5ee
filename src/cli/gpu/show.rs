//! GPUs for people: a table, then for each GPU its picture, its instances and what is wrong.

use std::path::Path;

use serde::Serialize;
use trueup_mig::Holder;
use trueup_mig::picture::{Charset, Picture, sheet};
use trueup_nvml::Health;

use super::super::exit::CliError;
use super::super::paint::{Block, Label, Text};
use super::super::status::label;
use super::super::time::shown;
use super::super::ui::Product;
use crate::view;
use crate::view::gpu::{GpuRow, Gpus, Grade, PartRow, Symptom, VgpuRow};

/// Users named in one cell; more are counted.
const USERS_MAX: usize = 3;

/// The GPUs as a product.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Shown(pub(super) Gpus);

impl Product for Shown {
    fn blocks(&self) -> Vec<Block> {
        let gpus = &self.0;
        let mut blocks = vec![headline(gpus)];
        if let Some(why) = &gpus.unobservable {
            let what = Text::new("not looked at: ", Label::Bad);
            blocks.push(Block::Line(vec![what, why.clone().into()]));
        }
        if gpus.gpus.is_empty() {
            let none = match (gpus.live, gpus.unobservable.is_some()) {
                (true, _) => "no NVIDIA GPU is there",
                (false, true) => "the log knows of no GPU",
                (false, false) => "the log knew of no GPU",
            };
            blocks.push(Block::line(none));
            return blocks;
        }
        blocks.push(Block::Gap);
        let header = vec!["gpu", "product", "mode", "layout", "status", "cut since", "health"];
        let rows = gpus.gpus.iter().map(row).collect();
        blocks.push(Block::Table { header, rows });
        for gpu in gpus.gpus.iter() {
            blocks.extend(details(gpu, gpus.live));
        }
        blocks
    }
}

fn headline(gpus: &Gpus) -> Block {
    let strong = |text: &str| Text::new(text, Label::Strong);
    let driver = gpus.driver.clone().unwrap_or_else(|| "unknown".to_owned());
    let mut line = vec![strong("driver "), driver.into()];
    if gpus.seq > 0 {
        line.extend([strong("  event "), gpus.seq.to_string().into()]);
    }
    if let (false, Some(at)) = (gpus.live, gpus.at) {
        line.extend([strong("  from the log, as of "), shown(at).into()]);
    }
    Block::Line(line)
}

fn row(gpu: &GpuRow) -> Vec<Text> {
    let status = gpu.status.as_ref();
    vec![
        called(gpu).into(),
        gpu.product.clone().unwrap_or_default().into(),
        gpu.mode.clone().unwrap_or_default().into(),
        gpu.layout.as_ref().map(ToString::to_string).unwrap_or_default().into(),
        status.map_or_else(|| "".into(), |status| Text::new(status.word(), label(status))),
        gpu.cut_since.map(shown).unwrap_or_default().into(),
        health(gpu),
    ]
}

/// What a GPU is called: its PCI address, which people find in the machine.
pub(super) fn called(gpu: &GpuRow) -> String {
    let names = [&gpu.pci, &gpu.uuid, &gpu.serial];
    names.into_iter().flatten().next().cloned().unwrap_or_else(|| "unknown".to_owned())
}

fn health(gpu: &GpuRow) -> Text {
    if gpu.failed.is_some() {
        return Text::new("does not answer", Label::Bad);
    }
    let Some(sensors) = &gpu.sensors else { return "".into() };
    match gpu.symptoms.first().map(|symptom| symptom.grade) {
        Some(Grade::Bad) => Text::new("bad", Label::Bad),
        Some(Grade::Warning) => Text::new("see below", Label::Warn),
        Some(Grade::Note) | None => {
            let degrees = sensors.temperature.map(|it| format!("{it} °C"));
            let power = sensors.power.map(|it| format!("{} W", it / 1000));
            let words: Vec<String> = [degrees, power].into_iter().flatten().collect();
            match words.is_empty() {
                true => Text::new("well", Label::Good),
                false => Text::new(format!("well, {}", words.join(", ")), Label::Good),
            }
        }
    }
}

/// Sensors and counters that the table has no room for and that are no symptoms; what is not
/// supported is left out.
fn readings(health: &Health) -> Vec<String> {
    let up = health.nvlinks.iter().filter(|link| link.active).count();
    let corrected = health.ecc_volatile.map(|it| it.corrected).filter(|count| *count > 0);
    [
        health.utilization.map(|it| format!("{it} % busy")),
        health.memory_utilization.map(|it| format!("memory {it} % busy")),
        health.sm_clock.map(|it| format!("{it} MHz")),
        health.memory_clock.map(|it| format!("memory {it} MHz")),
        health.power_limit.map(|it| format!("at most {} W", it / 1000)),
        health.ecc.map(|(on, _)| format!("ECC {}", if on { "on" } else { "off" })),
        corrected.map(|count| format!("{count} corrected memory errors")),
        Some(format!("{up} of {} NVLinks up", health.nvlinks.len())).filter(|_| up > 0),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What stands below the table about one GPU.
fn details(gpu: &GpuRow, live: bool) -> Vec<Block> {
    let more: Vec<String> = [
        gpu.uuid.clone().filter(|_| gpu.pci.is_some()),
        gpu.serial.as_ref().map(|serial| format!("serial {serial}")),
        gpu.architecture.clone(),
        gpu.vbios.as_ref().map(|vbios| format!("vBIOS {vbios}")),
        gpu.memory_mib.map(|(all, used)| format!("{used} of {all} MiB used")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let heading = Text::new(called(gpu), Label::Strong);
    let mut blocks =
        vec![Block::Gap, Block::Line(vec![heading, format!("  {}", more.join("  ")).into()])];
    let mut say = |what: &str, text: String, label: Label| {
        blocks.push(Block::Line(vec![Text::new(format!("{what}: "), label), text.into()]));
    };
    if let Some(why) = &gpu.failed {
        say("does not answer", why.clone(), Label::Bad);
    }
    let readings = gpu.sensors.as_ref().map(readings).unwrap_or_default();
    if !readings.is_empty() {
        say("now", readings.join(", "), Label::Dim);
    }
    if let Some(status) = gpu.status.as_ref().filter(|status| !status.detail().is_empty()) {
        say(status.word(), status.detail(), label(status));
    }
    for change in &gpu.drift {
        say("drift", view::change(change), Label::Warn);
    }
    for Symptom { grade, what } in &gpu.symptoms {
        let (word, label) = match grade {
            Grade::Bad => ("bad", Label::Bad),
            Grade::Warning => ("warning", Label::Warn),
            Grade::Note => ("note", Label::Dim),
        };
        say(word, what.clone(), label);
    }
    for owner in &gpu.co_owners {
        say("cuts GPUs too", owner.clone(), Label::Warn);
    }
    if !gpu.users.is_empty() {
        say("used as a whole by", users(&gpu.users), Label::Plain);
    }
    for VgpuRow { name, kind, device } in &gpu.vgpus {
        say("vGPU", format!("{name}  {kind}  {device}"), Label::Plain);
    }
    if let Some(picture) = &gpu.picture {
        blocks.push(Block::Picture(picture.text(Charset::Unicode)));
    }
    if !gpu.parts.is_empty() {
        blocks.push(parts(&gpu.parts, live));
    }
    blocks
}

fn parts(parts: &[PartRow], live: bool) -> Block {
    let mut header = vec!["slices", "name", "profile", "compute"];
    if live {
        header.extend(["busy", "users", "device"]);
    }
    let row = |part: &PartRow| {
        let name = part.name.clone().map_or_else(|| Text::new("-", Label::Dim), Text::from);
        let compute = if part.compute.is_empty() { String::new() } else { part.compute.join(" ") };
        let mut row: Vec<Text> =
            vec![part.label.clone().into(), name, part.profile.clone().into(), compute.into()];
        if live {
            let busy = part.utilization.map(|it| format!("{it:.0} %")).unwrap_or_default();
            row.extend([busy.into(), users(&part.users).into(), part.devices.join(" ").into()]);
        }
        row
    };
    Block::Table { header, rows: parts.iter().map(row).collect() }
}

/// The users of something; each who, which process, which unit.
pub(super) fn users(users: &[Holder]) -> String {
    let named = users.iter().take(USERS_MAX).map(ToString::to_string);
    let mut words: Vec<String> = named.collect();
    if users.len() > USERS_MAX {
        words.push(format!("and {} more", users.len() - USERS_MAX));
    }
    words.join(", ")
}

/// Writes the pictures of all GPUs that are cut.
///
/// As a file and never in a comment: forges take inline SVG and `data:` URIs out of Markdown.
pub(super) fn write_svg(gpus: &Gpus, path: &Path) -> Result<(), CliError> {
    let title = |gpu: &GpuRow| match (&gpu.layout, &gpu.product) {
        (Some(layout), Some(product)) => format!("{layout}: {product}, {}", called(gpu)),
        (_, product) => format!("{} {}", product.clone().unwrap_or_default(), called(gpu)),
    };
    let pictures = gpus.gpus.iter().filter_map(|gpu| Some((title(gpu), gpu.picture.as_ref()?)));
    write_sheet(&pictures.collect::<Vec<_>>(), path)
}

/// Writes pictures, each with its title, into a file.
pub(in crate::cli) fn write_sheet(
    pictures: &[(String, &Picture)],
    path: &Path,
) -> Result<(), CliError> {
    if pictures.is_empty() {
        return Err(CliError::input("no GPU is cut, so there is no picture to write"));
    }
    std::fs::write(path, sheet(pictures)).map_err(|error| {
        CliError::machine(format!("{}: cannot be written: {error}", path.display()))
    })
}
