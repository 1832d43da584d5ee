//! `trueup log`.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::context::Context;
use super::control::LogQuery;
use super::exit::{CliError, CliResult, Done};
use super::log_blob::LogBlob;
use super::log_verify::LogVerify;
use super::paint::{self, Block, Label, Text};
use super::time;
use super::ui::{Format, Ui};
use super::{Output, past};
use crate::event::{Recorded, chain, envelope::Record};
use crate::journal::index::Index;
use crate::journal::{Filter, Follower, Reader, search};
use crate::view;

/// How long a follower waits before it looks whether it should go on; nothing is missed by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Show what happened
///
/// One line an event, oldest first. With `-o json` the lines come out byte by byte as they are
/// stored, so that `sha256sum` agrees with their hashes. Whoever may not read the log is answered by
/// the daemon, page by page; `verify` and `blob` need to read the log themselves, as root.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct Log {
    #[command(subcommand)]
    command: Option<LogCommand>,
    #[command(flatten)]
    pub(super) output: Output,
    /// About this resource; a `*` at the end stands for anything
    #[arg(long, value_name = "KIND/NAME")]
    subject: Option<String>,
    /// Of this type; a `*` at the end stands for anything
    #[arg(long = "type", value_name = "TYPE")]
    type_: Option<String>,
    /// Not before: a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    since: Option<Timestamp>,
    /// Not after: a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    until: Option<Timestamp>,
    /// Belonging to this commit, or to one that starts with these digits
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// Belonging to this pass
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Only the last so many
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    /// Go on with what happens from now on
    #[arg(short, long, conflicts_with = "until")]
    follow: bool,
}

const EXAMPLES: &str = "EXAMPLES
  trueup log -n 20
  trueup log -f --subject 'vm/*'
  trueup log --type step.failed --since 1h
  trueup log -o json | jq -r 'select(.type == \"plan.held\") | .data.reasons[]'
  trueup log verify";

#[derive(Debug, Subcommand)]
enum LogCommand {
    Verify(LogVerify),
    Blob(LogBlob),
}

/// An event for people and for JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    seq: u64,
    at: Timestamp,
    #[serde(rename = "type")]
    type_: String,
    subject: Option<String>,
    actor: String,
    commit: Option<String>,
    says: String,
}

impl Line {
    /// The line of an opened event.
    pub(super) fn of(recorded: &Recorded) -> Self {
        let entry = &recorded.entry;
        Self {
            seq: recorded.seq,
            at: recorded.at,
            type_: entry.event.type_name().to_owned(),
            subject: entry.subject.as_ref().map(ToString::to_string),
            actor: entry.actor.clone(),
            commit: entry.commit.as_ref().map(ToString::to_string),
            says: view::describe(&entry.event),
        }
    }

    /// The line of a stored event; one that this program does not know is shown as it is.
    fn stored(record: &Record<'_>) -> Self {
        match Recorded::open(record) {
            Ok(recorded) => Self::of(&recorded),
            Err(_) => Self {
                seq: record.seq,
                at: record.at,
                type_: format!("{} (version {})", record.type_, record.v),
                subject: record.subject.as_deref().map(str::to_owned),
                actor: record.actor.to_string(),
                commit: record.commit.map(str::to_owned),
                says: record.data.to_owned(),
            },
        }
    }

    fn label(&self) -> Label {
        match self.type_.as_str() {
            "step.failed"
            | "spec.rejected"
            | "source.rewrite_refused"
            | "source.signature_rejected"
            | "spec.unreadable"
            | "gpu.lost"
            | "backup.failed"
            | "backup.missed" => Label::Bad,
            "resource.drifted"
            | "plan.held"
            | "source.unreachable"
            | "spec.warned"
            | "resource.unobservable"
            | "resource.flapping"
            | "step.interrupted"
            | "gpu.xid"
            | "gpu.degraded" => Label::Warn,
            "resource.synced" | "resource.recovered" | "step.succeeded" | "gpu.returned"
            | "gpu.recovered" | "backup.verified" | "backup.drilled" => Label::Good,
            _ => Label::Plain,
        }
    }
}

/// Several lines as a table.
pub(super) fn table(lines: &[Line]) -> Block {
    let row = |line: &Line| {
        vec![
            line.seq.to_string().into(),
            time::shown(line.at).into(),
            Text::new(&line.type_, line.label()),
            line.subject.clone().unwrap_or_default().into(),
            line.says.clone().into(),
        ]
    };
    let header = vec!["seq", "at", "type", "subject", "says"];
    Block::Table { header, rows: lines.iter().map(row).collect() }
}

