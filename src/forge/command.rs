//! What people and forges say to us: commands in comments, and webhooks.
//!
//! A command is a line of its own, typed by the writer: not quoted, not code, not hidden. Who may
//! give one is decided elsewhere. A webhook is a hint to look, never a fact: it is read only when its
//! signature holds, and what it says is asked of the forge again.

mod webhook;

use crate::model::Digest;

pub use webhook::{
    Hint, Hinted, WEBHOOK_BYTES_MAX, WebhookError, may_read, read_webhook, verify_signature,
};

/// Most of a comment that is looked at, bytes: more than GitHub takes in one.
pub const COMMENT_BYTES_READ: usize = 256 * 1024;
/// Most commands of one comment.
pub const COMMANDS_MAX: usize = 10;
/// What every command begins with.
const PREFIX: &str = "/trueup";

/// What somebody asks for in a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Approves the plan of this digest, and no other.
    Approve {
        /// The digest, whole: a short one can be met by chance or by design.
        digest: Digest,
    },
    /// Takes the approval of the plan of this digest back.
    Withdraw {
        /// The digest, whole.
        digest: Digest,
    },
    /// Asks for a new plan.
    Plan,
}

/// What a comment says to us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spoken {
    /// The commands, in order; at most [`COMMANDS_MAX`].
    pub commands: Vec<Command>,
    /// Lines that are meant for us and are no command, with what to write instead.
    pub mistakes: Vec<Mistake>,
}

/// A line meant for us that is no command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Its number, from 1.
    pub line: usize,
    /// What to write instead.
    pub hint: &'static str,
}

/// Reads the commands of a comment.
///
/// A command is a paragraph's first line, or follows another command: a line below a quote belongs
/// to the quote in Markdown, however it begins.
#[must_use]
pub fn read_comment(body: &str) -> Spoken {
    let end = (0..=body.len().min(COMMENT_BYTES_READ)).rev().find(|&at| body.is_char_boundary(at));
    let body = body.get(..end.unwrap_or_default()).unwrap_or_default();
    let mut spoken = Spoken::default();
    let (mut block, mut fresh) = (Block::Text, true);
    for (at, line) in body.lines().enumerate() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let text = line.trim();
        let was = block.clone();
        block = block.after(text, indent);
        if was != Block::Text || block != Block::Text {
            // After a block, the next line begins anew only where the block has ended on this one.
            fresh = block == Block::Text;
            continue;
        }
        if text.is_empty() {
            fresh = true;
            continue;
        }
        let ours = fresh && indent < 4 && !line.starts_with('\t') && is_ours(text);
        if !ours {
            fresh = false;
            continue;
        }
        match parse(text) {
            Ok(command) if spoken.commands.len() < COMMANDS_MAX => spoken.commands.push(command),
            Ok(_) => {
                let hint = "fewer commands in one comment: the rest was not read";
                spoken.mistakes.push(Mistake { line: at + 1, hint });
                break;
            }
            Err(hint) => {
                fresh = false;
                spoken.mistakes.push(Mistake { line: at + 1, hint });
                if spoken.mistakes.len() >= COMMANDS_MAX {
                    break;
                }
            }
        }
    }
    spoken
}

fn is_ours(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

fn parse(text: &str) -> Result<Command, &'static str> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    match words.as_slice() {
        [_, "plan"] => Ok(Command::Plan),
        [_, "approve", digest] => whole(digest).map(|digest| Command::Approve { digest }),
        [_, "withdraw", digest] => whole(digest).map(|digest| Command::Withdraw { digest }),
        [_, "approve"] => Err("name the digest of the plan: /trueup approve <digest>"),
        [_, "withdraw"] => Err("name the digest of the plan: /trueup withdraw <digest>"),
        _ => Err("the commands are: /trueup plan, /trueup approve <digest>, \
                  /trueup withdraw <digest>"),
    }
}

/// Only the form that is shown: nobody can be led to type another that looks like it.
fn whole(digest: &str) -> Result<Digest, &'static str> {
    let lower = digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    digest
        .parse()
        .ok()
        .filter(|_| lower)
        .ok_or("name the whole digest, 64 hexadecimal digits, as the plan's comment shows it")
}

/// What the lines at hand are part of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Block {
    Text,
    /// A fenced block: its sign and how many of them opened it.
    Fence(char, usize),
    /// An HTML comment.
    Hidden,
    /// A `<pre>` or another element whose text is as it stands.
    Raw,
}

impl Block {
    /// What follows the line `text`.
    fn after(self, text: &str, indent: usize) -> Self {
        let lower = text.to_ascii_lowercase();
        match self {
            Self::Fence(sign, length) => {
                let run = text.chars().take_while(|c| *c == sign).count();
                let closes = indent < 4 && run >= length && text.chars().all(|c| c == sign);
                if closes { Self::Text } else { Self::Fence(sign, length) }
            }
            Self::Hidden => {
                if text.contains("-->") {
                    Self::Text
                } else {
                    Self::Hidden
                }
            }
            Self::Raw => {
                if raw_ends(&lower) {
                    Self::Text
                } else {
                    Self::Raw
                }
            }
            Self::Text => {
                let sign = text.chars().next().filter(|c| matches!(c, '`' | '~'));
                let run = sign.map_or(0, |sign| text.chars().take_while(|c| *c == sign).count());
                if let (Some(sign), 3..) = (sign, run) {
                    // A line with the fence's sign behind it again is a code span of one line.
                    let info = &text[run..];
                    if sign == '~' || !info.contains('`') {
                        return Self::Fence(sign, run);
                    }
                }
                if let Some(at) = text.rfind("<!--")
                    && !text[at..].contains("-->")
                {
                    return Self::Hidden;
                }
                let raw = ["<pre", "<script", "<style", "<textarea", "<code"];
                let opens = raw.iter().any(|tag| lower.contains(tag));
                if opens && !raw_ends(&lower) { Self::Raw } else { Self::Text }
            }
        }
    }
}

fn raw_ends(lower: &str) -> bool {
    ["</pre>", "</script>", "</style>", "</textarea>", "</code>"]
        .iter()
        .any(|tag| lower.contains(tag))
}

#[cfg(test)]
mod tests;
