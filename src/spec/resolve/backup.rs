//! `Backup` to its canonical form.
//!
//! What is on the host is not known here: only what a document itself can get wrong is told.

use std::path::Path;

use jiff::Timestamp;
use trueup_backup::objective::Objectives;
use trueup_backup::retention::Keep;
use trueup_backup::schedule::{self, Day, Schedule, When, Window};

use super::super::kinds::backup::{
    BackupCommandSpec, BackupDefinitionKind, BackupDefinitionSpec, BackupDrillSpec, BackupHookSpec,
    BackupKeepSpec, BackupPostgresqlSpec, BackupRetentionSpec, BackupScheduleSpec,
    BackupSourceSpec, BackupSpec, BackupVerifySpec, BackupWindowSpec, PostgresqlFormatSpec,
};
use super::super::kinds::environment::Day as DaySpec;
use super::super::scalar;
use super::{Cx, boot, repository};
use crate::model::resource::{
    Backup, BackupCommand, BackupDefinition, BackupDrill, BackupGuest, BackupHook, BackupHooks,
    BackupLimits, BackupPaths, BackupPostgresql, BackupRetention, BackupSource, BackupVerify,
    GuestPart, PostgresqlFormat,
};
use crate::model::{Kind, Name, Resource, ResourceId};

/// Seconds of a day: how often a repository is checked, and tidied, when nothing is said.
const DAY_S: u64 = 24 * 3600;
/// After how long a guest's disks are read anew as a whole when nothing is said, seconds.
const READ_ALL_S: u64 = 30 * DAY_S;
/// How long a program may run when nothing is said, seconds.
const COMMAND_S: u64 = 3600;
/// How long a hook may run when nothing is said, seconds: what it stops waits for it.
const HOOK_S: u64 = 60;
/// How long a cluster of PostgreSQL may take when nothing is said, seconds.
const POSTGRESQL_S: u64 = 6 * 3600;
/// Longest name of a user and of a role, bytes (`NAMEDATALEN` of PostgreSQL less the terminator).
const NAME_MAX: usize = 63;
/// How long the program that looks at a drill may run when nothing is said, seconds.
const DRILL_CHECK_S: u64 = 600;
/// Longest span of a promise or a schedule, seconds: two years; longer is a mistake of units.
const SPAN_S_MAX: u64 = 2 * 366 * DAY_S;
/// Most paths, patterns, arguments and windows of one backup: a person writes a few.
const LIST_MAX: usize = 256;
/// Longest argument, pattern and file name, bytes.
const TEXT_MAX: usize = 4096;
/// The tag of every snapshot: snapshots are told apart by the backup's name, which is a tag too.
const COMMON_TAG: &str = "trueup";