impl Log {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let dir = context.state_dir()?;
        match self.command {
            Some(LogCommand::Verify(command)) => return command.run(context, &dir),
            Some(LogCommand::Blob(command)) => return command.run(context, &dir),
            None => {}
        }
        let printer = Printer { ui: context.ui };
        if past::is_closed(&dir) {
            return self.through_daemon(context, &dir, &printer);
        }
        let filter = self.filter();
        let reader = Reader::open(&dir);
        let index = Index::peek(&dir, &reader);
        let mut last = VecDeque::new();
        let (mut seen, mut failed) = (0, None);
        let found = search(&reader, Some(&index), &filter, self.after(&filter, &index), |line| {
            seen = line.record.seq;
            if let Some(wanted) = self.lines {
                if last.len() == wanted {
                    last.pop_front();
                }
                last.push_back(printer.line(&line.record, line.bytes));
                return ControlFlow::Continue(());
            }
            going_on(printer.print(&printer.line(&line.record, line.bytes)), &mut failed)
        });
        // Before anything is waited for: a process that is ended does not close it.
        index.close();
        found?;
        for text in last.iter().take(self.lines.unwrap_or(0)) {
            if going_on(printer.print(text), &mut failed).is_break() {
                break;
            }
        }
        if let Some(stopped) = failed {
            return stopped.map(|()| Done::Fine);
        }
        if self.follow {
            follow(&dir, &filter, seen, &printer)?;
        }
        Ok(Done::Fine)
    }

    /// The same page by page from the daemon, for those who may not read the log.
    fn through_daemon(&self, context: &Context, dir: &Path, printer: &Printer) -> CliResult {
        let mut query = LogQuery { filter: self.filter(), ..LogQuery::default() };
        if query.filter == Filter::default() {
            query.last = self.lines.map(|wanted| wanted as u64);
        }
        let mut last = VecDeque::new();
        loop {
            let page = past::ask_page(context, dir, query.clone())?;
            for text in &page.lines {
                let record = chain::verify_alone(text.as_bytes()).map_err(CliError::machine)?;
                let line = printer.line(&record, text.as_bytes());
                match self.lines.filter(|_| !query.wait) {
                    Some(wanted) => {
                        last.push_back(line);
                        if last.len() > wanted {
                            last.pop_front();
                        }
                    }
                    None if !printer.print(&line)? => return Ok(Done::Fine),
                    None => {}
                }
            }
            (query.after, query.last) = (page.seen, None);
            if page.end && !query.wait {
                for line in last.drain(..) {
                    if !printer.print(&line)? {
                        return Ok(Done::Fine);
                    }
                }
                if !self.follow {
                    return Ok(Done::Fine);
                }
                query.wait = true;
            }
        }
    }

    /// An event after which all that is wanted comes.
    fn after(&self, filter: &Filter, index: &Index) -> u64 {
        let (Some(wanted), true) = (self.lines, *filter == Filter::default()) else { return 0 };
        let known = index.head().map_or(0, |head| head.seq);
        known.saturating_sub(u64::try_from(wanted).unwrap_or(u64::MAX))
    }

    fn filter(&self) -> Filter {
        Filter {
            subject: self.subject.clone(),
            type_: self.type_.clone(),
            since: self.since,
            until: self.until,
            commit: self.commit.clone(),
            run: self.run.clone(),
        }
    }
}

/// Whether to go on after printing; why not is kept in `stopped`.
fn going_on(
    printed: Result<bool, CliError>,
    stopped: &mut Option<Result<(), CliError>>,
) -> ControlFlow<()> {
    *stopped = Some(match printed {
        Ok(true) => return ControlFlow::Continue(()),
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    });
    ControlFlow::Break(())
}

/// Prints what comes after event `seen`, until nobody reads any more.
fn follow(dir: &Path, filter: &Filter, seen: u64, printer: &Printer) -> Result<(), CliError> {
    let mut follower = Follower::new(Reader::open(dir).from(seen + 1)?)?;
    loop {
        let Some(line) = follower.wait(PATIENCE)? else { continue };
        if filter.fits(&line.record) && !printer.print(&printer.line(&line.record, line.bytes))? {
            return Ok(());
        }
    }
}

/// Prints one event after the other, as soon as it is there.
struct Printer {
    ui: Ui,
}

impl Printer {
    fn line(&self, record: &Record<'_>, bytes: &[u8]) -> String {
        match self.ui.format() {
            Format::Json => String::from_utf8_lossy(bytes).into_owned(),
            Format::Yaml => yaml(bytes),
            Format::Markdown => {
                let text = plain(&Line::stored(record), false);
                format!("- `{}`", text.replace('`', "'"))
            }
            Format::Table => plain(&Line::stored(record), self.ui.color()),
        }
    }

    fn print(&self, text: &str) -> Result<bool, CliError> {
        self.ui.line(text)
    }
}

/// A document a line, so that a stream of them is one valid YAML stream.
fn yaml(bytes: &[u8]) -> String {
    let value: Result<Value, _> = serde_json::from_slice(bytes);
    let text = value.ok().and_then(|value| serde_saphyr::to_string(&value).ok());
    format!("---\n{}", text.unwrap_or_default().trim_end())
}

/// In columns that do not depend on the other lines, as they come one by one.
fn plain(line: &Line, color: bool) -> String {
    let subject = line.subject.as_deref().unwrap_or("-");
    let by = match line.actor.as_str() {
        crate::event::ACTOR_SELF => String::new(),
        actor => format!(" (by {actor})"),
    };
    let type_ = paint::label(&format!("{:<24}", line.type_), line.label(), color);
    let says = paint::clean(&line.says).replace('\n', " ");
    let at = time::shown(line.at);
    format!("{:>7}  {at}  {type_}  {subject:<24}  {says}{by}", line.seq)
}
