//! The lines of a file under edit, each knowing which line it was, so that the diff is exact.

/// Unchanged lines around a change, as `git diff` has them.
const CONTEXT: usize = 3;

/// A file's lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lines {
    /// What the file was.
    before: Vec<String>,
    /// What it is: the text, and which line (from 0) it was.
    now: Vec<(Option<usize>, String)>,
    /// Whether the last line ends with a line feed.
    ended: bool,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let ended = text.ends_with('\n');
        let body = if ended { &text[..text.len() - 1] } else { text };
        let before: Vec<String> = body.split('\n').map(str::to_owned).collect();
        let now = before.iter().cloned().enumerate().map(|(n, line)| (Some(n), line)).collect();
        Self { before, now, ended }
    }

    pub(super) fn text(&self) -> String {
        let lines: Vec<&str> = self.now.iter().map(|(_, line)| line.as_str()).collect();
        lines.join("\n") + if self.ended { "\n" } else { "" }
    }

    /// Where the line that was `line` (from 1) is now.
    pub(super) fn line_now(&self, line: u32) -> u32 {
        let was = usize::try_from(line).unwrap_or(usize::MAX).wrapping_sub(1);
        let at = self.now.iter().position(|(before, _)| *before == Some(was));
        at.and_then(|at| u32::try_from(at + 1).ok()).unwrap_or(line)
    }

    /// Replaces `len` characters at `column` of `line`, both from 1.
    pub(super) fn replace(&mut self, line: u32, column: u32, len: u32, new: &str) -> Option<()> {
        let (_, text) = self.now.get_mut(usize::try_from(line).ok()?.checked_sub(1)?)?;
        let start = usize::try_from(column).ok()?.checked_sub(1)?;
        let end = start + usize::try_from(len).ok()?;
        let chars: Vec<char> = text.chars().collect();
        let (head, tail) = (chars.get(..start)?, chars.get(end..)?);
        *text = head.iter().chain(&new.chars().collect::<Vec<_>>()).chain(tail).collect();
        Some(())
    }

    /// Replaces what begins at `column` of `line`, both from 1, and is no scalar: a list or an object,
    /// in brackets on that one line, or in a block below its key, which is at `key`. `None` where it is
    /// written in another way.
    pub(super) fn replace_all(
        &mut self,
        key: (u32, u32),
        (line, column): (u32, u32),
        new: &str,
    ) -> Option<()> {
        let (_, text) = self.now.get(at(line)?)?;
        let chars: Vec<char> = text.chars().collect();
        let start = at(column)?;
        if matches!(chars.get(start), Some('[' | '{')) {
            let len = bracketed(&chars[start..])?;
            return self.replace(line, column, u32::try_from(len).ok()?, new);
        }
        if line <= key.0 {
            return None;
        }
        let (head, first) = (at(key.0)?, at(line)?);
        let indent = |text: &str| text.chars().take_while(|c| *c == ' ').count();
        let (own, listed) = (indent(text), text.trim_start().starts_with('-'));
        // A list may stand as deep as its key, whose neighbours then begin without a dash.
        let inside = |text: &str| {
            let same = indent(text) == own && (!listed || text.trim_start().starts_with('-'));
            (indent(text) > own || same) && !text.starts_with("---")
        };
        let below =
            self.now[first..].iter().take_while(|(_, text)| text.trim().is_empty() || inside(text));
        let mut count = below.count();
        while count > 1 && self.now[first + count - 1].1.trim().is_empty() {
            count -= 1;
        }
        let (_, above) = self.now.get_mut(head)?;
        let bare = above.trim_end();
        if !bare.ends_with(':') || head + 1 != first {
            return None;
        }
        *above = format!("{bare} {new}");
        self.now.drain(first..first + count);
        Some(())
    }

    /// Puts `new` on a line of its own above `line`, indented to `column`. `None` where that line has
    /// something before the column: it is not the first of a block.
    pub(super) fn insert(&mut self, line: u32, column: u32, new: &str) -> Option<()> {
        let at = usize::try_from(line).ok()?.checked_sub(1)?;
        let indent = usize::try_from(column).ok()?.checked_sub(1)?;
        let (_, text) = self.now.get(at)?;
        let head: String = text.chars().take(indent).collect();
        if !head.chars().all(|c| c == ' ') {
            return None;
        }
        let end = if text.ends_with('\r') { "\r" } else { "" };
        self.now.insert(at, (None, format!("{head}{new}{end}")));
        Some(())
    }

    /// Puts `item` first in a block list whose first item begins, behind its dash, at `line` and `column`, both
    /// from 1. `None` where the list is written in another way.
    pub(super) fn insert_item(&mut self, line: u32, column: u32, item: &str) -> Option<()> {
        let (place, column) = (at(line)?, at(column)?);
        let (_, text) = self.now.get(place)?;
        let head: String = text.chars().take(column).collect();
        let indent = head.strip_suffix("- ").filter(|rest| rest.chars().all(|c| c == ' '))?;
        let new = format!("{indent}- {item}");
        self.now.insert(place, (None, new));
        Some(())
    }

    /// The unified diff of the file at `path`; empty where nothing changed.
    pub(super) fn patch(&self, path: &str) -> String {
        let ops = self.ops();
        let changed: Vec<usize> = (0..ops.len()).filter(|&at| !matches!(ops[at].0, ' ')).collect();
        let Some(&first) = changed.first() else { return String::new() };
        let mut out = format!("--- {}\n+++ {}\n", quoted("a", path), quoted("b", path));
        let (mut start, mut end) = (first, first);
        for &at in changed.iter().skip(1).chain([&usize::MAX]) {
            if at != usize::MAX && at - end <= 2 * CONTEXT + 1 {
                end = at;
                continue;
            }
            let from = start.saturating_sub(CONTEXT);
            let to = (end + CONTEXT + 1).min(ops.len());
            out += &self.hunk(&ops, from, to);
            (start, end) = (at, at);
        }
        out
    }

    fn ops(&self) -> Vec<(char, &str)> {
        let (mut ops, mut next) = (Vec::new(), 0);
        let mut gone = |ops: &mut Vec<_>, until: usize| {
            ops.extend(self.before[next.min(until)..until].iter().map(|line| ('-', line.as_str())));
            next = until + 1;
        };
        for (was, line) in &self.now {
            match was.map(|was| (was, self.before[was].as_str())) {
                Some((was, before)) => {
                    gone(&mut ops, was);
                    match before == line {
                        true => ops.push((' ', before)),
                        false => ops.extend([('-', before), ('+', line.as_str())]),
                    }
                }
                None => ops.push(('+', line.as_str())),
            }
        }
        gone(&mut ops, self.before.len());
        ops
    }

    fn hunk(&self, ops: &[(char, &str)], from: usize, to: usize) -> String {
        let count = |ops: &[(char, &str)], not: char| ops.iter().filter(|op| op.0 != not).count();
        let (above, here) = (&ops[..from], &ops[from..to]);
        let (old, new) = (count(above, '+') + 1, count(above, '-') + 1);
        let mut out = format!("@@ -{old},{} +{new},{} @@\n", count(here, '+'), count(here, '-'));
        for (at, (sign, line)) in here.iter().enumerate() {
            out += &format!("{sign}{line}\n");
            let last = |not: char| ops[from + at + 1..].iter().all(|op| op.0 == not);
            let ends = match sign {
                '-' => last('+'),
                '+' => last('-'),
                _ => from + at + 1 == ops.len(),
            };
            if ends && !self.ended {
                out += "\\ No newline at end of file\n";
            }
        }
        out
    }
}

/// A place in a list, of a line or column from 1.
fn at(number: u32) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}

/// Characters of what is in brackets at the start of `chars`, brackets in quotes not counted; `None`
/// where it does not end on the line.
fn bracketed(chars: &[char]) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    for (place, c) in chars.iter().enumerate() {
        match (quote, *c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(*c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(place + 1);
                }
            }
            (None, _) => {}
        }
    }
    None
}

/// A path as Git writes it in a diff: quoted where it holds more than plain characters.
fn quoted(side: &str, path: &str) -> String {
    let plain = |c: char| !c.is_control() && c != '"' && c != '\\';
    if path.chars().all(plain) && path.is_ascii() {
        return format!("{side}/{path}");
    }
    let mut out = format!("\"{side}/");
    for byte in path.bytes() {
        match byte {
            b'"' | b'\\' => out += &format!("\\{}", char::from(byte)),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => out += &format!("\\{byte:03o}"),
        }
    }
    out + "\""
}