pub(super) fn resolve(cx: &mut Cx<'_>, spec: &BackupSpec) -> Option<Backup> {
    if cx.id.name.as_str() == COMMON_TAG {
        cx.err("spec/conflict", "/metadata/name", "every snapshot has this tag")
            .hint("choose another name");
    }
    let place = repository::resolve(cx, &spec.repository);
    let source = source(cx, &spec.source);
    if let (Some(place), Some(BackupSource::Paths(paths))) = (&place, &source)
        && place.remote.is_none()
    {
        apart(cx, &place.location, paths);
    }
    let key = cx.check("/spec/key", Name::new(&spec.key).map_err(|error| error.to_string()));
    // Mistakes are told all at once: what is wrong ends this at its end only.
    let schedule = spec.schedule.as_ref().map(|it| when(cx, "/spec/schedule", it));
    let verify = verify(cx, spec.verify.as_ref());
    let drill = spec.drill.as_ref().map(|it| drill_of(cx, it, source.as_ref()));
    let retention = spec.retention.as_ref().map(|it| keep(cx, it));
    let objectives = Objectives {
        rpo_s: span(cx, "/spec/objectives/rpo", spec.objectives.rpo.as_deref()),
        rto_s: span(cx, "/spec/objectives/rto", spec.objectives.rto.as_deref()),
        verify_s: span(cx, "/spec/objectives/verified", spec.objectives.verified.as_deref()),
        drill_s: span(cx, "/spec/objectives/drilled", spec.objectives.drilled.as_deref()),
    };
    let proved = [("rto", objectives.rto_s), ("drilled", objectives.drill_s)];
    for (field, _) in proved.into_iter().filter(|(_, it)| it.is_some() && drill.is_none()) {
        let message = "nothing restores a snapshot by itself, so that nobody knows";
        cx.err("spec/conflict", format!("/spec/objectives/{field}"), message)
            .hint("give a `drill`: `{schedule: {every: 7d}}`");
    }
    if objectives.rpo_s.is_some() && schedule.is_none() {
        cx.err("spec/conflict", "/spec/objectives/rpo", "nothing takes snapshots by itself")
            .hint("give a `schedule`: `{every: 6h}`");
    }
    let mut kib = |pointer: &str, text: Option<&str>| {
        cx.check(pointer, scalar::size(text?)).map(|bytes| bytes.div_ceil(1024))
    };
    let limits = BackupLimits {
        read_kib: kib("/spec/limits/read", spec.limits.read.as_ref().map(|it| it.0.as_str())),
        write_kib: kib("/spec/limits/write", spec.limits.write.as_ref().map(|it| it.0.as_str())),
        time_s: span(cx, "/spec/limits/time", spec.limits.time.as_deref()),
    };
    let hooks = BackupHooks {
        before: hooks(cx, "/spec/hooks/before", &spec.hooks.before)?,
        after: hooks(cx, "/spec/hooks/after", &spec.hooks.after)?,
    };
    let place = place?;
    Some(Backup {
        source: source?,
        repository: place.location,
        remote: place.remote,
        repository_id: place.id,
        key: key?,
        schedule: right(schedule)?,
        verify: Some(verify?),
        drill: right(drill)?,
        retention: right(retention)?,
        objectives,
        limits,
        hooks,
    })
}

/// What was given and is right, or was not given; `None` where it is wrong.
fn right<T>(given: Option<Option<T>>) -> Option<Option<T>> {
    given.map_or(Some(None), |given| given.map(Some))
}

fn source(cx: &mut Cx<'_>, spec: &BackupSourceSpec) -> Option<BackupSource> {
    let forms = usize::from(spec.paths.is_some())
        + usize::from(spec.command.is_some())
        + usize::from(spec.postgresql.is_some())
        + usize::from(spec.state)
        + usize::from(spec.disk.is_some())
        + usize::from(spec.virtual_machine.is_some())
        + usize::from(spec.definition.is_some());
    if forms != 1 {
        let message = match forms {
            0 => "nothing is said to be saved",
            _ => "several sources are given, and a backup has one",
        };
        cx.err("spec/wrong-value", "/spec/source", message).hint(
            "give one of `paths`, `command`, `postgresql`, `state: true`, `disk`, `virtualMachine` \
                 and `definition`; a `Backup` for each",
        );
        return None;
    }
    if spec.paths.is_none() && (!spec.exclude.is_empty() || spec.one_file_system) {
        let message = "`exclude` and `oneFileSystem` are about `paths`, which are not given";
        cx.err("spec/conflict", "/spec/source", message);
    }
    if let Some(cluster) = &spec.postgresql {
        return postgresql(cx, cluster).map(BackupSource::Postgresql);
    }
    let of_guest = spec.disk.is_some() || spec.virtual_machine.is_some();
    if !of_guest && (spec.quiesce || spec.read_all.is_some()) {
        let message = "`quiesce` and `readAll` are about `disk` and `virtualMachine`, of which \
                       neither is given";
        cx.err("spec/conflict", "/spec/source", message);
    }
    if let Some(paths) = &spec.paths {
        return paths_of(cx, spec, paths).map(BackupSource::Paths);
    }
    if let Some(command) = &spec.command {
        return command_of(cx, command).map(BackupSource::Command);
    }
    if let Some(definition) = &spec.definition {
        return definition_of(cx, definition).map(BackupSource::Definition);
    }
    if of_guest {
        return guest_of(cx, spec).map(BackupSource::Guest);
    }
    Some(BackupSource::State)
}

