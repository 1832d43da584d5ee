//! `trueup policy`: which rules there are, what they say of a repository, and their tests.
//!
//! It needs neither the daemon nor the machine: the plan and what was observed are not looked at.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::Context;
use super::exit::{CliError, CliResult, Done, ErrorKind};
use super::paint::{Block, Label, Text};
use super::ui::Product;
use super::{Output, check};
use crate::model::{Name, NameError};
use crate::policy::{
    Host, Input, InputParts, Outcome, RuleInfo, Rules, TestReport, Verdict, Verdicts, evaluate,
    rule_files, test,
};
use crate::spec::{Loaded, ParseCache, Places, RepoFiles, Severity, check_all};

/// Look at the rules of a repository and the shipped ones, and test them
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup policy list\n  \
    trueup policy test .\n  \
    trueup policy eval . --environment lab\n  \
    trueup policy eval . --environment lab --show-input | jq .desired.resources")]
pub(super) struct Policy {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    List(List),
    Test(Test),
    Eval(Eval),
}

/// Show which rules there are
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup policy list\n  trueup policy list /srv/env -o json")]
struct List {
    /// The folder of the repository
    #[arg(default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// Run the tests of rules: every `test_` rule of the `*_test.rego` files in `policies/`
///
/// Exits with 1 where one fails.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup policy test\n  trueup policy test . --shipped -o json")]
struct Test {
    /// The folder of the repository
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Run the tests of the shipped rules too
    #[arg(long)]
    shipped: bool,
    #[command(flatten)]
    output: Output,
}

/// Ask the rules about what the repository asks for
///
/// There is no plan and no machine: rules about them say nothing. Exits with 1 where a `hard` rule
/// is broken.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup policy eval .\n  \
    trueup policy eval . --environment lab -o json\n  \
    trueup policy eval . --environment lab --show-input > input.json")]
struct Eval {
    /// The folder of the repository
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// One environment instead of all
    #[arg(short, long, value_name = "NAME", value_parser = name)]
    environment: Option<Name>,
    /// Print what the rules see instead of what they say
    #[arg(long, requires = "environment")]
    show_input: bool,
    #[command(flatten)]
    output: Output,
}

impl Policy {
    pub(super) fn format(&self) -> super::Format {
        match &self.command {
            What::List(list) => list.output.output,
            What::Test(test) => test.output.output,
            What::Eval(eval) => eval.output.output,
        }
    }

    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.command {
            What::List(list) => list.run(context),
            What::Test(test) => test.run(context),
            What::Eval(eval) => eval.run(context),
        }
    }
}

impl List {
    fn run(self, context: &Context) -> CliResult {
        let (files, _) = check::read(&self.folder)?;
        context.ui.product(&RuleList(Rules::new(&rule_files(&files)).list()))?;
        Ok(Done::Fine)
    }
}

impl Test {
    fn run(self, context: &Context) -> CliResult {
        let (files, _) = check::read(&self.folder)?;
        let report = Tests(test(&rule_files(&files), self.shipped));
        context.ui.product(&report)?;
        let failed = report.0.failures().count();
        if failed > 0 {
            return Err(CliError::input(format!("{failed} test(s) of rules failed")));
        }
        if report.0.tests.is_empty() {
            context.ui.warn("there are no tests: write `test_` rules into policies/*_test.rego");
        }
        Ok(Done::Fine)
    }
}

impl Eval {
    fn run(self, context: &Context) -> CliResult {
        let (files, refused) = check::read(&self.folder)?;
        let checked = check_all(&files, &mut ParseCache::default());
        let errors = refused.iter().chain(&checked.diagnostics);
        let errors = errors.filter(|found| found.severity == Severity::Error).count();
        let wanted = |name: &Name| self.environment.as_ref().is_none_or(|one| one == name);
        let known: Vec<&Name> = checked.environments.keys().collect();
        if !known.iter().any(|name| wanted(name)) {
            let names: Vec<_> = known.iter().map(|name| name.as_str()).collect();
            return Err(CliError::input("the repository has no such environment")
                .hint(format!("it has {}", names.join(", "))));
        }
        let mut all = Vec::new();
        for (name, loaded) in checked.environments.iter().filter(|(name, _)| wanted(name)) {
            let Some(loaded) = loaded else {
                return Err(CliError::input(format!(
                    "environment `{name}` has mistakes ({errors} in the repository)"
                ))
                .hint("`trueup check` shows them"));
            };
            if self.show_input {
                context.ui.data(&input(loaded))?;
                return Ok(Done::Fine);
            }
            all.push(Said { environment: name.clone(), verdicts: verdicts(&files, loaded) });
        }
        let hard = all.iter().any(|said| said.verdicts.has_hard());
        context.ui.product(&AllSaid(all))?;
        match hard {
            true => Err(CliError::new(ErrorKind::Input, "a hard rule is broken")),
            false => Ok(Done::Fine),
        }
    }
}

