//! `trueup gpu fits`: what would go onto a GPU, now and after which moves.

use clap::Args;
use serde::Serialize;
use trueup_mig::fits::{Displaced, Fits as Answer, capacity, fits};
use trueup_mig::picture::{Charset, Picture};
use trueup_mig::{Board, Holder, Instance, Selector, Target, Wish, boards, resolve};

use super::super::Output;
use super::super::context::Context;
use super::super::exit::{CliError, CliResult, Done, ErrorKind};
use super::super::paint::{Block, Label, Text};
use super::super::ui::Product;
use super::look::{Looked, looked};
use super::show::users;
use crate::model::{FoundGpu, GpuCard};
use crate::state::State;
use crate::view::gpu::{layout_of, named};

/// Answer what would fit onto the GPUs beside what is there
///
/// Without a shape: how many more of each profile, now, after moving what nobody uses, and after
/// destroying what nobody uses. With shapes: whether they fit together onto one GPU, where, and what
/// would have to move or go for it, with who uses it. Nothing is changed.
///
/// Exits with 0 where it fits now on one of the GPUs, with 3 where something has to be done first, and
/// with 4 where it fits on none.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup gpu fits\n  \
    trueup gpu fits 3g 1gx2\n  \
    trueup gpu fits 1g.10gb@3 --gpu 0000:07:00.0\n  \
    trueup gpu fits --board h100-80gb 4g 3g\n  \
    trueup gpu fits --board list")]
pub(super) struct Fits {
    /// Shapes (`3g`) or profiles (`3g.40gb`); `1gx2` is two of them, `3g@4` one that starts at slice 4
    #[arg(value_name = "SHAPE|PROFILE[xN][@START]", value_parser = want)]
    wanted: Vec<Want>,
    /// On this GPU only: its UUID, PCI address or serial number
    #[arg(long, value_name = "GPU", conflicts_with = "board")]
    gpu: Option<String>,
    /// On an empty board of this kind, without looking at the machine; `list` prints the kinds
    #[arg(long, value_name = "KIND")]
    board: Option<String>,
    #[command(flatten)]
    pub(super) output: Output,
}

/// So many instances of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Want {
    word: String,
    count: u32,
    start: Option<u32>,
}

/// `3g`, `1g.10gbx2`, `3g@4`. No shape and no profile ends with `x` and digits.
fn want(text: &str) -> Result<Want, String> {
    let (rest, start) = match text.rsplit_once('@') {
        Some((rest, digits)) => match digits.parse() {
            Ok(start) => (rest, Some(start)),
            Err(_) => return Err(format!("`{digits}` after `@` is no slice")),
        },
        None => (text, None),
    };
    let counted = rest.rsplit_once('x').and_then(|(word, n)| Some((word, n.parse().ok()?)));
    let (word, count) = counted.unwrap_or((rest, 1));
    if word.is_empty() || count == 0 {
        return Err("write a shape such as `3g`, a profile such as `3g.40gb`, or `1gx2`".to_owned());
    }
    Ok(Want { word: word.to_owned(), count, start })
}

/// What is answered for one GPU.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GpuAnswer {
    /// Its PCI address, or the kind of the board.
    gpu: String,
    uuid: Option<String>,
    product: String,
    #[serde(flatten)]
    verdict: Verdict,
    /// What has to be done before anything else.
    first: Option<String>,
}

#[derive(Serialize)]
#[serde(tag = "answer", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Verdict {
    /// It fits beside what is there.
    Now { at: Vec<String>, picture: Picture },
    /// It fits once these have moved or gone.
    After { displaced: Vec<Moved>, picture: Picture },
    /// It does not fit, not even onto an empty GPU.
    Never { why: String },
    /// How many more of each profile fit.
    Capacity { profiles: Vec<Room>, picture: Picture },
    /// Nothing can be said.
    Unknown { why: String },
}

/// Something in the way.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Moved {
    instance: String,
    name: Option<String>,
    /// Where it would move; none: it would have to go.
    to: Option<String>,
    /// Who uses it and may not be stopped.
    users: Vec<Holder>,
}

/// How many more of a profile fit.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Room {
    shape: String,
    profile: String,
    now: u32,
    after_moves: u32,
    after_clearing: u32,
}

#[derive(Serialize)]
struct Answers {
    gpus: Vec<GpuAnswer>,
}