/// The disks of a guest, or one of them, which have to be asked for too.
fn guest_of(cx: &mut Cx<'_>, spec: &BackupSourceSpec) -> Option<BackupGuest> {
    let read_all_s = match spec.read_all.as_deref() {
        None => Some(READ_ALL_S),
        some => span(cx, "/spec/source/readAll", some),
    };
    let part = match (&spec.virtual_machine, &spec.disk) {
        (Some(name), _) => {
            let at = "/spec/source/virtualMachine";
            cx.look_up(at, Kind::VirtualMachine, name)?;
            let name = Name::new(name).ok()?;
            cx.need(ResourceId::new(Kind::VirtualMachine, name.clone()));
            GuestPart::Machine { name }
        }
        (None, Some(name)) => {
            let found = cx.use_resolved("/spec/source/disk", Kind::Disk, name)?;
            let Some(Resource::Disk(disk)) = found.own() else { return None };
            GuestPart::Disk {
                name: Name::new(name).ok()?,
                path: disk.path.clone(),
                format: disk.format,
            }
        }
        (None, None) => return None,
    };
    Some(BackupGuest { part, quiesce: spec.quiesce, read_all_s: read_all_s? })
}

fn definition_of(cx: &mut Cx<'_>, spec: &BackupDefinitionSpec) -> Option<BackupDefinition> {
    let (kind, ending) = match spec.kind {
        BackupDefinitionKind::VirtualMachine => (Kind::VirtualMachine, "xml"),
        BackupDefinitionKind::Network => (Kind::Network, "xml"),
        BackupDefinitionKind::GpuLayout => (Kind::GpuLayout, "json"),
    };
    cx.look_up("/spec/source/definition/name", kind, &spec.name)?;
    let of = ResourceId::new(kind, Name::new(&spec.name).ok()?);
    cx.need(of.clone());
    Some(BackupDefinition { file: format!("{}-{}.{ending}", kind.short(), of.name), of })
}

fn paths_of(cx: &mut Cx<'_>, spec: &BackupSourceSpec, paths: &[String]) -> Option<BackupPaths> {
    if paths.is_empty() {
        cx.err("spec/wrong-value", "/spec/source/paths", "there is no path in the list");
    }
    bounded(cx, "/spec/source/paths", paths.len());
    bounded(cx, "/spec/source/exclude", spec.exclude.len());
    let read = paths.iter().enumerate().take(LIST_MAX).map(|(n, path)| {
        let path = match path.as_str() {
            "/" => Ok("/".to_owned()),
            path => scalar::absolute_path(path),
        };
        cx.check(format!("/spec/source/paths/{n}"), path)
    });
    let mut found: Vec<String> = read.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?;
    found.sort();
    found.dedup();
    let exclude = lines(cx, "/spec/source/exclude", &spec.exclude)?;
    Some(BackupPaths { paths: found, exclude, one_file_system: spec.one_file_system })
}

fn command_of(cx: &mut Cx<'_>, spec: &BackupCommandSpec) -> Option<BackupCommand> {
    let argv = argv(cx, "/spec/source/command/argv", &spec.argv)?;
    let plain = !spec.file.is_empty() && !spec.file.contains('/') && !spec.file.starts_with('.');
    if !plain || scalar::line(&spec.file, 255).is_err() {
        let message = "it is not a plain file name: leave out `/` and a dot in front";
        cx.err("spec/wrong-value", "/spec/source/command/file", message);
        return None;
    }
    let timeout = spec.timeout.as_deref();
    let timeout_s = match timeout {
        None => COMMAND_S,
        some => span(cx, "/spec/source/command/timeout", some)?,
    };
    Some(BackupCommand { argv, file: spec.file.clone(), timeout_s })
}

/// A program by its whole path, and its arguments.
fn argv(cx: &mut Cx<'_>, at: &str, argv: &[String]) -> Option<Vec<String>> {
    bounded(cx, at, argv.len());
    let argv = lines(cx, at, argv)?;
    match argv.first() {
        None => {
            cx.err("spec/wrong-value", at, "there is no program in it");
            None
        }
        Some(program) => {
            cx.check(format!("{at}/0"), scalar::absolute_path(program))?;
            Some(argv)
        }
    }
}

pub(super) fn hooks(
    cx: &mut Cx<'_>,
    at: &str,
    specs: &[BackupHookSpec],
) -> Option<Vec<BackupHook>> {
    bounded(cx, at, specs.len());
    let each = specs.iter().enumerate().take(LIST_MAX);
    let read: Vec<_> = each
        .map(|(n, spec)| {
            let argv = argv(cx, &format!("{at}/{n}/argv"), &spec.argv);
            let timeout_s = match spec.timeout.as_deref() {
                None => Some(HOOK_S),
                some => span(cx, &format!("{at}/{n}/timeout"), some),
            };
            Some(BackupHook { argv: argv?, timeout_s: timeout_s? })
        })
        .collect();
    read.into_iter().collect()
}