fn name(text: &str) -> Result<Name, NameError> {
    Name::new(text)
}

/// What rules see of an environment where neither plan nor machine is looked at.
fn input(loaded: &Loaded) -> Input {
    Input::of(InputParts {
        plan: None,
        desired: &loaded.desired,
        before: None,
        observed: None,
        now: jiff::Timestamp::now(),
        host: Host::default(),
        backups: Vec::new(),
        settings: &loaded.policy,
    })
}

/// What the rules of the repository say of one environment, each on its line.
pub(super) fn verdicts(files: &RepoFiles, loaded: &Loaded) -> Verdicts {
    let rules = Rules::new(&rule_files(files));
    let mut found = evaluate(&rules, &loaded.policy, &input(loaded));
    let mut places = Places::new(files, &loaded.desired.environment);
    found.locate(&loaded.desired, Some(&mut places));
    found
}

#[derive(Serialize)]
#[serde(transparent)]
struct RuleList(Vec<RuleInfo>);

impl Product for RuleList {
    fn blocks(&self) -> Vec<Block> {
        let row = |info: &RuleInfo| {
            vec![
                info.rule.clone().into(),
                info.entrances.join(", ").into(),
                if info.shipped { "trueup".into() } else { info.file.clone().into() },
                info.about.clone().into(),
            ]
        };
        let rows = self.0.iter().map(row).collect();
        vec![Block::Table { header: vec!["rule", "says", "from", "about"], rows }]
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Tests(TestReport);

impl Product for Tests {
    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for test in self.0.failures() {
            let (word, why) = match &test.outcome {
                Outcome::Broken(why) => ("broken", format!(": {why}")),
                Outcome::Failed | Outcome::Passed => ("failed", String::new()),
            };
            let at = &test.place;
            blocks.push(Block::Line(vec![
                Text::new(word, Label::Bad),
                format!(" {} ({}:{}:{}){why}", test.name, at.path, at.line, at.column).into(),
            ]));
        }
        let (passed, all) = (self.0.passed(), self.0.tests.len());
        let label = if passed == all { Label::Good } else { Label::Bad };
        blocks.push(Block::Line(vec![Text::new(format!("{passed} of {all} tests passed"), label)]));
        blocks
    }
}

#[derive(Serialize)]
struct Said {
    environment: Name,
    verdicts: Verdicts,
}

#[derive(Serialize)]
#[serde(transparent)]
struct AllSaid(Vec<Said>);

impl Product for AllSaid {
    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for said in &self.0 {
            let name = &said.environment;
            if said.verdicts.is_empty() {
                blocks.push(Block::line(format!("{name}: no rule is broken")));
                continue;
            }
            blocks.push(Block::line(format!("{name}:")));
            let rows = said.verdicts.all.iter().map(row).collect();
            let header = vec!["level", "rule", "resource", "what", "where"];
            blocks.push(Block::Table { header, rows });
            if said.verdicts.omitted > 0 {
                blocks.push(Block::line(format!("… and {} more", said.verdicts.omitted)));
            }
        }
        blocks
    }
}

fn row(verdict: &Verdict) -> Vec<Text> {
    let level = match &verdict.exempted {
        Some(by) => Text::new(format!("exempted by {}", by.owner), Label::Dim),
        None if verdict.holds() => Text::new(verdict.level.word(), Label::Bad),
        None => Text::new(verdict.level.word(), Label::Warn),
    };
    let place = verdict.place.as_ref().map(|at| format!("{}:{}", at.path, at.line));
    vec![
        level,
        verdict.rule.clone().into(),
        verdict.resource.as_ref().map(ToString::to_string).unwrap_or_default().into(),
        verdict.message.clone().into(),
        place.unwrap_or_default().into(),
    ]
}