impl Fits {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let gpus = match &self.board {
            Some(key) if key == "list" => return list(context),
            Some(key) => vec![self.on_board(key)?],
            None => self.on_machine(context)?,
        };
        let answers = Answers { gpus };
        context.ui.product(&answers)?;
        if self.wanted.is_empty() {
            return Ok(Done::Fine);
        }
        let any = |of: fn(&GpuAnswer) -> bool| answers.gpus.iter().any(of);
        if any(|gpu| gpu.first.is_none() && matches!(gpu.verdict, Verdict::Now { .. })) {
            return Ok(Done::Fine);
        }
        if any(|gpu| matches!(gpu.verdict, Verdict::Now { .. } | Verdict::After { .. })) {
            return Ok(Done::Changes);
        }
        Err(CliError::new(ErrorKind::Held, "it fits onto none of these GPUs"))
    }

    fn on_board(&self, key: &str) -> Result<GpuAnswer, CliError> {
        let samples = samples()?;
        let Some(sample) = samples.iter().find(|it| it.key == key) else {
            let keys: Vec<&str> = samples.iter().map(|it| it.key.as_str()).collect();
            return Err(CliError::input(format!("there is no board `{key}` in the table"))
                .hint(format!("there are {}", keys.join(", "))));
        };
        Ok(GpuAnswer {
            gpu: sample.key.clone(),
            uuid: None,
            product: format!("{}, empty", sample.title),
            verdict: self.verdict(sample.board(), &[])?,
            first: None,
        })
    }

    fn on_machine(&self, context: &Context) -> Result<Vec<GpuAnswer>, CliError> {
        let Looked { state, found, .. } = looked(context)?;
        let found = found.map_err(|why| {
            CliError::machine(why)
                .hint("`trueup preflight --for gpu` says what the driver needs")
                .hint("`--board KIND` answers without a machine")
        })?;
        let mut answers = Vec::new();
        for gpu in &found.gpus {
            match gpu {
                FoundGpu::Present(card) if self.asks_for(card) => {
                    answers.push(self.on_gpu(card, &state)?);
                }
                FoundGpu::Present(_) => {}
                FoundGpu::Failed(failed) => {
                    context
                        .ui
                        .warn(&format!("GPU {} does not answer: {}", failed.index, failed.why));
                }
            }
        }
        if answers.is_empty() {
            let message = match &self.gpu {
                Some(gpu) => format!("no GPU of this machine is `{gpu}`"),
                None => "no NVIDIA GPU answers on this machine".to_owned(),
            };
            return Err(CliError::input(message)
                .hint("`trueup gpu` shows those there are; `--board KIND` asks about a kind"));
        }
        Ok(answers)
    }

    fn asks_for(&self, card: &GpuCard) -> bool {
        let Some(asked) = &self.gpu else { return true };
        let gpu = &card.state;
        asked.eq_ignore_ascii_case(&gpu.uuid)
            || asked.eq_ignore_ascii_case(&gpu.pci)
            || gpu.serial.as_ref() == Some(asked)
    }

    fn on_gpu(&self, card: &GpuCard, state: &State) -> Result<GpuAnswer, CliError> {
        let gpu = &card.state;
        let instances = named(gpu, layout_of(state, gpu).map(|(_, layout)| layout));
        let unknown = |why: &str| Verdict::Unknown { why: why.to_owned() };
        let verdict = match (&gpu.board, gpu.mig) {
            (_, None) => unknown("it cannot be cut: the board or its driver has no MIG mode"),
            (None, Some(_)) => unknown("the driver tells its profiles only once MIG is on"),
            (Some(board), Some(_)) => self.verdict(board, &instances)?,
        };
        let off = gpu.mig.is_some_and(|mig| !mig.current);
        let first = match (off, gpu.hot) {
            (false, _) => None,
            (true, true) => Some("MIG is off and has to be switched on first".to_owned()),
            (true, false) => {
                Some("MIG is off and has to be switched on first, which needs a reset".to_owned())
            }
        };
        let (uuid, product) = (Some(gpu.uuid.clone()), gpu.product.clone());
        Ok(GpuAnswer { gpu: gpu.pci.clone(), uuid, product, verdict, first })
    }

    fn verdict(&self, board: &Board, instances: &[Instance]) -> Result<Verdict, CliError> {
        let now = || Picture::now(board, instances);
        if self.wanted.is_empty() {
            let all = capacity(board, instances).map_err(CliError::machine)?;
            let room = |it: &trueup_mig::fits::Capacity| Room {
                shape: board.shape(it.profile),
                profile: board.profile(it.profile).map(|it| it.name.clone()).unwrap_or_default(),
                now: it.now,
                after_moves: it.after_moves,
                after_clearing: it.after_clearing,
            };
            let profiles = all.iter().map(room).collect();
            return Ok(Verdict::Capacity { profiles, picture: now() });
        }
        let target = match target(board, &self.wanted) {
            Ok(target) => target,
            Err(error) => return Ok(Verdict::Never { why: error.to_string() }),
        };
        Ok(match fits(board, instances, &target).map_err(CliError::machine)? {
            Answer::Now { at, after } => {
                let at = at.into_iter().map(|placed| board.label(placed)).collect();
                Verdict::Now { at, picture: Picture::between(board, instances, &after) }
            }
            Answer::After { displaced, after } => Verdict::After {
                displaced: displaced.iter().map(|it| moved(board, it)).collect(),
                picture: Picture::between(board, instances, &after),
            },
            Answer::Never { why } => Verdict::Never { why: why.to_string() },
        })
    }
}

fn samples() -> Result<Vec<boards::Sample>, CliError> {
    boards::samples().map_err(|error| CliError::new(ErrorKind::Bug, error))
}