fn postgresql(cx: &mut Cx<'_>, spec: &BackupPostgresqlSpec) -> Option<BackupPostgresql> {
    let at = "/spec/source/postgresql";
    let mut folder = |field: &str, given: &Option<String>, otherwise: &str| {
        let path = given.as_deref().unwrap_or(otherwise);
        cx.check(format!("{at}/{field}"), scalar::absolute_path(path))
    };
    let socket = folder("socket", &spec.socket, "/var/run/postgresql");
    let programs = folder("programs", &spec.programs, "/usr/bin");
    let mut name = |field: &str, given: &Option<String>| {
        let name = given.as_deref().unwrap_or("postgres");
        let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let plain = !name.is_empty()
            && name.len() <= NAME_MAX
            && name.chars().all(good)
            && !name.starts_with('-');
        let read = if plain { Ok(name.to_owned()) } else { Err("it is no plain name".to_owned()) };
        cx.check(format!("{at}/{field}"), read)
    };
    let (role, run_as) = (name("role", &spec.role), name("runAs", &spec.run_as));
    let timeout_s = match spec.timeout.as_deref() {
        None => Some(POSTGRESQL_S),
        some => span(cx, &format!("{at}/timeout"), some),
    };
    Some(BackupPostgresql {
        format: match spec.format {
            None | Some(PostgresqlFormatSpec::Base) => PostgresqlFormat::Base,
            Some(PostgresqlFormatSpec::Dump) => PostgresqlFormat::Dump,
        },
        socket: socket?,
        port: spec.port.unwrap_or(5432),
        role: role?,
        run_as: run_as?,
        programs: programs?,
        timeout_s: timeout_s?,
    })
}

/// The repository must not be part of what it saves, nor the other way round.
fn apart(cx: &mut Cx<'_>, repository: &str, paths: &BackupPaths) {
    let repository = Path::new(repository);
    let inside =
        |path: &&String| repository.starts_with(path) || Path::new(path).starts_with(repository);
    if let Some(path) = paths.paths.iter().find(inside) {
        let message = format!("the repository and `{path}`, which is saved, lie in each other");
        cx.err("spec/conflict", "/spec/repository/local", message)
            .hint("put the repository elsewhere, best on another disk");
    }
}

fn verify(cx: &mut Cx<'_>, spec: Option<&BackupVerifySpec>) -> Option<BackupVerify> {
    let schedule = match spec.and_then(|spec| spec.schedule.as_ref()) {
        Some(schedule) => when(cx, "/spec/verify/schedule", schedule)?,
        None => every(DAY_S),
    };
    Some(BackupVerify { schedule, read_parts: spec.and_then(|spec| spec.read_parts) })
}

fn drill_of(
    cx: &mut Cx<'_>,
    spec: &BackupDrillSpec,
    source: Option<&BackupSource>,
) -> Option<BackupDrill> {
    let schedule = when(cx, "/spec/drill/schedule", &spec.schedule);
    bounded(cx, "/spec/drill/check", spec.check.len());
    let check = lines(cx, "/spec/drill/check", &spec.check);
    if let Some(program) = spec.check.first() {
        cx.check("/spec/drill/check/0", scalar::absolute_path(program))?;
    } else if spec.timeout.is_some() {
        let message = "it is how long `check` may run, which is not given";
        cx.err("spec/conflict", "/spec/drill/timeout", message);
    }
    let timeout_s = match spec.timeout.as_deref() {
        None => DRILL_CHECK_S,
        some => span(cx, "/spec/drill/timeout", some)?,
    };
    let boot = spec.boot.as_ref().map(|it| boot::resolve(cx, it, source));
    Some(BackupDrill { schedule: schedule?, check: check?, timeout_s, boot: right(boot)? })
}

fn keep(cx: &mut Cx<'_>, spec: &BackupRetentionSpec) -> Option<BackupRetention> {
    let BackupKeepSpec { last, hourly, daily, weekly, monthly, yearly } = spec.keep;
    let keep = Keep { last, hourly, daily, weekly, monthly, yearly, ..Keep::default() };
    if keep.is_empty() {
        cx.err("spec/wrong-value", "/spec/retention/keep", "it would keep no snapshot at all")
            .hint("say what stays: `{daily: 7, weekly: 4}`; without `retention` everything stays");
        return None;
    }
    let every_s = match spec.every.as_deref() {
        None => DAY_S,
        some => span(cx, "/spec/retention/every", some)?,
    };
    Some(BackupRetention { keep, every_s })
}

fn every(seconds: u64) -> Schedule {
    Schedule { when: When::Every(seconds), time_zone: None, jitter_s: 0, windows: Vec::new() }
}

fn when(cx: &mut Cx<'_>, at: &str, spec: &BackupScheduleSpec) -> Option<Schedule> {
    let when = match (&spec.every, &spec.calendar) {
        (Some(text), None) => When::Every(span(cx, &format!("{at}/every"), Some(text))?),
        (None, Some(calendar)) => When::Calendar(calendar.clone()),
        (given, _) => {
            let message = match given {
                Some(_) => "`every` and `calendar` are both given",
                None => "neither `every` nor `calendar` is given",
            };
            cx.err("spec/wrong-value", at, message)
                .hint("give one of them: `{every: 6h}`, or `{calendar: \"0 2 * * *\"}`");
            return None;
        }
    };
    let jitter_s = match spec.jitter.as_deref() {
        None => 0,
        some => span(cx, &format!("{at}/jitter"), some)?,
    };
    bounded(cx, &format!("{at}/windows"), spec.windows.len());
    let windows = spec.windows.iter().enumerate().take(LIST_MAX);
    let windows: Vec<_> =
        windows.map(|(n, spec)| window(cx, &format!("{at}/windows/{n}"), spec)).collect();
    let windows = windows.into_iter().collect::<Option<Vec<_>>>()?;
    let schedule = Schedule { when, time_zone: spec.time_zone.clone(), jitter_s, windows };
    // Whatever time it is asked for: only whether it makes sense is of interest.
    let sense = schedule::next_run(None, Timestamp::UNIX_EPOCH, &schedule, 0);
    cx.check(at, sense.map_err(|error| in_a_line(&error.to_string())))?;
    Some(schedule)
}

/// A parser's drawing of a mistake as a sentence: its first line, and what stands below the mark.
fn in_a_line(drawn: &str) -> String {
    let mut lines = drawn.lines();
    let first = lines.next().unwrap_or_default().trim_end_matches(':');
    match lines.last() {
        Some(last) => format!("{first}: {}", last.trim_start_matches([' ', '^'])),
        None => first.to_owned(),
    }
}

fn window(cx: &mut Cx<'_>, at: &str, spec: &BackupWindowSpec) -> Option<Window> {
    let mut time = |field: &str, text: &str| {
        let minute = cx.check(format!("{at}/{field}"), scalar::minute_of_day(text))?;
        let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
        jiff::civil::Time::new(hour, minute, 0, 0).ok()
    };
    let (from, to) = (time("from", &spec.from), time("to", &spec.to));
    let days = spec.days.iter().map(|day| match day {
        DaySpec::Mon => Day::Mon,
        DaySpec::Tue => Day::Tue,
        DaySpec::Wed => Day::Wed,
        DaySpec::Thu => Day::Thu,
        DaySpec::Fri => Day::Fri,
        DaySpec::Sat => Day::Sat,
        DaySpec::Sun => Day::Sun,
    });
    let days = days.collect();
    Some(Window { from: from?, to: to?, days })
}

pub(super) fn span(cx: &mut Cx<'_>, at: &str, text: Option<&str>) -> Option<u64> {
    let read = scalar::seconds_up_to(text?, SPAN_S_MAX, "two years");
    cx.check(at, read)
}

fn lines(cx: &mut Cx<'_>, at: &str, texts: &[String]) -> Option<Vec<String>> {
    let read = texts.iter().enumerate().take(LIST_MAX);
    let read: Vec<_> =
        read.map(|(n, text)| cx.check(format!("{at}/{n}"), scalar::line(text, TEXT_MAX))).collect();
    read.into_iter().collect()
}

fn bounded(cx: &mut Cx<'_>, at: &str, count: usize) {
    if count > LIST_MAX {
        cx.err("spec/too-large", at, format!("{count} entries; at most {LIST_MAX} are taken"));
    }
}