fn list(context: &Context) -> CliResult {
    let header = "KIND  PRODUCT (how it is known)";
    let rows = samples()?;
    let lines = rows.iter().map(|it| format!("{}  {} ({})", it.key, it.title, it.evidence));
    let text: Vec<String> = std::iter::once(header.to_owned()).chain(lines).collect();
    context.ui.raw(&(text.join("\n") + "\n"))?;
    Ok(Done::Fine)
}

/// What is asked for in profiles of the board: a word is a shape where it has one of that name.
fn target(board: &Board, wanted: &[Want]) -> Result<Target, trueup_mig::ResolveError> {
    let wish = |want: &Want| {
        let named = board.profiles().iter().any(|it| it.name == want.word);
        let shaped = board.profiles().iter().any(|it| board.shape(it.id) == want.word);
        let select = match named && !shaped {
            true => Selector::Profile(want.word.clone()),
            false => Selector::Shape(want.word.clone()),
        };
        Wish { select, count: want.count, start: want.start, compute: None, name: None }
    };
    resolve(board, &wanted.iter().map(wish).collect::<Vec<_>>())
}

fn moved(board: &Board, displaced: &Displaced) -> Moved {
    Moved {
        instance: board.label(displaced.instance),
        name: displaced.name.clone(),
        to: displaced.to.map(|to| board.label(to)),
        users: displaced.holders.clone(),
    }
}

impl Product for Answers {
    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for (at, gpu) in self.gpus.iter().enumerate() {
            if at > 0 {
                blocks.push(Block::Gap);
            }
            let heading = Text::new(&gpu.gpu, Label::Strong);
            blocks.push(Block::Line(vec![heading, format!("  {}", gpu.product).into()]));
            if let Some(first) = &gpu.first {
                blocks.push(Block::Line(vec![Text::new(first, Label::Warn)]));
            }
            blocks.extend(gpu.verdict.blocks());
        }
        blocks
    }
}

impl Verdict {
    fn blocks(&self) -> Vec<Block> {
        let line = |word: &str, label, rest: String| {
            Block::Line(vec![Text::new(word, label), rest.into()])
        };
        let drawn = |picture: &Picture| Block::Picture(picture.text(Charset::Unicode));
        match self {
            Self::Now { at, picture } => {
                vec![line("fits now", Label::Good, format!(": {}", at.join(", "))), drawn(picture)]
            }
            Self::After { displaced, picture } => {
                let mut blocks = vec![line("fits after", Label::Warn, ":".to_owned())];
                blocks
                    .extend(displaced.iter().map(|it| Block::line(format!("  {}", it.sentence()))));
                blocks.push(drawn(picture));
                blocks
            }
            Self::Never { why } => vec![line("never fits", Label::Bad, format!(": {why}"))],
            Self::Unknown { why } => vec![line("not known", Label::Warn, format!(": {why}"))],
            Self::Capacity { profiles, picture } => {
                let header = vec!["shape", "profile", "now", "after moves", "after clearing"];
                let row = |it: &Room| -> Vec<Text> {
                    vec![
                        it.shape.clone().into(),
                        it.profile.clone().into(),
                        it.now.to_string().into(),
                        it.after_moves.to_string().into(),
                        it.after_clearing.to_string().into(),
                    ]
                };
                let rows = profiles.iter().map(row).collect();
                vec![drawn(picture), Block::Table { header, rows }]
            }
        }
    }
}

impl Moved {
    fn sentence(&self) -> String {
        let name = self.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let what = match &self.to {
            Some(to) => format!("{}{name} moves to {to}", self.instance),
            None => format!("{}{name} goes", self.instance),
        };
        match self.users.is_empty() {
            true => what,
            false => format!("{what}, and is used by {}", users(&self.users)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_are_read_as_people_type_them() {
        let want_of = |word: &str, count, start| Want { word: word.to_owned(), count, start };
        assert_eq!(want("3g"), Ok(want_of("3g", 1, None)));
        assert_eq!(want("1g.10gbx2"), Ok(want_of("1g.10gb", 2, None)));
        assert_eq!(want("1g+mex3"), Ok(want_of("1g+me", 3, None)));
        assert_eq!(want("3g@4"), Ok(want_of("3g", 1, Some(4))));
        for bad in ["", "x2", "3gx0", "3g@", "3g@four"] {
            assert!(want(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_word_is_a_shape_or_a_profile_of_the_board() {
        let samples = boards::samples().unwrap();
        let board = samples.iter().find(|it| it.key == "h100-80gb").unwrap().board();
        let wants = |words: &[&str]| words.iter().map(|it| want(it).unwrap()).collect::<Vec<_>>();
        let by_shape = target(board, &wants(&["3g", "1gx2"])).unwrap();
        let by_profile = target(board, &wants(&["3g.40gb", "1g.10gbx2"])).unwrap();
        let ids = |target: &Target| target.slots.iter().map(|it| it.profile).collect::<Vec<_>>();
        assert_eq!(ids(&by_shape), ids(&by_profile));
        let error = target(board, &wants(&["5g"])).unwrap_err().to_string();
        assert!(error.contains("3g (3g.40gb)"), "{error}");
    }
}
